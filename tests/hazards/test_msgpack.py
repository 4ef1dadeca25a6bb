"""Measured facts about msgpack that the packing of headers, frames and rows is built around."""

from __future__ import annotations

import math
from typing import Any

import msgpack
import pytest

from_bytes: Any = msgpack.unpackb
to_bytes: Any = msgpack.packb


@pytest.mark.parametrize(
    ("data", "limit", "value"),
    [
        (b"\xc4\x05abcde", {"max_bin_len": 4}, b"abcde"),
        (b"\xa5abcde", {"max_str_len": 4}, "abcde"),
        (b"\x93\x01\x02\x03", {"max_array_len": 2}, [1, 2, 3]),
        (b"\x83\xa1a\x01\xa1b\x02\xa1c\x03", {"max_map_len": 2}, {"a": 1, "b": 2, "c": 3}),
        (b"\xc7\x05\x01abcde", {"max_ext_len": 4}, msgpack.ExtType(1, b"abcde")),
    ],
)
def test_hazard_22_each_length_has_its_own_limit_and_none_by_default(
    data: bytes, limit: dict[str, int], value: object
) -> None:
    """22. Without a limit everything that fits the buffer is taken; each kind needs its own option."""
    assert from_bytes(data) == value
    with pytest.raises(ValueError, match="exceeds max_"):
        from_bytes(data, **limit)


@pytest.mark.parametrize("head", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"])
def test_hazard_22_a_declared_length_beyond_the_buffer_is_refused(head: bytes) -> None:
    """22. ``unpackb`` takes the buffer's length as the bound of a count: five bytes allocate nothing."""
    with pytest.raises(ValueError, match=r"exceeds max_|incomplete"):
        from_bytes(head)


def test_hazard_22_depth_is_limited_at_1024_only() -> None:
    """22. A thousand levels are read (deeper than Python code may recurse); 1,025 raise ``StackError``."""
    assert from_bytes(b"\x91" * 1000 + b"\xc0") is not None
    assert from_bytes(b"\x91" * 1024 + b"\xc0") is not None
    with pytest.raises(msgpack.exceptions.StackError):
        from_bytes(b"\x91" * 1025 + b"\xc0")


def test_hazard_22_writing_too_deep_raises_a_plain_value_error() -> None:
    """22. The writer has a limit of the same kind: 2,000 levels raise ``ValueError``."""
    nested: list[Any] = []
    for _ in range(2000):
        nested = [nested]
    with pytest.raises(ValueError, match="recursion"):
        to_bytes(nested)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "ValueError"),
        (b"\x92\x01", "ValueError"),
        (b"\x01\x02", "ExtraData"),
        (b"\xc1", "FormatError"),
        (b"\xa1\xff", "UnicodeDecodeError"),
        (b"\x81\x01\x02", "ValueError"),
    ],
)
def test_hazard_22_every_malformed_input_raises_some_value_error(data: bytes, error: str) -> None:
    """22. Empty, truncated, extended, reserved, not UTF-8, a key that is a number: all are ``ValueError``."""
    with pytest.raises(ValueError) as raised:
        from_bytes(data)
    assert type(raised.value).__name__ == error


@pytest.mark.parametrize("data", [b"\xcd\x00\x01", b"\xcc\x01", b"\xd3\x00\x00\x00\x00\x00\x00\x00\x01"])
def test_hazard_22_one_value_has_many_encodings(data: bytes) -> None:
    """22. Overlong integers are read as the short one: what is hashed or signed is bytes, never values."""
    assert from_bytes(data) == 1
    assert to_bytes(1) == b"\x01" != data


def test_hazard_22_a_repeated_key_keeps_the_last_value() -> None:
    """22. Two values for one key pass without a word."""
    assert from_bytes(b"\x82\xa1a\x01\xa1a\x02") == {"a": 2}


def test_hazard_22_nan_is_read_and_tuples_become_lists() -> None:
    """22. Neither NaN nor the loss of a type is reported."""
    assert math.isnan(from_bytes(b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"))
    assert from_bytes(to_bytes((1, 2))) == [1, 2]
