"""Which machines reach each other: a wire, or any other link, for every pair."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Generic, Protocol, TypeVar


class Link(Protocol):
    """What connects two machines."""

    def cut(self) -> None: ...

    def roughen(self, seed: int) -> None: ...

    def heal(self) -> None: ...


L = TypeVar("L", bound=Link)


class Links(Generic[L]):
    """A link for every pair of machines, by (smaller, larger) number."""

    def __init__(self, new: Callable[[], L]) -> None:
        self._new = new
        self._links: dict[tuple[int, int], L] = {}

    def join(self, machines: int) -> None:
        """Link all of so many machines, where a pair has no link yet."""
        for pair in combinations(range(machines), 2):
            if pair not in self._links:
                self._links[pair] = self._new()

    def of(self, machine: int) -> Iterator[tuple[int, L]]:
        """The other machine, and the link to it."""
        for pair, link in self._links.items():
            if machine in pair:
                yield sum(pair) - machine, link

    def partition(self, groups: Sequence[Sequence[int]]) -> None:
        for (one, other), link in self._links.items():
            if not any(one in group and other in group for group in groups):
                link.cut()

    def roughen(self, seed: int) -> None:
        for number, link in enumerate(self._links.values()):
            link.roughen(seed + number)

    def heal(self) -> None:
        for link in self._links.values():
            link.heal()
