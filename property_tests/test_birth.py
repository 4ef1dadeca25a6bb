"""A birth read and written without Yrs is what the walker, Yrs and the slots make of it."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aico_crdt.crdt import BORN, Document, foreign, plain
from aico_crdt.crdt.birth import MAX_BIRTH_BYTES, Birth, read_birth, write_birth
from aico_crdt.crdt.document import content_hash
from aico_crdt.errors import AicoError
from property_tests.mutations import damaged

CLIENT, WRITER = 0x1F_FFFF_FFFF_FFFF, "AAAAAAAAAAAAbbbbbbb_"
OTHER_CLIENT, OTHER_WRITER = 7, "BBBBBBBBBBBBccccccc-"

names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
    | st.binary(max_size=200)
)
keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
anything = st.recursive(
    scalars, lambda v: st.lists(v, max_size=4) | st.dictionaries(keys, v, max_size=4), max_leaves=12
)
records = st.dictionaries(names, anything, max_size=8).map(plain)
stamps = st.integers(0, (1 << 64) - 1)


def slow(update: bytes) -> Document | None:
    """The document that the long way makes of `update` alone; None when it refuses."""
    document = Document.new(1, OTHER_WRITER)
    try:
        foreign.merge(document, update, CLIENT, WRITER)
        document.state()
    except AicoError:
        return None
    return document


def said(document: Document) -> list[tuple[str, str, int, Any, Any]]:
    return [(s.name, s.writer, s.hlc, s.value, s.seen) for s in document.slots()]


@settings(deadline=None, max_examples=150)
@given(records, stamps)
def test_what_is_written_here_is_what_yrs_reads(record: dict[str, Any], stamp: int) -> None:
    update = write_birth(CLIENT, WRITER, Birth(stamp, record))
    document = slow(update)
    assert document is not None
    assert said(document) == [(BORN, WRITER, stamp, record, None)]
    assert document.text() == ""
    assert document.state_vector() == {CLIENT: 1}
    assert document.content_hash(3) == content_hash(document.slots(), "", 3)
    if len(update) <= MAX_BIRTH_BYTES:
        assert read_birth(update, CLIENT, WRITER) == Birth(stamp, record)
        assert list(read_birth(update, CLIENT, WRITER).record) == sorted(record)  # type: ignore[union-attr]


@settings(deadline=None, max_examples=100)
@given(records, stamps)
def test_what_yrs_writes_is_read_here(record: dict[str, Any], stamp: int) -> None:
    document = Document.new(CLIENT, WRITER)
    document.bear(record, stamp)
    update = document.take_update()
    assert update is not None
    if len(update) <= MAX_BIRTH_BYTES:
        assert read_birth(update, CLIENT, WRITER) == Birth(stamp, record)
    # A document that goes on from either is the same.
    again = Document.load(write_birth(CLIENT, WRITER, Birth(stamp, record)), OTHER_CLIENT, OTHER_WRITER)
    other = Document.load(update, OTHER_CLIENT, OTHER_WRITER)
    for one in (again, other):
        one.set("later", 1, stamp // 2)
    assert again.content_hash(1) == other.content_hash(1)


@settings(deadline=None, max_examples=250)
@given(st.integers(0, 1 << 30), records, stamps)
def test_whatever_is_read_here_the_long_way_reads_alike(seed: int, record: dict[str, Any], stamp: int) -> None:
    """Mutated bytes: the short way may pass, and then leaves them to the long way; it never says something else."""
    rng = random.Random(seed)
    update = write_birth(CLIENT, WRITER, Birth(stamp, record))
    for _ in range(20):
        broken = damaged(rng, update, update)
        found = read_birth(broken, CLIENT, WRITER)
        if found is not None:
            document = slow(broken)
            assert document is not None, "the long way refuses it"
            assert said(document) == [(BORN, WRITER, found.hlc, found.record, None)]
            assert plain(found.record) == found.record


def test_the_birth_of_another_is_not_read() -> None:
    update = write_birth(CLIENT, WRITER, Birth(5, {"a": 1}))
    assert read_birth(update, CLIENT, WRITER) is not None
    assert read_birth(update, OTHER_CLIENT, WRITER) is None
    assert read_birth(update, CLIENT, OTHER_WRITER) is None
    assert read_birth(update + b"\0", CLIENT, WRITER) is None
    assert read_birth(update[:-1], CLIENT, WRITER) is None


VALUES = {
    "an integer padded": b"\x7d\x81\x80\x00",
    "an integer beyond 53 bits": b"\x7d\xbf\xff\xff\xff\xff\xff\xff\x7f",
    "the greatest integer": b"\x7d\xbf\xff\xff\xff\xff\xff\xff\x1f",
    "not a number": b"\x7b\x7f\xf8\0\0\0\0\0\0",
    "minus zero": b"\x7b\x80\0\0\0\0\0\0\0",
    "minus zero as an integer": b"\x7d\x40",
    "a short float": b"\x7c\x3f\xc0\0\0",
    "undefined": b"\x7f",
    "a big integer": b"\x7a\0\0\0\0\0\0\0\1",
    "a key twice": b"\x76\x02\x01a\x7d\1\x01a\x7d\2",
    "keys unsorted": b"\x76\x02\x01b\x7d\1\x01a\x7d\2",
    "a length in two bytes for one": b"\x77\x81\0a",
    "a length in three bytes": b"\x77\x80\x80\x01" + b"x" * 16384,
    "a length of three bytes for two": b"\x77\xff\x81\0" + b"x" * 255,
    "text that is not": b"\x77\1\xff",
    "a surrogate": b"\x77\3\xed\xa0\x80",
    "as deep as can be": b"\x75\1" * 15 + b"\x7e",
    "too deep": b"\x75\1" * 16 + b"\x7e",
    "more than there is": b"\x75\x7f\x7e",
}


@pytest.mark.parametrize("name", VALUES)
def test_an_unusual_value_is_what_the_long_way_makes_of_it(name: str) -> None:
    update = write_birth(CLIENT, WRITER, Birth(5, {"a": None})).replace(b"\x01a\x7e", b"\x01a" + VALUES[name])
    found, document = read_birth(update, CLIENT, WRITER), slow(update)
    if found is not None:
        assert document is not None
        assert said(document) == [(BORN, WRITER, 5, found.record, None)]
