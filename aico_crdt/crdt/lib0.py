"""lib0, the encoding under Yjs: reading it with suspicion, and the little of it that is written here.

Source of the format: github.com/dmonad/lib0, ``encoding.js`` and ``decoding.js``.

==========  =================================================================================
varuint     7 bits a byte, lowest first; bit 7 says that another byte follows
varint      as above, but the first byte holds 6 bits and bit 6 is the sign
varstring   varuint of the length in bytes, then UTF-8
Any         one byte from 116 to 127 for the type, then the value (:func:`skip_any`)
==========  =================================================================================

Readers take ``(data, position)`` and return the next position. Past the end they raise `IndexError`, which
the caller turns into :class:`~aico_crdt.errors.Malformed` once, at its door; everything else that is wrong is
`Malformed` here. Integers must be in their shortest form, as every encoder writes them: one value, one spelling.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import Any, Final, NoReturn

from aico_crdt.errors import Malformed, TooLarge

MAX_INTEGER: Final = (1 << 53) - 1
"""Largest integer that a double, and so a Yjs client in JavaScript, holds exactly."""
_MAX_SHIFT: Final = 49  # eight bytes of seven bits reach 56
_JSON_INTEGERS: Final = range(-(1 << 63), 1 << 63)  # serde_json, below Yrs, refuses integers beyond 64 bits


def read_varuint(data: bytes, i: int) -> tuple[int, int]:
    """The unsigned integer at `i` and the position after it.

    Raises:
        Malformed: above :data:`MAX_INTEGER`, or longer than it needs to be.
        IndexError: `data` ends inside it.
    """
    value = data[i]
    if value < 128:
        return value, i + 1
    value &= 127
    shift = 7
    while True:
        i += 1
        byte = data[i]
        value |= (byte & 127) << shift
        if byte < 128:
            break
        shift += 7
        if shift > _MAX_SHIFT:
            raise Malformed("An integer has more bits than Yjs knows.")
    if byte == 0:
        raise Malformed("An integer is padded with empty bytes.")
    if value > MAX_INTEGER:
        raise Malformed("An integer has more bits than Yjs knows.")
    return value, i + 1


def write_varuint(value: int) -> bytes:
    """`value` (0 or more) in its shortest form."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_string(data: bytes, i: int) -> tuple[str, int]:
    """The varstring at `i` and the position after it.

    Raises:
        Malformed: not UTF-8 (lone surrogates included), or longer than what is left.
        IndexError: `data` ends inside the length.
    """
    size, i = read_varuint(data, i)
    end = i + size
    if end > len(data):
        raise Malformed("A string is longer than what is left of the update.")
    return decode(data[i:end]), end


def decode(chunk: bytes) -> str:
    """`chunk` as text. Yrs takes these bytes unchecked, so a wrong one is undefined behaviour there."""
    try:
        return chunk.decode()
    except UnicodeDecodeError:
        raise Malformed("A string is not UTF-8.") from None


def utf16_length(text: str) -> int:
    """UTF-16 code units of `text`: how Yjs counts clocks in strings."""
    return len(text.encode("utf-16-le")) >> 1


def skip_any(data: bytes, i: int, max_depth: int) -> int:
    """The position after the Any at `i`, which is checked completely. No objects are made of it.

    ===  ==========  ====================================
    127  undefined
    126  null
    125  integer     varint, up to 53 bits
    124  float32     4 bytes; may be NaN or infinite: judging values is not done here
    123  float64     8 bytes; likewise
    122  bigint      8 bytes
    121  false
    120  true
    119  string      varstring
    118  object      varuint count, then (varstring, Any) each
    117  array       varuint count, then Any each
    116  bytes       varuint length, then so many bytes
    ===  ==========  ====================================

    Raises:
        Malformed: an unknown type, invalid UTF-8, a count above what is left.
        TooLarge: arrays and objects nested deeper than `max_depth`.
        IndexError: `data` may end inside it; the caller compares the position with its end.
    """
    stack: list[int] = []  # values still to come in each open container; negative in objects
    left = 1
    size = len(data)
    while True:
        while left == 0:
            if not stack:
                return i
            left = stack.pop()
        if left < 0:  # in an object, each value has a key before it
            left += 1
            length = data[i]
            i += 1
            if length > 127:
                length, i = read_varuint(data, i - 1)
            end = i + length
            key = data[i:end]
            if end > size:
                raise Malformed("A key is longer than what is left of the update.")
            if not key.isascii():
                decode(key)
            i = end
        else:
            left -= 1
        kind = data[i]
        i += 1
        if kind == 119:
            length = data[i]
            i += 1
            if length > 127:
                length, i = read_varuint(data, i - 1)
            end = i + length
            if end > size:
                raise Malformed("A string is longer than what is left of the update.")
            text = data[i:end]
            if not text.isascii():
                decode(text)
            i = end
        elif kind == 125:
            i = _skip_varint(data, i)
        elif kind == 123 or kind == 122:
            i += 8
        elif kind == 124:
            i += 4
        elif kind == 117 or kind == 118:
            count, i = read_varuint(data, i)
            width = 1 if kind == 117 else 2
            if count * width > size - i:
                raise Malformed("A count is larger than what is left of the update.")
            stack.append(left)
            if len(stack) > max_depth:
                raise TooLarge(f"A value is nested deeper than {max_depth} levels.", "Flatten it.")
            left = count if kind == 117 else -count
        elif kind == 116:
            length, i = read_varuint(data, i)
            i += length
        elif not 120 <= kind <= 127:
            raise Malformed("A value has a type that Yjs does not know.")
        if i > size:
            raise Malformed("A value is longer than what is left of the update.")


def _skip_varint(data: bytes, i: int) -> int:
    byte = data[i]
    i += 1
    if byte < 128:
        return i
    value = byte & 63
    shift = 6
    while byte > 127:
        byte = data[i]
        i += 1
        value |= (byte & 127) << shift
        shift += 7
        if shift > 55:
            raise Malformed("An integer has more bits than Yjs knows.")
    if byte == 0:
        raise Malformed("An integer is padded with empty bytes.")
    if value > MAX_INTEGER:
        raise Malformed("An integer has more bits than Yjs knows.")
    return i


def check_json(text: str, max_depth: int) -> None:
    """Refuses what serde_json, below Yrs, refuses: embeds and formats carry their values as JSON text.

    Raises:
        Malformed: no JSON, a number out of range, a lone surrogate.
        TooLarge: nested deeper than `max_depth`.
    """
    if text.count("[") + text.count("{") > max_depth and _json_depth(text) > max_depth:
        raise TooLarge(f"A value is nested deeper than {max_depth} levels.", "Flatten it.")
    try:
        value = _JSON.decode(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except ValueError:  # JSONDecodeError, UnicodeEncodeError and the hooks below
        raise Malformed("An embedded value is not JSON that Yrs reads.") from None


def _json_depth(text: str) -> int:
    deepest = depth = 0
    quoted = escaped = False
    for character in text:
        if quoted:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                quoted = False
        elif character == '"':
            quoted = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _float(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError("out of range")
    return value


def _integer(text: str) -> int:
    value = int(text) if len(text) < 21 else 1 << 64
    if value not in _JSON_INTEGERS:
        raise ValueError("out of range")
    return value


def _constant(text: str) -> NoReturn:
    raise ValueError(text)


_JSON: Final[Any] = json.JSONDecoder(parse_float=_float, parse_int=_integer, parse_constant=_constant)
