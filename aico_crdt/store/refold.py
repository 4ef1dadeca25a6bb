"""Refold: a document's state computed anew from its base and the entries in force since.

Used when a fork voids a branch, when a stub's body arrives after later entries, by `verify --refold`, and by upgrades.
"""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from aico_crdt import ids
from aico_crdt.crdt import Document, foreign
from aico_crdt.errors import Damaged, NotYet, PeerError
from aico_crdt.feed import Header, Operation, open_item
from aico_crdt.store import layout, sealing, states
from aico_crdt.store.core import Core
from aico_crdt.store.forget import read_header
from aico_crdt.store.forks import fit
from aico_crdt.store.records import Collection, DocumentRecord, Records, unpack


class Applied(NamedTuple):
    """One item that a document was folded from."""

    header: Header
    place: int
    operation: Operation


def operations(
    core: Core,
    records: Records,
    collection: Collection,
    key: bytes,
    only: Container[tuple[int, int, int]] | None = None,
) -> list[Applied]:
    """The items of the living life since its base, in the order they were applied here.

    Args:
        only: places (feed number, seq, index) to look at; None for all.

    Raises:
        Damaged: one of them does not open, or is missing.
    """
    space = core.directory.spaces[collection.space]
    found = []
    for _, value in records.scan(layout.document(b"O", collection.number, key)):
        feed_number, seq, index = unpack(layout.ITEM_AT, value, "operation")
        if only is not None and (feed_number, seq, index) not in only:
            continue
        header = read_header(records, feed_number, seq)
        stored = records.get(layout.item(feed_number, seq, index))
        if header is None or stored is None:
            raise Damaged("An item that a document is made of is missing.")
        sealed = open_stored_item(core, layout.item(feed_number, seq, index), stored)
        item_key = space.keys.get(header.key_id)
        if item_key is None:
            raise Damaged("The key of an applied item is missing.")
        found.append(Applied(header, index, open_item(header, index, sealed, item_key)))
    return found


def item_payload(core: Core, records: Records, collection: Collection, place: tuple[int, int, int]) -> bytes:
    """The payload of one item that a document is made of.

    Raises:
        Damaged: it does not open, or is missing.
    """
    header, key = read_header(records, *place[:2]), layout.item(*place)
    stored = records.get(key)
    if header is None or stored is None:
        raise Damaged("An item that a document is made of is missing.")
    item_key = core.directory.spaces[collection.space].keys.get(header.key_id)
    if item_key is None:
        raise Damaged("The key of an applied item is missing.")
    return open_item(header, place[2], open_stored_item(core, key, stored), item_key).payload


def open_stored_item(core: Core, key: bytes, stored: bytes) -> bytes:
    """The sealed item as its author made it, out of the sealing at rest."""
    if stored[:8] == layout.GRAVE:
        raise Damaged("An item that a document is made of was erased.")
    slot = int.from_bytes(stored[:8], "big")
    return sealing.unseal(stored[8:], key, core.lives.key(slot))


def base(core: Core, records: Records, record: DocumentRecord) -> bytes | None:
    """The state everything pruned was folded into; None when nothing was."""
    if record.base == layout.NO_BASE:
        return None
    if record.base == layout.BASE_IS_STATE:
        return states.read(core, records, record)
    place = layout.life(b"B", record.slot)
    stored = records.get(place)
    if stored is None:
        raise Damaged("The base of a document is missing.")
    return sealing.unseal(stored, place, core.lives.key(record.slot))


def refold(
    core: Core,
    records: Records,
    collection: Collection,
    key: bytes,
    record: DocumentRecord,
    only: Container[tuple[int, int, int]] | None = None,
) -> tuple[Document, str, int]:
    """(document, public id, how many items could not be applied any more) from base and items.

    An item that refers to what a fork made void is passed over: its author writes it again.
    """
    derived = core.kinds[collection.kind].derived
    start = base(core, records, record)
    state, document_id, lost = start, "", 0
    document = _load(core, state, derived)
    for header, _, operation in operations(core, records, collection, key, only):
        document_id = operation.document
        client = ids.client_id(header.device, header.incarnation)
        writer = ids.writer(header.device, header.incarnation)
        before = document.encoding()
        try:
            update, _ = fit(
                records, collection, key, header, operation.payload, document.state_vector(),
                lambda place: item_payload(core, records, collection, place),
            )  # fmt: skip
            foreign.merge(document, update, client, writer, overlap=True)
        except (NotYet, PeerError):
            lost += 1
            document = Document.take(before, core.client, core.writer, derived=derived)
    return document, document_id, lost


def _load(core: Core, state: bytes | None, derived: bool) -> Document:
    if state is None:
        return Document.new(core.client, core.writer, derived=derived)
    return Document.load(state, core.client, core.writer, derived=derived)
