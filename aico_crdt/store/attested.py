"""Manifests, stubs and bodies: how a newcomer or a laggard is brought up without the whole history.

A manifest says what a collection holds at some heads. When it is durable, heads advance; documents it names that
are not here are stubs; their bodies are asked for newest first and sealed again under keys of this store. What came
this way is attested by the device that signed the manifest, where entries are signed by their authors.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Final

import msgpack

from aico_crdt import aead, ids
from aico_crdt.crdt import Document, foreign, walk
from aico_crdt.errors import Damaged, Forbidden, InvalidValue, Malformed, NotAllowed, NotYet, PeerError, WrongFamily
from aico_crdt.feed.entry import verify_head
from aico_crdt.feed.exchange import BODY_MAX_BYTES
from aico_crdt.feed.header import MAX_LIFE, Head
from aico_crdt.feed.manifest import (
    DocumentState,
    Manifest,
    decode_manifest,
    encode_manifest,
    verify_manifest,
    write_manifest,
)
from aico_crdt.store import forget, forks, layout, refold, rows, sealing, states
from aico_crdt.store.core import Core
from aico_crdt.store.opened import OpenDocument
from aico_crdt.store.records import Collection, DocumentRecord, FeedRecord, Records
from aico_crdt.store.workspace import FETCHED, Workspace
from aico_crdt.trust import may

_BODY: Final = b"aico-crdt body 1\0"
MAX_LIVES_AHEAD: Final = 4096
"""A manifest moves no document further than this many lives beyond what is known here: lives are numbered in 32 bits,
and whoever could name the last one would end all that are to come."""


def make_manifest(core: Core, records: Records, collection: Collection, stamp: int) -> bytes:
    """The signed manifest of a collection as it is here.

    Raises:
        Forbidden: this device's word does not count for that.
    """
    family = core.directory.family
    if not may("manifest", collection.kind, family.trust_of(core.identity.device), is_creator=False):
        raise Forbidden("Only a full-trust device signs manifests.", "Sync with one.")
    number = collection.number
    heads = []
    for key, value in records.scan(layout.feed_prefix(number)):
        feed = FeedRecord.unpack(value)
        head = Head(key[3:35], key[35:43], feed.seq, feed.hash)
        if feed.seq and _is_signed(family.id, collection, head, feed.signature):
            heads.append((*head, feed.signature))
    documents = []
    for key, value in records.scan(b"D" + layout.COLLECTION.pack(number)):
        record = DocumentRecord.unpack(value)
        if record.state != layout.HIDDEN:
            documents.append((key[3:], record.life, record.state_hash, record.stamp, record.creator))
    tombstones = [
        (key[3:], msgpack.unpackb(value)[0]) for key, value in records.scan(b"T" + layout.COLLECTION.pack(number))
    ]
    manifest = write_manifest(
        family=family.id, tag=collection.tag, device=core.identity.device, hlc=stamp, heads=heads,
        documents=documents, tombstones=tombstones, sign=core.identity.sign,
    )  # fmt: skip
    return encode_manifest(manifest)


def _is_signed(family: bytes, collection: Collection, head: Head, signature: bytes) -> bool:
    """Whether a head can be shown to others. Where a run stopped half way its signature may not hold, see
    :meth:`StoreReplica._prove`: the feed is left out until its next entry is applied."""
    try:
        verify_head(family, collection.tag, head, signature)
    except PeerError:
        return False
    return True


def check_manifest(core: Core, collection: Collection, raw: bytes) -> Manifest:
    """Read a manifest that counts here.

    Raises:
        Malformed, BadSignature, WrongFamily, NotAllowed: refused. NotYet: its signer, or the author of a feed, is not
            known yet.
    """
    family = core.directory.family
    manifest = decode_manifest(raw)
    if manifest.family != family.id:
        raise WrongFamily("A manifest belongs to another family.")
    if manifest.tag != collection.tag:
        raise Malformed("A manifest names another collection than it was sent for.")
    trust = family.trust_of(manifest.device)
    if trust is None:
        raise NotYet("author", "The signer of a manifest is not known here yet.")
    if not may("manifest", collection.kind, trust, is_creator=False):
        raise NotAllowed(f"A {trust} device does not sign manifests.")
    if collection == core.directory.directory:
        raise NotAllowed("The directory is never brought up by manifest.")
    verify_manifest(manifest)
    if not all(family.was_member(head.device) for head in manifest.heads):
        raise NotYet("author", "The author of a feed in a manifest is not known here yet.")
    if any(not 0 < row.life <= MAX_LIFE for table in (manifest.documents, manifest.tombstones) for row in table):
        raise Malformed("A manifest names a life that no document has.")
    return manifest


def covers(records: Records, collection: Collection, held: Mapping[tuple[bytes, bytes], int]) -> bool:
    """Whether who holds so much of each feed has all that is not here any more as entries, or never was."""
    for key, value in records.scan(layout.feed_prefix(collection.number)):
        if held.get((key[3:35], key[35:43]), 0) < FeedRecord.unpack(value).floor - 1:
            return False
    return True


def check_room(workspace: Workspace, collection: Collection, manifest: Manifest) -> None:
    """As long as bodies are wanted, only a manifest counts that covers the last one: of a document that two attest
    each on its own, neither hash is right. Unless who attested is gone: then nobody can be waited for.

    Raises:
        NotYet: this one does not.
    """
    records = workspace.records
    held = {(head.device, head.incarnation): head.seq for head in manifest.heads}
    if not wanted(records, collection, 1) or covers(records, collection, held):
        return
    family = workspace.core.directory.family
    if family.trust_of(_attester(records, collection)) == "full":
        raise NotYet("body", "A manifest does not cover the one whose bodies are still wanted.")


def overtaken(workspace: Workspace, collection: Collection, manifest: Manifest) -> list[tuple[bytes, bool]]:
    """Incarnations of this device of which the manifest knows what is not here: another copy of this store wrote. And
    whether that is known to be another branch."""
    found = []
    for head in manifest.heads:
        if head.device == workspace.core.identity.device:
            feed = workspace.feed(collection, head.device, head.incarnation)
            at = forget.read_header(workspace.records, feed.number, head.seq) if head.seq <= feed.seq else None
            if head.seq > feed.seq or (at is not None and at.hash != head.hash):
                found.append((head.incarnation, head.seq <= feed.seq))
    return found


def take_manifest(workspace: Workspace, collection: Collection, manifest: Manifest, undo_ms: int) -> None:
    """Advance this collection to what a checked manifest says; documents without a body become stubs."""
    advanced = False
    for head in manifest.heads:
        feed = workspace.feed(collection, head.device, head.incarnation)
        if head.seq > feed.seq:
            advanced = True
            _drop_feed(workspace, collection, feed)
            workspace.counters.arrival += 1
            feed.seq, feed.hash, feed.floor, feed.signature = head.seq, head.hash, head.seq + 1, head.signature
            feed.arrival = workspace.counters.arrival
            feed.endorsed = max(feed.endorsed, head.seq)
            workspace.feed_changed(collection, head.device, head.incarnation)
    for tombstone in manifest.tombstones:
        opened = workspace.open_key(collection, tombstone.key)
        life = min(tombstone.life, _known_life(opened) + MAX_LIVES_AHEAD)
        forget.end_life(workspace, opened, life, manifest.hlc, None, workspace.now_ms + undo_ms, (0, 0))
    wanted = workspace.records.delete(layout.meta(f"again {collection.number}"))
    for document in manifest.documents if advanced or wanted else ():
        opened = workspace.open_key(collection, document.key)
        if advanced or not opened.alive or opened.stub:
            _stub(workspace, collection, document, manifest.creators[document.creator].device)
    workspace.records.put_packed(layout.meta(f"attested {collection.number}"), [manifest.device, manifest.hlc])
    workspace.observe(manifest.hlc)
    workspace.settle()


def _drop_feed(workspace: Workspace, collection: Collection, feed: FeedRecord) -> None:
    """Entries below a manifest's head stay as history; only the gap above them makes them unservable."""
    # Held entries prove nothing across the gap: a peer that wants them gets the manifest instead.
    for seq in range(feed.floor, feed.seq + 1):
        stored = workspace.records.get(layout.entry(feed.number, seq))
        if stored is not None:
            workspace.records.delete(layout.arrival(collection.number, int.from_bytes(stored[:8], "big")))


def _known_life(opened: OpenDocument) -> int:
    """The greatest life of a document that is known here, dead or not."""
    return max(opened.dead, 0 if opened.record is None else opened.record.life)


def _stub(workspace: Workspace, collection: Collection, document: DocumentState, creator: bytes) -> None:
    key, life, state_hash, stamp, _ = document
    opened = workspace.open_key(collection, key)
    record = opened.record
    if life <= opened.dead or life > _known_life(opened) + MAX_LIVES_AHEAD:
        return
    number = collection.number
    if opened.alive and record is not None:
        if record.life != life or record.state_hash == state_hash:
            return
        if record.state == layout.STUB:
            workspace.records.delete(layout.wanted(number, record.stamp, key))
        record.state, record.state_hash = layout.STUB, state_hash  # what is here is merged into the body
        record.stamp = max(record.stamp, stamp)
    else:
        workspace.bear(opened, creator)
        workspace.drop_outlived(opened)
        assert opened.record is not None
        record = opened.record
        record.state, record.life, record.state_hash, record.stamp = layout.STUB, life, state_hash, stamp
        opened.born = False
    workspace.records.put(layout.document(b"D", number, key), record.pack())
    workspace.want(collection, key, record.stamp, state_hash)


def wanted(records: Records, collection: Collection, limit: int) -> list[bytes]:
    """Keys of stubs whose body is wanted, newest first."""
    found = []
    for key, _ in records.scan(b"Y" + layout.COLLECTION.pack(collection.number), reverse=True):
        found.append(key[11:])
        if len(found) == limit:
            break
    return found


def read_bodies(
    core: Core, records: Records, collection: Collection, keys: Sequence[bytes], max_bytes: int
) -> list[tuple[bytes, int, bytes]]:
    """(document key, life, body sealed under the space's key) of those of `keys` that are whole here, or were before
    a manifest said that there is more: two that attested to each other would otherwise wait for each other for ever.
    """
    found: list[tuple[bytes, int, bytes]] = []
    room = max_bytes
    space = core.directory.spaces[collection.space]
    for key in keys:
        stored = records.get(layout.document(b"D", collection.number, key))
        if stored is None:
            continue
        record = DocumentRecord.unpack(stored)
        row = rows.read(core, records, collection, key)
        try:
            state = None if row is None else states.find(core, records, record)
        except Damaged:
            if not records.ended_since(collection.number, key, record.slot):
                raise
            continue
        if state is None or row is None:
            continue  # only its hash is known, or it was forgotten a moment ago
        plain = msgpack.packb([row.id, state, record.whole])
        nonce = os.urandom(24)
        bound = _bound(collection, key, record.life)
        body = space.key_id + nonce + aead.seal(plain, bound, nonce, space.key)
        if len(body) > BODY_MAX_BYTES:
            continue  # no reader would take it
        room -= len(body)
        if room < 0 and found:
            break
        found.append((key, record.life, body))
    return found


def _bound(collection: Collection, key: bytes, life: int) -> bytes:
    return _BODY + collection.tag + key + life.to_bytes(8, "big")


def take_body(
    workspace: Workspace, collection: Collection, key: bytes, life: int, body: bytes, trusted: bool, source: bytes = b""
) -> bool:
    """Make a stub whole. False when no such stub is waiting.

    Args:
        source: the peer that handed it over.
        trusted: the peer that handed it over may sign manifests itself and held all that manifests have moved this
            collection over, so a body other than the attested one is a newer one and counts.

    Raises:
        Malformed, NotAllowed: refused; the stub waits for another source.
    """
    core = workspace.core
    opened = workspace.open_key(collection, key)
    record = opened.record
    if record is None or not opened.stub or record.life != life:
        return False
    if len(body) > BODY_MAX_BYTES:
        raise Malformed("A body is larger than any document.")
    space = core.directory.spaces[collection.space]
    space_key = space.keys.get(body[:8])
    if space_key is None:
        raise NotYet("key", "The key a body is sealed under is not here yet.")
    plain = aead.unseal(body[32:], _bound(collection, key, life), body[8:32], space_key) if len(body) > 32 else None
    if plain is None:
        raise Malformed("A body does not open.")
    try:
        document_id, state, whole = msgpack.unpackb(plain, max_str_len=512, max_array_len=8)[:3]
        ids.check_public_id(document_id)
    except (ValueError, TypeError, KeyError, InvalidValue, msgpack.UnpackException):
        raise Malformed("A body does not open.") from None
    if space.document_key(collection.kind, document_id) != key or not isinstance(state, bytes):
        raise Malformed("A body is of another document.")
    walk(state, {}, None, max_bytes=BODY_MAX_BYTES)
    kind = workspace.kind(collection)
    document = Document.take(state, core.client, core.writer, derived=kind.derived)
    counts = trusted and (whole is True or source == _attester(workspace.records, collection))
    if document.content_hash(kind.version) != record.state_hash and not counts:
        raise NotAllowed("A body is not the one its manifest attests.")
    opened.id = document_id
    _merge_own(workspace, opened, document)
    document = _merge_later(workspace, opened, document)
    workspace.records.delete(layout.wanted(collection.number, record.stamp, key))
    record.state = layout.FETCHED
    number = collection.number
    life_key = core.lives.key(record.slot)
    for letter in (b"S", b"B"):
        place = layout.life(letter, record.slot)
        workspace.records.put(place, sealing.seal(document.state(), place, life_key))
    states.drop_later(workspace.records, record.slot)
    record.base = layout.BASE_KEPT
    rows.write(workspace, opened, document, life_key)
    workspace.records.put(layout.document(b"D", number, key), record.pack())
    workspace.log(collection, key, life, FETCHED, record.stamp)
    workspace.drop_text(opened)
    workspace.settle()
    return True


def _attester(records: Records, collection: Collection) -> bytes:
    """The device whose manifest moved the collection on last."""
    packed = records.get_packed(layout.meta(f"attested {collection.number}"))
    return packed[0] if isinstance(packed, list) and packed and isinstance(packed[0], bytes) else b""


def _merge_own(workspace: Workspace, opened: OpenDocument, document: Document) -> None:
    """What this store already had of a document that fell behind is merged into the body."""
    assert opened.record is not None
    own = states.find(workspace.core, workspace.records, opened.record)
    if own is not None:
        known = document.state_vector()
        document.apply(own, walk(own, {}, None, max_bytes=BODY_MAX_BYTES).after(known))


def _merge_later(workspace: Workspace, opened: OpenDocument, document: Document) -> Document:
    """Apply what came for the stub in entries. They build on what the manifest attests, which the body holds; so an
    item that does not fit is one that no replica applies. It then belongs to no life, and does not bar the body."""
    core, records, collection = workspace.core, workspace.records, opened.collection
    derived = workspace.kind(collection).derived
    for header, index, operation in refold.operations(core, records, collection, opened.key):
        client = ids.client_id(header.device, header.incarnation)
        writer = ids.writer(header.device, header.incarnation)
        before = document.encoding()
        try:
            update, _ = forks.fit(
                records, collection, opened.key, header, operation.payload, document.state_vector(),
                lambda place: refold.item_payload(core, records, collection, place),
            )  # fmt: skip
            foreign.merge(document, update, client, writer, overlap=True)
        except (NotYet, PeerError):
            document = Document.take(before, core.client, core.writer, derived=derived)
            feed = workspace.feed(collection, header.device, header.incarnation)
            place = layout.item(feed.number, header.seq, index)
            item, entry = records.get(place), records.get(layout.entry(feed.number, header.seq))
            assert item is not None  # as the entry, it was read just now
            assert entry is not None
            workspace.keep_item(feed.number, header.seq, index, 0, refold.open_stored_item(core, place, item))
            arrival = int.from_bytes(entry[:8], "big")
            records.delete(layout.operation(collection.number, opened.key, arrival, index))
    return document
