"""Yjs documents kept by y-leveldb. Every update is broadcast; after a fault, two that meet compare state vectors.

That is what y-protocols does on connecting, and all that Yjs asks of a provider.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bench.faults.child import Child, Event
from bench.faults.post import Post, Route
from bench.faults.system import Gone, Process, Refused
from bench.faults.systems import node
from bench.faults.systems.links import Links
from bench.faults.systems.verbs import Verbs


class Yjs:
    name = "yjs"
    several = False
    talks = True

    def __init__(self, root: Path) -> None:
        self.version = node.installed("yjs")
        self._root = root
        self._post = Post()
        self._links: Links[Route] = Links(Route)
        self._machines = 0
        self._skews: dict[int, int] = {}
        self._at: dict[int, Verbs] = {}
        """By machine, the process that has its document."""

    def start(self, machines: int) -> None:
        for machine in range(machines):
            self._home(machine).mkdir(parents=True)
        self._machines = machines
        self._links.join(machines)

    def open(self, machine: int) -> Process:
        command = node.command(node.HERE / "yjs.mjs", str(self._home(machine)))
        child = Child(
            command,
            self._root / "log",
            env=node.clock(self._skews.get(machine, 0)),
            on_event=partial(self._broadcast, machine),
        )
        process = self._at[machine] = Verbs(child)
        for other, route in self._links.of(machine):
            if route.up:
                self._meet(machine, other)
        return process

    def skew(self, machine: int, ms: int) -> None:
        self._skews[machine] = ms

    def partition(self, *groups: Sequence[int]) -> None:
        self._post.flush()
        self._links.partition(groups)

    def roughen(self, seed: int) -> None:
        self._links.roughen(seed)

    def heal(self) -> None:
        self._links.heal()
        self._post.flush()
        for machine in range(self._machines):
            for other, _ in self._links.of(machine):
                self._meet(machine, other)

    def clone(self, machine: int) -> int:
        copy = self._machines
        shutil.copytree(self._home(machine), self._home(copy))
        self._machines += 1
        self._links.join(self._machines)
        return copy

    def stop(self) -> None:
        self._post.stop()
        for process in self._at.values():
            process.close()

    def _broadcast(self, machine: int, event: Event) -> None:
        for other, route in self._links.of(machine):
            self._post.send(route, partial(self._deliver, other), event["update"])

    def _deliver(self, machine: int, update: str) -> None:
        process = self._at.get(machine)
        if process is not None and process.alive:
            process.child.ask("deliver", update=update)

    def _meet(self, one: int, other: int) -> None:
        """`one` gets what it lacks of `other`, and the other way round."""
        for taker, giver in ((self._at.get(one), self._at.get(other)), (self._at.get(other), self._at.get(one))):
            if taker is None or giver is None or not taker.alive or not giver.alive:
                continue
            try:
                missing = giver.child.ask("missing", vector=taker.child.ask("vector"))
                taker.child.ask("deliver", update=missing)
            except (Gone, Refused):
                continue  # it was killed

    def _home(self, machine: int) -> Path:
        return self._root / f"machine{machine}"
