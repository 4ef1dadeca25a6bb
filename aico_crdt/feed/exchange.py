"""The values in which a store and its sessions speak of feeds: heads, places, bodies, what became of a delivery.

They stand here because both sides need them and neither may import the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

DIGEST_BYTES: Final = 16
BODY_MAX_BYTES: Final = 32 * 1024 * 1024
"""Four times what one device lets a document grow to: as many may have added to it without knowing of each other."""

Run = Sequence[bytes]
"""Entries as wire bytes, consecutive in one feed, at least one."""


class FeedHead(NamedTuple):
    """How far a feed of one collection is held: entries `floor` to `seq`, all of them.

    `hash` (32 bytes) is that of the header at `seq` (1 or more). `floor` is the lowest entry still held,
    ``seq + 1`` when none is (all pruned, or covered by a manifest). Of entries up to `lacking` some of what they wrote
    may not be here: documents that came by manifest are still stubs, or an item came erased that no forget explains.
    """

    device: bytes
    incarnation: bytes
    floor: int
    seq: int
    hash: bytes
    lacking: int = 0

    @property
    def held(self) -> HeldHead:
        """As an acknowledgement names it."""
        return HeldHead(self.device, self.incarnation, self.seq, self.hash, self.lacking)


class HeldHead(NamedTuple):
    """An entry that is durable somewhere, and all before it; less what is `lacking`, as in `FeedHead`."""

    device: bytes
    incarnation: bytes
    seq: int
    hash: bytes
    lacking: int = 0


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


def digest_of(heads: Sequence[FeedHead], gaps: Sequence[Place] = ()) -> bytes:
    """16 bytes over (device, incarnation, seq, hash) of the heads, in sorted order. Floors do not count: two replicas
    that pruned differently hold the same."""
    hasher = blake2b(digest_size=DIGEST_BYTES, person=b"aico.digest.1")
    for head in sorted(heads):
        hasher.update(head.device + head.incarnation + head.seq.to_bytes(8, "big") + head.hash)
    for gap in sorted(gaps):
        hasher.update(gap.device + gap.incarnation + gap.seq.to_bytes(8, "big"))
    return hasher.digest()
