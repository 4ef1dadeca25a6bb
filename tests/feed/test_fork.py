"""Proofs that a device signed two entries for one place."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgpack
import pytest

from aico_crdt.errors import BadSignature, InvalidValue, Malformed
from aico_crdt.feed import (
    GENESIS,
    Entry,
    ForkProof,
    Head,
    decode_fork,
    encode_fork,
    is_fork,
    prove_fork,
    verify_fork,
    verify_run,
    winner,
)


@pytest.fixture
def branches(author: Any) -> tuple[list[Entry], list[Entry]]:
    """One device, cloned after its first entry: both clones write on."""
    one, clone = author(1), author(1)
    first = [one.write(b"same"), *(one.write(b"one %d" % place) for place in range(2))]
    other = [clone.write(b"same"), *(clone.write(b"clone %d" % place) for place in range(2))]
    return first, other


def test_fault_25_two_entries_for_one_place_prove_a_fork(branches: Any) -> None:
    (first, one, _), (same, two, _) = branches
    assert first == same
    verify_run(branches[0], GENESIS)
    verify_run(branches[1], GENESIS)
    proof = prove_fork(one, two)
    verify_fork(proof)
    assert {proof.a.header, proof.b.header} == {one.header, two.header}
    assert proof.a.items == proof.b.items == (None,)


def test_fault_25_every_replica_picks_the_same_branch(branches: Any) -> None:
    (_, one, _), (_, two, _) = branches
    assert prove_fork(one, two) == prove_fork(two, one)
    small, large = sorted([one.header.hash, two.header.hash])
    assert prove_fork(two, one).a.header.hash == small
    assert winner(small, large) == winner(large, small) == small


def test_what_is_no_fork_cannot_be_proven(branches: Any, author: Any) -> None:
    (first, one, later), (_, two, _) = branches
    ben = author(2)
    ben.write(b"x")
    another_device = ben.write(b"y")
    other_life = author(1, incarnation=b"J" * 8)
    other_life.write(b"x")
    another_incarnation = other_life.write(b"y")
    for entry in (one, first, later, another_device, another_incarnation):
        assert not is_fork(one.header, entry.header)
        with pytest.raises(InvalidValue):
            prove_fork(one, entry)
    assert is_fork(one.header, two.header)


def test_a_forged_proof_is_refused(branches: Any, author: Any) -> None:
    (first, one, later), (_, two, _) = branches
    proof = prove_fork(one, two)
    place = b"F" * 16 + b"T" * 16 + proof.b.header.incarnation + proof.b.header.seq.to_bytes(8, "big")
    signature = author(2).sign(b"aico-crdt entry 1\0" + place + proof.b.header.hash)
    forged = dataclasses.replace(proof.b, signature=signature)
    with pytest.raises(BadSignature):
        verify_fork(ForkProof(proof.a, forged))
    with pytest.raises(BadSignature):
        verify_fork(ForkProof(dataclasses.replace(proof.a, signature=bytes(64)), proof.b))
    for a, b in ((proof.b, proof.a), (proof.a, proof.a), (first, one), (one, later)):
        with pytest.raises(Malformed):
            verify_fork(ForkProof(a, b))


def test_what_is_encoded_is_decoded(branches: Any) -> None:
    proof = prove_fork(branches[0][1], branches[1][1])
    again = decode_fork(encode_fork(proof))
    assert again == proof
    verify_fork(again)


def prove(raw: bytes) -> None:
    verify_fork(decode_fork(raw))


def test_fault_32_a_proof_cut_extended_or_flipped_is_refused(
    branches: Any, cuts: Any, bit_flips: Any, refused: Any
) -> None:
    raw = encode_fork(prove_fork(branches[0][1], branches[1][1]))
    prove(raw)
    assert all(refused(lambda raw=changed: prove(raw)) for changed in cuts(raw))
    assert [offset for offset, changed in bit_flips(raw) if not refused(lambda raw=changed: prove(raw))] == []


def test_headers_of_the_greatest_size_still_make_a_proof(author: Any) -> None:
    deps = [Head(number.to_bytes(32, "big"), b"B" * 8, (1 << 63) - 1, b"C" * 32) for number in range(1024)]
    proof = prove_fork(author(1).write(b"x", deps=deps), author(1).write(b"y", deps=deps))
    prove(encode_fork(proof))


@pytest.mark.parametrize(
    "value",
    [None, [], [b"", b"", b""], [b"", bytes(64), b"", bytes(64)], [b"", bytes(63), b"", bytes(64)], ["", 1, 2, 3]],
)
def test_another_shape_is_refused(value: Any) -> None:
    with pytest.raises(Malformed):
        decode_fork(msgpack.packb(value))
