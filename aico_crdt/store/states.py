"""Where the Yjs state of a document is kept.

Most documents are born and never changed. Of these no state is stored: their row says the same, and the state is
written from it when somebody asks (:func:`aico_crdt.crdt.birth.write_birth`). Of a long text that is being typed, what
was typed last is stored beside an earlier state, so that a keystroke does not write the whole text again.
"""

from __future__ import annotations

from typing import NamedTuple

from aico_crdt import ids
from aico_crdt.crdt import Document
from aico_crdt.crdt.birth import Birth, write_birth
from aico_crdt.errors import Damaged
from aico_crdt.store import layout, rows, sealing
from aico_crdt.store.core import Core
from aico_crdt.store.records import DocumentRecord, Records


class Parts(NamedTuple):
    """A state as it is stored, and the updates to replay upon it."""

    state: bytes
    later: list[bytes]


def load(core: Core, parts: Parts, *, derived: bool = False) -> Document:
    document = Document.load(parts.state, core.client, core.writer, derived=derived)
    for update in parts.later:
        document.replay(update)
    return document


def drop_later(records: Records, slot: int) -> None:
    """A whole state was written, or is gone."""
    for key in [key for key, _ in records.scan_raw(layout.life(b"C", slot))]:
        records.delete(key)


def find(core: Core, records: Records, record: DocumentRecord) -> bytes | None:
    """The state of the life that `record` tells of; None when only its hash is known here.

    Raises:
        Damaged: it does not open.
    """
    parts = find_parts(core, records, record)
    if parts is None or not parts.later:
        return None if parts is None else parts.state
    return load(core, parts).state()


def find_parts(core: Core, records: Records, record: DocumentRecord) -> Parts | None:
    """As :func:`find`, as it is stored."""
    place = layout.life(b"S", record.slot)
    sealed = records.get(place)
    if sealed is not None:
        key = core.lives.key(record.slot)
        later = [sealing.unseal(update, at, key) for at, update in records.scan(layout.life(b"C", record.slot))]
        return Parts(sealing.unseal(sealed, place, key), later)
    row = rows.find(core, records, record)
    if row is None or row.birth is None:
        return None
    incarnation, differing, hlc = row.birth
    writer = ids.writer(record.creator, incarnation)
    client = ids.client_id(record.creator, incarnation)
    return Parts(write_birth(client, writer, Birth(hlc, {**row.fields, **differing})), [])


def read(core: Core, records: Records, record: DocumentRecord) -> bytes:
    """As :func:`find`, of a document that is whole here.

    Raises:
        Damaged: it is missing or does not open.
    """
    state = find(core, records, record)
    if state is None:
        raise Damaged("A document's state is missing.")
    return state


def read_document(core: Core, records: Records, record: DocumentRecord, *, derived: bool = False) -> Document:
    """As :func:`read`, decoded."""
    parts = find_parts(core, records, record)
    if parts is None:
        raise Damaged("A document's state is missing.")
    return load(core, parts, derived=derived)
