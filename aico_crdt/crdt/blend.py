"""Emotion blend: one shared feeling out of what several devices perceived, decaying with age.

Each reading weighs ``w = confidence * 2^(-age / half_life)``; each dimension is
``(w0 * baseline + sum(w * x)) / (w0 + sum(w))``. The same readings give the same bytes on every replica:
whole numbers only, no floats and no libm.

- Dimensions, confidence and weights are micro-units: 1.0 is 1,000,000.
- ``2^(-age / half_life)`` is computed to 64 fraction bits and rounded down to DECAY_BITS; an age below zero
  counts as zero; a reading whose weight has become zero does not contribute.
- A quotient is rounded to the nearest micro-unit, halves away from zero: negating every input negates it.
- Per device only its newest reading counts (by timestamp, then writer, then content), in order of devices.
- `primary` is the word with the greatest total weight, `w0` included, the first by name among equals.
- `agreement` is ``1 - (D(valence) + D(arousal)) / 2`` with D the weighted mean distance of the contributing
  readings from their own weighted mean: 1 if all say the same, 0 if two halves take opposite ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from aico_crdt.crdt.document import Slot
from aico_crdt.errors import InvalidValue
from aico_crdt.ids import DEVICE_NAME_CHARS

MICRO: Final = 1_000_000
DECAY_BITS: Final = 40
"""Fraction bits of a decay: a reading weighs something for forty half-lives, and sums fit 128 bits."""
MAX_TIME_MS: Final = (1 << 48) - 1
MAX_PRIMARY_CHARS: Final = 64
_FRACTION_BITS: Final = 64
_NIBBLES: Final = _FRACTION_BITS // 4
_SCALE_BITS: Final = 96


@dataclass(frozen=True, slots=True)
class Reading:
    """What one device perceived. Dimensions -1..1, intensity and confidence 0..1, in micro-units.

    Raises:
        InvalidValue: a number outside its range, or a `primary` that is not 1 to 64 characters.
    """

    device: str
    timestamp_ms: int
    valence_u: int
    arousal_u: int
    dominance_u: int | None
    intensity_u: int
    confidence_u: int
    half_life_ms: int
    primary: str
    writer: str = ""

    def __post_init__(self) -> None:
        _check("timestamp", self.timestamp_ms, 0, MAX_TIME_MS)
        _check_dimensions(self.valence_u, self.arousal_u, self.dominance_u, self.intensity_u)
        _check("confidence", self.confidence_u, 0, MICRO)
        _check("half-life", self.half_life_ms, 1, MAX_TIME_MS)
        _check_primary(self.primary)

    @classmethod
    def from_floats(
        cls,
        device: str,
        timestamp_ms: int,
        *,
        valence: float,
        arousal: float,
        dominance: float | None = None,
        intensity: float,
        confidence: float,
        half_life_ms: int,
        primary: str,
        writer: str = "",
    ) -> Reading:
        """A reading from numbers as models give them, each rounded half to even to a micro-unit.

        Raises:
            InvalidValue: NaN, infinity or a number outside its range.
        """
        return cls(
            device,
            timestamp_ms,
            micro(valence),
            micro(arousal),
            None if dominance is None else micro(dominance),
            micro(intensity),
            micro(confidence),
            half_life_ms,
            primary,
            writer,
        )

    def to_value(self) -> list[Any]:
        """The value of a reading's slot; device and writer are the slot's own."""
        return [
            self.timestamp_ms,
            self.valence_u,
            self.arousal_u,
            self.dominance_u,
            self.intensity_u,
            self.confidence_u,
            self.half_life_ms,
            self.primary,
        ]

    @classmethod
    def from_slot(cls, slot: Slot) -> Reading:
        """Inverse of :meth:`to_value`.

        Raises:
            InvalidValue: the slot holds no reading.
        """
        if type(slot.value) is not list or len(slot.value) != 8:
            raise InvalidValue("A reading is a list of eight.")
        at, valence, arousal, dominance, intensity, confidence, half_life, primary = slot.value
        device = slot.writer[:DEVICE_NAME_CHARS]
        felt = (valence, arousal, dominance, intensity, confidence)
        return cls(device, at, *felt, half_life, primary, slot.writer)


@dataclass(frozen=True, slots=True)
class Baseline:
    """The temperament a feeling returns to, and its weight `w0`, in micro-units.

    Without a `dominance_u` only readings speak for dominance; without a `primary` only readings vote.
    """

    valence_u: int = 0
    arousal_u: int = 0
    dominance_u: int | None = None
    intensity_u: int = 0
    weight_u: int = MICRO // 10
    primary: str = ""

    def __post_init__(self) -> None:
        _check_dimensions(self.valence_u, self.arousal_u, self.dominance_u, self.intensity_u)
        _check("baseline weight", self.weight_u, 0, 1000 * MICRO)
        if self.primary != "":
            _check_primary(self.primary)


@dataclass(frozen=True, slots=True)
class Blend:
    """The blended feeling, in micro-units; `weight_u` is the readings' total weight without the baseline.

    `contributing` names the devices whose readings weigh anything, sorted.
    """

    valence_u: int
    arousal_u: int
    dominance_u: int | None
    intensity_u: int
    agreement_u: int
    primary: str
    weight_u: int
    contributing: tuple[str, ...]


def blend(readings: Iterable[Reading], baseline: Baseline, as_of_ms: int) -> Blend:
    """The blend of `readings` as of `as_of_ms` (Unix milliseconds); see the module for every rounding."""
    weighed = [(weight(r, as_of_ms), r) for r in newest_by_device(readings)]
    weighed = [(w, r) for w, r in weighed if w]
    total = sum(w for w, _ in weighed)
    w0 = baseline.weight_u << DECAY_BITS
    return Blend(
        valence_u=_mean([(w, r.valence_u) for w, r in weighed], w0, baseline.valence_u),
        arousal_u=_mean([(w, r.arousal_u) for w, r in weighed], w0, baseline.arousal_u),
        dominance_u=_dominance(weighed, w0, baseline.dominance_u),
        intensity_u=_mean([(w, r.intensity_u) for w, r in weighed], w0, baseline.intensity_u),
        agreement_u=_agreement(weighed, total),
        primary=_primary(weighed, w0, baseline.primary),
        weight_u=divide(total, 1 << DECAY_BITS),
        contributing=tuple(r.device for _, r in weighed),
    )


def readings(field: str, slots: Iterable[Slot]) -> list[Reading]:
    """All readings in the slots of `field`; what is no reading is skipped, as on every replica."""
    found = []
    for slot in slots:
        if slot.name == field:
            try:
                found.append(Reading.from_slot(slot))
            except InvalidValue:
                continue
    return found


def newest_by_device(readings: Iterable[Reading]) -> list[Reading]:
    """The newest reading of each device, in order of devices: what counts of a device's several lives."""
    newest: dict[str, Reading] = {}
    for reading in readings:
        known = newest.get(reading.device)
        if known is None or _recency(reading) > _recency(known):
            newest[reading.device] = reading
    return [newest[device] for device in sorted(newest)]


def weight(reading: Reading, as_of_ms: int) -> int:
    """``confidence * 2^(-age / half_life)`` in units of 2^-DECAY_BITS micro-units."""
    return reading.confidence_u * decay(max(as_of_ms - reading.timestamp_ms, 0), reading.half_life_ms)


def decay(age_ms: int, half_life_ms: int) -> int:
    """``2^(-age_ms / half_life_ms)`` in units of 2^-DECAY_BITS, rounded down; `age_ms` is not negative."""
    halvings, rest = divmod(age_ms, half_life_ms)
    if halvings > DECAY_BITS:
        return 0
    fraction = (rest << _FRACTION_BITS) // half_life_ms
    factor = 1 << _SCALE_BITS
    for place in range(_NIBBLES):
        nibble = fraction >> _FRACTION_BITS - 4 * (place + 1) & 15
        if nibble:
            factor = factor * _POWERS[place][nibble] >> _SCALE_BITS
    return factor >> _SCALE_BITS - DECAY_BITS + halvings


def divide(numerator: int, denominator: int) -> int:
    """The quotient rounded to the nearest integer, halves away from zero; `denominator` is positive."""
    rounded = (2 * abs(numerator) + denominator) // (2 * denominator)
    return rounded if numerator >= 0 else -rounded


def micro(number: float) -> int:
    """`number` in micro-units, rounded half to even, exactly.

    Raises:
        InvalidValue: NaN, infinity, or no number.
    """
    if type(number) not in (int, float) or not math.isfinite(number):
        raise InvalidValue("An emotion's numbers are finite; NaN and infinity are refused.")
    numerator, denominator = number.as_integer_ratio()
    quotient, rest = divmod(numerator * MICRO, denominator)
    up = 2 * rest > denominator or (2 * rest == denominator and quotient & 1)
    return quotient + 1 if up else quotient


def _mean(weighed: list[tuple[int, int]], w0: int, baseline: int) -> int:
    total = w0 + sum(w for w, _ in weighed)
    if not total:
        return baseline
    return divide(w0 * baseline + sum(w * x for w, x in weighed), total)


def _dominance(weighed: list[tuple[int, Reading]], w0: int, baseline: int | None) -> int | None:
    spoken = [(w, r.dominance_u) for w, r in weighed if r.dominance_u is not None]
    if baseline is None:
        return _mean(spoken, 0, 0) if spoken else None
    return _mean(spoken, w0, baseline)


def _agreement(weighed: list[tuple[int, Reading]], total: int) -> int:
    if not total:
        return MICRO
    valence = sum(w * r.valence_u for w, r in weighed)
    arousal = sum(w * r.arousal_u for w, r in weighed)
    distances = sum(
        w * (abs(total * r.valence_u - valence) + abs(total * r.arousal_u - arousal)) for w, r in weighed
    )
    return MICRO - divide(distances, 2 * total * total)


def _primary(weighed: list[tuple[int, Reading]], w0: int, baseline: str) -> str:
    votes = {baseline: w0}
    for w, reading in weighed:
        votes[reading.primary] = votes.get(reading.primary, 0) + w
    if not baseline and len(votes) > 1:
        del votes[baseline]
    return min(votes, key=lambda word: (-votes[word], word))


def _recency(reading: Reading) -> tuple[Any, ...]:
    dominance = -MICRO - 1 if reading.dominance_u is None else reading.dominance_u
    content = (reading.valence_u, reading.arousal_u, dominance, reading.intensity_u)
    rest = (reading.confidence_u, reading.half_life_ms, reading.primary)
    return (reading.timestamp_ms, reading.writer, *content, *rest)


def _check(what: str, number: Any, low: int, high: int) -> None:
    if type(number) is not int or not low <= number <= high:
        raise InvalidValue(f"An emotion's {what} is a whole number from {low} to {high}.")


def _check_dimensions(valence: Any, arousal: Any, dominance: Any, intensity: Any) -> None:
    _check("valence", valence, -MICRO, MICRO)
    _check("arousal", arousal, -MICRO, MICRO)
    if dominance is not None:
        _check("dominance", dominance, -MICRO, MICRO)
    _check("intensity", intensity, 0, MICRO)


def _check_primary(primary: Any) -> None:
    if type(primary) is not str or not 0 < len(primary) <= MAX_PRIMARY_CHARS:
        raise InvalidValue(f"An emotion's primary word is 1 to {MAX_PRIMARY_CHARS} characters.")


def _powers() -> tuple[tuple[int, ...], ...]:
    """``_POWERS[place][nibble]``: 2^(-nibble / 16^(place + 1)) times 2^_SCALE_BITS, by integer roots."""
    halvings = []  # 2^(-1/2), 2^(-1/4), …
    root = 1 << _SCALE_BITS - 1
    for _ in range(_FRACTION_BITS):
        root = math.isqrt(root << _SCALE_BITS)
        halvings.append(root)
    table = []
    for place in range(_NIBBLES):
        row = []
        for nibble in range(16):
            power = 1 << _SCALE_BITS
            for bit in range(4):
                if nibble >> 3 - bit & 1:
                    power = power * halvings[4 * place + bit] >> _SCALE_BITS
            row.append(power)
        table.append(tuple(row))
    return tuple(table)


_POWERS: Final = _powers()
