"""msgpack from elsewhere: bounded in bytes, counts and depth; every failure is one error."""

from __future__ import annotations

import tracemalloc

import pytest

from aico_crdt.errors import Malformed, TooLarge
from aico_crdt.trust import wire

SIZE = 256 * 1024


def nested(levels: int) -> bytes:
    return b"\x91" * levels + b"\xc0"


def test_what_is_packed_unpacks() -> None:
    value = ("text", b"bytes", 2**64 - 1, None, ("inner", ()), {"key": 1})
    assert wire.unpack(wire.pack(value), SIZE) == value


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        b"\xa2\xff\xfe",  # not UTF-8
        b"\x01\x01",  # two values
        b"\x92\x01",  # one of two elements
        b"\x81\x01\x02",  # a map with a number for a key
        b"\x81\x90\x02",  # … with an array
        b"\xd6\xff\x00",  # a timestamp cut short
        b"\xc7\x0c\xff" + b"\xff" * 12,  # a timestamp of too many nanoseconds
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
    ],
)
def test_what_is_not_one_value_is_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed):
        wire.unpack(raw, SIZE)


def test_fault_27_and_31_deep_nesting_is_too_large() -> None:
    assert wire.unpack(nested(wire.MAX_DEPTH), SIZE)
    for levels in (wire.MAX_DEPTH + 1, 500, 20_000, SIZE - 1):
        with pytest.raises(Malformed):
            wire.unpack(nested(levels), SIZE)
    with pytest.raises(TooLarge):
        wire.unpack(wire.pack(_map(wire.MAX_DEPTH + 1)), SIZE)


def test_fault_27_an_empty_list_is_a_level_as_well() -> None:
    deepest = b"\x91" * (wire.MAX_DEPTH - 1) + b"\x90"
    assert wire.unpack(deepest, SIZE)
    with pytest.raises(TooLarge):
        wire.unpack(b"\x91" + deepest, SIZE)



def _map(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = {"k": value}
    return value


def test_fault_28_a_declared_count_allocates_nothing() -> None:
    tracemalloc.start()
    try:
        for raw in (b"\xdd\x10\x00\x00\x00", b"\xdf\x10\x00\x00\x00", b"\xdc\xff\xff" * 5, b"\xdd\x00\x00\x10\x00" * 9):
            with pytest.raises(Malformed):
                wire.unpack(raw, SIZE)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_bytes_beyond_the_callers_cap_are_not_read() -> None:
    with pytest.raises(TooLarge):
        wire.unpack(wire.pack(bytes(100)), 100)
