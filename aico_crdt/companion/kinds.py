"""The kinds of documents a companion keeps: how each folds to a row, and under which keys rows are found.

=============  ==========================  =====================================================
kind           one document is             found by
=============  ==========================  =====================================================
directory      a device's profile          device
emotion        a subject's register        subject
conversation   a conversation's head,      time; messages by conversation, device, time
               or one message
memory         one memory                  time, key, tag, about, device
=============  ==========================  =====================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as _default
from typing import Any, Final

from aico_crdt.crdt import BORN, Field, Fold, Slot, record, register, union
from aico_crdt.store import Folded, IndexKey, Version


def latest(field: str, slots: Sequence[Slot], births: Sequence[Slot]) -> Field | None:
    """The fold of what every edit or birth sets anew: the last writer's, and never a conflict to settle."""
    found = register()(field, slots, births)
    return None if found is None else Field(found.value)


READING: Final = "reading"
"""The field of an emotion register that holds each writer's latest reading."""


@dataclass(frozen=True)
class RecordKind:
    """A kind whose documents are records of registers and sets, folded field by field.

    `times` are the fields that order a row, the first present one counts; `by` maps an index name to the field
    whose value it is found under.
    """

    name: str
    version: int = 1
    derived: bool = False
    times: tuple[str, ...] = ()
    by: Mapping[str, str] = _default(default_factory=dict)

    def fold(self, document: str, slots: Sequence[Slot], text: str) -> Folded:
        if len(slots) == 1 and slots[0].name == BORN and not text:
            return Folded(_as_born(slots[0]), {})
        folds: dict[str, Fold] = {"tags": union, "updated_at": latest, "device_id": latest}
        found = record(slots, folds, register())
        conflicts = {
            name: tuple(Version(c.writer, c.hlc, c.value) for c in seen.conflict)
            for name, seen in found.items()
            if seen.conflict
        }
        fields = {name: seen.value for name, seen in found.items() if seen.value is not None}
        if text:
            fields["body"] = text
        return Folded(fields, conflicts)

    def order(self, fields: Mapping[str, Any]) -> int:
        """Unix milliseconds that order a row; 0 when it has no time."""
        for name in self.times:
            value = fields.get(name)
            if isinstance(value, int) and value >= 0:
                return value
        return 0

    def index(self, fields: Mapping[str, Any]) -> Iterator[IndexKey]:
        order = self.order(fields)
        yield IndexKey("time", "", order)
        yield from self.under(fields, order)

    def under(self, fields: Mapping[str, Any], order: int) -> Iterator[IndexKey]:
        """The index keys by the values of fields."""
        for name, source in self.by.items():
            value = fields.get(source)
            for one in value if isinstance(value, list) else (value,):
                if isinstance(one, str) and one:
                    yield IndexKey(name, one, order)


def _as_born(birth: Slot) -> dict[str, Any]:
    """What the folds make of a record that was born and not changed since, which most are."""
    fields = {name: value for name, value in birth.value.items() if value is not None or name == "tags"}
    if "tags" in fields:
        fields["tags"] = union("tags", (), (birth,)).value
    return fields


@dataclass(frozen=True)
class ConversationKind(RecordKind):
    """Heads and messages live in one collection, so that a conversation travels as one."""

    def index(self, fields: Mapping[str, Any]) -> Iterator[IndexKey]:
        message = "role" in fields
        order = self.order(fields)
        yield IndexKey("message" if message else "head", "", order)
        yield from self.under(fields, order)


@dataclass(frozen=True)
class EmotionKind(RecordKind):
    """Registers and history. A register is one document per subject: every writer's own slot, nothing removed; the
    blend is made when it is read. A document of the history is one reading as it was recorded."""

    def fold(self, document: str, slots: Sequence[Slot], text: str) -> Folded:
        if any(slot.name == "*" for slot in slots):
            return super().fold(document, slots, text)
        readings = [[slot.writer, slot.hlc, slot.value] for slot in slots if slot.name == READING]
        return Folded({"register": document, "readings": readings}, {})

    def index(self, fields: Mapping[str, Any]) -> Iterator[IndexKey]:
        if "register" in fields:
            yield IndexKey("register", "", 0)
        else:
            yield IndexKey("history", str(fields.get("subject", "")), self.order(fields))


KINDS: Final = (
    RecordKind("directory", times=(), derived=True),
    EmotionKind("emotion", derived=True, times=("timestamp",)),
    ConversationKind(
        "conversation",
        times=("timestamp", "updated_at", "created_at"),
        by={"conversation": "conversation_id", "device": "interaction_device", "tag": "tags"},
    ),
    RecordKind(
        "memory",
        derived=True,
        times=("updated_at", "created_at"),
        by={"key": "key", "tag": "tags", "about": "about", "namespace": "namespace", "device": "device_id"},
    ),
)
"""In sync order: the family first, then what costs little, then what is recent talk."""
