"""Frames under way: lost, doubled, late, out of order, cut off.

A link carries the messages of two sessions. What the transport promises (order within a lane) is broken on purpose:
the session promises to converge without it.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgpack

MAX_DELIVERIES: Final = 20_000
"""Frames between two steps: beyond, the sessions talk without end."""


@dataclass(frozen=True, slots=True)
class Weather:
    """Chances for each frame, and the longest delay in ms."""

    drop: float = 0.0
    double: float = 0.0
    cut: float = 0.0
    delay_ms: int = 20
    reorder: bool = False


CALM: Final = Weather()
STORMS: Final = (
    Weather(delay_ms=5),
    Weather(drop=0.05, delay_ms=80),
    Weather(drop=0.3, delay_ms=50, reorder=True),
    Weather(double=0.3, delay_ms=400, reorder=True),
    Weather(cut=0.02, delay_ms=100),
    Weather(drop=0.1, double=0.1, cut=0.01, delay_ms=5_000, reorder=True),
)


@dataclass(frozen=True, slots=True)
class Frame:
    """A message on its way from one device to another, over the link of that number."""

    link: int
    source: int
    target: int
    raw: bytes


@dataclass(slots=True)
class Network:
    """What is under way. `blocked` are directions (from, to) that carry nothing."""

    random: random.Random
    counts: Counter[str]
    weather: Weather = CALM
    blocked: set[tuple[int, int]] = field(default_factory=set)
    now_ms: int = 0
    sent: int = 0
    _queue: list[tuple[int, int, Frame]] = field(default_factory=list)
    _latest: dict[tuple[int, int], int] = field(default_factory=dict)

    def send(self, frame: Frame) -> bool:
        """Put a frame on its way. False when the link breaks over it."""
        weather, chance = self.weather, self.random.random
        self.sent += 1
        if (frame.source, frame.target) in self.blocked:
            both = (frame.target, frame.source) in self.blocked
            self.counts["partition" if both else "one-way partition"] += 1
            return True
        if chance() < weather.drop:
            self.counts["frame dropped"] += 1
            return True
        if chance() < weather.cut:
            self.counts["link cut"] += 1
            return False
        copies = 1
        if chance() < weather.double:
            self.counts["frame duplicated"] += 1
            copies = 2
        for _ in range(copies):
            self._enqueue(frame)
        return True

    def _enqueue(self, frame: Frame) -> None:
        at_ms = self.now_ms + self.random.randrange(1, self.weather.delay_ms + 1)
        lane = (frame.link, frame.source)
        latest = self._latest.get(lane, 0)
        if at_ms < latest:
            if self.weather.reorder:
                self.counts["frame reordered"] += 1
            else:
                at_ms = latest
        if at_ms - self.now_ms > 1_000:
            self.counts["frame delayed"] += 1
        self._latest[lane] = max(latest, at_ms)
        heapq.heappush(self._queue, (at_ms, self.sent, frame))
        self.sent += 1

    def due(self, until_ms: int) -> Iterator[Frame]:
        """Frames that arrive by then, time going on with each."""
        while self._queue and self._queue[0][0] <= until_ms:
            at_ms, _, frame = heapq.heappop(self._queue)
            self.now_ms = max(self.now_ms, at_ms)
            yield frame
        self.now_ms = max(self.now_ms, until_ms)

    @property
    def next_ms(self) -> int | None:
        """When the next frame arrives."""
        return self._queue[0][0] if self._queue else None


def of_a_later_release(raw: bytes) -> bytes:
    """The message as a neighbouring release may write it: a further field, further keys, further columns."""
    fields: list[Any] = msgpack.unpackb(raw, strict_map_key=False)
    for field_ in fields:
        if isinstance(field_, dict):
            field_["colour"] = ["blue", 7]
        elif isinstance(field_, list):
            for row in field_:
                if isinstance(row, list) and row and not all(isinstance(each, bytes) for each in row):
                    row.append(None)
    fields.append({"later": True})
    packed: bytes = msgpack.packb(fields)
    return packed


def of_an_unknown_type() -> bytes:
    """A message that only a later release knows."""
    packed: bytes = msgpack.packb([77, {"what": "news"}, b"\0" * 9])
    return packed
