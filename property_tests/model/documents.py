"""Documents: registers by observed remove, in lives.

A field's live values are its writes that no other write of it has in its causal past (Bieniusa et al., *An
optimized conflict-free replicated set*, 2012): two live values are two writes that did not know of each
other, an open conflict. A forget kills a life and all before it; whatever is written to a dead life never
shows, whenever it comes. A document shows its newest life.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from property_tests.model.causality import pasts
from property_tests.model.entry import Entries, Entry, Forget, Write

Key = tuple[str, str]
"""(collection, document)"""


class Slot(NamedTuple):
    """One live value of a field: who wrote it when, and the entry that set it."""

    field: str
    device: str
    incarnation: str
    hlc: int
    value: str
    entry: str


class Document(NamedTuple):
    """What a replica knows of the newest life of a document; slots sorted."""

    life: int
    slots: tuple[Slot, ...]


def tombstones(entries: Iterable[Entry], known: Mapping[Key, int] | None = None) -> dict[Key, int]:
    """The greatest dead life of each document forgotten."""
    dead = dict(known or {})
    for entry in entries:
        for operation in entry.operations:
            if isinstance(operation, Forget):
                key = entry.collection, operation.document
                dead[key] = max(operation.life, dead.get(key, 0))
    return dict(sorted(dead.items()))


def documents(
    entries: Entries,
    bodies: Mapping[Key, Document] | None = None,
    dead: Mapping[Key, int] | None = None,
    void: Entries = frozenset(),
) -> dict[Key, Document]:
    """What `entries`, all of them applied, make of the documents; keys sorted.

    Args:
        bodies: documents that the entries build on, where earlier operations are gone; their headers are not.
        dead: tombstones to respect besides those in `entries`.
        void: entries of lost branches: they count for nothing, but who built on one had seen what was before it.
    """
    past = pasts(entries | void)
    dead = tombstones(entries, dead)
    slots: defaultdict[Key, list[tuple[int, Slot]]] = defaultdict(list)
    for key, document in (bodies or {}).items():
        slots[key] += [(document.life, slot) for slot in document.slots]
    for entry in entries:
        for key, life, field, value in _written(entry):
            slot = Slot(field, entry.device, entry.incarnation, entry.hlc, value, entry.hash)
            slots[key].append((life, slot))
    overwritten = {
        (key, life, field, earlier)
        for entry in entries
        for key, life, field, _ in _written(entry)
        for earlier in past[entry.hash]
    }
    shown = {}
    for key in sorted(slots):
        alive = {
            (life, slot)
            for life, slot in slots[key]
            if life > dead.get(key, 0) and (key, life, slot.field, slot.entry) not in overwritten
        }
        if alive:
            newest = max(life for life, _ in alive)
            shown[key] = Document(newest, tuple(sorted(slot for life, slot in alive if life == newest)))
    return shown


def _written(entry: Entry) -> Iterable[tuple[Key, int, str, str]]:
    """(document, life, field, value): within one entry the last write of a field is the one."""
    last = {
        ((entry.collection, operation.document), operation.life, field): value
        for operation in entry.operations
        if isinstance(operation, Write)
        for field, value in operation.slots
    }
    return [(*where, value) for where, value in last.items()]
