"""PouchDB over LevelDB: a database on each machine, served by express-pouchdb, kept in sync by live replication."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from bench.faults.child import Child
from bench.faults.system import Process
from bench.faults.systems import node
from bench.faults.systems.links import Links
from bench.faults.systems.verbs import Verbs
from bench.faults.wire import Wire, Wires


class PouchDB:
    name = "pouchdb"
    several = False
    talks = True

    def __init__(self, root: Path) -> None:
        self.version = node.installed("pouchdb")
        self._root = root
        self._wires = Wires()
        self._links: Links[Wire] = Links(self._wires.new)
        self._machines = 0
        self._skews: dict[int, int] = {}
        self._ports: dict[int, int] = {}
        self._running: list[Verbs] = []

    def start(self, machines: int) -> None:
        for machine in range(machines):
            self._home(machine).mkdir(parents=True)
        self._machines = machines
        self._links.join(machines)

    def open(self, machine: int) -> Process:
        urls = [f"http://127.0.0.1:{wire.port}/memories" for other, wire in self._links.of(machine) if other < machine]
        command = node.command(node.HERE / "pouchdb.mjs", str(self._home(machine)), *urls)
        child = Child(command, self._root / "log", env=node.clock(self._skews.get(machine, 0)))
        process = Verbs(child)
        self._running.append(process)
        self._listens(machine, process.ready)
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
        copy = self._machines
        shutil.copytree(self._home(machine), self._home(copy))
        self._machines += 1
        self._links.join(self._machines)
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

    def _home(self, machine: int) -> Path:
        return self._root / f"machine{machine}"
