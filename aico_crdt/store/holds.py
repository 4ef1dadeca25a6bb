"""The hold queue on disk: which entries wait, for what, within which quotas. See :mod:`aico_crdt.feed.hold`."""

from __future__ import annotations

from typing import Final

import msgpack

from aico_crdt import ids
from aico_crdt.config import Config
from aico_crdt.crdt.walker import clock_name
from aico_crdt.errors import NotYet
from aico_crdt.feed import Entry, FeedId, Header, encode_entry
from aico_crdt.feed.hold import NO_END, Awaited, HoldLimits, HoldQueue, Waiting, awaited_head
from aico_crdt.store import forget, layout, sealing
from aico_crdt.store.core import Core
from aico_crdt.store.opened import OpenDocument
from aico_crdt.store.records import Collection, Records
from aico_crdt.store.workspace import Workspace


class Holds:
    """What waits, inside one write transaction. Loaded only when something does."""

    def __init__(self, workspace: Workspace, config: Config) -> None:
        self._workspace = workspace
        share = config.hold_author_percent
        self._queue = HoldQueue(
            HoldLimits(
                config.hold_bytes,
                config.hold_entries,
                config.hold_bytes * share // 100,
                max(1, config.hold_entries * share // 100),
                config.hold_age_s * 1000,
            )
        )
        self._places: dict[bytes, bytes] = {}
        self._raw: dict[bytes, tuple[Collection, bytes]] = {}
        self._ready: list[Waiting] = []
        for key, stored in workspace.records.scan(b"H"):
            packed = unseal_hold(workspace.core, workspace.records, key, stored)
            tag, name, feed, seq, charged, awaited, since_ms, raw = msgpack.unpackb(packed)
            collection = workspace.core.directory.collections.get(tag)
            if collection is None:
                continue
            self._places[name] = key
            self._raw[name] = (collection, raw)
            self._queue.add(Waiting(name, FeedId(*feed), seq, charged, len(raw), Awaited(*awaited), since_ms))
        for old in self._queue.expired(workspace.now_ms):
            self._forget(old.key)

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, collection: Collection, entry: Entry, reason: NotYet, source: bytes) -> None:
        """Hold `entry` until what `reason` names has come; evicts within the quotas."""
        header = entry.header
        member = self._workspace.core.directory.family.was_member(header.device)
        raw = encode_entry(entry)
        waiting = Waiting(
            header.hash,
            header.feed,
            header.seq,
            header.device if member else source,
            len(raw),
            self._awaited(collection, header, reason),
            self._workspace.now_ms,
        )
        self._raw[header.hash] = (collection, raw)
        for evicted in self._queue.add(waiting):
            self._forget(evicted.key)
        if header.hash not in self._raw or header.hash not in self._queue:
            return
        place = self._places.get(header.hash)
        if place is None:
            self._workspace.counters.hold += 1
            place = self._places[header.hash] = layout.hold(self._workspace.counters.hold)
        packed = msgpack.packb(
            [
                collection.tag, waiting.key, list(header.feed), waiting.seq, waiting.charged,
                list(waiting.awaited), waiting.since_ms, raw,
            ]
        )  # fmt: skip
        self._workspace.records.put(place, sealing.seal(packed, place, _key(self._workspace)))

    def _awaited(self, collection: Collection, header: Header, reason: NotYet) -> Awaited:
        match reason.missing:
            case "author":
                return Awaited("author", header.device)
            case "key":
                return Awaited("key", header.key_id)
            case "predecessor":
                return Awaited("head", collection.tag + header.device + header.incarnation, header.seq - 1)
            case "dependency":
                return Awaited("head", collection.tag + reason.thing, reason.upto)
            case "force":
                return Awaited("force")
            case other:
                return Awaited(other, collection.tag + reason.thing, reason.upto)

    def applied(self, collection: Collection, header: Header) -> None:
        """An entry was applied: what waited for it may go on."""
        if len(self._queue):
            self._ready += self._queue.retry(awaited_head("head", collection.tag, header.head))
            gone = self._queue.remove(header.hash)
            if gone is not None:
                self._forget(gone.key)

    def wrote(self, opened: OpenDocument, client: int) -> None:
        """`client` has changed a document: what waited for that many of its operations may go on."""
        if len(self._queue) and opened.alive and not opened.stub:
            clock = self._workspace.load(opened).state_vector().get(client, 0)
            self._retry("clock", opened.collection, clock_name(client) + opened.key, clock)

    def ended(self, opened: OpenDocument) -> None:
        """A life of a document has ended: that explains what was missing of it, and the next may begin."""
        self._retry("life", opened.collection, opened.key, opened.dead)
        self.explained(opened.collection, opened.key)

    def explained(self, collection: Collection, key: bytes) -> None:
        """An item of a document that was missing came, or what explains why it never will."""
        self._retry("body", collection, key)

    def came(self, opened: OpenDocument) -> None:
        """A body of a document has come, or an item late."""
        if len(self._queue) and opened.alive and not opened.stub:
            self.explained(opened.collection, opened.key)
            for client in self._workspace.load(opened).state_vector():
                self.wrote(opened, client)

    def moved(self, collection: Collection) -> None:
        """A manifest has moved the whole collection on."""
        for waiting in self._queue.everything():
            if self._raw[waiting.key][0] == collection:
                self._ready.append(waiting)

    def forked(self, collection: Collection, header: Header) -> None:
        """More is known of the branches of a feed: what was built on one of them may be judged anew."""
        self._retry("head", collection, header.device + header.incarnation, NO_END)
        name = collection.tag + clock_name(ids.client_id(header.device, header.incarnation))
        for reason in ("branch", "clock"):
            self._ready += self._queue.retry_all(reason, name)

    def _retry(self, reason: str, collection: Collection, thing: bytes, upto: int = 0) -> None:
        self._ready += self._queue.retry(Awaited(reason, collection.tag + thing, upto))

    def wake_force(self) -> None:
        self._ready += self._queue.retry(Awaited("force"))

    def wake_members(self) -> None:
        """The family changed: authors, keys and force may have come."""
        if not len(self._queue):
            return
        directory = self._workspace.core.directory
        for device in directory.family.members:
            self._ready += self._queue.retry(Awaited("author", device))
        for space in directory.spaces.values():
            for key_id in space.keys:
                self._ready += self._queue.retry(Awaited("key", key_id))
        self.wake_force()

    def wake_all(self) -> None:
        """A revocation came into force: what waits for an entry of the revoked now speaks for that entry."""
        self._ready += self._queue.everything()

    def ready(self) -> list[tuple[Collection, bytes]]:
        """What may go on, taken out of the queue; the caller applies it or holds it again."""
        taken, self._ready = self._ready, []
        found = []
        for waiting in sorted(taken, key=lambda w: (w.feed or ("", b"", b""), w.seq)):
            if self._queue.remove(waiting.key) is not None:
                found.append(self._raw[waiting.key])
                self._forget(waiting.key)
        return found

    def _forget(self, name: bytes) -> None:
        self._raw.pop(name, None)
        place = self._places.pop(name, None)
        if place is not None:
            self._workspace.records.delete(place)


_SLOT: Final = layout.meta("holds")
_NO_DOCUMENT: Final = bytes(ids.DOCUMENT_KEY_BYTES)


def unseal_hold(core: Core, records: Records, key: bytes, stored: bytes) -> bytes:
    """A record of what waits, as it was before it was sealed."""
    return sealing.unseal(stored, key, core.lives.key(_slot(records)))


def renew_key(workspace: Workspace, *, drop: bool = False) -> None:
    """Seal what waits under a new key, and owe the destruction of the old one.

    What waited and was applied stays readable in stale pages of the data file for as long as that key exists; so this
    comes before every erasure.

    Args:
        drop: let go of what waits instead, where there is no room to write it again; peers bring it once more.
    """
    records = workspace.records
    old = _slot(records)
    if not old:
        return
    waiting = [(key, unseal_hold(workspace.core, records, key, stored)) for key, stored in records.scan(b"H")]
    records.delete(_SLOT)
    for key, packed in waiting:
        if drop:
            records.delete(key)
        else:
            records.put(key, sealing.seal(packed, key, _key(workspace)))
    records.put(layout.erasure(0, 0, _NO_DOCUMENT, old & 0xFFFFFFFF), forget.OWED.pack(old, 0, 0))


def _key(workspace: Workspace) -> bytes:
    """The key for what waits, made when there is none."""
    slot = _slot(workspace.records)
    if not slot:
        workspace.counters.slot += 1
        slot = workspace.counters.slot
        workspace.core.lives.reserve(slot)
        workspace.records.put(_SLOT, layout.U64.pack(slot))
    return workspace.core.lives.key(slot)


def _slot(records: Records) -> int:
    stored = records.get(_SLOT)
    return 0 if stored is None else int.from_bytes(stored, "big")
