"""This store once more, on a network that TCP does not mend: the harness carries what the sessions say, message by
message, as it does for Yjs. Store, sessions and node are those of `aico-crdt`; only sockets and CURVE are left out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import aico_crdt
from bench.faults.child import Event
from bench.faults.post import Post, Route
from bench.faults.system import DoesNotApply, Gone, Process, Refused
from bench.faults.systems.aico_family import Homes
from bench.faults.systems.links import Links
from bench.faults.systems.verbs import Verbs

REDIAL_S = 0.3


class Line(Route):
    """A route on which one conversation follows another; what was said in an earlier one is not delivered any more."""

    def __init__(self) -> None:
        super().__init__()
        self.conversation = 0


class AicoByPost:
    name = "aico-crdt+post"
    several = True
    talks = True

    def __init__(self, root: Path) -> None:
        self.version = aico_crdt.__version__
        self._homes = Homes(root)
        self._post = Post()
        self._links: Links[Line] = Links(Line)
        self._serving: dict[int, Verbs] = {}
        self._running: list[Verbs] = []

    def start(self, machines: int) -> None:
        if machines == 1:
            raise DoesNotApply("as aico-crdt")
        self._homes.found(machines)
        self._links.join(machines)

    def open(self, machine: int) -> Process:
        serving = self._serving.get(machine)
        if serving is not None and serving.alive:
            process = Verbs(self._homes.start(machine, network=""))
        else:
            process = Verbs(self._homes.start(machine, partial(self._on_event, machine), network="post"))
            self._serving[machine] = process
            for other, line in self._links.of(machine):
                self._relink(machine, other, line)
        self._running.append(process)
        return process

    def skew(self, machine: int, ms: int) -> None:
        self._homes.skews[machine] = ms

    def partition(self, *groups: Sequence[int]) -> None:
        self._links.partition(groups)
        self._relink_all()

    def roughen(self, seed: int) -> None:
        self._links.roughen(seed)
        self._relink_all()

    def heal(self) -> None:
        if any(not line.good for _, _, line in self._pairs()):
            self._links.heal()
            self._relink_all()

    def clone(self, machine: int) -> int:
        raise DoesNotApply("as aico-crdt")

    def stop(self) -> None:
        self._post.stop()
        for process in self._running:
            process.close()

    def _pairs(self) -> list[tuple[int, int, Line]]:
        machines = range(len(self._homes.devices))
        return [(one, other, line) for one in machines for other, line in self._links.of(one) if one < other]

    def _relink_all(self) -> None:
        for one, other, line in self._pairs():
            self._relink(one, other, line)

    def _relink(self, one: int, other: int, line: Line) -> None:
        """The conversation of two is over; if they reach each other, the next one begins."""
        line.conversation += 1
        self._tell("down", one, other)
        self._tell("down", other, one)
        if line.up:
            self._tell("up", one, other)
            self._tell("up", other, one)

    def _tell(self, verb: str, machine: int, other: int) -> None:
        process = self._serving.get(machine)
        if process is None or not process.alive:
            return
        try:
            process.child.ask(verb, device=self._homes.device(other))
        except (Gone, Refused):
            return  # it was killed

    def _on_event(self, machine: int, event: Event) -> None:
        for other, line in self._links.of(machine):
            if self._homes.device(other) != event["to"]:
                continue
            if event["event"] == "drop":
                self._post.later(REDIAL_S, partial(self._redial, machine, other, line, line.conversation))
            else:
                deliver = partial(self._deliver, machine, other, line, line.conversation)
                self._post.send(line, deliver, event["raw"])

    def _redial(self, one: int, other: int, line: Line, conversation: int) -> None:
        if line.conversation == conversation:
            self._relink(one, other, line)

    def _deliver(self, machine: int, other: int, line: Line, conversation: int, raw: str) -> None:
        process = self._serving.get(other)
        if process is not None and process.alive and line.conversation == conversation:
            process.child.ask("hear", device=self._homes.device(machine), raw=raw)
