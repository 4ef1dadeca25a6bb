"""Forks: two different entries signed for one place of one feed, by a copied device or a dishonest one.

Both headers with their signatures are the proof, and anyone can check it. Every replica keeps the same branch
without asking another: the one with the smaller header hash.

    Wire: msgpack [header raw a, signature a, header raw b, signature b], a being the winner
"""

from __future__ import annotations

from dataclasses import dataclass

from aico_crdt.errors import InvalidValue, Malformed
from aico_crdt.feed.entry import SIGNATURE_BYTES, Entry, verify_entry
from aico_crdt.feed.header import HEADER_MAX_BYTES, Header, decode_header
from aico_crdt.feed.packing import pack, unpack


@dataclass(frozen=True, slots=True)
class ForkProof:
    """Two entries without their items for one place; `a` is in force, `b` and all that continues it is
    not."""

    a: Entry
    b: Entry


def winner(a_hash: bytes, b_hash: bytes) -> bytes:
    """The header hash whose branch is in force: the smaller, so that every replica picks the same."""
    return min(a_hash, b_hash)


def is_fork(a: Header, b: Header) -> bool:
    """Two different headers claim one place of one feed."""
    return a.hash != b.hash and a.seq == b.seq and a.feed == b.feed and a.family == b.family


def prove_fork(one: Entry, other: Entry) -> ForkProof:
    """The proof that two entries fork their feed, whatever the order they are given in.

    Raises:
        InvalidValue: they do not claim one place.
    """
    if not is_fork(one.header, other.header):
        raise InvalidValue("These two entries do not claim the same place of one feed.")
    a, b = sorted((_bare(one.header, one.signature), _bare(other.header, other.signature)), key=_hash)
    return ForkProof(a, b)


def verify_fork(proof: ForkProof) -> None:
    """Check that one device really signed both.

    Raises:
        Malformed: the two do not fork a feed.
        BadSignature: one of them is not signed by that device: no proof against it.
    """
    if not is_fork(proof.a.header, proof.b.header) or _hash(proof.a) != winner(_hash(proof.a), _hash(proof.b)):
        raise Malformed("A proof of a fork holds two entries that do not fork a feed.")
    verify_entry(proof.a)
    verify_entry(proof.b)


def encode_fork(proof: ForkProof) -> bytes:
    """The wire bytes of a proof."""
    return pack([proof.a.header.raw, proof.a.signature, proof.b.header.raw, proof.b.signature])


def decode_fork(raw: bytes) -> ForkProof:
    """Read a proof; `verify_fork` says whether it holds.

    Raises:
        NotYet: ``format``: one of the headers is in a later format.
        Malformed: not a proof.
    """
    fields = unpack(raw, max_bytes=2 * HEADER_MAX_BYTES + 256, max_depth=1, max_elements=5, what="A proof of a fork")
    if type(fields) is not list or len(fields) != 4 or any(type(field) is not bytes for field in fields):
        raise Malformed("A proof of a fork is not two headers and two signatures.")
    raw_a, signature_a, raw_b, signature_b = fields
    if len(signature_a) != SIGNATURE_BYTES or len(signature_b) != SIGNATURE_BYTES:
        raise Malformed("A proof of a fork has a signature of the wrong length.")
    return ForkProof(_bare(decode_header(raw_a), signature_a), _bare(decode_header(raw_b), signature_b))


def _bare(header: Header, signature: bytes) -> Entry:
    return Entry(header, signature, (None,) * len(header.items))


def _hash(entry: Entry) -> bytes:
    return entry.header.hash
