"""The strict reader against the reference decoder, and against bytes made to hurt."""

from __future__ import annotations

import tracemalloc

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aico_crdt.errors import Malformed, TooLarge
from aico_crdt.feed.packing import pack, unpack

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=300)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=5), inner, max_size=20),
    max_leaves=40,
)


def read(raw: bytes, max_depth: int = 16) -> object:
    return unpack(raw, max_bytes=1 << 20, max_depth=max_depth)


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_what_is_packed_is_read(value: object) -> None:
    assert unpack(pack(value), max_bytes=1 << 20, max_depth=depth(value)) == value


@settings(max_examples=200, deadline=None)
@given(VALUES.filter(lambda value: depth(value) > 0))
def test_one_level_beyond_the_cap_is_refused(value: object) -> None:
    with pytest.raises(TooLarge, match="deeper"):
        unpack(pack(value), max_bytes=1 << 20, max_depth=depth(value) - 1)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_random_bytes_are_read_as_the_reference_reads_them_or_refused(raw: bytes) -> None:
    try:
        value = read(raw)
    except Malformed:
        return
    assert pack(value) == pack(msgpack.unpackb(raw))


@pytest.mark.parametrize("size", [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536])
@pytest.mark.parametrize(
    "make", [lambda n: "x" * n, lambda n: b"x" * n, lambda n: [None] * n], ids=["str", "bin", "list"]
)
def test_every_width_of_a_count_is_read(size: int, make: object) -> None:
    value = make(size)  # type: ignore[operator]
    assert unpack(msgpack.packb(value), max_bytes=1 << 20, max_depth=1, max_elements=1 << 20) == value


@pytest.mark.parametrize("size", [15, 16, 65_536])
def test_every_width_of_a_map_is_read(size: int) -> None:
    value = {str(number): number for number in range(size)}
    assert unpack(msgpack.packb(value), max_bytes=1 << 20, max_depth=1, max_elements=1 << 20) == value


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        b"\xa1\xff",
        b"\x81\x90\xc0",
        b"\x81\x01\xc0",
        b"\xd6\xff\0\0\0\0",
        b"\xc7\x03\xff\0\0\0",
        b"\xc4",
        b"\xc5\x01",
        b"\xc4\x05abc",
        b"\x01\x02",
        b"\x92\x01",
        b"\xd9",
        b"\xcf\0",
    ],
    ids=lambda raw: raw.hex() or "empty",
)
def test_what_is_not_the_one_value_is_refused(raw: bytes) -> None:
    with pytest.raises(Malformed):
        read(raw)


@pytest.mark.parametrize("raw", [b"\x01\x02", b"\xc6\x3f\xff\xff\xff", b"\x92\xc0\xd9\x05abcd"])
def test_the_end_is_checked_before_anything_is_built(raw: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(msgpack, "unpackb", None)
    with pytest.raises(Malformed, match="cut short or has trailing"):
        read(raw)


@pytest.mark.parametrize("levels", [17, 511, 512, 20_000, 1_000_000])
@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1a", b"\xdc\x00\x01"], ids=["list", "map", "list16"])
def test_fault_31_deep_messagepack_is_refused_before_it_is_built(levels: int, opening: bytes) -> None:
    raw = opening * levels + b"\xc0"
    tracemalloc.start()
    with pytest.raises(TooLarge, match="deeper"):
        unpack(raw, max_bytes=8 << 20, max_depth=16)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize(
    "raw",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\x10\0\0\0",
        b"\xdd\x10\0\0\0",
        b"\xdd\x00\x0f\xff\x00" * 16 + b"\xc0" * 1_000_000,
    ],
    ids=["list", "map", "bin", "str", "list 2^28", "sixteen nested lists"],
)
def test_fault_31_a_huge_count_is_refused_with_little_allocated(raw: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(Malformed):
        unpack(raw, max_bytes=2 << 20, max_depth=16)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_fault_31_more_elements_than_allowed_are_refused() -> None:
    """A million empty lists are 1 MB on the wire and 64 MB built."""
    raw = pack([[] for _ in range(1_000_000)])
    with pytest.raises(TooLarge, match="elements"):
        unpack(raw, max_bytes=2 << 20, max_depth=16)


def test_longer_than_the_cap_is_refused() -> None:
    with pytest.raises(TooLarge, match="101 bytes"):
        unpack(b"\xc4\x63" + bytes(99), max_bytes=100, max_depth=0)
    assert unpack(b"\xc4\x62" + bytes(98), max_bytes=100, max_depth=0) == bytes(98)
