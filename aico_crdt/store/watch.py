"""Watching: the change log read as a stream, resumable from a cursor, woken by every process's commits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from aico_crdt.errors import InvalidValue
from aico_crdt.store import layout, rows
from aico_crdt.store.kind import Row
from aico_crdt.store.records import Counters, Records, unpack
from aico_crdt.store.workspace import BORN, CHANGED, FETCHED, FORGOTTEN

if TYPE_CHECKING:
    from aico_crdt.store.store import DocumentStore
    from aico_crdt.store.wake import Ear

WHAT: Final = {BORN: "born", CHANGED: "changed", FORGOTTEN: "forgotten", FETCHED: "fetched"}
READ_AT_ONCE: Final = 1000
"""Change records read in one snapshot, so that a long catch-up holds no page back."""
RECHECK_S: Final = 5.0
"""A ring that was lost is made up within this time."""


@dataclass(frozen=True, slots=True)
class Change:
    """One document that changed. `cursor` resumes after it; `what` is born, changed, fetched, forgotten or erased;
    `row` its present value, None once it is forgotten (`id` is empty when its key is gone too)."""

    cursor: int
    kind: str
    id: str
    space: str
    what: str
    row: Row | None


class Watch:
    """An endless iterator of changes. Not thread-safe; close it, or use it as a context manager.

    Several changes of one document between two looks are told once, as the latest.
    """

    def __init__(
        self,
        store: DocumentStore,
        kind: str | None = None,
        filter: Callable[[Row], bool] | None = None,
        *,
        cursor: int | None = None,
    ) -> None:
        if kind is not None and kind not in store.kinds:
            raise InvalidValue(f"There is no kind {kind!r} in this store.", f"Kinds: {', '.join(sorted(store.kinds))}.")
        self._store = store
        self._kind = kind
        self._filter = filter
        self._ear: Ear = store.bell.listen()
        self._stopped = threading.Event()
        self.cursor = store.counters().change if cursor is None else cursor

    @property
    def ear(self) -> Ear:
        """What rings when there may be more."""
        return self._ear

    def take(self, limit: int = READ_AT_ONCE) -> list[Change]:
        """What has changed since the cursor, at most `limit` log records, without waiting. Moves the cursor.

        Raises:
            InvalidValue: the log no longer reaches back to the cursor: read everything anew and watch from now.
        """
        found: dict[tuple[int, bytes], Change] = {}
        with self._store.reading() as (_, records):
            oldest = next(iter(records.scan_raw(b"L")), None)
            newest = Counters.load(records).change
            if self.cursor > newest or (
                self.cursor < newest and (oldest is None or int.from_bytes(oldest[0][1:], "big") > self.cursor + 1)
            ):
                raise InvalidValue(
                    "The change log does not reach back to this cursor.", "Read all rows anew and watch from now on."
                )
            log = records.scan(b"L", layout.change(self.cursor + 1))
            for key, value in islice(log, limit):
                number = int.from_bytes(key[1:], "big")
                change = self._change(records, number, value)
                if change is not None:
                    name = (int.from_bytes(value[:2], "big"), value[2:18])
                    found.pop(name, None)
                    found[name] = change
                self.cursor = number
        return list(found.values())

    def _change(self, records: Records, number: int, value: bytes) -> Change | None:
        collection_number, key, life, what, _ = unpack(layout.CHANGE, value, "change")
        core_collections = self._store.directory.collections.values()
        collection = next((c for c in core_collections if c.number == collection_number), None)
        if collection is None or (self._kind is not None and collection.kind != self._kind):
            return None
        row, document_id = rows.peek(self._store.core, records, collection, key)
        if row is None:
            if self._filter is not None and what != FORGOTTEN:
                return None
            return Change(number, collection.kind, document_id, collection.space, WHAT[FORGOTTEN], None)
        if row.life != life and what == FORGOTTEN:
            return None  # born again since: the later record tells
        if self._filter is not None and not self._filter(row):
            return None
        return Change(number, collection.kind, row.id, collection.space, WHAT[what], row)

    def __iter__(self) -> Iterator[Change]:
        while not self._stopped.is_set():
            changes = self.take()
            yield from changes
            if not changes and self.cursor >= self._store.counters().change:
                self._ear.wait(RECHECK_S)

    def close(self) -> None:
        """End the iteration, also of another thread that waits in it."""
        self._stopped.set()
        self._ear.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
