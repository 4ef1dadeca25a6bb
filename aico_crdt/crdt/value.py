"""Plain values: the one place where Python values are converted and checked.

A value is None, bool, int, finite float, text, bytes, list or dict with text keys. Yrs stores every number as
a double and hands dicts back in random order, so a value has one *plain form*, the same on every replica: a
number without a fraction is an int, ``-0.0`` is 0, a tuple is a list, dict keys are sorted. What was read can
always be written again.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgpack

from aico_crdt.errors import InvalidValue

MAX_INTEGER: Final = (1 << 53) - 1
"""Greatest magnitude of an integer: beyond it doubles skip numbers."""
MAX_DEPTH: Final = 16
"""Nesting of lists and dicts; Yrs overflows its stack some thousand levels deep."""
MAX_BYTES: Final = 256 * 1024
"""Size of one value, counted as UTF-8 and raw bytes plus one byte an item and nine a number."""
_NUMBER_BYTES: Final = 9


def plain(value: Any) -> Any:
    """`value` in its plain form; lists and dicts are copied.

    Raises:
        InvalidValue: NaN or infinity, an integer beyond ±(2^53 - 1), text with a lone surrogate, a dict key
            that is not text, another type, deeper than MAX_DEPTH or larger than MAX_BYTES.
    """
    result, size = _plain(value, 0)
    if size > MAX_BYTES:
        raise _too_large()
    return result


def canonical(value: Any) -> bytes:
    """The bytes two values share exactly when their plain forms are equal: msgpack with sorted keys.

    Raises:
        InvalidValue: as :func:`plain`.
    """
    return pack(plain(value))


def pack(plain_value: Any) -> bytes:
    """msgpack of a value already in plain form, or of lists of such values."""
    packed: bytes = msgpack.packb(plain_value, use_bin_type=True)
    return packed


def text_bytes(text: str) -> int:
    """Length of `text` in UTF-8.

    Raises:
        InvalidValue: it holds a lone surrogate.
    """
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise InvalidValue("Text holds a lone surrogate, which is no character.") from None


def _plain(value: Any, depth: int) -> tuple[Any, int]:
    """The plain form and its size; stops soon after the size passes MAX_BYTES."""
    kind = type(value)
    if kind is str:
        return value, 1 + text_bytes(value)
    if value is None or kind is bool:
        return value, 1
    if kind is float:
        return _plain_float(value), _NUMBER_BYTES
    if kind is int:
        if -MAX_INTEGER <= value <= MAX_INTEGER:
            return value, _NUMBER_BYTES
        raise InvalidValue("An integer lies beyond 2^53 - 1, where doubles skip numbers; store it as text.")
    if kind is dict:
        return _plain_dict(value, depth + 1)
    if kind is list or kind is tuple:
        return _plain_list(value, depth + 1)
    if kind is bytes or kind is bytearray:
        return bytes(value), 1 + len(value)
    raise InvalidValue(f"A {kind.__name__} cannot be stored; use text, numbers, bytes, lists and dicts.")


def _plain_float(value: float) -> float | int:
    if not math.isfinite(value):
        raise InvalidValue("NaN and infinity cannot be stored.")
    if value.is_integer() and -MAX_INTEGER <= value <= MAX_INTEGER:
        return int(value)
    return value


def _plain_list(value: list[Any] | tuple[Any, ...], depth: int) -> tuple[list[Any], int]:
    _check_depth(depth)
    size = 1
    result = []
    for item in value:
        converted, added = _plain(item, depth)
        result.append(converted)
        size += added
        if size > MAX_BYTES:
            raise _too_large()
    return result, size


def _plain_dict(value: dict[Any, Any], depth: int) -> tuple[dict[str, Any], int]:
    _check_depth(depth)
    size = 1
    result = {}
    if any(type(key) is not str for key in value):
        raise InvalidValue("The keys of a dict are text.")
    for key in sorted(value):
        one = value[key]
        if type(one) is str and one.isascii():
            result[key] = one
            size += 1 + len(one)
        else:
            result[key], added = _plain(one, depth)
            size += added
        size += 1 + (len(key) if key.isascii() else text_bytes(key))
        if size > MAX_BYTES:
            raise _too_large()
    return result, size


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidValue(f"A value is nested deeper than {MAX_DEPTH} levels.")


def _too_large() -> InvalidValue:
    return InvalidValue(f"A value is larger than {MAX_BYTES} bytes.", "Split it over several documents.")
