"""Entries: their bytes, built a second time by hand from the drawing; what proves them; what is refused."""

from __future__ import annotations

import dataclasses
import re
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgpack
import pytest
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt
from nacl.signing import SigningKey

from aico_crdt.errors import BadSignature, BrokenChain, InvalidValue, Malformed, TooLarge
from aico_crdt.feed import (
    GENESIS,
    Entry,
    Erase,
    Erased,
    Head,
    Header,
    Operation,
    check_items,
    decode_entry,
    encode_entry,
    item_mark,
    open_item,
    verify_entry,
    verify_head,
    verify_run,
    write_entry,
)
from aico_crdt.feed.header import MAX_ITEMS, NO_MARK

DOCS = Path(__file__).resolve().parents[2] / "docs"


def golden_entry() -> Entry:
    key = SigningKey(bytes(range(32)))
    return write_entry(
        family=b"\x11" * 16,
        tag=b"\x22" * 16,
        device=bytes(key.verify_key),
        incarnation=b"\x33" * 8,
        seq=2,
        prev=b"\x44" * 32,
        deps=[Head(b"\x55" * 32, b"\x66" * 8, 7, b"\x77" * 32)],
        hlc=0x0190_0000_0000_0001,
        key_id=b"\x88" * 8,
        key=b"\x99" * 32,
        erase=[Erase(b"\xaa" * 32, b"\xbb" * 8, 300, 1, b"\xcc" * 32)],
        operations=[Operation("doc", 1, "update", b"\xde\xad")],
        marks=[item_mark(b"\xab" * 32, b"\xd0" * 16, 1, bytes(key.verify_key), b"\x33" * 8, 2, 0)],
        sign=lambda message: key.sign(message).signature,
        random=lambda count: b"\xee" * count,
    )


def golden_bytes() -> bytes:
    """The same entry put together by hand, with the cryptography named in the drawing and nothing of the library."""
    key = SigningKey(bytes(range(32)))

    def short(value: bytes) -> bytes:
        return b"\xc4" + bytes([len(value)]) + value

    prefix = (
        b"\x9b"
        + b"\x01"
        + short(b"\x11" * 16)
        + short(b"\x22" * 16)
        + short(bytes(key.verify_key))
        + short(b"\x33" * 8)
        + b"\x02"
        + short(b"\x44" * 32)
        + (b"\x91" + b"\x94" + short(b"\x55" * 32) + short(b"\x66" * 8) + b"\x07" + short(b"\x77" * 32))
        + (b"\xcf" + bytes.fromhex("0190000000000001"))
        + short(b"\x88" * 8)
        + b"\x91"
        + (b"\x95" + short(b"\xaa" * 32) + short(b"\xbb" * 8) + b"\xcd\x01\x2c" + b"\x01" + short(b"\xcc" * 32))
    )
    plain = b"\x00" + b"\x94" + b"\xa3doc" + b"\x01" + b"\xa6update" + short(b"\xde\xad")
    nonce = b"\xee" * 24
    item = nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(plain, prefix + bytes(4), nonce, b"\x99" * 32)
    item_hash = blake2b(item, digest_size=32, person=b"aico.item.1").digest()
    place = (1).to_bytes(8, "big") + (2).to_bytes(8, "big") + (0).to_bytes(4, "big")
    of = b"\xd0" * 16 + bytes(key.verify_key) + b"\x33" * 8 + place
    mark = blake2b(of, digest_size=16, key=b"\xab" * 32, person=b"aico.mark.1").digest()
    raw = (
        b"\x92"
        + b"\xc5"
        + len(prefix).to_bytes(2, "big")
        + prefix
        + b"\x91\x93"
        + short(item_hash)
        + bytes([len(item)])
        + short(mark)
    )
    header_hash = blake2b(raw, digest_size=32, person=b"aico.header.1").digest()
    place = b"\x11" * 16 + b"\x22" * 16 + b"\x33" * 8 + (2).to_bytes(8, "big")
    signature = key.sign(b"aico-crdt entry 1\0" + place + header_hash).signature
    return b"\x93" + b"\xc5" + len(raw).to_bytes(2, "big") + raw + short(signature) + b"\x91" + short(item)


def test_an_entry_is_written_byte_by_byte_as_drawn() -> None:
    assert encode_entry(golden_entry()) == golden_bytes()


def test_the_bytes_in_the_documentation_are_the_real_ones() -> None:
    """The drawing's left column, put together, is the golden entry."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))]
    blocks = [found[1] for text in texts for found in re.finditer(r"```golden-entry\n(.*?)```", text, re.DOTALL)]
    assert len(blocks) == 1
    drawn = "".join(re.match(r"((?:[0-9a-f]{2} ?)*)", line)[1] for line in blocks[0].splitlines())  # type: ignore[index]
    assert bytes.fromhex(drawn) == golden_bytes()


def test_what_is_encoded_is_decoded_and_opens(anna: Any, key: bytes) -> None:
    for payloads in ((), (b"x",), (b"one", b"two" * 500, b"")):
        entry = anna.write(*payloads)
        again = decode_entry(encode_entry(entry))
        assert again == entry
        verify_entry(again)
        opened = [open_item(again.header, place, sealed, key).payload for place, sealed in enumerate(again.items)]
        assert opened == list(payloads)


def drawn(header: Header) -> bytes:
    """What a signature covers, from the drawing."""
    place = header.family + header.tag + header.incarnation + header.seq.to_bytes(8, "big")
    return b"aico-crdt entry 1\0" + place + header.hash


def test_the_signature_is_by_the_device_over_place_and_header_hash(anna: Any) -> None:
    entry = anna.write(b"x")
    anna.signing_key.verify_key.verify(drawn(entry.header), entry.signature)


def test_a_head_is_proven_by_its_signature_alone(anna: Any) -> None:
    entry = anna.write(b"x")
    header, head = entry.header, entry.header.head
    verify_head(header.family, header.tag, head, entry.signature)
    for family, tag, other in (
        (b"f" * 16, header.tag, head),
        (header.family, b"t" * 16, head),
        (header.family, header.tag, head._replace(seq=2)),
        (header.family, header.tag, head._replace(incarnation=b"J" * 8)),
        (header.family, header.tag, head._replace(hash=b"h" * 32)),
        (header.family, header.tag, head._replace(device=bytes(32))),
    ):
        with pytest.raises(BadSignature):
            verify_head(family, tag, other, entry.signature)


def test_a_signature_by_another_device_is_refused(anna: Any, ben: Any) -> None:
    entry = anna.write(b"x")
    other = dataclasses.replace(entry, signature=ben.sign(drawn(entry.header)))
    with pytest.raises(BadSignature):
        verify_entry(other)


def test_erased_items_still_verify(anna: Any, key: bytes) -> None:
    entries = [anna.write(b"one", b"two"), anna.write(b"three")]
    whole = [encode_entry(entry) for entry in entries]
    bare = [dataclasses.replace(entry, items=(None, *entry.items[1:])) for entry in entries]
    again = [decode_entry(encode_entry(entry)) for entry in bare]
    assert [len(encode_entry(entry)) < len(raw) for entry, raw in zip(again, whole, strict=True)] == [True, True]
    assert [entry.header.hash for entry in again] == [entry.header.hash for entry in entries]
    verify_run(again, GENESIS)
    for entry in again:
        verify_entry(entry)
        assert entry.items[0] is None
    assert open_item(again[0].header, 1, again[0].items[1], key).payload == b"two"


def test_what_is_left_of_an_erased_item_is_carried(anna: Any) -> None:
    """An item, what is left of one, and one of which nothing is left, side by side."""
    entry = anna.write(b"one", b"two", b"three")
    bare = dataclasses.replace(entry, items=(entry.items[0], Erased(b"D" * 16, 300), None))
    wire = encode_entry(bare)
    item = entry.items[0]
    by_hand = b"\x93\xc4" + bytes([len(item)]) + item + b"\x92\xc4\x10" + b"D" * 16 + b"\xcd\x01\x2c" + b"\xc0"
    assert wire.endswith(entry.signature + by_hand)
    again = decode_entry(wire)
    assert again == bare
    assert type(again.items[1]) is Erased
    verify_entry(again)
    verify_run([again], GENESIS)


@pytest.mark.parametrize("life", [1, 127, 128, 1 << 16, (1 << 32) - 1])
def test_an_erased_item_names_any_life_there_can_be(anna: Any, life: int) -> None:
    bare = dataclasses.replace(anna.write(b"x"), items=(Erased(b"D" * 16, life),))
    assert decode_entry(encode_entry(bare)) == bare


@pytest.mark.parametrize(
    "left",
    [
        [],
        [b"D" * 16],
        [b"D" * 16, 1, 1],
        [b"D" * 15, 1],
        [b"D" * 17, 1],
        ["D" * 16, 1],
        [1, b"D" * 16],
        [b"D" * 16, 0],
        [b"D" * 16, -1],
        [b"D" * 16, 1 << 32],
        [b"D" * 16, True],
        [b"D" * 16, 1.0],
        [b"D" * 16, None],
        [b"D" * 16, [1]],
        {b"D" * 16: 1},
        "erased",
        0,
        False,
    ],
)
def test_another_thing_in_place_of_an_item_is_refused(anna: Any, left: Any) -> None:
    entry = anna.write(b"x")
    with pytest.raises(Malformed):
        decode_entry(msgpack.packb([entry.header.raw, entry.signature, [left]]))


def test_an_entry_of_erased_items_alone_fits_however_many(anna: Any) -> None:
    entry = anna.write(*[b""] * MAX_ITEMS)
    bare = dataclasses.replace(entry, items=tuple([Erased(bytes(16), (1 << 32) - 1)] * MAX_ITEMS))
    assert decode_entry(encode_entry(bare)) == bare


def test_fault_32_an_erased_item_cut_or_flipped_is_refused_or_its_mark_tells(
    anna: Any, cuts: Any, bit_flips: Any, refused: Any, mark_of: Any
) -> None:
    """No signature covers what stands in place of an item, so its mark must: to one with the tag key, no bit can be
    changed in it."""
    entry = anna.write(b"one", b"two")
    left = Erased(bytes([1]) * 16, 1)
    raw = encode_entry(dataclasses.replace(entry, items=(entry.items[0], left)))
    start = len(raw) - 17
    assert mark_of(entry.header, 1, left) == entry.header.items[1].mark
    assert all(refused(lambda raw=changed: prove(raw)) for changed in cuts(raw))
    passed = 0
    for offset, changed in bit_flips(raw):
        if refused(lambda raw=changed: prove(raw)):
            continue
        assert start <= offset <= start + 16
        again = decode_entry(changed).items[1]
        assert type(again) is Erased
        assert again != left
        assert mark_of(entry.header, 1, again) != entry.header.items[1].mark
        passed += 1
    assert passed == 8 * 16 + 6


def test_an_entry_without_marks_has_marks_of_zero_and_their_number_is_that_of_the_items(anna: Any) -> None:
    def write(*marks: bytes) -> Entry:
        return write_entry(
            family=b"F" * 16,
            tag=b"T" * 16,
            device=anna.device,
            incarnation=anna.incarnation,
            seq=1,
            prev=GENESIS,
            deps=[],
            hlc=1,
            key_id=b"K" * 8,
            key=b"k" * 32,
            erase=[],
            operations=[Operation("d", 1, "update", b"x")] * 2,
            marks=marks,
            sign=anna.sign,
            random=anna.random.randbytes,
        )

    assert [item.mark for item in write().header.items] == [NO_MARK, NO_MARK]
    assert [item.mark for item in write(b"1" * 16, b"2" * 16).header.items] == [b"1" * 16, b"2" * 16]
    with pytest.raises(InvalidValue):
        write(b"1" * 16, b"2" * 15)
    with pytest.raises(InvalidValue, match="one mark"):
        write(b"1" * 16)


def test_an_item_put_in_place_of_another_is_refused(anna: Any) -> None:
    entry = anna.write(b"one", b"two")
    for items in ((entry.items[1], entry.items[0]), (entry.items[0] + b"x", entry.items[1]), (b"", None)):
        with pytest.raises(Malformed):
            check_items(dataclasses.replace(entry, items=items))


def test_an_item_of_another_size_than_named_is_refused(anna: Any) -> None:
    """The hash fits; an author lied about the size, by which readers budget."""
    entry = anna.write(b"one")
    named = entry.header.items[0]
    lying = dataclasses.replace(entry.header, items=(named._replace(size=named.size - 1),))
    with pytest.raises(Malformed):
        check_items(dataclasses.replace(entry, header=lying))


def test_fault_46_fields_of_a_later_minor_format_survive_and_verify(anna: Any, key: bytes) -> None:
    """A later author appends to prefix and header; this release relays, verifies and opens it unchanged."""
    fields = [1, b"F" * 16, b"T" * 16, anna.device, b"I" * 8, 1, GENESIS, [], 5, b"K" * 8, [], "later", {"a": 1}]
    prefix = msgpack.packb(fields)
    nonce = b"n" * 24
    plain = b"\0" + msgpack.packb(["d", 0, "update", b"x", "later"])
    item = nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(plain, prefix + bytes(4), nonce, key)
    item_hash = blake2b(item, digest_size=32, person=b"aico.item.1").digest()
    raw = msgpack.packb([prefix, [[item_hash, len(item), bytes(16)]], b"later too"])
    digest = blake2b(raw, digest_size=32, person=b"aico.header.1").digest()
    place = b"F" * 16 + b"T" * 16 + b"I" * 8 + (1).to_bytes(8, "big")
    wire = msgpack.packb([raw, anna.sign(b"aico-crdt entry 1\0" + place + digest), [item]])
    entry = decode_entry(wire)
    verify_entry(entry)
    verify_run([entry], GENESIS)
    assert open_item(entry.header, 0, item, key) == Operation("d", 0, "update", b"x")
    assert encode_entry(entry) == wire


def prove(raw: bytes) -> None:
    verify_entry(decode_entry(raw))


def test_fault_32_an_entry_cut_or_extended_anywhere_is_refused(anna: Any, cuts: Any, refused: Any) -> None:
    raw = encode_entry(anna.write(b"one", b"two", deps=[Head(b"A" * 32, b"B" * 8, 3, b"C" * 32)]))
    prove(raw)
    assert all(refused(lambda raw=changed: prove(raw)) for changed in cuts(raw))


def test_fault_32_an_entry_with_any_bit_flipped_is_refused(bit_flips: Any, refused: Any) -> None:
    raw = encode_entry(golden_entry())
    assert [offset for offset, changed in bit_flips(raw) if not refused(lambda raw=changed: prove(raw))] == []


@pytest.mark.parametrize(
    "raw",
    [
        msgpack.packb(None),
        msgpack.packb([]),
        msgpack.packb({"a": 1}),
        msgpack.packb([b"", bytes(64), []]),
        msgpack.packb([b"", bytes(63), []]),
        msgpack.packb([b"", bytes(64), None]),
        msgpack.packb([b"", bytes(64), ["text"]]),
        msgpack.packb([b"", bytes(64), [[[[]]]]]),
    ],
)
def test_another_shape_is_refused(raw: bytes) -> None:
    with pytest.raises(Malformed):
        decode_entry(raw)


def test_items_that_do_not_match_the_header_in_number_are_refused(anna: Any) -> None:
    entry = anna.write(b"one")
    for items in ((), (None, None)):
        with pytest.raises(Malformed, match="header names 1"):
            decode_entry(msgpack.packb([entry.header.raw, entry.signature, items]))


def test_an_entry_whose_items_could_not_all_be_present_is_refused(anna: Any) -> None:
    """Five items of 1 MiB named, all erased: small on the wire, but no entry can ever have been that large."""
    prefix = anna.write(b"x").header.prefix
    raw = msgpack.packb([prefix, [[b"E" * 32, 1 << 20, bytes(16)]] * 5])
    with pytest.raises(TooLarge):
        decode_entry(msgpack.packb([raw, bytes(64), [None] * 5]))


def test_what_no_reader_would_accept_is_not_written(anna: Any) -> None:
    own = Head(anna.device, anna.incarnation, 1, b"C" * 32)
    dep = Head(b"A" * 32, b"B" * 8, 3, b"C" * 32)
    for payloads, options in (
        ([b"x"] * (MAX_ITEMS + 1), {}),
        ([anna.random.randbytes(1_000_000) for _ in range(5)], {}),
        ([b"x"], {"deps": [dep, dep]}),
        ([b"x"], {"deps": [own]}),
        ([b"x"], {"hlc": -1}),
    ):
        with pytest.raises(InvalidValue):
            anna.write(*payloads, **options)
    assert anna.seq == 0


def test_dependencies_are_written_sorted(anna: Any) -> None:
    deps = [Head(bytes([device]) * 32, b"B" * 8, 3, b"C" * 32) for device in (9, 2, 5)]
    assert anna.write(b"x", deps=deps).header.deps == tuple(sorted(deps))


class TestRun:
    @pytest.fixture
    def run(self, anna: Any) -> list[Entry]:
        return [anna.write(b"%d" % place) for place in range(5)]

    def test_a_whole_run_is_proven(self, run: list[Entry]) -> None:
        verify_run(run, GENESIS)
        verify_run(run[2:], run[1].header.hash)
        verify_run(run[2:], None)
        verify_run(run[4:], run[3].header.hash)

    def test_only_the_last_signature_counts(self, run: list[Entry]) -> None:
        unsigned = [dataclasses.replace(entry, signature=bytes(64)) for entry in run]
        verify_run([*unsigned[:-1], run[-1]], GENESIS)
        for at_last in ([*run[:-1], unsigned[-1]], unsigned, [unsigned[0]]):
            with pytest.raises(BadSignature):
                verify_run(at_last, GENESIS)

    def test_a_run_that_does_not_continue_what_is_known_is_refused(self, run: list[Entry]) -> None:
        for part, head in ((run, b"x" * 32), (run[1:], GENESIS), (run[2:], run[0].header.hash)):
            with pytest.raises(BrokenChain):
                verify_run(part, head)

    def test_a_run_with_a_broken_link_is_refused(self, run: list[Entry]) -> None:
        for at in range(1, 4):
            for broken in (
                run[:at] + run[at + 1 :],
                run[: at + 1] + run[at:],
                [*run[:at], run[at + 1], run[at], *run[at + 2 :]],
            ):
                with pytest.raises(BrokenChain):
                    verify_run(broken, GENESIS)

    @pytest.mark.parametrize("at", range(4))
    def test_an_entry_swapped_for_a_forged_one_is_refused(self, run: list[Entry], author: Any, at: int) -> None:
        forger = author(1)
        forged = [forger.write(b"%d" % place if place != at else b"forged") for place in range(5)]
        with pytest.raises(BrokenChain):
            verify_run([*run[:at], forged[at], *run[at + 1 :]], GENESIS)

    def test_feeds_are_not_mixed(self, author: Any) -> None:
        """An entry of another feed that names this feed's entry as its predecessor does not continue it."""
        one, other = author(1), author(2)
        first = one.write(b"x")
        other.seq, other.prev = 1, first.header.hash
        with pytest.raises(BrokenChain):
            verify_run([first, other.write(b"y")], GENESIS)
        again = author(1, incarnation=b"J" * 8)
        again.seq, again.prev = 1, first.header.hash
        with pytest.raises(BrokenChain):
            verify_run([first, again.write(b"y")], GENESIS)

    @pytest.mark.parametrize("at", range(5))
    def test_a_changed_item_is_refused_wherever_it_is(self, run: list[Entry], at: int) -> None:
        changed = dataclasses.replace(run[at], items=(run[at].items[0][:-1] + b"\0",))  # type: ignore[index]
        with pytest.raises(Malformed):
            verify_run([*run[:at], changed, *run[at + 1 :]], GENESIS)

    def test_no_entry_is_no_run(self) -> None:
        with pytest.raises(Malformed):
            verify_run([], None)
