"""The kinds of documents in a simulated family: the companion's own, and memories that count as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aico_crdt.companion.kinds import KINDS as COMPANION
from aico_crdt.companion.kinds import RecordKind
from aico_crdt.crdt import Slot, total
from aico_crdt.store import Folded, Kind

RECALLS: Final = "recalls"
"""The counter of a memory."""
TAGS: Final = "tags"


@dataclass(frozen=True)
class CountingKind(RecordKind):
    """A companion's memory with a counter in it."""

    def fold(self, document: str, slots: Sequence[Slot], text: str) -> Folded:
        found = super().fold(document, [slot for slot in slots if slot.field != RECALLS], text)
        count = total(RECALLS, slots)
        return Folded({**found.fields, **({RECALLS: count} if count else {})}, found.conflicts)


def _counting(kind: RecordKind) -> RecordKind:
    return CountingKind(kind.name, kind.version, kind.derived, kind.times, kind.by) if kind.name == "memory" else kind


KINDS: Final[tuple[Kind, ...]] = tuple(_counting(kind) for kind in COMPANION)
