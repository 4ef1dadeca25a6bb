"""The honest status of a write: on this disk, on which devices, on all. Never claims what was not durable there.

A device is counted as holding an entry when it said so itself over a link that proved its identity, after its own
synced commit, or when an entry it signed depends on it; but not while it says that what was written up to there may be
lacking, as where a manifest brought heads and the bodies have not come.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from aico_crdt.errors import NotFound
from aico_crdt.feed.exchange import HeldHead
from aico_crdt.store import layout
from aico_crdt.store.forget import Tombstone, read_header, tombstone
from aico_crdt.store.records import Collection, DocumentRecord, FeedRecord, Records, unpack

if TYPE_CHECKING:
    from aico_crdt.store.store import DocumentStore
    from aico_crdt.store.workspace import Workspace

_ACK: Final = struct.Struct(">QQQQ")
"""Value of a `P` record: the fields of `Held`."""
Heard = dict[tuple[bytes, Collection, bytes, bytes], HeldHead]
"""By device and by collection, author and incarnation of a feed: the last entry of it that the device's depend on."""


class Held(NamedTuple):
    """What a device said it holds of a feed: up to `seq`, less some of what was written up to `lacking`; forgets erased
    through `erased`; said at `heard_ms` (Unix ms)."""

    seq: int = 0
    lacking: int = 0
    erased: int = 0
    heard_ms: int = 0

    def has(self, first: int, last: int) -> bool:
        """Whether it holds all that the entries from `first` to `last` wrote."""
        return self.lacking < first and last <= self.seq


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
    heads: Sequence[HeldHead],
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
        for feed_number, said in fresh:
            old = _said(workspace.records, peer, feed_number)
            now = _joined(old, said)._replace(heard_ms=workspace.now_ms)
            workspace.records.put(layout.peer(peer, feed_number), _ACK.pack(*now))
    store.bell.ring()


def _fresh(
    records: Records,
    own: bytes,
    peer: bytes,
    collection: Collection,
    heads: Sequence[HeldHead],
    erased: dict[tuple[bytes, bytes], int],
) -> list[tuple[int, Held]]:
    fresh = []
    for device, incarnation, seq, digest, lacking in heads:
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
        said = Held(seq, lacking, min(erased.get((device, incarnation), 0), seq))
        old = _said(records, peer, feed.number)
        if _joined(old, said) != old:
            fresh.append((feed.number, said))
    return fresh


def _said(records: Records, device: bytes, feed_number: int) -> Held:
    stored = records.get(layout.peer(device, feed_number))
    return Held() if stored is None else Held(*unpack(_ACK, stored, "acknowledgement"))


def _joined(old: Held, said: Held) -> Held:
    """What is known with what is said now. A word of fewer entries is older, and says nothing of what is lacking."""
    lacking = said.lacking if said.seq >= old.seq else old.lacking
    return Held(max(old.seq, said.seq), lacking, max(old.erased, said.erased), old.heard_ms)


def doubt(store: DocumentStore, device: bytes) -> None:
    """Forget what a device said to hold: several copies of it run, and nobody knows whose word it was."""
    with store.writing() as workspace:
        for key, value in list(workspace.records.scan(b"P" + device)):
            said = Held(*unpack(_ACK, value, "acknowledgement"))
            workspace.records.put(key, _ACK.pack(*Held(heard_ms=said.heard_ms)))


def note_dependencies(workspace: Workspace, heard: Heard) -> None:
    """Keep what signed entries prove. A dependency that is not the entry here, or cannot be told from another, says
    nothing."""
    for (device, collection, author, incarnation), dep in heard.items():
        feed = workspace.feed(collection, author, incarnation)
        header = read_header(workspace.records, feed.number, dep.seq)
        if (feed.hash if dep.seq == feed.seq else header and header.hash) != dep.hash:
            continue
        old = _said(workspace.records, device, feed.number)
        if (dep.seq, -dep.lacking) > (old.seq, -old.lacking):
            said = _joined(old, Held(dep.seq, dep.lacking))
            workspace.records.put(layout.peer(device, feed.number), _ACK.pack(*said))


def forget_from(records: Records, feed_number: int, seq: int) -> None:
    """Nobody holds the entries of a feed from `seq` on: what was told of them was told of a branch that is void."""
    for key, value in list(records.scan(b"P")):
        if key[33:] == layout.FEED.pack(feed_number):
            said = Held(*unpack(_ACK, value, "acknowledgement"))
            if said.seq >= seq:
                kept = said._replace(seq=seq - 1, lacking=min(said.lacking, seq - 1), erased=min(said.erased, seq - 1))
                records.put(key, _ACK.pack(*kept))


def held(records: Records, device: bytes, feed_number: int) -> Held:
    """What a device holds of a feed, zeros when it never said.

    Of its own feeds it holds at least what came from there: it commits before it sends.
    """
    said = _said(records, device, feed_number)
    name = records.get(layout.feed_name(feed_number))
    if name is not None and name[2:34] == device:
        own = records.get(b"F" + name)
        said = said._replace(seq=max(said.seq, 0 if own is None else FeedRecord.unpack(own).seq))
    return said


def held_elsewhere(records: Records, own: bytes, feed_number: int) -> int:
    """The greatest seq of a feed that any other device said it holds."""
    place = layout.FEED.pack(feed_number)
    told = [value for key, value in records.scan(b"P") if key[33:] == place and key[1:33] != own]
    return max((Held(*unpack(_ACK, value, "acknowledgement")).seq for value in told), default=0)


def last_heard_ms(records: Records, device: bytes) -> int:
    """When a device last said what it holds, Unix milliseconds; 0 when it never did."""
    told = (Held(*unpack(_ACK, value, "acknowledgement")) for _, value in records.scan(b"P" + device))
    return max((said.heard_ms for said in told), default=0)


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
                on = tuple(d for d in others if all(held(records, d, feed).has(*span) for feed, span in places))
                return Receipt(kind, document_id, True, on, tuple(d for d in others if d not in on))
            dead = tombstone(records, collection, key)
            if dead is not None and buried is None:
                buried = (collection, key, kind, document_id, dead, others)
        if buried is not None:  # it lives in no space: it was forgotten
            return _forgotten(store, core.directory, records, *buried)
    raise NotFound(f"There is no {kind} {document_id} here.", "Check the id, or sync with the device that has it.")


def _places(
    records: Records, collection: Collection, key: bytes, record: DocumentRecord
) -> list[tuple[int, tuple[int, int]]]:
    """By feed, the first and the last entry that may have touched the living life.

    Where some were pruned, nobody knows any more which: then whoever holds all that was pruned here holds them.
    """
    spans: dict[int, tuple[int, int]] = {}
    for _, value in records.scan(layout.document(b"O", collection.number, key)):
        feed_number, seq, _ = unpack(layout.ITEM_AT, value, "operation")
        first, last = spans.get(feed_number, (seq, seq))
        spans[feed_number] = (min(first, seq), max(last, seq))
    if record.base != layout.NO_BASE:
        for _, value in records.scan(layout.feed_prefix(collection.number)):
            feed = FeedRecord.unpack(value)
            if feed.floor > 1:
                spans[feed.number] = (1, max(feed.floor - 1, spans.get(feed.number, (0, 0))[1]))
    return list(spans.items())


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
        said = held(records, device, place[0]) if place else Held()
        if place and said.erased >= place[1]:
            erased.append(device)
        else:
            owing.append(device)
        if place and said.seq >= place[1]:  # a manifest names what was forgotten
            on.append(device)
    if not owed_here:
        erased.insert(0, store.device)
    else:
        owing.insert(0, store.device)
    unconfirmed = []
    for device, member in family.members.items():
        if member.revoked and not (place and held(records, device, place[0]).erased >= place[1]):
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
