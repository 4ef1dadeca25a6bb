"""Sealed items: what is sealed opens, only there, only with the key, and never to more than the cap."""

from __future__ import annotations

import resource
import tracemalloc
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import msgpack
import pytest
import zstandard
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt

from aico_crdt.errors import InvalidValue, Malformed, TooLarge
from aico_crdt.feed import Operation, item_mark, open_item
from aico_crdt.feed.item import OPERATION_MAX_BYTES, OVERHEAD_BYTES, seal

BOMB_BYTES = 256 * 1024 * 1024


def sealed_plain(prefix: bytes, plain: bytes, key: bytes, index: int = 0) -> bytes:
    """`plain` sealed by hand, as an author without this library's manners would."""
    nonce = b"n" * 24
    bound = prefix + index.to_bytes(4, "big")
    return nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(plain, bound, nonce, key)


@pytest.fixture
def header(anna: Any) -> Any:
    return anna.write(b"x").header


@pytest.fixture
def open_plain(header: Any, key: bytes) -> Callable[[bytes], Operation]:
    return lambda plain: open_item(header, 0, sealed_plain(header.prefix, plain, key), key)


@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(256)) * 4, bytes(100_000)])
def test_what_is_sealed_opens(header: Any, key: bytes, payload: bytes) -> None:
    operation = Operation("a document, наш, 家", 7, "update", payload)
    sealed = seal(operation, prefix=header.prefix, index=3, key=key, nonce=b"n" * 24)
    assert open_item(header, 3, sealed, key) == operation


def test_compressed_only_where_it_pays(header: Any, key: bytes) -> None:
    def size(payload: bytes) -> int:
        return len(seal(Operation("d", 0, "update", payload), prefix=header.prefix, index=0, key=key, nonce=b"n" * 24))

    def plain_size(payload: bytes) -> int:
        return len(msgpack.packb(["d", 0, "update", payload])) + OVERHEAD_BYTES

    short, long, noise = b"a" * 200, b"a" * 300, bytes(hash_byte(place) for place in range(600))
    assert size(short) == plain_size(short)
    assert size(long) < plain_size(long) // 3
    assert size(noise) == plain_size(noise)


def hash_byte(place: int) -> int:
    return pow(3, place * 7919, 65_537) & 255


def test_an_item_opens_only_in_its_place_and_with_its_key(anna: Any, key: bytes) -> None:
    first, second = anna.write(b"one", b"two"), anna.write(b"one", b"two")
    sealed = first.items[0]
    assert open_item(first.header, 0, sealed, key).payload == b"one"
    for header, index, other_key in ((first.header, 1, key), (second.header, 0, key), (first.header, 0, b"o" * 32)):
        with pytest.raises(Malformed):
            open_item(header, index, sealed, other_key)


def test_fault_32_an_item_cut_extended_or_flipped_is_refused(anna: Any, key: bytes, cuts: Any, bit_flips: Any) -> None:
    entry = anna.write(b"payload")
    changed = [*cuts(entry.items[0]), *(raw for _, raw in bit_flips(entry.items[0]))]
    for raw in changed:
        with pytest.raises(Malformed):
            open_item(entry.header, 0, raw, key)


MARKED: dict[str, Any] = {
    "tag_key": b"t" * 32,
    "document_key": b"d" * 16,
    "life": 3,
    "device": b"V" * 32,
    "incarnation": b"I" * 8,
    "seq": 300,
    "index": 2,
}


def test_a_mark_is_made_as_drawn() -> None:
    message = b"d" * 16 + b"V" * 32 + b"I" * 8 + bytes.fromhex("0000000000000003 000000000000012c 00000002")
    expected = blake2b(message, digest_size=16, key=b"t" * 32, person=b"aico.mark.1").digest()
    assert item_mark(**MARKED) == expected


def test_a_mark_binds_every_argument_and_every_bit_of_it() -> None:
    """So it fits no other life, document, writer or place, and nobody without the tag key can make or check one."""

    def others(value: Any) -> list[Any]:
        if isinstance(value, int):
            return [value ^ 1 << bit for bit in range(31)]
        as_int, size = int.from_bytes(value, "big"), len(value)
        return [(as_int ^ 1 << bit).to_bytes(size, "big") for bit in range(8 * size)]

    cases = [MARKED] + [MARKED | {name: other} for name, value in MARKED.items() for other in others(value)]
    marks = {item_mark(**case) for case in cases}
    assert {len(mark) for mark in marks} == {16}
    assert len(marks) == len(cases) == 1 + 8 * (32 + 16 + 32 + 8) + 3 * 31


@pytest.mark.parametrize(
    ("declared", "window_log", "reason"),
    [
        (True, 21, "unpacks to more"),
        (True, 17, "unpacks to more"),
        (False, 21, "does not state"),
        (False, 17, "does not state"),
    ],
)
def test_fault_30_a_bomb_of_8_kb_is_stopped_at_the_cap(
    open_plain: Any, declared: bool, window_log: int, reason: str
) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(19, window_log=window_log, write_content_size=declared)
    writer = zstandard.ZstdCompressor(compression_params=parameters).compressobj(size=BOMB_BYTES if declared else -1)
    chunk = bytes(1024 * 1024)
    bomb = b"".join([*(writer.compress(chunk) for _ in range(BOMB_BYTES // len(chunk))), writer.flush()])
    assert len(bomb) < 30_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    with pytest.raises(Malformed, match=reason):
        open_plain(b"\1" + bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024  # KiB


def test_fault_30_a_bomb_that_lies_about_its_size_is_refused(open_plain: Any) -> None:
    """The size in the frame header says 65,536 bytes; the blocks hold 16 MB."""
    honest = zstandard.ZstdCompressor(level=3).compress(bytes(16 * 1024 * 1024))
    parameters = zstandard.get_frame_parameters(honest)
    assert honest[4] >> 6 == 2, "a content size of four bytes follows the frame descriptor"
    at = 5 if honest[4] & 32 else 6
    assert int.from_bytes(honest[at : at + 4], "little") == parameters.content_size
    lying = honest[:at] + (65_536).to_bytes(4, "little") + honest[at + 4 :]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Malformed):
        open_plain(b"\1" + lying)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024  # KiB


def test_a_frame_just_within_the_cap_opens_and_one_byte_more_does_not(open_plain: Any) -> None:
    shell = len(msgpack.packb(["d", 0, "update", b"x" * 70_000])) - 70_000
    whole = msgpack.packb(["d", 0, "update", bytes(OPERATION_MAX_BYTES - shell)])
    assert len(whole) == OPERATION_MAX_BYTES
    assert len(open_plain(b"\1" + zstandard.compress(whole)).payload) == OPERATION_MAX_BYTES - shell
    beyond = msgpack.packb(["d", 0, "update", bytes(OPERATION_MAX_BYTES - shell + 1)])
    with pytest.raises(TooLarge):
        open_plain(b"\1" + zstandard.compress(beyond))


def test_two_frames_a_skippable_frame_or_rubbish_are_refused(open_plain: Any) -> None:
    frame = zstandard.compress(msgpack.packb(["d", 0, "update", b"x"]))
    skippable = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"abcd"
    assert open_plain(b"\1" + frame).payload == b"x"
    for body in (frame + frame, skippable, skippable + frame, frame[:-1], b"", b"rubbish", zstandard.compress(b"")):
        with pytest.raises(Malformed):
            open_plain(b"\1" + body)


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        b"\0",
        b"\2" + msgpack.packb(["d", 0, "update", b"x"]),
        b"\0" + msgpack.packb(["d", 0, "update"]),
        b"\0" + msgpack.packb([b"d", 0, "update", b"x"]),
        b"\0" + msgpack.packb(["d" * 129, 0, "update", b"x"]),
        b"\0" + msgpack.packb(["d\x1b[2J", 0, "update", b"x"]),
        b"\0" + msgpack.packb(["d", -1, "update", b"x"]),
        b"\0" + msgpack.packb(["d", True, "update", b"x"]),
        b"\0" + msgpack.packb(["d", 0, "", b"x"]),
        b"\0" + msgpack.packb(["d", 0, "naïve", b"x"]),
        b"\0" + msgpack.packb(["d", 0, "u" * 33, b"x"]),
        b"\0" + msgpack.packb(["d", 0, "update", "x"]),
        b"\0" + msgpack.packb({"d": 0}),
        b"\0" + b"\x91" * 20_000 + b"\xc0",
    ],
)
def test_what_is_no_operation_is_refused(open_plain: Any, plain: bytes) -> None:
    with pytest.raises(Malformed):
        open_plain(plain)


def test_fault_46_an_operation_with_more_fields_still_opens(open_plain: Any) -> None:
    plain = b"\0" + msgpack.packb(["d", 4, "update", b"x", {"later": [1]}])
    assert open_plain(plain) == Operation("d", 4, "update", b"x")


@pytest.mark.parametrize(
    "operation",
    [
        Operation("d", 0, "update", bytes(OPERATION_MAX_BYTES)),
        Operation("d\n", 0, "update", b""),
        Operation("\ud800", 0, "update", b""),
        Operation("d", 1 << 32, "update", b""),
        Operation("d", 0, "", b""),
    ],
    ids=["too long", "control", "surrogate", "life", "name"],
)
def test_what_no_reader_would_accept_is_not_written(header: Any, key: bytes, operation: Operation) -> None:
    with pytest.raises(InvalidValue):
        seal(operation, prefix=header.prefix, index=0, key=key, nonce=b"n" * 24)
