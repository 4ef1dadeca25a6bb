"""Where the Yjs state of a document is kept.

Most documents are born and never changed. Of these no state is stored: their row says the same, and the state is
written from it when somebody asks (:func:`aico_crdt.crdt.birth.write_birth`).
"""

from __future__ import annotations

from aico_crdt import ids
from aico_crdt.crdt.birth import Birth, write_birth
from aico_crdt.errors import Damaged
from aico_crdt.store import layout, rows, sealing
from aico_crdt.store.core import Core
from aico_crdt.store.records import Collection, DocumentRecord, Records


def find(core: Core, records: Records, collection: Collection, key: bytes, record: DocumentRecord) -> bytes | None:
    """The state of the life that `record` tells of; None when only its hash is known here.

    Raises:
        Damaged: it does not open.
    """
    life_key = core.lives.key(record.slot)
    place = layout.document(b"S", collection.number, key)
    sealed = records.get(place)
    if sealed is not None:
        return sealing.unseal(sealed, place, life_key)
    place = layout.document(b"R", collection.number, key)
    sealed = records.get(place)
    if sealed is None:
        return None
    row = rows.open_row(sealing.unseal(sealed, place, life_key))
    if row.birth is None:
        return None
    incarnation, differing, hlc = row.birth
    writer = ids.writer(record.creator, incarnation)
    client = ids.client_id(record.creator, incarnation)
    return write_birth(client, writer, Birth(hlc, {**row.fields, **differing}))


def read(core: Core, records: Records, collection: Collection, key: bytes, record: DocumentRecord) -> bytes:
    """As :func:`find`, of a document that is whole here.

    Raises:
        Damaged: it is missing or does not open.
    """
    state = find(core, records, collection, key, record)
    if state is None:
        raise Damaged("A document's state is missing.")
    return state
