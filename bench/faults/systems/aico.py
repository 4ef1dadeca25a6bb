"""This store: devices of one family, each in its own home, linked by the mesh over CURVE.

The first process that runs on a machine serves its links; further ones only use its store.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import aico_crdt
from bench import stores
from bench.faults.child import Child
from bench.faults.system import Process
from bench.faults.systems.links import Links
from bench.faults.systems.verbs import Verbs
from bench.faults.wire import Wire, Wires


class Aico:
    name = "aico-crdt"
    several = True
    replication = "mesh over CURVE"

    def __init__(self, root: Path) -> None:
        self.version = aico_crdt.__version__
        self._root = root
        self._wires = Wires()
        self._links: Links[Wire] = Links(self._wires.new)
        self._devices: list[int] = []
        """By machine, the number of its device: a copied machine is the same device."""
        self._skews: dict[int, int] = {}
        self._serving: dict[int, Verbs] = {}
        self._running: list[Verbs] = []

    def start(self, machines: int) -> None:
        first = self._home(0)
        first.mkdir(parents=True)
        with stores.new_store(first / "store") as store:
            for number in range(1, machines):
                self._home(number).mkdir()
                stores.join_family(store, self._home(number) / "store", number + 1)
        self._devices = [number + 1 for number in range(machines)]
        self._links.join(machines)

    def open(self, machine: int) -> Process:
        serving = self._serving.get(machine)
        serves = len(self._devices) > 1 and (serving is None or not serving.alive)
        peers = []
        for other, wire in self._links.of(machine) if serves else ():
            if other < machine and self._devices[other] != self._devices[machine]:
                device = stores.identity(self._devices[other]).device
                peers.append((device.hex(), f"tcp://127.0.0.1:{wire.port}"))
        orders = {
            "home": str(self._home(machine)),
            "device": self._devices[machine],
            "skew_ms": self._skews.get(machine, 0),
            "serves": serves,
            "peers": peers,
        }
        command = [sys.executable, "-m", "bench.faults.systems.aico_device", json.dumps(orders)]
        process = Verbs(Child(command, self._root / "log"))
        self._running.append(process)
        if serves:
            self._serving[machine] = process
            for other, wire in self._links.of(machine):
                if other > machine:
                    wire.target = ("127.0.0.1", process.ready)
        return process

    def skew(self, machine: int, ms: int) -> None:
        self._skews[machine] = ms

    def partition(self, *groups: Sequence[int]) -> None:
        self._links.partition(groups)

    def roughen(self, seed: int) -> None:
        self._links.roughen(seed)

    def heal(self) -> None:
        self._links.heal()

    def clone(self, machine: int) -> int:
        copy = len(self._devices)
        shutil.copytree(self._home(machine), self._home(copy))
        self._devices.append(self._devices[machine])
        self._links.join(len(self._devices))
        return copy

    def stop(self) -> None:
        for process in self._running:
            process.close()
        self._wires.stop()

    def _home(self, machine: int) -> Path:
        return self._root / f"machine{machine}"
