"""Documents: slots in, one update out; foreign updates in, the same slots everywhere."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pycrdt
import pytest

from aico_crdt.clock import to_text
from aico_crdt.crdt.document import MAX_ELEMENT_BYTES, Document, Slot
from aico_crdt.crdt.walker import walk
from aico_crdt.errors import Closed, InvalidValue, Malformed, NotYet

ANNA, BEN = "anna-phone__1-------", "ben-laptop__1-------"
POISON = bytes.fromhex("01021b9ff6e5edbec60700270101020400d29ff6e5edbec60700066e657374656400")


def anna(**kwargs: Any) -> Document:
    return Document.new(11, ANNA, **kwargs)


def ben(state: bytes = b"\0\0", **kwargs: Any) -> Document:
    return Document.load(state, 22, BEN, **kwargs)


def deliver(update: bytes | None, client: int, to: Document) -> None:
    assert update is not None
    known = to.state_vector()
    to.apply(update, walk(update, known, client).after(known))


def from_root(entries: dict[str, Any]) -> Document:
    """A document whose root map holds `entries`, as a peer without our rules would have made it."""
    doc: pycrdt.Doc[Any] = pycrdt.Doc(client_id=99)
    doc["r"] = pycrdt.Map(entries)
    return ben(doc.get_update())


# One update for what was done


def test_a_record_is_born_as_one_slot_and_one_update() -> None:
    document = anna()
    document.bear({"text": "hello", "at": 1}, 5)
    update = document.take_update()
    assert update is not None
    assert walk(update, {}, 11).keys == (f"*@{ANNA}",)
    assert document.slots() == [Slot("*", ANNA, 5, {"at": 1, "text": "hello"}, None)]
    assert document.take_update() is None


def test_several_operations_are_one_update() -> None:
    document = anna()
    document.bear({"text": "hello"}, 1)
    document.set("text", "hi", 2)
    assert len(document.slots()) == 2  # reading in between does not split it
    document.add("tags", "tea", 3)
    document.state()  # nor does saving
    document.increment("uses", 2, 4)
    other = ben()
    deliver(document.take_update(), 11, other)
    assert document.take_update() is None
    assert other.slots() == document.slots()
    assert other.content_hash(1) == document.content_hash(1)


def test_an_update_taken_from_the_event_does_not_repeat_old_deletions() -> None:
    document = anna()
    for i in range(300):
        document.add("tags", f"tag{i}", 1)
        document.discard("tags", f"tag{i}", 2)
    document.take_update()
    document.add("tags", "last", 3)
    document.take_update()
    document.discard("tags", "last", 4)
    update = document.take_update()
    assert update is not None
    assert len(update) < 20


def test_a_refused_operation_changes_nothing() -> None:
    document = anna()
    document.bear({"text": "hello"}, 1)
    document.increment("uses", 2**53 - 1, 1)
    document.take_update()
    before = document.content_hash(1)
    refused: list[Callable[[], None]] = [
        lambda: document.set("text", float("nan"), 2),
        lambda: document.set("Text", 1, 2),
        lambda: document.set("*", {}, 2),
        lambda: document.set("a/b", 1, 2),
        lambda: document.set("text", 1, -1),
        lambda: document.set("text", 1, 2**64),
        lambda: document.bear({"text": "again"}, 2),
        lambda: document.add("tags", "", 2),
        lambda: document.add("tags", "é" * MAX_ELEMENT_BYTES, 2),
        lambda: document.increment("uses", 1, 2),
        lambda: document.increment("uses", True, 2),
        lambda: document.increment("uses", 1.5, 2),  # type: ignore[arg-type]
        lambda: document.insert_text(1, "x"),
        lambda: document.insert_text(0, "\ud800"),
        lambda: document.delete_text(0, 1),
        lambda: document.delete_text(0, -1),
    ]
    for operation in refused:
        with pytest.raises(InvalidValue):
            operation()
    assert document.take_update() is None
    assert document.content_hash(1) == before


@pytest.mark.parametrize(("client", "writer"), [(0, ANNA), (2**53, ANNA), (1, "short"), (1, "@" * 20)])
def test_a_writer_needs_a_client_id_and_a_name(client: int, writer: str) -> None:
    with pytest.raises(InvalidValue):
        Document.new(client, writer)


# Slots


def test_a_write_replaces_what_it_saw_and_keeps_what_it_did_not() -> None:
    a = anna()
    a.bear({"text": "hello"}, 1)
    a.set("text", "one", 2)
    a.take_update()
    b = ben(a.state())
    a.set("text", "two", 3)
    b.set("text", "three", 3)
    deliver(b.take_update(), 22, a)
    assert [s.value for s in a.slots() if s.name == "text"] == ["two", "three"]
    a.set("text", "settled", 4)
    assert [s.value for s in a.slots() if s.name == "text"] == ["settled"]


def test_an_edit_says_which_births_it_saw_only_where_there_may_be_several() -> None:
    once, often = anna(), anna(derived=True)
    for document in (once, often):
        document.bear({"text": "hello"}, 1)
        document.set("text", "hi", 2)
    assert [s.seen for s in once.slots()] == [None, None]
    assert [s.seen for s in often.slots()] == [None, (ANNA,)]


def test_putting_a_slot_touches_no_other() -> None:
    a = anna()
    a.put_slot("reading", 1, 1)
    b = ben(a.state())
    b.put_slot("reading", 2, 2)
    b.put_slot("reading", 3, 3)
    assert [(s.writer, s.value) for s in b.slots()] == [(ANNA, 1), (BEN, 3)]


def test_elements_may_hold_anything_that_separates_slots() -> None:
    document = anna()
    for element in ("a", "a@" + "b" * 20, "a/b", "@", "/"):
        document.add("tags", element, 1)
    document.discard("tags", "a", 2)
    assert [s.element for s in document.slots()] == ["/", "@", "a/b", "a@" + "b" * 20]
    assert {s.field for s in document.slots()} == {"tags"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (f"Text@{BEN}", [to_text(1), "x"]),
        (f"text@{BEN[:-1]}", [to_text(1), "x"]),
        ("text", [to_text(1), "x"]),
        (f"text@{BEN}", "x"),
        (f"text@{BEN}", ["soon", "x"]),
        (f"text@{BEN}", [to_text(1)]),
        (f"text@{BEN}", [to_text(1), "x", [], 1]),
        (f"text@{BEN}", [to_text(1), "x", [BEN, ANNA]]),
        (f"text@{BEN}", [to_text(1), "x", [BEN, BEN]]),
        (f"text@{BEN}", [to_text(1), "x", ["me"]]),
        (f"text@{BEN}", [to_text(1), float("nan")]),
        (f"*@{BEN}", [to_text(1), "x"]),
        (f"*@{BEN}", [to_text(1), {"No": 1}]),
        (f"*@{BEN}", [to_text(1), {}, [BEN]]),
        (f"tags/tea@{BEN}", [to_text(1), 1]),
        (f"tags/tea@{BEN}", [to_text(1), True, []]),
        (f"tags/@{BEN}", [to_text(1), True]),
        (f"*/tea@{BEN}", [to_text(1), True]),
        (f"text@{BEN}", pycrdt.Map({"nested": 1})),
    ],
)
def test_what_is_no_slot_is_skipped_and_counted(key: str, value: Any) -> None:
    document = from_root({key: value, f"note@{BEN}": [to_text(1), "kept"]})
    assert document.slots() == [Slot("note", BEN, 1, "kept", None)]
    assert document.malformed == 1
    assert document.content_hash(1) == from_root({f"note@{BEN}": [to_text(1), "kept"]}).content_hash(1)


# Equality


def test_the_content_hash_sees_content_and_nothing_else() -> None:
    def written(text: str, order: int) -> Document:
        document = anna()
        for field in ("one", "two")[::order]:
            document.set(field, {"x": 1, "y": 2.0}, 1)
        document.insert_text(0, text)
        return document

    base = written("t", 1)
    assert base.content_hash(1) == written("t", -1).content_hash(1)
    assert base.state() != written("t", -1).state()
    changed = [written("u", 1), written("t", 1), written("t", 1)]
    changed[1].set("one", {"x": 1, "y": 2}, 2)  # only the stamp
    changed[2].set("three", 1, 1)
    hashes = {document.content_hash(1) for document in (base, *changed)} | {base.content_hash(2)}
    assert len(hashes) == 5
    assert len(base.content_hash(1)) == 32


# Bytes from elsewhere


def test_an_update_ahead_of_its_dependency_is_held_and_the_document_dropped() -> None:
    a = anna()
    a.set("text", 1, 1)
    a.take_update()
    a.set("text", 2, 2)
    second = a.take_update()
    assert second is not None
    b = ben()
    with pytest.raises(NotYet) as caught:
        b.apply(second, {11: 2})
    assert caught.value.missing == "clock"
    calls: list[Callable[[], object]] = [
        b.slots,
        b.text,
        b.state,
        b.state_vector,
        b.take_update,
        lambda: b.set("text", 1, 1),
        lambda: b.insert_text(0, "x"),
        lambda: b.apply(second, {11: 2}),
        lambda: b.content_hash(1),
    ]
    for call in calls:
        with pytest.raises(Closed):
            call()


@pytest.mark.parametrize("update", [b"", b"\x01", b"\x01\x99", b"\xff" * 40])
def test_broken_bytes_are_malformed(update: bytes) -> None:
    with pytest.raises(Malformed):
        ben().apply(update, {})
    with pytest.raises(Malformed):
        ben(update)


def test_fault_a_panic_of_yrs_becomes_malformed() -> None:
    predicted = ben(POISON).state_vector()
    document = ben()
    document.apply(POISON, predicted)  # accepted: what is wrong shows only when the document is encoded
    with pytest.raises(Malformed):
        document.state()
    with pytest.raises(Closed):
        document.state()


def test_a_foreign_update_is_not_taken_for_our_own() -> None:
    a, b = anna(), ben()
    a.set("text", 1, 1)
    b.set("note", 2, 1)
    deliver(a.take_update(), 11, b)
    update = b.take_update()
    assert update is not None
    assert walk(update, {}, 22).keys == (f"note@{BEN}",)
    deliver(update, 22, a)
    assert a.content_hash(1) == b.content_hash(1)


# Growth and life time: the facts the layout stands on


def test_rewriting_a_slot_does_not_grow_the_document() -> None:
    a, b = anna(), ben()
    for i in range(500):
        a.set("text", i, i)
        deliver(a.take_update(), 11, b)
        b.set("text", i, i)
        deliver(b.take_update(), 22, a)
    assert len(a.state()) < 120
    assert a.slots() == b.slots()


def test_a_dropped_document_is_freed() -> None:
    document = anna()
    document.set("text", 1, 1)
    document.take_update()
    gone = weakref.ref(document)
    gc.disable()
    try:
        del document
        assert gone() is None  # no cycle: not even through the callback that Rust holds
    finally:
        gc.enable()
