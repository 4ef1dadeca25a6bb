"""Repair, second half: documents. What follows from something else is made anew; what cannot be is asked for.

In this order: tombstones and what is owed, as far as the rest tells of them; items and what documents are made of;
records of documents found again by what lies under their life's key; states, rows and bases; indexes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgpack

from aico_crdt import ids
from aico_crdt.crdt import BORN, Document
from aico_crdt.errors import AicoError, Damaged
from aico_crdt.feed import item_mark, open_item
from aico_crdt.feed.item import item_hash
from aico_crdt.store import layout, refold, rows, sealing, states
from aico_crdt.store.directory import LOCAL
from aico_crdt.store.forget import OWED
from aico_crdt.store.holds import unseal_hold
from aico_crdt.store.kind import Folded
from aico_crdt.store.records import Collection, DocumentRecord
from aico_crdt.store.refold import open_stored_item
from aico_crdt.store.repair_feeds import Feeds
from aico_crdt.store.workspace import Workspace

if TYPE_CHECKING:
    from aico_crdt.store.repair import Lost, Repaired

Name = tuple[int, bytes]
"""A document: number of its collection, its key."""
Place = tuple[int, int, int]
UNKNOWN_HASH: Final = bytes(32)
"""In place of a state's hash that is lost: no body matches it, so only a device that signs manifests can fill it."""


UNKNOWN_CREATOR: Final = bytes(ids.DEVICE_BYTES)


class Made(NamedTuple):
    """An item of a document: where its entry arrived, whose life it says it belongs to, and under which key it lies."""

    arrival: int
    name: Name
    life: int
    device: bytes
    slot: int


class Documents:
    """The documents of a store that is mended, inside its one transaction."""

    def __init__(self, workspace: Workspace, lost: Lost, done: Repaired, feeds: Feeds) -> None:
        self._workspace = workspace
        self._core = workspace.core
        self._records = workspace.records
        self._lost = lost
        self._done = done
        self._feeds = feeds
        self._collections = {c.number: c for c in workspace.core.directory.collections.values()}
        self._found: dict[Name, DocumentRecord] = {}
        self._dead: dict[Name, int] = {}
        self._owed: dict[int, Name] = {}
        self._made: dict[Place, Made] = {}
        self._part: set[Name] = set()  # those that base and items do not make any more: their state is their base
        self._parts: set[bytes] = set()  # places of the items that documents say they are made of
        self._ids: dict[Name, str] = {}
        self._unfit: set[tuple[int, int]] = set()  # entries of which an item is of no use

    def mend(self) -> None:
        for key, value in self._records.scan(b"D"):
            self._found[int.from_bytes(key[1:3], "big"), key[3:]] = DocumentRecord.unpack(value)
        self._parts = {value for _, value in self._records.scan(b"O")}
        self._tombstones()
        self._items()
        self._adopt()
        self._give_up()
        self._gaps()
        self._operations()
        for name, record in sorted(self._found.items()):
            if name[0] in self._collections:
                self._document(name, record)
        self._orphans()
        self._indexes()
        self._beside()
        self._ask()

    # Lives that ended

    def _tombstones(self) -> None:
        records = self._records
        for key, value in records.scan(b"T"):
            self._dead[int.from_bytes(key[1:3], "big"), key[3:]] = int(msgpack.unpackb(value)[0])
        said: dict[Name, int] = {}
        for key, value in records.scan(b"U"):
            name = (int.from_bytes(key[9:11], "big"), key[11:27])
            if name[0]:
                self._owed[int.from_bytes(value[:8], "big")] = name
                said[name] = max(said.get(name, 0), int.from_bytes(key[27:31], "big"))
        for name, record in self._found.items():
            ended = record.life if record.state == layout.HIDDEN else record.life - 1
            said[name] = max(said.get(name, 0), ended)
            if record.state == layout.HIDDEN and record.slot not in self._owed:
                records.put(layout.erasure(0, *name, record.life), OWED.pack(record.slot, 0, 0))
                self._owed[record.slot] = name
        for key, value in records.scan(b"I"):
            name_of_feed = self._feeds.names.get(int.from_bytes(key[1:5], "big"))
            if value[:8] == layout.GRAVE and name_of_feed is not None and records.get(b"N" + key[1:]) is None:
                name = (name_of_feed[0], value[8:24])
                said[name] = max(said.get(name, 0), int.from_bytes(value[24:], "big"))
        for name, life in said.items():
            if life > self._dead.get(name, 0):
                records.put_packed(layout.document(b"T", *name), [life, 0, None, 0, 0])
                self._dead[name] = life
                self._done.count("tombstones found again")
        for name, record in self._found.items():
            if record.state != layout.HIDDEN and record.life <= self._dead.get(name, 0):
                raise Damaged("A living document has a tombstone.")

    # Items

    def _items(self) -> None:
        """Open every item of a document; one that is lost, or does not open, leaves a gap."""
        records = self._records
        for key, value in list(records.scan(b"I")):
            feed, seq, index = layout.ITEM_AT.unpack(key[1:])
            header = self._feeds.header(feed, seq)
            if header is None or index >= len(header.items):
                records.delete(key)
                continue
            slot = int.from_bytes(value[:8], "big")
            collection = self._collections.get(self._feeds.names[feed][0])
            if value[:8] == layout.GRAVE or slot == 0 or slot in self._owed or collection is None:
                continue
            space = self._core.directory.spaces[collection.space]
            try:
                sealed = open_stored_item(self._core, key, value)
                item_key = space.keys.get(header.key_id)
                if item_hash(sealed) != header.items[index].hash or item_key is None:
                    raise Damaged("An item is not the one its entry names.")
                operation = open_item(header, index, sealed, item_key)
            except AicoError:
                records.delete(key)
                if collection.number != self._feeds.directory:
                    self._unfit.add((feed, seq))
                continue
            name = (collection.number, space.document_key(collection.kind, operation.document))
            arrival = self._feeds.entries[feed][seq].arrival
            self._ids[name] = operation.document
            self._made[feed, seq, index] = Made(arrival, name, operation.life, header.device, slot)

    def _give_up(self) -> None:
        """Entries whose items are lost, or of lives of which nothing else is known."""
        for (feed, seq, _), made in self._made.items():
            record = self._found.get(made.name)
            known = record is not None and record.slot == made.slot
            if not known and made.life > self._dead.get(made.name, 0) and made.name[0] != self._feeds.directory:
                self._unfit.add((feed, seq))
        self._feeds.give_up(self._unfit)
        self._made = {place: made for place, made in self._made.items() if self._feeds.header(*place[:2]) is not None}

    def _gaps(self) -> None:
        """Items of the directory's documents that are lost are asked for again."""
        records = self._records
        for feed, held in self._feeds.entries.items():
            for seq, entry in held.items():
                for index in range(len(entry.header.items)):
                    place = layout.item(feed, seq, index)
                    if records.get(place) is None and records.get(b"N" + place[1:]) is None:
                        self._open_gap((feed, seq, index), place)

    def _open_gap(self, place: Place, key: bytes) -> None:
        """What is missing there was lost, unless a forget explains it."""
        collection = self._core.directory.directory
        ours = self._feeds.names[place[0]][0] == collection.number
        if not ours or not (self._lost.has(key) or layout.ITEM_AT.pack(*place) in self._parts):
            return
        header = self._feeds.header(place[0], place[1])
        assert header is not None
        tag_key = self._core.directory.spaces[collection.space].tag_key
        found, of_life = bytes(ids.DOCUMENT_KEY_BYTES), 0
        for (number, document), record in self._found.items():
            mark = item_mark(tag_key, document, record.life, header.device, header.incarnation, place[1], place[2])
            if number == collection.number and mark == header.items[place[2]].mark:
                found, of_life = document, record.life
                self._part.add((number, document))
        if of_life and of_life <= self._dead.get((collection.number, found), 0):
            self._workspace.bury_item(*place, found, of_life)
            return
        self._workspace.open_gap(place, collection, found, of_life)
        self._done.count("items asked for again")

    # Documents whose record is lost

    def _adopt(self) -> None:
        """Lives without a document: find whose they were, by their items or by their row."""
        claimed = {record.slot for record in self._found.values()} | set(self._owed)
        of_slot: dict[int, list[Made]] = {}
        for made in self._made.values():
            of_slot.setdefault(made.slot, []).append(made)
        slots = set(of_slot)
        for letter in (b"S", b"R"):
            slots |= {int.from_bytes(key[1:], "big") for key, _ in self._records.scan_raw(letter)}
        for slot in sorted(slots - claimed):
            items = sorted(of_slot.get(slot, ()))
            name = items[0].name if items else self._named_by_row(slot)
            if name is None or name in self._found:
                continue
            dead = self._dead.get(name, 0)
            life = items[0].life if items else 1
            if life != dead + 1:
                continue  # what ended; or, without items, perhaps what ended
            record = DocumentRecord(life, slot, layout.FETCHED, layout.NO_BASE, UNKNOWN_CREATOR, UNKNOWN_HASH, 0)
            if self._records.get(layout.life(b"B", slot)) is not None:
                record.base = layout.BASE_KEPT
            elif not items:
                record.base = layout.BASE_IS_STATE
            record.creator = items[0].device if items and record.base == layout.NO_BASE else self._creator(record)
            document = self._state(name, record)
            if self._lost.has(layout.document(b"T", *name)) or self._lost.any(layout.life(b"C", slot)):
                record.state = layout.STUB  # it may have been forgotten, or gone on: a manifest tells
            elif document is not None:  # else a stub: without its hash nobody knows whether its items are all here
                kind = self._core.kinds[self._collections[name[0]].kind]
                record.state_hash = document.content_hash(kind.version)
                record.stamp = max((written.hlc for written in document.slots()), default=0)
            self._found[name] = record
            self._done.count("documents found again")

    def _named_by_row(self, slot: int) -> Name | None:
        """The document whose row lies under a life's key: the row says which id, an index entry in which collection."""
        try:
            row = rows.find(self._core, self._records, _life(slot))
        except Damaged:
            return None
        names = []
        for number, collection in self._collections.items() if row is not None else ():
            assert row is not None
            key = self._core.directory.spaces[collection.space].document_key(collection.kind, row.id)
            entries = rows.index_keys(self._core, collection, key, row.fields, row.born)
            if (number, key) not in self._found and any(self._records.get(entry) is not None for entry in entries):
                names.append((number, key))
        return names[0] if len(names) == 1 else None

    def _creator(self, record: DocumentRecord) -> bytes:
        """The device that bore a document, by the slot of its birth."""
        try:
            row = rows.find(self._core, self._records, record)
            if row is not None and row.birth is not None:
                borne = {device for _, device, incarnation in self._feeds.names.values() if incarnation == row.birth[0]}
                return next(iter(borne)) if len(borne) == 1 else UNKNOWN_CREATOR
            state = states.find(self._core, self._records, record)
        except Damaged:
            return UNKNOWN_CREATOR
        if state is None:
            return UNKNOWN_CREATOR
        slots = Document.load(state, self._core.client, self._core.writer).slots()
        births = {slot.writer[: ids.DEVICE_NAME_CHARS] for slot in slots if slot.name == BORN}
        found = [device for device in self._core.directory.family.members if ids.device_name(device) in births]
        return found[0] if len(found) == 1 else UNKNOWN_CREATOR

    # What documents are made of

    def _operations(self) -> None:
        records = self._records
        wanted: dict[bytes, bytes] = {}
        for place, made in self._made.items():
            record = self._found.get(made.name)
            if record is not None and record.slot == made.slot:
                wanted[layout.operation(*made.name, made.arrival, place[2])] = layout.ITEM_AT.pack(*place)
                continue
            records.delete(layout.item(*place))
            if made.life <= self._dead.get(made.name, 0):
                self._workspace.bury_item(*place, made.name[1], made.life)
            else:
                self._workspace.open_gap(place, self._collections[made.name[0]], made.name[1], made.life)
                self._done.count("items asked for again")
        for key, value in list(records.scan(b"O")):
            name = (int.from_bytes(key[1:3], "big"), key[3:19])
            record = self._found.get(name)
            ends = record is not None and record.slot in self._owed
            item = records.get(b"I" + value) if ends and record is not None else None
            if wanted.pop(key, None) == value or (
                item is not None and record is not None and item[:8] == layout.U64.pack(record.slot)
            ):
                continue
            if name[0] in self._collections:
                records.delete(key)
                self._part.add(name)
        for key, value in wanted.items():
            records.put(key, value)
        self._bury_owed()

    def _bury_owed(self) -> None:
        """What is left of lives that ended, and is on no list any more, ends now."""
        listed = {value for _, value in self._records.scan(b"O")}
        lives = {record.slot: record.life for record in self._found.values()}
        for key, value in list(self._records.scan(b"I")):
            slot = int.from_bytes(value[:8], "big")
            if slot in self._owed and key[1:] not in listed:
                feed, seq, index = layout.ITEM_AT.unpack(key[1:])
                name = self._owed[slot]
                self._workspace.bury_item(feed, seq, index, name[1], lives.get(slot, self._dead.get(name, 1)))

    # One document

    def _document(self, name: Name, record: DocumentRecord) -> None:
        records, (number, key) = self._records, name
        if record.state == layout.HIDDEN:
            records.put(layout.document(b"D", number, key), record.pack())
            return
        if number in self._feeds.behind and record.state == layout.WHOLE:
            record.state = layout.FETCHED  # what may come again is in it already
        folded = self._refolded(name, record) if record.whole else None
        document = self._state(name, record) if record.whole else None
        if document is None and folded is not None:
            self._done.count("states folded anew")
        elif document is not None and folded is None:
            self._part.add(name)
            self._done.count("documents whose entries were given up")
        stored, document = document is not None, document or folded
        if document is None:
            self._stub(name, record)
            return
        if name in self._part:
            record.state = layout.FETCHED
        self._write(name, record, document, stored=stored)

    def _state(self, name: Name, record: DocumentRecord) -> Document | None:
        """The state as it lies there, if it is the one that the record names."""
        kind = self._core.kinds[self._collections[name[0]].kind]
        try:
            state = states.find(self._core, self._records, record)
            if state is None:
                return None
            document = Document.load(state, self._core.client, self._core.writer, derived=kind.derived)
            known = record.state_hash in (UNKNOWN_HASH, document.content_hash(kind.version))
        except AicoError:
            return None
        return document if known else None

    def _refolded(self, name: Name, record: DocumentRecord) -> Document | None:
        """The state folded anew from base and items, if it is the one that the record names."""
        collection = self._collections[name[0]]
        kind = self._core.kinds[collection.kind]
        try:
            document, _, missing = refold.refold(self._core, self._records, collection, name[1], record)
            right = not missing and document.content_hash(kind.version) == record.state_hash
        except AicoError:
            return None
        return document if right else None

    def _write(self, name: Name, record: DocumentRecord, document: Document, *, stored: bool) -> None:
        """Record, base, state and row of a whole document, each made anew where it is lost or does not fit.

        Args:
            stored: its state lies there and is right.
        """
        core, records, (number, key) = self._core, self._records, name
        collection = self._collections[number]
        life_key = core.lives.key(record.slot)
        operations = next(records.scan_raw(layout.document(b"O", number, key)), None)
        if name in self._part or (record.base == layout.BASE_IS_STATE and operations is not None):
            record.base = layout.BASE_KEPT
            place = layout.life(b"B", record.slot)
            records.put(place, sealing.seal(document.state(), place, life_key))
        records.put(layout.document(b"D", number, key), record.pack())
        if stored and self._row_fits(collection, key, document):
            return
        document_id = self._id_of(name, record)
        if document_id is None:
            self._stub(name, record)
            return
        place = layout.life(b"S", record.slot)
        records.put(place, sealing.seal(document.state(), place, life_key))
        states.drop_later(records, record.slot)
        opened = self._workspace.open_key(collection, key, document_id)
        opened.record, opened.born = record, True  # as if there were no row yet
        rows.write(self._workspace, opened, document, life_key)
        self._workspace.documents.pop((number, key))
        records.put(layout.document(b"D", number, key), record.pack())
        self._done.count("rows folded anew")

    def _row_fits(self, collection: Collection, key: bytes, document: Document) -> bool:
        try:
            row = rows.read(self._core, self._records, collection, key)
        except Damaged:
            return False
        if row is None or row.stub:
            return False
        space = self._core.directory.spaces[collection.space]
        folded = rows.fold(self._core.kinds[collection.kind], row.id, document)
        packed = rows.pack_row(row.id, Folded(row.fields, row.conflicts), row.born)
        return space.document_key(collection.kind, row.id) == key and packed == rows.pack_row(
            row.id, folded, rows.born(document.slots())
        )

    def _id_of(self, name: Name, record: DocumentRecord) -> str | None:
        """The public id of a document, which its items say, or its row."""
        if name in self._ids:
            return self._ids[name]
        try:
            row = rows.find(self._core, self._records, record)
        except Damaged:
            return None
        return None if row is None else row.id

    def _stub(self, name: Name, record: DocumentRecord) -> None:
        """Nothing here makes the document, or says which it is: its body is wanted. A state that is right stays, to be
        merged into that."""
        keeps = record.whole and self._state(name, record) is not None
        for letter in (b"R", b"B") if keeps else (b"S", b"R", b"B"):
            self._records.delete(layout.life(letter, record.slot))
        if not keeps:
            states.drop_later(self._records, record.slot)
        record.state, record.base = layout.STUB, layout.NO_BASE
        self._records.put(layout.document(b"D", *name), record.pack())
        self._done.count("documents asked for again")
        self._feeds.again.add(name[0])

    # The rest

    def _orphans(self) -> None:
        slots = {record.slot for record in self._found.values()}
        for letter in (b"S", b"R", b"B", b"C"):
            for key, _ in list(self._records.scan_raw(letter)):
                if int.from_bytes(key[1:9], "big") not in slots:
                    self._records.delete(key)

    def _indexes(self) -> None:
        """Index entries follow from rows; wanted bodies from stubs."""
        records = self._records
        for letter in (b"X", b"Y"):
            for key, _ in list(records.scan_raw(letter)):
                if int.from_bytes(key[1:3], "big") in self._collections:
                    records.delete(key)
        for (number, key), record in self._found.items():
            collection = self._collections.get(number)
            if collection is None or record.state == layout.HIDDEN:
                continue
            if record.state == layout.STUB:
                records.put(layout.wanted(number, record.stamp, key), record.state_hash)
            row = rows.read(self._core, records, collection, key)
            if row is not None and not row.stub:
                for index in rows.index_keys(self._core, collection, key, row.fields, row.born):
                    records.put(index, b"")

    def _beside(self) -> None:
        """What waits, and the change log, which has no gaps: who follows it begins anew."""
        records = self._records
        for key, value in list(records.scan(b"H")):
            try:
                unseal_hold(self._core, records, key, value)
            except Damaged:
                records.delete(key)
                self._done.count("entries on hold dropped")
        if self._lost.any(b"L"):
            for key, _ in list(records.scan_raw(b"L")):
                records.delete(key)
        for key, _ in list(records.scan(b"N")):
            feed, seq, index = layout.ITEM_AT.unpack(key[1:])
            header = self._feeds.header(feed, seq)
            item = records.get(layout.item(feed, seq, index))
            if header is None or index >= len(header.items) or (item is not None and item[:8] != layout.GRAVE):
                records.delete(key)
        for key, _ in list(records.scan(b"U")):
            name = (int.from_bytes(key[9:11], "big"), key[11:27])
            if name[0] in self._collections and self._dead.get(name, 0) < int.from_bytes(key[27:31], "big"):
                records.delete(key)

    def _ask(self) -> None:
        """Of collections where it is not known what was lost, the next manifest is wanted."""
        for number, collection in self._collections.items():
            if number == self._feeds.directory or collection.space == LOCAL:
                continue  # of these there are no manifests
            prefix = layout.COLLECTION.pack(number)
            unknown = any(self._lost.any(letter + prefix) for letter in (b"T", b"D", b"F"))
            if unknown or number in self._feeds.again or number in self._feeds.behind:
                self._records.put(layout.meta(f"again {number}"), b"")


def _life(slot: int) -> DocumentRecord:
    return DocumentRecord(1, slot, layout.WHOLE, layout.NO_BASE, UNKNOWN_CREATOR, UNKNOWN_HASH, 0)
