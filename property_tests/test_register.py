"""Multi-value register: what is live is what nothing later has replaced."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given

from aico_crdt.crdt.document import Document
from aico_crdt.crdt.register import Register, record
from aico_crdt.crdt.value import canonical
from property_tests import harness
from property_tests.harness import Kind, Operation, Operations

FIELDS = ("mood", "mood_note")  # one name begins with the other


def live(operations: Operations, field: str, derived: bool) -> list[tuple[int, str, bool, Any]]:
    """The specification: the live values of `field`, as (stamp, writer, is an edit, value), oldest first."""
    edits = {n: o for n, o in operations.items() if o.action[:2] == ("set", field)}
    births = {n: o for n, o in operations.items() if o.action[0] == "bear" and field in o.action[1]}

    def replaced(number: int, kind: dict[int, Operation]) -> bool:
        return any(number in edit.past for edit in edits.values())

    values = [(o.hlc, o.writer, True, o.action[2]) for n, o in edits.items() if not replaced(n, edits)]
    for number, birth in births.items():
        if not (replaced(number, births) if derived else edits):
            values.append((birth.hlc, birth.writer, False, birth.action[1][field]))
    return sorted(values, key=lambda value: value[:3])


def expected(operations: Operations, derived: bool) -> bytes:
    lives = {field: live(operations, field, derived) for field in FIELDS}
    shown = {field: values[-1][3] for field, values in lives.items() if values}
    return canonical([[[list(v) for v in lives[field]] for field in FIELDS], shown])


def read(document: Document) -> bytes:
    slots = document.slots()
    candidates = [Register.of(field, slots).candidates for field in FIELDS]
    lives = [[[c.hlc, c.writer, not c.born, c.value] for c in each] for each in candidates]
    return canonical([lives, {name: field.value for name, field in record(slots).items()}])


def perform(document: Document, action: Any, hlc: int) -> None:
    if action[0] == "bear":
        document.bear(action[1], hlc)
    else:
        document.set(action[1], action[2], hlc)


def invent(rng: Random, document: Document, number: int) -> Any:
    return ("set", rng.choice(FIELDS), rng.choice((number, 0, "same", {"deep": [1.5, None]})))


def invent_or_bear(rng: Random, document: Document, number: int) -> Any:
    born_here = any(slot.name == "*" and slot.writer == document.writer for slot in document.slots())
    if rng.random() < 0.3 and not born_here:
        return ("bear", {field: number for field in FIELDS if rng.random() < 0.8})
    return invent(rng, document, number)


BORN_ONCE = Kind(
    invent,
    perform,
    read,
    lambda operations, seen: seen == expected(operations, derived=False),
    birth=("bear", {"mood": "new"}),
)
BORN_OFTEN = Kind(
    invent_or_bear,
    perform,
    read,
    lambda operations, seen: seen == expected(operations, derived=True),
    derived=True,
)


@given(harness.histories)
def test_a_register_shows_exactly_what_nobody_replaced(rng: Random) -> None:
    harness.check(BORN_ONCE, rng)


@given(harness.histories)
def test_a_register_keeps_every_birth_until_an_edit_has_seen_it(rng: Random) -> None:
    harness.check(BORN_OFTEN, rng)


@pytest.mark.parametrize("kind", [BORN_ONCE, BORN_OFTEN])
@pytest.mark.parametrize("broken", [harness.DropsEverything, harness.DropsWhatOthersWrite])
def test_the_law_sees_lost_writes(kind: Kind, broken: type[harness.Replica]) -> None:
    assert harness.score(kind, harness.Replica) == 1
    assert harness.score(kind, broken) <= 0.1
