"""This store: devices of one family, linked by the mesh over CURVE.

The first process that runs on a machine serves its links; further ones only use its store.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import aico_crdt
from bench.faults.system import Process
from bench.faults.systems.aico_family import Homes
from bench.faults.systems.links import Links
from bench.faults.systems.verbs import Verbs
from bench.faults.wire import Wire, Wires


class Aico:
    name = "aico-crdt"
    several = True
    talks = True

    def __init__(self, root: Path) -> None:
        self.version = aico_crdt.__version__
        self._homes = Homes(root)
        self._wires = Wires()
        self._links: Links[Wire] = Links(self._wires.new)
        self._ports: dict[int, int] = {}
        self._serving: dict[int, Verbs] = {}
        self._running: list[Verbs] = []

    def start(self, machines: int) -> None:
        self._homes.found(machines)
        self._links.join(machines)

    def open(self, machine: int) -> Process:
        serving = self._serving.get(machine)
        serves = len(self._homes.devices) > 1 and (serving is None or not serving.alive)
        peers = [
            (self._homes.device(other), f"tcp://127.0.0.1:{wire.port}")
            for other, wire in self._links.of(machine)
            if serves and other < machine and self._homes.devices[other] != self._homes.devices[machine]
        ]
        process = Verbs(self._homes.start(machine, network="mesh" if serves else "", peers=peers))
        self._running.append(process)
        if serves:
            self._serving[machine] = process
            self._listens(machine, process.ready)
        return process

    def skew(self, machine: int, ms: int) -> None:
        self._homes.skews[machine] = ms

    def partition(self, *groups: Sequence[int]) -> None:
        self._links.partition(groups)

    def roughen(self, seed: int) -> None:
        self._links.roughen(seed)

    def heal(self) -> None:
        self._links.heal()

    def clone(self, machine: int) -> int:
        copy = self._homes.copy(machine)
        self._links.join(copy + 1)
        for other, port in self._ports.items():
            self._listens(other, port)
        return copy

    def stop(self) -> None:
        for process in self._running:
            process.close()
        self._wires.stop()

    def _listens(self, machine: int, port: int) -> None:
        """Those with a larger number dial it there."""
        self._ports[machine] = port
        for other, wire in self._links.of(machine):
            if other > machine:
                wire.target = ("127.0.0.1", port)
