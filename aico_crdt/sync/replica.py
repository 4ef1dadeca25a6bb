"""What a session asks of the store behind it.

Everything in `Replica` is a question: synchronous, quick, without side effects. What changes the store (ingesting,
noting an acknowledgement) is an effect, carried out by the shell and answered by an event: see `effect` and `event`.
The values both speak in stand in `feed.exchange`. A session never looks inside a run: what its entries are worth is
for the receipt rules of the store to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from aico_crdt.feed.exchange import DIGEST_BYTES, Body, FeedHead, HeldHead, IngestReport, Place, Run, digest_of

__all__ = ["DIGEST_BYTES", "Body", "FeedHead", "HeldHead", "IngestReport", "Place", "Replica", "Run", "digest_of"]


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
        """16 bytes, equal on two replicas exactly if their heads are and neither has gaps: `digest_of` heads and
        gaps."""

    def heads(self, tag: bytes) -> Sequence[FeedHead]:
        """The newest applied entry of every feed, sorted; all of one moment, what is lacking included."""

    def gaps(self, tag: bytes) -> Sequence[Place]:
        """Applied entries of which an item is lacking that no forget explains, sorted: every peer is asked once."""

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
        """The collection as a signed manifest (`feed.encode_manifest`); None if this device may not attest
        it, or it is beyond the caps of one."""

    def wants_manifest(self, tag: bytes) -> bool:
        """Whether the manifest is wanted although no feed lacks anything: it is not known what is missing."""

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
