"""Trust statements: the payload of operation ``"statement"`` in the directory collection.

::

    ["found",  nonce(16), name, device_type, keys]
    ["admit",  device(32), name, trust, device_type, keys]
    ["revoke", device(32), [[tag(16), incarnation(8), seq], …]]
    keys = [[space, sealed box], …]

as msgpack. Longer arrays are a later minor form: what is beyond is ignored here and survives, because entries
are kept as bytes. A type, or a trust level, that this release does not know decodes to :class:`Unknown`: kept
and relayed, but it changes nothing (a device whose trust one cannot read is no member). Which statements
count is decided by :mod:`aico_crdt.trust.family` alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from aico_crdt.errors import InvalidValue, Malformed
from aico_crdt.ids import DEVICE_BYTES, FAMILY_BYTES, INCARNATION_BYTES, TAG_BYTES
from aico_crdt.trust import wire

TRUSTS: Final = ("full", "limited", "relay", "guest")
"""Strongest first."""
NONCE_BYTES: Final = 16
STATEMENT_MAX_BYTES: Final = 256 * 1024
MAX_HEADS: Final = wire.MAX_COUNT
"""Feeds a revocation names: collections × incarnations of one device, some dozens in practice."""
MAX_KEYS: Final = 64
MAX_BOX_BYTES: Final = 1024
MAX_NAME_CHARS: Final = 64
_WORD: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.ASCII)
_HIDDEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls, line separators and direction overrides: a name is shown in terminals. Ranges and not Unicode
categories, which differ between Python releases and would let replicas disagree."""


class SealedKey(NamedTuple):
    """The keys of `space`, sealed to one device (see :func:`aico_crdt.trust.space.seal_space`)."""

    space: str
    box: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """The author founds a family; ``family_id(author, nonce)`` names it. `name` is the founding device's."""

    nonce: bytes
    name: str
    keys: tuple[SealedKey, ...]
    device_type: str = "desktop"


@dataclass(frozen=True, slots=True)
class Admit:
    """The author admits `device` with `trust` and hands it the keys of the spaces it may read."""

    device: bytes
    name: str
    trust: str
    device_type: str
    keys: tuple[SealedKey, ...]


@dataclass(frozen=True, slots=True)
class Revoke:
    """The author ends the membership of `device`, and the force of what it wrote beyond `heads`.

    A head is (tag, incarnation, seq).
    """

    device: bytes
    heads: tuple[tuple[bytes, bytes, int], ...]


@dataclass(frozen=True, slots=True)
class Unknown:
    """A statement of a later release: `raw` is the whole payload."""

    type: str
    raw: bytes


Statement = Found | Admit | Revoke | Unknown


def family_id(founder: bytes, nonce: bytes) -> bytes:
    """16 bytes that name a family: nobody but `founder` can found it."""
    return blake2b(founder + nonce, digest_size=FAMILY_BYTES, person=b"aico.family.1").digest()


def encode_statement(statement: Statement) -> bytes:
    """The payload of `statement`; equal statements give equal bytes.

    Raises:
        InvalidValue: a field is out of its bounds.
    """
    if isinstance(statement, Unknown):
        return statement.raw
    if problem := _problem(statement):
        raise InvalidValue(problem)
    if isinstance(statement, Admit) and statement.trust not in TRUSTS:
        raise InvalidValue(f"A trust level is one of {', '.join(TRUSTS)}.")
    raw = wire.pack(_fields(statement))
    if len(raw) > STATEMENT_MAX_BYTES:
        raise InvalidValue(f"A statement has at most {STATEMENT_MAX_BYTES} bytes, not {len(raw)}.")
    return raw


def decode_statement(raw: bytes) -> Statement:
    """The statement in a payload.

    Raises:
        TooLarge, Malformed: not a statement, or a field is out of its bounds.
    """
    value = wire.unpack(raw, STATEMENT_MAX_BYTES)
    if not isinstance(value, tuple) or not value or not isinstance(value[0], str):
        raise Malformed("A statement is an array that begins with its type.")
    if not _WORD.fullmatch(value[0]):
        raise Malformed("The type of a statement is a word of lower-case letters.")
    try:
        statement = _statement(value)
    except (ValueError, TypeError):
        raise Malformed("A statement has too few fields, or fields of the wrong shape.") from None
    if statement is None:
        return Unknown(value[0], raw)
    if problem := _problem(statement):
        raise Malformed(problem)
    if isinstance(statement, Admit) and statement.trust not in TRUSTS:
        return Unknown(value[0], raw)
    return statement


def _fields(statement: Found | Admit | Revoke) -> tuple[Any, ...]:
    match statement:
        case Found(nonce, name, keys, device_type):
            return "found", nonce, name, device_type, keys
        case Admit(device, name, trust, device_type, keys):
            return "admit", device, name, trust, device_type, keys
        case Revoke(device, heads):
            return "revoke", device, heads


def _statement(value: tuple[Any, ...]) -> Found | Admit | Revoke | None:
    match value[0]:
        case "found":
            _, nonce, name, device_type, keys, *_ = value
            return Found(nonce, name, _keys(keys), device_type)
        case "admit":
            _, device, name, trust, device_type, keys, *_ = value
            return Admit(device, name, trust, device_type, _keys(keys))
        case "revoke":
            _, device, heads, *_ = value
            return Revoke(device, tuple([(tag, incarnation, seq) for tag, incarnation, seq, *_ in heads]))
    return None


def _keys(value: Any) -> tuple[SealedKey, ...]:
    return tuple([SealedKey(space, box) for space, box, *_ in value])


def _problem(statement: Found | Admit | Revoke) -> str:
    """What is wrong with the fields, or ``""``. Any word is a trust level here: it may be newer."""
    match statement:
        case Found(nonce, name, keys, device_type):
            if not _is_bytes(nonce, NONCE_BYTES):
                return f"The nonce of a family has {NONCE_BYTES} bytes."
            return _name_problem(name) or _word_problem(device_type, "device type") or _keys_problem(keys)
        case Admit(device, name, trust, device_type, keys):
            if not _is_bytes(device, DEVICE_BYTES):
                return f"A device id has {DEVICE_BYTES} bytes."
            words = _word_problem(trust, "trust level") or _word_problem(device_type, "device type")
            return _name_problem(name) or words or _keys_problem(keys)
        case Revoke(device, heads):
            if not _is_bytes(device, DEVICE_BYTES):
                return f"A device id has {DEVICE_BYTES} bytes."
            if len(heads) > MAX_HEADS:
                return f"A revocation names at most {MAX_HEADS} feeds."
            if not all(_is_head(*head) for head in heads):
                return "A revocation head is a tag (16 bytes), an incarnation (8 bytes) and a number."
            return ""


def _is_bytes(value: object, size: int) -> bool:
    return isinstance(value, bytes) and len(value) == size


def _is_head(tag: object, incarnation: object, seq: object) -> bool:
    sized = _is_bytes(tag, TAG_BYTES) and _is_bytes(incarnation, INCARNATION_BYTES)
    return sized and type(seq) is int and 0 <= seq < 1 << 64


def _name_problem(name: object) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARS:
        return f"A device's name is 1 to {MAX_NAME_CHARS} characters of text."
    return "A device's name holds no control characters." if _HIDDEN.search(name) else ""


def _word_problem(word: object, what: str) -> str:
    fits = isinstance(word, str) and _WORD.fullmatch(word)
    return "" if fits else f"A {what} is a word of at most 32 lower-case letters, digits, '-' and '_'."


def _keys_problem(keys: tuple[SealedKey, ...]) -> str:
    if len(keys) > MAX_KEYS:
        return f"A statement carries the keys of at most {MAX_KEYS} spaces."
    for space, box in keys:
        if problem := _word_problem(space, "space"):
            return problem
        if not isinstance(box, bytes) or len(box) > MAX_BOX_BYTES:
            return f"A sealed key has at most {MAX_BOX_BYTES} bytes."
    return ""
