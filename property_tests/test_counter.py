"""Counter: what every replica shows is the sum of the increments it knows, each once."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given

from aico_crdt.crdt.counter import tally, total
from aico_crdt.crdt.document import Document
from aico_crdt.crdt.register import record
from aico_crdt.crdt.value import canonical
from property_tests import harness
from property_tests.harness import Kind, Operations

START = 40


def count(operations: Operations) -> int:
    """The specification."""
    return sum(operation.action for operation in operations.values())


def perform(document: Document, amount: Any, hlc: int) -> None:
    if document.slots():
        document.increment("uses", amount, hlc)
    else:
        document.bear({"uses": amount}, hlc)


def read(document: Document) -> bytes:
    slots = document.slots()
    folded = record(slots, {"uses": tally})
    assert not slots or folded["uses"].value == total("uses", slots)
    return canonical(total("uses", slots))


def invent(rng: Random, document: Document, number: int) -> int:
    return rng.randint(-5, 20)


KIND = Kind(invent, perform, read, lambda operations, seen: seen == canonical(count(operations)), birth=START)


@given(harness.histories)
def test_a_counter_counts_every_increment_once(rng: Random) -> None:
    harness.check(KIND, rng)


@pytest.mark.parametrize("broken", [harness.DropsEverything, harness.DropsWhatOthersWrite])
def test_the_law_sees_lost_increments(broken: type[harness.Replica]) -> None:
    assert harness.score(KIND, harness.Replica) == 1
    assert harness.score(KIND, broken) <= 0.1
