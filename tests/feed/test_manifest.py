"""Manifests: their bytes by hand, what is refused, and that a million documents stay bytes."""

from __future__ import annotations

import dataclasses
import tracemalloc
from hashlib import blake2b
from typing import Any

import msgpack
import pytest
from nacl.signing import SigningKey

from aico_crdt.clock import MAX_STAMP
from aico_crdt.errors import BadSignature, InvalidValue, Malformed, NotYet, TooLarge
from aico_crdt.feed import (
    DocumentState,
    Manifest,
    SignedHead,
    Tombstone,
    decode_manifest,
    encode_manifest,
    verify_manifest,
    write_manifest,
)
from aico_crdt.feed.manifest import MANIFEST_MAX_BYTES, MAX_DOCUMENTS, MAX_HEADS


def head(seed: bytes, seq: int, digest: bytes) -> SignedHead:
    """A head as drawn, signed by the device of that seed."""
    key = SigningKey(seed)
    place = b"F" * 16 + b"T" * 16 + b"I" * 8 + seq.to_bytes(8, "big")
    signature = key.sign(b"aico-crdt entry 1\0" + place + digest).signature
    return SignedHead(bytes(key.verify_key), b"I" * 8, seq, digest, signature)


HEADS = sorted([head(b"A" * 32, 300, b"h" * 32), head(b"B" * 32, 1, b"i" * 32)])
BORE = [b"1" * 32, b"2" * 32]
DOCUMENTS = [(b"a" * 16, 1, b"s" * 32, 0, BORE[1]), (b"b" * 16, 2, b"t" * 32, MAX_STAMP, BORE[0])]
STATES = [DocumentState(*row[:4], BORE.index(row[4])) for row in DOCUMENTS]
TOMBSTONES = [Tombstone(b"b" * 16, 0), Tombstone(b"b" * 16, 1), Tombstone(b"c" * 16, 1 << 40)]


def write(who: Any, **changed: Any) -> Manifest:
    fields: dict[str, Any] = {
        "family": b"F" * 16,
        "tag": b"T" * 16,
        "device": who.device,
        "hlc": 1 << 50,
        "heads": HEADS,
        "documents": DOCUMENTS,
        "tombstones": TOMBSTONES,
        "sign": who.sign,
    }
    return write_manifest(**(fields | changed))


def by_hand(who: Any, *more: Any, **changed: Any) -> bytes:
    """The wire bytes made from the drawing, signed over whatever they say."""

    def u64(number: int) -> bytes:
        return number.to_bytes(8, "big")

    fields: dict[str, Any] = {
        "format": 1,
        "family": b"F" * 16,
        "tag": b"T" * 16,
        "device": who.device,
        "hlc": 1 << 50,
        "heads": b"".join(one.device + one.incarnation + u64(one.seq) + one.hash + one.signature for one in HEADS),
        "documents": b"".join(
            one.key + u64(one.life) + one.hash + u64(one.stamp) + one.creator.to_bytes(4, "big") for one in STATES
        ),
        "tombstones": b"".join(one.key + u64(one.life) for one in TOMBSTONES),
        "creators": b"".join(BORE),
    } | changed
    body = msgpack.packb([*fields.values(), *more])
    digest = blake2b(body, digest_size=32, person=b"aico.manifest.1").digest()
    return bytes(msgpack.packb([body, who.sign(b"aico-crdt manifest 1\0" + digest)]))


def test_a_manifest_is_written_as_drawn(anna: Any) -> None:
    assert encode_manifest(write(anna)) == by_hand(anna)


def test_what_is_encoded_is_decoded(anna: Any) -> None:
    manifest = decode_manifest(encode_manifest(write(anna)))
    verify_manifest(manifest)
    assert manifest == write(anna)
    assert (manifest.format, manifest.family, manifest.tag) == (1, b"F" * 16, b"T" * 16)
    assert (manifest.device, manifest.hlc) == (anna.device, 1 << 50)
    assert [*manifest.heads] == HEADS
    assert [*manifest.documents] == STATES
    assert [manifest.creators[one.creator].device for one in manifest.documents] == [BORE[1], BORE[0]]
    assert [*manifest.tombstones] == TOMBSTONES


def test_rows_are_sorted_by_whoever_writes(anna: Any) -> None:
    turned = write(anna, heads=HEADS[::-1], documents=iter(DOCUMENTS[::-1]), tombstones=TOMBSTONES[::-1])
    assert turned == write(anna)


def test_a_table_reads_as_a_sequence(anna: Any) -> None:
    documents = write(anna).documents
    assert len(documents) == 2
    assert documents[0] == STATES[0]
    assert documents[-1] == STATES[-1]
    assert documents[:1] == STATES[:1]
    assert STATES[1] in documents
    with pytest.raises(IndexError):
        documents[2]


def test_a_document_is_named_once_whatever_its_stamp(anna: Any) -> None:
    """The stamp and the hash are no part of a row's name: one life cannot be claimed to have two states."""
    twice = [DOCUMENTS[1], (*DOCUMENTS[1][:3], 7, BORE[0])]
    with pytest.raises(InvalidValue):
        write(anna, documents=twice)


def test_newest_first_can_be_told_from_the_stamps(anna: Any) -> None:
    states = [(bytes([place]) * 16, 1, b"s" * 32, place * 37 % 11 << 60, BORE[0]) for place in range(1, 8)]
    read = decode_manifest(encode_manifest(write(anna, documents=states))).documents
    assert [one.stamp for one in read] == [place * 37 % 11 << 60 for place in range(1, 8)]


def test_as_many_documents_as_may_be_named_fit_the_cap_in_bytes() -> None:
    assert MAX_DOCUMENTS * (16 + 8 + 32 + 8 + 4) + MAX_HEADS * (144 + 32) < MANIFEST_MAX_BYTES


def test_an_empty_collection_has_a_manifest(anna: Any) -> None:
    manifest = decode_manifest(encode_manifest(write(anna, heads=[], documents=[], tombstones=[])))
    verify_manifest(manifest)
    assert (len(manifest.heads), len(manifest.documents), len(manifest.tombstones)) == (0, 0, 0)


def test_a_manifest_signed_by_another_is_refused(anna: Any, ben: Any) -> None:
    with pytest.raises(BadSignature):
        verify_manifest(write(anna, sign=ben.sign))
    with pytest.raises(BadSignature):
        verify_manifest(dataclasses.replace(write(anna), raw=write(anna, hlc=7).raw))


@pytest.mark.parametrize(
    "changed",
    [
        {"seq": 301},
        {"hash": b"j" * 32},
        {"incarnation": b"J" * 8},
        {"device": bytes(SigningKey(b"C" * 32).verify_key)},
        {"signature": bytes(64)},
    ],
)
def test_a_head_that_its_own_device_did_not_sign_is_refused(anna: Any, changed: dict[str, Any]) -> None:
    with pytest.raises(BadSignature):
        verify_manifest(write(anna, heads=[HEADS[0]._replace(**changed), HEADS[1]]))
    with pytest.raises(BadSignature):
        verify_manifest(write(anna, tag=b"U" * 16))


def prove(raw: bytes) -> None:
    verify_manifest(decode_manifest(raw))


def test_fault_32_a_manifest_cut_extended_or_flipped_is_refused(
    anna: Any, cuts: Any, bit_flips: Any, refused: Any
) -> None:
    raw = encode_manifest(write(anna))
    prove(raw)
    assert all(refused(lambda raw=changed: prove(raw)) for changed in cuts(raw))
    assert [offset for offset, changed in bit_flips(raw) if not refused(lambda raw=changed: prove(raw))] == []


@pytest.mark.parametrize(
    "changed",
    [
        {"format": 0},
        {"format": None},
        {"family": b"F" * 15},
        {"tag": "T" * 16},
        {"device": b"D" * 33},
        {"hlc": -1},
        {"hlc": True},
        {"heads": b"x"},
        {"heads": []},
        {"heads": b"A" * 32 + b"I" * 8 + bytes(8) + b"h" * 32 + bytes(64)},
        {"heads": b"A" * 32 + b"I" * 8 + b"\xff" * 8 + b"h" * 32 + bytes(64)},
        {"heads": (b"B" * 144) + (b"A" * 144)},
        {"heads": b"A" * 288},
        {"documents": b"B" * 64 + bytes(4) + b"A" * 64 + bytes(4)},
        {"documents": (b"A" * 64 + bytes(4)) * 2},
        {"documents": b"A" * 63 + bytes(4)},
        {"documents": b"A" * 64},
        {"documents": b"A" * 64 + bytes(3) + b"\x02"},
        {"creators": b""},
        {"creators": b"2" * 32 + b"1" * 32},
        {"creators": None},
        {"tombstones": b"A" * 48},
        {"tombstones": None},
    ],
)
def test_a_field_no_author_writes_is_refused(anna: Any, changed: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        decode_manifest(by_hand(anna, **changed))


@pytest.mark.parametrize(
    "value", [None, [], [b"x"], [b"", bytes(64)], [b"\x90", bytes(64)], ["", ""], [b"\x91\x01", bytes(64)]]
)
def test_another_shape_is_refused(value: Any) -> None:
    with pytest.raises(Malformed):
        decode_manifest(msgpack.packb(value))


def test_fault_46_a_later_manifest_is_held_and_a_later_minor_one_read(anna: Any) -> None:
    with pytest.raises(NotYet) as caught:
        decode_manifest(msgpack.packb([msgpack.packb([2, "anything"]), bytes(64)]))
    assert caught.value.missing == "format"
    raw = by_hand(anna, "later", {"a": [1]})
    manifest = decode_manifest(raw)
    verify_manifest(manifest)
    assert encode_manifest(manifest) == raw


@pytest.mark.parametrize(
    "changed",
    [
        {"documents": [DOCUMENTS[0], DOCUMENTS[0]]},
        {"documents": [(b"short", 1, b"s" * 32, 5, BORE[0])]},
        {"documents": [(b"a" * 16, 1, b"s" * 33, 5, BORE[0])]},
        {"documents": [(b"a" * 16, 1, b"s" * 32, -1, BORE[0])]},
        {"documents": [(b"a" * 16, 1, b"s" * 32, MAX_STAMP + 1, BORE[0])]},
        {"documents": [(b"a" * 16, 1, b"s" * 32, 5, b"short")]},
        {"tombstones": [Tombstone(b"a" * 16, -1)]},
        {"heads": [HEADS[0]._replace(seq=0)]},
        {"hlc": -1},
    ],
)
def test_what_no_reader_would_accept_is_not_written(anna: Any, changed: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue):
        write(anna, **changed)


def test_a_large_manifest_stays_bytes_and_one_beyond_the_cap_is_refused(anna: Any) -> None:
    count = 200_000
    rows = b"".join(number.to_bytes(16, "big") + bytes(8) + b"s" * 32 + bytes(12) for number in range(1, count + 1))
    raw = by_hand(anna, documents=rows)
    tracemalloc.start()
    manifest = decode_manifest(raw)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(manifest.documents) == count
    assert peak < 4 * len(raw)
    too_many = bytes(24 * (MAX_DOCUMENTS + 1))
    with pytest.raises(TooLarge):
        decode_manifest(by_hand(anna, tombstones=too_many))
    with pytest.raises(TooLarge):
        decode_manifest(by_hand(anna, heads=bytes(144 * (MAX_HEADS + 1))))
