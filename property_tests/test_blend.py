"""Emotion blend, against a model in fractions: exact to the byte, bounded, idempotent, whatever the order.

The model shares no code with the blend: decays come from 100-digit decimals, means from fractions.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from decimal import Context as DecimalContext
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aico_crdt.crdt.blend import MICRO, Baseline, Blend, Reading, blend, readings
from aico_crdt.crdt.document import Document
from aico_crdt.crdt.value import canonical
from property_tests import harness
from property_tests.harness import Kind, Operations

AS_OF_MS = 1_000_000
DIGITS = DecimalContext(prec=100)


def model(counted: list[Reading], baseline: Baseline, as_of_ms: int) -> Blend:
    """The specification, given the one reading that counts of each device."""
    weighed = [(r.confidence_u * decay(as_of_ms - r.timestamp_ms, r.half_life_ms), r) for r in counted]
    weighed = [(w, r) for w, r in weighed if w]
    w0 = Fraction(baseline.weight_u)
    total = sum((w for w, _ in weighed), Fraction(0))

    def mean(name: str) -> int | None:
        terms = [(w, getattr(r, name)) for w, r in weighed if getattr(r, name) is not None]
        base = getattr(baseline, name)
        terms += [] if base is None else [(w0, base)]
        below = sum((w for w, _ in terms), Fraction(0))
        return nearest(sum((w * x for w, x in terms), Fraction(0)) / below) if below else base

    def spread(name: str) -> Fraction:
        center = sum((w * getattr(r, name) for w, r in weighed), Fraction(0)) / total
        return sum((w * abs(getattr(r, name) - center) for w, r in weighed), Fraction(0)) / total

    votes: dict[str, Fraction] = {baseline.primary: w0} if baseline.primary else {}
    for w, r in weighed:
        votes[r.primary] = votes.get(r.primary, Fraction(0)) + w
    best = max(votes.values(), default=Fraction(0))
    return Blend(
        valence_u=mean("valence_u") or 0,
        arousal_u=mean("arousal_u") or 0,
        dominance_u=mean("dominance_u"),
        intensity_u=mean("intensity_u") or 0,
        agreement_u=MICRO - nearest((spread("valence_u") + spread("arousal_u")) / 2) if total else MICRO,
        primary=min((word for word, w in votes.items() if w == best), default=""),
        weight_u=nearest(total),
        contributing=tuple(sorted(r.device for _, r in weighed)),
    )


def decay(age_ms: int, half_life_ms: int) -> Fraction:
    """2^(-age / half life), rounded down to a multiple of 2^-40."""
    if age_ms <= 0:
        return Fraction(1)
    if age_ms % half_life_ms == 0:
        return Fraction(2**40 // 2 ** min(age_ms // half_life_ms, 41), 2**40)
    halvings = DIGITS.divide(Decimal(-age_ms), Decimal(half_life_ms))
    return Fraction(int(DIGITS.power(Decimal(2), halvings + 40)), 2**40)


def nearest(x: Fraction) -> int:
    """To the nearest integer, halves away from zero."""
    return int(x + Fraction(1, 2)) if x >= 0 else -int(-x + Fraction(1, 2))


units = st.integers(-MICRO, MICRO)
shares = st.integers(0, MICRO)
half_lives = st.one_of(st.sampled_from((1, 1000, 3_600_000)), st.integers(1, 10**10))


@st.composite
def a_reading(draw: st.DrawFn, device: str) -> Reading:
    return Reading(
        device,
        AS_OF_MS - draw(st.integers(-1000, AS_OF_MS)),
        draw(units),
        draw(units),
        draw(st.none() | units),
        draw(shares),
        draw(shares),
        draw(half_lives),
        draw(st.sampled_from(("joy", "calm", "fear"))),
    )


@st.composite
def some_readings(draw: st.DrawFn) -> list[Reading]:
    """One reading of each of up to five devices."""
    return [draw(a_reading(device)) for device in "abcde"[: draw(st.integers(0, 5))]]


baselines = st.builds(
    Baseline,
    units,
    units,
    st.none() | units,
    shares,
    st.sampled_from((0, 1, MICRO // 10, MICRO)),
    st.sampled_from(("", "calm", "neutral")),
)


@given(some_readings(), baselines)
def test_a_blend_is_exact(counted: list[Reading], baseline: Baseline) -> None:
    assert blend(counted, baseline, AS_OF_MS) == model(counted, baseline, AS_OF_MS)


@given(some_readings(), baselines, st.randoms())
def test_order_and_duplicates_change_nothing(counted: list[Reading], baseline: Baseline, rng: Random) -> None:
    again = counted * 2 + counted[:1]
    rng.shuffle(again)
    assert blend(again, baseline, AS_OF_MS) == blend(counted, baseline, AS_OF_MS)


@given(some_readings(), baselines, st.integers(1, 10**9))
def test_what_a_device_said_before_changes_nothing(
    counted: list[Reading], baseline: Baseline, earlier_ms: int
) -> None:
    older = [
        replace(r, timestamp_ms=r.timestamp_ms - earlier_ms, valence_u=MICRO)
        for r in counted
        if r.timestamp_ms >= earlier_ms
    ]
    assert blend(older + counted, baseline, AS_OF_MS) == blend(counted, baseline, AS_OF_MS)


@given(some_readings(), baselines)
def test_a_blend_lies_between_its_inputs_and_the_baseline(counted: list[Reading], baseline: Baseline) -> None:
    mixed = blend(counted, baseline, AS_OF_MS)
    for name in ("valence_u", "arousal_u", "dominance_u", "intensity_u"):
        inputs = [x for x in (getattr(who, name) for who in (baseline, *counted)) if x is not None]
        value = getattr(mixed, name)
        assert value is None or min(inputs) <= value <= max(inputs)
    assert 0 <= mixed.agreement_u <= MICRO


@given(some_readings(), baselines)
def test_opposite_feelings_blend_to_the_opposite(counted: list[Reading], baseline: Baseline) -> None:
    opposite = [replace(r, valence_u=-r.valence_u, arousal_u=-r.arousal_u) for r in counted]
    away = replace(baseline, valence_u=-baseline.valence_u, arousal_u=-baseline.arousal_u)
    mixed, mirrored = blend(counted, baseline, AS_OF_MS), blend(opposite, away, AS_OF_MS)
    assert (mirrored.valence_u, mirrored.arousal_u) == (-mixed.valence_u, -mixed.arousal_u)
    assert mirrored.agreement_u == mixed.agreement_u


# As replicated documents: one slot a writer, the newest reading of a device counts.

BASE = Baseline(valence_u=100_000, primary="calm")


def invent(rng: Random, document: Document, number: int) -> Reading:
    return Reading(
        document.writer[:12],
        AS_OF_MS - rng.randint(-5, 5) * 1000,
        rng.randint(-MICRO, MICRO),
        rng.randint(-MICRO, MICRO),
        rng.choice((None, rng.randint(-MICRO, MICRO))),
        rng.randint(0, MICRO),
        rng.randint(1, MICRO),
        rng.choice((1000, 2500)),
        rng.choice(("joy", "fear")),
        document.writer,
    )


def expected(operations: Operations) -> Blend:
    last = {o.writer: o.action for _, o in sorted(operations.items())}  # numbers rise along a life
    counted: dict[str, Reading] = {}
    for reading in sorted(last.values(), key=lambda r: (r.timestamp_ms, r.writer)):
        counted[reading.device] = reading
    return model(list(counted.values()), BASE, AS_OF_MS)


def feel(document: Document, reading: Any, hlc: int) -> None:
    document.put_slot("reading", reading.to_value(), hlc)


def read(document: Document) -> bytes:
    return canonical(asdict(blend(readings("reading", document.slots()), BASE, AS_OF_MS)))


KIND = Kind(invent, feel, read, lambda operations, seen: seen == canonical(asdict(expected(operations))))


@given(harness.histories)
def test_a_blend_converges_to_the_byte(rng: Random) -> None:
    harness.check(KIND, rng)


@pytest.mark.parametrize("broken", [harness.DropsEverything, harness.DropsWhatOthersWrite])
def test_the_law_sees_lost_readings(broken: type[harness.Replica]) -> None:
    assert harness.score(KIND, harness.Replica) == 1
    assert harness.score(KIND, broken) <= 0.1
