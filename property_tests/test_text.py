"""Mergeable text, held to the strong list specification (Attiya et al. 2016).

Every character of a history is another one, so it can be followed: what is visible is what was inserted and
not deleted, and there is one order of all characters ever inserted that agrees with every text anybody saw.
"""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from random import Random
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aico_crdt.crdt.document import Document
from aico_crdt.crdt.text import Edit, difference, perform, rewrite
from aico_crdt.crdt.value import canonical
from property_tests import harness
from property_tests.harness import Kind, Operations

ALPHABETS = (0x61, 0x3A0, 0x4E00, 0x1F300)  # 1, 2, 3 and 4 bytes in UTF-8; the last is two UTF-16 units
CHARACTERS_AN_EDIT = 3


@dataclass(frozen=True)
class Typed:
    """An edit, with the text its author saw before and after it."""

    edit: Edit
    before: str
    after: str


def allowed(operations: Operations, seen: bytes) -> bool:
    """The specification, as a predicate: may a replica that knows `operations` show this text?"""
    text: str = msgpack.unpackb(seen)
    edits = [operation.action for operation in operations.values()]
    deleted = {c for e in edits for c in e.before[e.edit.index : e.edit.index + e.edit.deleted]}
    visible = {c for e in edits for c in e.edit.inserted} - deleted
    return len(text) == len(visible) and set(text) == visible and one_order([text, *observed(operations)])


def observed(operations: Operations) -> list[str]:
    return [text for o in operations.values() for text in (o.action.before, o.action.after)]


def one_order(texts: list[str]) -> bool:
    """Whether one order of characters agrees with all `texts`."""
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for text in texts:
        for earlier, later in pairwise(text):
            sorter.add(later, earlier)
    try:
        sorter.prepare()
    except CycleError:
        return False
    return True


def invent(rng: Random, document: Document, number: int) -> Typed:
    before = document.text()
    index = rng.randint(0, len(before))
    deleted = rng.randint(0, min(2, len(before) - index)) if rng.random() < 0.4 else 0
    first = rng.choice(ALPHABETS) + number * CHARACTERS_AN_EDIT
    inserted = "".join(chr(first + i) for i in range(rng.randint(0 if deleted else 1, CHARACTERS_AN_EDIT)))
    after = before[:index] + inserted + before[index + deleted :]
    return Typed(Edit(index, deleted, inserted), before, after)


def type_in(document: Document, typed: Any, hlc: int) -> None:
    perform(document, typed.edit)
    assert document.text() == typed.after


def read(document: Document) -> bytes:
    return canonical(document.text())


KIND = Kind(invent, type_in, read, allowed)


@given(harness.histories)
def test_a_text_keeps_what_was_typed_in_one_order(rng: Random) -> None:
    harness.check(KIND, rng)


@pytest.mark.parametrize("broken", [harness.DropsEverything, harness.DropsWhatOthersWrite])
def test_the_law_sees_lost_typing(broken: type[harness.Replica]) -> None:
    assert harness.score(KIND, harness.Replica) == 1
    assert harness.score(KIND, broken) <= 0.1


def test_the_law_sees_a_torn_order() -> None:
    assert one_order(["abc", "axc", "xb"])
    assert not one_order(["abc", "cb"])


@given(st.text("aé😀", max_size=8), st.text("aé😀", max_size=8))
def test_rewriting_makes_the_text_read_so(before: str, after: str) -> None:
    document = Document.new(1, "w" * 20)
    document.insert_text(0, before)
    rewrite(document, after)
    assert document.text() == after
    copy = Document.load(document.state(), 2, "v" * 20)
    assert copy.text() == after
    edit = difference(before, after)
    assert (edit is None) == (before == after)
    if edit is not None:
        assert before[: edit.index] + edit.inserted + before[edit.index + edit.deleted :] == after
