"""What is known of lost branches, and how what others wrote upon one is made to fit without it.

An entry on a lost branch is kept as its signed header and what it forgot; nothing else of it counts. Whoever hands over
an entry that was built on a lost branch hands over that branch before it (:func:`branch`), so that every replica knows
which dependencies are void, and where the branches part.

A branch and the one that won hold different structs under the same clocks of one Yjs client. Which of them the author
of an entry had before it, the newest dependency on that feed in its own feed says. If that one is void, all that its
update says of clocks from the parting on is cut off: :mod:`aico_crdt.crdt.severed`. So what an update comes to follows
from entries and branches alone, and not from the order in which a replica heard of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from aico_crdt import ids
from aico_crdt.crdt.severed import Displaced, severed
from aico_crdt.crdt.walker import clock_name, read_update
from aico_crdt.errors import NotYet
from aico_crdt.feed import Entry, Head, Header, decode_entry, decode_header, encode_entry, item_mark
from aico_crdt.feed.header import NO_MARK
from aico_crdt.store import layout
from aico_crdt.store.records import Collection, FeedRecord, Records, unpack

Place = tuple[int, int, int]
"""Feed number, seq, index of an item."""
Writer = tuple[bytes, bytes]

MAX_VOID: Final = 1 << 16
"""Void entries kept of one device, some 400 bytes each. A clone that wrote more in secret leaves what was built on the
rest of its branch waiting."""
_ROOT_BYTES: Final = 32


# Void entries


def is_void(records: Records, header_hash: bytes) -> bool:
    """Whether an entry is known to lie on a lost branch."""
    return records.get(layout.void(header_hash)) is not None


def keep_void(records: Records, entries: Sequence[Entry]) -> list[Entry]:
    """Keep consecutive `entries` of a lost branch, without what they wrote. Returns those that were not known."""
    first = entries[0].header
    before = records.get(layout.void(first.prev))
    root = first.hash if before is None else before[:_ROOT_BYTES]
    counter = layout.meta(f"voids {first.device.hex()}")
    stored = records.get(counter)
    count = 0 if stored is None else int.from_bytes(stored, "big")
    fresh = []
    for entry in entries:
        key = layout.void(entry.header.hash)
        if count < MAX_VOID and records.get(key) is None:
            items = zip(entry.items, entry.header.items, strict=True)
            bare = Entry(entry.header, entry.signature, tuple(i if n.mark == NO_MARK else None for i, n in items))
            records.put(key, root + encode_entry(bare))
            fresh.append(entry)
            count += 1
    records.put(counter, layout.U64.pack(count))
    return fresh


def branch(records: Records, header_hash: bytes, told: set[bytes]) -> list[bytes]:
    """The lost branch up to the entry of that hash, oldest first, less what is in `told`; all of it is then added.
    Empty when the entry is not void."""
    found = []
    while header_hash not in told and (stored := records.get(layout.void(header_hash))) is not None:
        told.add(header_hash)
        raw = stored[_ROOT_BYTES:]
        found.append(raw)
        header_hash = decode_entry(raw).header.prev
    return found[::-1]


def root(records: Records, header_hash: bytes) -> bytes:
    """The hash of the first entry of a void entry's branch, as it was first known; empty when it is not void."""
    stored = records.get(layout.void(header_hash))
    return b"" if stored is None else stored[:_ROOT_BYTES]


def parting(records: Records, header_hash: bytes) -> int:
    """The seq at which the branch of a void entry parts from the one in force; 0 when it is not void."""
    seq = 0
    while begins := root(records, header_hash):
        stored = records.get(layout.void(begins))
        assert stored is not None  # it is kept before what follows it
        first = decode_entry(stored[_ROOT_BYTES:]).header
        seq, header_hash = first.seq, first.prev
    return seq


def is_met(records: Records, feed: FeedRecord | None, dep: Head) -> bool:
    """Whether what `dep` names is in force here, or known to be void. What was pruned counts as what it is named."""
    if feed is not None and feed.seq >= dep.seq:
        if feed.seq == dep.seq:
            same = feed.hash == dep.hash
        else:
            entry = records.get(layout.entry(feed.number, dep.seq))
            same = entry is None or decode_header(entry[72:]).hash == dep.hash
        if same:
            return True
    return is_void(records, dep.hash)


def wrote(records: Records, device: bytes, tag_key: bytes, key: bytes, life: int) -> bool:
    """Whether `device` wrote to that life of a document on a lost branch: the marks of its items tell."""
    for _, stored in records.scan(layout.void(b"")):
        header = decode_entry(stored[_ROOT_BYTES:]).header
        place = (header.device, header.incarnation, header.seq)
        if header.device == device and any(
            item.mark == item_mark(tag_key, key, life, *place, index) for index, item in enumerate(header.items)
        ):
            return True
    return False


# What was written upon a lost branch


def fit(
    records: Records,
    collection: Collection,
    key: bytes,
    header: Header,
    update: bytes,
    known: Mapping[int, int],
    payload: Callable[[Place], bytes],
    staged: Iterable[Place] = (),
) -> tuple[bytes, bool]:
    """(`update` out of the entry `header` without what ties it to lost branches, whether text was displaced).

    Args:
        known: the state vector of the document.
        payload: the update at a place the document is made of.
        staged: places it is made of that are not on disk yet.

    Raises:
        NotYet: ``"branch"``: which one of the client that `thing` names the author had before it is not known yet.
        Malformed: `update` is broken.
    """
    forked = {}
    for name, value in records.scan(layout.feed_prefix(collection.number)):
        feed = FeedRecord.unpack(value)
        writer = (name[3:35], name[35:43])
        if feed.fork and writer != (header.device, header.incarnation):
            forked[writer] = feed
    if not forked:
        return update, False
    walked = read_update(update)
    named = {client for client, _, _ in walked.deleted} | {client for client, _ in walked.inherits}
    beside = records.get(_displaced_key(collection, key)) is not None
    forked = {writer: feed for writer, feed in forked.items() if beside or ids.client_id(*writer) in named}
    parts = _parts(records, collection, header, forked)
    if not parts:
        return update, False
    stored = [unpack(layout.ITEM_AT, v, "operation") for _, v in records.scan(_operations(collection, key))]
    places: list[Place] = [*stored, *staged]

    def lost(of: Mapping[Writer, int]) -> dict[int, int]:
        cuts = {}
        for writer, seq in of.items():
            cuts[ids.client_id(*writer)] = _cut(records, key, forked[writer], writer, seq, known, payload, places)
        return cuts

    displaced = Displaced()
    if beside:
        forked = {writer: forked[writer] for writer in parts}
        for place in places:
            entry = records.get(layout.entry(*place[:2]))
            earlier = None if entry is None else decode_header(entry[72:])
            if earlier is None or earlier.hash == header.hash:
                break
            if theirs := _parts(records, collection, earlier, forked):
                severed(payload(place), lost(theirs), displaced)
    before = bool(displaced)
    update = severed(update, lost(parts), displaced)
    return update, before or bool(displaced)


def note_displaced(records: Records, collection: Collection, key: bytes) -> None:
    """Text of a document is displaced, or may be: what is written to it is to be compared with that."""
    records.put(_displaced_key(collection, key), b"")


def _parts(
    records: Records, collection: Collection, header: Header, forked: Mapping[Writer, FeedRecord]
) -> dict[Writer, int]:
    """Of which of the forked feeds the author of `header` had a lost branch before it, and where those part."""
    stored = records.get(layout.feed(collection.number, header.device, header.incarnation))
    number = 0 if stored is None else FeedRecord.unpack(stored).number
    left = {writer for writer in forked if writer != (header.device, header.incarnation)}
    found = {}
    at: Header | None = header
    while at is not None and left:
        for dep in at.deps:
            writer = (dep.device, dep.incarnation)
            if writer not in left:
                continue
            left.remove(writer)
            if seq := parting(records, dep.hash):
                found[writer] = seq
            elif not is_met(records, forked[writer], dep):
                what = "An entry was built on a branch that is not known here."
                raise NotYet("branch", what, thing=clock_name(ids.client_id(*writer)))
        entry = records.get(layout.entry(number, at.seq - 1))
        at = None if entry is None else decode_header(entry[72:])
    return found


def _cut(
    records: Records,
    key: bytes,
    feed: FeedRecord,
    writer: Writer,
    seq: int,
    known: Mapping[int, int],
    payload: Callable[[Place], bytes],
    places: Iterable[Place],
) -> int:
    """The first clock in the document that the feed's client gave out at or after `seq`."""
    client = ids.client_id(*writer)
    pruned = records.get(_cut_key(feed.number, key))
    cut = known.get(client, 0) if pruned is None else int.from_bytes(pruned, "big")
    for place in places:
        if place[0] == feed.number and place[1] >= seq:
            inserted = read_update(payload(place)).inserted.get(client)
            cut = cut if inserted is None else min(cut, inserted[0])
    return cut


def keep_cut(
    records: Records,
    key: bytes,
    places: Iterable[Place],
    forked: Mapping[int, tuple[FeedRecord, Writer]],
    payload: Callable[[Place], bytes],
) -> None:
    """Before items of a document are pruned: keep which clock was the first after a fork.

    Args:
        forked: by number, the forked feeds and who writes them.
    """
    for number, (feed, writer) in forked.items():
        cut = _cut(records, key, feed, writer, feed.fork, {ids.client_id(*writer): _NO_CLOCK}, payload, places)
        if cut < _NO_CLOCK:
            records.put(_cut_key(number, key), layout.U64.pack(cut))


_NO_CLOCK: Final = 1 << 62


def _cut_key(feed_number: int, key: bytes) -> bytes:
    return layout.meta(f"cut {feed_number:08x}{key.hex()}")


def _displaced_key(collection: Collection, key: bytes) -> bytes:
    return layout.meta(f"displaced {collection.number:04x}{key.hex()}")


def _operations(collection: Collection, key: bytes) -> bytes:
    return layout.document(b"O", collection.number, key)
