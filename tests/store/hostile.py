"""A member that writes what it likes: entries well signed and chained, as an incarnation of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aico_crdt import clock, ids
from aico_crdt.crdt import Document
from aico_crdt.feed import Entry, Head, Operation, encode_entry, item_mark, write_entry
from aico_crdt.feed.entry import NO_MARK
from aico_crdt.store import DocumentStore, StoreReplica, layout
from aico_crdt.store.outcome import Outcome
from aico_crdt.store.records import Collection
from tests.store.conftest import START_MS

GENESIS = bytes(32)


class Hostile:
    """Writes as the device of `store`, whose own feeds it leaves alone."""

    def __init__(self, store: DocumentStore, incarnation: bytes = b"hostile!") -> None:
        self.store = store
        self.incarnation = incarnation
        self.device = store.device
        self.client = ids.client_id(store.device, incarnation)
        self.writer = ids.writer(store.device, incarnation)
        self.stamp = clock.stamp(START_MS)
        self.last: dict[bytes, Head] = {}

    def collection(self, space: str = "own", kind: str = "memory") -> Collection:
        found = self.store.directory.find(space, kind)
        assert found is not None
        return found

    def document(self, *, derived: bool = False) -> Document:
        return Document.new(self.client, self.writer, derived=derived)

    def birth(self, fields: Mapping[str, Any] | None = None, *, derived: bool = False) -> bytes:
        """The update that bears a record."""
        document = self.document(derived=derived)
        self.stamp += 1
        document.bear(fields or {"content": "x"}, self.stamp)
        update = document.take_update()
        assert update is not None
        return update

    def entry(
        self,
        *operations: Operation,
        collection: Collection | None = None,
        deps: Sequence[Head] = (),
        advance: bool = True,
        erase: Sequence[Any] = (),
        **overrides: Any,
    ) -> Entry:
        """The next entry of this incarnation's feed; `overrides` replace arguments of `write_entry`."""
        where = collection or self.collection()
        space = self.store.directory.spaces[where.space]
        before = self.last.get(where.tag, Head(self.device, self.incarnation, 0, GENESIS))
        self.stamp += 1
        seq = overrides.get("seq", before.seq + 1)
        arguments: dict[str, Any] = {
            "family": self.store.directory.family.id,
            "tag": where.tag,
            "device": self.device,
            "incarnation": self.incarnation,
            "seq": seq,
            "prev": before.hash,
            "deps": tuple(deps),
            "hlc": self.stamp,
            "key_id": space.key_id,
            "key": space.key,
            "erase": tuple(erase),
            "operations": operations,
            "marks": [self.mark(where, operation, seq, place) for place, operation in enumerate(operations)],
            "sign": self.store.identity.sign,
            "random": lambda count: bytes(count),
            **overrides,
        }
        entry = write_entry(**arguments)
        if advance:
            self.last[where.tag] = entry.header.head
        return entry

    def mark(self, where: Collection, operation: Operation, seq: int, place: int) -> bytes:
        if operation.name != "update":
            return NO_MARK
        space = self.store.directory.spaces[where.space]
        key = space.document_key(where.kind, operation.document)
        return item_mark(space.tag_key, key, operation.life, self.device, self.incarnation, seq, place)

    def update(self, payload: bytes, document: str = "d", *, life: int = 1, **rest: Any) -> Entry:
        return self.entry(Operation(document, life, "update", payload), **rest)


def give(taker: DocumentStore, *entries: Entry, tag: bytes | None = None, source: bytes = b"") -> Outcome:
    """Deliver entries one run each."""
    replica = StoreReplica(taker)
    runs = [[encode_entry(entry)] for entry in entries]
    return replica.deliver(tag or entries[0].header.tag, runs, source or entries[0].header.device)


def heads_of(store: DocumentStore, collection: Collection) -> list[Head]:
    return [Head(*head) for head in store.heads().get(collection.tag, [])]


def essence(store: DocumentStore) -> tuple[Any, ...]:
    """All that a refused entry must leave as it was: content, heads, and how many records of each sort there are
    (evidence, what is on hold and the bare name of a feed aside)."""
    counts: dict[bytes, int] = {}
    with store.reading() as (_, records):
        for key, _ in records.scan(b""):
            if key == layout.meta("holds"):
                continue
            counts[key[:1]] = counts.get(key[:1], 0) + 1
    for prefix in (b"V", b"H", b"F", b"G"):
        counts.pop(prefix, None)
    return store.content_hash(), store.heads(), counts


def count(store: DocumentStore, prefix: bytes) -> int:
    with store.reading() as (_, records):
        return sum(1 for _ in records.scan(prefix))


Breaking = Callable[[Hostile, DocumentStore], Entry]
