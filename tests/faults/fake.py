"""Systems in memory: one that keeps every promise, and others that break one each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bench.faults.system import Gone, Reading, Refused, System

Flaw = Literal["", "refuses", "drops", "resurrects", "diverges", "last writer wins"]


@dataclass
class Data:
    """An observed-remove set of (record, value), and the records forgotten for good."""

    added: set[tuple[str, str]] = field(default_factory=set)
    removed: set[tuple[str, str]] = field(default_factory=set)
    forgotten: set[str] = field(default_factory=set)

    def values(self, name: str) -> list[str]:
        live = self.added - self.removed
        return sorted(value for one, value in live if one == name and name not in self.forgotten)

    def take(self, other: Data) -> None:
        self.added |= other.added
        self.removed |= other.removed
        self.forgotten |= other.forgotten


class FakeProcess:
    def __init__(self, data: Data, flaw: Flaw) -> None:
        self._data = data
        self._flaw = flaw
        self._dead = False

    def write(self, name: str, value: str) -> None:
        self._live()
        if self._flaw != "drops":
            self._data.added.add((name, value))

    def edit(self, name: str, value: str) -> Sequence[str]:
        self._live()
        if self._flaw == "drops":
            return []
        replaced = self._data.values(name)
        if not replaced:
            raise Refused("no such record")
        self._data.removed |= {(name, old) for old in replaced}
        self._data.added.add((name, value))
        return replaced

    def forget(self, name: str) -> None:
        self._live()
        if self._flaw != "drops":
            self._data.forgotten.add(name)

    def read_all(self) -> Reading:
        self._live()
        found = {name: tuple(self._data.values(name)) for name, _ in self._data.added}
        if self._flaw == "last writer wins":
            found = {name: values[-1:] for name, values in found.items()}
        return {name: values for name, values in found.items() if values}

    def kill(self) -> None:
        self._dead = True

    def close(self) -> None:
        self._dead = True

    def _live(self) -> None:
        if self._dead:
            raise Gone("killed")
        if self._flaw == "refuses":
            raise Refused("closed today")


class Fake:
    name = "fake"
    version = "1"
    several = True
    talks = True

    def __init__(self, flaw: Flaw) -> None:
        self._flaw = flaw
        self._machines: list[Data] = []

    def start(self, machines: int) -> None:
        self._machines = [Data() for _ in range(machines)]

    def open(self, machine: int) -> FakeProcess:
        return FakeProcess(self._machines[machine], self._flaw)

    def skew(self, machine: int, ms: int) -> None:
        pass

    def partition(self, *groups: Sequence[int]) -> None:
        pass

    def roughen(self, seed: int) -> None:
        pass

    def heal(self) -> None:
        if self._flaw == "diverges":
            return
        whole = Data()
        for data in self._machines:
            whole.take(data)
        if self._flaw == "resurrects":
            whole.forgotten = set()
        for data in self._machines:
            data.take(deepcopy(whole))
            data.forgotten = set(whole.forgotten)

    def clone(self, machine: int) -> int:
        self._machines.append(deepcopy(self._machines[machine]))
        return len(self._machines) - 1

    def stop(self) -> None:
        pass


def fake(flaw: Flaw) -> Callable[[Path], System]:
    return lambda root: Fake(flaw)
