"""What a fork does to a store: the branch that lost goes out of force, what it touched is refolded, and kept is what
others need to know of it.

Of the lost branch one thing stays: a life that it ended stays ended, wherever the branch becomes known. Whoever ended
a life by it builds an entry on the branch, so that it travels with that to all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aico_crdt import ids
from aico_crdt.config import Config
from aico_crdt.crdt import BORN
from aico_crdt.errors import PeerError
from aico_crdt.feed import Entry, Head, Header, Operation, decode_header, open_item, verify_entry, verify_run
from aico_crdt.feed.fork import encode_fork, prove_fork
from aico_crdt.feed.header import NO_MARK
from aico_crdt.store import forget, forks, layout, receipts, refold, rows, statements
from aico_crdt.store.attested import MAX_LIVES_AHEAD
from aico_crdt.store.holds import Holds
from aico_crdt.store.opened import OpenDocument
from aico_crdt.store.outcome import Outcome, Seen, lost_of
from aico_crdt.store.records import NO_SIGNATURE, Collection, DocumentRecord, unpack
from aico_crdt.store.transaction import FORGET
from aico_crdt.store.workspace import Workspace
from aico_crdt.trust import may


class Branches:
    """Settles forks inside one write transaction. `evidence` keeps a proof: what, bytes, detail."""

    def __init__(
        self,
        workspace: Workspace,
        config: Config,
        holds: Holds,
        report: Outcome,
        evidence: Callable[[str, bytes, str], None],
    ) -> None:
        self._workspace = workspace
        self._config = config
        self._holds = holds
        self._report = report
        self._evidence = evidence
        self._ended: dict[bytes, tuple[Collection, Head]] = {}
        self._carried: dict[bytes, int] = {}

    def is_lost(self, collection: Collection, entry: Entry) -> bool:
        """Whether `entry` is known to lie on a lost branch, or continues one."""
        header, records = entry.header, self._workspace.records
        if not self._workspace.feed(collection, header.device, header.incarnation).fork:
            return False
        return forks.is_void(records, header.hash) or forks.is_void(records, header.prev)

    def keep(self, collection: Collection, entries: Sequence[Entry]) -> None:
        """Keep a run that begins on a lost branch, as far as it holds, and heed what it forgot."""
        if not self.is_lost(collection, entries[0]):
            return
        try:
            verify_run(entries, entries[0].header.prev)
            for entry in entries:
                verify_entry(entry)  # others are given any part of it
        except PeerError:
            return
        for entry in forks.keep_void(self._workspace.records, entries):
            self._heed(collection, entry)
        self._holds.forked(collection, entries[0].header)

    def meet(self, collection: Collection, entry: Entry, mine: Entry) -> bool:
        """A second entry for the place of `mine`. True when it is in force, the branch of `mine` having been voided."""
        workspace, header = self._workspace, entry.header
        feed = workspace.feed(collection, header.device, header.incarnation)
        proof = prove_fork(mine, entry)
        if feed.fork != header.seq:
            self._evidence("fork", encode_fork(proof), "fork")
            self._report.forks.append((header.device, header.incarnation, header.seq))
        feed.fork = min(feed.fork or header.seq, header.seq)
        workspace.feed_changed(collection, header.device, header.incarnation)
        # Also a branch that an earlier incarnation of this device wrote is ours to write again.
        own = header.device == workspace.core.identity.device
        self._report.own_feed |= own and header.incarnation == workspace.core.incarnation
        wins = proof.a.header.hash == header.hash
        if wins:
            self.void(collection, header, own=own)
        else:
            for fresh in forks.keep_void(workspace.records, [entry]):
                self._heed(collection, fresh)
        self._holds.forked(collection, header)
        return wins

    def carried(self, dep: Head) -> None:
        """An entry was applied that was built on an entry of a lost branch."""
        root = forks.root(self._workspace.records, dep.hash)
        self._carried[root] = max(dep.seq, self._carried.get(root, 0))

    def testimony(self) -> list[tuple[Collection, Head]]:
        """Void entries that ended a life here, and that no entry carries on which others build."""
        return [found for root, found in self._ended.items() if self._carried.get(root, 0) < found[1].seq]

    def _testify(self, collection: Collection, header: Header) -> None:
        root = forks.root(self._workspace.records, header.hash)
        if root and (root not in self._ended or self._ended[root][1].seq < header.seq):
            self._ended[root] = collection, header.head

    # A branch that was in force

    def void(self, collection: Collection, header: Header, *, own: bool, alone: bool = False) -> None:
        """Take the branch that begins at `header`'s place out of force and refold what it touched.

        Args:
            own: this device wrote it.
            alone: and nobody else has any of it, so that nobody builds on it and nobody can be told of it.
        """
        workspace = self._workspace
        records = workspace.records
        feed = workspace.feed(collection, header.device, header.incarnation)
        # What this batch had staged for documents must be on disk before it can be refolded.
        workspace.flush()
        lost: list[bytes] = []
        touched: dict[bytes, None] = {}
        for key, value in list(records.scan(b"O" + layout.COLLECTION.pack(collection.number))):
            number, seq, _ = unpack(layout.ITEM_AT, value, "operation")
            if number == feed.number and seq >= header.seq:
                touched[key[3:19]] = None
                lost.append(key)
        mine = {key: self._look(collection, key) for key in touched} if own else {}
        for key in lost:
            records.delete(key)
        for seq in range(header.seq, feed.seq + 1):
            stored = records.get(layout.entry(feed.number, seq))
            if stored is not None:
                self._void_entry(collection, feed.number, stored, own=own, alone=alone)
                records.delete(layout.arrival(collection.number, int.from_bytes(stored[:8], "big")))
                records.delete(layout.entry(feed.number, seq))
        receipts.forget_from(records, feed.number, header.seq)
        last = records.get(layout.entry(feed.number, header.seq - 1))
        feed.seq, feed.hash, feed.signature = header.seq - 1, header.prev, last[8:72] if last else NO_SIGNATURE
        feed.floor = min(feed.floor, feed.seq + 1)
        workspace.feed_changed(collection, header.device, header.incarnation)
        if not feed.seq:
            workspace.heads(collection).pop((header.device, header.incarnation), None)
        for key in touched:
            forks.note_displaced(records, collection, key)
            self._refold(collection, key)
        writer = ids.writer(header.device, header.incarnation)
        for key, before in mine.items():
            gone = lost_of(collection, writer, before, self._look(collection, key))
            if gone is not None:
                self._report.rewrite.append(gone)
        if collection == workspace.core.directory.directory:
            self._report.revoked |= statements.reload(workspace)

    def _void_entry(self, collection: Collection, feed_number: int, stored: bytes, *, own: bool, alone: bool) -> None:
        """Drop the items of a void entry. A statement is written again when it is our own, and so are forgets that
        cannot be testified."""
        workspace = self._workspace
        core, records = workspace.core, workspace.records
        header = decode_header(stored[72:])
        key = core.directory.spaces[collection.space].keys.get(header.key_id)
        items: list[bytes | None] = []
        forgot = False
        for index, named in enumerate(header.items):
            place = layout.item(feed_number, header.seq, index)
            kept = records.get(place)
            plain = kept is not None and named.mark == NO_MARK
            items.append(refold.open_stored_item(core, place, kept) if plain and kept is not None else None)
            sealed = items[-1]
            if sealed is not None and key is not None:
                operation = open_item(header, index, sealed, key)
                forgot |= operation.name == FORGET
                if own and (alone or operation.name != FORGET):
                    self._report.repeat.append((collection, operation))
            workspace.close_gap(layout.gap(feed_number, header.seq, index))
            records.delete(place)
        forks.keep_void(records, [Entry(header, stored[8:72], tuple(items))])
        if forgot and not alone:
            self._testify(collection, header)

    def _look(self, collection: Collection, key: bytes) -> Seen:
        workspace = self._workspace
        opened = workspace.open_key(collection, key)
        if not opened.alive or opened.stub:
            return Seen()
        row = rows.read(workspace.core, workspace.records, collection, key)
        document = workspace.load(opened)
        assert opened.record is not None
        public_id = opened.id if row is None else row.id
        return Seen(public_id, opened.record.life, tuple(document.slots()), document.text())

    def _refold(self, collection: Collection, key: bytes) -> None:
        """Fold a document from what is left. One of which nothing is left was never born."""
        workspace = self._workspace
        core, records, number = workspace.core, workspace.records, collection.number
        workspace.documents.pop((number, key), None)
        stored = records.get(layout.document(b"D", number, key))
        if stored is None:
            return
        record = DocumentRecord.unpack(stored)
        if not record.whole:
            return
        left = refold.operations(core, records, collection, key)
        based = records.get(layout.document(b"B", number, key)) is not None
        row = rows.read(core, records, collection, key)
        assert row is not None
        if not left and not based:
            for index in rows.present_index_keys(core, records, collection, key, record):
                records.delete(index)
            forget.drop_life(workspace, collection, key)
            return
        document, _, _ = refold.refold(core, records, collection, key, record)
        opened = workspace.open_key(collection, key, row.id)
        assert opened.record is not None
        if not based:
            opened.record.creator = left[0].header.device
        opened.document, opened.touched = document, True
        workspace.settle()

    # A branch that never was

    def _heed(self, collection: Collection, entry: Entry) -> None:
        """End the lives that an entry of a lost branch forgot, where its author may do that."""
        workspace, header = self._workspace, entry.header
        core = workspace.core
        key = core.directory.spaces[collection.space].keys.get(header.key_id)
        for index, sealed in enumerate(entry.items):
            if key is None or not isinstance(sealed, bytes) or header.items[index].mark != NO_MARK:
                continue
            try:
                operation = open_item(header, index, sealed, key)
                if operation.name == FORGET:
                    self._end(collection, header, operation)
                workspace.settle()
            except PeerError:
                workspace.revert()

    def _end(self, collection: Collection, header: Header, operation: Operation) -> None:
        workspace = self._workspace
        member = workspace.core.directory.family.members.get(header.device)
        opened = workspace.open(collection, operation.document)
        if member is None or not opened.dead < operation.life <= opened.dead + MAX_LIVES_AHEAD:
            return
        if member.trust != "full" and not self._bore(collection, opened, header, operation.life):
            return
        if not may(FORGET, collection.kind, member.trust, is_creator=True):
            return
        number = workspace.feed(collection, header.device, header.incarnation).number
        forget.bury(workspace, opened, operation, header.hlc, self._config.undo_window_s * 1000, (number, header.seq))
        self._holds.ended(opened)
        self._testify(collection, header)

    def _bore(self, collection: Collection, opened: OpenDocument, header: Header, life: int) -> bool:
        """Whether the author of a void entry bore that life of a document, on the branch in force or on a lost one."""
        workspace = self._workspace
        if workspace.bore(opened, header.device):
            return workspace.first(opened, header.device)
        if opened.alive and any(slot.name == BORN for slot in workspace.load(opened).slots()):
            return False
        tag_key = workspace.core.directory.spaces[collection.space].tag_key
        return forks.wrote(workspace.records, header.device, tag_key, opened.key, life)
