"""Text updates that a replica accepts read the same on every replica, in whatever order they come."""

from __future__ import annotations

from itertools import product
from typing import Any, Final

import pytest
from pycrdt import Doc, Text

from aico_crdt import ids
from aico_crdt.crdt import Document, foreign
from aico_crdt.crdt.lib0 import write_varuint
from aico_crdt.errors import NotAllowed, PeerError
from aico_crdt.feed import encode_entry
from aico_crdt.store import StoreReplica
from aico_crdt.store.prune import DAY_MS, prune
from aico_crdt.store.verify import verify
from tests.store.conftest import exchange, send
from tests.store.hostile import Hostile, give

AUTHORS: Final = [
    (ids.client_id(bytes([n]) * 32, b"12345678"), ids.writer(bytes([n]) * 32, b"12345678")) for n in range(4)
]
_STRING, _LEFT, _RIGHT = 4, 0x80, 0x40

Places = tuple[int | None, int | None]
"""Clocks of another client's characters: left and right of an insertion."""


def insertion(author: int, other: int, places: Places, letter: str) -> bytes:
    """An update of the client `author` that inserts `letter` between two characters of the client `other`."""
    info, named = _STRING, b""
    for flag, clock in zip((_LEFT, _RIGHT), places, strict=True):
        if clock is not None:
            info |= flag
            named += write_varuint(other) + write_varuint(clock)
    item = bytes([info]) + (named or b"\1\1t") + b"\1" + letter.encode()
    return b"\1\1" + write_varuint(author) + b"\0" + item + b"\0"


def read(*updates: tuple[int, bytes]) -> str:
    """The text of a replica that took those updates, the refused ones left out."""
    document = Document.new(*AUTHORS[3])
    for author, update in updates:
        before = document.encoding()
        try:
            foreign.merge(document, update, *AUTHORS[author])
        except PeerError:
            document = Document.take(before, *AUTHORS[3])
    return document.text()


def bare(*updates: bytes) -> str:
    """What Yrs alone reads."""
    document: Doc[Any] = Doc()
    for update in updates:
        document.apply_update(update)
    return str(document.get("t", type=Text))


def test_hostile_origins_do_not_part_replicas() -> None:
    base = Document.new(*AUTHORS[0])
    base.insert_text(0, "abcd")
    first = base.take_update()
    assert first is not None
    clocks = (None, 0, 1, 2, 3)
    parted = 0
    for left, right, other_left, other_right in product(clocks, repeat=4):
        one = insertion(AUTHORS[1][0], AUTHORS[0][0], (left, right), "X")
        two = insertion(AUTHORS[2][0], AUTHORS[0][0], (other_left, other_right), "Y")
        assert read((0, first), (1, one), (2, two)) == read((0, first), (2, two), (1, one))
        parted += bare(first, one, two) != bare(first, two, one)
    assert parted > 50


def test_nothing_is_put_among_the_values_of_another() -> None:
    """Not before the value that counts either: it would be taken or refused by what came first."""
    honest, hostile = AUTHORS[0], AUTHORS[1]
    writing, document = Document.new(*honest), Document.new(*AUTHORS[3])
    for known, value in enumerate(("one", "two", "three"), 1):
        writing.put_slot("content", value, 1 << 20)
        update = writing.take_update()
        assert update is not None
        foreign.merge(document, update, *honest)
        for left, right in product((None, *range(known)), repeat=2):
            forged = insertion(hostile[0], honest[0], (left, right), "X")
            if left != right:
                with pytest.raises(NotAllowed):
                    foreign.merge(Document.take(document.encoding(), *AUTHORS[3]), forged, *hostile)
    assert [slot.value for slot in document.slots()] == ["three"]


def test_nor_do_they_part_stores(family: Any, clock: Any) -> None:
    """Taken one by one, all at once the other way round, or as a manifest's body; and typed into since."""
    a, b, c, d = family(4)
    d.close()
    base = Hostile(a, b"honestly")
    document = base.document()
    document.bear({"content": "x"}, base.stamp)
    document.insert_text(0, "abcd")
    update = document.take_update()
    assert update is not None
    first = document.state_vector()[base.client] - 4
    entries = [base.update(update, "m")]
    places: list[Places] = [(None, 1), (2, 1), (0, 2), (3, 2), (1, None), (3, 1), (0, 3), (2, 1)]
    for number, (left, right) in enumerate(places):
        evil = Hostile(a, bytes([number]) * 8)
        where = (None if left is None else first + left, None if right is None else first + right)
        entries.append(evil.update(insertion(evil.client, base.client, where, "STUVWXYZ"[number]), "m"))
    for entry in entries:
        assert give(b, entry).applied == 1
    runs = [[encode_entry(entry)] for entry in (entries[0], *reversed(entries[1:]))]
    assert StoreReplica(c).deliver(entries[0].header.tag, runs, a.device).applied == len(entries)
    text = b.text("memory", "m")
    assert (c.text("memory", "m"), c.content_hash()) == (text, b.content_hash())
    for store in (b, c):
        with store.transaction() as tx:
            tx.insert_text("memory", "m", 3, store.device.hex()[:2])
        assert store.get("memory", "m").fields["text"] == store.text("memory", "m")
    exchange(a, b, c)
    d = family.reopen(d)
    clock.ms += 100 * DAY_MS
    prune(b)
    send(b, d)
    assert len({store.text("memory", "m") for store in (a, b, c, d)}) == 1
    assert len({store.content_hash() for store in (a, b, c, d)}) == 1
    for store in (a, b, c, d):
        assert verify(store, refold=True).problems == []
