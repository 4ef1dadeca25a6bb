"""Counters, on slots."""

from __future__ import annotations

from aico_crdt.crdt.counter import tally, total
from aico_crdt.crdt.document import Document, Slot
from aico_crdt.crdt.register import Field, record

ANNA, BEN = "a" * 20, "b" * 20


def test_a_writer_keeps_one_slot_with_its_own_total() -> None:
    document = Document.new(1, ANNA)
    for amount in (3, -5, 10):
        document.increment("uses", amount, 1)
    assert document.slots() == [Slot("uses", ANNA, 1, 8, None)]


def test_the_fold_adds_births_and_totals_and_is_no_conflict() -> None:
    slots = [
        Slot("*", ANNA, 1, {"uses": 40}, None),
        Slot("uses", ANNA, 2, 5, None),
        Slot("uses", BEN, 2, -3, None),
    ]
    assert record(slots, {"uses": tally}) == {"uses": Field(42)}


def test_what_is_no_whole_number_counts_for_nothing() -> None:
    slots = [
        Slot("*", ANNA, 1, {"uses": True}, None),
        Slot("uses", ANNA, 2, 1.5, None),
        Slot("uses", BEN, 2, 7, None),
    ]
    assert total("uses", slots) == 7
    assert total("others", slots) == 0
