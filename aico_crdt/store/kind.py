"""What the store must know of a kind of document: how it folds to a row and under which index keys it is found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from aico_crdt.crdt import Slot


class Version(NamedTuple):
    """One of several concurrent values of a field: who wrote it (the 20-character writer), when (HLC) and what."""

    writer: str
    hlc: int
    value: Any


class Folded(NamedTuple):
    """A document as its reader sees it: `fields`, and per field in conflict every open version, newest first."""

    fields: dict[str, Any]
    conflicts: dict[str, tuple[Version, ...]]


class IndexKey(NamedTuple):
    """Where a row is found: an index by name, the value under which (empty for "all"), and its order there (Unix
    milliseconds, or any integer of 64 bits)."""

    name: str
    value: str
    order: int


class Kind(Protocol):
    """A kind of document. Both functions are pure: equal slots give equal rows on every device.

    `version` is that of the fold and goes into every content hash: a device with another fold is not told that it
    is equal. `derived` says whether its documents may be born on several devices under one id.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int: ...

    @property
    def derived(self) -> bool: ...

    def fold(self, document: str, slots: Sequence[Slot], text: str) -> Folded: ...

    def index(self, fields: Mapping[str, Any]) -> Iterable[IndexKey]: ...


@dataclass(frozen=True, slots=True)
class Row:
    """What a reader gets of one document.

    `hlc` is the newest stamp in it, `born` that of its birth; `device` the 12-character name of the device that bore
    it; `stub` says that only its existence is known here, its body being elsewhere (fields are empty then).
    """

    kind: str
    id: str
    space: str
    life: int
    fields: dict[str, Any]
    conflicts: dict[str, tuple[Version, ...]] = field(default_factory=dict)
    hlc: int = 0
    device: str = ""
    stub: bool = False
    born: int = 0

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.fields.get(name, default)
