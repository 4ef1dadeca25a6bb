"""The honest status of a write: on this disk, on which devices, on all. Never claims what was not durable there.

A device is counted as holding an entry when it said so itself over a link that proved its identity, after its own
synced commit, or when an entry it signed depends on it.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aico_crdt.errors import NotFound
from aico_crdt.feed.header import Head
from aico_crdt.store import layout
from aico_crdt.store.forget import Tombstone, read_header, tombstone
from aico_crdt.store.records import Collection, DocumentRecord, FeedRecord, Records, unpack

if TYPE_CHECKING:
    from aico_crdt.store.store import DocumentStore
    from aico_crdt.store.workspace import Workspace

_ACK: Final = struct.Struct(">QQQ")
"""Value of a `P` record: seq held, seq through which forgets are erased, when it was heard (Unix ms)."""
Heard = dict[tuple[bytes, Collection, bytes, bytes], Head]
"""By device and by collection, author and incarnation of a feed: the last entry of it that the device's depend on."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where a write is.

    `here`: durable on this disk. `on`: other current members that hold it durably. `missing`: current members that
    may have it and have not said so. `everywhere`: `missing` is empty. `forgotten`: the document was forgotten;
    `erased_on` then names the devices that destroyed its key, this one included, and `owing` those that have not yet.
    `unconfirmed`: revoked devices that never confirmed.
    """

    kind: str
    id: str
    here: bool
    on: tuple[bytes, ...]
    missing: tuple[bytes, ...]
    forgotten: bool = False
    erased_on: tuple[bytes, ...] = ()
    owing: tuple[bytes, ...] = ()
    unconfirmed: tuple[bytes, ...] = ()

    @property
    def everywhere(self) -> bool:
        return self.here and not self.missing


def note(
    store: DocumentStore,
    peer: bytes,
    collection: Collection,
    heads: Sequence[tuple[bytes, bytes, int, bytes]],
    erased: Sequence[tuple[bytes, bytes, int]],
) -> None:
    """Keep a peer's own word. A head whose hash is not the one here says nothing and is passed over; so does one that
    lies above the end of a feed of this very device: that is another branch, written by a copy of this store."""
    told = {(device, incarnation): seq for device, incarnation, seq in erased}
    with store.reading() as (_, records):
        fresh = _fresh(records, store.device, peer, collection, heads, told)
    if not fresh:
        return
    with store.writing() as workspace:
        for feed_number, seq, gone in fresh:
            key = layout.peer(peer, feed_number)
            before = workspace.records.get(key)
            old = (0, 0, 0) if before is None else unpack(_ACK, before, "acknowledgement")
            workspace.records.put(key, _ACK.pack(max(seq, old[0]), max(gone, old[1]), workspace.now_ms))
    store.bell.ring()


def _fresh(
    records: Records,
    own: bytes,
    peer: bytes,
    collection: Collection,
    heads: Sequence[tuple[bytes, bytes, int, bytes]],
    erased: dict[tuple[bytes, bytes], int],
) -> list[tuple[int, int, int]]:
    fresh = []
    for device, incarnation, seq, digest in heads:
        stored = records.get(layout.feed(collection.number, device, incarnation))
        if stored is None:
            continue
        feed = FeedRecord.unpack(stored)
        if seq > feed.seq and device == own:
            continue
        if seq > feed.seq:
            seq = feed.seq  # it holds more than we do; of ours it holds everything
        elif seq < feed.seq:
            header = read_header(records, feed.number, seq)
            if header is not None and header.hash != digest:
                continue
        elif feed.hash != digest:
            continue
        gone = min(erased.get((device, incarnation), 0), seq)
        before = records.get(layout.peer(peer, feed.number))
        old = (0, 0, 0) if before is None else unpack(_ACK, before, "acknowledgement")
        if seq > old[0] or gone > old[1]:
            fresh.append((feed.number, seq, gone))
    return fresh


def note_dependencies(workspace: Workspace, heard: Heard) -> None:
    """Keep what signed entries prove. A dependency that is not the entry here, or cannot be told from another, says
    nothing."""
    for (device, collection, author, incarnation), dep in heard.items():
        feed = workspace.feed(collection, author, incarnation)
        header = read_header(workspace.records, feed.number, dep.seq)
        if (feed.hash if dep.seq == feed.seq else header and header.hash) != dep.hash:
            continue
        seq, key = dep.seq, layout.peer(device, feed.number)
        before = workspace.records.get(key)
        old = (0, 0, 0) if before is None else unpack(_ACK, before, "acknowledgement")
        if seq > old[0]:
            workspace.records.put(key, _ACK.pack(seq, old[1], old[2]))


def forget_from(records: Records, feed_number: int, seq: int) -> None:
    """Nobody holds the entries of a feed from `seq` on: what was told of them was told of a branch that is void."""
    for key, value in list(records.scan(b"P")):
        if key[33:] == layout.FEED.pack(feed_number):
            held, gone, heard_ms = unpack(_ACK, value, "acknowledgement")
            if held >= seq:
                records.put(key, _ACK.pack(seq - 1, min(gone, seq - 1), heard_ms))


def held(records: Records, device: bytes, feed_number: int) -> tuple[int, int, int]:
    """(seq a device holds of a feed, forgets erased through, when heard), zeros when it never said.

    Of its own feeds it holds at least what came from there: it commits before it sends.
    """
    stored = records.get(layout.peer(device, feed_number))
    seq, gone, heard_ms = (0, 0, 0) if stored is None else unpack(_ACK, stored, "acknowledgement")
    name = records.get(layout.feed_name(feed_number))
    if name is not None and name[2:34] == device:
        own = records.get(b"F" + name)
        seq = max(seq, 0 if own is None else FeedRecord.unpack(own).seq)
    return seq, gone, heard_ms


def held_elsewhere(records: Records, own: bytes, feed_number: int) -> int:
    """The greatest seq of a feed that any other device said it holds."""
    place = layout.FEED.pack(feed_number)
    told = [value for key, value in records.scan(b"P") if key[33:] == place and key[1:33] != own]
    return max((unpack(_ACK, value, "acknowledgement")[0] for value in told), default=0)


def last_heard_ms(records: Records, device: bytes) -> int:
    """When a device last said what it holds, Unix milliseconds; 0 when it never did."""
    told = (unpack(_ACK, value, "acknowledgement") for _, value in records.scan(b"P" + device))
    return max((heard_ms for _, _, heard_ms in told), default=0)


def receipt(store: DocumentStore, kind: str, document_id: str) -> Receipt:
    """Where the latest state of a document is.

    Raises:
        NotFound: no such document here, living or forgotten.
    """
    with store.reading() as (core, records):
        buried = None
        for collection in core.directory.of_kind(kind):
            key = core.directory.spaces[collection.space].document_key(kind, document_id)
            others = [device for device in core.directory.readers(collection) if device != core.identity.device]
            stored = records.get(layout.document(b"D", collection.number, key))
            record = None if stored is None else DocumentRecord.unpack(stored)
            if record is not None and record.state != layout.HIDDEN:
                places = _places(records, collection, key, record)
                on = tuple(d for d in others if all(held(records, d, feed)[0] >= seq for feed, seq in places))
                return Receipt(kind, document_id, True, on, tuple(d for d in others if d not in on))
            dead = tombstone(records, collection, key)
            if dead is not None and buried is None:
                buried = (collection, key, kind, document_id, dead, others)
        if buried is not None:  # it lives in no space: it was forgotten
            return _forgotten(store, core.directory, records, *buried)
    raise NotFound(f"There is no {kind} {document_id} here.", "Check the id, or sync with the device that has it.")


def _places(records: Records, collection: Collection, key: bytes, record: DocumentRecord) -> list[tuple[int, int]]:
    """The last entry of each feed that may have touched the living life.

    Where some were pruned, nobody knows any more which: then whoever holds all that was pruned here holds them.
    """
    last: dict[int, int] = {}
    for _, value in records.scan(layout.document(b"O", collection.number, key)):
        feed_number, seq, _ = unpack(layout.ITEM_AT, value, "operation")
        last[feed_number] = max(seq, last.get(feed_number, 0))
    if record.base != layout.NO_BASE:
        for _, value in records.scan(layout.feed_prefix(collection.number)):
            feed = FeedRecord.unpack(value)
            last[feed.number] = max(feed.floor - 1, last.get(feed.number, 0))
    return list(last.items())


def _forgotten(
    store: DocumentStore,
    directory: object,
    records: Records,
    collection: Collection,
    key: bytes,
    kind: str,
    document_id: str,
    dead: Tombstone,
    others: list[bytes],
) -> Receipt:
    from aico_crdt.store.forget import OWED

    place = None
    owed_here = False
    for note_key, value in records.scan(b"U"):
        if note_key[9:11] == layout.COLLECTION.pack(collection.number) and note_key[11:27] == key:
            owed_here = True
            place = unpack(OWED, value, "erasure")[1:]
    if place is None:
        place = (dead.feed, dead.seq)
    family = store.directory.family
    erased, owing, on = [], [], []
    for device in others:
        seq, gone, _ = held(records, device, place[0]) if place else (0, 0, 0)
        if place and gone >= place[1]:
            erased.append(device)
        else:
            owing.append(device)
        if place and seq >= place[1]:
            on.append(device)
    if not owed_here:
        erased.insert(0, store.device)
    else:
        owing.insert(0, store.device)
    unconfirmed = []
    for device, member in family.members.items():
        if member.revoked and not (place and held(records, device, place[0])[1] >= place[1]):
            unconfirmed.append(device)
    return Receipt(
        kind, document_id, True, tuple(on), tuple(d for d in others if d not in on), True, tuple(erased),
        tuple(owing), tuple(unconfirmed),
    )  # fmt: skip


def wait(
    store: DocumentStore,
    kind: str,
    document_id: str,
    *,
    everywhere: bool = False,
    on: int = 1,
    timeout_s: float = 30.0,
) -> Receipt:
    """Wait until a write is on `on` other devices, or `everywhere`. Returns the receipt as it is then, or at the
    time-out: look at it."""
    ear = store.bell.listen()
    deadline = time.monotonic() + timeout_s
    try:
        while True:
            found = receipt(store, kind, document_id)
            if found.everywhere or (not everywhere and len(found.on) >= on):
                return found
            left = deadline - time.monotonic()
            if left <= 0:
                return found
            ear.wait(min(left, 1.0))
    finally:
        ear.close()
