"""Multi-value register by observed remove, and the folds that turn its slots into what a reader sees.

A write deletes the slots its author has seen and sets its own (observed remove without tombstones: Bieniusa
et al., *An optimized conflict-free replicated set*, 2012), so writes that did not know of each other stay
side by side. Specification, over operations and their causal pasts: the live values of a field are its writes
that no other write of it has in its past; a birth counts until some write of the field has it in its past or,
in a document that is born once, until there is any.

Everything here is pure and does not depend on the order of the slots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aico_crdt.crdt import value as values
from aico_crdt.crdt.document import BORN, Slot
from aico_crdt.ids import DEVICE_NAME_CHARS


@dataclass(frozen=True, slots=True)
class Candidate:
    """One live value of a register; `born` if it comes from the record as born and not from an edit."""

    value: Any
    hlc: int
    writer: str
    born: bool

    @property
    def device(self) -> str:
        """The 12-character name of the device that wrote it."""
        return self.writer[:DEVICE_NAME_CHARS]

    @property
    def age_key(self) -> tuple[int, str, bool]:
        """Sorts older candidates first; no two candidates of one register share it."""
        return self.hlc, self.writer, not self.born


@dataclass(frozen=True, slots=True)
class Field:
    """What a reader sees of one field.

    `conflict` holds one candidate for each of the differing live values, newest first, and is empty without a
    conflict; `winner` is the candidate whose value was chosen, None where the value was computed.
    """

    value: Any
    conflict: tuple[Candidate, ...] = ()
    winner: Candidate | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """What a resolver may know besides the candidates: the field, and the devices the record was born on."""

    field: str
    born_on: frozenset[str]


class Resolver(Protocol):
    """Chooses or computes one value out of two or more differing ones.

    Must be a pure function: every replica has to choose alike. `candidates` come oldest first.
    """

    def __call__(self, candidates: Sequence[Candidate], context: Context, /) -> Any: ...


class Fold(Protocol):
    """Turns the live slots of one field and the births into a Field; pure, whatever their order."""

    def __call__(self, field: str, slots: Sequence[Slot], births: Sequence[Slot], /) -> Field | None: ...


def last_writer(candidates: Sequence[Candidate], context: Context) -> Any:
    """The newest by hybrid logical clock; writer names break a tie."""
    return max(candidates, key=_age_key).value


def device_first(device: str | None = None) -> Resolver:
    """Prefer what `device` wrote, by default the device where the record was born; then the newest."""

    def resolve(candidates: Sequence[Candidate], context: Context) -> Any:
        preferred = context.born_on if device is None else {device}
        return last_writer([c for c in candidates if c.device in preferred] or candidates, context)

    return resolve


def tier_first(order: Sequence[str], tier_of: Callable[[str], str | None]) -> Resolver:
    """Prefer the device whose tier stands first in `order`; unknown tiers come last; then the newest.

    Args:
        order: tiers, the most trusted first.
        tier_of: from a device's 12-character name to its tier; the same on every replica.
    """
    rank = {tier: place for place, tier in enumerate(order)}

    def resolve(candidates: Sequence[Candidate], context: Context) -> Any:
        ranks = [rank.get(tier_of(c.device) or "", len(rank)) for c in candidates]
        best = min(ranks)
        return last_writer([c for c, r in zip(candidates, ranks, strict=True) if r == best], context)

    return resolve


def merge_by(propose: Callable[[list[Any]], Any]) -> Resolver:
    """Show what `propose` makes of the differing values, oldest first; the conflict stays open until a write.

    `propose` must be pure; what it returns must be a plain value.
    """

    def resolve(candidates: Sequence[Candidate], context: Context) -> Any:
        return propose([c.value for c in candidates])

    return resolve


@dataclass(frozen=True, slots=True)
class Register:
    """The live values of one field, oldest first."""

    name: str
    candidates: tuple[Candidate, ...]
    born_on: frozenset[str]

    @classmethod
    def of(cls, name: str, slots: Iterable[Slot]) -> Register:
        """The register `name` out of all slots of a document."""
        slots = tuple(slots)
        edits = [s for s in slots if s.name == name]
        return cls.of_parts(name, edits, [s for s in slots if s.name == BORN])

    @classmethod
    def of_parts(cls, name: str, edits: Sequence[Slot], births: Sequence[Slot]) -> Register:
        """The register out of its own slots and the births.

        A document that is born once writes no `seen`, and any edit replaces the birth. In one that may be
        born more than once a birth stays live until an edit has seen it.
        """
        live = [Candidate(s.value, s.hlc, s.writer, False) for s in edits]
        blind = [s for s in edits if s.seen is None]
        seen = {writer for s in edits for writer in s.seen or ()}
        if not blind:
            live += [
                Candidate(s.value[name], s.hlc, s.writer, True)
                for s in births
                if s.writer not in seen and name in s.value
            ]
        live.sort(key=_age_key)
        return cls(name, tuple(live), frozenset(s.writer[:DEVICE_NAME_CHARS] for s in births))

    def resolve(self, resolver: Resolver = last_writer) -> Field | None:
        """What a reader sees; None if the field was never written."""
        if not self.candidates:
            return None
        if len(self.candidates) == 1:
            return Field(self.candidates[0].value, (), self.candidates[0])
        newest_by_value = {values.pack(c.value): c for c in self.candidates}
        if len(newest_by_value) == 1:
            newest = self.candidates[-1]
            return Field(newest.value, (), newest)
        conflict = tuple(sorted(newest_by_value.values(), key=_age_key, reverse=True))
        value = values.plain(resolver(self.candidates, Context(self.name, self.born_on)))
        return Field(value, conflict, newest_by_value.get(values.pack(value)))


def register(resolver: Resolver = last_writer) -> Fold:
    """The fold of a field whose conflicts `resolver` settles."""

    def fold(field: str, slots: Sequence[Slot], births: Sequence[Slot]) -> Field | None:
        return Register.of_parts(field, slots, births).resolve(resolver)

    return fold


_LAST_WRITER = register()


def record(
    slots: Iterable[Slot], folds: Mapping[str, Fold] | None = None, default: Fold = _LAST_WRITER
) -> dict[str, Field]:
    """What a reader sees of a whole document: field to Field, in order of names.

    Args:
        slots: all live slots.
        folds: how each field folds; sets and counters must be named here.
        default: the fold of every other field.
    """
    births: list[Slot] = []
    edits: dict[str, list[Slot]] = {}
    for slot in slots:
        if slot.name == BORN:
            births.append(slot)
            for field in slot.value:
                edits.setdefault(field, [])
        else:
            edits.setdefault(slot.field, []).append(slot)
    result = {}
    for name in sorted(edits):
        field = (folds or {}).get(name, default)(name, edits[name], births)
        if field is not None:
            result[name] = field
    return result


def _age_key(candidate: Candidate) -> tuple[int, str, bool]:
    return candidate.age_key
