"""The abstract entry: a header, and operations in place of sealed items.

Devices, incarnations, hashes, collections and documents are texts. An entry *is* what its hash names: the
model never meets two entries with one hash and different headers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, NamedTuple

DIRECTORY: Final = "directory"
"""The collection that trust statements live in."""
GENESIS: Final = ""
"""``prev`` of a feed's first entry."""


class Head(NamedTuple):
    """An entry named from within its collection."""

    device: str
    incarnation: str
    seq: int
    hash: str


class Write(NamedTuple):
    """Birth or edit: sets fields of one life of a document. Birth of life + 1 is a rebirth."""

    document: str
    life: int
    slots: tuple[tuple[str, str], ...]


class Forget(NamedTuple):
    """Ends one life of a document, and with it all lives before."""

    document: str
    life: int


class Found(NamedTuple):
    """Statement: this family begins; its author is the founder, with full trust."""


class Admit(NamedTuple):
    """Statement: `device` belongs to the family, with `trust` full, limited, relay or guest."""

    device: str
    trust: str


class Revoke(NamedTuple):
    """Statement: of `device` no more counts than the `heads` (collection, incarnation, seq); unnamed feeds: nothing."""

    device: str
    heads: tuple[tuple[str, str, int], ...]


Operation = Write | Forget | Found | Admit | Revoke
_OPERATIONS: Final = {"write": Write, "forget": Forget, "found": Found, "admit": Admit, "revoke": Revoke}


class Feed(NamedTuple):
    """What one incarnation of a device writes in one collection."""

    collection: str
    device: str
    incarnation: str


@dataclass(frozen=True)
class Entry:
    """One atomic change. `prev` and `deps` name what its author had applied; `hlc` orders ties, never causes."""

    collection: str
    device: str
    incarnation: str
    seq: int
    hash: str
    prev: str
    deps: tuple[Head, ...]
    hlc: int
    operations: tuple[Operation, ...]

    def __hash__(self) -> int:
        return hash(self.hash)

    @cached_property
    def feed(self) -> Feed:
        return Feed(self.collection, self.device, self.incarnation)

    @property
    def head(self) -> Head:
        return Head(self.device, self.incarnation, self.seq, self.hash)

    @cached_property
    def links(self) -> frozenset[str]:
        """Hashes of all it directly stands on."""
        return frozenset({dep.hash for dep in self.deps} | {self.prev}) - {GENESIS}

    def bare(self) -> Entry:
        """What is left of it below a base: which documents it wrote (who bore them), nothing of what it said."""
        touched = (op._replace(slots=()) for op in self.operations if isinstance(op, Write))
        return replace(self, operations=tuple(touched))


Entries = frozenset[Entry]
Hashes = frozenset[str]


def by_hash(entries: Iterable[Entry]) -> dict[str, Entry]:
    return {entry.hash: entry for entry in entries}


def hashes(entries: Iterable[Entry]) -> Hashes:
    return frozenset(entry.hash for entry in entries)


def read_entry(plain: Sequence[Any]) -> Entry:
    """The entry that a plain tuple describes (see the package's docstring for the shape).

    Raises:
        ValueError: not of that shape.
    """
    collection, device, incarnation, seq, own_hash, prev, deps, hlc, operations = plain
    prev = GENESIS if isinstance(prev, bytes) and not any(prev) else _text(prev)
    if seq < 1 or (seq == 1) != (prev == GENESIS):
        raise ValueError("an entry has no predecessor exactly when its seq is 1")
    return Entry(
        _text(collection), _text(device), _text(incarnation), seq, _text(own_hash), prev,
        tuple(Head(_text(d), _text(i), s, _text(h)) for d, i, s, h in deps),
        hlc, tuple(_read_operation(operation) for operation in operations),
    )  # fmt: skip


def _read_operation(plain: Sequence[Any]) -> Operation:
    name, *fields = plain
    if name not in _OPERATIONS:
        raise ValueError(f"the model knows no operation {name!r}")
    operation: Operation = _OPERATIONS[name](*(_texts(field) for field in fields))
    return operation


def _texts(field: Any) -> Any:
    return tuple(_texts(part) for part in field) if isinstance(field, (tuple, list)) else _text(field)


def _text(field: Any) -> Any:
    return field.hex() if isinstance(field, bytes) else field
