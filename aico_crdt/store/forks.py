"""What was built on a branch that lost its fork stays in force, less what it struck of that branch.

A branch and the one that won hold different structs under the same clocks of one Yjs client. An update whose author
had the lost branch before it deletes those clocks, and would strike what the winner put there. So its deletes of that
client from the fork on are cut out, on every replica alike: on those that refold, and on those that never saw the
lost branch. Which branch an author had before it, the newest dependency in its own feed says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from aico_crdt import ids
from aico_crdt.crdt.walker import clock_name, read_update, without_deletes
from aico_crdt.errors import NotYet
from aico_crdt.feed import Head, Header, decode_header
from aico_crdt.store import layout
from aico_crdt.store.records import Collection, FeedRecord, Records, unpack

Place = tuple[int, int, int]
"""Feed number, seq, index of an item."""

_VOID: Final = b"\1"


def mark_void(records: Records, header_hash: bytes) -> None:
    """Keep that an entry lies on a lost branch."""
    records.put(_void_key(header_hash), _VOID)


def is_void(records: Records, header_hash: bytes) -> bool:
    """Whether an entry is known to lie on a lost branch."""
    return records.get(_void_key(header_hash)) is not None


def without_lost(
    records: Records,
    collection: Collection,
    key: bytes,
    header: Header,
    update: bytes,
    known: Mapping[int, int],
    payload: Callable[[Place], bytes],
    staged: Iterable[Place] = (),
) -> bytes:
    """`update`, out of the entry `header`, less its deletes of clocks that a lost branch had given out.

    Args:
        known: the state vector of the document.
        payload: the update at a place the document is made of.
        staged: places it is made of that are not on disk yet.

    Raises:
        NotYet: ``"branch"``: which one of the client that `thing` names the author had before it is not known yet.
        Malformed: `update` is broken.
    """
    deleted: tuple[tuple[int, int, int], ...] | None = None
    for name, value in list(records.scan(layout.feed_prefix(collection.number))):
        feed = FeedRecord.unpack(value)
        writer = (name[3:35], name[35:43])
        if not feed.fork or writer == (header.device, header.incarnation):
            continue
        client = ids.client_id(*writer)
        if deleted is None:
            deleted = read_update(update).deleted
        if all(owner != client for owner, _, _ in deleted):
            continue
        cut = _cut(records, collection, key, feed, client, known, payload, staged)
        struck = any(owner == client and first + length > cut for owner, first, length in deleted)
        if struck and _on_lost(records, collection, header, writer, feed):
            update = without_deletes(update, client, cut)
    return update


def _cut(
    records: Records,
    collection: Collection,
    key: bytes,
    feed: FeedRecord,
    client: int,
    known: Mapping[int, int],
    payload: Callable[[Place], bytes],
    staged: Iterable[Place],
) -> int:
    """The first clock in the document that the forked feed's client gave out after the fork."""
    stored = records.scan(layout.document(b"O", collection.number, key))
    places = [unpack(layout.ITEM_AT, value, "operation") for _, value in stored]
    cut = known.get(client, 0)
    for number, seq, index in {*places, *staged}:
        if number == feed.number and seq >= feed.fork:
            inserted = read_update(payload((number, seq, index))).inserted.get(client)
            cut = cut if inserted is None else min(cut, inserted[0])
    return cut


def _on_lost(
    records: Records, collection: Collection, header: Header, writer: tuple[bytes, bytes], forked: FeedRecord
) -> bool:
    """Whether the author of `header` had the lost branch of `writer`'s feed before it."""
    stored = records.get(layout.feed(collection.number, header.device, header.incarnation))
    number = 0 if stored is None else FeedRecord.unpack(stored).number
    at: Header | None = header
    while at is not None:
        for dep in at.deps:
            if (dep.device, dep.incarnation) == writer:
                return dep.seq >= forked.fork and _is_lost(records, forked, dep)
        entry = records.get(layout.entry(number, at.seq - 1))
        at = None if entry is None else decode_header(entry[72:])
    return False


def _is_lost(records: Records, forked: FeedRecord, dep: Head) -> bool:
    if is_void(records, dep.hash):
        return True
    entry = records.get(layout.entry(forked.number, dep.seq))
    if entry is not None:
        return decode_header(entry[72:]).hash != dep.hash
    if dep.seq < forked.floor:
        return False  # pruned, and what is lost is never pruned
    name = clock_name(ids.client_id(dep.device, dep.incarnation))
    raise NotYet("branch", "An entry was built on a branch that is not known here.", thing=name)


def _void_key(header_hash: bytes) -> bytes:
    return layout.meta(f"void {header_hash.hex()}")
