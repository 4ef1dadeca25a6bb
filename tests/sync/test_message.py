"""The messages as bytes: every field comes back, what is damaged is refused, what is new changes nothing."""

from __future__ import annotations

import tracemalloc

import msgpack
import pytest

from aico_crdt.errors import Malformed, TooLarge
from aico_crdt.sync.message import (
    MAX_FEEDS,
    MAX_KEYS,
    Ack,
    Bodies,
    Bye,
    Digests,
    Entries,
    Heads,
    HeldHead,
    Hello,
    Manifest,
    Message,
    Unknown,
    Want,
    WantBodies,
    decode,
    encode,
    link_name,
)
from aico_crdt.sync.replica import Body, FeedHead, Place

TAG, DEVICE, LIFE, HASH = b"T" * 16, b"D" * 32, b"I" * 8, b"H" * 32
HELLO = Hello(
    formats=(1, 2),
    family=b"F" * 16,
    device=DEVICE,
    incarnation=LIFE,
    device_type="phone",
    session=b"S" * 8,
    seen=b"",
    window_bytes=1 << 20,
    digest_interval_ms=60_000,
    digests=((TAG, b"d" * 16),),
    links=(b"l" * 8,),
    lacking=(TAG,),
    extra={"colour": ["blue", {"deep": 1}]},
)
MESSAGES: list[Message] = [
    HELLO,
    Heads(
        TAG,
        (FeedHead(DEVICE, LIFE, 1, 7, HASH), FeedHead(DEVICE, b"J" * 8, 8, 7, HASH, 7)),
        (Place(DEVICE, LIFE, 3),),
    ),
    Want(TAG, (Place(DEVICE, LIFE, 3),), manifest=True),
    Entries(TAG, ((b"one", b"two"), (b"three",)), more=True, live=False, serial=5),
    Ack(TAG, (HeldHead(DEVICE, LIFE, 7, HASH, 6),), (Place(DEVICE, LIFE, 3),), 5),
    Manifest(TAG, b"manifest", 6),
    WantBodies(TAG, (b"k" * 16,)),
    Bodies(TAG, (Body(b"k" * 16, 0, b"sealed"),), 7, (Place(DEVICE, LIFE, 3),)),
    Digests(((TAG, b"d" * 16),), (b"l" * 8,), (TAG,)),
    Bye("version", "No common version."),
]
IDS = [type(message).__name__ for message in MESSAGES]


@pytest.mark.parametrize("message", MESSAGES, ids=IDS)
def test_every_field_comes_back(message: Message) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize("message", MESSAGES, ids=IDS)
def test_fault_32_every_truncation_and_extension_is_refused(message: Message) -> None:
    raw = encode(message)
    for end in range(len(raw)):
        with pytest.raises(Malformed):
            decode(raw[:end])
    for more in (b"\xc0", b"\x90", b"\0", raw):
        with pytest.raises(Malformed):
            decode(raw + more)


@pytest.mark.parametrize("message", MESSAGES, ids=IDS)
def test_a_flipped_bit_is_another_message_or_refused(message: Message) -> None:
    raw = encode(message)
    for place in range(len(raw)):
        for bit in range(8):
            flipped = bytearray(raw)
            flipped[place] ^= 1 << bit
            try:
                decode(bytes(flipped))
            except Malformed:
                continue


@pytest.mark.parametrize("message", MESSAGES, ids=IDS)
def test_fault_46_fields_of_a_later_release_change_nothing(message: Message) -> None:
    fields = msgpack.unpackb(encode(message))
    longer = msgpack.packb([*fields, "later", {"more": [1]}])
    assert decode(longer) == message
    if isinstance(fields[1], dict):
        newer = decode(msgpack.packb([fields[0], {**fields[1], "later": {"x": 1}}]))
        if isinstance(message, Hello):
            assert isinstance(newer, Hello)
            assert newer.extra == {**message.extra, "later": {"x": 1}}
            assert decode(encode(newer)) == newer, "what is not understood survives"
        else:
            assert newer == message


@pytest.mark.parametrize("number", [0, 11, 200, 1 << 40, -1])
def test_fault_46_message_types_of_a_later_release_are_read_as_such(number: int) -> None:
    assert decode(msgpack.packb([number, "anything", [1, 2]])) == Unknown(number)


def test_the_bytes_are_those_of_the_documentation() -> None:
    """Drawn in docs/protocol.md; written here by the reference encoder."""
    head = [DEVICE, LIFE, 1, 7, HASH, 0]
    place = [DEVICE, LIFE, 3]
    hello = {
        "formats": [1, 2],
        "family": b"F" * 16,
        "device": DEVICE,
        "incarnation": LIFE,
        "device_type": "phone",
        "session": b"S" * 8,
        "seen": b"",
        "limits": {"window_bytes": 1 << 20, "digest_interval_ms": 60_000},
        "digests": [[TAG, b"d" * 16]],
        "links": [b"l" * 8],
        "lacking": [TAG],
        "colour": ["blue", {"deep": 1}],
    }
    drawn = [
        [1, hello],
        [2, TAG, [head, [DEVICE, b"J" * 8, 8, 7, HASH, 7]], [place]],
        [3, TAG, [place], True],
        [4, TAG, [[b"one", b"two"], [b"three"]], True, False, 5],
        [5, TAG, [[DEVICE, LIFE, 7, HASH, 6]], [place], 5],
        [6, TAG, b"manifest", 6],
        [7, TAG, [b"k" * 16]],
        [8, TAG, [[b"k" * 16, 0, b"sealed"]], 7, [place]],
        [9, {"digests": [[TAG, b"d" * 16]], "links": [b"l" * 8], "lacking": [TAG]}],
        [10, "version", "No common version."],
    ]
    assert [msgpack.unpackb(encode(message)) for message in MESSAGES] == drawn


BAD = {
    "no list": b"\x01",
    "an empty list": msgpack.packb([]),
    "no type": msgpack.packb(["hello"]),
    "a truth value for a type": msgpack.packb([True, {}]),
    "a greeting that lacks a key": msgpack.packb([1, {"formats": [1]}]),
    "heads without a tag": msgpack.packb([2, b"short", [], []]),
    "a head with its floor above it": msgpack.packb([2, TAG, [[DEVICE, LIFE, 9, 7, HASH]], []]),
    "a head at zero": msgpack.packb([2, TAG, [[DEVICE, LIFE, 1, 0, HASH]], []]),
    "a head that is text": msgpack.packb([2, TAG, [[DEVICE.decode(), LIFE, 1, 1, HASH]], []]),
    "a place beyond 63 bits": msgpack.packb([3, TAG, [[DEVICE, LIFE, 1 << 63]], False]),
    "a wish that is a number": msgpack.packb([3, TAG, [], 1]),
    "too few fields": msgpack.packb([3, TAG, []]),
    "a run without entries": msgpack.packb([4, TAG, [[]], False, False, 1]),
    "an entry without bytes": msgpack.packb([4, TAG, [[b""]], False, False, 1]),
    "serial zero": msgpack.packb([4, TAG, [], False, False, 0]),
    "a body with a life below zero": msgpack.packb([8, TAG, [[b"k" * 16, -1, b"x"]], 1]),
    "a farewell of two lines": msgpack.packb([10, "bye", "one\ntwo"]),
}


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD.keys())
def test_what_no_peer_writes_is_refused(raw: bytes) -> None:
    with pytest.raises(Malformed):
        decode(raw)


def test_counts_and_lengths_have_caps() -> None:
    place = [DEVICE, LIFE, 1]
    for fields in (
        [3, TAG, [place] * (MAX_FEEDS + 1), False],
        [7, TAG, [b"k" * 16] * (MAX_KEYS + 1)],
        [2, TAG, b"x" * (3 << 20), []],
        [4, TAG, [[b"x" * (9 << 20)]], False, False, 1],
        [99, b"x" * (3 << 20)],
    ):
        with pytest.raises(TooLarge):
            decode(msgpack.packb(fields))


def test_declared_counts_reserve_no_memory() -> None:
    tracemalloc.start()
    with pytest.raises(Malformed):
        decode(b"\x94\x02\xc4\x10" + TAG + b"\xdd\x10\x00\x00\x00")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_link_is_known_only_to_who_knows_the_device() -> None:
    assert link_name(DEVICE, b"S" * 8) == link_name(DEVICE, b"S" * 8)
    assert link_name(DEVICE, b"S" * 8) != link_name(DEVICE, b"R" * 8)
    assert link_name(DEVICE, b"S" * 8) not in DEVICE
