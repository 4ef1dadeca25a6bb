"""The store on disk is accepted by the kit that any replica is measured with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from aico_crdt.store import DocumentStore, StoreReplica
from aico_crdt.store.prune import prune
from aico_crdt.sync import Acknowledge, Ingest, IngestBodies, IngestManifest, IngestReport
from tests.store.conftest import Clock, Families, plain_kinds
from tests.sync.acceptance import ReplicaAcceptance, Subject

KINDS = ("memory", "fact")


class OnDisk:
    """One device's store."""

    def __init__(self, store: DocumentStore, families: Families) -> None:
        self.store = store
        self.families = families
        self.replica = StoreReplica(store)
        self.written = 0

    @property
    def tags(self) -> Sequence[bytes]:
        found = [self.store.directory.find("own", kind) for kind in KINDS]
        return [collection.tag for collection in found if collection is not None]

    def write(self, tag: bytes) -> None:
        self.written += 1
        with self.store.transaction() as transaction:
            transaction.create(KINDS[self.tags.index(tag)], {"content": "x" * 100, "t": self.written}, space="own")

    def carry_out(
        self, effect: Ingest | IngestManifest | IngestBodies | Acknowledge, source: bytes
    ) -> IngestReport | None:
        if isinstance(effect, Ingest):
            return self.replica.ingest(effect.tag, effect.runs, source)
        if isinstance(effect, IngestManifest):
            return self.replica.ingest_manifest(effect.tag, effect.raw, source)
        if isinstance(effect, IngestBodies):
            return self.replica.ingest_bodies(effect.tag, effect.bodies, source, effect.heads)
        self.replica.acknowledged(source, effect.tag, effect.heads, effect.erased)
        return None

    def content(self, tag: bytes) -> object:
        kind = KINDS[self.tags.index(tag)]
        return {row.id: (row.life, row.fields, row.conflicts) for row in self.store.rows(kind)}

    def prune(self, tag: bytes) -> bool:
        """A season later, what others have not fetched is let go."""
        self.families.clock.ms += 100 * 24 * 3600 * 1000
        prune(self.store)
        return all(head.floor == head.seq + 1 for head in self.replica.heads(tag))

    def reopen(self) -> None:
        self.store = self.families.reopen(self.store)
        self.replica = StoreReplica(self.store)


class TestStoreReplica(ReplicaAcceptance):
    @pytest.fixture
    def family(self, fast_path: Path) -> Iterator[Sequence[Subject]]:
        families = Families(fast_path, plain_kinds(), Clock())
        yield [OnDisk(store, families) for store in families(3)]
        families.close()
