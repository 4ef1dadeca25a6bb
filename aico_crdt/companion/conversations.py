"""Conversations: a head document each, and every message a document of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from aico_crdt.companion import fields
from aico_crdt.errors import NotFound
from aico_crdt.store import Row, Transaction

if TYPE_CHECKING:
    from aico_crdt.companion.store import Store

KIND: Final = "conversation"


class Conversations:
    """The conversations of one store. Thread-safe as the store is."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def start(self, *, id: str | None = None, within: Transaction | None = None, **values: Any) -> str:
        """Begin a conversation. Returns its id.

        Raises:
            InvalidValue: an unknown field or a value out of range.
        """
        now = self._store.now_ms()
        values.setdefault("created_at", now)
        values.setdefault("updated_at", values["created_at"])
        checked = fields.check("conversation", fields.CONVERSATION, values, whole=True)
        with self._store.joining(within) as transaction:
            return transaction.create(KIND, checked, id=id, space=self._store.space_for(checked))

    def say(
        self,
        conversation_id: str,
        role: str,
        text: str,
        *,
        id: str | None = None,
        within: Transaction | None = None,
        **values: Any,
    ) -> str:
        """Add a message to a conversation; it is durable when this returns. Returns the message's id.

        The message is born in the conversation's own space.

        Raises:
            NotFound: no such conversation here. InvalidValue: an unknown field or a value out of range.
        """
        now = self._store.now_ms()
        values = {"timestamp": now, **values, "conversation_id": conversation_id, "role": role, "text": text}
        values.setdefault("interaction_device", self._store.device_label)
        checked = fields.check("message", fields.MESSAGE, values, whole=True)
        with self._store.joining(within) as transaction:
            head = transaction.read(KIND, conversation_id)
            if head is None or "role" in head.fields:
                raise NotFound(f"There is no conversation {conversation_id} here.", "Start it first, or sync.")
            return transaction.create(KIND, checked, id=id, space=head.space)

    def edit(self, document_id: str, *, within: Transaction | None = None, **values: Any) -> None:
        """Change fields of a conversation or a message; None clears one."""
        with self._store.joining(within) as transaction:
            row = transaction.read(KIND, document_id)
            if row is None:
                raise NotFound(f"There is no conversation or message {document_id} here.", "Check the id.")
            message = "role" in row.fields
            known = fields.MESSAGE if message else fields.CONVERSATION
            checked = fields.check("message" if message else "conversation", known, values, whole=False)
            change(transaction, KIND, row, checked)

    def get(self, conversation_id: str) -> Row:
        """The head of a conversation. Raises NotFound."""
        return self._store.get(KIND, conversation_id)

    def messages(
        self, conversation_id: str, *, limit: int = 50, before: Row | str | None = None, before_ms: int | None = None
    ) -> list[Row]:
        """The last messages of a conversation, oldest first: by their timestamps, and those of one millisecond in the
        order in which they were said, which no edit of their text changes. It is the same on every device.

        Args:
            before: the oldest message seen so far, or its id: only messages before it, so that pages neither skip nor
                repeat one. Pass the row where it may be forgotten or edited meanwhile.
            before_ms: only messages of earlier timestamps (Unix ms); all of that millisecond are left out.

        Raises:
            NotFound: `before` is an id that is no message of this conversation here.
        """
        last = (1 << 64) - 1 if before_ms is None else before_ms - 1
        if last < 0:
            return []
        found = self._store.query(
            KIND, "conversation", conversation_id, last=last, limit=limit, newest_first=True, after=before
        )
        return found[::-1]

    def recent(self, *, limit: int = 20) -> list[Row]:
        """Heads of conversations, latest first."""
        return self._store.query(KIND, "head", limit=limit, newest_first=True)

    def recent_messages(self, *, limit: int = 50, device: str | None = None) -> list[Row]:
        """Messages of all conversations, latest first; of one interaction device when given."""
        if device is not None:
            return self._store.query(KIND, "device", device, limit=limit, newest_first=True)
        return self._store.query(KIND, "message", limit=limit, newest_first=True)

    def forget(self, document_id: str, *, now: bool = False) -> None:
        """Forget a message, or a conversation with its messages that are here.

        Raises:
            NotFound: no such document. Forbidden: neither its creator nor a full-trust device.
        """
        row = self._store.get(KIND, document_id)
        messages: Sequence[Row] = ()
        if "role" not in row.fields:
            messages = self._store.query(KIND, "conversation", document_id, limit=100_000)
        self._store.forget_all([(KIND, message.id) for message in messages] + [(KIND, document_id)], now=now)


def change(transaction: Transaction, kind: str, row: Row, checked: Mapping[str, Any]) -> None:
    """Edit a record: registers by writing, the set `tags` by adding and discarding."""
    registers = {name: value for name, value in checked.items() if name != "tags"}
    if registers:
        transaction.edit(kind, row.id, registers)
    if "tags" in checked:
        before, after = set(row.get("tags", ())), set(checked["tags"] or ())
        if before - after:
            transaction.discard(kind, row.id, "tags", sorted(before - after))
        if after - before:
            transaction.add(kind, row.id, "tags", sorted(after - before))
