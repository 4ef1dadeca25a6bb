"""A birth without Yrs: most documents of a companion are born once and never changed.

The update of a birth is one struct of fixed shape (drawn in :mod:`aico_crdt.crdt.update_reader`): the author's clock
0, in the root map, under the author's key, holding ``[stamp, record]``::

    01 01 client 00   28 01 01 72   key   01 75 02   77 0D stamp   record   00

So it is written and read here directly, at a tenth of what a Yjs document costs. What has any other shape is not
judged here: the walker and Yrs do that. The update of a birth is also the whole state of a document that was born
and not changed since.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from functools import lru_cache
from math import isfinite
from typing import Any, Final, NamedTuple

from aico_crdt import clock
from aico_crdt.crdt import value as values
from aico_crdt.crdt.lib0 import write_varuint
from aico_crdt.errors import InvalidValue

MAX_BIRTH_BYTES: Final = 24 << 10
"""A longer update goes the long way. So short, a record cannot exceed the size of a value, however it is counted."""
_FIELD: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_DOUBLE: Final = struct.Struct(">d")
_FLOAT: Final = struct.Struct(">f")
_SMALL: Final = (1 << 31) - 1
"""Yjs writes greater integers as doubles."""


class Birth(NamedTuple):
    """A record as one writer bore it: its stamp, and its fields in plain form."""

    hlc: int
    record: dict[str, Any]


def write_birth(client: int, writer: str, birth: Birth) -> bytes:
    """The Yjs v1 update, and the state, of a document in which `writer` has borne a record and nothing else happened.

    Args:
        client: the writer's Yjs client id.
        birth: its record must be in plain form (:func:`aico_crdt.crdt.value.plain`) and name fields.
    """
    out = bytearray(_prefix(client, writer))
    out += clock.to_text(birth.hlc).encode()
    _write(out, birth.record)
    out.append(0)
    return bytes(out)


def read_birth(update: bytes, client: int, writer: str) -> Birth | None:
    """The birth by `writer` that `update` is; None if it is anything else, valid or not.

    What is read here is what the walker, Yrs and :meth:`Document.slots` would make of it in an empty document.
    """
    prefix = _prefix(client, writer)
    if len(update) > MAX_BIRTH_BYTES or not update.startswith(prefix):
        return None
    start = len(prefix)
    i = start + clock.TEXT_LENGTH
    try:
        if update[i] != 118:
            return None
        hlc = clock.from_text(update[start:i].decode())
        record, i = _read(update, i, 0)
    except (_Unusual, IndexError, UnicodeDecodeError, InvalidValue, struct.error):
        return None
    if i != len(update) - 1 or update[i] or not all(map(_is_field, record)):
        return None
    return Birth(hlc, record)


@lru_cache(maxsize=1024)
def _is_field(name: str) -> bool:
    return _FIELD.fullmatch(name) is not None


class _Unusual(Exception):
    """Something that the long way judges."""


@lru_cache(maxsize=1024)
def _prefix(client: int, writer: str) -> bytes:
    """Everything up to the stamp's characters."""
    key = b"*@" + writer.encode()
    return b"\1\1%b\0\x28\1\1r%b%b\1\x75\2\x77\x0d" % (write_varuint(client), write_varuint(len(key)), key)


# Any, as in :func:`aico_crdt.crdt.lib0.skip_any`


def _write(out: bytearray, value: Any) -> None:
    kind = type(value)
    if kind is str:
        raw = value.encode()
        out.append(119)
        _write_size(out, len(raw))
        out += raw
    elif value is None:
        out.append(126)
    elif kind is bool:
        out.append(120 if value else 121)
    elif kind is int:
        if -_SMALL <= value <= _SMALL:
            out.append(125)
            _write_integer(out, value)
        else:
            out.append(123)
            out += _DOUBLE.pack(value)
    elif kind is float:
        out.append(123)
        out += _DOUBLE.pack(value)
    elif kind is dict:
        out.append(118)
        _write_size(out, len(value))
        for key, one in value.items():
            out += _key(key)
            if type(one) is str:
                raw = one.encode()
                size = len(raw)
                if size < 128:
                    out += b"\x77%c" % size
                else:
                    out.append(119)
                    out += write_varuint(size)
                out += raw
            else:
                _write(out, one)
    elif kind is list:
        out.append(117)
        _write_size(out, len(value))
        for one in value:
            _write(out, one)
    else:
        out.append(116)
        _write_size(out, len(value))
        out += value


@lru_cache(maxsize=1024)
def _key(key: str) -> bytes:
    raw = key.encode()
    return write_varuint(len(raw)) + raw


def _write_size(out: bytearray, size: int) -> None:
    if size < 128:
        out.append(size)
    else:
        out += write_varuint(size)


def _write_integer(out: bytearray, value: int) -> None:
    rest = abs(value)
    out.append(rest & 63 | (64 if value < 0 else 0) | (128 if rest > 63 else 0))
    rest >>= 6
    while rest:
        out.append(rest & 127 | (128 if rest > 127 else 0))
        rest >>= 7


def _read(data: bytes, i: int, depth: int) -> tuple[Any, int]:
    """The plain form of the Any at `i`, and the position after it."""
    kind = data[i]
    i += 1
    if kind == 119:
        size = data[i]
        i += 1
        if size > 127:
            size, i = _read_size(data, i - 1)
        end = i + size
        if end > len(data):
            raise _Unusual
        return data[i:end].decode(), end
    if kind == 118:
        return _read_object(data, i, depth + 1)
    if kind == 125:
        return _read_integer(data, i)
    if kind == 123:
        return _number(_DOUBLE.unpack_from(data, i)[0]), i + 8
    if kind == 124:
        return _number(_FLOAT.unpack_from(data, i)[0]), i + 4
    if kind == 117:
        if depth >= values.MAX_DEPTH:
            raise _Unusual
        count, i = _read_size(data, i)
        if count > len(data) - i:
            raise _Unusual
        found = []
        for _ in range(count):
            one, i = _read(data, i, depth + 1)
            found.append(one)
        return found, i
    if kind == 116:
        size, i = _read_size(data, i)
        if i + size > len(data):
            raise _Unusual
        return data[i : i + size], i + size
    if kind == 126:
        return None, i
    if kind == 120 or kind == 121:
        return kind == 120, i
    raise _Unusual  # undefined, bigint, or no Any


def _read_object(data: bytes, i: int, depth: int) -> tuple[dict[str, Any], int]:
    if depth > values.MAX_DEPTH:
        raise _Unusual
    count, i = _read_size(data, i)
    if count > len(data) - i:
        raise _Unusual
    found: dict[str, Any] = {}
    last, in_order = "", True
    end_of_data = len(data)
    for _ in range(count):
        size = data[i]
        i += 1
        if size > 127:
            size, i = _read_size(data, i - 1)
        end = i + size
        key = data[i:end].decode()
        if end > end_of_data or key in found:
            raise _Unusual
        in_order = in_order and last <= key
        last = key
        kind = data[end]
        if kind == 119 and data[end + 1] < 128:  # short texts, small numbers and doubles are most of what there is
            start = end + 2
            i = start + data[end + 1]
            if i > end_of_data:
                raise _Unusual
            found[key] = data[start:i].decode()
        elif kind == 123:
            i = end + 9
            found[key] = _number(_DOUBLE.unpack_from(data, end + 1)[0])
        else:
            found[key], i = _read(data, end, depth)
    return found if in_order else {key: found[key] for key in sorted(found)}, i


def _read_size(data: bytes, i: int) -> tuple[int, int]:
    size = data[i]
    if size < 128:
        return size, i + 1
    more = data[i + 1]
    if 0 < more < 128:  # two bytes reach 16,383
        return size & 127 | more << 7, i + 2
    last = data[i + 2]
    if more < 128 or not 0 < last < 128:
        raise _Unusual
    return size & 127 | (more & 127) << 7 | last << 14, i + 3


def _read_integer(data: bytes, i: int) -> tuple[int, int]:
    byte = data[i]
    i += 1
    value, shift, negative = byte & 63, 6, byte & 64
    if byte > 127:
        while True:
            byte = data[i]
            i += 1
            value |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
            if shift > 55:
                raise _Unusual
        if byte == 0 or value > values.MAX_INTEGER:
            raise _Unusual
    return -value if negative else value, i


def _number(number: float) -> float | int:
    if not isfinite(number):
        raise _Unusual
    whole = number.is_integer() and -values.MAX_INTEGER <= number <= values.MAX_INTEGER
    return int(number) if whole else number


def fields_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """`record` in plain form.

    Raises:
        InvalidValue: no field's name, or a value that cannot be stored.
    """
    if not isinstance(record, Mapping):
        raise InvalidValue("Fields are a mapping of names to values.")
    if not all(type(name) is str and _is_field(name) for name in record):
        raise InvalidValue("A field's name is a small letter and up to 63 small letters, digits or _.")
    plain: dict[str, Any] = values.plain(dict(record))
    return plain
