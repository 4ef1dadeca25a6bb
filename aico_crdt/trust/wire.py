"""Strict msgpack for what trust reads: statements and sealed boxes. Every failure is ``Malformed``."""

from __future__ import annotations

from typing import Any, Final

import msgpack

from aico_crdt.errors import Malformed, TooLarge

MAX_DEPTH: Final = 16
MAX_COUNT: Final = 4096
"""Elements of one array or map. msgpack reserves an array as declared, so this also bounds memory."""


def pack(value: object) -> bytes:
    """`value` as msgpack; text and bytes stay apart."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def unpack(raw: bytes, max_bytes: int) -> Any:
    """The one msgpack value that `raw` is; arrays come back as tuples.

    Raises:
        TooLarge: `raw` is longer than `max_bytes`, or nested deeper than 16.
        Malformed: not exactly one value, not UTF-8, a count beyond 4,096 or beyond the bytes there are.
    """
    if len(raw) > max_bytes:
        raise TooLarge(f"{len(raw)} bytes where at most {max_bytes} are allowed.")
    count = min(MAX_COUNT, len(raw))
    try:
        value = msgpack.unpackb(
            raw,
            raw=False,
            use_list=False,
            strict_map_key=True,
            max_str_len=len(raw),
            max_bin_len=len(raw),
            max_ext_len=len(raw),
            max_array_len=count,
            max_map_len=count,
        )
    except (ValueError, msgpack.UnpackException) as error:
        raise Malformed(f"Not msgpack: {type(error).__name__}.") from None
    _check_depth(value)
    return value


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        nested = [item for item in level if isinstance(item, tuple | dict)]
        if not nested:
            return
        level = [inner for item in nested for inner in (item if isinstance(item, tuple) else item.values())]
    raise TooLarge(f"Nested deeper than {MAX_DEPTH}.")
