"""What `sync` asks of a store: heads, runs, receipt. Fills in :class:`aico_crdt.sync.replica.Replica`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from aico_crdt.crdt import Document, Slot, difference, replay
from aico_crdt.errors import Damaged, InvalidValue, NotFound, PeerError
from aico_crdt.feed import Entry, Erased, Item, Run, decode_entry, decode_header, encode_entry, verify_entry
from aico_crdt.feed.exchange import Body, FeedHead, HeldHead, IngestReport, Place, digest_of
from aico_crdt.feed.exchange import Run as WireRun
from aico_crdt.logs import logger
from aico_crdt.store import attested, forget, forks, layout, receipts, statements
from aico_crdt.store.core import Core
from aico_crdt.store.directory import DIRECTORY
from aico_crdt.store.forget import read_header
from aico_crdt.store.ingest import Intake
from aico_crdt.store.outcome import Lost, Outcome
from aico_crdt.store.records import Collection, Counters, FeedRecord, Records, unpack
from aico_crdt.store.refold import open_stored_item
from aico_crdt.store.store import Commit, DocumentStore
from aico_crdt.store.transaction import STATEMENT, Transaction
from aico_crdt.store.workspace import Workspace

_log = logger(__name__)
_ARRIVAL_BITS: Final = 64
"""A cursor is an arrival number, and above it how much of the lost branches before the next entry was sent."""
T = TypeVar("T")
SNAPSHOTS: Final = 3
"""Snapshots tried before what does not open counts as damaged: entries go while one is read, but not in each."""


def read_wire_entry(core: Core, records: Records, feed_number: int, seq: int) -> Entry:
    """An entry as its author made it; erased items are None.

    Raises:
        Damaged: it is not here, or does not verify against its own header.
    """
    stored = records.get(layout.entry(feed_number, seq))
    if stored is None:
        raise Damaged("An entry that should be here is missing.")
    header = decode_header(stored[72:])
    items: list[Item] = []
    for index in range(len(header.items)):
        key = layout.item(feed_number, seq, index)
        kept = records.get(key)
        if kept is None:
            items.append(None)
        elif kept[:8] == layout.GRAVE:
            items.append(Erased(kept[8:24], int.from_bytes(kept[24:], "big")))
        else:
            items.append(_opened(core, records, key, kept))
    return Entry(header, stored[8:72], tuple(items))


def _opened(core: Core, records: Records, key: bytes, kept: bytes) -> bytes | Erased:
    """A stored item. One whose key was destroyed, by an erasure that is not settled yet, or was not when this snapshot
    was taken, is told as erased already."""
    try:
        return open_stored_item(core, key, kept)
    except Damaged:
        life = forget.owed_life(records, int.from_bytes(kept[:8], "big"))
        with records.fresh() as newest:
            if life is None and newest is not None:
                now = newest.get(key)
                if now is not None and now[:8] == layout.GRAVE:
                    life = now[8:24], int.from_bytes(now[24:], "big")
                else:
                    life = forget.owed_life(newest, int.from_bytes(kept[:8], "big"))
        if life is None:
            raise
        return Erased(*life)


def _is_forked(records: Records, collection: Collection) -> bool:
    return any(FeedRecord.unpack(value).fork for _, value in records.scan(layout.feed_prefix(collection.number)))


class StoreReplica:
    """A store as its peers' sessions see it. Thread-safe as the store is; every read is one snapshot."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store
        self._doubted: set[bytes] = set()

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
        """The newest applied entry of every feed, sorted, and up to where some of what it stands for is lacking."""
        collection = self._known(tag)
        if collection is None:
            return ()
        found = []
        with self._store.reading() as (_, records):
            stubs = bool(attested.wanted(records, collection, 1))
            gaps: dict[int, int] = {}
            for number, seq in _gaps(records, collection):
                gaps[number] = max(seq, gaps.get(number, 0))
            for key, value in records.scan(layout.feed_prefix(collection.number)):
                feed = FeedRecord.unpack(value)
                if feed.seq:
                    lacking = max(feed.floor - 1 if stubs else 0, gaps.get(feed.number, 0))
                    found.append(FeedHead(key[3:35], key[35:43], feed.floor, feed.seq, feed.hash, lacking))
        return tuple(found)

    def gaps(self, tag: bytes) -> list[Place]:
        """Entries whose items came erased with no forget to explain it, sorted: every peer is asked for them."""
        collection = self._known(tag)
        if collection is None:
            return []
        found = set()
        with self._store.reading() as (_, records):
            for feed_number, seq in _gaps(records, collection):
                name = records.get(layout.feed_name(feed_number))
                if name is not None:
                    found.add(Place(name[2:34], name[34:42], seq))
        return sorted(found)

    def digest(self, tag: bytes) -> bytes:
        """16 bytes over the heads and gaps: equal where nothing is missing on either side."""
        digest = digest_of(self.heads(tag), self.gaps(tag))
        # Who wants a manifest is not equal to anybody, so that heads are exchanged and it can be asked for.
        return bytes(16) if self.wants_manifest(tag) else digest

    def hash_at(self, tag: bytes, place: Place) -> bytes | None:
        """The header hash of the entry in force at `place`, None where it is not held."""
        collection = self._known(tag)
        if collection is None:
            return None
        with self._store.reading() as (_, records):
            stored = records.get(layout.feed(collection.number, place.device, place.incarnation))
            if stored is None:
                return None
            feed = FeedRecord.unpack(stored)
            if place.seq == feed.seq:
                return feed.hash
            header = read_header(records, feed.number, place.seq)
            return None if header is None else header.hash

    def read_entries(
        self, tag: bytes, wants: Sequence[tuple[bytes, bytes, int]], max_bytes: int, after: int = 0
    ) -> tuple[list[WireRun], int | None]:
        """Entries wanted, in arrival order after the cursor `after`, up to `max_bytes` (at least one).

        What was built on a lost branch comes with that branch before it, as :mod:`aico_crdt.store.forks` keeps it: who
        never saw it could not tell otherwise that it is void.

        Returns:
            runs as wire bytes, and the cursor to go on from; None at the end.
        """
        return self._retried(lambda: self._read_entries(tag, wants, max_bytes, after))

    @staticmethod
    def _retried(read: Callable[[], T]) -> T:
        """What `read` returns; read once more, of a newer snapshot, when something did not open: an entry may have been
        pruned, and what it held been erased, since the first was taken."""
        for _ in range(SNAPSHOTS - 1):
            try:
                return read()
            except Damaged:
                continue
        return read()

    def _read_entries(
        self, tag: bytes, wants: Sequence[tuple[bytes, bytes, int]], max_bytes: int, after: int
    ) -> tuple[list[WireRun], int | None]:
        collection = self._known(tag)
        if collection is None:
            return [], None
        runs: list[tuple[tuple[int, int], list[bytes]]] = []
        room = max_bytes
        cursor: int | None = None
        sent, after = after >> _ARRIVAL_BITS, after & ((1 << _ARRIVAL_BITS) - 1)
        told: set[bytes] = set()
        with self._store.reading() as (core, records):
            first: dict[int, int] = {}
            start = None
            forked = _is_forked(records, collection)
            for device, incarnation, from_seq in wants:
                stored = records.get(layout.feed(collection.number, device, incarnation))
                if stored is None:
                    continue
                feed = FeedRecord.unpack(stored)
                begin = max(from_seq, feed.floor)
                if begin > feed.seq:
                    continue
                first[feed.number] = begin = min(begin, first.get(feed.number, begin))
                entry = records.get(layout.entry(feed.number, begin))
                if entry is not None:
                    at = int.from_bytes(entry[:8], "big")
                    start = at if start is None else min(start, at)
            if start is None:
                return [], None
            prefix = b"A" + layout.COLLECTION.pack(collection.number)
            for key, place in records.scan(prefix, layout.arrival(collection.number, max(start, after + 1))):
                feed_number, seq = unpack(layout.AT, place, "arrival")
                if seq < first.get(feed_number, 1 << 63):
                    continue
                whole = read_wire_entry(core, records, feed_number, seq)
                before = int.from_bytes(key[3:], "big") - 1
                deps = whole.header.deps if forked else ()
                lost = [raw for dep in deps for raw in forks.branch(records, dep.hash, told)]
                raw = encode_entry(whole)
                for number, part in enumerate([*lost[sent:], raw], sent):
                    room -= len(part)
                    if room < 0 and runs:
                        cursor = number << _ARRIVAL_BITS | before
                        break
                    if part is not raw:
                        runs.append(((0, 0), [part]))
                sent = 0
                if cursor is not None:
                    break
                if runs and runs[-1][0] == (feed_number, seq - 1):
                    runs[-1][1].append(raw)
                    runs[-1] = ((feed_number, seq), runs[-1][1])
                else:
                    runs.append(((feed_number, seq), [raw]))
            for (feed_number, seq), entries in runs:
                if feed_number:  # every signature on a lost branch was checked
                    self._prove(core, records, feed_number, seq, entries)
        return [entries for _, entries in runs], cursor

    @staticmethod
    def _prove(core: Core, records: Records, feed_number: int, seq: int, entries: list[bytes]) -> None:
        """Extend a run until its last signature holds.

        Only the last signature of a received run was ever checked, so one in its middle may have been replaced by
        whoever handed it over. The run's old end is found again by going on.
        """
        taken = len(entries)
        while True:
            entry = decode_entry(entries[-1])
            try:
                verify_entry(entry)
                return
            except PeerError:
                seq += 1
                if records.get(layout.entry(feed_number, seq)) is None:
                    del entries[taken:]
                    return
                entries.append(encode_entry(read_wire_entry(core, records, feed_number, seq)))

    def manifest(self, tag: bytes) -> bytes | None:
        """A signed manifest of the collection; None where this device's word does not count, none can be written, or
        stubs are here: nobody attests what it does not have."""
        collection = self._known(tag)
        directory = self._store.directory
        if (
            collection is None
            or directory.family.trust_of(self._store.device) != "full"
            or collection.kind == DIRECTORY
        ):
            return None
        with self._store.reading() as (core, records):
            if attested.wanted(records, collection, 1):
                return None
            try:
                return attested.make_manifest(core, records, collection, Counters.load(records).stamp)
            except InvalidValue as error:  # beyond a cap
                _log.error("no manifest of %s (%s): %s", collection.kind, collection.space, error.what)
                return None

    def wants_manifest(self, tag: bytes) -> bool:
        """Whether a repair left open what else there was."""
        collection = self._known(tag)
        if collection is None:
            return False
        with self._store.reading() as (_, records):
            return records.get(layout.meta(f"again {collection.number}")) is not None

    def bodies(self, tag: bytes, keys: Sequence[bytes], max_bytes: int) -> list[Body]:
        """Sealed bodies of those of `keys` that are whole here."""
        collection = self._known(tag)
        if collection is None:
            return []
        with self._store.reading() as (core, records):
            return [Body(*body) for body in attested.read_bodies(core, records, collection, keys, max_bytes)]

    def stubs(self, tag: bytes, limit: int) -> list[bytes]:
        """Keys of documents whose body is wanted, newest first."""
        collection = self._known(tag)
        if collection is None:
            return []
        with self._store.reading() as (_, records):
            return attested.wanted(records, collection, limit)

    def wants_bodies(self, tag: bytes) -> int:
        """How many bodies this device would take now; 0 keeps stubs."""
        # A manifest that is wanted says first which body a stub is of.
        return 0 if self.wants_manifest(tag) else len(self.stubs(tag, 1000))

    def erased(self, tag: bytes) -> list[Place]:
        """Per feed, the seq through which every forget is erased on this disk."""
        collection = self._known(tag)
        if collection is None:
            return []
        with self._store.reading() as (_, records):
            through = forget.erased_through(records, collection)
        return sorted(Place(*writer, seq) for writer, seq in through.items() if seq > 0)

    # Receipt

    def ingest(self, tag: bytes, runs: Sequence[WireRun], source: bytes) -> IngestReport:
        """Take runs of wire entries and say where their feeds stand. Durable when it returns."""
        outcome = self.deliver(tag, runs, source)
        ask = tuple(sorted({Place(*lacking) for lacking in outcome.ask}))
        heads = self._heads_of(tag, outcome)
        return IngestReport(outcome.applied, outcome.held, outcome.rejected, outcome.duplicates, heads, ask)

    def _heads_of(self, tag: bytes, outcome: Outcome) -> tuple[FeedHead, ...]:
        """Where the feeds now stand that `outcome` is about."""
        here = {(head.device, head.incarnation): head for head in self.heads(tag)}
        return tuple(here[writer] for writer in sorted(outcome.named) if writer in here)

    def deliver(self, tag: bytes, runs: Sequence[WireRun], source: bytes) -> Outcome:
        """As :meth:`ingest`, with all that became of it. Bytes that are no entries are counted as rejected."""
        decoded, broken = [], []
        for run in runs:
            try:
                entries = tuple(decode_entry(raw) for raw in run)
                if entries:
                    decoded.append(Run(entries[0].header.feed, entries))
            except PeerError as error:
                broken.append(error)
        outcome = self.ingest_runs(tag, decoded, source)
        outcome.rejected += len(broken)
        outcome.refusals += broken
        return outcome

    def ingest_runs(self, tag: bytes, runs: Sequence[Run], source: bytes) -> Outcome:
        """Take decoded runs; see :class:`aico_crdt.store.ingest.Intake`. Durable when it returns."""
        collection = self._collection(tag)
        return self._receive(lambda _, intake: intake.take(collection, runs), source)

    def look_again(self) -> None:
        """Judge anew what waits: the family was changed on this device."""
        with self._store.reading() as (_, records):
            if next(records.scan_raw(b"H"), None) is None:
                return
        self._receive(lambda _, intake: intake.look_again(), self._store.device)

    def _receive(self, take: Callable[[Workspace, Intake], object], source: bytes) -> Outcome:
        """Let `take` receive something in one durable transaction, and tell of it.

        Args:
            take: returns whether it changed more than the entries it applied.
        """
        store = self._store
        with store.writing() as workspace:
            intake = Intake(workspace, store.config, source, self._doubted)
            changed = bool(take(workspace, intake))
            report = intake.finish()
            # First the new incarnation: a witness written under one that a clone shares could be void itself.
            if report.own_feed:
                workspace.flush()
                workspace.documents.clear()  # they were opened to be written by the old one
                store._renew_incarnation(workspace, copied=True)
                _log.warning("another copy of this store is writing; new incarnation")
            if workspace.core.directory.family.trust_of(workspace.core.identity.device) is not None:
                for collection, lost in report.testify:  # before what is written to later lives
                    transaction = Transaction(workspace, store.config)
                    transaction.testify(collection, lost)
                    report.written += transaction.places
            rewrite(workspace, store, report)
            if report.revoked:
                self._witness(workspace)
            change = workspace.counters.change
        if report.applied or report.written or changed:
            of_family = store.directory.directory.tag in report.heads
            store.announce(Commit(change, report.written, report.heads, source, family_changed=of_family))
        for refusal in report.refusals:
            _log.warning("refused an entry from %s: %s", source.hex(), refusal.code)
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

    def ingest_manifest(self, tag: bytes, raw: bytes, source: bytes) -> IngestReport:
        """Advance to a manifest; what is refused changes nothing and is counted. Durable when it returns."""
        collection = self._collection(tag)

        def take(workspace: Workspace, intake: Intake) -> bool:
            manifest = attested.check_manifest(workspace.core, collection, raw)
            attested.check_room(workspace, collection, manifest)
            if overtaken := attested.overtaken(workspace, collection, manifest):
                self._leave_branch(workspace, collection, overtaken, intake)
            attested.take_manifest(workspace, collection, manifest, self._store.config.undo_window_s * 1000)
            intake.moved(collection)
            return True

        try:
            self._receive(take, source)
        except PeerError as error:
            _log.warning("refused a manifest from %s: %s", source.hex(), error.code)
            return IngestReport(rejected=1)
        return IngestReport(applied=1, heads=self.heads(tag))

    def _leave_branch(
        self, workspace: Workspace, collection: Collection, overtaken: list[tuple[bytes, bool]], intake: Intake
    ) -> None:
        """Another copy of this store went on in feeds of this device. What it wrote counts; what was written here since
        the two parted is written again. Where they parted nobody can tell any more, so that is all that no other device
        has said to hold; less only where a new incarnation had begun before anything more was written."""
        store = self._store
        if any(incarnation == workspace.core.incarnation for incarnation, _ in overtaken):
            store._renew_incarnation(workspace, copied=True)
            _log.warning("another copy of this store is writing; new incarnation")
        for incarnation, parted in overtaken:
            if parted or store.was_copied(workspace, incarnation):
                intake.withdraw(collection, incarnation)
        rewrite(workspace, store, intake.report)
        workspace.flush()
        workspace.documents.clear()

    def ingest_bodies(
        self,
        tag: bytes,
        bodies: Sequence[tuple[bytes, int, bytes]],
        source: bytes,
        heads: Sequence[tuple[bytes, bytes, int]] = (),
    ) -> IngestReport:
        """Make stubs whole; refused bodies wait for another source. `heads` is how far `source` had applied each feed
        when it read them."""
        collection = self._collection(tag)
        trusted = self._store.directory.family.trust_of(source) == "full" and self._covered(collection, heads)
        made: list[bytes] = []
        rejected: list[bytes] = []

        def take(workspace: Workspace, intake: Intake) -> list[bytes]:
            for key, life, body in bodies:
                try:
                    if attested.take_body(workspace, collection, key, life, body, trusted, source):
                        made.append(key)
                except PeerError as error:
                    workspace.revert()
                    rejected.append(key)
                    _log.warning("refused a body from %s: %s", source.hex(), error.code)
            intake.came(collection, made)
            return made

        now = self._heads_of(tag, self._receive(take, source))
        known = len(bodies) - len(made) - len(rejected)
        return IngestReport(applied=len(made), rejected=len(rejected), duplicates=known, heads=now)

    def _covered(self, collection: Collection, heads: Sequence[tuple[bytes, bytes, int]]) -> bool:
        """Whether who was at `heads` held all that manifests have moved this collection over, so that its body, if it
        is another than was attested, is a newer one."""
        held = {(device, incarnation): seq for device, incarnation, seq in heads}
        with self._store.reading() as (_, records):
            return attested.covers(records, collection, held)

    def acknowledged(
        self,
        peer: bytes,
        tag: bytes,
        heads: Sequence[HeldHead],
        erased: Sequence[tuple[bytes, bytes, int]],
    ) -> None:
        """Note durably what `peer` said it holds durably, and what it has erased."""
        receipts.note(self._store, peer, self._collection(tag), heads, erased)

    def doubt(self, device: bytes) -> None:
        """Several copies of `device` run: what was noted of it is dropped, and what its entries prove is not noted."""
        self._doubted.add(device)
        receipts.doubt(self._store, device)

    def trust(self, device: bytes) -> None:
        """One copy of `device` is left."""
        self._doubted.discard(device)

    def _known(self, tag: bytes) -> Collection | None:
        return self._store.directory.collections.get(tag)

    def _collection(self, tag: bytes) -> Collection:
        collection = self._known(tag)
        if collection is None:
            raise NotFound("There is no such collection here.", "Ask for one that this device can read.")
        return collection


def _gaps(records: Records, collection: Collection) -> Iterator[tuple[int, int]]:
    """(feed number, seq) of the entries of a collection that lack an item."""
    for key, value in records.scan(b"N"):
        if value[:2] == layout.COLLECTION.pack(collection.number):
            feed_number, seq, _ = layout.ITEM_AT.unpack(key[1:])
            yield feed_number, seq


def rewrite(workspace: Workspace, store: DocumentStore, report: Outcome) -> None:
    """Write again, as the new incarnation, what this device's lost branch had said, and note where."""
    if not report.rewrite and not report.repeat:
        return
    transaction = Transaction(workspace, store.config)
    for lost in report.rewrite:
        if _repeat(transaction, lost):
            continue
        # No more room in this transaction, or the document's changes do not fit one entry.
        transaction.finish()
        report.written += transaction.places
        transaction = Transaction(workspace, store.config)
        if not _repeat(transaction, lost):
            for slot in lost.said:
                _repeat(transaction, replace(lost, said=(slot,), struck=(), text=("", "")))
            _repeat(transaction, replace(lost, said=()))
    for collection, operation in report.repeat:
        transaction.append(collection, operation)
    transaction.finish()
    if any(operation.name == STATEMENT for _, operation in report.repeat):
        statements.reload(workspace)
    report.written += transaction.places
    report.rewrite.clear()
    report.repeat.clear()


def _repeat(transaction: Transaction, lost: Lost) -> bool:
    """Write one document again. False when that is too large now; nothing was changed then."""

    def change(document: Document) -> None:
        document.repeat(_beyond(document, lost), lost.struck)
        replay(document, *lost.text)

    edit = difference(*lost.text)
    bear = bool(lost.said) or (edit is not None and edit.inserted != "")
    try:
        transaction.repeat(lost.collection, lost.document, lost.life, change, bear=bear)
        transaction.checkpoint()
    except InvalidValue:
        transaction.rollback()
        return False
    return True


def _beyond(document: Document, lost: Lost) -> list[Slot]:
    """What must be said again. Of a counter that the winning branch moved on, only what the lost branch added to it.

    A field is taken for a counter where several writers have totals side by side: registers collapse when written.
    """
    here = {(slot.name, slot.writer): slot for slot in document.slots()}
    earlier = {slot.name: slot for slot in lost.struck}
    said = []
    for slot in lost.said:
        old, now = earlier.get(slot.name), here.get((slot.name, slot.writer))
        moved = old is not None and now is not None and old.writer == slot.writer and now.hlc != old.hlc
        others = [their for (name, writer), their in here.items() if name == slot.name and writer != slot.writer]
        if moved and old is not None and others and all(type(s.value) is int for s in (slot, old, *others)):
            said.append(replace(slot, value=slot.value - old.value))
        else:
            said.append(slot)
    return said
