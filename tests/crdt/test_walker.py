"""The walker against bytes written by hand; expected values come from the Yjs format, not from the reader."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping
from typing import Any

import pytest
from pycrdt import Array, Doc, Map, Text

from aico_crdt.crdt.lib0 import skip_any, write_varuint
from aico_crdt.crdt.walker import (
    ANY,
    DELETED,
    STRING,
    Walked,
    clock_name,
    decode_state_vector,
    encode_state_vector,
    pairs_of,
    walk,
    without_deletes,
)
from aico_crdt.errors import Malformed, NotAllowed, NotYet, PeerError, TooLarge

AUTHOR = 7
OTHER = (1 << 53) - 2
NONE = b"\x00"
"""An empty delete set."""


def update(*structs: bytes, client: int = AUTHOR, clock: int = 0, deletes: bytes = NONE) -> bytes:
    return b"\x01" + run(*structs, client=client, clock=clock) + deletes


def run(*structs: bytes, client: int = AUTHOR, clock: int = 0) -> bytes:
    return varuints(len(structs), client, clock) + b"".join(structs)


def varuints(*values: int) -> bytes:
    return b"".join(write_varuint(value) for value in values)


def string(text: str) -> bytes:
    raw = text.encode()
    return write_varuint(len(raw)) + raw


def field(key: str = "f@me", value: bytes = b"\x7e", root: str = "r") -> bytes:
    return bytes([0x20 | ANY, 1]) + string(root) + string(key) + b"\x01" + value


def after(client: int, clock: int, content: bytes = b"\x08\x01\x7e") -> bytes:
    """An item whose left origin is (client, clock)."""
    return bytes([0x80 | content[0]]) + varuints(client, clock) + content[1:]


def in_text(content: bytes) -> bytes:
    return content[:1] + b"\x01\x01t" + content[1:]


def deletes(*ranges: tuple[int, int, int]) -> bytes:
    return varuints(len(ranges)) + b"".join(varuints(client, 1, clock, size) for client, clock, size in ranges)


def walked(raw: bytes, known: Mapping[int, int] | None = None, author: int | None = AUTHOR, **rest: Any) -> Walked:
    return walk(raw, known or {}, author, **rest)


def refuses(raw: bytes, error: type[PeerError], known: Mapping[int, int] | None = None, **rest: Any) -> None:
    with pytest.raises(error):
        walked(raw, known, **rest)


# What is reported


def test_a_field_set_and_another_deleted_are_reported() -> None:
    seen = walked(update(field("a@me"), field("b@me"), clock=3, deletes=deletes((OTHER, 1, 2))), {AUTHOR: 3, OTHER: 9})
    assert seen.inserted == {AUTHOR: (3, 5)}
    assert seen.deleted == ((OTHER, 1, 2),)
    assert seen.keys == ("a@me", "b@me")
    assert seen.roots == {"r"}
    assert seen.contents == {ANY}
    assert seen.after({AUTHOR: 3, OTHER: 9}) == {AUTHOR: 5, OTHER: 9}
    assert seen.is_fields
    assert not seen.is_text


def test_an_update_without_structs_only_deletes() -> None:
    seen = walked(b"\x00" + deletes((OTHER, 0, 1)), {OTHER: 1})
    assert (seen.inserted, seen.deleted, seen.is_fields) == ({}, ((OTHER, 0, 1),), True)


def test_an_item_that_inherits_a_foreign_key_is_reported() -> None:
    seen = walked(update(after(OTHER, 4)), {OTHER: 5})
    assert seen.inherits == ((OTHER, 4),)
    assert seen.keys == ()
    assert not seen.is_fields


def test_an_item_that_inherits_its_own_key_is_plain() -> None:
    seen = walked(update(field(), after(AUTHOR, 0)))
    assert seen.inherits == ()
    assert seen.is_fields


@pytest.mark.parametrize(
    "struct",
    [
        bytes([ANY]) + b"\x01\x01r\x01\x7e",  # an element, not an entry
        bytes([ANY]) + b"\x00" + varuints(OTHER, 0) + b"\x01\x7e",  # put into an item
        bytes([0x40 | ANY]) + varuints(AUTHOR, 0) + b"\x01\x7e",  # a place before something
        bytes([0x20 | ANY]) + b"\x01\x01r\x01k\x02\x7e\x7e",  # two values under one key
        bytes([0x20 | STRING]) + b"\x01\x01r\x01k\x01x",  # text as a value
    ],
)
def test_whatever_is_more_than_fields_says_so(struct: bytes) -> None:
    assert not walked(update(field(), struct), {OTHER: 1}).is_fields


def test_text_is_told_from_fields() -> None:
    assert walked(update(in_text(b"\x04\x01x"))).is_text
    assert not walked(update(in_text(b"\x08\x01\x7e"))).is_text
    assert not walked(update(bytes([0x20 | STRING]) + b"\x01\x01t\x01k\x01x")).is_text


@pytest.mark.parametrize("text", ["a", "é", "€", "😀", "a😀𝄞é", "e\u0301"])
def test_strings_count_utf16_units(text: str) -> None:
    raw = update(in_text(b"\x04" + string(text)))
    expected = {AUTHOR: len(text.encode("utf-16-le")) // 2}
    assert walked(raw).after({}) == expected
    doc: Doc[Any] = Doc()
    doc.apply_update(raw)
    assert decode_state_vector(doc.get_state()) == expected


@pytest.mark.parametrize(
    ("content", "length"),
    [
        (b"\x01\x05", 5),
        (b"\x03\x02\xff\xfe", 1),
        (b"\x05" + string('{"a": [1, 2.5e3, "\\u00e9"]}'), 1),
        (b"\x06" + string("bold") + string("true"), 1),
        (b"\x07\x00", 1),
        (b"\x07\x03" + string("p"), 1),
        (b"\x08\x02\x75\x02\x7d\x41\x7b" + bytes(8) + b"\x76\x01\x01k\x74\x01x", 2),
    ],
)
def test_every_content_is_read_to_its_end(content: bytes, length: int) -> None:
    assert walked(update(in_text(content))).after({}) == {AUTHOR: length}


# Who may insert where


def test_fault_21_gc_over_anothers_future_clocks_is_refused() -> None:
    eats = bytes.fromhex("010107000005") + b"\x00"
    refuses(eats, NotAllowed, author=8)
    refuses(eats, Malformed, {7: 3}, author=7)  # clocks that are taken
    assert walked(eats, author=7).gc == 1  # its own fresh ones are its own loss


def test_fault_22_deletes_beyond_known_clocks_are_held() -> None:
    raw = b"\x00" + deletes((OTHER, 2, 3))
    for known in ({}, {OTHER: 2}, {OTHER: 4}):
        with pytest.raises(NotYet) as caught:
            walked(raw, known)
        assert (caught.value.missing, caught.value.thing, caught.value.upto) == ("clock", clock_name(OTHER), 5)
    assert walked(raw, {OTHER: 5}).deleted == ((OTHER, 2, 3),)
    assert walked(update(field(), field("g@me"), deletes=deletes((AUTHOR, 0, 2)))).deleted == ((AUTHOR, 0, 2),)
    refuses(update(field(), deletes=deletes((AUTHOR, 0, 2))), NotYet)


def test_fault_23_structs_of_another_client_are_refused() -> None:
    refuses(update(field(), client=OTHER), NotAllowed)
    refuses(b"\x02" + run(field()) + run(field(), client=OTHER) + NONE, NotAllowed)
    assert walked(update(field(), client=OTHER), author=OTHER).inserted == {OTHER: (0, 1)}


def test_what_is_lacking_is_told_at_the_end_by_the_highest_clock_of_one_client() -> None:
    raw = update(after(OTHER, 3), after(OTHER, 7), deletes=deletes((OTHER, 4, 2)))
    with pytest.raises(NotYet) as caught:
        walked(raw, {OTHER: 1})
    assert (caught.value.thing, caught.value.upto) == (clock_name(OTHER), 8)
    assert walked(raw, {OTHER: 8}).deleted
    refuses(raw + b"\0", Malformed, {OTHER: 1})  # it can never become valid
    refuses(update(after(OTHER, 3), deletes=deletes((OTHER, 1 << 31, 1))), Malformed, {OTHER: 1})


def test_clocks_continue_the_known_ones() -> None:
    raw = update(field(), clock=2)
    assert walked(raw, {AUTHOR: 2}).after({AUTHOR: 2}) == {AUTHOR: 3}
    refuses(raw, NotYet, {AUTHOR: 1})
    refuses(raw, NotYet, {AUTHOR: 1}, overlap=True)
    refuses(raw, Malformed, {AUTHOR: 3})
    assert walked(raw, {AUTHOR: 9}, overlap=True).after({AUTHOR: 9}) == {AUTHOR: 9}


def test_origins_are_known_or_earlier() -> None:
    refuses(update(after(OTHER, 3)), NotYet, {OTHER: 3})
    refuses(update(after(AUTHOR, 0)), Malformed)  # itself
    refuses(update(after(AUTHOR, 1), field()), Malformed)  # a later one
    refuses(update(bytes([0x40 | ANY]) + varuints(OTHER, 3) + b"\x01\x7e"), NotYet, {OTHER: 3})
    refuses(update(bytes([ANY]) + b"\x00" + varuints(OTHER, 3) + b"\x01\x7e"), NotYet, {OTHER: 3})


def test_a_place_before_and_after_one_element_is_none() -> None:
    both = bytes([0xC0 | STRING]) + varuints(AUTHOR, 0, AUTHOR, 0) + b"\x01x"
    refuses(update(in_text(b"\x04\x02ab"), both), Malformed)


def test_an_update_begins_a_key_once() -> None:
    """Yrs walks the whole history of a key for each such item: quadratic time. A state may have come to it slowly."""
    refuses(update(field("k"), field("k")), Malformed)
    walked(update(field("k"), field("k", root="s")))
    walked(update(field("k"), field("k")), author=None)


def test_a_parent_is_a_shared_type() -> None:
    child = bytes([ANY]) + b"\x00" + varuints(AUTHOR, 0) + b"\x01\x7e"
    refuses(update(field(), child), Malformed)
    assert walked(update(in_text(b"\x07\x01"), child)).nested == 1


# Whole states


def test_a_whole_state_may_name_many_clients_that_refer_to_each_other() -> None:
    raw = b"\x02" + run(after(2, 0), client=1) + run(field(), after(1, 0), client=2) + NONE
    assert walked(raw, author=None).after({}) == {1: 1, 2: 2}
    doc: Doc[Any] = Doc()
    doc.apply_update(raw)
    assert decode_state_vector(doc.get_state()) == {1: 1, 2: 2}


def test_references_in_a_circle_are_refused() -> None:
    raw = b"\x02" + run(after(2, 0), client=1) + run(after(1, 0), client=2) + NONE
    refuses(raw, Malformed, author=None)
    refuses(b"\x01" + run(after(2, 0), client=1) + NONE, NotYet, author=None)
    refuses(b"\x02" + run(after(2, 5), client=1) + run(field(), client=2) + NONE, NotYet, author=None)


def test_a_client_has_one_run_of_structs_and_not_an_empty_one() -> None:
    refuses(update(deletes=deletes((OTHER, 0, 1))), Malformed, {OTHER: 1})
    refuses(b"\x02" + run(field()) + run(field("g"), clock=1) + NONE, Malformed)
    refuses(b"\x02" + run(field()) + run(field("g")) + NONE, Malformed, author=None)


# Bytes that are not what they claim


def test_fault_27_nesting_bombs_stop_at_64_levels() -> None:
    for opening in (b"\x75\x01", b"\x76\x01\x00"):
        refuses(update(field(value=opening * 20_000 + b"\x7e")), TooLarge)
        refuses(update(field(value=opening * 65 + b"\x7e")), TooLarge)
        walked(update(field(value=opening * 64 + b"\x7e")))
    for depth in (65, 20_000):
        refuses(update(in_text(b"\x05" + string("[" * depth + "]" * depth))), TooLarge)
    walked(update(in_text(b"\x05" + string("[" * 64 + "]" * 64))))
    walked(update(in_text(b"\x05" + string('"' + "[" * 100 + '"'))))


def nested_types(depth: int) -> list[bytes]:
    inner = [bytes([7]) + b"\x00" + varuints(AUTHOR, clock) + b"\x00" for clock in range(depth - 1)]
    return [in_text(b"\x07\x00"), *inner]


def test_fault_27_shared_types_nest_64_deep_and_lie_side_by_side_at_will() -> None:
    walked(update(*nested_types(64)))
    refuses(update(*nested_types(65)), TooLarge)
    siblings = [in_text(b"\x07\x00"), *(after(AUTHOR, clock, b"\x07\x00") for clock in range(200))]
    walked(update(*siblings))
    inherited = [*nested_types(64), after(AUTHOR, 63, b"\x07\x00")]  # beside the deepest
    walked(update(*inherited))
    refuses(update(*inherited, bytes([7]) + b"\x00" + varuints(AUTHOR, 64) + b"\x00"), TooLarge)


HUGE = write_varuint(1 << 28)


@pytest.mark.parametrize(
    "raw",
    [
        HUGE,
        b"\x01" + HUGE + b"\x07\x00\x00",
        b"\x00" + HUGE,
        b"\x00\x01\x07" + HUGE + b"\x00",
        update(field(value=b"\x75" + HUGE)),
        update(field(value=b"\x76" + HUGE)),
        update(field(value=b"\x77" + HUGE)),
        update(field(value=b"\x74" + HUGE)),
        update(b"\x08\x01\x01r" + HUGE + b"\x7e"),
        update(b"\x04\x01\x01r" + HUGE),
        update(b"\x03\x01\x01r" + HUGE),
        update(b"\x04\x01" + HUGE + b"r"),
    ],
)
def test_fault_28_declared_counts_are_never_believed(raw: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Malformed, match=r"more|longer|larger"):  # told from the count, not at the end
            walked(raw)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_fault_28_state_vectors_neither() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Malformed, match="more"):
            decode_state_vector(HUGE)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_fault_29_the_poison_pill_is_refused() -> None:
    """Its second number is the client 27, its third a clock of 49 bits, of which Yrs keeps 32."""
    pill = bytes.fromhex("01021b9ff6e5edbec60700270101020400d29ff6e5edbec60700066e657374656400")
    refuses(pill, NotAllowed)
    refuses(pill, Malformed, author=27)
    refuses(pill, Malformed, author=None)
    wide = update(b"\x00\x01", clock=1 << 31)
    refuses(wide, Malformed)
    refuses(update(b"\x00" + write_varuint((1 << 31) - 1), b"\x00\x01"), Malformed)
    refuses(update(after(OTHER, 1 << 31)), Malformed, {OTHER: 5})


@pytest.mark.parametrize(
    "struct",
    [
        b"\x0a\x05",  # Skip
        in_text(b"\x02\x01\x01x"),  # JSON
        in_text(b"\x09\x01g\x76\x00"),  # subdocument
        in_text(b"\x0b\x00\x00"),  # move
        in_text(b"\x0f"),
        in_text(b"\x18\x01\x7e"),  # a bit that means nothing
        in_text(b"\x07\x05"),  # XML hook
        in_text(b"\x07\x07\x00\x00"),  # weak link
        in_text(b"\x07\x0f"),
        b"\x80",
        b"\x00\x00",
        in_text(b"\x01\x00"),
        in_text(b"\x04\x00"),
        in_text(b"\x08\x00"),
        in_text(b"\x04\x02\xff\xfe"),
        in_text(b"\x04\x03\xed\xa0\x80"),  # a lone surrogate
        field(value=b"\x77\x01\xff"),
        field(value=b"\x76\x01\x01\xff\x7e"),
        field(value=b"\x73"),
        field(value=b"\x80"),
        field(value=b"\x7d" + b"\xff" * 9 + b"\x01"),
        b"\x28\x01\x01\xff\x01k\x01\x7e",
        b"\x28\x02\x01r\x01k\x01\x7e",  # neither a name nor an id
        in_text(b"\x05" + string("{")),
        in_text(b"\x05" + string("NaN")),
        in_text(b"\x05" + string("1e400")),
        in_text(b"\x05" + string("18446744073709551615")),
        in_text(b"\x05" + string('"\\ud800"')),
        in_text(b"\x06" + string("bold") + string("undefined")),
        b"\x08\x81\x00\x01r\x01\x7e",  # 1, spelt in two bytes
        b"\x08\x01\x81\x00r\x01\x7e",
        in_text(b"\x01" + b"\xff" * 8 + b"\x7f"),
    ],
)
def test_structs_that_are_never_valid(struct: bytes) -> None:
    refuses(update(struct), Malformed)


@pytest.mark.parametrize(
    "tail",
    [
        b"\x01\x07\x00",  # a client without ranges
        b"\x01\x07\x01\x00\x00",  # an empty range
        b"\x01\x07\x02\x00\x01\x00\x01",  # overlapping
        b"\x02\x07\x01\x00\x01\x07\x01\x01\x01",  # a client twice
    ],
)
def test_delete_sets_that_are_never_valid(tail: bytes) -> None:
    refuses(update(field(), field("g"), deletes=tail), Malformed)


def test_a_surrogate_pair_is_never_cut() -> None:
    smile = in_text(b"\x04" + string("a😀b"))  # clocks 0, 1-2, 3
    for bad in (
        update(smile, after(AUTHOR, 1, b"\x04\x01x")),
        update(smile, bytes([0x40 | STRING]) + varuints(AUTHOR, 2) + b"\x01x"),
        update(smile, deletes=deletes((AUTHOR, 2, 1))),
        update(smile, deletes=deletes((AUTHOR, 0, 2))),
    ):
        refuses(bad, Malformed)
    walked(update(smile, after(AUTHOR, 2, b"\x04\x01x"), deletes=deletes((AUTHOR, 1, 2))))
    refuses(update(smile), Malformed, {AUTHOR: 2}, overlap=True)
    later = walked(update(after(AUTHOR, 1, b"\x04\x01x"), clock=4), {AUTHOR: 4})
    assert not later.cuts.isdisjoint(pairs_of(update(smile)))


@pytest.mark.parametrize("wide", ["\U00010000", "😀", "\U000fffff", "\U00100000", "\U0010ffff"])
def test_the_pairs_of_a_state_are_found_wherever_they_are(wide: str) -> None:
    text = f"long text, … ￿ and {wide} more"
    place = len(text.split(wide)[0])
    assert pairs_of(update(in_text(b"\x04" + string(text)))) == {(AUTHOR, place + 1)}
    assert pairs_of(update(in_text(b"\x04" + string(text.replace(wide, "￿é"))))) == set()


def test_caps() -> None:
    raw = update(field("a"), field("b"), deletes=deletes((AUTHOR, 0, 1)))
    walked(raw, max_bytes=len(raw), max_structs=3)
    refuses(raw, TooLarge, max_bytes=len(raw) - 1)
    refuses(raw, TooLarge, max_structs=2)
    refuses(raw, TooLarge, max_structs=1)


def test_every_truncation_and_every_further_byte_is_refused() -> None:
    doc: Doc[Any] = Doc(client_id=AUTHOR)
    fields, text, items = doc.get("m", type=Map), doc.get("t", type=Text), doc.get("a", type=Array)
    with doc.transaction():
        fields["k"] = ["é", {"n": 1.5}, None]
        text.insert(0, "hello 😀")
        items.append(Map({"deep": Array([b"x"])}))
        fields["k"] = 2.0
    raw = doc.get_update()
    walked(raw)
    for end in range(len(raw)):
        refuses(raw[:end], Malformed)
    for byte in range(256):
        refuses(raw + bytes([byte]), Malformed)


# Cutting deletes, state vectors, Any


def test_deletes_of_the_losing_branch_are_cut_out() -> None:
    structs = update(field(), field("g"), field("h"), deletes=b"")
    ours, theirs = (AUTHOR, 1, 0, 1), (OTHER, 2, 0, 2, 5, 3)
    raw = structs + b"\x02" + varuints(*theirs) + varuints(*ours)
    assert without_deletes(raw, OTHER, 8) == raw
    assert without_deletes(raw, 99, 0) == raw
    assert without_deletes(raw, OTHER, 6) == structs + b"\x02" + varuints(OTHER, 2, 0, 2, 5, 1) + varuints(*ours)
    assert without_deletes(raw, OTHER, 5) == structs + b"\x02" + varuints(OTHER, 1, 0, 2) + varuints(*ours)
    assert without_deletes(raw, OTHER, 0) == structs + b"\x01" + varuints(*ours)
    assert without_deletes(without_deletes(raw, OTHER, 0), AUTHOR, 0) == structs + NONE


def test_state_vectors() -> None:
    state = {AUTHOR: 3, OTHER: 300}
    doc: Doc[Any] = Doc(client_id=AUTHOR)
    doc.get("m", type=Map)["k"] = 1.0
    assert decode_state_vector(doc.get_state()) == {AUTHOR: 1}
    assert decode_state_vector(encode_state_vector(state)) == state
    for bad in (b"", b"\x01", b"\x01\x07", b"\x00\x00", b"\x02\x07\x01\x07\x02", b"\x01\x07" + write_varuint(1 << 31)):
        with pytest.raises(Malformed):
            decode_state_vector(bad)
    with pytest.raises(TooLarge):
        decode_state_vector(encode_state_vector(state), max_clients=1)


@pytest.mark.parametrize("size", [0, 1, 2, 7, 8])
def test_an_any_never_reaches_past_the_end(size: int) -> None:
    for kind in (123, 122, 124, 116, 119):
        body = bytes([kind]) + (write_varuint(9) if kind in (116, 119) else b"") + bytes(size)
        if kind == 124 and size >= 4:
            continue
        if kind in (122, 123) and size == 8:
            continue
        with pytest.raises((Malformed, IndexError)):
            assert skip_any(body, 0, 64) <= len(body)


def test_contents_have_the_numbers_of_yjs() -> None:
    assert (DELETED, STRING, ANY) == (1, 4, 8)
