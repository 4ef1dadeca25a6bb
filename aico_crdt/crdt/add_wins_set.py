"""Add-wins set of texts (Bieniusa et al., *An optimized conflict-free replicated set*, 2012).

Specification, over operations and their causal pasts: an element is in the set if some operation puts it
there (an add, or a birth whose list holds it) that no discard of the element has in its past.

An add sets the writer's own slot ``field/element``; a discard deletes the slots of the element it has seen.
What a birth holds cannot be deleted, so a discard of it leaves a slot that says false.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from aico_crdt.crdt.document import BORN, Slot
from aico_crdt.crdt.register import Field


def members(field: str, slots: Iterable[Slot]) -> tuple[str, ...]:
    """The elements of the set `field`, sorted by code point, out of all slots of a document."""
    slots = tuple(slots)
    own = [s for s in slots if s.field == field]
    return _members(field, own, [s for s in slots if s.name == BORN])


def union(field: str, slots: Sequence[Slot], births: Sequence[Slot]) -> Field:
    """The fold of a set: its value is the sorted list of elements; concurrent adds are no conflict."""
    return Field(list(_members(field, slots, births)))


def born_elements(birth: Slot, field: str) -> list[Any]:
    """What a record as born lists under `field`; nothing if that is no list."""
    listed = birth.value.get(field)
    return listed if type(listed) is list else []


def _members(field: str, slots: Sequence[Slot], births: Sequence[Slot]) -> tuple[str, ...]:
    present = {s.element for s in slots if s.value is True}
    gone: dict[str | None, list[Slot]] = {}
    for slot in slots:
        if slot.value is False:
            gone.setdefault(slot.element, []).append(slot)
    for birth in births:
        for element in born_elements(birth, field):
            if type(element) is str and not any(_saw(discard, birth) for discard in gone.get(element, ())):
                present.add(element)
    return tuple(sorted(element for element in present if element is not None))


def _saw(discard: Slot, birth: Slot) -> bool:
    return discard.seen is None or birth.writer in discard.seen
