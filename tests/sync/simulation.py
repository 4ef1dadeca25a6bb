"""A seeded world of replicas, links and faults in made-up time; a seed replays any run.

The world plays the shell: it carries out effects, tells sessions of commits, redials links that were closed, and
loses, doubles, delays and reorders what they send. Deliveries take time to become durable, and a crash may come before
or after.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations

from aico_crdt.config import Config
from aico_crdt.feed import Entry
from aico_crdt.sync import (
    Acknowledge,
    Closed,
    Committed,
    Drop,
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
from aico_crdt.sync.event import Event
from aico_crdt.sync.message import Ack, decode
from tests.sync.memory_replica import MemoryReplica, runs_of, tag

CONFIG = Config(window_bytes=64 * 1024, chunk_bytes=4096, digest_interval_ms=5_000)
TICK_MS = 1_000
REDIAL_MS = 3_000
MAX_MESSAGES_A_TICK = 400
"""Messages one session may send between two ticks while no entry is applied anywhere: beyond, it is a livelock."""


@dataclass(frozen=True)
class Faults:
    """Chances by message (`drop`, `double`, `cut`) and by delivery (`crash`), longest delay in ms, directions that
    carry nothing."""

    drop: float = 0.0
    double: float = 0.0
    cut: float = 0.0
    crash: float = 0.0
    delay_ms: int = 20
    reorder: bool = False
    deaf: frozenset[tuple[int, int]] = frozenset()


@dataclass
class End:
    """One replica's side of a link."""

    owner: int
    other: int
    session: Session
    link: Link
    busy: int = 0


@dataclass
class Link:
    """A pair of sessions; when either is over, the link is closed and dialled again later."""

    pair: tuple[int, int]
    ends: dict[int, End] = field(default_factory=dict)
    open: bool = False
    last_ms: dict[int, int] = field(default_factory=dict)


class World:
    def __init__(
        self,
        seed: int,
        count: int,
        *,
        tags: int = 2,
        links: list[tuple[int, int]] | None = None,
        config: Config = CONFIG,
        faults: Faults | None = None,
        replicas: list[MemoryReplica] | None = None,
    ) -> None:
        self.random = random.Random(seed)
        self.tags = [tag(number) for number in range(tags)]
        self.replicas = replicas or [MemoryReplica(number + 1, self.tags) for number in range(count)]
        self.config = config
        self.faults = faults or Faults()
        self.now_ms = 1_000_000
        self.written: list[tuple[bytes, Entry]] = []
        self.drops: list[str] = []
        self.told: list[Tell] = []
        self.messages = 0
        self.bytes = 0
        self.applied = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0
        self.links = [Link(pair) for pair in links or list(combinations(range(len(self.replicas)), 2))]
        for link in self.links:
            self._dial(link)
        self._at(TICK_MS, self._tick)

    # What happens

    def write(self, number: int, name: bytes, size: int = 40) -> None:
        replica = self.replicas[number]
        entry = replica.write(name, self.random.randbytes(size))
        self.written.append((name, entry))
        self._announce(number, name, [entry], b"")

    def scribble(self, count: int) -> None:
        """Writes here and there, with some time between them."""
        for _ in range(count):
            self.write(self.random.randrange(len(self.replicas)), self.random.choice(self.tags))
            self.run(self.random.randrange(0, 200))

    def crash(self, number: int) -> None:
        """The process dies: what it had not made durable is lost, and so are its links."""
        for link in self.links:
            if number in link.pair:
                self._close(link)

    def connect(self, one: int, other: int) -> None:
        """A link where there was none."""
        self.links.append(Link((one, other)))
        self._dial(self.links[-1])

    def run(self, ms: int) -> None:
        """Let time pass."""
        end = self.now_ms + ms
        while self._queue and self._queue[0][0] <= end:
            self.now_ms, _, action = heapq.heappop(self._queue)
            action()
        self.now_ms = end

    def heal(self, limit_ms: int = 600_000) -> int:
        """No more faults; run until all are equal. Returns how long that took (ms)."""
        self.faults = Faults()
        began = self.now_ms
        while not self.is_equal():
            assert self.now_ms - began < limit_ms, "the replicas do not become equal"
            self.run(TICK_MS)
        return self.now_ms - began

    def is_equal(self) -> bool:
        """All replicas have the same heads, and every entry that was ever written."""
        first = self.replicas[0]
        for name in self.tags:
            if any(replica.digest(name) != first.digest(name) for replica in self.replicas[1:]):
                return False
        return all(
            replica.content[name].feeds[entry.header.feed[1:]].seq >= entry.header.seq
            for name, entry in self.written
            for replica in self.replicas
            if self._has_feed(replica, name, entry) or self._fail()
        )

    def _has_feed(self, replica: MemoryReplica, name: bytes, entry: Entry) -> bool:
        return entry.header.feed[1:] in replica.content[name].feeds

    def _fail(self) -> bool:
        raise AssertionError("equal heads, and yet an entry that was written is nowhere")

    # The shell

    def _at(self, delay_ms: int, action: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._queue, (self.now_ms + delay_ms, self._number, action))

    def _tick(self) -> None:
        for link in self.links:
            for end in list(link.ends.values()):
                assert end.busy < MAX_MESSAGES_A_TICK, "a livelock"
                end.busy = 0
                self._handle(end, Tick())
        self._at(TICK_MS, self._tick)

    def _dial(self, link: Link) -> None:
        link.open, link.last_ms = True, {}
        link.ends = {}
        for owner, other in (link.pair, link.pair[::-1]):
            replica, peer = self.replicas[owner], self.replicas[other].device
            session = Session(peer, replica, self.config, self.random.randbytes)
            link.ends[owner] = End(owner, other, session, link)
        for end in list(link.ends.values()):
            self._handle(end, Opened())

    def _close(self, link: Link) -> None:
        if link.open:
            link.open = False
            ends, link.ends = link.ends, {}
            for end in ends.values():
                end.session.handle(Closed(), self.now_ms)
            self._at(self.random.randrange(1, REDIAL_MS), lambda: self._dial(link))

    def _handle(self, end: End, event: Event) -> None:
        if end.link.ends.get(end.owner) is not end:
            return
        for effect in end.session.handle(event, self.now_ms):
            if isinstance(effect, Send):
                self._send(end, effect.raw)
            elif isinstance(effect, Ingest | IngestManifest | IngestBodies):
                self._ingest(end, effect)
            elif isinstance(effect, Acknowledge):
                self._check_acknowledged(end, effect)
                self.replicas[end.owner].acknowledged(end.session.peer, effect)
            elif isinstance(effect, Tell):
                self.told.append(effect)
            elif isinstance(effect, Drop):
                self.drops.append(effect.code)
                self._at(0, lambda: self._close(end.link))

    def _send(self, end: End, raw: bytes) -> None:
        self._check_sent(end, raw)
        self.messages += 1
        self.bytes += len(raw)
        end.busy += 1
        faults, other = self.faults, end.link.ends.get(end.other)
        if other is None or (end.owner, end.other) in faults.deaf or self.random.random() < faults.drop:
            return
        if self.random.random() < faults.cut:
            self._at(0, lambda: self._close(end.link))
            return
        for _ in range(2 if self.random.random() < faults.double else 1):
            delay_ms = self.random.randrange(1, faults.delay_ms + 1)
            if not faults.reorder:
                at_ms = max(self.now_ms + delay_ms, end.link.last_ms.get(end.owner, 0))
                end.link.last_ms[end.owner] = at_ms
                delay_ms = at_ms - self.now_ms
            self._at(delay_ms, lambda: self._handle(other, Received(raw)))

    def _ingest(self, end: End, effect: Delivery) -> None:
        crashes = self.random.random() < self.faults.crash
        if crashes and self.random.random() < 0.5:
            self._at(0, lambda: self.crash(end.owner))
            return

        def become_durable() -> None:
            if end.link.ends.get(end.owner) is not end:
                return
            replica = self.replicas[end.owner]
            arrived = replica.content[effect.tag].arrived
            before = len(arrived)
            report = replica.carry_out(effect, end.session.peer)
            assert report is not None
            if report.applied:
                self.applied += report.applied
                for link in self.links:
                    for other in link.ends.values():
                        other.busy = 0
            if crashes:
                self.crash(end.owner)
                return
            self._handle(end, Ingested(effect.token, report))
            if isinstance(effect, Ingest) and len(arrived) > before:
                self._announce(end.owner, effect.tag, arrived[before:], end.session.peer)

        self._at(self.random.randrange(0, 30), become_durable)

    def _announce(self, number: int, name: bytes, entries: list[Entry], source: bytes) -> None:
        """Tell every session of a commit, one author at a time."""
        for entry in entries:
            event = Committed(name, runs_of([entry]), entry.header.device, source=source)
            for link in self.links:
                end = link.ends.get(number)
                if end is not None:
                    self._handle(end, event)

    # What must hold at every moment

    def _check_sent(self, end: End, raw: bytes) -> None:
        """Only what is durable is acknowledged."""
        message = decode(raw)
        if isinstance(message, Ack):
            feeds = self.replicas[end.owner].content[message.tag].feeds
            for head in message.heads:
                assert feeds[head[:2]].seq >= head.seq, "an acknowledgement of what is not durable"

    def _check_acknowledged(self, end: End, effect: Acknowledge) -> None:
        """What a peer is noted to hold, it holds."""
        feeds = self.replicas[end.other].content[effect.tag].feeds
        for device, incarnation, seq, *_ in effect.heads:
            assert feeds[device, incarnation].seq >= seq, "noted as held, and it is not"
