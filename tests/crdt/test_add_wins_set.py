"""Add-wins sets, on slots."""

from __future__ import annotations

from aico_crdt.crdt.add_wins_set import members, union
from aico_crdt.crdt.document import Document, Slot
from aico_crdt.crdt.register import Field, record

ANNA, BEN = "a" * 20, "b" * 20


def test_the_members_are_sorted_by_code_point() -> None:
    document = Document.new(1, ANNA)
    for element in ("b", "ü", "a", "B", "😀"):
        document.add("tags", element, 1)
    assert members("tags", document.slots()) == ("B", "a", "b", "ü", "😀")
    assert members("others", document.slots()) == ()


def test_the_fold_is_the_union_and_no_conflict() -> None:
    slots = [Slot("tags/x", ANNA, 1, True, None), Slot("tags/x", BEN, 2, True, None)]
    assert record(slots, {"tags": union}) == {"tags": Field(["x"])}


def test_what_a_birth_lists_can_be_discarded_and_added_again() -> None:
    document = Document.new(1, ANNA)
    document.bear({"tags": ["x", "y"]}, 1)
    document.discard("tags", "x", 2)
    assert members("tags", document.slots()) == ("y",)
    document.discard("tags", "x", 3)
    document.add("tags", "x", 4)
    assert members("tags", document.slots()) == ("x", "y")
    document.discard("tags", "x", 5)
    assert members("tags", document.slots()) == ("y",)


def test_a_discard_leaves_nothing_where_no_birth_lists_the_element() -> None:
    document = Document.new(1, ANNA)
    document.add("tags", "x", 1)
    document.discard("tags", "x", 2)
    document.discard("tags", "never", 3)
    assert document.slots() == []


def test_a_discard_spares_a_birth_it_did_not_see() -> None:
    births = [Slot("*", ANNA, 1, {"tags": ["x"]}, None), Slot("*", BEN, 1, {"tags": ["x"]}, None)]
    assert members("tags", [*births, Slot("tags/x", ANNA, 2, False, (ANNA,))]) == ("x",)
    assert members("tags", [*births, Slot("tags/x", ANNA, 2, False, (ANNA, BEN))]) == ()


def test_what_is_no_list_of_texts_counts_for_nothing() -> None:
    births = [Slot("*", ANNA, 1, {"tags": "x"}, None), Slot("*", BEN, 1, {"tags": [1, None, ["x"]]}, None)]
    assert members("tags", births) == ()
