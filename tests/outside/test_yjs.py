"""An outside reader: npm's yjs reads what we write, and we read what it writes."""

from __future__ import annotations

import random
from typing import Any

import pytest

from aico_crdt import clock as stamps
from aico_crdt import ids
from aico_crdt.crdt import Document, Slot, foreign
from aico_crdt.crdt.birth import Birth, write_birth
from aico_crdt.crdt.walker import walk
from aico_crdt.store import DocumentStore, layout, states
from aico_crdt.store.records import DocumentRecord
from property_tests.yjs_histories import history
from tests.outside.conftest import INSTALLED
from tests.store.hostile import Hostile, give

if not INSTALLED:
    pytest.skip("no Node.js, or npm could not install yjs (see `make test`)", allow_module_level=True)

WRITERS = [(ids.client_id(bytes([n]) * 32, b"12345678"), ids.writer(bytes([n]) * 32, b"12345678")) for n in range(3)]
VALUES: list[Any] = [
    None, True, 0, -1, 63, 64, 127, 128, 8191, 8192, (1 << 31) - 1, 1 << 31, -(1 << 31), (1 << 53) - 1, 1 - (1 << 53),
    0.5, -0.1, 1e300, 5e-324, "", "é€😀", "x" * 200, [], [[1, {"a": None}], "b"], {}, {"k": {"": [True]}},
    b"", b"\0\xff",
]  # fmt: skip
PLAIN = [value for value in VALUES if not isinstance(value, bytes)]


def seen(slots: list[Slot]) -> dict[str, Any]:
    """The root map as anybody reads it."""
    shown = {}
    for slot in slots:
        value = [stamps.to_text(slot.hlc), slot.value]
        shown[f"{slot.name}@{slot.writer}"] = value if slot.seen is None else [*value, list(slot.seen)]
    return shown


def edited(seed: int, steps: int = 30) -> Document:
    """A document that three writers have edited at once, in all ways there are."""
    rng = random.Random(seed)
    copies = [Document.new(*writer, derived=seed % 2 == 1) for writer in WRITERS]
    for step in range(1, steps):
        at = rng.randrange(3)
        document, hlc = copies[at], step << 20
        match rng.randrange(7):
            case 0 if not document.slots():
                document.bear({"content": rng.choice(PLAIN), "tags": ["a", "b"]}, hlc)
            case 0 | 1:
                document.set(rng.choice(("content", "note")), rng.choice(PLAIN), hlc)
            case 2:
                document.add("tags", rng.choice("abcé"), hlc)
            case 3:
                document.discard("tags", rng.choice("abcé"), hlc)
            case 4:
                document.increment("count", rng.randrange(-50, 50), hlc)
            case 5:
                document.insert_text(rng.randint(0, len(document.text())), rng.choice(("hello ", "é", "😀", "𝄞z")))
            case _ if document.text():
                document.delete_text(rng.randrange(len(document.text())), 1)
        update = document.take_update()
        for other in range(3):
            if other != at and update is not None:  # each hears each at once: what is concurrent is in test_text
                foreign.merge(copies[other], update, *WRITERS[at])
    return copies[0]


@pytest.mark.parametrize("seed", range(12))
def test_yjs_reads_what_we_write(yjs: Any, seed: int) -> None:
    document = edited(seed)
    answer = yjs.read(document.state())
    assert answer["slots"] == seen(document.slots())
    assert answer["text"] == document.text()
    assert dict(answer["clocks"]) == document.state_vector()
    assert not answer["pending"]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_yjs_reads_each_value_as_it_is(yjs: Any, value: Any) -> None:
    """Also in a birth, which is written without Yrs."""
    document = Document.new(*WRITERS[0])
    document.set("content", value, 1 << 20)
    born = write_birth(*WRITERS[0], Birth(1 << 20, {"content": value}))
    (slot,) = yjs.read(document.state())["slots"].values()
    (birth,) = yjs.read(born)["slots"].values()
    told = {"$bytes": value.hex()} if isinstance(value, bytes) else value
    assert slot == [stamps.to_text(1 << 20), told]
    assert birth == [stamps.to_text(1 << 20), {"content": told}]


def state_of(store: DocumentStore, document: str) -> bytes:
    """A document's state as the store keeps it."""
    where = store.directory.find("own", "memory")
    assert where is not None
    key = store.directory.spaces["own"].document_key("memory", document)
    with store.reading() as (core, records):
        stored = records.get(layout.document(b"D", where.number, key))
        assert stored is not None
        state = states.find(core, records, DocumentRecord.unpack(stored))
    assert state is not None
    return state


def test_a_document_of_a_store_opens_in_yjs_and_what_yjs_writes_opens_in_a_store(family: Any, yjs: Any) -> None:
    """Under the client id of an admitted device, in an entry that it signs."""
    a, b = family(2)
    a.create("memory", {"content": "ours", "n": 3}, id="m")
    with a.transaction() as tx:
        tx.insert_text("memory", "m", 0, "we wrote 😀")
    before = yjs.read(state_of(a, "m"))
    assert before["text"] == "we wrote 😀"
    assert [value[1] for key, value in before["slots"].items()] == [{"content": "ours", "n": 3}]

    theirs = Hostile(b, b"with yjs")
    stamp = stamps.to_text(theirs.stamp)
    update, text = yjs.write(
        theirs.client, state_of(a, "m"),
        ("set", f"content@{theirs.writer}", [stamp, {"theirs": [1, 2.5, None, "é"]}]),
        ("insert", 3, "and they "), ("delete", 0, 3),
    )  # fmt: skip
    assert give(a, theirs.update(update, "m")).applied == 1
    row = a.get("memory", "m")
    assert row.fields["content"] == {"theirs": [1, 2.5, None, "é"]}
    assert a.text("memory", "m") == text == "and they wrote 😀"

    again = yjs.read(state_of(a, "m"))
    assert again["text"] == text
    assert again["slots"][f"content@{theirs.writer}"] == [stamp, {"theirs": [1, 2.5, None, "é"]}]

    born, _ = yjs.write(theirs.client, b"\0\0", ("set", f"*@{theirs.writer}", [stamp, {"content": "born", "n": -4}]))
    assert give(a, theirs.update(born, "new")).applied == 1
    assert a.get("memory", "new").fields == {"content": "born", "n": -4}


@pytest.mark.parametrize("seed", range(8))
def test_a_text_written_at_once_reads_the_same_in_yjs(yjs: Any, seed: int) -> None:
    rng = random.Random(seed)
    base = Document.new(*WRITERS[0])
    base.insert_text(0, "the beginning ")
    state = base.state()
    updates = [state]
    for writer in WRITERS:
        document = Document.load(state, *writer)
        for _ in range(5):
            document.insert_text(rng.randint(0, len(document.text())), rng.choice(("a", "bc", "é😀")))
            document.delete_text(rng.randrange(len(document.text())), 1)
        update = document.take_update()
        assert update is not None
        updates.append(update)
    order = [1, 2, 3]
    rng.shuffle(order)
    merged = Document.load(state, *WRITERS[0])
    for at in order:
        foreign.merge(merged, updates[at], *WRITERS[at - 1])
    rng.shuffle(order)
    assert yjs.read(state, *(updates[at] for at in order))["text"] == merged.text()
    assert yjs.read(merged.state())["text"] == merged.text()


@pytest.mark.parametrize("seed", range(30))
def test_the_walker_yjs_and_yrs_agree_on_what_an_update_says(yjs: Any, seed: int) -> None:
    """Clients, clocks, lengths and deletions; what Yrs makes of it, `property_tests/test_walker.py` compares."""
    for before, update, author in history(seed):
        known = walk(before, {}, None).after({})
        walked = walk(update, known, author, overlap=author is None)
        told = yjs.decode(update)
        spans: dict[int, tuple[int, int]] = {}
        for client, at, length in told["structs"]:
            first, end = spans.get(client, (at, at))
            assert at == end
            spans[client] = (first, at + length)
        assert spans == walked.inserted
        assert sorted(map(tuple, told["deletes"])) == sorted(walked.deleted)
        after = yjs.read(before, update)
        assert dict(after["clocks"]) == {client: end for client, end in walked.after(known).items() if end}
        assert not after["pending"]
