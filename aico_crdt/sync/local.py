"""Two replicas brought together without a network: two sessions wired back to back until both are quiet.

`aico-crdt merge A B` is this. The protocol is the same as between two machines, so nothing has to be trusted that is
not checked there; only time is made up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from aico_crdt.config import Config
from aico_crdt.sync.effect import Acknowledge, Drop, Effect, Ingest, IngestBodies, IngestManifest, Send
from aico_crdt.sync.event import Event, Ingested, Opened, Received, Tick
from aico_crdt.sync.replica import IngestReport, Replica
from aico_crdt.sync.session import Session

MAX_ROUNDS: Final = 16
"""Rounds of digests: the first moves almost all, a second what an admission in the first made readable. More come
only where bodies or retries wait for time to pass."""
MAX_IDLE_MESSAGES: Final = 10_000
"""Messages without a single entry, document or body applied before it is called a livelock."""

CarryOut = Callable[[Ingest | IngestManifest | IngestBodies | Acknowledge], IngestReport | None]
"""Carries out an effect durably; returns the report of what was ingested, and None for an acknowledgement."""


@dataclass(slots=True)
class Side:
    """What one replica received: entries (and bodies) by fate, bytes and messages that came, applied by collection."""

    applied: int = 0
    held: int = 0
    rejected: int = 0
    duplicates: int = 0
    messages: int = 0
    received_bytes: int = 0
    by_collection: dict[bytes, int] = field(default_factory=dict)

    def count(self, tag: bytes, report: IngestReport) -> None:
        self.applied += report.applied
        self.held += report.held
        self.rejected += report.rejected
        self.duplicates += report.duplicates
        self.by_collection[tag] = self.by_collection.get(tag, 0) + report.applied


@dataclass(frozen=True, slots=True)
class Report:
    """How bringing two replicas together ended.

    Attributes:
        a, b: what each received.
        rounds: how many exchanges of digests it took.
        different: shared collections whose heads still differ: what one of them cannot take (yet).
        dropped: why one of them ended it before time, else empty.
    """

    a: Side
    b: Side
    rounds: int
    different: tuple[bytes, ...]
    dropped: str

    @property
    def equal(self) -> bool:
        return not self.different and not self.dropped


class _End:
    """One replica, its session, and what is on its way to it."""

    def __init__(self, replica: Replica, peer: bytes, carry_out: CarryOut, config: Config) -> None:
        self.replica = replica
        self.session = Session(peer, replica, config, _steady)
        self.carry_out = carry_out
        self.inbox: deque[bytes] = deque()
        self.side = Side()

    def handle(self, event: Event, now_ms: int) -> tuple[list[bytes], str]:
        """What it sends, and why it drops the link if it does; deliveries are carried out on the way."""
        sent: list[bytes] = []
        dropped = ""
        effects: deque[Effect] = deque(self.session.handle(event, now_ms))
        while effects:
            effect = effects.popleft()
            if isinstance(effect, Send):
                sent.append(effect.raw)
            elif isinstance(effect, Drop):
                dropped = effect.reason
            elif isinstance(effect, Acknowledge):
                self.carry_out(effect)
            elif isinstance(effect, Ingest | IngestManifest | IngestBodies):
                report = self.carry_out(effect) or IngestReport()
                self.side.count(effect.tag, report)
                effects.extend(self.session.handle(Ingested(effect.token, report), now_ms))
        return sent, dropped


def converge(
    a: Replica,
    b: Replica,
    carry_out_a: CarryOut,
    carry_out_b: CarryOut,
    now_ms: int,
    *,
    config: Config | None = None,
    progress: Callable[[Side, Side], None] | None = None,
) -> Report:
    """Bring two replicas of one family together.

    Args:
        carry_out_a, carry_out_b: carry out effects on each, durably.
        now_ms: where made-up time begins.
        progress: told after every message what each side has received so far.

    Raises:
        what `carry_out_a` and `carry_out_b` raise: what was ingested before that stays.
    """
    return _Meeting(a, b, carry_out_a, carry_out_b, now_ms, config or Config(), progress).run()


class _Meeting:
    def __init__(
        self,
        a: Replica,
        b: Replica,
        carry_out_a: CarryOut,
        carry_out_b: CarryOut,
        now_ms: int,
        config: Config,
        progress: Callable[[Side, Side], None] | None,
    ) -> None:
        self._a = _End(a, b.device, carry_out_a, config)
        self._b = _End(b, a.device, carry_out_b, config)
        self._now_ms = now_ms
        self._config = config
        self._progress = progress or (lambda a, b: None)
        self._dropped = ""
        self._idle = 0

    def run(self) -> Report:
        rounds = 0
        before = None
        self._both(Opened())
        while not self._dropped and rounds < MAX_ROUNDS:
            rounds += 1
            state = self._state()
            if state == before and self._quiet():
                break
            before = state
            self._now_ms += 2 * self._config.digest_interval_ms
            self._both(Tick())
        return Report(self._a.side, self._b.side, rounds, self._different(), self._dropped)

    def _both(self, event: Event) -> None:
        """Give both the event, then carry messages until none is under way."""
        for end, other in ((self._a, self._b), (self._b, self._a)):
            self._step(end, other, event)
        while not self._dropped and (self._a.inbox or self._b.inbox):
            for end, other in ((self._a, self._b), (self._b, self._a)):
                if end.inbox and not self._dropped:
                    raw = end.inbox.popleft()
                    end.side.messages += 1
                    end.side.received_bytes += len(raw)
                    self._step(end, other, Received(raw))
                    self._progress(self._a.side, self._b.side)

    def _step(self, end: _End, other: _End, event: Event) -> None:
        before = end.side.applied
        sent, dropped = end.handle(event, self._now_ms)
        other.inbox.extend(sent)
        self._idle = 0 if end.side.applied > before else self._idle + 1
        if self._idle > MAX_IDLE_MESSAGES:
            dropped = "Both talk without end and nothing is applied."
        self._dropped = self._dropped or dropped

    def _state(self) -> Mapping[str, object]:
        """What changes as long as there is progress."""
        shared = self._shared()
        return {
            "a": [(self._a.replica.digest(tag), tuple(self._a.replica.stubs(tag, 1))) for tag in shared],
            "b": [(self._b.replica.digest(tag), tuple(self._b.replica.stubs(tag, 1))) for tag in shared],
        }

    def _quiet(self) -> bool:
        return self._a.session.is_quiet and self._b.session.is_quiet

    def _shared(self) -> list[bytes]:
        theirs = set(self._b.replica.collections(self._a.replica.device))
        return [tag for tag in self._a.replica.collections(self._b.replica.device) if tag in theirs]

    def _different(self) -> tuple[bytes, ...]:
        a, b = self._a.replica, self._b.replica
        return tuple(tag for tag in self._shared() if a.digest(tag) != b.digest(tag))


def _steady(count: int) -> bytes:
    """Two sessions of one meeting need no names that nobody can guess, and no spread of timers."""
    return b"\x80" * count
