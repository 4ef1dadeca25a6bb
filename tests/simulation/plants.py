"""Bugs to be found: each breaks one promise in the real code, as somebody might who mends something else."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import pytest

from aico_crdt.crdt import Document, foreign
from aico_crdt.crdt.walker import read_update, without_deletes
from aico_crdt.errors import NotYet
from aico_crdt.feed import decode_entry
from aico_crdt.feed.exchange import FeedHead, IngestReport
from aico_crdt.store import DocumentStore, StoreReplica, attested
from aico_crdt.store.ingest import Intake
from aico_crdt.store.transaction import Transaction
from aico_crdt.store.workspace import Workspace
from aico_crdt.trust import Family


class _Undone(Exception):
    """Takes a transaction back."""


Plant = Callable[[pytest.MonkeyPatch], None]


def skip_deps(patch: pytest.MonkeyPatch) -> None:
    """An entry is applied before what it depends on."""
    patch.setattr(Intake, "_unmet", lambda self, collection, header: [])


def skip_the_predecessor(patch: pytest.MonkeyPatch) -> None:
    """An entry is applied before the one it follows in its feed."""
    check = Intake._check_force

    def lenient(self: Intake, collection: Any, header: Any) -> None:
        try:
            check(self, collection, header)
        except NotYet as reason:
            if reason.missing != "predecessor":
                raise

    patch.setattr(Intake, "_check_force", lenient)


def skip_the_walker(patch: pytest.MonkeyPatch) -> None:
    """Updates go to Yrs as they came."""
    patch.setattr(foreign, "merge", lambda document, update, client, writer, overlap=False: document.replay(update))
    patch.setattr(foreign, "look", lambda update, client, writer: None)


def drop_delete_sets(patch: pytest.MonkeyPatch) -> None:
    """What an update deletes is not deleted here."""
    merge = foreign.merge

    def merge_without(document: Document, update: bytes, client: int, writer: str, *, overlap: bool = False) -> None:
        for owner in {owner for owner, _, _ in read_update(update).deleted}:
            update = without_deletes(update, owner, 0)
        merge(document, update, client, writer, overlap=overlap)

    patch.setattr(foreign, "merge", merge_without)


def ack_before_commit(patch: pytest.MonkeyPatch) -> None:
    """A delivery is acknowledged, and committed when the next one comes."""
    ingest = StoreReplica.ingest
    behind: weakref.WeakKeyDictionary[StoreReplica, tuple[Any, ...]] = weakref.WeakKeyDictionary()

    def hasty(self: StoreReplica, tag: bytes, runs: Sequence[Sequence[bytes]], source: bytes) -> IngestReport:
        before = behind.pop(self, None)
        if before is not None:
            ingest(self, *before)
        behind[self] = (tag, runs, source)
        last = [decode_entry(run[-1]).header for run in runs]
        heads = {(h.device, h.incarnation): FeedHead(h.device, h.incarnation, 1, h.seq, h.hash) for h in last}
        return IngestReport(applied=len(last), heads=tuple(heads[writer] for writer in sorted(heads)))

    patch.setattr(StoreReplica, "ingest", hasty)


def reuse_a_client_id_after_a_restore(patch: pytest.MonkeyPatch) -> None:
    """A store that went back writes on as who it was."""
    patch.setattr(DocumentStore, "_renew_incarnation", lambda self, workspace, **rest: None)


def manifest_without_heads(patch: pytest.MonkeyPatch) -> None:
    """A manifest does not say how far it goes."""
    _change_manifests(patch, {"heads": ()})


def manifest_without_tombstones(patch: pytest.MonkeyPatch) -> None:
    """A manifest does not say what was forgotten."""
    _change_manifests(patch, {"tombstones": ()})


def _change_manifests(patch: pytest.MonkeyPatch, changes: Mapping[str, Any]) -> None:
    write = attested.write_manifest
    patch.setattr(attested, "write_manifest", lambda **fields: write(**{**fields, **changes}))


def stamps_not_merged(patch: pytest.MonkeyPatch) -> None:
    """The clock does not follow the stamps it receives."""
    patch.setattr(Workspace, "observe", lambda self, stamp: None)


def accept_after_revocation(patch: pytest.MonkeyPatch) -> None:
    """Whatever a revoked device writes goes on to count."""

    def limit(self: Family, device: bytes, tag: bytes, incarnation: bytes) -> int | None:
        return None if device in self.members else 0

    patch.setattr(Family, "limit", limit)


def keep_nothing(patch: pytest.MonkeyPatch) -> None:
    """Every write is acknowledged and dropped: all replicas are equal, and empty."""

    transaction = DocumentStore.transaction

    @contextmanager
    def forgetful(self: DocumentStore) -> Iterator[Transaction]:
        with suppress(_Undone), transaction(self) as writing:
            yield writing
            raise _Undone

    patch.setattr(DocumentStore, "transaction", forgetful)


def take_nothing(patch: pytest.MonkeyPatch) -> None:
    """Every delivery is acknowledged and dropped."""
    patch.setattr(StoreReplica, "ingest", lambda self, tag, runs, source: IngestReport(applied=len(runs)))


PLANTS: Final[Sequence[Plant]] = (
    skip_deps,
    skip_the_predecessor,
    skip_the_walker,
    drop_delete_sets,
    ack_before_commit,
    reuse_a_client_id_after_a_restore,
    manifest_without_heads,
    manifest_without_tombstones,
    stamps_not_merged,
    accept_after_revocation,
    keep_nothing,
    take_nothing,
)
