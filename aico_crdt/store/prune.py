"""Pruning: entries that nobody needs any more are folded into the documents they built, and dropped.

An entry may go when every current member that may read its collection has said that it holds it durably, or has
been silent for `keep_days` since; and whatever has been acknowledged, when the collection's feeds outgrow
`keep_bytes` and this device can bring others up by manifest. What goes is causally closed, so that a document's base
(the fold of what went) and the entries left fold to its state again. The directory is never pruned: its statements
are few, and the family is folded from all of them.

Every batch is one transaction, complete in itself: a crash in between leaves a store that is pruned less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aico_crdt import clock
from aico_crdt.errors import Damaged
from aico_crdt.feed import Header, decode_header, open_item
from aico_crdt.store import forks, layout, receipts, refold, sealing
from aico_crdt.store.core import Core
from aico_crdt.store.directory import DIRECTORY, LOCAL
from aico_crdt.store.holds import Holds
from aico_crdt.store.records import Collection, DocumentRecord, FeedRecord, Records, unpack
from aico_crdt.store.workspace import Workspace
from aico_crdt.trust import may

if TYPE_CHECKING:
    from aico_crdt.store.store import DocumentStore

BATCH_ENTRIES: Final = 512
"""Entries that one transaction drops: some tens of milliseconds, during which other writers wait."""
SELECT_ENTRIES: Final = 50_000
"""Entries chosen at a time: a bound on memory (some 10 MB)."""
KEEP_CHANGES: Final = 100_000
"""Change log records kept: what a watcher or an index may lag behind before it starts anew."""
DAY_MS: Final = 86_400_000

Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class Pruned:
    """What pruning did: entries dropped, documents whose base changed."""

    entries: int = 0
    documents: int = 0


@dataclass(frozen=True, slots=True)
class Compacted:
    """What :func:`compact` did. `before` and `after` are bytes of live pages; the file keeps its size, its free
    pages are used again."""

    entries: int
    documents: int
    erased: int
    changes: int
    holds: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class _Chosen:
    """An entry that may go: its place and when it arrived, which together name it for good."""

    feed: int
    seq: int
    arrival: int


def prune(store: DocumentStore, *, progress: Progress | None = None) -> Pruned:
    """Drop the entries of every collection that may go. May be interrupted anywhere and called again."""
    done = Pruned()
    for collection in list(store.directory.collections.values()):
        if collection.kind == DIRECTORY:
            continue
        after = 0
        while True:
            with store.reading() as (core, records):
                chosen, after = _choose(store, core, records, collection, after)
            for start in range(0, len(chosen), BATCH_ENTRIES):
                with store.writing(reserve=True) as workspace:
                    _drop(workspace, collection, chosen[start : start + BATCH_ENTRIES], done)
                if progress is not None:
                    progress("entries", done.entries, 0)
            if not after:
                break
    return done


def compact(store: DocumentStore, *, keep_changes: int = KEEP_CHANGES, progress: Progress | None = None) -> Compacted:
    """All upkeep of one store: owed erasures, pruning, the tail of the change log, expired holds."""
    before = store.used_bytes()
    erased = store.erase_due()
    pruned = prune(store, progress=progress)
    changes = _trim_changes(store, keep_changes)
    holds = _expire_holds(store)
    store.environment.clear_stale_readers()
    return Compacted(pruned.entries, pruned.documents, erased, changes, holds, before, store.used_bytes())


# Choosing


class _Readers:
    """Who must hold an entry before it goes, and what they said."""

    def __init__(self, store: DocumentStore, core: Core, records: Records, collection: Collection) -> None:
        self._keep_ms = store.config.keep_days * DAY_MS
        self._now_ms = store.now_ms()
        devices = [] if collection.space == LOCAL else core.directory.readers(collection)
        self._devices = [device for device in devices if device != core.identity.device]
        family = core.directory.family
        self._attesters = [device for device in self._devices if family.trust_of(device) == "full"]
        self._attests = collection.space == LOCAL or family.trust_of(core.identity.device) == "full"
        self._heard: dict[bytes, int] = {}
        self._held: dict[tuple[bytes, int], receipts.Held] = {}
        for device in self._devices:
            for key, _ in records.scan(b"P" + device):
                feed_number = int.from_bytes(key[33:], "big")
                said = receipts.held(records, device, feed_number)
                self._held[device, feed_number] = said
                self._heard[device] = max(said.heard_ms, self._heard.get(device, 0))

    def have(self, feed_number: int, header: Header) -> bool:
        """Everyone knows that entry, or has been silent for too long since it was written; and it stays to be had."""
        for device in self._devices:
            if device == header.device or self._said(device, feed_number).seq >= header.seq:
                continue
            since_ms = max(self._heard.get(device, 0), min(clock.milliseconds(header.hlc), self._now_ms))
            if self._now_ms - since_ms <= self._keep_ms:
                return False
        # Who may not sign manifests cannot bring anyone up to what it has pruned: somebody who may must hold it. Its
        # author alone may have lost it since with its disk, and is trusted with old ones only.
        old = self._now_ms - clock.milliseconds(header.hlc) > self._keep_ms
        return self._attests or any(
            old if device == header.device else self._said(device, feed_number).has(header.seq, header.seq)
            for device in self._attesters
        )

    def _said(self, device: bytes, feed_number: int) -> receipts.Held:
        return self._held.get((device, feed_number), receipts.Held())


def _choose(
    store: DocumentStore, core: Core, records: Records, collection: Collection, after: int
) -> tuple[list[_Chosen], int]:
    """What may go, in arrival order after `after`, and from where to go on (0: that was all)."""
    readers = _Readers(store, core, records, collection)
    feeds: dict[int, FeedRecord] = {}
    numbers: dict[tuple[bytes, bytes], int] = {}
    for key, value in records.scan(layout.feed_prefix(collection.number)):
        feed = FeedRecord.unpack(value)
        feeds[feed.number] = feed
        numbers[key[3:35], key[35:43]] = feed.number
    through = {number: feed.floor - 1 for number, feed in feeds.items()}
    excess = _excess(store, core, records, collection, feeds)
    unfolded = _of_stubs(records, collection)
    chosen: list[_Chosen] = []
    prefix = b"A" + layout.COLLECTION.pack(collection.number)
    for key, place in records.scan(prefix, layout.arrival(collection.number, after + 1)):
        number, seq = unpack(layout.AT, place, "arrival")
        at = int.from_bytes(key[3:], "big")
        stored = records.get(layout.entry(number, seq))
        if stored is None:
            raise Damaged("An entry that should be here is missing.")
        header = decode_header(stored[72:])
        if through.get(number, -1) != seq - 1 or not _closed(header, feeds, numbers, through):
            continue
        if next(records.scan_raw(b"N" + layout.AT.pack(number, seq)), None) is not None:
            continue  # an item of it is still to come
        if (number, seq) in unfolded:
            continue
        size = len(stored) + sum(item.size for item in header.items)
        if excess <= 0 and not readers.have(number, header):
            continue
        excess -= size
        through[number] = seq
        chosen.append(_Chosen(number, seq, at))
        if len(chosen) == SELECT_ENTRIES:
            return chosen, at
    return chosen, 0


def _of_stubs(records: Records, collection: Collection) -> set[tuple[int, int]]:
    """(feed number, seq) of entries that changed what is a stub here: there is nothing to fold them into."""
    found = set()
    for key, _ in records.scan(b"Y" + layout.COLLECTION.pack(collection.number)):
        for _, value in records.scan(layout.document(b"O", collection.number, key[11:])):
            number, seq, _ = unpack(layout.ITEM_AT, value, "operation")
            found.add((number, seq))
    return found


def _closed(
    header: Header, feeds: dict[int, FeedRecord], numbers: dict[tuple[bytes, bytes], int], through: dict[int, int]
) -> bool:
    """Whether all that the entry depends on goes before it. What a fork made void is nowhere any more."""
    for dep in header.deps:
        number = numbers.get((dep.device, dep.incarnation), 0)
        if number not in feeds:
            return False
        fork = feeds[number].fork
        if dep.seq > through[number] and not (fork and dep.seq >= fork):
            return False
    return True


def _excess(
    store: DocumentStore, core: Core, records: Records, collection: Collection, feeds: dict[int, FeedRecord]
) -> int:
    """By how many bytes the collection's feeds are above the limit, where others can be brought up by manifest."""
    if store.used_bytes() <= store.config.keep_bytes:
        return 0
    trust = core.directory.family.trust_of(core.identity.device)
    if collection.space != LOCAL and not may("manifest", collection.kind, trust, is_creator=False):
        return 0
    total = 0
    for number in feeds:
        for letter in (b"E", b"I"):
            for _, stored in records.scan_raw(letter + layout.FEED.pack(number)):
                total += len(stored)
    return total - store.config.keep_bytes


# Dropping


def _drop(workspace: Workspace, collection: Collection, batch: list[_Chosen], done: Pruned) -> None:
    """Fold a batch into the documents' bases and delete it; entries that changed since they were chosen stay."""
    records, core = workspace.records, workspace.core
    feeds = {}
    for key, value in list(records.scan(layout.feed_prefix(collection.number))):
        feed = FeedRecord.unpack(value)
        feeds[feed.number] = workspace.feed(collection, key[3:35], key[35:43]), (key[3:35], key[35:43])
    gone: dict[bytes, set[tuple[int, int, int]]] = {}
    places: list[tuple[int, int, int, int]] = []
    for one in batch:
        feed, writer = feeds[one.feed]
        stored = records.get(layout.entry(one.feed, one.seq))
        if stored is None or feed.floor != one.seq or int.from_bytes(stored[:8], "big") != one.arrival:
            break  # a fork or another process changed the feed: what follows was chosen on the old one
        header = decode_header(stored[72:])
        documents = _documents(core, records, collection, one, header)
        if documents is None:
            break  # its items cannot be opened until an erasure that is under way has been settled
        for key, place in documents:
            gone.setdefault(key, set()).add(place)
        places.append((one.feed, one.seq, one.arrival, len(header.items)))
        feed.floor = one.seq + 1
        workspace.feed_changed(collection, *writer)
    forked = {number: known for number, known in feeds.items() if known[0].fork}
    for key, items in gone.items():
        if forked:
            forks.keep_cut(
                records, key, items, forked, lambda place: refold.item_payload(core, records, collection, place)
            )
        done.documents += _fold(core, records, collection, key, items)
    for feed_number, seq, at, count in places:
        records.delete(layout.entry(feed_number, seq))
        records.delete(layout.arrival(collection.number, at))
        for index in range(count):
            records.delete(layout.item(feed_number, seq, index))
    done.entries += len(places)


def _documents(
    core: Core, records: Records, collection: Collection, one: _Chosen, header: Header
) -> list[tuple[bytes, tuple[int, int, int]]] | None:
    """(document key, place) of every item that a document is made of; None when one cannot be told now."""
    space = core.directory.spaces[collection.space]
    found = []
    for index in range(len(header.items)):
        place = layout.item(one.feed, one.seq, index)
        kept = records.get(place)
        if kept is None or kept[:8] in (layout.GRAVE, bytes(8)):
            continue
        item_key = space.keys.get(header.key_id)
        if item_key is None:
            return None
        try:
            operation = open_item(header, index, refold.open_stored_item(core, place, kept), item_key)
        except Damaged:
            return None
        key = space.document_key(collection.kind, operation.document)
        found.append((key, (one.feed, one.seq, index)))
    return found


def _fold(core: Core, records: Records, collection: Collection, key: bytes, items: set[tuple[int, int, int]]) -> int:
    """Fold `items` into the base of one document and drop them from what it is made of. 1 when its base changed."""
    number = collection.number
    stored = records.get(layout.document(b"D", number, key))
    record = None if stored is None else DocumentRecord.unpack(stored)
    goes: list[bytes] = []
    stays = False
    for operation, value in records.scan(layout.document(b"O", number, key)):
        if unpack(layout.ITEM_AT, value, "operation") in items:
            goes.append(operation)
        else:
            stays = True
    whole = record is not None and record.whole
    if goes and whole and record is not None:
        if stays:
            document, _, _ = refold.refold(core, records, collection, key, record, only=items)
            place = layout.life(b"B", record.slot)
            records.put(place, sealing.seal(document.state(), place, core.lives.key(record.slot)))
            record.base = layout.BASE_KEPT
        else:
            records.delete(layout.life(b"B", record.slot))
            record.base = layout.BASE_IS_STATE
        records.put(layout.document(b"D", number, key), record.pack())
    for operation in goes:
        records.delete(operation)
    return int(bool(goes) and whole)


# The rest of the upkeep


def _trim_changes(store: DocumentStore, keep: int) -> int:
    """Drop change log records older than the last `keep`."""
    dropped = 0
    while True:
        with store.reading() as (_, records):
            end = store.counters().change - keep
            old = [key for key, _ in _take(records.scan_raw(b"L"), 10_000) if int.from_bytes(key[1:], "big") <= end]
        if not old:
            return dropped
        with store.writing(reserve=True) as workspace:
            dropped += sum(workspace.records.delete(key) for key in old)


def _take(scan: Iterator[tuple[bytes, bytes]], limit: int) -> list[tuple[bytes, bytes]]:
    return [record for record, _ in zip(scan, range(limit), strict=False)]


def _expire_holds(store: DocumentStore) -> int:
    """Drop what has waited too long; it is asked for again when its reason goes away."""
    with store.reading() as (_, records):
        waiting = sum(1 for _ in records.scan_raw(b"H"))
    if not waiting:
        return 0
    with store.writing(reserve=True) as workspace:
        Holds(workspace, store.config)  # loading them drops what has waited too long
        return waiting - sum(1 for _ in workspace.records.scan_raw(b"H"))
