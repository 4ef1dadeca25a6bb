"""Mergeable text: edits in code points, merged by Yrs."""

from __future__ import annotations

import pytest

from aico_crdt.crdt.document import Document
from aico_crdt.crdt.text import Edit, difference, perform, rewrite
from aico_crdt.crdt.walker import walk
from aico_crdt.errors import InvalidValue

ANNA, BEN = "a" * 20, "b" * 20


def merge(update: bytes | None, client: int, to: Document) -> None:
    assert update is not None
    known = to.state_vector()
    to.apply(update, walk(update, known, client).after(known))


def test_concurrent_edits_of_one_text_merge() -> None:
    a = Document.new(1, ANNA)
    a.insert_text(0, "I like tea.")
    a.take_update()
    b = Document.load(a.state(), 2, BEN)
    rewrite(a, "I like green tea.")
    rewrite(b, "We like tea.")
    rewrite(b, "We like tea 😀.")
    from_a, from_b = a.take_update(), b.take_update()
    merge(from_a, 1, b)
    merge(from_b, 2, a)
    assert a.text() == b.text() == "We like green tea 😀."
    assert a.content_hash(1) == b.content_hash(1)


def test_keystrokes_taken_together_are_one_small_update() -> None:
    document = Document.new(1, ANNA)
    for i, letter in enumerate("hello 😀 world"):
        document.insert_text(i, letter)
    document.delete_text(5, 2)
    assert document.text() == "hello world"
    update = document.take_update()
    assert update is not None
    assert len(update) < 60
    assert Document.load(update, 2, BEN).text() == "hello world"


@pytest.mark.parametrize(
    ("before", "after", "edit"),
    [
        ("", "", None),
        ("tea", "tea", None),
        ("", "tea", Edit(0, 0, "tea")),
        ("tea", "", Edit(0, 3, "")),
        ("aa", "aaa", Edit(2, 0, "a")),
        ("green tea", "black tea", Edit(0, 5, "black")),
        ("a😀b", "a😁b", Edit(1, 1, "😁")),
    ],
)
def test_the_smallest_edit(before: str, after: str, edit: Edit | None) -> None:
    assert difference(before, after) == edit


def test_an_edit_outside_the_text_is_refused_whole() -> None:
    document = Document.new(1, ANNA)
    document.insert_text(0, "tea")
    with pytest.raises(InvalidValue):
        perform(document, Edit(2, 2, "x"))
    assert document.text() == "tea"
