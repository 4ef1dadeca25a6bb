"""What can be told of an update only with all its structs read: order, parents and depth.

Structs hang on ids of other structs: on parents, and on origins, from which they inherit their parent. Ids of the
document itself end a search; what lies there is not in the update.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from heapq import heappop, heappush
from typing import Final

from aico_crdt.errors import Malformed, NotYet, TooLarge

Id = tuple[int, int]
"""(client, clock)"""
Link = tuple[tuple[Id, int], ...]
"""Ids a struct hangs on, each with the levels of nesting that this adds: 1 for a parent, 0 for an origin."""

GC: Final = 0
DELETED: Final = 1
TYPE: Final = 7


class Run:
    """The structs of one client, by number: where each starts, what it is, and what it hangs on."""

    __slots__ = ("links", "refs", "starts")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.refs: list[int] = []
        self.links: list[Link] = []

    def at(self, clock: int) -> int:
        """The number of the struct that holds `clock`."""
        return bisect_right(self.starts, clock) - 1


class Graph:
    """The structs of one update, over a document whose state vector is `known`.

    Attributes:
        inserted: client → (first clock, end clock).
        waits: client → (clock, client referred to, clock referred to), in order, of each reference to another client
            that the document does not know.
        parents: the ids used as parents.
        types: how many structs are shared types.
    """

    __slots__ = ("inserted", "known", "parents", "runs", "types", "waits")

    def __init__(self, known: Mapping[int, int]) -> None:
        self.known = known
        self.runs: dict[int, Run] = {}
        self.inserted: dict[int, tuple[int, int]] = {}
        self.waits: dict[int, list[tuple[int, int, int]]] = {}
        self.parents: list[Id] = []
        self.types = 0

    def check(self, max_depth: int) -> None:
        """Refuses what Yrs could not integrate.

        Raises:
            Malformed: a circle of references; a parent that is no shared type.
            TooLarge: types nested deeper than `max_depth`, as far as this update shows.
            NotYet: ``"clock"``: a reference to clocks that are neither known nor here.
        """
        if self.waits:
            self._check_order()
        for client, clock in self.parents:
            if self._is_fresh(client, clock):
                run = self.runs[client]
                if run.refs[run.at(clock)] not in (GC, DELETED, TYPE):
                    raise Malformed("A parent is not a shared type.")
        if self.types > max_depth:
            self._check_depth(max_depth)

    def _is_fresh(self, client: int, clock: int) -> bool:
        """Whether this update, and not the document, says what is at `clock`."""
        return self.known.get(client, 0) <= clock < self.inserted.get(client, (0, 0))[1]

    def _check_order(self) -> None:
        """That the runs of several clients can be integrated one after another.

        Each run advances to its next reference to clocks that are not there yet, and is woken when they are.
        """
        done = {client: self.known.get(client, 0) for client in self.inserted}
        position = dict.fromkeys(self.waits, 0)
        sleepers: dict[int, list[tuple[int, int]]] = {}
        awake = list(self.inserted)
        while awake:
            client = awake.pop()
            waits = self.waits.get(client, ())
            at = position.get(client, 0)
            while at < len(waits):
                clock, other, target = waits[at]
                if target >= done.get(other, 0):
                    if target >= self.inserted.get(other, (0, 0))[1]:
                        raise NotYet("clock", f"An update refers to clock {target} of a client not in it.")
                    heappush(sleepers.setdefault(other, []), (target, client))
                    done[client] = max(done[client], clock)
                    break
                at += 1
            else:
                done[client] = max(done[client], self.inserted[client][1])
            position[client] = at
            waiting = sleepers.get(client)
            while waiting and waiting[0][0] < done[client]:
                awake.append(heappop(waiting)[1])
        if any(done[client] < end for client, (_, end) in self.inserted.items()):
            raise Malformed("The structs of an update refer to each other in a circle.")

    def _check_depth(self, max_depth: int) -> None:
        """Depths by depth-first search: a client's structs may hang on those of one that comes later."""
        depths: dict[tuple[int, int], int] = {}  # of what holds (client, number of struct)
        for client, run in self.runs.items():
            for number in range(len(run.starts)):
                stack = [(client, number)]
                while stack:
                    owner, index = stack[-1]
                    deepest = 0
                    for (other, clock), step in self.runs[owner].links[index]:
                        if not self._is_fresh(other, clock):
                            deepest = max(deepest, step)
                            continue
                        key = (other, self.runs[other].at(clock))
                        if key not in depths:
                            stack.append(key)
                        else:
                            deepest = max(deepest, depths[key] + step)
                    if stack[-1] == (owner, index):
                        stack.pop()
                        depths[owner, index] = deepest
                        if deepest + (self.runs[owner].refs[index] == TYPE) > max_depth:
                            raise TooLarge(f"Shared types are nested deeper than {max_depth} levels.")
