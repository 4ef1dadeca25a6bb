"""Memories: what a companion knows of a person, one document each.

The same content stored under the same namespace, peer and key is one memory, on whichever devices it was stored: its
id is derived from these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aico_crdt import ids
from aico_crdt.companion import fields
from aico_crdt.companion.conversations import change
from aico_crdt.errors import NotFound
from aico_crdt.store import Row, Transaction

if TYPE_CHECKING:
    from aico_crdt.companion.store import Store

KIND: Final = "memory"


class Memories:
    """The memories of one store. Thread-safe as the store is."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(
        self,
        content: str,
        *,
        id: str | None = None,
        append: bool = False,
        within: Transaction | None = None,
        **values: Any,
    ) -> str:
        """Store a memory; it is durable when this returns. Returns its id, that of the present one if it is here.

        Args:
            append: always make a new one, for logged exchanges.

        Raises:
            InvalidValue: an unknown field or a value out of range.
        """
        now = self._store.now_ms()
        values = {"created_at": now, "device_id": self._store.device_label, **values, "content": content}
        values.setdefault("updated_at", values["created_at"])
        checked = fields.check("memory", fields.MEMORY, values, whole=True)
        space = self._store.space_for(checked)
        with self._store.joining(within) as transaction:
            if id is None and not append:
                parts = [checked.get(name, "") for name in ("namespace", "about", "key")]
                id = ids.derived_id(self._store.directory.spaces[space].tag_key, KIND, *parts, content)
                if transaction.read(KIND, id) is not None:
                    return id
            return transaction.create(KIND, checked, id=id, space=space)

    def edit(self, memory_id: str, *, within: Transaction | None = None, **values: Any) -> None:
        """Change fields of a memory; None clears one. A concurrent edit elsewhere becomes an open conflict.

        Raises:
            NotFound: no such memory here. InvalidValue: an unknown field or a value out of range.
        """
        checked = fields.check("memory", fields.MEMORY, values, whole=False)
        checked.setdefault("updated_at", self._store.now_ms())
        with self._store.joining(within) as transaction:
            row = transaction.read(KIND, memory_id)
            if row is None:
                raise NotFound(f"There is no memory {memory_id} here.", "Check the id, or sync.")
            change(transaction, KIND, row, checked)

    def get(self, memory_id: str) -> Row:
        """One memory. Raises NotFound."""
        return self._store.get(KIND, memory_id)

    def find(
        self,
        *,
        key: str | None = None,
        tag: str | None = None,
        about: str | None = None,
        namespace: str | None = None,
        device: str | None = None,
        limit: int = 100,
    ) -> list[Row]:
        """Memories by at most one index and any further filters, latest first."""
        wanted = {"key": key, "tag": tag, "about": about, "namespace": namespace, "device": device}
        given = {name: value for name, value in wanted.items() if value is not None}
        if not given:
            return self._store.query(KIND, "time", limit=limit, newest_first=True)
        index, value = next(iter(given.items()))
        found = self._store.query(KIND, index, value, limit=100_000, newest_first=True)
        return [row for row in found if all(_has(row, name, wanted) for name, wanted in given.items())][:limit]

    def forget(self, memory_id: str, *, now: bool = False) -> None:
        """Forget a memory on every device; see the store's undo window."""
        self._store.forget(KIND, memory_id, now=now)


def _has(row: Row, name: str, wanted: str) -> bool:
    if name == "tag":
        return wanted in row.get("tags", ())
    return bool(row.get("device_id" if name == "device" else name) == wanted)
