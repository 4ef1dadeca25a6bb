"""Statements as bytes: drawn by hand, bounded, and open to later releases."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aico_crdt.errors import InvalidValue, Malformed
from aico_crdt.trust.statement import (
    MAX_HEADS,
    MAX_KEYS,
    STATEMENT_MAX_BYTES,
    TRUSTS,
    Admit,
    Found,
    Revoke,
    SealedKey,
    Statement,
    Unknown,
    decode_statement,
    encode_statement,
    family_id,
)

NONCE, DEVICE, TAG, LIFE = b"n" * 16, b"d" * 32, b"t" * 16, b"i" * 8
KEY = SealedKey("own", b"box")

FOUND = Found(NONCE, "Laptop", (KEY,), "desktop")
ADMIT = Admit(DEVICE, "Küche 👩‍👧", "limited", "mobile", (KEY,))
REVOKE = Revoke(DEVICE, ((TAG, LIFE, 2**64 - 1), (TAG, b"j" * 8, 0)))


def pack(*value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


@pytest.mark.parametrize(
    ("statement", "raw"),
    [
        (FOUND, pack("found", NONCE, "Laptop", "desktop", [["own", b"box"]])),
        (ADMIT, pack("admit", DEVICE, "Küche 👩‍👧", "limited", "mobile", [["own", b"box"]])),
        (REVOKE, pack("revoke", DEVICE, [[TAG, LIFE, 2**64 - 1], [TAG, b"j" * 8, 0]])),
        (Revoke(DEVICE, ()), pack("revoke", DEVICE, [])),
    ],
)
def test_a_statement_is_drawn_as_documented(statement: Statement, raw: bytes) -> None:
    assert encode_statement(statement) == raw
    assert decode_statement(raw) == statement
    assert hash(decode_statement(raw)) == hash(statement)


def test_a_longer_statement_is_a_later_form_of_the_same() -> None:
    assert decode_statement(pack("revoke", DEVICE, [[TAG, LIFE, 3, "new"]], {"why": "lost"})) == Revoke(
        DEVICE, ((TAG, LIFE, 3),)
    )
    assert decode_statement(pack("admit", DEVICE, "x", "full", "server", [["own", b"box", 2]], None)) == Admit(
        DEVICE, "x", "full", "server", (KEY,)
    )


def test_an_unknown_statement_keeps_its_bytes() -> None:
    for raw in (pack("epoch", {"key": [1, 2]}), pack("vouch"), pack("admit", DEVICE, "x", "observer", "server", [])):
        statement = decode_statement(raw)
        assert isinstance(statement, Unknown)
        assert encode_statement(statement) == raw == statement.raw


@pytest.mark.parametrize("trust", TRUSTS)
def test_the_trust_levels(trust: str) -> None:
    assert decode_statement(pack("admit", DEVICE, "x", trust, "server", [])) == Admit(DEVICE, "x", trust, "server", ())


BAD: list[tuple[Any, ...]] = [
    (),
    (1,),
    (b"found",),
    ("",),
    ("Found", NONCE, "x", "desktop", []),
    ("x" * 33,),
    ("found",),
    ("found", NONCE, "x", "desktop"),
    ("found", NONCE[:15], "x", "desktop", []),
    ("found", "n" * 16, "x", "desktop", []),
    ("found", NONCE, "", "desktop", []),
    ("found", NONCE, "x" * 65, "desktop", []),
    ("found", NONCE, b"x", "desktop", []),
    ("found", NONCE, "x", "Desktop!", []),
    ("found", NONCE, "x", 3, []),
    ("found", NONCE, "x", "desktop", None),
    ("found", NONCE, "x", "desktop", 3),
    ("found", NONCE, "x", "desktop", ["own"]),
    ("found", NONCE, "x", "desktop", [["own"]]),
    ("found", NONCE, "x", "desktop", [["Own space", b""]]),
    ("found", NONCE, "x", "desktop", [["own", "text"]]),
    ("found", NONCE, "x", "desktop", [["own", bytes(1025)]]),
    ("found", NONCE, "x", "desktop", [["own", b""]] * (MAX_KEYS + 1)),
    ("admit", DEVICE[:31], "x", "full", "server", []),
    ("admit", DEVICE, "x", None, "server", []),
    ("admit", DEVICE, "x", ["full"], "server", []),
    ("admit", DEVICE, "bell\a", "full", "server", []),
    ("admit", DEVICE, "\x9b31mred", "full", "server", []),
    ("admit", DEVICE, "right\u202eleft", "full", "server", []),
    ("admit", DEVICE, "two\nlines", "full", "server", []),
    ("revoke", DEVICE),
    ("revoke", DEVICE, 5),
    ("revoke", b"", []),
    ("revoke", DEVICE, [[TAG, LIFE]]),
    ("revoke", DEVICE, [[TAG, LIFE, -1]]),
    ("revoke", DEVICE, [[TAG, LIFE, True]]),
    ("revoke", DEVICE, [[TAG, LIFE, 1.0]]),
    ("revoke", DEVICE, [[TAG[:15], LIFE, 1]]),
    ("revoke", DEVICE, [[TAG, LIFE + b"i", 1]]),
    ("revoke", DEVICE, [[TAG, LIFE, 1]] * (MAX_HEADS + 1)),
]


@pytest.mark.parametrize("value", BAD, ids=lambda value: repr(value)[:60])
def test_what_is_out_of_bounds_is_malformed(value: tuple[Any, ...]) -> None:
    with pytest.raises(Malformed):
        decode_statement(pack(*value))


@pytest.mark.parametrize(
    "raw", [b"", b"\xc1", b"found", pack("found") + b"\0", msgpack.packb("found"), msgpack.packb({})]
)
def test_what_is_no_array_is_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed):
        decode_statement(raw)


def test_fault_32_a_statement_cut_or_extended_anywhere_is_malformed() -> None:
    for statement in (FOUND, ADMIT, REVOKE):
        raw = encode_statement(statement)
        for end in range(len(raw)):
            with pytest.raises(Malformed):
                decode_statement(raw[:end])
        with pytest.raises(Malformed):
            decode_statement(raw + raw)


def test_a_statement_beyond_its_bytes_is_malformed() -> None:
    with pytest.raises(Malformed, match=str(STATEMENT_MAX_BYTES)):
        decode_statement(pack("later", bytes(STATEMENT_MAX_BYTES)))


@pytest.mark.parametrize(
    "statement",
    [
        Found(b"short", "x", ()),
        Found(NONCE, "", ()),
        Admit(DEVICE, "x", "boss", "server", ()),
        Admit(DEVICE, "x\n", "full", "server", ()),
        Admit(DEVICE, "x", "full", "Server 2", ()),
        Revoke(DEVICE, ((TAG, LIFE, 2**64),)),
        Revoke(DEVICE, ((TAG, LIFE, -1),)),
        Revoke(DEVICE, ((TAG, LIFE, 1),) * (MAX_HEADS + 1)),
        Revoke(b"", ()),
    ],
)
def test_what_would_be_malformed_is_not_written(statement: Statement) -> None:
    with pytest.raises(InvalidValue):
        encode_statement(statement)


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_malformed(raw: bytes) -> None:
    _decode(raw)


@given(st.sampled_from([FOUND, ADMIT, REVOKE]), st.integers(0, 10**6), st.integers(0, 255))
def test_one_byte_flipped_decodes_or_is_malformed(statement: Statement, position: int, value: int) -> None:
    raw = bytearray(encode_statement(statement))
    raw[position % len(raw)] = value
    _decode(bytes(raw))


def _decode(raw: bytes) -> None:
    try:
        statement = decode_statement(raw)
    except Malformed:
        return
    assert decode_statement(encode_statement(statement)) == statement


def test_a_family_id_is_16_bytes_of_founder_and_nonce() -> None:
    expected = blake2b(DEVICE + NONCE, digest_size=16, person=b"aico.family.1").digest()
    assert family_id(DEVICE, NONCE) == expected
    assert len({expected, family_id(DEVICE, bytes(16)), family_id(bytes(32), NONCE)}) == 3
