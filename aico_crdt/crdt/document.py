"""One document: a Yjs Doc that holds slots in a root map and, where wanted, a mergeable text.

The only module that imports pycrdt, and the only one that sees a Rust panic. It speaks to pycrdt's extension
module directly: the Python shell around it costs five times what the work itself does.

Root map ``r``, one key a slot::

    *@<writer>                  the record as born: [stamp, {field: value}]
    <field>@<writer>            a later edit:       [stamp, value] or [stamp, value, seen]
    <field>/<element>@<writer>  membership of an element in an add-wins set: [stamp, true],
                                or [stamp, false] or [stamp, false, seen] where a birth lists it

A writer sets only keys that end in its own name, and deletes the keys of others that it has seen (observed
remove), so each key is written by one client and rewriting it does not grow the document. ``seen`` lists the
writers of the ``*`` slots an editor saw; it is there only when the document may be born more than once.
Root text ``t`` is the mergeable text. What it reads is what Yrs makes of the document's canonical encoding
(:mod:`aico_crdt.crdt.order`); a text of one writer reads so anyhow.

A Document serves one thread at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from operator import attrgetter
from typing import Any, Final

from pycrdt._pycrdt import Doc, Map, Subscription, Text, Transaction
from pycrdt._pycrdt import merge_updates as _merge_updates

from aico_crdt import clock
from aico_crdt.crdt import order
from aico_crdt.crdt import value as values
from aico_crdt.crdt.walker import encode_state_vector
from aico_crdt.errors import AicoError, Closed, InvalidValue, Malformed, NotYet
from aico_crdt.ids import WRITER_CHARS

BORN: Final = "*"
"""Name of the slot that holds a record as born."""
MAX_ELEMENT_BYTES: Final = 256
MAX_CLIENT: Final = (1 << 53) - 1
_MAP: Final = "r"
_TEXT: Final = "t"
_FIELD: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_WRITER: Final = re.compile(rf"[A-Za-z0-9_-]{{{WRITER_CHARS}}}")
_name_and_writer = attrgetter("name", "writer")
_NOTHING: Final = b"\0"  # the state vector of a replica that knows nothing


@dataclass(frozen=True, slots=True, order=True)
class Slot:
    """One live value: what `writer` last said about `name`, in plain form.

    `name` is ``*``, a field, or ``field/element``; `hlc` the writer's stamp; `seen` the sorted writers of the
    ``*`` slots it had seen, or None in a document that is born once.
    """

    name: str
    writer: str
    hlc: int
    value: Any
    seen: tuple[str, ...] | None

    @property
    def field(self) -> str:
        """The field a slot belongs to; ``*`` for a record as born."""
        return self.name.partition("/")[0]

    @property
    def element(self) -> str | None:
        """The set element a slot speaks for, or None."""
        _, slash, element = self.name.partition("/")
        return element if slash else None


class Document:
    """One replica's copy of one document.

    Once an update fails to apply, the copy may be half changed: it is dropped, and later calls raise Closed.
    """

    def __init__(self, yrs: _Yrs, writer: str, derived: bool) -> None:
        """Use :meth:`new` or :meth:`load`."""
        self._yrs = yrs
        self.writer = check_writer(writer)
        self._derived = derived
        self._slots: list[Slot] | None = None
        self._text: str | None = None  # as Yrs has it now
        self._ascii: int | None = None  # its length while it is known to be ASCII, where bytes are characters
        self._state: bytes | None = None  # None: what Yrs has may not stand in the order that counts
        self._malformed = 0

    @classmethod
    def new(cls, client: int, writer: str, *, derived: bool = False) -> Document:
        """An empty document that `client` writes under the name `writer`.

        Args:
            client: the writer's Yjs client id, 1 to 2^53 - 1.
            writer: its 20 characters from :func:`aico_crdt.ids.writer`.
            derived: the document's id is derived from its content, so others may give birth to it as well.
        """
        if not 0 < client <= MAX_CLIENT:
            raise InvalidValue("A client id is 1 to 2^53 - 1.")
        return cls(_Yrs(client), writer, derived)

    @classmethod
    def load(cls, state: bytes, client: int, writer: str, *, derived: bool = False) -> Document:
        """The document whose :meth:`state` was `state`.

        Raises:
            Malformed: `state` is no Yjs update. Bytes from elsewhere go through the walker first.
        """
        document = cls.new(client, writer, derived=derived)
        document._yrs.merge(state)
        document._state = state
        return document

    @classmethod
    def take(cls, state: bytes, client: int, writer: str, *, derived: bool = False) -> Document:
        """As :meth:`load`, from any :meth:`encoding` of it; one from elsewhere has passed the walker."""
        if order.is_shared(state, _TEXT):
            state = order.canonical(state)
        return cls.load(state, client, writer, derived=derived)

    # Writing

    def bear(self, record: Mapping[str, Any], hlc: int) -> None:
        """Set the whole record as this writer's birth of it.

        Raises:
            InvalidValue: no field's name, a value that cannot be stored, or born by this writer before.
        """
        for field in record:
            check_field(field)
        encoded = [clock.to_text(hlc), values.plain(dict(record))]
        key = self._key(BORN)
        with self._writing() as txn:
            root = self._yrs.root
            if root.has(txn, key):
                raise InvalidValue("This document was already born here.", "Edit its fields instead.")
            root.insert(txn, key, encoded)

    def set(self, field: str, value: Any, hlc: int) -> None:
        """Write a register: replaces every value of `field` seen here, and none written concurrently."""
        encoded: list[Any] = [clock.to_text(hlc), values.plain(value)]
        key = self._key(check_field(field))
        prefix = field + "@"
        with self._writing() as txn:
            root = self._yrs.root
            for other in self._yrs.keys(txn):
                if other != key and other.startswith(prefix):
                    root.remove(txn, other)
            root.insert(txn, key, self._with_seen(encoded))

    def add(self, field: str, element: str, hlc: int) -> None:
        """Add `element` to an add-wins set. Adding it again renews it against a concurrent discard."""
        encoded = [clock.to_text(hlc), True]
        key = self._key(member(field, element))
        with self._writing() as txn:
            root = self._yrs.root
            root.insert(txn, key, encoded)

    def discard(self, field: str, element: str, hlc: int) -> None:
        """Remove `element` as far as it was seen here; one that is added concurrently stays.

        Only where the record as born lists the element, a slot that says false is left behind.
        """
        name = member(field, element)
        stamp = clock.to_text(hlc)
        key = self._key(name)
        prefix = name + "@"
        born = any(
            slot.name == BORN and type(slot.value.get(field)) is list and element in slot.value[field]
            for slot in self.slots()
        )
        with self._writing() as txn:
            root = self._yrs.root
            for other in self._yrs.keys(txn):
                if other.startswith(prefix) and len(other) == len(key) and not (born and other == key):
                    root.remove(txn, other)
            if born:
                root.insert(txn, key, self._with_seen([stamp, False]))

    def increment(self, field: str, amount: int, hlc: int) -> None:
        """Add `amount`, which may be negative, to this writer's own total of a counter.

        Raises:
            InvalidValue: `amount` is no integer, or the total leaves ±(2^53 - 1).
        """
        if type(amount) is not int:
            raise InvalidValue("A counter moves by whole numbers.")
        key = self._key(check_field(field))
        stamp = clock.to_text(hlc)
        with self._writing() as txn:
            root = self._yrs.root
            mine = _slot(key, root.get(txn, key)) if root.has(txn, key) else None
            total = mine.value if mine is not None and type(mine.value) is int else 0
            root.insert(txn, key, [stamp, values.plain(total + amount)])

    def put_slot(self, name: str, value: Any, hlc: int) -> None:
        """Overwrite this writer's own slot of a field and touch no other."""
        encoded = [clock.to_text(hlc), values.plain(value)]
        key = self._key(check_field(name))
        with self._writing() as txn:
            root = self._yrs.root
            root.insert(txn, key, encoded)

    def repeat(self, said: Iterable[Slot], struck: Iterable[Slot]) -> None:
        """Say again, under this writer's name, what a lost writer had said, and strike again what it had struck.

        Stamps stay as they were. What this writer said later is kept, and nothing is struck that was written anew.
        """
        said = list(said)
        here = {(slot.name, slot.writer): slot for slot in self.slots()}
        lost = {slot.writer for slot in said if slot.name == BORN}
        with self._writing() as txn:
            root = self._yrs.root
            for slot in struck:
                found = here.get((slot.name, slot.writer))
                if found is not None and found.hlc == slot.hlc:
                    root.remove(txn, f"{slot.name}@{slot.writer}")
            for slot in said:
                own = here.get((slot.name, self.writer))
                if own is not None and own.hlc > slot.hlc:
                    continue
                encoded = [clock.to_text(slot.hlc), slot.value]
                if slot.seen is not None:
                    encoded.append(sorted({self.writer if writer in lost else writer for writer in slot.seen}))
                root.insert(txn, self._key(slot.name), encoded)

    def insert_text(self, index: int, text: str) -> None:
        """Insert `text` before the character at `index` (in Unicode code points) of the mergeable text.

        Raises:
            InvalidValue: `index` lies outside, or `text` is too large or holds a lone surrogate.
        """
        values.plain(text)
        length = self._ascii_length() if text.isascii() else None
        before = "" if length is not None else self._draft()
        if not 0 <= index <= (len(before) if length is None else length):
            raise InvalidValue("The place to insert at lies outside the text.")
        if not text:
            return
        if length is not None:
            with self._writing() as txn:
                self._yrs.text(txn).insert(txn, index, text)
                self._text, self._ascii = None, length + len(text)
            return
        with self._writing() as txn:
            self._ascii = None
            self._yrs.text(txn).insert(txn, values.text_bytes(before[:index]), text)
            self._text = before[:index] + text + before[index:]

    def delete_text(self, index: int, length: int) -> None:
        """Delete `length` code points of the mergeable text from `index`.

        Raises:
            InvalidValue: the range lies outside the text.
        """
        known = self._ascii_length()
        before = "" if known is not None else self._draft()
        end = index + length
        if not 0 <= index <= end <= (len(before) if known is None else known):
            raise InvalidValue("The range to delete lies outside the text.")
        if not length:
            return
        if known is not None:
            with self._writing() as txn:
                self._yrs.text(txn).remove_range(txn, index, length)
                self._text, self._ascii = None, known - length
            return
        with self._writing() as txn:
            start_byte = values.text_bytes(before[:index])
            bytes_gone = values.text_bytes(before[index:end])
            self._yrs.text(txn).remove_range(txn, start_byte, bytes_gone)
            self._text = before[:index] + before[end:]

    def take_update(self) -> bytes | None:
        """Everything written here since the last call, as one Yjs v1 update; None if nothing was.

        It comes from the update event: computed from a state vector it would repeat every deletion ever made.
        """
        updates = self._yrs.take()
        if not updates:
            return None
        return merge_updates(updates)

    # Merging

    def apply(self, update: bytes, predicted: Mapping[int, int]) -> None:
        """Merge `update`, which the walker has passed and whose dependencies are all here.

        Some broken updates show only when the document is encoded: take :meth:`state` before relying on it.

        Args:
            update: Yjs v1 bytes.
            predicted: the walker's state vector afterwards: client id to number of operations.

        Raises:
            NotYet: (clock) something stayed pending.
            Malformed: Yrs refused the bytes or panicked.
            Closed: an earlier call failed; load the document again.
        """
        self.replay(update)
        if self.state_vector() != predicted:
            self._yrs.poison()
            raise NotYet("clock", "An update left operations pending.", "Deliver what it depends on first.")

    def replay(self, update: bytes) -> None:
        """Merge `update` again, which this replica wrote or merged before. Nothing is checked."""
        self._slots = self._text = self._ascii = self._state = None
        self._yrs.merge(update)

    # Reading

    @property
    def malformed(self) -> int:
        """How many keys of the root map are no slots; the same on every replica, skipped by every reader."""
        self.slots()
        return self._malformed

    def slots(self) -> list[Slot]:
        """All live slots, by name and writer. The caller must not change them."""
        if self._slots is None:
            with self._yrs as txn:
                root = self._yrs.root
                entries = [(key, root.get(txn, key)) for key in self._yrs.keys(txn)]
            found = [slot for key, raw in entries if (slot := _slot(key, raw)) is not None]
            found.sort(key=_name_and_writer)
            self._malformed = len(entries) - len(found)
            self._slots = found
        return self._slots

    def text(self) -> str:
        """The mergeable text; empty if there is none."""
        if self._state is None and len(self.state_vector()) > 1:
            self.state()
        return self._draft()

    def state(self) -> bytes:
        """The whole document as one Yjs v1 update; of a text of several writers the canonical encoding.

        Other documents that are equal may encode differently (content_hash).
        """
        if self._state is None:
            state = self.encoding()
            if order.is_shared(state, _TEXT):
                state = order.canonical(state)
                self._yrs = self._yrs.again(state)
                self._slots = self._text = self._ascii = None
            self._state = state
        return self._state

    def encoding(self) -> bytes:
        """The whole document as a Yjs v1 update, as Yrs has it now: what :meth:`take` makes a document of again."""
        if self._state is not None:
            return self._state
        self._yrs.commit()
        with self._yrs as txn:
            return self._yrs.doc.get_update(txn, _NOTHING)

    def added(self, known: Mapping[int, int]) -> bytes:
        """What has come since the state vector was `known`, as a Yjs v1 update, with every deletion ever made."""
        with self._yrs as txn:
            return self._yrs.doc.get_update(txn, encode_state_vector(known))

    def state_vector(self) -> dict[int, int]:
        """Client id to number of operations known of it."""
        with self._yrs as txn:
            return _state_vector(self._yrs.doc.get_state(txn))

    def content_hash(self, fold_version: int) -> bytes:
        """32 bytes, equal on replicas whose slots and text are equal, however they came about.

        Args:
            fold_version: of the kind's fold, so that replicas that fold differently differ here.
        """
        return content_hash(self.slots(), self.text(), fold_version)

    # Inside

    def _draft(self) -> str:
        """The text as Yrs has it now, in which places to insert and delete at are counted."""
        if self._text is None:
            if self._state is None and len(self.state_vector()) > 1:
                self.state()
            with self._yrs as txn:
                self._text = self._yrs.text(txn).get_string(txn)
        return self._text

    def _key(self, name: str) -> str:
        return f"{name}@{self.writer}"

    def _with_seen(self, encoded: list[Any]) -> list[Any]:
        """`encoded`, and the births seen here if there may be several."""
        if self._derived:
            with self._yrs as txn:
                names = [key[2:] for key in self._yrs.keys(txn) if key.startswith("*@")]
            encoded.append(sorted(name for name in names if _WRITER.fullmatch(name)))
        return encoded

    def _ascii_length(self) -> int | None:
        """Length of the text as Yrs has it now if it is ASCII: then an edit need not look at the text itself."""
        if self._ascii is None:
            draft = self._draft()
            self._ascii = len(draft) if draft.isascii() else None
        return self._ascii

    def _writing(self) -> _Yrs:
        self._yrs.listen()
        self._slots = self._state = None
        return self._yrs


class _Yrs:
    """The Yrs side of a document: a Doc, a transaction opened on demand, the updates its commits announced.

    ``with yrs as txn`` opens the transaction or goes on with the open one; :meth:`commit` ends it, so that
    several operations become one update. Whatever fails inside a block except an InvalidValue (raised before
    anything changed) poisons the document, because Yrs does not roll back.
    """

    __slots__ = ("_client", "_poisoned", "_subscription", "_txn", "_updates", "doc", "root")

    def __init__(self, client: int) -> None:
        self._client = client
        self.doc = Doc(client, None, None)
        self._txn: Transaction | None = None
        self._updates: list[bytes] = []
        self._subscription: Subscription | None = None
        self._poisoned = False
        self.root: Map
        with self as txn:
            self.root = self.doc.get_or_insert_map(txn, _MAP)

    def __enter__(self) -> Transaction:
        if self._poisoned:
            raise Closed("This document failed to apply an update.", "Load it again from its last state.")
        if self._txn is None:
            self._txn = self.doc.create_transaction()
        return self._txn

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, InvalidValue):
            return
        self.poison()
        if isinstance(error, (AicoError, KeyboardInterrupt, SystemExit, MemoryError)):
            return
        raise Malformed("Yrs could not read an update or a document.") from None  # its text may hold content

    def text(self, txn: Transaction) -> Text:
        return self.doc.get_or_insert_text(txn, _TEXT)

    def keys(self, txn: Transaction) -> list[str]:
        return list(self.root.keys(txn))  # type: ignore[attr-defined]  # missing in pycrdt's stub

    def listen(self) -> None:
        """Keep the updates of later commits. The callback knows only the list: no cycle through Rust."""
        if self._subscription is None:
            self.commit()
            keep = self._updates.append
            self._subscription = self.doc.observe(lambda event: keep(event.update))

    def commit(self) -> None:
        with self as txn:
            txn.commit()
            txn.drop()
        self._txn = None

    def take(self) -> list[bytes]:
        """The updates committed since the last call."""
        self.commit()
        taken = self._updates.copy()
        self._updates.clear()
        return taken

    def merge(self, update: bytes) -> None:
        """Apply `update` in a transaction of its own, keeping no event of it."""
        self.commit()
        own = len(self._updates)
        with self as txn:
            self.doc.apply_update(txn, update)
        self.commit()
        del self._updates[own:]

    def again(self, state: bytes) -> _Yrs:
        """The same, loaded anew from `state`, with the updates that were not taken yet."""
        fresh = _Yrs(self._client)
        fresh.merge(state)
        fresh._updates += self.take()
        return fresh

    def poison(self) -> None:
        self._poisoned = True
        self._txn = None


def merge_updates(updates: Sequence[bytes]) -> bytes:
    """One update that says what `updates`, of one writer and in order, say together."""
    return updates[0] if len(updates) == 1 else _merge_updates(tuple(updates))


def content_hash(slots: Iterable[Slot], text: str, fold_version: int) -> bytes:
    """:meth:`Document.content_hash` of a document with these slots, by name and writer, and this text."""
    said = [[s.name, s.writer, clock.to_text(s.hlc), s.value, s.seen] for s in slots]
    content = values.pack([fold_version, said, text])
    return blake2b(content, digest_size=32, person=b"aico.content.1").digest()


def check_field(field: str) -> str:
    """`field` itself, if it can name a field: ``[a-z][a-z0-9_]{0,63}``.

    Raises:
        InvalidValue: otherwise.
    """
    if type(field) is not str or not _FIELD.fullmatch(field):
        raise InvalidValue("A field's name is a small letter and up to 63 small letters, digits or _.")
    return field


def check_writer(writer: str) -> str:
    """`writer` itself, if it can name a writer: 20 characters of base64url.

    Raises:
        InvalidValue: otherwise.
    """
    if type(writer) is not str or not _WRITER.fullmatch(writer):
        raise InvalidValue(f"A writer's name is {WRITER_CHARS} characters of base64url.")
    return writer


def member(field: str, element: str) -> str:
    """The slot name of `element` in the set `field`.

    Raises:
        InvalidValue: no field's name, or the element is not text of 1 to MAX_ELEMENT_BYTES in UTF-8.
    """
    if type(element) is not str or not 0 < values.text_bytes(element) <= MAX_ELEMENT_BYTES:
        raise InvalidValue(f"An element of a set is text of 1 to {MAX_ELEMENT_BYTES} bytes.")
    return f"{check_field(field)}/{element}"


def _slot(key: str, raw: Any) -> Slot | None:
    """The slot that a key and its value make; None if they make none, for a peer may put anything there."""
    name, _, writer = key.rpartition("@")
    if not _WRITER.fullmatch(writer) or type(raw) is not list or not 2 <= len(raw) <= 3:
        return None
    try:
        hlc = clock.from_text(raw[0])
        value = values.plain(raw[1])
        seen = _seen(raw[2]) if len(raw) == 3 else None
        _check_slot(name, value, seen)
    except InvalidValue:
        return None
    return Slot(name, writer, hlc, value, seen)


def _check_slot(name: str, value: Any, seen: tuple[str, ...] | None) -> None:
    """Raise InvalidValue unless a slot of that name may hold that value."""
    field, slash, element = name.partition("/")
    if slash:
        member(field, element)
        if type(value) is not bool or (value and seen is not None):
            raise InvalidValue("A set's slot holds true, or false and the births it saw.")
    elif name != BORN:
        check_field(name)
    elif type(value) is not dict or seen is not None:
        raise InvalidValue("A record as born is a dict.")
    else:
        for field in value:
            check_field(field)


def _seen(raw: Any) -> tuple[str, ...]:
    if type(raw) is not list:
        raise InvalidValue("What an editor saw is a list of writers.")
    writers = tuple(check_writer(writer) for writer in raw)
    if any(a >= b for a, b in pairwise(writers)):
        raise InvalidValue("The writers an editor saw are sorted and differ.")
    return writers


def _state_vector(encoded: bytes) -> dict[int, int]:
    """Decode Yrs's own state vector: a count, then client and clock, all lib0 varints."""
    numbers = _varints(encoded)
    return {next(numbers): next(numbers) for _ in range(next(numbers))}


def _varints(encoded: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in encoded:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield number
            number = shift = 0
