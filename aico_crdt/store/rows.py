"""Rows: what a document decodes to, kept sealed beside its state, and the index keys under which it is found."""

from __future__ import annotations

from typing import Any

import msgpack

from aico_crdt import ids
from aico_crdt.crdt import Document
from aico_crdt.errors import Damaged
from aico_crdt.store import layout, sealing
from aico_crdt.store.kind import Folded, IndexKey, Kind, Row, Version
from aico_crdt.store.records import Collection, DocumentRecord, Records
from aico_crdt.store.workspace import Core, OpenDocument, Workspace, index_key


def fold(kind: Kind, document_id: str, document: Document) -> Folded:
    return kind.fold(document_id, document.slots(), document.text())


def pack_row(document_id: str, folded: Folded) -> bytes:
    conflicts = {name: [list(v) for v in versions] for name, versions in folded.conflicts.items()}
    packed: bytes = msgpack.packb([document_id, folded.fields, conflicts])
    return packed


def unpack_row(packed: bytes, collection: Collection, record: DocumentRecord) -> Row:
    document_id, fields, conflicts = msgpack.unpackb(packed, strict_map_key=False)
    return Row(
        collection.kind,
        document_id,
        collection.space,
        record.life,
        fields,
        {name: tuple(Version(*v) for v in versions) for name, versions in conflicts.items()},
        record.stamp,
        ids.device_name(record.creator),
    )


def index_keys(core: Core, collection: Collection, key: bytes, fields: dict[str, Any]) -> set[bytes]:
    found = {
        index_key(core, collection.number, key, name, value, order)
        for name, value, order in map(IndexKey._make, core.kinds[collection.kind].index(fields))
    }
    return found


def write(workspace: Workspace, opened: OpenDocument, document: Document, life_key: bytes) -> None:
    """Fold the document, write its row under its life key and bring its index keys up to date."""
    record, collection, key = opened.record, opened.collection, opened.key
    assert record is not None
    kind = workspace.kind(collection)
    folded = fold(kind, opened.id, document)
    slots = document.slots()
    record.stamp = max((slot.hlc for slot in slots), default=record.stamp)
    record.state_hash = document.content_hash(kind.version)
    place = layout.document(b"R", collection.number, key)
    wanted = index_keys(workspace.core, collection, key, folded.fields)
    if opened.born:
        added, gone = wanted, set()
    else:
        present = present_index_keys(workspace.core, workspace.records, collection, key, life_key)
        added, gone = wanted - present, present - wanted
    for index in gone:
        workspace.records.delete(index)
    for index in added:
        workspace.records.put(index, b"")
    workspace.records.put(place, sealing.seal(pack_row(opened.id, folded), place, life_key))


def present_index_keys(core: Core, records: Records, collection: Collection, key: bytes, life_key: bytes) -> set[bytes]:
    """The index keys of the row on disk; none when there is no row."""
    place = layout.document(b"R", collection.number, key)
    sealed = records.get(place)
    if sealed is None:
        return set()
    _, fields, _ = msgpack.unpackb(sealing.unseal(sealed, place, life_key), strict_map_key=False)
    return index_keys(core, collection, key, fields)


def read(core: Core, records: Records, collection: Collection, key: bytes) -> Row | None:
    """The row of a living document; None when there is none, or it is forgotten."""
    stored = records.get(layout.document(b"D", collection.number, key))
    if stored is None:
        return None
    record = DocumentRecord.unpack(stored)
    if record.state == layout.HIDDEN:
        return None
    place = layout.document(b"R", collection.number, key)
    sealed = records.get(place)
    if sealed is None:
        return Row(collection.kind, "", collection.space, record.life, {}, hlc=record.stamp, stub=True)
    return unpack_row(sealing.unseal(sealed, place, core.lives.key(record.slot)), collection, record)


def peek(core: Core, records: Records, collection: Collection, key: bytes) -> tuple[Row | None, str]:
    """(row of a living document or None, public id as far as it can still be read)."""
    row = read(core, records, collection, key)
    if row is not None:
        return row, row.id
    stored = records.get(layout.document(b"D", collection.number, key))
    place = layout.document(b"R", collection.number, key)
    sealed = records.get(place)
    if stored is None or sealed is None:
        return None, ""
    try:
        packed = sealing.unseal(sealed, place, core.lives.key(DocumentRecord.unpack(stored).slot))
    except Damaged:
        return None, ""  # its key was destroyed a moment ago
    return None, str(msgpack.unpackb(packed, strict_map_key=False)[0])
