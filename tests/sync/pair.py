"""Two sessions wired back to back, every message in the hands of the test."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, TypeVar

from aico_crdt.config import Config
from aico_crdt.sync import (
    Acknowledge,
    Drop,
    Effect,
    Event,
    Ingest,
    IngestBodies,
    Ingested,
    IngestManifest,
    Opened,
    Received,
    Send,
    Session,
    Tell,
    Tick,
)
from aico_crdt.sync.effect import Delivery
from aico_crdt.sync.message import Message, decode, encode
from tests.sync.memory_replica import MemoryReplica

CONFIG = Config(window_bytes=64 * 1024, chunk_bytes=4096, digest_interval_ms=10_000)
_M = TypeVar("_M")


class End:
    """One replica and its session. What the session wants done is carried out at once, except that deliveries wait
    in `deliveries` while `disk_is_slow`."""

    def __init__(self, replica: MemoryReplica, peer: bytes, config: Config = CONFIG, **options: Any) -> None:
        self.replica = replica
        self.options = options
        self.config = config
        self.peer = peer
        self.session = Session(peer, replica, config, replica.random.randbytes, **options)
        self.now_ms = 1_000
        self.disk_is_slow = False
        self.out: deque[bytes] = deque()
        self.said: list[Message] = []
        self.said_bytes = 0
        self.effects: list[Effect] = []
        self.deliveries: deque[Delivery] = deque()

    def handle(self, event: Event) -> list[Effect]:
        effects = self.session.handle(event, self.now_ms)
        self.effects += effects
        for effect in effects:
            if isinstance(effect, Send):
                self.out.append(effect.raw)
                self.said.append(decode(effect.raw))
                self.said_bytes += len(effect.raw)
            elif isinstance(effect, Acknowledge):
                self.replica.carry_out(effect, self.peer)
            elif isinstance(effect, Ingest | IngestManifest | IngestBodies):
                self.deliveries.append(effect)
                if not self.disk_is_slow:
                    self.commit()
        return effects

    def commit(self) -> None:
        """The disk is done with the delivery it has."""
        effect = self.deliveries.popleft()
        report = self.replica.carry_out(effect, self.peer)
        assert report is not None
        self.handle(Ingested(effect.token, report))

    def hear(self, *messages: Message) -> list[Effect]:
        return [effect for message in messages for effect in self.handle(Received(encode(message)))]

    def wait(self, ms: int, step_ms: int = 1_000) -> None:
        for _ in range(0, ms, step_ms):
            self.now_ms += step_ms
            self.handle(Tick())

    def all_said(self, kind: type[_M]) -> list[_M]:
        return [message for message in self.said if isinstance(message, kind)]

    def told(self, kind: str) -> list[Tell]:
        return [effect for effect in self.effects if isinstance(effect, Tell) and effect.kind == kind]

    @property
    def dropped(self) -> str:
        return next((effect.code for effect in self.effects if isinstance(effect, Drop)), "")

    def forget_what_was_said(self) -> None:
        self.said.clear()
        self.effects.clear()
        self.said_bytes = 0


class Pair:
    def __init__(self, a: MemoryReplica, b: MemoryReplica, config: Config = CONFIG, **options: Any) -> None:
        self.a = End(a, b.device, config, **options)
        self.b = End(b, a.device, config, **options)

    def open(self) -> Pair:
        self.a.handle(Opened())
        self.b.handle(Opened())
        return self

    def run(self) -> Pair:
        while self.step():
            pass
        return self

    def step(self) -> bool:
        """Carry one message each way. False if there was none."""
        moved = False
        for end, other in ((self.a, self.b), (self.b, self.a)):
            if end.out:
                other.handle(Received(end.out.popleft()))
                moved = True
        return moved

    def wait(self, ms: int) -> Pair:
        for _ in range(0, ms, 1_000):
            self.a.wait(1_000)
            self.b.wait(1_000)
            self.run()
        return self

    @property
    def bytes(self) -> int:
        return self.a.said_bytes + self.b.said_bytes

    def forget_what_was_said(self) -> None:
        self.a.forget_what_was_said()
        self.b.forget_what_was_said()


def equal(a: MemoryReplica, b: MemoryReplica, tags: Sequence[bytes] | None = None) -> bool:
    return all(a.digest(name) == b.digest(name) for name in tags or a.tags)
