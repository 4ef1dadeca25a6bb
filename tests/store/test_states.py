"""Where a state is kept: in the row of what was born and not changed, whole, or with what was typed later beside it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from aico_crdt.errors import Damaged
from aico_crdt.store import layout, states
from aico_crdt.store.prune import compact
from aico_crdt.store.records import DocumentRecord
from aico_crdt.store.verify import verify
from aico_crdt.store.workspace import LATER_FROM_BYTES, MAX_LATER
from tests.store.conftest import exchange
from tests.store.hostile import count

WORDS = "".join(random.Random(1).choice("abcdefgh ") for _ in range(3 * LATER_FROM_BYTES))


def type_(store: Any, index: int, text: str) -> None:
    with store.transaction() as transaction:
        transaction.insert_text("memory", "m", index, text)


def scattered(store: Any, places: int) -> None:
    """Many structs: a text typed here and there."""
    with store.transaction() as transaction:
        for number in range(places):
            transaction.insert_text("memory", "m", number * 3 % 500, f"<{number}>")


@pytest.fixture
def long(family: Any) -> Any:
    (store,) = family(1)
    store.create("memory", {"content": "one"}, id="m")
    type_(store, 0, WORDS)
    return store


def record_of(store: Any, records: Any) -> DocumentRecord:
    collection, key = store.locate(records, "memory", "m")
    return DocumentRecord.unpack(records.get(layout.document(b"D", collection.number, key)) or b"")


def test_what_was_born_keeps_no_state_beside_its_row(family: Any) -> None:
    (store,) = family(1)
    store.create("memory", {"content": "one", "tags": ["b", "a", "b"], "nothing": None}, id="m")
    assert count(store, b"S") == 0
    again = family.open(store.path, 0)
    again.edit("memory", "m", {"other": 1})
    assert count(store, b"S") == 1
    assert store.get("memory", "m").fields["content"] == "one"
    assert verify(store, refold=True).clean


def test_a_keystroke_does_not_write_the_whole_text(long: Any, family: Any) -> None:
    with long.reading() as (_, records):
        slot = record_of(long, records).slot
        before = records.get(layout.life(b"S", slot))
    expected = WORDS
    for number in range(40):
        type_(long, number, "x")
        expected = expected[:number] + "x" + expected[number:]
    with long.reading() as (_, records):
        assert records.get(layout.life(b"S", slot)) == before
        assert len(list(records.scan_raw(layout.life(b"C", slot)))) == 40
        assert len(records.get(layout.life(b"R", slot)) or b"") < 1000
    assert long.text("memory", "m") == expected
    other = family.open(long.path, 0)
    assert other.text("memory", "m") == expected
    assert other.get("memory", "m").fields == long.get("memory", "m").fields
    assert verify(long, refold=True).clean
    type_(other, 0, "y")
    assert long.text("memory", "m") == "y" + expected
    assert count(long, b"C") == 0  # who had not loaded it wrote it whole
    assert verify(long, refold=True).clean


def test_what_is_beside_a_state_is_bounded(long: Any) -> None:
    for number in range(MAX_LATER + 10):
        type_(long, number, "x")
        assert count(long, b"C") <= MAX_LATER
    assert count(long, b"C") < 20
    type_(long, 0, "z" * (2 * LATER_FROM_BYTES))
    assert count(long, b"C") == 0
    assert verify(long, refold=True).clean


def test_a_peer_gets_a_body_and_entries_alike(family: Any, long: Any) -> None:
    type_(long, 5, "later")
    assert count(long, b"C") == 1
    peer = family.join(long, 1)
    exchange(long, peer)
    assert peer.text("memory", "m") == long.text("memory", "m")
    assert peer.content_hash() == long.content_hash()


def test_pruning_folds_what_is_beside_a_state(long: Any) -> None:
    type_(long, 5, "later")
    compact(long)
    assert count(long, b"O") == 0
    assert verify(long, refold=True).clean
    type_(long, 6, "after")
    assert count(long, b"O") == 1
    assert verify(long, refold=True).clean
    compact(long)
    assert verify(long, refold=True).clean
    assert long.text("memory", "m") == WORDS[:5] + "l" + "after" + "ater" + WORDS[5:]


def test_forgetting_leaves_nothing_beside_a_state(long: Any) -> None:
    type_(long, 5, "later")
    long.forget("memory", "m", now=True)
    assert count(long, b"C") == count(long, b"S") == count(long, b"R") == 0
    assert verify(long).clean


def test_a_state_that_is_missing_is_told(long: Any) -> None:
    with long.writing() as workspace:
        record = record_of(long, workspace.records)
        workspace.records.delete(layout.life(b"S", record.slot))
        with pytest.raises(Damaged):
            states.read(long.core, workspace.records, record)


def test_a_long_text_is_in_the_row_though_it_is_not_kept_there(long: Any) -> None:
    row = long.get("memory", "m")
    with long.reading() as (_, records):
        assert len(records.get(layout.life(b"R", record_of(long, records).slot)) or b"") < 1000
    assert WORDS in [value for value in row.fields.values() if isinstance(value, str)]
    assert next(iter(long.rows("memory"))).fields == row.fields


def test_what_is_left_beside_a_state_that_is_gone_is_told(long: Any) -> None:
    type_(long, 5, "later")
    with long.writing() as workspace:
        records = workspace.records
        (place,) = [key for key, _ in records.scan_raw(b"C")]
        records.put(layout.later(record_of(long, records).slot + 1, 0), records.get(place))
    assert [problem.kind for problem in verify(long).problems] == ["document"]
