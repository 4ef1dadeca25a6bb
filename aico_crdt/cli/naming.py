"""What people type for a device, a document or an entry, and what it names.

A device: its name, its id (64 hexadecimal digits) or the beginning of it, its 12-character name in slots. A document:
its public id or the beginning of it, in any kind. An entry: ``SPACE/KIND/DEVICE/INCARNATION/SEQ``, where the collection
may be its tag, the incarnation the beginning of it, or left out where the device has only one there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from aico_crdt import ids
from aico_crdt.errors import InvalidValue, NotFound
from aico_crdt.store import DocumentStore, Row, layout, rows
from aico_crdt.store.forget import tombstone
from aico_crdt.store.records import Collection, DocumentRecord, FeedRecord, Records
from aico_crdt.trust import Member

CONVERSATION: Final = "conversation"
MESSAGE: Final = "message"
"""Messages are stored as conversations are; to people they are a kind of their own."""
MIN_PREFIX: Final = 6
"""Characters: shorter beginnings of ids are taken for typing errors."""
SHOWN: Final = 12
"""Candidates named when a beginning fits several."""


def device(store: DocumentStore, text: str) -> Member:
    """The member, current or former, that `text` names.

    Raises:
        NotFound, InvalidValue: none, or several.
    """
    members = sorted(store.directory.family.members.values(), key=lambda member: member.rank)
    lowered = text.lower()
    for fits in (
        [m for m in members if m.name == text],
        [m for m in members if m.device.hex() == lowered or ids.device_name(m.device) == text],
        [m for m in members if len(text) >= MIN_PREFIX and m.device.hex().startswith(lowered)],
    ):
        if len(fits) == 1:
            return fits[0]
        if fits:
            named = ", ".join(f"{m.name} {m.device.hex()[:16]}…" for m in fits[:SHOWN])
            raise InvalidValue(f"{text!r} names {len(fits)} devices: {named}.", "Give more of the id.")
    raise NotFound(f"No device of this family is named {text!r}.", "See `aico-crdt devices`.")


def name_of(store: DocumentStore, device: bytes) -> str:
    """The friendly name of a device, else the beginning of its id."""
    member = store.directory.family.members.get(device)
    return member.name if member is not None else device.hex()[:12] + "…"


def name_of_writer(store: DocumentStore, writer: str) -> str:
    """The friendly name of the device behind a slot's writer, else its 12 characters."""
    short = writer[: ids.DEVICE_NAME_CHARS]
    for member in store.directory.family.members.values():
        if ids.device_name(member.device) == short:
            return member.name
    return short


def kind_of(row: Row) -> str:
    """What a document is called: its kind, and `message` for the messages among conversations."""
    return MESSAGE if row.kind == CONVERSATION and "role" in row.fields else row.kind


@dataclass(frozen=True, slots=True)
class Named:
    """A document that lives here, or was forgotten."""

    collection: Collection
    key: bytes
    id: str

    @property
    def kind(self) -> str:
        return self.collection.kind


def document(store: DocumentStore, text: str, kind: str | None = None) -> Named:
    """The document with the public id `text`, or with the only one that begins with it (6 characters or more).

    Living ones go before forgotten ones, of which only the whole id is known.

    Raises:
        NotFound, InvalidValue: none, or several.
    """
    if kind == MESSAGE:
        kind = CONVERSATION
    if kind is not None and kind not in store.kinds:
        raise InvalidValue(f"There is no kind {kind!r}.", f"Kinds: {', '.join((*store.kinds, MESSAGE))}.")
    ids.check_public_id(text)
    with store.reading() as (core, records):
        among = [c for c in core.directory.collections.values() if kind is None or c.kind == kind]
        living, dead = [], []
        for collection in among:
            key = core.directory.spaces[collection.space].document_key(collection.kind, text)
            stored = records.get(layout.document(b"D", collection.number, key))
            found = Named(collection, key, text)
            if stored is not None and DocumentRecord.unpack(stored).state != layout.HIDDEN:
                living.append(found)
            elif stored is not None or tombstone(records, collection, key) is not None:
                dead.append(found)
        for exact in (living, dead):
            if exact:
                return _only(text, exact)
        if len(text) >= MIN_PREFIX:
            begun = [found for collection in among for found in _beginning(store, records, collection, text)]
            if begun:
                return _only(text, begun)
    hint = "" if len(text) >= MIN_PREFIX else f" (the beginning of an id has at least {MIN_PREFIX} characters)"
    raise NotFound(f"There is no document {text!r} here{hint}.", "Check the id, or sync with the device that has it.")


def _only(text: str, found: list[Named]) -> Named:
    if len(found) == 1:
        return found[0]
    found.sort(key=lambda one: (one.kind, one.id))
    named = ", ".join(f"{one.kind} {one.id} ({one.collection.space})" for one in found[:SHOWN])
    more = "" if len(found) <= SHOWN else ", …"
    raise InvalidValue(f"{text!r} names {len(found)} documents: {named}{more}.", "Give more of the id, or the kind.")


def _beginning(store: DocumentStore, records: Records, collection: Collection, text: str) -> Iterable[Named]:
    for key, value in records.scan(b"D" + layout.COLLECTION.pack(collection.number)):
        if not DocumentRecord.unpack(value).whole:
            continue
        row = rows.read(store.core, records, collection, key[3:])
        if row is not None and row.id.startswith(text):
            yield Named(collection, key[3:], row.id)


def collection(store: DocumentStore, text: str) -> Collection:
    """The collection ``SPACE/KIND``, or the one with that tag.

    Raises:
        NotFound: none.
    """
    found = store.directory.collections.values()
    for one in found:
        if text in (f"{one.space}/{one.kind}", one.tag.hex()):
            return one
    known = ", ".join(sorted(f"{one.space}/{one.kind}" for one in found))
    raise NotFound(f"There is no collection {text!r} on this device.", f"There are {known}.")


@dataclass(frozen=True, slots=True)
class Place:
    """One feed of one collection, and an entry in it if a sequence number was given."""

    collection: Collection
    device: bytes
    incarnation: bytes
    feed: FeedRecord
    seq: int = 0


def feed(store: DocumentStore, parts: list[str]) -> Place:
    """The feed of ``[SPACE, KIND, DEVICE, INCARNATION]``; the incarnation may be begun or left out.

    Raises:
        NotFound, InvalidValue: none, or several.
    """
    where, rest = _collection_of(store, parts)
    if not rest or len(rest) > 2:
        raise InvalidValue("A feed is named SPACE/KIND/DEVICE or SPACE/KIND/DEVICE/INCARNATION.")
    member = device(store, rest[0])
    begun = rest[1].lower() if len(rest) == 2 else ""
    with store.reading() as (_, records):
        found = []
        for key, value in records.scan(layout.feed_prefix(where.number) + member.device):
            record = FeedRecord.unpack(value)
            if record.seq and key[35:43].hex().startswith(begun):
                found.append(Place(where, member.device, key[35:43], record))
    if not found:
        raise NotFound(f"{member.name} has no such feed in {where.space}/{where.kind}.", "See `aico-crdt inspect`.")
    if len(found) > 1:
        named = ", ".join(place.incarnation.hex() for place in found[:SHOWN])
        raise InvalidValue(f"{member.name} has {len(found)} feeds there: {named}.", "Name the incarnation too.")
    return found[0]


def entry(store: DocumentStore, parts: list[str]) -> Place:
    """The entry ``[SPACE, KIND, DEVICE, INCARNATION, SEQ]``; the incarnation may be begun or left out."""
    if not parts or not parts[-1].isdecimal():
        raise InvalidValue("An entry is named SPACE/KIND/DEVICE/INCARNATION/SEQ.", "As `aico-crdt log` prints it.")
    found = feed(store, parts[:-1])
    return Place(found.collection, found.device, found.incarnation, found.feed, int(parts[-1]))


def _collection_of(store: DocumentStore, parts: list[str]) -> tuple[Collection, list[str]]:
    """The collection and what follows it; a tag is one part, SPACE/KIND are two."""
    if parts and len(parts[0]) == 2 * ids.TAG_BYTES:
        return collection(store, parts[0]), parts[1:]
    if len(parts) < 2:
        raise InvalidValue("A collection is named SPACE/KIND.", "See `aico-crdt inspect`.")
    return collection(store, "/".join(parts[:2])), parts[2:]


def entry_ref(store: DocumentStore, where: Collection, device: bytes, incarnation: bytes, seq: int) -> str:
    """How an entry is named on this device; `entry` finds it again."""
    member = store.directory.family.members.get(device)
    names = [m.name for m in store.directory.family.members.values()]
    plain = member is not None and names.count(member.name) == 1 and "/" not in member.name
    name = member.name if plain and member is not None else device.hex()[:16]
    return f"{where.space}/{where.kind}/{name}/{incarnation.hex()[:8]}/{seq}"
