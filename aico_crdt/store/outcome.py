"""What became of a delivery, and what a branch that lost its fork had said."""

from __future__ import annotations

from dataclasses import dataclass, field

from aico_crdt.crdt import Slot
from aico_crdt.errors import PeerError
from aico_crdt.feed import Head, Operation
from aico_crdt.store.records import Collection
from aico_crdt.store.transaction import Place


@dataclass(slots=True)
class Outcome:
    """What became of a delivery. `ask` names feeds to ask for from a seq; `forks` feeds with two branches; `rewrite`
    and `repeat` say that this device's own branch lost, and which slots and operations must be written again; `written`
    where they were; `testify` names void entries that ended lives here, which others must hear of."""

    applied: int = 0
    held: int = 0
    rejected: int = 0
    duplicates: int = 0
    refusals: list[PeerError] = field(default_factory=list)
    named: set[tuple[bytes, bytes]] = field(default_factory=set)
    ask: list[tuple[bytes, bytes, int]] = field(default_factory=list)
    forks: list[tuple[bytes, bytes, int]] = field(default_factory=list)
    own_feed: bool = False
    rewrite: list[Lost] = field(default_factory=list)
    repeat: list[tuple[Collection, Operation]] = field(default_factory=list)
    written: list[Place] = field(default_factory=list)
    testify: list[tuple[Collection, Head]] = field(default_factory=list)
    revoked: bool = False
    heads: dict[bytes, list[Head]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lost:
    """What a lost branch of this device had done to one life of one document.

    Attributes:
        said: slots it had set.
        struck: slots it had replaced or removed, its own of before the fork included.
        text: what the text reads without the branch, and what it read with it.
    """

    collection: Collection
    document: str
    life: int
    said: tuple[Slot, ...]
    struck: tuple[Slot, ...]
    text: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Seen:
    """A document as it reads at one moment. `id` is empty when it does not live here as a whole."""

    id: str = ""
    life: int = 0
    slots: tuple[Slot, ...] = ()
    text: str = ""


def lost_of(collection: Collection, writer: str, before: Seen, after: Seen) -> Lost | None:
    """What the branch that `writer` lost had done to a document that read `before` with it and `after` without."""
    if not before.id:
        return None
    there = {(slot.name, slot.writer, slot.hlc) for slot in after.slots}
    with_it = {(slot.name, slot.writer, slot.hlc) for slot in before.slots}
    said = [s for s in before.slots if s.writer == writer and (s.name, s.writer, s.hlc) not in there]
    struck = tuple(s for s in after.slots if (s.name, s.writer, s.hlc) not in with_it)
    if not said and not struck and before.text == after.text:
        return None
    return Lost(collection, before.id, before.life, tuple(said), struck, (after.text, before.text))
