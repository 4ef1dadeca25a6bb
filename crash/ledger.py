"""What was acknowledged, and what a store must therefore hold.

Before a process does anything it tells what that will make of which documents; once the call has returned, it tells
that it did. So after a kill the store must hold all that was done, and of what was begun last the whole or nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from aico_crdt.store import DocumentStore

State = dict[str, Any]
"""Public id → value; None for what was forgotten. ``shared.NAME`` is one field of the document ``shared``."""

WILL: Final = "will"
DID: Final = "did"
SHARED: Final = "shared"
KINDS: Final = ("conversation", "memory")


def mark(value: Any) -> Any:
    """A short stand-in for a long text, so that what is told of it fits a pipe."""
    if not isinstance(value, str) or len(value) <= 64:
        return value
    return f"{value[:24]}…{len(value)}:{blake2b(value.encode(), digest_size=8).hexdigest()}"


@dataclass(slots=True)
class Ledger:
    """`done` is what was acknowledged so far; `begun`, by who began it, what has not been."""

    done: State = field(default_factory=dict)
    begun: dict[str, State] = field(default_factory=dict)
    acknowledged: int = 0

    def hear(self, who: str, lines: Iterable[list[Any]]) -> None:
        """Take what one process told, in its order. Anything but WILL and DID is left to others."""
        for word, *rest in lines:
            if word == WILL:
                self.begun[who] = rest[0]
            elif word == DID:
                self.done.update(self.begun.pop(who))
                self.acknowledged += 1

    def faults(self, observed: Mapping[str, Any]) -> list[str]:
        """How `observed` differs from every state that is possible now; empty when it is one of them."""
        expected = dict(self.done)
        for effects in self.begun.values():
            after = {**expected, **effects}
            if all(observed.get(key) == value for key, value in effects.items()):
                expected = after
        found = []
        for key in sorted(expected.keys() | observed.keys()):
            wanted, there = expected.get(key), observed.get(key)
            if wanted == there:
                continue
            if wanted is None:
                what = "was forgotten and is back" if key in expected else "was never acknowledged as a whole"
            else:
                what = "is missing" if there is None else f"is {there!r}, not {wanted!r}"
            found.append(f"{key} {what}")
        return found

    def settle(self, who: str, observed: Mapping[str, Any]) -> None:
        """`who` died: what it had begun is done if it shows, and never happened if not."""
        effects = self.begun.pop(who, None)
        if effects and all(observed.get(key) == value for key, value in effects.items()):
            self.done.update(effects)


def observe(store: DocumentStore) -> State:
    """What a store holds, in the terms of a ledger."""
    found: State = {}
    for kind in KINDS:
        for row in store.rows(kind):
            if row.id == SHARED:
                found |= {f"{SHARED}.{name}": value for name, value in row.fields.items() if name != "content"}
            else:
                found[row.id] = "a stub" if row.stub else mark(row.fields.get("text", row.fields.get("content")))
    return found
