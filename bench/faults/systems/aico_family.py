"""Devices of this store on one disk: each in a home of its own, with its store and its lease."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import stores
from bench.faults.child import Child, Event


class Homes:
    """The homes of one family.

    Attributes:
        devices: by machine, the number of its device. A copied machine is the same device.
        skews: by machine, how many ms its clock is ahead.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.devices: list[int] = []
        self.skews: dict[int, int] = {}

    def found(self, machines: int) -> None:
        """A family: the first machine admits the others."""
        self._home(0).mkdir(parents=True)
        with stores.new_store(self._home(0) / "store") as store:
            for number in range(1, machines):
                self._home(number).mkdir()
                stores.join_family(store, self._home(number) / "store", number + 1)
        self.devices = [number + 1 for number in range(machines)]

    def copy(self, machine: int) -> int:
        """Key, store and lease, to the home of a new machine."""
        shutil.copytree(self._home(machine), self._home(len(self.devices)))
        self.devices.append(self.devices[machine])
        return len(self.devices) - 1

    def device(self, machine: int) -> str:
        return stores.identity(self.devices[machine]).device.hex()

    def start(self, machine: int, on_event: Callable[[Event], None] = lambda event: None, **orders: Any) -> Child:
        """See :mod:`bench.faults.systems.aico_device`."""
        orders |= {
            "home": str(self._home(machine)),
            "device": self.devices[machine],
            "skew_ms": self.skews.get(machine, 0),
        }
        command = [sys.executable, "-m", "bench.faults.systems.aico_device", json.dumps(orders)]
        return Child(command, self._root / "log", on_event=on_event)

    def _home(self, machine: int) -> Path:
        return self._root / f"machine{machine}"
