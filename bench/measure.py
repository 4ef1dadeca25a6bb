"""What a measurement is, and how it is taken.

Machines drift, so calls that are compared take turns within one run; what is told is the median.
"""

from __future__ import annotations

import gc
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal, TypeVar

Better = Literal["lower", "higher"]
T = TypeVar("T")


class Unavailable(Exception):
    """What is to be measured or compared with is not installed here. Holds the one line that says so."""


@dataclass(frozen=True)
class Result:
    """One name, measured.

    Attributes:
        value: the median, in `unit`.
        peers: the same work by others in the same run, in the same unit.
        spread: 10th and 90th percentile of `value`, where there are several samples.
        size: what it was measured on, in words.
        extra: further figures; each name ends in its unit.
    """

    name: str
    value: float
    unit: str
    better: Better
    peers: Mapping[str, float] = field(default_factory=dict)
    spread: tuple[float, float] | None = None
    size: str = ""
    extra: Mapping[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> dict[str, float]:
        """Ours through theirs, for each peer."""
        return {peer: self.value / value for peer, value in self.peers.items() if value}

    def as_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "name": self.name,
            "value": _short(self.value),
            "unit": self.unit,
            "better": self.better,
            "peers": {peer: _short(value) for peer, value in self.peers.items()},
            "ratio": {peer: _short(ratio) for peer, ratio in self.ratio.items()},
            "size": self.size,
            "extra": {name: _short(value) for name, value in self.extra.items()},
        }
        if self.spread is not None:
            found |= {"p10": _short(self.spread[0]), "p90": _short(self.spread[1])}
        return found


def _short(value: float) -> float:
    """Five significant digits: more is noise."""
    return float(f"{value:.5g}")


class Bench:
    """What a benchmark is given: how large to be, where to write, where to say a line."""

    def __init__(self, scratch: Path, *, quick: bool, say: Callable[[str], None]) -> None:
        self.quick = quick
        self.say = say
        self._scratch = scratch
        self._kept: dict[object, Any] = {}
        self._ends: list[Callable[[], None]] = []

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    @contextmanager
    def directory(self) -> Iterator[Path]:
        """A fresh directory, removed at the end."""
        place = self.place()
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def place(self) -> Path:
        """A fresh directory that stays until the run ends."""
        return Path(tempfile.mkdtemp(dir=self._scratch))

    def once(self, key: object, make: Callable[[], T]) -> T:
        """What `make` returns, made once in a run: benchmarks share what takes long to fill."""
        if key not in self._kept:
            self._kept[key] = make()
        found: T = self._kept[key]
        return found

    def try_peer(self, make: Callable[[], T]) -> T | None:
        """What `make` returns; None, with one line said once, when that peer is not here."""
        try:
            return make()
        except Unavailable as absent:
            line = f"skipped: {absent}"
            self.once(line, lambda: self.say(line))
            return None


def seconds(call: Callable[[], object]) -> float:
    """How long one call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def take_turns(
    calls: Mapping[str, Callable[[int], object]], rounds: int, *, warm_up: int = 5
) -> dict[str, list[float]]:
    """Seconds of every call in every round, all calls after one another in each; `warm_up` rounds are not counted.

    Each call is given the number of the round.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    with _no_garbage():
        for number in range(warm_up + rounds):
            for name, call in calls.items():
                begin = time.perf_counter()
                call(number)
                elapsed = time.perf_counter() - begin
                if number >= warm_up:
                    taken[name].append(elapsed)
    return taken


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Whose garbage is collected in whose turn is chance: collect before, not during."""
    gc.collect()
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def percentile(samples: Sequence[float], percent: float) -> float:
    """The nearest rank; `samples` need not be sorted."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def spread(samples: Sequence[float], scale: float = 1.0) -> tuple[float, float] | None:
    """10th and 90th percentile of `samples` times `scale`; None for a single one."""
    if len(samples) < 2:
        return None
    return percentile(samples, 10) * scale, percentile(samples, 90) * scale


def from_turns(
    name: str, unit: str, scale: float, taken: Mapping[str, list[float]], *, size: str, **extra: float
) -> Result:
    """The result of :func:`take_turns`, whose call ``ours`` is measured and the others are peers."""
    medians = {who: median(samples) * scale for who, samples in taken.items()}
    ours = medians.pop("ours")
    return Result(name, ours, unit, "lower", medians, spread(taken["ours"], scale), size, extra)
