"""Counter that moves both ways: each writer keeps its own total, and the fold adds them up.

Specification: the sum of all increments, and of what births start with. Totals are whole numbers; a writer's
slot only ever holds the newest of its own totals, so duplicates and order cannot count twice (Shapiro et al.,
*A comprehensive study of convergent and commutative replicated data types*, 2011: state-based counters).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aico_crdt.crdt.document import BORN, Slot
from aico_crdt.crdt.register import Field


def total(field: str, slots: Iterable[Slot]) -> int:
    """The counter `field` out of all slots of a document; 0 if nobody counted."""
    slots = tuple(slots)
    return _total(field, [s for s in slots if s.name == field], [s for s in slots if s.name == BORN])


def tally(field: str, slots: Sequence[Slot], births: Sequence[Slot]) -> Field:
    """The fold of a counter; concurrent increments are no conflict."""
    return Field(_total(field, slots, births))


def _total(field: str, slots: Sequence[Slot], births: Sequence[Slot]) -> int:
    counts = [s.value for s in slots] + [birth.value.get(field) for birth in births]
    return sum(count for count in counts if type(count) is int)
