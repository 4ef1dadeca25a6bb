"""What a session asks of the store behind it, and the values both speak in.

Everything in `Replica` is a question: synchronous, quick, without side effects. What changes the store (ingesting,
noting an acknowledgement) is an effect, carried out by the shell and answered by an event: see `effect` and `event`.

A **run** is here a sequence of entries as wire bytes (`feed.encode_entry`), consecutive in one feed. A session never
looks inside them: what they are worth is for the receipt rules of the store to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple, Protocol

DIGEST_BYTES: Final = 16

Run = Sequence[bytes]
"""Entries as wire bytes, consecutive in one feed, at least one."""


class FeedHead(NamedTuple):
    """How far a feed of one collection is held: entries `floor` to `seq`, all of them.

    `hash` (32 bytes) is that of the header at `seq` (1 or more). `floor` is the lowest entry still held,
    ``seq + 1`` when none is (all pruned, or covered by a manifest).
    """

    device: bytes
    incarnation: bytes
    floor: int
    seq: int
    hash: bytes


class Place(NamedTuple):
    """A place in a feed of one collection: where to read from, or how far a forget was carried out."""

    device: bytes
    incarnation: bytes
    seq: int


class Body(NamedTuple):
    """The state of one document, sealed under its space's current key."""

    key: bytes
    life: int
    sealed: bytes


class IngestReport(NamedTuple):
    """What became of a delivery; by the time it is returned, that is durable.

    Attributes:
        applied, held, rejected, duplicates: entries (or bodies) that ended so.
        heads: where every feed that the delivery named stands now, also when all of it was duplicates. Feeds of
            which nothing is applied yet are left out. For a manifest: all heads of the collection.
        ask: what is lacking to go on, read from there: predecessors and dependencies of what is held, the beginning
            of a fork.
    """

    applied: int = 0
    held: int = 0
    rejected: int = 0
    duplicates: int = 0
    heads: tuple[FeedHead, ...] = ()
    ask: tuple[Place, ...] = ()


class Replica(Protocol):
    """The store as sessions see it.

    A collection is named by its tag (16 bytes). Where a tag is not known, the answer is that of an empty collection.
    """

    @property
    def family(self) -> bytes:
        """The family's id, 16 bytes."""

    @property
    def device(self) -> bytes:
        """This device's id, 32 bytes."""

    @property
    def incarnation(self) -> bytes:
        """The life of the store, 8 bytes, as it is now."""

    @property
    def device_type(self) -> str:
        """What kind of device this is, such as ``laptop``; at most 32 characters."""

    def collections(self, peer: bytes) -> Sequence[bytes]:
        """Tags of the collections that `peer` (a device id) may have and this device has, in the order to sync
        them."""

    def may_have(self, peer: bytes, tag: bytes) -> bool:
        """Whether `peer` may have this collection *now*: asked before every message that carries some of it."""

    def digest(self, tag: bytes) -> bytes:
        """16 bytes, equal on two replicas exactly if their heads are: `digest_of` the heads."""

    def heads(self, tag: bytes) -> Sequence[FeedHead]:
        """The newest applied entry of every feed, sorted."""

    def hash_at(self, tag: bytes, place: Place) -> bytes | None:
        """The header hash of the entry in force at `place`; None where it is not held any more, or never was."""

    def read_entries(
        self, tag: bytes, wants: Sequence[Place], max_bytes: int, after: int
    ) -> tuple[Sequence[Run], int | None]:
        """Applied entries of the wanted feeds, each from its wanted seq, in this replica's order of arrival.

        Args:
            max_bytes: where to cut; one entry is returned even if it is larger.
            after: 0, or what the call before returned.

        Returns:
            runs (of neighbours in arrival order), and where to go on, or None when there is no more. Entries that
            arrive between two calls come at the end.
        """

    def manifest(self, tag: bytes) -> bytes | None:
        """The collection as a signed manifest (`feed.encode_manifest`); None if this device may not attest it."""

    def bodies(self, tag: bytes, keys: Sequence[bytes], max_bytes: int) -> Sequence[Body]:
        """Bodies of the documents named, in the order of `keys`, those not held left out, cut after `max_bytes`; at
        least one if any is held."""

    def stubs(self, tag: bytes, limit: int) -> Sequence[bytes]:
        """Keys (16 bytes) of up to `limit` documents whose body is not here, newest first."""

    def wants_bodies(self, tag: bytes) -> int:
        """How many bodies this device would fetch for its stubs now; 0 = it keeps them as stubs."""

    def erased(self, tag: bytes) -> Sequence[Place]:
        """For each feed, up to where every forget in it is carried out on this disk; sorted; feeds without forgets
        are left out."""


def digest_of(heads: Sequence[FeedHead]) -> bytes:
    """16 bytes over (device, incarnation, seq, hash) of the heads, in sorted order. Floors do not count: two replicas
    that pruned differently hold the same."""
    hasher = blake2b(digest_size=DIGEST_BYTES, person=b"aico.digest.1")
    for head in sorted(heads):
        hasher.update(head.device + head.incarnation + head.seq.to_bytes(8, "big") + head.hash)
    return hasher.digest()
