"""Mergeable text: edits in code points, merged by Yrs."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from aico_crdt.crdt.document import Document
from aico_crdt.crdt.text import Edit, difference, perform, replay, rewrite
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


@pytest.mark.parametrize("name", ["friendsforever", "clownschool"])
def test_people_typing_at_once_end_with_the_recorded_text(name: str, shared_data: Callable[[str], Path]) -> None:
    """Real keystrokes (github.com/josephg/editing-traces) with the causal past of each, through three replicas."""
    with gzip.open(shared_data(f"{name}.json.gz")) as file:
        trace = json.load(file)
    edits = trace["txns"]
    replicas = [Document.new(1 + agent, f"{agent:020}") for agent in range(3)]  # concurrent text: lower ids first
    known: list[set[int]] = [set() for _ in replicas]
    updates: list[bytes | None] = []

    def catch_up(agent: int, wanted: list[int]) -> None:
        missing: set[int] = set()
        while wanted:
            edit = wanted.pop()
            if edit not in known[agent] and edit not in missing:
                missing.add(edit)
                wanted += edits[edit]["parents"]
        for edit in sorted(missing):  # in the file parents stand before their children
            merge(updates[edit], 1 + edits[edit]["agent"], replicas[agent])
        known[agent] |= missing

    for number, edit in enumerate(edits):
        agent = edit["agent"]
        catch_up(agent, list(edit["parents"]))
        for index, deleted, inserted in edit["patches"]:
            perform(replicas[agent], Edit(index, deleted, inserted))
        updates.append(replicas[agent].take_update())
        known[agent].add(number)
    for agent in range(3):
        catch_up(agent, list(range(len(edits))))
    assert {replica.text() for replica in replicas} == {trace["endContent"]}
    assert len({replica.content_hash(1) for replica in replicas}) == 1


@pytest.mark.parametrize(
    ("before", "after", "now", "expected"),
    [
        ("", "hello", "other", "helloother"),
        ("one two", "one more two", "one two three", "one more two three"),
        ("one two", "one", "ONE two", "ONE"),
        ("abcdef", "aXf", "abCDef", "aCDXf"),
        ("abcdef", "abXYef", "aef", "aXYef"),
        ("abc", "abc", "xyz", "xyz"),
    ],
)
def test_an_edit_is_carried_out_on_what_became_of_its_text(before: str, after: str, now: str, expected: str) -> None:
    document = Document.new(1, "A" * 20)
    document.insert_text(0, now)
    replay(document, before, after)
    assert document.text() == expected
