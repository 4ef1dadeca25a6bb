"""Strict MessagePack (github.com/msgpack/msgpack/blob/master/spec.md): the one door through which foreign
bytes come in.

The bytes are walked before anything is built, since a decoder believes what it is told: a count of 2^32 in
five bytes makes room for 2^32 elements, and sixteen nested ones do so sixteen times. After the walk the
declared counts are known to be met, so what is built stays within a small multiple of the caps.

Extension types (timestamps among them) and map keys other than text and bytes are refused.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import msgpack

from aico_crdt.errors import Malformed, TooLarge

MAX_ELEMENTS: Final = 65_536
"""Elements in one message unless the caller says otherwise. An empty list is one byte on the wire and 64 in
memory."""

_SHORT: Final = 4096
_WIDE: Final = 64
"""Messages this short, with lists this narrow, are decoded without the walk: what the decoder makes room for is
bounded by the two, half a megabyte in the worst nesting."""

_SCALAR, _SIZED, _LIST, _MAP, _REFUSED = range(5)


def _lead_bytes() -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """For each lead byte: bytes of the whole scalar (0 = look further), what it leads, width of its count
    (bytes)."""
    whole, leads, width = [0] * 256, [_REFUSED] * 256, [0] * 256

    def scalar(code: int, size: int) -> None:
        whole[code], leads[code] = size, _SCALAR

    for code in (*range(0x80), *range(0xE0, 0x100), 0xC0, 0xC2, 0xC3):
        scalar(code, 1)
    for code in range(0xA0, 0xC0):
        scalar(code, 1 + (code & 31))
    for first, count in ((0xCC, 4), (0xD0, 4)):
        for power in range(count):
            scalar(first + power, 1 + (1 << power))
    scalar(0xCA, 5)
    scalar(0xCB, 9)
    for code in range(0x80, 0x90):
        leads[code] = _MAP
    for code in range(0x90, 0xA0):
        leads[code] = _LIST
    for kind, codes in ((_SIZED, (0xC4, 0xC5, 0xC6)), (_SIZED, (0xD9, 0xDA, 0xDB))):
        for power, code in enumerate(codes):
            leads[code], width[code] = kind, 1 << power
    for kind, codes16 in ((_LIST, (0xDC, 0xDD)), (_MAP, (0xDE, 0xDF))):
        for power, code in enumerate(codes16):
            leads[code], width[code] = kind, 2 << power
    return tuple(whole), tuple(leads), tuple(width)


_WHOLE, _LEADS, _WIDTH = _lead_bytes()


def pack(value: Any) -> bytes:
    """`value` as MessagePack: text as str, bytes as bin, integers in their shortest form."""
    return msgpack.packb(value, use_bin_type=True)  # type: ignore[no-any-return]


def unpack(
    raw: bytes, *, max_bytes: int, max_depth: int, max_elements: int = MAX_ELEMENTS, what: str = "A message"
) -> Any:
    """The one value `raw` holds.

    Args:
        max_bytes: longest `raw` accepted.
        max_depth: deepest nesting of lists and maps; 0 = a bare scalar, 1 = a flat list.
        max_elements: most elements of all lists and maps together (a map's pair counts as two).
        what: how the error names the bytes.

    Raises:
        TooLarge: beyond one of the caps; nothing was built.
        Malformed: truncated, extended, not MessagePack, text that is not UTF-8, a type this format does not
            use.
    """
    if len(raw) > max_bytes:
        raise TooLarge(f"{what} is {len(raw)} bytes long; at most {max_bytes} are accepted.")
    if len(raw) <= _SHORT and len(raw) <= max_elements:
        try:
            value = _unpack_short(raw)
        except (ValueError, TypeError):
            pass  # wide, broken or refused: the walk tells which
        else:
            if _shallow(value, max_depth):
                return value
    _walk(raw, max_depth, max_elements, what)
    try:
        return msgpack.unpackb(raw, raw=False, use_list=True, strict_map_key=True)
    except (ValueError, TypeError) as error:  # after the walk: bad UTF-8, or a map key that is a list
        raise Malformed(f"{what} does not decode ({type(error).__name__}).") from None


def _no_extension(code: int, data: bytes) -> Any:
    raise ValueError("extension")


_unpack_short: Final = partial(
    msgpack.unpackb,
    raw=False,
    use_list=True,
    strict_map_key=True,
    ext_hook=_no_extension,
    max_array_len=_WIDE,
    max_map_len=_WIDE,
    max_ext_len=0,
)


def _shallow(value: Any, depth: int) -> bool:
    """Whether lists and maps are nested at most `depth` deep."""
    kind = type(value)
    if kind is list:
        inner = [one for one in value if type(one) is list or type(one) is dict]
    elif kind is dict:
        inner = [one for one in value.values() if type(one) is list or type(one) is dict]
    else:
        return True
    return depth > 0 and all(_shallow(one, depth - 1) for one in inner)


def _walk(raw: bytes, max_depth: int, max_elements: int, what: str) -> None:
    """Pass over `raw` once without building anything."""
    position, left, elements = 0, 1, 1
    outer: list[int] = []
    try:
        while True:
            while not left:
                if not outer:
                    if position != len(raw):
                        raise Malformed(f"{what} is cut short or has trailing bytes.")
                    return
                left = outer.pop()
            code = raw[position]
            left -= 1
            whole = _WHOLE[code]
            if whole:
                position += whole
                continue
            leads, width = _LEADS[code], _WIDTH[code]
            position += 1
            if leads == _REFUSED:
                raise Malformed(f"{what} uses a type of MessagePack that is not accepted.")
            if width == 0:
                count = code & 15
            elif width == 1:
                count = raw[position]
            else:
                count = int.from_bytes(raw[position : position + width], "big")
            position += width
            if leads == _SIZED:
                position += count
                continue
            if leads == _MAP:
                count *= 2
            elements += count
            if elements > max_elements:
                raise TooLarge(f"{what} holds more than {max_elements} elements.")
            if len(outer) >= max_depth:
                raise TooLarge(f"{what} nests deeper than {max_depth}.")
            outer.append(left)
            left = count
    except IndexError:
        raise Malformed(f"{what} is cut short.") from None
