"""Reading a store: one row, rows by index, all rows, and what tells whether two stores are equal.

Every call reads one snapshot and never waits for a writer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from hashlib import blake2b
from operator import itemgetter
from typing import Final

from aico_crdt import ids
from aico_crdt.errors import Damaged, InvalidValue, NotFound
from aico_crdt.store import layout, rows, states
from aico_crdt.store.core import Core
from aico_crdt.store.directory import LOCAL, index_hash
from aico_crdt.store.kind import Row
from aico_crdt.store.records import Collection, Counters, DocumentRecord, FeedRecord, Records

NOWHERE: Final = "Check the id, or sync with the device that has it."


class Reader:
    """The reading verbs of a :class:`DocumentStore`, which brings the snapshot."""

    _core: Core

    def _read(self) -> AbstractContextManager[Records]:
        """A snapshot with checked records, the directory brought up to it."""
        raise NotImplementedError

    def locate(self, records: Records, kind: str, document_id: str) -> tuple[Collection, bytes] | None:
        """Collection and key of a document that lives, or lived, here."""
        ids.check_public_id(document_id)
        hidden = None
        for collection in self._core.directory.of_kind(kind):
            key = self._core.directory.spaces[collection.space].document_key(kind, document_id)
            stored = records.get(layout.document(b"D", collection.number, key))
            if stored is not None:
                if DocumentRecord.unpack(stored).state != layout.HIDDEN:
                    return collection, key
                hidden = (collection, key)
        return hidden

    def read(self, kind: str, document_id: str) -> Row | None:
        """The row of one document, None when there is none."""
        with self._read() as records:
            found = self.locate(records, kind, document_id)
            if found is None:
                return None
            row = rows.read(self._core, records, *found)
            return row if row is None or row.id else Row(
                row.kind, document_id, row.space, row.life, {}, hlc=row.hlc, stub=True
            )  # fmt: skip

    def read_each(self, kind: str, document_id: str) -> list[Row]:
        """The rows of one id in every space it lives in: what is made of writers' own slots may live in several."""
        ids.check_public_id(document_id)
        found = []
        with self._read() as records:
            for collection in self._core.directory.of_kind(kind):
                key = self._core.directory.spaces[collection.space].document_key(kind, document_id)
                row = rows.read(self._core, records, collection, key)
                if row is not None and not row.stub:
                    found.append(row)
        return found

    def get(self, kind: str, document_id: str) -> Row:
        """As :meth:`read`; raises NotFound when there is none."""
        row = self.read(kind, document_id)
        if row is None:
            raise NotFound(f"There is no {kind} {document_id} here.", NOWHERE)
        return row

    def text(self, kind: str, document_id: str) -> str:
        """The mergeable text of one document."""
        with self._read() as records:
            found = self.locate(records, kind, document_id)
            if found is not None:
                collection, key = found
                stored = records.get(layout.document(b"D", collection.number, key))
                record = None if stored is None else DocumentRecord.unpack(stored)
                if record is not None and record.whole:
                    try:
                        document = states.read_document(self._core, records, record)
                    except Damaged:
                        if not records.ended_since(collection.number, key, record.slot):
                            raise
                    else:
                        return document.text()
        raise NotFound(f"There is no {kind} {document_id} here.", "Check the id.")

    def query(
        self,
        kind: str,
        index: str,
        value: str = "",
        *,
        first: int = 0,
        last: int = (1 << 64) - 1,
        limit: int = 1000,
        newest_first: bool = False,
        spaces: Sequence[str] | None = None,
        after: Row | str | None = None,
    ) -> list[Row]:
        """Rows found under one index value, in its order (of several spaces merged), bounds inclusive. Rows of equal
        order come in the order of their births, on every device the same; an edit does not move them.

        Args:
            first, last: bounds of the order, usually Unix milliseconds.
            limit: at most so many rows.
            after: the last row of the page before, or its id: only what follows it in this order. A row will do also
                when its document has been forgotten or edited meanwhile.

        Raises:
            NotFound: `after` is an id that is not here, or is not found under this value.
        """
        if not 0 < limit <= 100_000:
            raise InvalidValue("A query's limit is 1 to 100,000 rows.")
        name = index_hash(self._core.index_secret, index, value)
        found: list[tuple[bytes, Row]] = []
        with self._read() as records:
            beyond = None if after is None else self._place(records, kind, name, after)
            for collection in self._core.directory.of_kind(kind):
                if spaces is not None and collection.space not in spaces:
                    continue
                taken = 0
                for place in self._index(records, collection, name, first, last, newest_first, beyond):
                    row = rows.read(self._core, records, collection, place[16:])
                    if row is None:
                        continue
                    found.append((place, row))
                    taken += 1
                    if taken == limit:
                        break
        found.sort(key=itemgetter(0), reverse=newest_first)
        return [row for _, row in found[:limit]]

    def _place(self, records: Records, kind: str, name: bytes, after: Row | str) -> bytes:
        """Where a row stands in an index: its order, the stamp of its birth, its document's key."""
        row: Row | None
        if isinstance(after, str):
            found = self.locate(records, kind, after)
            row = None if found is None else rows.read(self._core, records, *found)
        else:
            row, collection = after, self._core.directory.find(after.space, kind)
            found = None
            if collection is not None:
                key = self._core.directory.spaces[collection.space].document_key(kind, row.id)
                found = collection, key
        if row is not None and found is not None:
            prefix = layout.index_prefix(found[0].number, name)
            for index in rows.index_keys(self._core, *found, row.fields, row.born):
                if index.startswith(prefix):
                    return index[len(prefix) :]
        raise NotFound(f"There is no {kind} here to go on after.", "Begin with the first page, or pass its row.")

    def _index(
        self,
        records: Records,
        collection: Collection,
        name: bytes,
        first: int,
        last: int,
        newest_first: bool,
        beyond: bytes | None,
    ) -> Iterator[bytes]:
        prefix = layout.index_prefix(collection.number, name)
        if newest_first:
            end = layout.U64.pack(last) + b"\xff" * 25
            start = end if beyond is None else min(end, beyond)  # where it begins is left out
        else:
            begin = layout.U64.pack(first)
            start = begin if beyond is None else max(begin, beyond + b"\0")
        for key, _ in records.scan_raw(prefix, prefix + start, reverse=newest_first):
            order = int.from_bytes(key[11:19], "big")
            if (newest_first and order < first) or (not newest_first and order > last):
                return
            yield key[11:]

    def rows(self, kind: str, *, spaces: Sequence[str] | None = None) -> Iterator[Row]:
        """Every row of a kind, in order of document keys, over one snapshot."""
        with self._read() as records:
            for collection in self._core.directory.of_kind(kind):
                if spaces is not None and collection.space not in spaces:
                    continue
                for key, value in records.scan(b"D" + layout.COLLECTION.pack(collection.number)):
                    if DocumentRecord.unpack(value).state == layout.HIDDEN:
                        continue
                    row = rows.read(self._core, records, collection, key[3:])
                    if row is not None:
                        yield row

    def content_hash(self, *, spaces: Sequence[str] | None = None) -> bytes:
        """32 bytes over every living document of the shared spaces: equal on devices that hold the same.

        `local` is left out unless named.
        """
        hasher = blake2b(digest_size=32, person=b"aico.whole.1")
        with self._read() as records:
            for collection in sorted(self._core.directory.collections.values(), key=lambda c: c.tag):
                if (collection.space == LOCAL) if spaces is None else (collection.space not in spaces):
                    continue
                hasher.update(collection.tag)
                for key, value in records.scan(b"D" + layout.COLLECTION.pack(collection.number)):
                    record = DocumentRecord.unpack(value)
                    if record.state != layout.HIDDEN:
                        hasher.update(key[3:] + record.life.to_bytes(8, "big") + record.state_hash)
        return hasher.digest()

    def heads(self) -> dict[bytes, list[tuple[bytes, bytes, int, bytes]]]:
        """(device, incarnation, seq, hash) of every feed, by collection tag."""
        found: dict[bytes, list[tuple[bytes, bytes, int, bytes]]] = {}
        with self._read() as records:
            for collection in self._core.directory.collections.values():
                for key, value in records.scan(layout.feed_prefix(collection.number)):
                    feed = FeedRecord.unpack(value)
                    if feed.seq:
                        found.setdefault(collection.tag, []).append((key[3:35], key[35:43], feed.seq, feed.hash))
        return found

    def counters(self) -> Counters:
        with self._read() as records:
            return Counters.load(records)
