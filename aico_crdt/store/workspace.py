"""The state of one write transaction: documents being changed, feeds being extended, all written at its end.

Local writes and received entries go through the same workspace, so there is one way in which a document's state,
row, index keys and change log follow from its entries. Documents stay in memory until :meth:`Workspace.flush`, and
an entry (or one writer of a group) that fails is taken back with :meth:`Workspace.revert`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgpack

from aico_crdt import clock, ids
from aico_crdt.crdt import BORN as BORN_SLOT
from aico_crdt.crdt import Document, foreign
from aico_crdt.crdt.birth import read_birth, write_birth
from aico_crdt.errors import Damaged, NotYet
from aico_crdt.feed import Entry, Head, Header
from aico_crdt.store import layout, rows, sealing, states
from aico_crdt.store.core import Core
from aico_crdt.store.kind import Kind, Row
from aico_crdt.store.opened import Borne, Known, Loaded, OpenDocument, Stored
from aico_crdt.store.records import NO_SIGNATURE, Collection, Counters, DocumentRecord, FeedRecord, Records, unpack

BORN: Final = 1
CHANGED: Final = 2
FORGOTTEN: Final = 3
FETCHED: Final = 4
"""What a change log record says of a document."""
MAX_TEXTS: Final = 4
KEEP_FROM_BYTES: Final = 4096
KEEP_BYTES: Final = 2 << 20
"""How many documents, and of which size as encoded, stay loaded between two transactions: texts being typed."""
LATER_FROM_BYTES: Final = 16 << 10
LATER_SHARE: Final = 4
MAX_LATER: Final = 256
"""What is typed into a state of at least this size is stored beside it until it makes a fourth of it, or so many
updates: what loading has to replay."""
MAX_ROWS: Final = 64
"""Rows remembered from one transaction to the next: the conversations that are going on."""


@dataclass(slots=True)
class _Before:
    record: DocumentRecord | None
    dead: int
    updates: int
    operations: int
    saved: bytes | None
    birth: Borne | None
    unsent: bytes | None
    born: bool
    touched: bool
    forgotten: bool
    outlived: bool


class Workspace:
    """One write transaction's work. Serves one thread; must not outlive its transaction.

    Args:
        drift_ms: how far ahead of `now_ms` the local clock follows a stamp.
        known: what the last transaction of this process left, if nobody has committed since.
    """

    def __init__(
        self, core: Core, records: Records, now_ms: int, drift_ms: int, counters: Counters, known: Known | None
    ) -> None:
        self.core = core
        self.records = records
        self.now_ms = now_ms
        self._drift_ms = drift_ms
        self.counters = counters
        self.known: Known | None = None
        self.rows: dict[tuple[str, str], Row] = {} if known is None else known.rows
        """Rows as they are on disk, by kind and id, of documents that nobody has opened here since they were read."""
        self.documents: dict[tuple[int, bytes], OpenDocument] = {}
        self._texts: dict[tuple[int, bytes], Loaded] = {} if known is None else known.texts
        self._complete: set[int] = set() if known is None else known.complete
        self._before: dict[tuple[int, bytes], _Before] = {}
        self._feeds: dict[tuple[int, bytes, bytes], FeedRecord] = {} if known is None else known.feeds
        self._dirty_feeds: set[tuple[int, bytes, bytes]] = set()
        self._heads: dict[int, dict[tuple[bytes, bytes], Head]] = {} if known is None else known.heads
        self._gaps: dict[bytes, tuple[int, bytes, int]] | None = None

    # Feeds

    def heads(self, collection: Collection) -> dict[tuple[bytes, bytes], Head]:
        """The head of every feed of `collection`, this transaction's appends included. Not to be changed."""
        heads = self._heads.get(collection.number)
        if heads is None:
            heads = {}
            for key, value in self.records.scan(layout.feed_prefix(collection.number)):
                writer = (key[3:35], key[35:43])
                record = FeedRecord.unpack(value)
                self._feeds.setdefault((collection.number, *writer), record)
                if record.seq:
                    heads[writer] = Head(*writer, record.seq, record.hash)
            self._heads[collection.number] = heads
        return heads

    def feed(self, collection: Collection, device: bytes, incarnation: bytes) -> FeedRecord:
        """The feed's record, made when it is new. Mark it with :meth:`feed_changed` after changing it."""
        name = (collection.number, device, incarnation)
        record = self._feeds.get(name)
        if record is None:
            key = layout.feed(*name)
            stored = self.records.get(key)
            if stored is not None:
                record = FeedRecord.unpack(stored)
            else:
                self.counters.feed += 1
                record = FeedRecord(self.counters.feed, 1, 0, bytes(32), 0, 0, 0, NO_SIGNATURE)
                self.records.put(layout.feed_name(record.number), key[1:])
                self._dirty_feeds.add(name)
            self._feeds[name] = record
        return record

    def feed_changed(self, collection: Collection, device: bytes, incarnation: bytes) -> None:
        name = (collection.number, device, incarnation)
        self._dirty_feeds.add(name)
        record = self._feeds[name]
        if record.seq:
            self.heads(collection)[device, incarnation] = Head(device, incarnation, record.seq, record.hash)

    def append(self, collection: Collection, entry: Entry) -> tuple[FeedRecord, int]:
        """Append `entry`'s header to its feed. Returns the feed and the arrival number."""
        header = entry.header
        record = self.feed(collection, header.device, header.incarnation)
        self.heads(collection)
        self.counters.arrival += 1
        at = self.counters.arrival
        self.records.put(layout.entry(record.number, header.seq), layout.U64.pack(at) + entry.signature + header.raw)
        self.records.put(layout.arrival(collection.number, at), layout.AT.pack(record.number, header.seq))
        record.seq, record.hash, record.signature, record.arrival = header.seq, header.hash, entry.signature, at
        if record.floor > header.seq:
            record.floor = header.seq
        self.feed_changed(collection, header.device, header.incarnation)
        return record, at

    def keep_item(
        self, feed_number: int, seq: int, index: int, slot: int, sealed: bytes, life_key: bytes | None = None
    ) -> None:
        """Store a sealed item, sealed again under the key of the life at `slot`."""
        key = layout.item(feed_number, seq, index)
        secret = self.core.lives.key(slot) if life_key is None else life_key
        self.records.put(key, layout.U64.pack(slot) + sealing.seal(sealed, key, secret))

    def life_key(self, opened: OpenDocument) -> bytes:
        """The key of a document's living life."""
        record = opened.record
        assert record is not None
        slot, key = opened.secret
        if slot != record.slot:
            key = self.core.lives.key(record.slot)
            opened.secret = record.slot, key
        return key

    def bury_item(self, feed_number: int, seq: int, index: int, document_key: bytes, life: int) -> None:
        """Leave, in place of an item, the name of the dead life it belonged to."""
        grave = layout.GRAVE + document_key + layout.U64.pack(life)
        self.records.put(layout.item(feed_number, seq, index), grave)

    # Gaps: items that came erased, their forget not being known yet

    @property
    def gaps(self) -> dict[bytes, tuple[int, bytes, int]]:
        """Every gap by its key: collection number, document key, life (zeros where the giver could not tell)."""
        if self._gaps is None:
            scanned = self.records.scan(b"N")
            self._gaps = {key: unpack(layout.GAP, value, "gap") for key, value in scanned}
        return self._gaps

    def lacks(self, collection: Collection) -> bool:
        """Whether not all is here that the heads of `collection` stand for: there are stubs, or gaps."""
        number = collection.number
        if number in self._complete:
            return False
        stubs = self.records.scan_raw(b"Y" + layout.COLLECTION.pack(number))
        lacking = next(stubs, None) is not None or any(gap[0] == number for gap in self.gaps.values())
        if not lacking:
            self._complete.add(number)
        return lacking

    def want(self, collection: Collection, key: bytes, stamp: int, state_hash: bytes) -> None:
        """Note that the body of a stub is wanted."""
        self._complete.discard(collection.number)
        self.records.put(layout.wanted(collection.number, stamp, key), state_hash)

    def open_gap(self, place: tuple[int, int, int], collection: Collection, document_key: bytes, life: int) -> None:
        key = layout.gap(*place)
        self._complete.discard(collection.number)
        self.gaps[key] = (collection.number, document_key, life)
        self.records.put(key, layout.GAP.pack(collection.number, document_key, life))

    def close_gap(self, key: bytes) -> bytes | None:
        """The key of the document that had this gap, None if there was none."""
        gap = self.gaps.pop(key, None)
        if gap is None:
            return None
        self.records.delete(key)
        return gap[1]

    def close_gaps_of(self, collection: Collection, document_key: bytes, life: int) -> None:
        """A forget explains every item of the document that is missing."""
        for key, (number, missing, its_life) in list(self.gaps.items()):
            if number == collection.number and missing == document_key and its_life <= life:
                self.close_gap(key)

    # Documents

    def kind(self, collection: Collection) -> Kind:
        return self.core.kinds[collection.kind]

    def open(self, collection: Collection, document_id: str) -> OpenDocument:
        space = self.core.directory.spaces[collection.space]
        return self.open_key(collection, space.document_key(collection.kind, document_id), document_id)

    def open_key(self, collection: Collection, key: bytes, document_id: str = "") -> OpenDocument:
        """The document, as changed so far; loaded from disk the first time."""
        name = (collection.number, key)
        if document_id:
            self.rows.pop((collection.kind, document_id), None)
        else:
            self.rows.clear()
        found = self.documents.get(name)
        if found is None:
            stored = self.records.get(layout.document(b"D", *name))
            record = None if stored is None else DocumentRecord.unpack(stored)
            found = OpenDocument(collection, key, document_id, self._dead_life(collection, key), record, None)
            self.documents[name] = found
        elif not found.id:
            found.id = document_id
        if name not in self._before:
            self._before[name] = _Before(
                None if found.record is None else found.record.copy(),
                found.dead,
                len(found.updates),
                len(found.operations),
                found.saved,
                found.birth,
                found.unsent,
                found.born,
                found.touched,
                found.forgotten,
                found.outlived,
            )
        return found

    def _dead_life(self, collection: Collection, key: bytes) -> int:
        tombstone = self.records.get_packed(layout.document(b"T", collection.number, key))
        return 0 if tombstone is None else int(tombstone[0])

    def bear(self, opened: OpenDocument, creator: bytes) -> None:
        """Begin the document's next life with an empty state and a key of its own."""
        opened.outlived |= opened.record is not None
        self.counters.slot += 1
        slot = self.counters.slot
        self.core.lives.reserve(slot)
        opened.record = DocumentRecord(opened.dead + 1, slot, layout.WHOLE, layout.NO_BASE, creator, bytes(32), 0)
        opened.saved, opened.document, opened.born, opened.forgotten = None, None, True, False
        opened.birth = opened.unsent = opened.indexed = opened.loaded = None
        opened.updates.clear()
        opened.operations.clear()

    def drop_outlived(self, opened: OpenDocument) -> None:
        """Drop what the last life left behind, once the next one stands; its key is on the list of keys to destroy."""
        from aico_crdt.store.forget import drop_life

        if opened.outlived:
            opened.outlived = False
            drop_life(self, opened.collection, opened.key)

    def load(self, opened: OpenDocument) -> Document:
        """The Yjs document of a living life. Whoever changes it says so by taking `birth` back (:meth:`change`)."""
        if opened.document is None:
            record = opened.record
            assert record is not None
            core, updates = self.core, opened.updates
            if opened.birth is not None:
                _, client, writer, birth = opened.birth
                state: bytes | None = write_birth(client, writer, birth)
                updates = []
            elif opened.saved is None and not opened.born:
                loaded = self._texts.pop((opened.collection.number, opened.key), None)
                # What an earlier incarnation of this device loaded would be written in its name.
                if loaded is not None and not updates and loaded.writes(core.writer, record):
                    opened.document, opened.indexed, opened.loaded = loaded.document, loaded.indexed, loaded
                    return opened.document
                parts = states.find_parts(core, self.records, record)
                if parts is None:
                    raise Damaged("A document's state is missing.")
                if parts.later:
                    state = opened.saved = states.load(core, parts).state()
                else:
                    state = opened.saved = parts.state
            else:
                state = opened.saved
            derived = self.kind(opened.collection).derived
            if state is None:
                document = Document.new(core.client, core.writer, derived=derived)
            else:
                document = Document.load(state, core.client, core.writer, derived=derived)
            for update, _, _ in updates:
                document.replay(update)
            opened.document = document
        return opened.document

    def change(self, opened: OpenDocument) -> Document:
        """As :meth:`load`, to change it."""
        document = self.load(opened)
        opened.birth = None
        return document

    def keep_row(self, row: Row) -> None:
        """Remember the row, as it is on disk, of a document that was not changed here."""
        if len(self.rows) >= MAX_ROWS:
            self.rows.clear()
        self.rows[row.kind, row.id] = row

    def bore(self, opened: OpenDocument, device: bytes) -> bool:
        """Whether `device` bore the living life. Several may have, not knowing of each other: each did whose own birth
        is in the document, so that the answer does not depend on whose came first. Of a stub the manifest named one.

        Raises:
            NotYet: only a stub is here, which does not tell whether others bore it too.
        """
        if opened.stub:
            if opened.record is not None and opened.record.creator == device:
                return True
            raise NotYet("body", "Who else bore a document shows only when its body is here.", thing=opened.key)
        if not opened.alive:
            return False
        if opened.birth is not None:
            return opened.birth.writer[: ids.DEVICE_NAME_CHARS] == ids.device_name(device)
        births = [slot for slot in self.load(opened).slots() if slot.name == BORN_SLOT]
        return ids.device_name(device) in {slot.writer[: ids.DEVICE_NAME_CHARS] for slot in births}

    def came_erased(self, opened: OpenDocument, life: int, device: bytes) -> bool:
        """Whether items of `device` in that life came erased, and no birth by it is here: it may have borne it."""
        gaps = [key for key, gap in self.gaps.items() if gap == (opened.collection.number, opened.key, life)]
        names = [self.records.get(layout.feed_name(int.from_bytes(key[1:5], "big"))) for key in gaps]
        if not any(name is not None and name[2:34] == device for name in names):
            return False
        return opened.stub or not self.bore(opened, device)

    def first(self, opened: OpenDocument, device: bytes) -> bool:
        """Whether a birth by `device` counts, beside those of others. A derived id may be borne by several that do not
        know of each other. Any other id belongs to whose entry began the life here: a birth slot added to a living
        document makes nobody its creator."""
        record = opened.record
        return record is not None and (self.kind(opened.collection).derived or record.creator == device)

    def merge(
        self,
        opened: OpenDocument,
        life: int,
        update: bytes,
        header: Header,
        client: int,
        writer: str,
        *,
        filling: bool = False,
    ) -> bool:
        """Apply a received update to the life it names. False when that life is dead and the item must not be kept.

        Args:
            filling: the update closes a gap, so others may still be open.

        Raises:
            Malformed, NotAllowed, NotYet: as :func:`aico_crdt.crdt.foreign.merge`; revert the entry then.
        """
        if life <= opened.dead:
            return False
        if life != (opened.record.life if opened.alive and opened.record is not None else opened.dead + 1):
            raise NotYet("life", "An item names a life that has not begun.", thing=opened.key, upto=life - 1)
        if not opened.alive:
            if not filling and any(gap[:2] == (opened.collection.number, opened.key) for gap in self.gaps.values()):
                what = "The beginning of a document came erased, and its forget has not come."
                raise NotYet("body", what, thing=opened.key)
            self.bear(opened, header.device)
        assert opened.record is not None
        if not opened.stub:
            alone = opened.born and not opened.updates and opened.document is None
            if alone and opened.record.creator == header.device:
                birth = read_birth(update, client, writer)
                if birth is not None:
                    opened.birth = Borne(header.incarnation, client, writer, birth)
                    opened.updates.append((update, client, writer))
                    opened.touched = True
                    return True
            document = self.change(opened)
            try:
                update = self._fit(opened, document, header, update)
                foreign.merge(document, update, client, writer, overlap=opened.record.state != layout.WHOLE)
            except BaseException as error:
                opened.document = None
                if isinstance(error, NotYet):
                    error.thing += opened.key
                raise
            opened.updates.append((update, client, writer))
        else:
            foreign.look(update, client, writer)
        opened.touched = True
        return True

    def _fit(self, opened: OpenDocument, document: Document, header: Header, update: bytes) -> bytes:
        """See :func:`aico_crdt.store.forks.fit`. Forks are rare: nothing is read where there is none."""
        from aico_crdt.store import forks, refold

        collection = opened.collection
        self.heads(collection)
        number = collection.number
        if not any(feed.fork for (of, *_), feed in self._feeds.items() if of == number):
            return update
        for name in [name for name in self._dirty_feeds if name[0] == number]:
            self.records.put(layout.feed(*name), self._feeds[name].pack())
        update, displaced = forks.fit(
            self.records, collection, opened.key, header, update, document.state_vector(),
            lambda place: refold.item_payload(self.core, self.records, collection, place),
            [place[:3] for place in opened.operations],
        )  # fmt: skip
        if displaced:
            forks.note_displaced(self.records, collection, opened.key)
        return update

    # Taking back

    def settle(self) -> None:
        """What was done since the last call stands."""
        for name in self._before:
            if name in self.documents:
                self.drop_outlived(self.documents[name])
        self._before.clear()

    def revert(self) -> None:
        """Take back every change to documents since :meth:`settle`. Feeds and records are not touched by staging."""
        for name, before in self._before.items():
            opened = self.documents[name]
            opened.record, opened.dead, opened.saved = before.record, before.dead, before.saved
            del opened.updates[before.updates :]
            del opened.operations[before.operations :]
            opened.birth, opened.unsent = before.birth, before.unsent
            opened.born, opened.touched, opened.forgotten = before.born, before.touched, before.forgotten
            opened.outlived = before.outlived
            opened.document = None
        self._before.clear()

    # The end

    def flush(self) -> None:
        """Write every changed document's state, row, index keys and change, then feeds and counters."""
        for opened in self.documents.values():
            self.drop_outlived(opened)
            if opened.touched and opened.alive:
                self._write_document(opened)
        for name in self._dirty_feeds:
            self.records.put(layout.feed(*name), self._feeds[name].pack())
        self._dirty_feeds.clear()
        self.counters.commits += 1
        counters = self.counters.save(self.records)
        self.known = Known(counters, self._feeds, self._heads, self.rows, self._texts, self._complete)

    def _write_document(self, opened: OpenDocument) -> None:
        record = opened.record
        assert record is not None
        number, key = opened.collection.number, opened.key
        for feed_number, seq, index, at in opened.operations:
            self.records.put(layout.operation(number, key, at, index), layout.ITEM_AT.pack(feed_number, seq, index))
        opened.operations.clear()
        if not opened.stub:
            life_key = self.life_key(opened)
            if not self._write_birth(opened, life_key):
                document = self.load(opened)
                self.keep_base(opened)
                stored = self._write_later(opened, life_key) or self._write_state(opened, document, life_key)
                indexed = rows.write(self, opened, document, life_key)
                self._keep_text(opened, document, stored, indexed)
            opened.updates.clear()
        self.records.put(layout.document(b"D", number, key), record.pack())
        self.log(opened.collection, key, record.life, BORN if opened.born else CHANGED, record.stamp)
        opened.born = opened.touched = False

    def _write_state(self, opened: OpenDocument, document: Document, life_key: bytes) -> Stored:
        record = opened.record
        assert record is not None
        state = opened.saved = document.state()
        place = layout.life(b"S", record.slot)
        self.records.put(place, sealing.seal(state, place, life_key))
        if not opened.born:
            states.drop_later(self.records, record.slot)
        return Stored(len(state), 0, 0)

    def _write_later(self, opened: OpenDocument, life_key: bytes) -> Stored | None:
        """Write only what was typed, where that is much less than the state; None where it is not."""
        record, loaded = opened.record, opened.loaded
        if record is None or loaded is None or not record.whole or not opened.updates:
            return None
        size, later, count = loaded.stored
        later += sum(len(update) for update, _, _ in opened.updates)
        if size < LATER_FROM_BYTES or later * LATER_SHARE > size or count + len(opened.updates) > MAX_LATER:
            return None
        for update, _, _ in opened.updates:
            place = layout.later(record.slot, count)
            self.records.put(place, sealing.seal(update, place, life_key))
            count += 1
        return Stored(size, later, count)

    def drop_text(self, opened: OpenDocument) -> None:
        """The state on disk was written by other means than a flush."""
        opened.document = opened.saved = opened.indexed = opened.loaded = None
        self._texts.pop((opened.collection.number, opened.key), None)

    def _keep_text(self, opened: OpenDocument, document: Document, stored: Stored, indexed: set[bytes]) -> None:
        """Keep what somebody is typing into from one transaction to the next: loading it costs more than the edit."""
        if KEEP_FROM_BYTES <= stored.size <= KEEP_BYTES:
            while len(self._texts) >= MAX_TEXTS:
                del self._texts[next(iter(self._texts))]
            record = opened.record
            assert record is not None
            loaded = Loaded(record.slot, record.state_hash, document, indexed, stored)
            self._texts[opened.collection.number, opened.key] = loaded

    def _write_birth(self, opened: OpenDocument, life_key: bytes) -> bool:
        """Write a document that holds one birth and nothing else, if that is what it is."""
        if opened.birth is None or not opened.born:
            return False
        incarnation, _, writer, birth = opened.birth
        return rows.write_birth(self, opened, incarnation, writer, birth, life_key)

    def keep_base(self, opened: OpenDocument) -> None:
        """Before a pruned document's state is first overwritten, keep it as the base. See :mod:`prune`."""
        record = opened.record
        assert record is not None
        if record.base == layout.BASE_IS_STATE:
            place = layout.life(b"B", record.slot)
            state = states.read(self.core, self.records, record)
            self.records.put(place, sealing.seal(state, place, self.life_key(opened)))
            record.base = layout.BASE_KEPT

    def log(self, collection: Collection, key: bytes, life: int, what: int, stamp: int) -> None:
        """One record of the change log: what watchers and search indexes follow."""
        self.counters.change += 1
        self.records.put(
            layout.change(self.counters.change), layout.CHANGE.pack(collection.number, key, life, what, stamp)
        )

    def tick(self) -> int:
        """The next local stamp."""
        self.counters.stamp = clock.tick(self.counters.stamp, self.now_ms)
        return self.counters.stamp

    def observe(self, stamp: int) -> None:
        self.counters.stamp = clock.observe(self.counters.stamp, stamp, self.now_ms, self._drift_ms)


def pack(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed
