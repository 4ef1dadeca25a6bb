"""Verify, first half: feeds, entries, arrivals, items, and what waits or is kept beside them."""

from __future__ import annotations

import msgpack

from aico_crdt.errors import Damaged, PeerError
from aico_crdt.feed import (
    Entry,
    Head,
    Header,
    decode_entry,
    decode_fork,
    decode_header,
    item_mark,
    open_item,
    verify_entry,
    verify_fork,
    verify_head,
)
from aico_crdt.feed.header import GENESIS
from aico_crdt.feed.item import item_hash
from aico_crdt.store import forget, layout
from aico_crdt.store.holds import unseal_hold
from aico_crdt.store.records import NO_SIGNATURE, Collection, FeedRecord, unpack
from aico_crdt.store.refold import open_stored_item
from aico_crdt.store.verify_report import Scope


def check_feeds(scope: Scope) -> None:
    feeds = _feeds(scope)
    _entries(scope, feeds)
    _arrivals(scope, feeds)
    _items(scope, feeds)
    _peers(scope, feeds)
    _waiting(scope)
    _evidence(scope)
    _changes(scope)


class _Feed:
    """A feed's record and what it must agree with."""

    __slots__ = ("collection", "device", "held", "incarnation", "record")

    def __init__(self, collection: Collection | None, device: bytes, incarnation: bytes, record: FeedRecord) -> None:
        self.collection = collection
        self.device = device
        self.incarnation = incarnation
        self.record = record
        self.held = 0

    @property
    def where(self) -> str:
        return f"{self.device.hex()}/{self.incarnation.hex()}"


def _feeds(scope: Scope) -> dict[int, _Feed]:
    found: dict[int, _Feed] = {}
    report = scope.report
    for key, value in scope.records.scan(b"F"):
        with report.guard("feed", key.hex()):
            record = FeedRecord.unpack(value)
            collection = scope.collections.get(int.from_bytes(key[1:3], "big"))
            feed = _Feed(collection, key[3:35], key[35:43], record)
            report.count("feeds")
            if record.number in found or not 0 < record.number <= scope.counters.feed:
                report.add("feed", feed.where, "A feed's number is used twice or was never given out.")
            if not 1 <= record.floor <= record.seq + 1:
                report.add("feed", feed.where, "A feed's floor is not among its entries.")
            if record.arrival > scope.counters.arrival:
                report.add("counter", feed.where, "A feed ends beyond the last arrival.")
            if record.seq and record.floor > record.seq and not _attested(scope, feed):
                report.add("feed", feed.where, "The signature of a feed's head does not hold.")
            if scope.records.get(layout.feed_name(record.number)) != key[1:]:
                report.add("feed", feed.where, "A feed and its number do not name each other.")
            found[record.number] = feed
    for key, _ in scope.records.scan(b"G"):
        if int.from_bytes(key[1:], "big") not in found:
            report.add("feed", key.hex(), "A number names a feed that is not here.")
    return found


def _attested(scope: Scope, feed: _Feed) -> bool:
    """Whether a head without its entry is its author's; zeros stand for a signature that a fork took away."""
    if feed.collection is None or feed.record.signature == NO_SIGNATURE:
        return True
    head = Head(feed.device, feed.incarnation, feed.record.seq, feed.record.hash)
    try:
        verify_head(scope.core.directory.family.id, feed.collection.tag, head, feed.record.signature)
    except PeerError:
        return False
    return True


def _entries(scope: Scope, feeds: dict[int, _Feed]) -> None:
    """Headers, chains, heads and signatures, feed by feed."""
    report = scope.report
    last: Header | None = None
    signature = b""
    current: _Feed | None = None
    for count, (key, value) in enumerate(scope.records.scan(b"E")):
        scope.step("entries", count)
        number, seq = layout.AT.unpack(key[1:])
        feed = feeds.get(number)
        report.count("entries")
        if feed is None:
            report.add("entry", key.hex(), "An entry belongs to no feed here.")
            continue
        where = f"{feed.where}/{seq}"
        with report.guard("entry", where):
            header = decode_header(value[72:])
            named = header.seq == seq and header.device == feed.device and header.incarnation == feed.incarnation
            if not named or header.family != scope.core.directory.family.id:
                raise Damaged("An entry does not lie where its header says.")
            if feed.collection is not None and header.tag != feed.collection.tag:
                raise Damaged("An entry belongs to another collection than its feed.")
            if int.from_bytes(value[:8], "big") > scope.counters.arrival:
                raise Damaged("An entry arrived later than the last arrival.")
            continues = last is not None and current is feed and last.seq + 1 == seq
            if not continues:
                _close_run(scope, current, last, signature)
            if continues and last is not None and header.prev != last.hash:
                report.add("feed", where, "An entry does not continue the one before it.")
            if seq == 1 and header.prev != GENESIS:
                report.add("feed", where, "The first entry of a feed names one before it.")
            if not continues and feed.record.floor < seq <= feed.record.seq:
                report.add("feed", where, "The entry before this one is missing.")
            if seq > feed.record.seq:
                report.add("feed", where, "An entry lies beyond its feed's head.")
            if seq == feed.record.seq and header.hash != feed.record.hash:
                report.add("feed", where, "The head's hash is not that of its entry.")
            if seq == feed.record.seq and value[8:72] != feed.record.signature:
                report.add("feed", where, "The head's signature is not that of its entry.")
            if feed.record.floor <= seq <= feed.record.seq:
                feed.held += 1
            if scope.refold and not _signed(header, value[8:72]):
                report.count("proven by what follows")
            last, signature, current = header, value[8:72], feed
    _close_run(scope, current, last, signature)
    for feed in feeds.values():
        if feed.held != feed.record.seq + 1 - feed.record.floor:
            report.add("feed", feed.where, "Entries between a feed's floor and head are missing.")


def _close_run(scope: Scope, feed: _Feed | None, header: Header | None, signature: bytes) -> None:
    """The last signature of a chain proves all of it; those inside need not hold, see :meth:`StoreReplica._prove`."""
    if feed is None or header is None:
        return
    if not _signed(header, signature):
        scope.report.add("feed", f"{feed.where}/{header.seq}", "The signature at the end of a chain does not hold.")


def _signed(header: Header, signature: bytes) -> bool:
    try:
        verify_entry(Entry(header, signature, (None,) * len(header.items)))
    except PeerError:
        return False
    return True


def _arrivals(scope: Scope, feeds: dict[int, _Feed]) -> None:
    report = scope.report
    count = 0
    last: dict[int, int] = {}
    for key, value in scope.records.scan(b"A"):
        with report.guard("entry", key.hex()):
            number, seq = unpack(layout.AT, value, "arrival")
            count += 1
            feed = feeds.get(number)
            stored = scope.records.get(layout.entry(number, seq))
            if feed is None or stored is None or stored[:8] != key[3:]:
                report.add("entry", key.hex(), "An arrival names an entry that is not here.")
                continue
            if feed.collection is not None and feed.collection.number != int.from_bytes(key[1:3], "big"):
                report.add("entry", key.hex(), "An arrival names an entry of another collection.")
            if seq <= last.get(number, 0):
                report.add("entry", key.hex(), "Entries of a feed arrived out of order.")
            last[number] = seq
    if count != sum(feed.held for feed in feeds.values()):
        report.add("entry", "A", "Some entries have no arrival, or some arrivals no entry.")


def _items(scope: Scope, feeds: dict[int, _Feed]) -> None:
    """Every sealed item opens under its life, is what its header names and opens under its space's key."""
    report, core = scope.report, scope.core
    owed = {unpack(forget.OWED, value, "erasure")[0] for _, value in scope.records.scan(b"U")}
    held: tuple[int, int, Header | None] = (0, 0, None)
    of_lives = 0
    for count, (key, value) in enumerate(scope.records.scan(b"I")):
        scope.step("items", count)
        number, seq, index = layout.ITEM_AT.unpack(key[1:])
        feed = feeds.get(number)
        where = f"{feed.where if feed else number}/{seq}/{index}"
        report.count("items")
        with report.guard("item", where):
            if held[:2] != (number, seq):
                held = (number, seq, forget.read_header(scope.records, number, seq))
            header = held[2]
            if header is None or index >= len(header.items) or feed is None:
                raise Damaged("An item belongs to no entry here.")
            if value[:8] == layout.GRAVE:
                _grave(scope, feed, header, key, value)
                continue
            slot = int.from_bytes(value[:8], "big")
            of_lives += slot != 0
            if slot > scope.counters.slot:
                raise Damaged("An item names a life key that was never given out.")
            if slot in owed:
                continue  # its key may be destroyed already
            try:
                sealed = open_stored_item(core, key, value)
            except Damaged:
                if scope.erased_since(key, value):
                    continue
                raise
            if len(sealed) != header.items[index].size or item_hash(sealed) != header.items[index].hash:
                raise Damaged("An item is not the one its entry names.")
            if feed.collection is None:
                continue
            space_key = core.directory.spaces[feed.collection.space].keys.get(header.key_id)
            if space_key is None:
                raise Damaged("The key of an item is missing.")
            open_item(header, index, sealed, space_key)
    _gaps(scope)
    operations = sum(1 for _ in scope.records.scan_raw(b"O"))
    if operations != of_lives:
        report.add("item", "O", f"{of_lives} items of documents are kept, but documents are made of {operations}.")


def _grave(scope: Scope, feed: _Feed, header: Header, key: bytes, value: bytes) -> None:
    """What is left of an erased item names the life it belonged to, and that life is dead or its forget awaited."""
    scope.report.count("graves")
    if feed.collection is None:
        return
    number, seq, index = layout.ITEM_AT.unpack(key[1:])
    document_key, life = value[8:24], int.from_bytes(value[24:], "big")
    tag_key = scope.core.directory.spaces[feed.collection.space].tag_key
    mark = item_mark(tag_key, document_key, life, feed.device, feed.incarnation, seq, index)
    if mark != header.items[index].mark:
        raise Damaged("An erased item did not belong to the document it is said to have belonged to.")
    dead = forget.tombstone(scope.records, feed.collection, document_key)
    if (dead is None or dead[0] < life) and scope.records.get(layout.gap(number, seq, index)) is None:
        raise Damaged("An item of a living document was erased.")


def _gaps(scope: Scope) -> None:
    for key, value in scope.records.scan(b"N"):
        scope.report.count("gaps")
        with scope.report.guard("item", key.hex()):
            number, seq, index = layout.ITEM_AT.unpack(key[1:])
            unpack(layout.GAP, value, "gap")
            header = forget.read_header(scope.records, number, seq)
            item = scope.records.get(layout.item(number, seq, index))
            if header is None or index >= len(header.items) or (item is not None and item[:8] != layout.GRAVE):
                raise Damaged("A gap is open where no item is missing.")


def _peers(scope: Scope, feeds: dict[int, _Feed]) -> None:
    for key, value in scope.records.scan(b"P"):
        with scope.report.guard("record", key.hex()):
            feed = feeds.get(int.from_bytes(key[33:], "big"))
            if len(value) != 32 or feed is None or int.from_bytes(value[:8], "big") > feed.record.seq:
                # A lost branch of a fork shortens a feed after somebody acknowledged more of it.
                if feed is not None and feed.record.fork:
                    continue
                raise Damaged("An acknowledgement names entries that are not here.")


def _waiting(scope: Scope) -> None:
    for key, value in scope.records.scan(b"H"):
        scope.report.count("held")
        with scope.report.guard("waiting", key.hex()):
            if int.from_bytes(key[1:], "big") > scope.counters.hold:
                raise Damaged("An entry on hold has a number that was never given out.")
            try:
                packed = msgpack.unpackb(unseal_hold(scope.core, scope.records, key, value))
            except Damaged:
                if scope.erased_since(key, value):
                    continue
                raise
            entry = decode_entry(packed[-1])
            if entry.header.hash != packed[1]:
                raise Damaged("An entry on hold is not the one its record names.")


def _evidence(scope: Scope) -> None:
    for key, value in scope.records.scan(b"V"):
        scope.report.count("evidence")
        with scope.report.guard("record", key.hex()):
            what, _, _, _, raw = msgpack.unpackb(value)
            if int.from_bytes(key[1:], "big") > scope.counters.evidence:
                raise Damaged("A piece of evidence has a number that was never given out.")
            if what == "fork":
                try:
                    verify_fork(decode_fork(raw))
                except PeerError as error:
                    raise Damaged("A proof of a fork proves nothing.") from error


def _changes(scope: Scope) -> None:
    """The change log has no gap and ends at its counter."""
    expected = None
    for key, value in scope.records.scan(b"L"):
        number = int.from_bytes(key[1:], "big")
        if expected is not None and number != expected:
            scope.report.add("counter", key.hex(), "The change log has a gap.")
        with scope.report.guard("record", key.hex()):
            unpack(layout.CHANGE, value, "change")
        expected = number + 1
    if expected is not None and expected != scope.counters.change + 1:
        scope.report.add("counter", "L", "The change log does not end at its counter.")
