"""Structured records: what the values of :mod:`aico_crdt.store.layout` hold, and checked access to them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import lmdb
import msgpack

from aico_crdt.errors import Damaged
from aico_crdt.store import layout


class Records:
    """Checksummed access to one LMDB transaction. Not thread-safe; lives as long as the transaction.

    Args:
        newest: for a snapshot, the way to a newer one. Keys of lives are destroyed for all snapshots at once, so what
            does not open in an old one may have been forgotten since.
    """

    __slots__ = ("_secret", "newest", "transaction")

    def __init__(
        self,
        transaction: lmdb.Transaction,
        secret: bytes,
        newest: Callable[[], AbstractContextManager[lmdb.Transaction]] | None = None,
    ) -> None:
        self.transaction = transaction
        self.newest = newest
        self._secret = secret

    @contextmanager
    def fresh(self) -> Iterator[Records | None]:
        """The newest snapshot, where this is one."""
        if self.newest is None:
            yield None
            return
        with self.newest() as transaction:
            yield Records(transaction, self._secret)

    def ended_since(self, number: int, key: bytes, slot: int) -> bool:
        """Whether the life at `slot` of a document has ended, and its key may be destroyed, since this snapshot."""
        with self.fresh() as records:
            if records is None:
                return False
            stored = records.get(layout.document(b"D", number, key))
        record = None if stored is None else DocumentRecord.unpack(stored)
        return record is None or record.slot != slot or record.state == layout.HIDDEN

    def get(self, key: bytes) -> bytes | None:
        """The value at `key`, its checksum verified; None when absent."""
        stored: bytes | None = self.transaction.get(key)  # type: ignore[assignment]  # buffers=False
        return None if stored is None else layout.open_value(key, stored, self._secret)

    def put(self, key: bytes, value: bytes) -> None:
        self.transaction.put(key, value + layout.check(key, value, self._secret))

    def delete(self, key: bytes) -> bool:
        return bool(self.transaction.delete(key))

    def scan(
        self, prefix: bytes, start: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Records whose key begins with `prefix`, in key order from `start` (inclusive; exclusive when reverse).

        The cursor stays valid while the caller changes other keys only.
        """
        for key, stored in self.scan_raw(prefix, start, reverse=reverse):
            yield key, layout.open_value(key, stored, self._secret)

    def scan_raw(
        self, prefix: bytes, start: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """As :meth:`scan`, with checksums neither verified nor removed."""
        opened: Any = self.transaction.cursor()
        with opened as cursor:
            if reverse:
                bound = start if start is not None else _after(prefix)
                found = cursor.set_range(bound) if bound is not None else False
                moved = cursor.prev() if found else cursor.last()
                while moved and cursor.key().startswith(prefix):
                    yield cursor.item()
                    moved = cursor.prev()
            else:
                moved = cursor.set_range(start if start is not None else prefix)
                while moved and cursor.key().startswith(prefix):
                    yield cursor.item()
                    moved = cursor.next()

    def get_packed(self, key: bytes) -> Any:
        """A msgpack value at `key`, or None."""
        value = self.get(key)
        return None if value is None else msgpack.unpackb(value, strict_map_key=False)

    def put_packed(self, key: bytes, value: Any) -> None:
        self.put(key, msgpack.packb(value))


def _after(prefix: bytes) -> bytes | None:
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1]) if trimmed else None


def unpack(form: struct.Struct, value: bytes, name: str) -> tuple[Any, ...]:
    """`form.unpack`, with a wrong size told as damage."""
    try:
        return form.unpack(value)
    except struct.error as error:
        raise Damaged(f"A {name} record has a wrong size.") from error


@dataclass(slots=True)
class Counters:
    """Numbers that only rise, in one record so that a commit writes them with one put."""

    commits: int = 0
    stamp: int = 0
    change: int = 0
    slot: int = 0
    feed: int = 0
    collection: int = 0
    arrival: int = 0
    hold: int = 0
    evidence: int = 0
    statements: int = 0

    @classmethod
    def load(cls, records: Records) -> Counters:
        return cls.unpack(records.get(layout.meta("counters")))

    @classmethod
    def unpack(cls, value: bytes | None) -> Counters:
        return cls() if value is None else cls(*unpack(_COUNTERS, value, "counter"))

    def save(self, records: Records) -> bytes:
        """Returns what was written: no two commits of a store write the same."""
        packed = _COUNTERS.pack(
            self.commits, self.stamp, self.change, self.slot, self.feed,
            self.collection, self.arrival, self.hold, self.evidence, self.statements,
        )  # fmt: skip
        records.put(layout.meta("counters"), packed)
        return packed


_COUNTERS: Final = struct.Struct(">10Q")
_FEED: Final = struct.Struct(">IQQ32sQQQ64s")
_DOCUMENT: Final = struct.Struct(">IQBB32s32sQ")
NO_SIGNATURE: Final = bytes(64)


@dataclass(slots=True)
class FeedRecord:
    """One feed's state here. `floor` is the lowest seq still held (seq + 1 when none is); `arrival` that of its head;
    `endorsed` the greatest seq in the causal past of an entry in force (meaningful for revoked authors); `fork` the
    seq at which two branches were seen, 0 for none; `signature` the author's of the head, as it came, which in the
    middle of a run nobody has checked (zeros: not known any more)."""

    number: int
    floor: int
    seq: int
    hash: bytes
    arrival: int
    endorsed: int
    fork: int
    signature: bytes

    def pack(self) -> bytes:
        return _FEED.pack(
            self.number, self.floor, self.seq, self.hash, self.arrival, self.endorsed, self.fork, self.signature
        )

    @classmethod
    def unpack(cls, value: bytes) -> FeedRecord:
        return cls(*unpack(_FEED, value, "feed"))


@dataclass(slots=True)
class DocumentRecord:
    """One document's living (or last) life. `state_hash` is the content hash of its canonical slots; `stamp` the
    newest HLC in it; `creator` the device whose entry bore this life."""

    life: int
    slot: int
    state: int
    base: int
    creator: bytes
    state_hash: bytes
    stamp: int

    @property
    def whole(self) -> bool:
        """Whether the living life's state is here."""
        return self.state in (layout.WHOLE, layout.FETCHED)

    def pack(self) -> bytes:
        return _DOCUMENT.pack(
            self.life, self.slot, self.state, self.base, self.creator, self.state_hash, self.stamp
        )

    @classmethod
    def unpack(cls, value: bytes) -> DocumentRecord:
        return cls(*unpack(_DOCUMENT, value, "document"))

    def copy(self) -> DocumentRecord:
        return DocumentRecord(
            self.life, self.slot, self.state, self.base, self.creator, self.state_hash, self.stamp
        )


@dataclass(frozen=True, slots=True)
class Collection:
    """(space, kind) as one store numbers it."""

    number: int
    tag: bytes
    space: str
    kind: str
