"""Emotion: readings as devices perceive them, and the state they blend to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aico_crdt import ids
from aico_crdt.clock import DRIFT_MS
from aico_crdt.companion import fields
from aico_crdt.companion.kinds import READING
from aico_crdt.crdt import Baseline, Blend, Reading, Slot, blend, readings
from aico_crdt.errors import InvalidValue
from aico_crdt.store import Row, Transaction

if TYPE_CHECKING:
    from aico_crdt.companion.store import Store

KIND: Final = "emotion"
MICRO: Final = 1_000_000
HALF_LIFE_S: Final = 30 * 60
"""How fast a feeling fades when a reading does not say: half an hour."""


@dataclass(frozen=True, slots=True)
class EmotionState:
    """A blended feeling as of a time. Valence -1..1, the others 0..1; `agreement` 1 when devices agree."""

    subject: str
    as_of_ms: int
    primary: str
    valence: float
    arousal: float
    dominance: float | None
    intensity: float
    agreement: float
    contributing_devices: tuple[str, ...]
    exact: Blend
    """The same in integer micro-units: equal bytes on every device."""
    resolution_method: str = "emotion_blend"


class Emotions:
    """The emotions of one store. Thread-safe as the store is."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def record(self, subject: str, *, history: bool = True, within: Transaction | None = None, **values: Any) -> str:
        """Record what this device perceives of `subject`; durable when this returns.

        Args:
            history: keep the reading itself as well, and not only its effect on the state.
            values: timestamp (ms, now if absent), valence -1..1, arousal 0..1, confidence 0..1, and optionally
                dominance, intensity, primary, half_life_s and the other fields of a reading.

        Returns:
            the id of the reading in the history, or the subject.

        Raises:
            InvalidValue: an unknown field, NaN, infinity or a value out of range.
        """
        ids.check_public_id(subject)
        values.setdefault("timestamp", self._store.now_ms())
        checked = fields.check("reading", fields.READING, values, whole=True)
        reading = Reading.from_floats(
            self._store.device_label,
            checked["timestamp"],
            valence=checked["valence"],
            arousal=checked["arousal"],
            dominance=checked.get("dominance"),
            intensity=checked.get("intensity", 0.5),
            confidence=checked["confidence"],
            half_life_ms=max(1, round(checked.get("half_life_s", HALF_LIFE_S) * 1000)),
            primary=checked.get("primary") or "neutral",
        )
        space = self._store.space_for({})
        with self._store.joining(within) as transaction:
            present = self._present(transaction, subject, space)
            ahead_ms = self._store.now_ms() + DRIFT_MS  # later than that, it was made under a clock that was wrong
            if present is None or present <= reading.timestamp_ms or present > ahead_ms:
                transaction.put_slot(KIND, subject, READING, reading.to_value(), space=space)
            if history:
                return transaction.create(KIND, {"subject": subject, **checked}, space=space)
        return subject


    def _present(self, transaction: Transaction, subject: str, space: str) -> int | None:
        """When this device's own present reading was made; an older one imported later does not replace it."""
        row = transaction.read(KIND, subject, space=space)
        own = [] if row is None else [r for r in _readings(row) if r.writer == self._store.writer]
        return own[0].timestamp_ms if own else None

    def state(self, subject: str, *, as_of_ms: int | None = None, baseline: Baseline | None = None) -> EmotionState:
        """The blend of every device's latest reading, as of `as_of_ms` (now if absent)."""
        at = self._store.now_ms() if as_of_ms is None else as_of_ms
        registers = self._store.read_each(KIND, subject)
        if any("register" not in row.fields for row in registers):
            raise InvalidValue(f"{subject} is a reading, not a subject.", "Ask for the state of its subject.")
        found = blend([reading for row in registers for reading in _readings(row)], baseline or Baseline(), at)
        return EmotionState(
            subject,
            at,
            found.primary,
            found.valence_u / MICRO,
            found.arousal_u / MICRO,
            None if found.dominance_u is None else found.dominance_u / MICRO,
            found.intensity_u / MICRO,
            found.agreement_u / MICRO,
            found.contributing,
            found,
        )

    def history(self, subject: str, *, limit: int = 100, before_ms: int | None = None) -> list[Row]:
        """Recorded readings of a subject, latest first."""
        last = (1 << 64) - 1 if before_ms is None else before_ms - 1
        return self._store.query(KIND, "history", subject, last=last, limit=limit, newest_first=True)

    def subjects(self) -> list[str]:
        """Whose feelings are known here."""
        return sorted({row.id for row in self._store.query(KIND, "register", limit=100_000)})


def _readings(row: Row) -> list[Reading]:
    slots = [Slot(READING, writer, hlc, value, None) for writer, hlc, value in row.get("readings", ())]
    return readings(READING, slots)
