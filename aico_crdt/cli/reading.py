"""Facts read out of a store, as values: what the commands print and what their JSON holds.

Everything here reads one snapshot and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final

import msgpack

from aico_crdt import clock, ids
from aico_crdt.cli import naming
from aico_crdt.cli.relatives import Device, devices
from aico_crdt.crdt import Document, Slot, foreign
from aico_crdt.errors import AicoError, Damaged, NotFound, PeerError
from aico_crdt.feed import Entry, Header, Operation, decode_header, open_item, verify_entry
from aico_crdt.store import DocumentStore, Receipt, Row, layout, refold, rows, states
from aico_crdt.store.core import Core
from aico_crdt.store.receipts import held
from aico_crdt.store.records import Collection, DocumentRecord, FeedRecord, Records, unpack
from aico_crdt.store.replica import read_wire_entry
from aico_crdt.trust import Admit, Found, Revoke, decode_statement

STATES: Final = {layout.WHOLE: "whole", layout.FETCHED: "whole", layout.STUB: "stub", layout.HIDDEN: "forgotten"}


# The store


@dataclass(slots=True)
class Tally:
    """One collection in figures."""

    collection: Collection
    documents: int = 0
    stubs: int = 0
    forgotten: int = 0
    conflicts: int = 0
    feeds: int = 0
    entries: int = 0
    messages: int = 0

    @property
    def name(self) -> str:
        return f"{self.collection.space}/{self.collection.kind}"

    def to_json(self) -> dict[str, Any]:
        return {
            "space": self.collection.space,
            "kind": self.collection.kind,
            "tag": self.collection.tag,
            "documents": self.documents,
            "messages": self.messages if self.collection.kind == "conversation" else None,
            "stubs": self.stubs,
            "forgotten": self.forgotten,
            "conflicts": self.conflicts,
            "feeds": self.feeds,
            "entries": self.entries,
        }


@dataclass(frozen=True, slots=True)
class Status:
    """A store in figures. `owed`: forgotten lives whose key is still to be destroyed."""

    path: str
    format: int
    store: bytes
    family: bytes
    device: bytes
    name: str
    trust: str | None
    incarnation: bytes
    created_ms: int
    collections: Sequence[Tally]
    held_entries: int
    evidence: int
    owed: int
    used_bytes: int
    limit_bytes: int
    content_hash: bytes
    devices: Sequence[Device]

    @property
    def conflicts(self) -> int:
        return sum(tally.conflicts for tally in self.collections)

    def to_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "format": self.format,
            "store": self.store,
            "family": self.family,
            "device": self.device,
            "name": self.name,
            "trust": self.trust,
            "incarnation": self.incarnation,
            "created_ms": self.created_ms,
            "collections": [tally.to_json() for tally in self.collections],
            "conflicts": self.conflicts,
            "held_entries": self.held_entries,
            "evidence": self.evidence,
            "owed_erasures": self.owed,
            "used_bytes": self.used_bytes,
            "limit_bytes": self.limit_bytes,
            "content_hash": self.content_hash,
            "pending": {one.member.device.hex(): one.unacknowledged for one in self.devices if _waits(one)},
        }


def _waits(device: Device) -> bool:
    return not device.this and not device.member.revoked


def status(store: DocumentStore) -> Status:
    """The store in figures: one pass over its documents."""
    with store.reading() as (core, records):
        tallies = [tally(core, records, collection) for collection in core.directory.collections.values()]
        held_entries = sum(1 for _ in records.scan_raw(b"H"))
        evidence = sum(1 for _ in records.scan_raw(b"V"))
        owed = sum(1 for _ in records.scan_raw(b"U"))
    member = store.directory.family.members.get(store.device)
    return Status(
        str(store.path), store.label.format, store.label.store, store.directory.family.id, store.device,
        member.name if member else "", store.directory.family.trust_of(store.device), store.incarnation,
        store.label.created_ms, tallies, held_entries, evidence, owed, store.used_bytes(),
        store.environment.map_size, store.content_hash(), devices(store),
    )  # fmt: skip


def tally(core: Core, records: Records, collection: Collection) -> Tally:
    """Count one collection."""
    found = Tally(collection)
    for key, value in records.scan(b"D" + layout.COLLECTION.pack(collection.number)):
        record = DocumentRecord.unpack(value)
        if record.state == layout.HIDDEN:
            continue
        found.documents += 1
        row = rows.read(core, records, collection, key[3:])
        found.stubs += row is not None and row.stub
        found.conflicts += row is not None and bool(row.conflicts)
        found.messages += row is not None and "role" in row.fields
    found.forgotten = sum(1 for _ in records.scan_raw(b"T" + layout.COLLECTION.pack(collection.number)))
    for _, value in records.scan(layout.feed_prefix(collection.number)):
        feed = FeedRecord.unpack(value)
        if feed.seq:
            found.feeds += 1
            found.entries += max(0, feed.seq - feed.floor + 1)
    return found


def evidence(store: DocumentStore) -> list[dict[str, Any]]:
    """What was kept to show of forks and rejected entries, newest first: kind, reason, who handed it over, when."""
    with store.reading() as (_, records):
        kept = [msgpack.unpackb(value) for _, value in records.scan(b"V", reverse=True)]
    return [{"what": what, "reason": reason, "source": source, "time_ms": ms} for what, reason, source, ms, *_ in kept]


def conflicts(store: DocumentStore) -> list[Row]:
    """Every row with an open conflict."""
    return [row for kind in store.kinds for row in store.rows(kind) if row.conflicts]


# Entries


@dataclass(frozen=True, slots=True)
class Item:
    """One item of an entry as far as it can be read: `what` is born, changed, forget, statement, erased or sealed."""

    what: str
    kind: str
    document: str = ""
    life: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Logged:
    """One entry as the log lists it."""

    arrival: int
    collection: Collection
    header: Header
    items: Sequence[Item]
    ref: str
    device_name: str

    def to_json(self) -> dict[str, Any]:
        header = self.header
        return {
            "arrival": self.arrival,
            "entry": self.ref,
            "space": self.collection.space,
            "kind": self.collection.kind,
            "device": header.device,
            "device_name": self.device_name,
            "incarnation": header.incarnation,
            "seq": header.seq,
            "hash": header.hash,
            "hlc": clock.to_text(header.hlc),
            "time_ms": clock.milliseconds(header.hlc),
            "items": [
                {
                    "what": item.what,
                    "kind": item.kind,
                    "id": item.document or None,
                    "life": item.life,
                    "bytes": item.bytes,
                }
                for item in self.items
            ],
        }


def log(store: DocumentStore, kind: str | None, limit: int, after: int = 0) -> list[Logged]:
    """The newest `limit` entries in order of arrival here, newest first; only those that arrived after `after`, and
    only those of `kind`, if given: a store's kind, or ``message``."""
    stored_kind = naming.CONVERSATION if kind == naming.MESSAGE else kind
    with store.reading() as (core, records):
        places = []
        for collection in core.directory.collections.values():
            if stored_kind is not None and collection.kind != stored_kind:
                continue
            arrivals = records.scan(b"A" + layout.COLLECTION.pack(collection.number), reverse=True)
            for key, value in islice(arrivals, limit if kind == stored_kind else None):
                at = int.from_bytes(key[3:], "big")
                if at <= after:
                    break
                places.append((at, collection, *unpack(layout.AT, value, "arrival")))
        places.sort(key=lambda place: -place[0])
        logged = (_logged(store, core, records, *place) for place in places)
        wanted = (one for one in logged if kind == stored_kind or any(item.kind == kind for item in one.items))
        return list(islice(wanted, limit))


def _logged(
    store: DocumentStore, core: Core, records: Records, at: int, collection: Collection, feed: int, seq: int
) -> Logged:
    header = _header(records, feed, seq)
    items = [_item(core, records, collection, feed, header, index) for index in range(len(header.items))]
    ref = naming.entry_ref(store, collection, header.device, header.incarnation, seq)
    return Logged(at, collection, header, items, ref, naming.name_of(store, header.device))


def feed_entries(store: DocumentStore, place: naming.Place, limit: int) -> list[Logged]:
    """The entries of a feed that are held here, newest first."""
    with store.reading() as (core, records):
        first = max(place.feed.floor, place.feed.seq - limit + 1)
        return [
            _logged(store, core, records, 0, place.collection, place.feed.number, seq)
            for seq in range(place.feed.seq, first - 1, -1)
            if records.get(layout.entry(place.feed.number, seq)) is not None
        ]


def entry_at(store: DocumentStore, core: Core, records: Records, place: naming.Place) -> Logged:
    """One entry that is held here."""
    stored = records.get(layout.entry(place.feed.number, place.seq))
    at = 0 if stored is None else int.from_bytes(stored[:8], "big")
    return _logged(store, core, records, at, place.collection, place.feed.number, place.seq)


def payload(core: Core, records: Records, place: naming.Place, header: Header, index: int) -> Any:
    """What an item says, decoded: the slots it sets, a statement in words; None when it cannot be read."""
    try:
        operation = operation_of(core, records, place.collection, place.feed.number, header, index)
    except (Damaged, PeerError):
        return None
    if operation is None:
        return None
    if operation.name == "statement":
        return _statement(core, operation.payload)
    if operation.name == "forget":
        return "forget"
    if operation.name != "update":
        return None
    client, writer = ids.client_id(header.device, header.incarnation), ids.writer(header.device, header.incarnation)
    document = Document.new(core.client, core.writer)
    try:
        foreign.merge(document, operation.payload, client, writer)
    except PeerError:
        return f"an edit of {len(operation.payload)} bytes"  # it builds on what this item does not carry
    return {slot.name: slot.value for slot in document.slots()}


def _header(records: Records, feed: int, seq: int) -> Header:
    stored = records.get(layout.entry(feed, seq))
    if stored is None:
        raise Damaged("An entry that should be here is missing.")
    return decode_header(stored[72:])


def _item(core: Core, records: Records, collection: Collection, feed: int, header: Header, index: int) -> Item:
    count = header.items[index].size
    try:
        operation = operation_of(core, records, collection, feed, header, index)
    except Damaged:
        return Item("erased", collection.kind, bytes=count)
    if operation is None:
        stored = records.get(layout.item(feed, header.seq, index))
        gone = stored is None or stored[:8] == layout.GRAVE
        return Item("erased" if gone else "sealed", collection.kind, bytes=count)
    what = operation.name
    if what == "update":
        what = "changed"
        key = core.directory.spaces[collection.space].document_key(collection.kind, operation.document)
        for _, value in records.scan(layout.document(b"O", collection.number, key)):
            if unpack(layout.ITEM_AT, value, "operation") == (feed, header.seq, index):
                what = "born"
            break
    elif what == "statement":
        what = _statement(core, operation.payload)
    return Item(what, _kind(core, records, collection, operation), operation.document, operation.life, count)


def _kind(core: Core, records: Records, collection: Collection, operation: Operation) -> str:
    """The kind people know a document by, as far as it is here."""
    if collection.kind != naming.CONVERSATION or operation.name == "statement":
        return collection.kind
    key = core.directory.spaces[collection.space].document_key(collection.kind, operation.document)
    row = rows.read(core, records, collection, key)
    return collection.kind if row is None else naming.kind_of(row)


def operation_of(
    core: Core, records: Records, collection: Collection, feed: int, header: Header, index: int
) -> Operation | None:
    """What an item says; None when it was erased or its key is not here.

    Raises:
        Damaged: its life's key was destroyed, or its bytes were changed.
    """
    key = layout.item(feed, header.seq, index)
    stored = records.get(key)
    item_key = core.directory.spaces[collection.space].keys.get(header.key_id)
    if stored is None or item_key is None or stored[:8] == layout.GRAVE:
        return None
    return open_item(header, index, refold.open_stored_item(core, key, stored), item_key)


def _statement(core: Core, payload: bytes) -> str:
    try:
        found = decode_statement(payload)
    except PeerError:
        return "statement"
    if isinstance(found, Found):
        return f"found family as {found.name}"
    if isinstance(found, Admit):
        return f"admit {found.name} ({found.trust})"
    if isinstance(found, Revoke):
        member = core.directory.family.members.get(found.device)
        return f"revoke {member.name if member is not None else found.device.hex()[:12] + '…'}"
    return "statement of a later release"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an entry, read anew from disk, is what its device signed. `problem` is empty when it is."""

    entry: Entry
    problem: str

    @property
    def good(self) -> bool:
        return not self.problem


def verify(core: Core, records: Records, feed: int, seq: int) -> Verdict:
    """Read an entry from disk and check signature, item hashes and sizes.

    Raises:
        NotFound: it is not held here. Damaged: its record does not verify.
    """
    if records.get(layout.entry(feed, seq)) is None:
        raise NotFound("That entry is not here any more, or never was.", "It may have been pruned; see `inspect feed`.")
    entry = _readable(core, records, feed, seq)
    try:
        verify_entry(entry)
    except PeerError as error:
        return Verdict(entry, error.what)
    return Verdict(entry, "")


def _readable(core: Core, records: Records, feed: int, seq: int) -> Entry:
    """The entry with what can still be read; items whose life's key was destroyed count as erased."""
    try:
        return read_wire_entry(core, records, feed, seq)
    except Damaged:
        stored = records.get(layout.entry(feed, seq))
        assert stored is not None
        header = decode_header(stored[72:])
        items: list[bytes | None] = []
        for index in range(len(header.items)):
            key = layout.item(feed, seq, index)
            kept = records.get(key)
            try:
                gone = kept is None or kept[:8] == layout.GRAVE
                items.append(None if gone or kept is None else refold.open_stored_item(core, key, kept))
            except Damaged:
                items.append(None)
        return Entry(header, stored[8:72], tuple(items))


# Documents


@dataclass(frozen=True, slots=True)
class Wrote:
    """One live slot of a document, and where it comes from. `entry` is None where none of the entries held here
    carried it: then a manifest of `attested_by` did, or it was pruned."""

    slot: Slot
    entry: Logged | None
    verdict: Verdict | None
    attested_by: bytes | None
    on: tuple[bytes, ...] = ()
    missing: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Anatomy:
    """A living document taken apart: its row, its slots with their origin, the entries it is made of."""

    row: Row
    record: DocumentRecord
    key: bytes
    wrote: Sequence[Wrote]
    entries: Sequence[Logged]
    attested_by: bytes | None = None
    text: str = ""
    lives_before: int = field(default=0)


def anatomy(store: DocumentStore, named: naming.Named) -> Anatomy:
    """Take a living document apart, verifying every entry it is made of anew.

    Raises:
        NotFound: it is forgotten, or only a stub is here.
    """
    collection, key = named.collection, named.key
    with store.reading() as (core, records):
        row = rows.read(core, records, collection, key)
        stored = records.get(layout.document(b"D", collection.number, key))
        if row is None or stored is None:
            raise NotFound(f"{named.kind} {named.id} was forgotten.", "See `aico-crdt status` with its id.")
        if row.stub:
            raise NotFound(f"Only a stub of {named.kind} {named.id} is here.", "Sync with a device that has its body.")
        record = DocumentRecord.unpack(stored)
        applied = refold.operations(core, records, collection, key)
        feeds = {
            (h.device, h.incarnation): _feed_number(records, collection, h.device, h.incarnation)
            for h in (one.header for one in applied)
        }
        origin = _origins(core, records, named, record, applied)
        attested = _attested(records, collection)
        logged: dict[bytes, Logged] = {}
        verdicts: dict[bytes, Verdict] = {}
        for one in applied:
            header, feed = one.header, feeds[one.header.device, one.header.incarnation]
            if header.hash not in logged:
                logged[header.hash] = _logged(store, core, records, 0, collection, feed, header.seq)
                verdicts[header.hash] = verify(core, records, feed, header.seq)
        others = [d for d in core.directory.readers(collection) if d != store.device]
        wrote = []
        state = states.read(core, records, record)
        document = Document.load(state, core.client, core.writer)
        for slot in document.slots():
            found = origin.get((slot.name, slot.writer, slot.hlc))
            if found is None:
                wrote.append(Wrote(slot, None, None, attested))
                continue
            feed = feeds[found.device, found.incarnation]
            on = tuple(d for d in others if d == found.device or held(records, d, feed).has(found.seq, found.seq))
            wrote.append(Wrote(slot, logged[found.hash], verdicts[found.hash], None, on))
    receipt = store.receipt(named.kind, named.id)
    wrote = [_held_by(one, receipt) for one in wrote]
    return Anatomy(row, record, key, wrote, list(logged.values()), attested, document.text(), record.life - 1)


def _held_by(wrote: Wrote, receipt: Receipt) -> Wrote:
    """Who has a write: who said so of its entry, and who has the whole document by its receipt.

    Of a write whose entry is not here any more, only the receipt tells.
    """
    on = tuple(device for device in (*receipt.on, *receipt.missing) if device in receipt.on or device in wrote.on)
    return replace(wrote, on=on, missing=tuple(device for device in receipt.missing if device not in on))


def _origins(
    core: Core, records: Records, named: naming.Named, record: DocumentRecord, applied: Sequence[refold.Applied]
) -> dict[tuple[str, str, int], Header]:
    """The header of the entry that brought each slot: found by applying the entries again, one by one."""
    derived = core.kinds[named.kind].derived
    start = refold.base(core, records, record)
    if start is None:
        document = Document.new(core.client, core.writer, derived=derived)
    else:
        document = Document.load(start, core.client, core.writer, derived=derived)
    known = {(slot.name, slot.writer, slot.hlc) for slot in document.slots()}
    origin: dict[tuple[str, str, int], Header] = {}
    for header, _, operation in applied:
        client, writer = ids.client_id(header.device, header.incarnation), ids.writer(header.device, header.incarnation)
        before = document.encoding()
        try:
            foreign.merge(document, operation.payload, client, writer, overlap=True)
        except AicoError:
            document = Document.take(before, core.client, core.writer, derived=derived)
            continue
        for slot in document.slots():
            name = (slot.name, slot.writer, slot.hlc)
            if name not in known:
                known.add(name)
                origin[name] = header
    return origin


def _feed_number(records: Records, collection: Collection, device: bytes, incarnation: bytes) -> int:
    stored = records.get(layout.feed(collection.number, device, incarnation))
    if stored is None:
        raise Damaged("The record of a feed is missing.")
    return FeedRecord.unpack(stored).number


def _attested(records: Records, collection: Collection) -> bytes | None:
    """The signer of the last manifest taken for a collection."""
    packed = records.get(layout.meta(f"attested {collection.number}"))
    return None if packed is None else bytes(msgpack.unpackb(packed)[0])


def documents(store: DocumentStore, collection: Collection, limit: int) -> Iterator[tuple[DocumentRecord, Row | None]]:
    """Living documents of a collection in order of their keys."""
    with store.reading() as (core, records):
        found = 0
        for key, value in records.scan(b"D" + layout.COLLECTION.pack(collection.number)):
            record = DocumentRecord.unpack(value)
            if record.state != layout.HIDDEN:
                yield record, rows.read(core, records, collection, key[3:])
                found += 1
                if found == limit:
                    return
