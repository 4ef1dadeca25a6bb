"""One document inside a write transaction, and what one transaction leaves to the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from aico_crdt.crdt import Document
from aico_crdt.crdt.birth import Birth
from aico_crdt.feed import Head
from aico_crdt.store import layout
from aico_crdt.store.kind import Row
from aico_crdt.store.records import Collection, DocumentRecord, FeedRecord


class Borne(NamedTuple):
    """A birth and by whom: incarnation of the document's creator, and its Yjs client and name as a writer."""

    incarnation: bytes
    client: int
    writer: str
    birth: Birth


class Stored(NamedTuple):
    """How a document's state is stored: bytes of a whole one, bytes and number of the updates beside it."""

    size: int
    later: int
    updates: int


class Loaded(NamedTuple):
    """A document as it is on disk, decoded: which life of it, its content hash, itself, the index keys of its row."""

    slot: int
    hash: bytes
    document: Document
    indexed: set[bytes]
    stored: Stored

    def writes(self, writer: str, record: DocumentRecord) -> bool:
        """Whether it is the document `record` tells of, to be changed in the name of `writer`."""
        return (self.slot, self.hash, self.document.writer) == (record.slot, record.state_hash, writer)


@dataclass(slots=True)
class OpenDocument:
    """One document inside a workspace. `saved` is its state as on disk; `updates` what was accepted since.

    `birth` is set while a document that was born in this workspace holds nothing else: then there is no need of Yrs.
    """

    collection: Collection
    key: bytes
    id: str
    dead: int
    record: DocumentRecord | None
    saved: bytes | None
    document: Document | None = None
    birth: Borne | None = None
    unsent: bytes | None = None
    """The update of a local birth that is in no entry yet."""
    indexed: set[bytes] | None = None
    """The index keys of the row on disk, where they are known."""
    loaded: Loaded | None = None
    """What the last transaction left of it, when `document` is that."""
    secret: tuple[int, bytes] = (0, b"")
    """Slot and key of the life this was last written under."""
    updates: list[tuple[bytes, int, str]] = field(default_factory=list)
    operations: list[tuple[int, int, int, int]] = field(default_factory=list)
    born: bool = False
    touched: bool = False
    forgotten: bool = False
    outlived: bool = False
    """What the life before left behind is still there, until the next one stands."""

    @property
    def alive(self) -> bool:
        return self.record is not None and self.record.life > self.dead and self.record.state != layout.HIDDEN

    @property
    def stub(self) -> bool:
        return self.alive and self.record is not None and self.record.state == layout.STUB


class Known(NamedTuple):
    """What a transaction knew of the store when it committed. It holds for as long as the counters are those, since
    every commit of every process raises them. `complete` are collections without stubs and gaps."""

    counters: bytes
    feeds: dict[tuple[int, bytes, bytes], FeedRecord]
    heads: dict[int, dict[tuple[bytes, bytes], Head]]
    rows: dict[tuple[str, str], Row]
    texts: dict[tuple[int, bytes], Loaded]
    complete: set[int]
