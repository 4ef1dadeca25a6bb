"""Add-wins set: an element is there unless every operation that put it there was seen by a discard of it."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given

from aico_crdt.crdt.add_wins_set import members, union
from aico_crdt.crdt.document import Document
from aico_crdt.crdt.register import record
from aico_crdt.crdt.value import canonical
from property_tests import harness
from property_tests.harness import Kind, Operations

ELEMENTS = ("tea", "a@b/c", "ü😀")


def elements(operations: Operations) -> list[str]:
    """The specification: the sorted elements of the set ``tags``."""

    def puts(action: Any, element: str) -> bool:
        return action == ("add", element) or (action[0] == "bear" and element in action[1])

    def survives(number: int, element: str) -> bool:
        return not any(o.action == ("discard", element) and number in o.past for o in operations.values())

    return [
        element
        for element in sorted(ELEMENTS)
        if any(puts(o.action, element) and survives(n, element) for n, o in operations.items())
    ]


def perform(document: Document, action: Any, hlc: int) -> None:
    verb, what = action
    if verb == "bear":
        document.bear({"tags": list(what)}, hlc)
    elif verb == "add":
        document.add("tags", what, hlc)
    else:
        document.discard("tags", what, hlc)


def read(document: Document) -> bytes:
    slots = document.slots()
    folded = record(slots, {"tags": union})
    assert "tags" not in folded or folded["tags"].value == list(members("tags", slots))
    return canonical(members("tags", slots))


def invent(rng: Random, document: Document, number: int) -> Any:
    return (rng.choice(("add", "discard")), rng.choice(ELEMENTS))


def invent_or_bear(rng: Random, document: Document, number: int) -> Any:
    born_here = any(slot.name == "*" and slot.writer == document.writer for slot in document.slots())
    if rng.random() < 0.3 and not born_here:
        return ("bear", tuple(rng.sample(ELEMENTS, 2)))
    return invent(rng, document, number)


def allowed(operations: Operations, seen: bytes) -> bool:
    return seen == canonical(elements(operations))


BORN_ONCE = Kind(invent, perform, read, allowed, birth=("bear", ELEMENTS[:2]))
BORN_OFTEN = Kind(invent_or_bear, perform, read, allowed, derived=True)


@given(harness.histories)
def test_adds_win_over_concurrent_discards(rng: Random) -> None:
    harness.check(BORN_ONCE, rng)


@given(harness.histories)
def test_adds_and_births_win_where_documents_are_born_more_than_once(rng: Random) -> None:
    harness.check(BORN_OFTEN, rng)


@pytest.mark.parametrize("kind", [BORN_ONCE, BORN_OFTEN])
@pytest.mark.parametrize("broken", [harness.DropsEverything, harness.DropsWhatOthersWrite])
def test_the_law_sees_lost_writes(kind: Kind, broken: type[harness.Replica]) -> None:
    assert harness.score(kind, harness.Replica) == 1
    assert harness.score(kind, broken) <= 0.3  # with three elements some histories end as they would empty
