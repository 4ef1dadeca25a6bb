"""Forgetting: a life ends, its rows hide at once, and after the undo window its key is destroyed.

The order that makes it survive a crash anywhere: tombstone and the note of what is owed (`U`) in the transaction that
hides the row; then the key, overwritten and synced; then, in a second transaction, what is left of the life is
dropped and the note removed. A crash in between repeats the middle step.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgpack

from aico_crdt.errors import Damaged, NotAllowed, NotYet
from aico_crdt.feed import Erase, Header, Operation, decode_header
from aico_crdt.store import layout, rows, sealing, states
from aico_crdt.store.core import Core
from aico_crdt.store.opened import OpenDocument
from aico_crdt.store.records import Collection, DocumentRecord, FeedRecord, Records, unpack
from aico_crdt.store.workspace import FORGOTTEN, Workspace
from aico_crdt.trust import may

OWED: Final = struct.Struct(">QIQ")
"""Value of a `U` record: life slot, feed and seq of the forget that is owed."""


def erase_list(workspace: Workspace, opened: OpenDocument, limit: int) -> tuple[Erase, ...]:
    """The items of the living life that are still in feeds here, at most `limit`, oldest first."""
    erase = []
    prefix = layout.document(b"O", opened.collection.number, opened.key)
    for _, value in workspace.records.scan(prefix):
        feed_number, seq, index = unpack(layout.ITEM_AT, value, "operation")
        header = read_header(workspace.records, feed_number, seq)
        if header is not None:
            erase.append(Erase(header.device, header.incarnation, seq, index, header.items[index].hash))
        if len(erase) == limit:
            break
    return tuple(erase)


def read_header(records: Records, feed_number: int, seq: int) -> Header | None:
    """The header of an entry held here, None when it was pruned."""
    stored = records.get(layout.entry(feed_number, seq))
    return None if stored is None else _decoded(stored[72:])


@lru_cache(maxsize=16)
def _decoded(raw: bytes) -> Header:
    """An entry may hold a thousand items, each of which is looked up by its header: at most 4 MB are kept."""
    return decode_header(raw)


def counts(workspace: Workspace, opened: OpenDocument, life: int, author: bytes, trust: str, source: bytes) -> bool:
    """Whether a forget by `author`, handed over by `source`, ends that life. Who came first here may have come second
    elsewhere: so one that does not count is passed over, and does not bar its feed on some replicas and not on others.

    Raises:
        NotAllowed: its author may not. NotYet: whether it may is not to be seen yet.
    """
    if life <= opened.dead or trust == "full":
        return True
    if workspace.came_erased(opened, life, author):
        # It bore it, says who handed it over without its items. Where others bore it too, that ends what they wrote:
        # then the word of a full device is needed.
        if opened.alive and workspace.core.directory.family.trust_of(source) != "full":
            raise NotYet("body", "Whether its author bore what it forgets is not to be seen.", thing=opened.key)
        first = creator = True
    else:
        creator, first = workspace.bore(opened, author), workspace.first(opened, author)
    if not may("forget", opened.collection.kind, trust, is_creator=creator):
        raise NotAllowed(f"A {trust} device may not forget there.")
    return first


def end_life(
    workspace: Workspace,
    opened: OpenDocument,
    life: int,
    stamp: int,
    moved_to: str | None,
    due_ms: int,
    place: tuple[int, int],
) -> None:
    """Bury lives up to `life`: tombstone, row hidden, key owed at `due_ms`.

    Args:
        place: feed number and seq of the entry that forgets.
    """
    if life <= opened.dead:
        return
    workspace.drop_outlived(opened)
    number, key = opened.collection.number, opened.key
    records = workspace.records
    record = opened.record
    grave = layout.document(b"T", number, key)
    went = None if moved_to is None else sealing.seal(moved_to.encode(), grave, workspace.core.storage_key)
    records.put_packed(grave, [life, stamp, went, *place])
    if record is not None and record.state != layout.HIDDEN and record.life <= life:
        core = workspace.core
        _write_operations(workspace, opened)
        if not opened.born:
            for index in rows.present_index_keys(core, records, opened.collection, key, record):
                records.delete(index)
        hidden = record.copy()
        hidden.state = layout.HIDDEN
        records.put(layout.document(b"D", number, key), hidden.pack())
        records.put(layout.erasure(due_ms, number, key, record.life), OWED.pack(record.slot, *place))
        if record.state == layout.STUB:
            records.delete(layout.wanted(number, record.stamp, key))
        opened.record = hidden
    workspace.close_gaps_of(opened.collection, key, life)
    opened.dead = life
    opened.document, opened.saved = None, None
    opened.updates.clear()
    opened.touched = opened.born = False
    workspace.log(opened.collection, key, life, FORGOTTEN, stamp)


def bury(
    workspace: Workspace, opened: OpenDocument, operation: Operation, stamp: int, undo_ms: int, place: tuple[int, int]
) -> None:
    """End the life that a forget by `place`'s author names, its key to be destroyed after the undo window (ms)."""
    moved_to, now = None, False
    try:
        fields = msgpack.unpackb(operation.payload, max_str_len=128, max_array_len=8)
        moved_to, now = (fields[0] if isinstance(fields[0], str) else None), fields[1] is True
    except (ValueError, LookupError, TypeError, msgpack.UnpackException):
        pass  # what a later release says about a forget does not keep it from being one
    due_ms = workspace.now_ms + (0 if now else undo_ms)
    end_life(workspace, opened, operation.life, stamp, moved_to, due_ms, place)


def _write_operations(workspace: Workspace, opened: OpenDocument) -> None:
    for feed_number, seq, index, at in opened.operations:
        key = layout.operation(opened.collection.number, opened.key, at, index)
        workspace.records.put(key, layout.ITEM_AT.pack(feed_number, seq, index))
    opened.operations.clear()


def drop_life(workspace: Workspace, collection: Collection, key: bytes) -> None:
    """Delete what a hidden life left in the tables: state, row, base, its items in feeds."""
    records = workspace.records
    stored = records.get(layout.document(b"D", collection.number, key))
    if stored is None:
        return
    record = DocumentRecord.unpack(stored)
    for operation, value in list(records.scan(layout.document(b"O", collection.number, key))):
        feed_number, seq, index = unpack(layout.ITEM_AT, value, "operation")
        workspace.bury_item(feed_number, seq, index, key, record.life)
        records.delete(operation)
    for letter in (b"S", b"R", b"B"):
        records.delete(layout.life(letter, record.slot))
    states.drop_later(records, record.slot)
    records.delete(layout.document(b"D", collection.number, key))


Owed = tuple[bytes, int, bytes, int, int]


def due(records: Records, now_ms: int, window_ms: int) -> list[Owed]:
    """What is owed by `now_ms`: (U key, collection number, document key, life, slot).

    What is due later than the whole undo window (ms) from now was noted under a clock that was ahead: it is owed now.
    """
    found = []
    for key, value in records.scan(b"U"):
        if now_ms < int.from_bytes(key[1:9], "big") <= now_ms + window_ms:
            continue
        slot, _, _ = unpack(OWED, value, "erasure")
        number = int.from_bytes(key[9:11], "big")
        found.append((key, number, key[11:27], int.from_bytes(key[27:31], "big"), slot))
    return found


def owed_life(records: Records, slot: int) -> tuple[bytes, int] | None:
    """(document key, life) of the forgotten life whose key at `slot` is to be destroyed, or was already."""
    for key, value in records.scan(b"U"):
        if unpack(OWED, value, "erasure")[0] == slot:
            return key[11:27], int.from_bytes(key[27:31], "big")
    return None


def settle_erasures(workspace: Workspace, owed: list[Owed], numbers: dict[int, Collection]) -> None:
    """The second transaction: keys are gone, drop the rest and the notes."""
    for note, number, key, life, _ in owed:
        stored = workspace.records.get(layout.document(b"D", number, key))
        collection = numbers.get(number)
        if stored is not None and collection is not None:
            record = DocumentRecord.unpack(stored)
            if record.life == life and record.state == layout.HIDDEN:
                drop_life(workspace, collection, key)
        workspace.records.delete(note)


def erased_through(records: Records, collection: Collection) -> dict[tuple[bytes, bytes], int]:
    """Per feed, the seq through which every forget has been erased on this disk.

    That is the feed's head, or one before the first forget still owed.
    """
    through: dict[int, tuple[tuple[bytes, bytes], int]] = {}
    for key, value in records.scan(layout.feed_prefix(collection.number)):
        record = FeedRecord.unpack(value)
        through[record.number] = ((key[3:35], key[35:43]), record.seq)
    for key, value in records.scan(b"U"):
        if int.from_bytes(key[9:11], "big") != collection.number:
            continue
        _, feed_number, seq = unpack(OWED, value, "erasure")
        if feed_number in through:
            writer, head = through[feed_number]
            through[feed_number] = (writer, min(head, seq - 1))
    return dict(through.values())


class Tombstone(NamedTuple):
    """The greatest dead life of a document, the stamp of its forget, the feed and seq of the entry that forgot (zeros
    for a manifest's), and where it went, sealed under the storage key."""

    life: int
    stamp: int
    feed: int
    seq: int
    went: bytes | None


def tombstone(records: Records, collection: Collection, key: bytes) -> Tombstone | None:
    """The tombstone of a document, None when it never was forgotten.

    Raises:
        Damaged: it cannot be read.
    """
    packed: Any = records.get_packed(layout.document(b"T", collection.number, key))
    if packed is None:
        return None
    if not isinstance(packed, list) or len(packed) != 5 or not isinstance(packed[2], bytes | None):
        raise Damaged("A tombstone cannot be read.")
    life, stamp, went, feed, seq = packed
    return Tombstone(life, stamp, feed, seq, went)


def moved_to(core: Core, collection: Collection, key: bytes, dead: Tombstone) -> str | None:
    """The public id a forgotten document moved to, None when it moved nowhere.

    Raises:
        Damaged: it does not open.
    """
    if dead.went is None:
        return None
    return sealing.unseal(dead.went, layout.document(b"T", collection.number, key), core.storage_key).decode()
