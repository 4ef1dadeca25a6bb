"""What `sync` asks of a store: heads, runs, receipt. Fills in :class:`aico_crdt.sync.replica.Replica`."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from aico_crdt.errors import Damaged, NotFound, PeerError
from aico_crdt.feed import Entry, Run, decode_header, decode_run, encode_run
from aico_crdt.feed.run import entry_size
from aico_crdt.logs import logger
from aico_crdt.store import attested, forget, layout, receipts, statements
from aico_crdt.store.directory import DIRECTORY
from aico_crdt.store.ingest import IngestReport, Intake, Lost
from aico_crdt.store.records import Collection, Counters, FeedRecord, Records, unpack
from aico_crdt.store.refold import open_stored_item
from aico_crdt.store.store import Commit, DocumentStore
from aico_crdt.store.transaction import Place, Transaction
from aico_crdt.store.workspace import Core, Workspace

_log = logger("store")
MAX_REWRITES = 10_000


class FeedHead(NamedTuple):
    """A feed as a peer sees it: entries `floor`..`seq` are here; `hash` is the head's."""

    device: bytes
    incarnation: bytes
    floor: int
    seq: int
    hash: bytes


def read_wire_entry(core: Core, records: Records, feed_number: int, seq: int) -> Entry:
    """An entry as its author made it; erased items are None.

    Raises:
        Damaged: it is not here, or does not verify against its own header.
    """
    stored = records.get(layout.entry(feed_number, seq))
    if stored is None:
        raise Damaged("An entry that should be here is missing.")
    header = decode_header(stored[72:])
    items: list[bytes | None] = []
    for index in range(len(header.items)):
        key = layout.item(feed_number, seq, index)
        kept = records.get(key)
        items.append(None if kept is None else open_stored_item(core, key, kept))
    return Entry(header, stored[8:72], tuple(items))


class StoreReplica:
    """A store as its peers' sessions see it. Thread-safe as the store is; every read is one snapshot."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store

    @property
    def family(self) -> bytes:
        return self._store.directory.family.id

    @property
    def device(self) -> bytes:
        return self._store.device

    @property
    def incarnation(self) -> bytes:
        return self._store.incarnation

    @property
    def device_type(self) -> str:
        member = self._store.directory.family.members.get(self._store.device)
        return member.device_type if member is not None else "desktop"

    # Reading

    def collections(self, peer: bytes) -> list[bytes]:
        """Tags of what `peer` may have, in sync order."""
        directory = self._store.directory
        return [tag for tag, collection in directory.collections.items() if directory.may_have(peer, collection)]

    def may_have(self, peer: bytes, tag: bytes) -> bool:
        collection = self._store.directory.collections.get(tag)
        return collection is not None and self._store.directory.may_have(peer, collection)

    def heads(self, tag: bytes) -> tuple[FeedHead, ...]:
        collection = self._collection(tag)
        found = []
        with self._store.reading() as (_, records):
            for key, value in records.scan(layout.feed_prefix(collection.number)):
                feed = FeedRecord.unpack(value)
                if feed.seq:
                    found.append(FeedHead(key[3:35], key[35:43], feed.floor, feed.seq, feed.hash))
        return tuple(found)

    def digest(self, tag: bytes) -> bytes:
        """16 bytes over the heads: equal where nothing is missing on either side."""
        hasher = blake2b(digest_size=16, person=b"aico.digest.1")
        for head in self.heads(tag):
            hasher.update(head.device + head.incarnation + head.seq.to_bytes(8, "big") + head.hash)
        return hasher.digest()

    def read_entries(
        self, tag: bytes, wants: Sequence[tuple[bytes, bytes, int]], max_bytes: int, after: int = 0
    ) -> tuple[list[Run], int | None]:
        """Entries wanted, in arrival order after the cursor `after`, up to `max_bytes` (at least one).

        Returns:
            runs, and the cursor to go on from; None at the end.
        """
        collection = self._collection(tag)
        runs: list[tuple[object, list[Entry]]] = []
        room = max_bytes
        with self._store.reading() as (core, records):
            first: dict[int, int] = {}
            start = None
            for device, incarnation, from_seq in wants:
                stored = records.get(layout.feed(collection.number, device, incarnation))
                if stored is None:
                    continue
                feed = FeedRecord.unpack(stored)
                if from_seq > feed.seq:
                    continue
                begin = max(from_seq, feed.floor)
                first[feed.number] = begin
                entry = records.get(layout.entry(feed.number, begin))
                if entry is not None:
                    at = int.from_bytes(entry[:8], "big")
                    start = at if start is None else min(start, at)
            if start is None:
                return [], None
            start = max(start, after + 1)
            prefix = b"A" + layout.COLLECTION.pack(collection.number)
            for key, place in records.scan(prefix, layout.arrival(collection.number, start)):
                feed_number, seq = unpack(layout.AT, place, "arrival")
                if seq < first.get(feed_number, 1 << 63):
                    continue
                entry_read = read_wire_entry(core, records, feed_number, seq)
                room -= entry_size(entry_read)
                if room < 0 and runs:
                    return self._runs(runs), int.from_bytes(key[3:], "big") - 1
                header = entry_read.header
                if runs and runs[-1][0] == header.feed and runs[-1][1][-1].header.seq + 1 == header.seq:
                    runs[-1][1].append(entry_read)
                else:
                    runs.append((header.feed, [entry_read]))
        return self._runs(runs), None

    @staticmethod
    def _runs(runs: list[tuple[object, list[Entry]]]) -> list[Run]:
        return [Run(entries[0].header.feed, tuple(entries)) for _, entries in runs]

    def manifest(self, tag: bytes) -> bytes | None:
        """A signed manifest of the collection; None where this device's word does not count."""
        collection = self._collection(tag)
        directory = self._store.directory
        if directory.family.trust_of(self._store.device) != "full" or collection.kind == DIRECTORY:
            return None
        with self._store.reading() as (core, records):
            return attested.make_manifest(core, records, collection, Counters.load(records).stamp)

    def bodies(self, tag: bytes, keys: Sequence[bytes], max_bytes: int) -> list[tuple[bytes, int, bytes]]:
        collection = self._collection(tag)
        with self._store.reading() as (core, records):
            return attested.read_bodies(core, records, collection, keys, max_bytes)

    def stubs(self, tag: bytes, limit: int) -> list[bytes]:
        """Keys of documents whose body is wanted, newest first."""
        collection = self._collection(tag)
        with self._store.reading() as (_, records):
            return attested.wanted(records, collection, limit)

    def wants_bodies(self, tag: bytes) -> int:
        """How many bodies this device would take now; 0 keeps stubs."""
        return len(self.stubs(tag, 1000))

    def erased(self, tag: bytes) -> list[tuple[bytes, bytes, int]]:
        """Per feed, the seq through which every forget is erased on this disk."""
        collection = self._collection(tag)
        with self._store.reading() as (_, records):
            return [(*writer, seq) for writer, seq in forget.erased_through(records, collection).items() if seq > 0]

    # Receipt

    def ingest(self, tag: bytes, runs: Sequence[bytes], source: bytes) -> IngestReport:
        """Take encoded runs; see :class:`aico_crdt.store.ingest.Intake`. Durable when it returns."""
        return self.ingest_runs(tag, [decode_run(raw, tag) for raw in runs], source)

    def ingest_runs(self, tag: bytes, runs: Sequence[Run], source: bytes) -> IngestReport:
        store = self._store
        collection = self._collection(tag)
        with store.writing() as workspace:
            intake = Intake(workspace, store.config, source)
            intake.take(collection, runs)
            report = intake.finish()
            if report.revoked:
                self._witness(workspace)
            places = self._own_feed(workspace, report) if report.own_feed else []
            change = workspace.counters.change
        if report.applied or places:
            store.announce(Commit(change, places, report.heads, source, family_changed=collection.kind == DIRECTORY))
        for refusal in report.refusals:
            _log.warning("refused an entry", extra={"code": refusal.code, "peer": source.hex()})
        return report

    def _witness(self, workspace: Workspace) -> None:
        """Name, in an entry of ours, what we had applied of revoked devices, so that it stays in force."""
        core = workspace.core
        family = core.directory.family
        if family.trust_of(core.identity.device) is None:
            return
        for collection in core.directory.collections.values():
            if collection.space == "local":
                continue
            mine = workspace.feed(collection, core.identity.device, core.incarnation)
            for (device, incarnation), head in workspace.heads(collection).items():
                limit = family.limit(device, collection.tag, incarnation)
                arrival = workspace.feed(collection, device, incarnation).arrival
                if limit is not None and head.seq > limit and arrival > mine.arrival:
                    Transaction(workspace, self._store.config).witness(collection)
                    break

    def _own_feed(self, workspace: Workspace, report: IngestReport) -> list[Place]:
        """Somebody else writes as this incarnation: go on as a new one, and write again what a lost branch held."""
        self._store._renew_incarnation(workspace)
        _log.warning("another copy of this store is writing; new incarnation")
        return rewrite(workspace, self._store, report.rewrite[:MAX_REWRITES])

    def ingest_manifest(self, tag: bytes, raw: bytes, source: bytes) -> None:
        """Advance to a manifest. Durable when it returns."""
        collection = self._collection(tag)
        with self._store.writing() as workspace:
            attested.take_manifest(workspace, collection, raw, self._store.config.undo_window_s * 1000)
            change = workspace.counters.change
        self._store.announce(Commit(change, source=source))

    def ingest_bodies(self, tag: bytes, bodies: Sequence[tuple[bytes, int, bytes]], source: bytes) -> int:
        """Make stubs whole. Returns how many; refused ones wait for another source."""
        collection = self._collection(tag)
        trusted = self._store.directory.family.trust_of(source) == "full"
        made = 0
        with self._store.writing() as workspace:
            for key, life, body in bodies:
                try:
                    made += attested.take_body(workspace, collection, key, life, body, trusted)
                except PeerError as error:
                    workspace.revert()
                    _log.warning("refused a body", extra={"code": error.code, "peer": source.hex()})
            change = workspace.counters.change
        if made:
            self._store.announce(Commit(change, source=source))
        return made

    def acknowledged(
        self,
        peer: bytes,
        tag: bytes,
        heads: Sequence[tuple[bytes, bytes, int, bytes]],
        erased: Sequence[tuple[bytes, bytes, int]],
    ) -> None:
        """Note durably what `peer` said it holds durably, and what it has erased."""
        receipts.note(self._store, peer, self._collection(tag), heads, erased)

    def _collection(self, tag: bytes) -> Collection:
        collection = self._store.directory.collections.get(tag)
        if collection is None:
            raise NotFound("There is no such collection here.", "Ask for one that this device can read.")
        return collection


def rewrite(workspace: Workspace, store: DocumentStore, lost: Sequence[Lost]) -> list[Place]:
    """Write again, as the new incarnation, what this device's lost branch had said."""
    if not lost:
        return []
    transaction = Transaction(workspace, store.config)
    for slot in sorted(lost, key=lambda slot: (slot.document, slot.name != "*")):
        kind = slot.collection.kind
        row = transaction.read(kind, slot.document)
        if slot.name == "*":
            assert isinstance(slot.value, dict)
            if row is None:
                transaction.create(kind, slot.value, id=slot.document, space=slot.collection.space)
            continue
        if row is None:
            continue
        field, slash, element = slot.name.partition("/")
        if slash:
            transaction.add(kind, slot.document, field, [element])
        else:
            transaction.edit(kind, slot.document, {field: slot.value})
    transaction.finish()
    return list(transaction.places)


__all__ = ["FeedHead", "StoreReplica", "encode_run", "read_wire_entry", "statements"]
