"""Rows: what a document decodes to, kept sealed beside its state, and the index keys under which it is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgpack

from aico_crdt import ids
from aico_crdt.crdt import BORN, Document, Slot
from aico_crdt.crdt.birth import Birth
from aico_crdt.crdt.document import content_hash
from aico_crdt.errors import Damaged
from aico_crdt.store import layout, sealing
from aico_crdt.store.core import Core
from aico_crdt.store.directory import index_hash
from aico_crdt.store.kind import Folded, Kind, Row, Version
from aico_crdt.store.records import Collection, DocumentRecord, Records

if TYPE_CHECKING:
    from aico_crdt.store.opened import OpenDocument
    from aico_crdt.store.workspace import Workspace

_ABSENT: Final = object()
MAX_TEXT_CHARS: Final = 16 << 10
"""A longer text is not repeated in the row, but read from the state when the row is read."""
MAX_ORDER: Final = (1 << 64) - 1


def fold(kind: Kind, document_id: str, document: Document) -> Folded:
    return kind.fold(document_id, document.slots(), document.text())


class OpenRow(NamedTuple):
    """A row as it is packed. `birth` is there when the document is a birth and nothing else: the incarnation that bore
    it, what its record says of a field otherwise than the row, and its stamp. The device is the document's creator.
    `text` names the field, if any, that is the document's text and is read from its state. `stamp` is that of its
    birth, 0 where `birth` says it."""

    id: str
    fields: dict[str, Any]
    conflicts: dict[str, list[list[Any]]]
    birth: tuple[bytes, dict[str, Any], int] | None = None
    text: str | None = None
    stamp: int = 0

    @property
    def born(self) -> int:
        """Stamp of the birth."""
        return self.stamp if self.birth is None else self.birth[2]


def born(slots: Sequence[Slot]) -> int:
    """Stamp of the first birth of a document; of what has none (an emotion register), 0: it would move as slots do."""
    return min((slot.hlc for slot in slots if slot.name == BORN), default=0)


def pack_row(document_id: str, folded: Folded, stamp: int, text: str = "") -> bytes:
    """`stamp` is of the birth. `text` is the document's: a field that is nothing else is left out where it is long."""
    conflicts = {name: [list(v) for v in versions] for name, versions in folded.conflicts.items()}
    fields, apart = folded.fields, None
    if len(text) > MAX_TEXT_CHARS:
        apart = next((name for name, value in fields.items() if value is text), None)
    if apart is not None:
        fields = {name: value for name, value in fields.items() if name != apart}
    packed: bytes = msgpack.packb([document_id, fields, conflicts, None, apart, stamp])
    return packed


def open_row(packed: bytes) -> OpenRow:
    return OpenRow(*msgpack.unpackb(packed, strict_map_key=False))


def unpack_row(
    packed: bytes, collection: Collection, record: DocumentRecord, text: Callable[[], str]
) -> Row:
    row = msgpack.unpackb(packed, strict_map_key=False)
    conflicts = row[2]
    if len(row) == 4:
        stamp = row[3][2]
    else:
        stamp = row[5]
        if row[4] is not None:
            row[1][row[4]] = text()
    return Row(
        collection.kind,
        row[0],
        collection.space,
        record.life,
        row[1],
        {name: tuple([Version(*v) for v in versions]) for name, versions in conflicts.items()} if conflicts else {},
        record.stamp,
        ids.device_name(record.creator),
        born=stamp,
    )


def write_birth(
    workspace: Workspace, opened: OpenDocument, incarnation: bytes, writer: str, birth: Birth, life_key: bytes
) -> bool:
    """As :func:`write`, for a document that is `birth` and nothing else: its row then holds its state as well.

    False, and nothing is written, when the row does not say all that the record does.
    """
    record, collection, key = opened.record, opened.collection, opened.key
    assert record is not None
    kind = workspace.kind(collection)
    born = birth.record
    slot = Slot(BORN, writer, birth.hlc, born, None)
    fields, conflicts = kind.fold(opened.id, [slot], "")
    if conflicts or not fields.keys() <= born.keys():
        return False
    differing = {name: value for name, value in born.items() if fields.get(name, _ABSENT) is not value}
    record.stamp = birth.hlc
    record.state_hash = content_hash([slot], "", kind.version)
    for index in index_keys(workspace.core, collection, key, fields, birth.hlc):
        workspace.records.put(index, b"")
    place = layout.life(b"R", record.slot)
    packed: bytes = msgpack.packb([opened.id, fields, {}, [incarnation, differing, birth.hlc]])
    workspace.records.put(place, sealing.seal(packed, place, life_key))
    return True


def index_keys(core: Core, collection: Collection, key: bytes, fields: Mapping[str, Any], stamp: int) -> set[bytes]:
    secret, number = core.index_secret, collection.number
    return {
        layout.index(number, index_hash(secret, name, value), max(0, min(order, MAX_ORDER)), stamp, key)
        for name, value, order in core.kinds[collection.kind].index(fields)
    }


def write(workspace: Workspace, opened: OpenDocument, document: Document, life_key: bytes) -> set[bytes]:
    """Fold the document, write its row under its life key and bring its index keys, which are returned, up to date."""
    record, collection, key = opened.record, opened.collection, opened.key
    assert record is not None
    kind = workspace.kind(collection)
    slots, text = document.slots(), document.text()
    folded = kind.fold(opened.id, slots, text)
    record.stamp = max((slot.hlc for slot in slots), default=record.stamp)
    record.state_hash = document.content_hash(kind.version)
    place = layout.life(b"R", record.slot)
    stamp = born(slots)
    wanted = index_keys(workspace.core, collection, key, folded.fields, stamp)
    if opened.born:
        added, gone = wanted, set()
    else:
        present = opened.indexed
        if present is None:
            present = present_index_keys(workspace.core, workspace.records, collection, key, record)
        added, gone = wanted - present, present - wanted
    for index in gone:
        workspace.records.delete(index)
    for index in added:
        workspace.records.put(index, b"")
    workspace.records.put(place, sealing.seal(pack_row(opened.id, folded, stamp, text), place, life_key))
    return wanted


def present_index_keys(
    core: Core, records: Records, collection: Collection, key: bytes, record: DocumentRecord
) -> set[bytes]:
    """The index keys of the row on disk; none when there is no row."""
    row = find(core, records, record)
    return set() if row is None else index_keys(core, collection, key, row.fields, row.born)


def find(core: Core, records: Records, record: DocumentRecord) -> OpenRow | None:
    """The row of the life that `record` tells of, as it is packed; None when there is none.

    Raises:
        Damaged: it does not open.
    """
    place = layout.life(b"R", record.slot)
    sealed = records.get(place)
    return None if sealed is None else open_row(sealing.unseal(sealed, place, core.lives.key(record.slot)))


def read(core: Core, records: Records, collection: Collection, key: bytes) -> Row | None:
    """The row of a living document; None when there is none, or it is forgotten."""
    stored = records.get(layout.document(b"D", collection.number, key))
    if stored is None:
        return None
    record = DocumentRecord.unpack(stored)
    if record.state == layout.HIDDEN:
        return None
    place = layout.life(b"R", record.slot)
    sealed = records.get(place)
    if sealed is None:
        return Row(collection.kind, "", collection.space, record.life, {}, hlc=record.stamp, stub=True)
    try:
        packed = sealing.unseal(sealed, place, core.lives.key(record.slot))
        return unpack_row(packed, collection, record, lambda: _text(core, records, record))
    except Damaged:
        if records.ended_since(collection.number, key, record.slot):
            return None
        raise


def _text(core: Core, records: Records, record: DocumentRecord) -> str:
    from aico_crdt.store import states

    return states.read_document(core, records, record).text()


def peek(core: Core, records: Records, collection: Collection, key: bytes) -> tuple[Row | None, str]:
    """(row of a living document or None, public id as far as it can still be read)."""
    row = read(core, records, collection, key)
    if row is not None:
        return row, row.id
    stored = records.get(layout.document(b"D", collection.number, key))
    if stored is None:
        return None, ""
    try:
        found = find(core, records, DocumentRecord.unpack(stored))
    except Damaged:
        return None, ""  # its key was destroyed a moment ago
    return None, "" if found is None else found.id
