"""A local write: several documents of several collections, one commit, one entry per collection.

A transaction is atomic here. On other replicas it is atomic per collection: what it wrote to two collections may
become visible there at two moments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from aico_crdt import ids
from aico_crdt.config import Config
from aico_crdt.crdt import Document, walk
from aico_crdt.crdt.birth import Birth, fields_of, write_birth
from aico_crdt.crdt.document import check_field, member, merge_updates
from aico_crdt.crdt.value import plain
from aico_crdt.errors import Closed, Forbidden, InvalidValue, NotFound, TooLarge
from aico_crdt.feed import Erase, Head, Operation, deps_since, item_mark, write_entry
from aico_crdt.feed.entry import MAX_ERASE
from aico_crdt.feed.header import MAX_DEPS, NO_MARK
from aico_crdt.store import forget, rows
from aico_crdt.store.directory import LOCAL
from aico_crdt.store.kind import Row
from aico_crdt.store.opened import Borne, OpenDocument
from aico_crdt.store.records import Collection
from aico_crdt.store.workspace import Workspace, pack
from aico_crdt.trust import may

UPDATE: Final = "update"
FORGET: Final = "forget"
STATEMENT: Final = "statement"
MAX_TRANSACTION_BYTES: Final = 64 << 20
"""What one writer may write, all collections together: it is held in memory until it commits."""
DOCUMENT_MAX_BYTES: Final = 8 << 20
"""Beyond this no device lets a document grow, so that its body can be fetched: it is held whole in memory there."""
GROUP_BYTES: Final = 16 << 20
"""When the writers of a group have written this much, they commit, and the rest follow in the next commit."""
CHECK_FROM_BYTES: Final = 32 << 10
"""Below this an update cannot hold more structs and deletes than a peer's walker takes."""
ITEM_SLACK_BYTES: Final = 512
"""What an item needs beside its payload: id, names, nonce, tag."""


class Place(NamedTuple):
    """One entry this device wrote: the collection's tag, its incarnation and the seq in that feed."""

    tag: bytes
    incarnation: bytes
    seq: int


@dataclass(slots=True)
class _Pending:
    """An operation that waits for the end of the transaction. `slot` is its life's key slot, 0 for none; `bury` is
    called with (feed number, seq) once it is appended."""

    operation: Operation
    opened: OpenDocument | None
    slot: int
    stamp: int
    erase: tuple[Erase, ...] = ()
    bury: Callable[[int, int], None] | None = None

    @property
    def size(self) -> int:
        return len(self.operation.payload) + ITEM_SLACK_BYTES


class Transaction:
    """The verbs of one local write. Made by :meth:`DocumentStore.transaction`; not thread-safe.

    Every verb checks its input before it changes anything; one that raises leaves the transaction as it was, and an
    exception that leaves the ``with`` block takes all of it back.
    """

    def __init__(self, workspace: Workspace, config: Config) -> None:
        self._workspace = workspace
        self._config = config
        self._pending: dict[bytes, list[_Pending]] = {}
        self._settled: dict[bytes, int] = {}
        self._changed: dict[tuple[int, bytes], tuple[OpenDocument, int]] = {}
        self._writable: dict[tuple[str, str], Collection] = {}
        self._required: dict[tuple[str, str], OpenDocument] = {}
        self._room = MAX_TRANSACTION_BYTES
        self.settled_bytes = 0
        self._open = True
        self._bounded = True
        self.places: list[Place] = []

    # Verbs

    def create(self, kind: str, fields: Mapping[str, Any], *, id: str | None = None, space: str = "own") -> str:
        """Bear a document. Returns its public id (a ULID when none is given).

        Raises:
            InvalidValue: a value no replica could store, an id that lives already, an unknown kind or space.
            Forbidden: this device may not write there.
        """
        collection = self._collection(kind, space)
        workspace = self._workspace
        core = workspace.core
        document_id = ids.ulid(workspace.now_ms, core.random(10)) if id is None else ids.check_public_id(id)
        record = fields_of(fields)
        opened = workspace.open(collection, document_id)
        if opened.forgotten:
            raise InvalidValue(f"This {kind} is forgotten by this same transaction.", "Bear it again later.")
        # An id drawn just now is new in the other spaces.
        if opened.alive or (id is not None and self._find(kind, document_id) is not None):
            raise InvalidValue(f"A {kind} with this id is here already.", "Edit it, or choose another id.")
        workspace.bear(opened, core.identity.device)
        stamp = workspace.tick()
        birth = Birth(stamp, record)
        opened.birth = Borne(core.incarnation, core.client, core.writer, birth)
        opened.unsent = write_birth(core.client, core.writer, birth)
        opened.touched = True
        self._changed[opened.collection.number, opened.key] = (opened, stamp)
        return document_id

    def edit(self, kind: str, document_id: str, fields: Mapping[str, Any]) -> None:
        """Write registers of one document; concurrent writes of others are kept as conflicts."""

        _check_fields(fields)

        def change(document: Document, stamp: int) -> None:
            for name, value in fields.items():
                document.set(name, value, stamp)

        self._change(kind, document_id, change)

    def add(self, kind: str, document_id: str, field: str, elements: Iterable[str]) -> None:
        """Add elements to an add-wins set."""
        members = _check_elements(field, elements)

        def change(document: Document, stamp: int) -> None:
            for element in members:
                document.add(field, element, stamp)

        self._change(kind, document_id, change)

    def discard(self, kind: str, document_id: str, field: str, elements: Iterable[str]) -> None:
        """Remove elements of an add-wins set as far as they were seen."""
        members = _check_elements(field, elements)

        def change(document: Document, stamp: int) -> None:
            for element in members:
                document.discard(field, element, stamp)

        self._change(kind, document_id, change)

    def increment(self, kind: str, document_id: str, field: str, amount: int = 1) -> None:
        """Move a counter."""
        self._change(kind, document_id, lambda d, stamp: d.increment(field, amount, stamp))

    def put_slot(self, kind: str, document_id: str, name: str, value: Any, *, space: str = "own") -> None:
        """Set this device's own slot of a field and touch no other; bears the document when it does not live there.

        Such a document lives in each space on its own: what is written for one audience is not shown to another.
        """
        _check_fields({name: value})
        ids.check_public_id(document_id)
        opened = self._workspace.open(self._collection(kind, space), document_id)
        if opened.forgotten:
            raise InvalidValue(f"This {kind} is forgotten by this same transaction.", "Bear it again later.")
        if opened.stub:
            raise NotFound(f"Only a stub of {kind} {document_id} is here.", "Sync with a device that holds its body.")
        if not opened.alive:
            self._workspace.bear(opened, self._workspace.core.identity.device)
            self._required.clear()  # it may stand before another space's now
        self._apply(opened, lambda document, stamp: document.put_slot(name, value, stamp))

    def repeat(
        self, collection: Collection, document_id: str, life: int, change: Callable[[Document], None], *, bear: bool
    ) -> None:
        """Change that life of a document, which with `bear` is born again where nothing is left of it. Nothing happens
        when it was forgotten since, or only a stub is here. What was acknowledged once is written however large the
        document became."""
        self._check_open()
        self._bounded = False
        opened = self._workspace.open(collection, document_id)
        if opened.stub or opened.forgotten or life <= opened.dead:
            return
        if not opened.alive:
            if not bear or life != opened.dead + 1:
                return
            self._workspace.bear(opened, self._workspace.core.identity.device)
            self._required.clear()
        self._apply(opened, lambda document, _: change(document))

    def insert_text(self, kind: str, document_id: str, index: int, text: str) -> None:
        """Insert into the document's mergeable text, at a code point."""
        self._change(kind, document_id, lambda d, _: d.insert_text(index, text))

    def delete_text(self, kind: str, document_id: str, index: int, length: int) -> None:
        """Delete code points of the document's mergeable text."""
        self._change(kind, document_id, lambda d, _: d.delete_text(index, length))

    def forget(self, kind: str, document_id: str, *, now: bool = False, moved_to: str | None = None) -> None:
        """End the document's life, in every space it lives in: its row hides with this commit, its key is destroyed
        after the undo window, or as soon as possible with `now`.

        Raises:
            NotFound: no such living document here. Forbidden: neither its creator nor a full-trust device.
        """
        self._require(kind, document_id)
        lives = self._living(kind, document_id)
        for opened in lives:
            self._authorise(FORGET, opened.collection, is_creator=self._is_creator(opened))
        for opened in lives:
            self._forget(opened, document_id, now, moved_to)

    def _living(self, kind: str, document_id: str) -> list[OpenDocument]:
        """The document in every space where it lives: two devices may have borne it in two."""
        every = self._workspace.core.directory.of_kind(kind)
        found = [self._workspace.open(collection, document_id) for collection in every]
        return [opened for opened in found if opened.alive and not opened.forgotten]

    def _is_creator(self, opened: OpenDocument) -> bool:
        """Whether this device bore the document; not asked where any may forget it."""
        core = self._workspace.core
        device = core.identity.device
        if opened.collection.space == LOCAL or core.directory.family.trust_of(device) == "full":
            return False
        if opened.stub:
            return opened.record is not None and opened.record.creator == device
        return self._workspace.bore(opened, device) and self._workspace.first(opened, device)

    def _forget(self, opened: OpenDocument, document_id: str, now: bool, moved_to: str | None) -> None:
        assert opened.record is not None
        life = opened.record.life
        self._take(opened)
        erase = forget.erase_list(self._workspace, opened, MAX_ERASE)
        stamp = self._workspace.tick()
        due_ms = self._workspace.now_ms + (0 if now else self._config.undo_window_s * 1000)

        def bury(feed_number: int, seq: int) -> None:
            forget.end_life(self._workspace, opened, life, stamp, moved_to, due_ms, (feed_number, seq))

        operation = Operation(opened.id or document_id, life, FORGET, pack([moved_to, now]))
        self._queue(opened.collection, _Pending(operation, None, 0, stamp, erase, bury))
        opened.forgotten = True  # for the verbs that follow; the burial is at the end

    def statement(self, payload: bytes, operation: str) -> None:
        """Append a trust statement to the directory.

        Raises:
            Forbidden: the authority table refuses `operation` to this device.
        """
        collection = self._workspace.core.directory.directory
        self._authorise(operation, collection, is_creator=False)
        self.append(collection, Operation("", 0, STATEMENT, payload))

    def append(self, collection: Collection, operation: Operation) -> None:
        """Add an operation on no document to the collection's next entry."""
        self._queue(collection, _Pending(operation, None, 0, self._workspace.tick()))

    def read(self, kind: str, document_id: str, *, space: str | None = None) -> Row | None:
        """The row as this transaction has changed it so far; that of one space when named. Not to be changed."""
        self._check_open()
        known = self._workspace.rows.get((kind, document_id)) if space is None else None
        if known is not None:
            return known
        opened = self._find(kind, document_id, space)
        if opened is None:
            return None
        if opened.stub or not (opened.touched or (opened.collection.number, opened.key) in self._changed):
            row = rows.read(self._workspace.core, self._workspace.records, opened.collection, opened.key)
            if space is None and row is not None and not row.stub:
                self._workspace.keep_row(row)
            return row
        folded = rows.fold(self._workspace.kind(opened.collection), document_id, self._workspace.load(opened))
        assert opened.record is not None
        record = opened.record
        return Row(
            kind, document_id, opened.collection.space, record.life, folded.fields, folded.conflicts, record.stamp,
            ids.device_name(record.creator),
        )  # fmt: skip

    def text(self, kind: str, document_id: str) -> str:
        """The document's mergeable text as changed so far."""
        return self._workspace.load(self._require(kind, document_id)).text()

    # Ending

    def finish(self) -> None:
        """Write what is pending as entries. Called once, inside the LMDB transaction, before it commits."""
        self.checkpoint()
        for tag, pending in self._pending.items():
            collection = self._workspace.core.directory.collections[tag]
            for chunk in self._chunks(pending):
                self._write(collection, chunk)
        self._pending.clear()
        self._open = False

    def end(self) -> None:
        """No verb works any more."""
        self._open = False

    def checkpoint(self) -> None:
        """What was done so far stands even if what follows is taken back: one writer of a group has ended."""
        for opened, _ in list(self._changed.values()):
            self._take(opened)
        self._required.clear()  # found again, each is known to the workspace as it is from here on
        self._workspace.settle()
        self._settled = {tag: len(pending) for tag, pending in self._pending.items()}
        self.settled_bytes += MAX_TRANSACTION_BYTES - self._room
        self._room = MAX_TRANSACTION_BYTES

    def rollback(self) -> None:
        """Take back everything since the last :meth:`checkpoint`."""
        self._changed.clear()
        self._required.clear()
        for tag, pending in self._pending.items():
            del pending[self._settled.get(tag, 0) :]
        self._room = MAX_TRANSACTION_BYTES
        self._workspace.revert()

    # Inside

    def _collection(self, kind: str, space: str) -> Collection:
        self._check_open()
        collection = self._writable.get((kind, space))
        if collection is not None:
            return collection
        directory = self._workspace.core.directory
        collection = directory.find(space, kind)
        if collection is None:
            if kind not in self._workspace.core.kinds:
                known = ", ".join(sorted(self._workspace.core.kinds))
                raise InvalidValue(f"There is no kind {kind!r} in this store.", f"Kinds: {known}.")
            spaces = ", ".join(sorted(directory.spaces))
            raise InvalidValue(f"This device has no space {space!r} for {kind}.", f"Spaces: {spaces}.")
        self._authorise(UPDATE, collection, is_creator=True)
        self._writable[kind, space] = collection
        return collection

    def _authorise(self, operation: str, collection: Collection, *, is_creator: bool) -> None:
        core = self._workspace.core
        self._check_open()
        if collection.space == LOCAL:
            return
        trust = core.directory.family.trust_of(core.identity.device)
        if not may(operation, collection.kind, trust, is_creator=is_creator):
            raise Forbidden(
                f"This device ({trust or 'no member'}) may not {operation.replace(':', ' ')} in {collection.kind}.",
                "Ask the owner to do it on a full-trust device, or to admit this one.",
            )

    def _check_open(self) -> None:
        if not self._open:
            raise Closed("This transaction has ended.", "Begin a new one.")

    def _find(self, kind: str, document_id: str, space: str | None = None) -> OpenDocument | None:
        self._check_open()
        ids.check_public_id(document_id)
        for collection in self._workspace.core.directory.of_kind(kind):
            if space is not None and collection.space != space:
                continue
            opened = self._workspace.open(collection, document_id)
            if opened.alive and not opened.forgotten:
                return opened
        return None

    def _require(self, kind: str, document_id: str) -> OpenDocument:
        self._check_open()
        opened = self._required.get((kind, document_id))
        if opened is not None and opened.alive and not opened.forgotten and not opened.stub:
            return opened
        opened = self._find(kind, document_id)
        if opened is None:
            raise NotFound(f"There is no {kind} {document_id} here.", "Check the id, or sync with its device.")
        if opened.stub:
            raise NotFound(f"Only a stub of {kind} {document_id} is here.", "Sync with a device that holds its body.")
        self._required[kind, document_id] = opened
        return opened

    def _change(self, kind: str, document_id: str, change: Callable[[Document, int], None]) -> None:
        opened = self._require(kind, document_id)
        self._authorise(UPDATE, opened.collection, is_creator=False)
        self._apply(opened, change)

    def _apply(self, opened: OpenDocument, change: Callable[[Document, int], None]) -> None:
        stamp = self._workspace.tick()
        change(self._workspace.change(opened), stamp)
        opened.touched = True
        self._changed[opened.collection.number, opened.key] = (opened, stamp)

    def _queue(self, collection: Collection, pending: _Pending) -> None:
        self._room -= pending.size
        if self._room < 0:
            raise InvalidValue(
                f"One transaction writes at most {MAX_TRANSACTION_BYTES >> 20} MiB.", "Commit in smaller steps."
            )
        self._pending.setdefault(collection.tag, []).append(pending)

    def _take(self, opened: OpenDocument) -> None:
        """Queue what was written to one document since it was last taken."""
        found = self._changed.pop((opened.collection.number, opened.key), None)
        if found is None:
            return
        _, stamp = found
        parts = [] if opened.unsent is None else [opened.unsent]
        if opened.document is not None and (later := opened.document.take_update()) is not None:
            parts.append(later)
        if not parts:
            return
        update = merge_updates(parts)
        opened.unsent = None
        assert opened.record is not None
        if len(update) > CHECK_FROM_BYTES:
            self._check_takeable(opened, update)
        if self._bounded:
            self._check_size(opened, update)
        if len(update) > self._config.max_entry_bytes - ITEM_SLACK_BYTES:
            raise InvalidValue(
                f"A document changed by {len(update)} bytes; at most {self._config.max_entry_bytes} fit one entry.",
                "Split the value over several documents.",
            )
        core, record = self._workspace.core, opened.record
        opened.updates.append((update, core.client, core.writer))
        operation = Operation(opened.id, record.life, UPDATE, update)
        self._queue(opened.collection, _Pending(operation, opened, record.slot, stamp))

    def _check_takeable(self, opened: OpenDocument, update: bytes) -> None:
        """What is acknowledged here must be acceptable everywhere: a peer's walker counts what an update holds."""
        known = self._workspace.load(opened).state_vector()
        try:
            walk(update, known, self._workspace.core.client, overlap=True)
        except TooLarge as error:
            raise InvalidValue(
                "A document was changed in too many places at once.", "Commit in smaller steps."
            ) from error

    def _check_size(self, opened: OpenDocument, update: bytes) -> None:
        """A document at its limit may shrink, and does not grow. States are only counted out near the limit."""
        before = len(opened.saved or b"") + sum(len(earlier) for earlier, _, _ in opened.updates)
        if before + len(update) <= DOCUMENT_MAX_BYTES:
            return
        after = len(self._workspace.load(opened).state())
        if after > DOCUMENT_MAX_BYTES and after > before:
            raise InvalidValue(
                f"A document would grow to {after} bytes; at most {DOCUMENT_MAX_BYTES} are kept.",
                "Split it over several documents, or shorten what is in it.",
            )

    def _chunks(self, pending: list[_Pending]) -> Iterator[list[_Pending]]:
        """`pending` cut so that each part fits one entry."""
        chunk: list[_Pending] = []
        size = erased = 0
        for one in pending:
            full = len(chunk) >= self._config.max_items or size + one.size > self._config.max_entry_bytes
            if chunk and (full or erased + len(one.erase) > MAX_ERASE):
                yield chunk
                chunk, size, erased = [], 0, 0
            chunk.append(one)
            size += one.size
            erased += len(one.erase)
        if chunk:
            yield chunk

    def _write(self, collection: Collection, chunk: list[_Pending], stamp: int = 0) -> None:
        """One entry of `collection`, and before it what its dependencies need."""
        workspace, core = self._workspace, self._workspace.core
        device, incarnation = core.identity.device, core.incarnation
        heads = workspace.heads(collection)
        feed = workspace.feed(collection, device, incarnation)
        known = {
            writer: head for writer, head in heads.items() if workspace.feed(collection, *writer).arrival < feed.arrival
        }
        deps = deps_since(heads, known, (device, incarnation))
        stamp = max((pending.stamp for pending in chunk), default=stamp)
        # What moved beyond the cap of one header is named by entries without items that go before.
        beyond = max(0, len(deps) - MAX_DEPS)
        for start in range(0, beyond, MAX_DEPS):
            self._append(collection, [], stamp, deps[start : min(start + MAX_DEPS, beyond)])
        self._append(collection, chunk, stamp, deps[beyond:])

    def _append(self, collection: Collection, chunk: list[_Pending], stamp: int, deps: tuple[Head, ...]) -> None:
        workspace, core = self._workspace, self._workspace.core
        device, incarnation = core.identity.device, core.incarnation
        feed = workspace.feed(collection, device, incarnation)
        space = core.directory.spaces[collection.space]
        entry = write_entry(
            family=core.directory.family.id,
            tag=collection.tag,
            device=device,
            incarnation=incarnation,
            seq=feed.seq + 1,
            prev=feed.hash,
            deps=deps,
            hlc=stamp,
            key_id=space.key_id,
            key=space.key,
            erase=[erase for pending in chunk for erase in pending.erase],
            operations=[pending.operation for pending in chunk],
            marks=[
                NO_MARK
                if pending.opened is None
                else item_mark(
                    space.tag_key, pending.opened.key, pending.operation.life, device, incarnation, feed.seq + 1, index
                )
                for index, pending in enumerate(chunk)
            ],
            lacks=workspace.lacks(collection),
            sign=core.identity.sign,
            random=core.random,
        )
        feed, at = workspace.append(collection, entry)
        for index, (pending, sealed) in enumerate(zip(chunk, entry.items, strict=True)):
            assert isinstance(sealed, bytes)
            opened = pending.opened
            life_key = None if opened is None else workspace.life_key(opened)
            workspace.keep_item(feed.number, feed.seq, index, pending.slot, sealed, life_key)
            if pending.opened is not None:
                pending.opened.operations.append((feed.number, feed.seq, index, at))
            if pending.bury is not None:
                pending.bury(feed.number, feed.seq)
        self.places.append(Place(collection.tag, incarnation, feed.seq))

    def witness(self, collection: Collection) -> None:
        """Append an entry without items: it only names, as dependencies, what was applied here."""
        self._write(collection, [], self._workspace.tick())

    def testify(self, collection: Collection, lost: Head) -> None:
        """Append entries without items that build on a lost branch and then on the one in force: the lost one travels
        with them, and what follows is known to be written upon the other."""
        self.witness(collection)
        self._append(collection, [], self._workspace.tick(), (lost,))
        here = self._workspace.heads(collection).get((lost.device, lost.incarnation))
        if here is not None:
            self._append(collection, [], self._workspace.tick(), (here,))


def _check_fields(fields: Mapping[str, Any]) -> None:
    if not isinstance(fields, Mapping):
        raise InvalidValue("Fields are a mapping of names to values.")
    for name, value in fields.items():
        check_field(name)
        plain(value)


def _check_elements(field: str, elements: Iterable[str]) -> list[str]:
    members = [elements] if isinstance(elements, str) else list(elements)
    for element in members:
        member(field, element)
    return members
