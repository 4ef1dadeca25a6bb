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
from aico_crdt.store.records import DocumentRecord, Records


def find(core: Core, records: Records, record: DocumentRecord) -> bytes | None:
    """The state of the life that `record` tells of; None when only its hash is known here.

    Raises:
        Damaged: it does not open.
    """
    place = layout.life(b"S", record.slot)
    sealed = records.get(place)
    if sealed is not None:
        return sealing.unseal(sealed, place, core.lives.key(record.slot))
    row = rows.find(core, records, record)
    if row is None or row.birth is None:
        return None
    incarnation, differing, hlc = row.birth
    writer = ids.writer(record.creator, incarnation)
    client = ids.client_id(record.creator, incarnation)
    return write_birth(client, writer, Birth(hlc, {**row.fields, **differing}))


def read(core: Core, records: Records, record: DocumentRecord) -> bytes:
    """As :func:`find`, of a document that is whole here.

    Raises:
        Damaged: it is missing or does not open.
    """
    state = find(core, records, record)
    if state is None:
        raise Damaged("A document's state is missing.")
    return state
