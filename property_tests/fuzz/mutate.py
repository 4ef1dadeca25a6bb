"""Damage: bytes changed blindly, and msgpack changed as the values it is."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final

import msgpack

MAX_BYTES: Final = 1 << 16
"""What grows beyond is cut: sizes have tests of their own."""
_NUMBERS: Final = (0, 1, 2, 127, 128, 255, 256, 1 << 16, (1 << 31) - 1, 1 << 31, 1 << 32, 1 << 48, 1 << 53, 1 << 62,
                   (1 << 63) - 1, 1 << 63, (1 << 64) - 1, -1, -128, -(1 << 31), -(1 << 63))  # fmt: skip
_BYTES: Final = (0, 1, 2, 3, 4, 8, 0x20, 0x40, 0x7F, 0x80, 0x90, 0xC0, 0xC4, 0xC7, 0xD9, 0xDF, 0xFF)


def damaged(rng: random.Random, seeds: Sequence[bytes], *, values: bool) -> bytes:
    """One of `seeds`, damaged once or a few times; with `values` mostly as msgpack."""
    data = rng.choice(seeds)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        changed = change_value(rng, data) if values and rng.random() < 0.7 else None
        data = changed if changed is not None else change_bytes(rng, data, rng.choice(seeds))
    return data[:MAX_BYTES]


def change_bytes(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """`data` with one blind change; `other` lends its bytes."""
    out = bytearray(data or b"\0")
    at = rng.randrange(len(out))
    match rng.randrange(12):
        case 0 | 1:
            out[at] ^= 1 << rng.randrange(8)
        case 2:
            out[at] = rng.choice(_BYTES)
        case 3 | 4:
            out[at] = (out[at] + rng.choice((-2, -1, 1, 2))) % 256
        case 5:
            del out[at : at + rng.choice((1, 1, 2, 8, 64))]
        case 6:
            out[at:at] = bytes(rng.choice(_BYTES) for _ in range(rng.choice((1, 1, 2, 4, 16))))
        case 7:
            del out[at:]
        case 8:
            start, size = rng.randrange(len(other) or 1), rng.choice((1, 4, 16, 64, 256))
            out[at : at + rng.choice((0, size))] = other[start : start + size]
        case 9:
            out[at:at] = out[at : at + rng.choice((1, 8, 64, 512))] * rng.choice((1, 2, 8))
        case 10:
            size = rng.choice((1, 2, 4, 8))
            number = rng.choice(_NUMBERS) % (1 << 8 * size)
            out[at : at + size] = number.to_bytes(size, rng.choice(("big", "little")))  # type: ignore[arg-type]
        case _:
            out += rng.randbytes(rng.choice((1, 2, 16)))
    return bytes(out)


def change_value(rng: random.Random, data: bytes) -> bytes | None:
    """`data` with one value in it changed, or None where it is no msgpack."""
    value = _unpack(data)
    if not isinstance(value, list | dict) or not value:
        return None
    try:
        return bytes(msgpack.packb(_changed(rng, value), use_bin_type=True))
    except (ValueError, OverflowError, TypeError):
        return None


def _unpack(data: bytes) -> Any:
    try:
        return msgpack.unpackb(data, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException):
        return None


def _changed(rng: random.Random, value: Any) -> Any:
    if isinstance(value, list) and value:
        out, at = list(value), rng.randrange(len(value))
        match rng.randrange(10):
            case 0:
                del out[at]
            case 1:
                out.insert(at, rng.choice(value))
            case 2:
                out.append(strange(rng))
            case 3:
                other = rng.randrange(len(value))
                out[at], out[other] = out[other], out[at]
            case _:
                out[at] = _changed(rng, out[at])
        return out
    if isinstance(value, dict) and value:
        key = rng.choice(list(value))
        return {**value, key: _changed(rng, value[key])} if rng.random() < 0.7 else {**value, strange(rng, key=True): 1}
    if isinstance(value, bytes) and value:
        skipped = value[:1] if value[0] == 0 else b""  # a mark before what is packed
        inner = change_value(rng, value[len(skipped) :]) if rng.random() < 0.8 else None
        if inner is not None:
            return skipped + inner
        return change_bytes(rng, value, value) if rng.random() < 0.8 else strange(rng)
    if isinstance(value, int) and rng.random() < 0.5:
        return rng.choice((value + 1, value - 1, value ^ (1 << rng.randrange(40)), *_NUMBERS)) % (1 << 64)
    return strange(rng)


def strange(rng: random.Random, *, key: bool = False) -> Any:
    """A value that hardly anybody expects."""
    plain: list[Any] = [None, True, False, *_NUMBERS, 0.5, float("nan"), float("inf"), b"", b"\0" * 8, b"\xff" * 32, "",
                        "x", "\0", "\x1b[2J", "x" * 300, "é" * 40, msgpack.ExtType(5, b"abc")]  # fmt: skip
    if key:
        return rng.choice(plain[:-1])
    nested: Any = rng.choice(([], {}, [[]], [None] * 20, {"": None}, {1: 2}))
    for _ in range(rng.choice((0, 0, 1, 5, 70, 400))):
        nested = [nested]
    return rng.choice([*plain, *3 * [nested]])
