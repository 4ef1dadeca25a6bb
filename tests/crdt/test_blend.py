"""The emotion blend: golden vectors worked out by hand, ranges, and readings in slots."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aico_crdt.crdt.blend import (
    DECAY_BITS,
    MICRO,
    Baseline,
    Blend,
    Reading,
    blend,
    decay,
    divide,
    micro,
    newest_by_device,
    readings,
)
from aico_crdt.crdt.document import Document, Slot
from aico_crdt.errors import InvalidValue

HOUR_MS = 3_600_000
NOW_MS = 1_800_000_000_000
JOY = Reading("laptop", NOW_MS, 800_000, 400_000, None, 700_000, MICRO, HOUR_MS, "joy")
CALM = Reading("phone", NOW_MS - HOUR_MS, -200_000, 0, 500_000, 300_000, MICRO // 2, HOUR_MS, "calm")
NOTHING = Baseline(weight_u=0)


def test_one_fresh_reading_without_a_baseline_is_the_blend() -> None:
    assert blend([JOY], NOTHING, NOW_MS) == Blend(
        800_000, 400_000, None, 700_000, MICRO, "joy", MICRO, ("laptop",)
    )


def test_weights_of_one_and_a_quarter() -> None:
    # Joy weighs 1, calm 1/2 after one half-life, so 1/4: valence (0.8 - 0.05) / 1.25 = 0.6, and so on.
    # Distances from the mean: valence (0.2 + 0.8 / 4) / 1.25 = 0.32, arousal (0.08 + 0.32 / 4) / 1.25 = 0.128.
    assert blend([CALM, JOY], NOTHING, NOW_MS) == Blend(
        600_000, 320_000, 500_000, 620_000, MICRO - 224_000, "joy", 1_250_000, ("laptop", "phone")
    )


def test_the_baseline_pulls_with_its_weight() -> None:
    base = Baseline(valence_u=-100_000, dominance_u=100_000, weight_u=MICRO, primary="calm")
    mixed = blend([JOY, CALM], base, NOW_MS)
    assert mixed.valence_u == round((-0.1 + 0.8 - 0.05) / 2.25 * MICRO)
    assert mixed.dominance_u == (100_000 + 125_000) * 4 // 5
    assert mixed.primary == "calm"  # 1 + 1/4 against 1
    assert mixed.weight_u == 1_250_000


def test_without_readings_the_baseline_is_the_blend() -> None:
    base = Baseline(1, 2, None, 3, 0, "calm")
    assert blend([], base, NOW_MS) == Blend(1, 2, None, 3, MICRO, "calm", 0, ())
    forgotten = blend([JOY], base, NOW_MS + 41 * HOUR_MS)
    assert forgotten == blend([], base, NOW_MS)


def test_a_reading_from_the_future_is_fresh() -> None:
    assert blend([JOY], NOTHING, 0) == blend([JOY], NOTHING, NOW_MS)


def test_equal_weights_go_to_the_first_word() -> None:
    assert blend([JOY, replace(JOY, device="phone", primary="awe")], NOTHING, NOW_MS).primary == "awe"


def test_agreement_spans_everything_from_unison_to_opposite_ends() -> None:
    up = replace(JOY, valence_u=MICRO, arousal_u=MICRO)
    down = replace(JOY, device="phone", valence_u=-MICRO, arousal_u=-MICRO)
    assert blend([up, replace(up, device="phone")], NOTHING, NOW_MS).agreement_u == MICRO
    assert blend([up, down], NOTHING, NOW_MS).agreement_u == 0


def test_a_device_speaks_with_its_newest_reading() -> None:
    older = replace(JOY, timestamp_ms=NOW_MS - 1, valence_u=-MICRO)
    twin = replace(JOY, writer="z", valence_u=0)
    assert newest_by_device([JOY, older]) == [JOY]
    assert newest_by_device([twin, JOY]) == newest_by_device([JOY, twin]) == [twin]


@pytest.mark.parametrize(
    ("halves", "ulps"),
    [((0, 1), 1 << DECAY_BITS), ((1, 1), 1 << DECAY_BITS - 1), ((40, 1), 1), ((41, 1), 0), ((10**9, 1), 0)],
)
def test_whole_half_lives_are_exact(halves: tuple[int, int], ulps: int) -> None:
    assert decay(*halves) == ulps


def test_decays_between_are_rounded_down() -> None:
    for root in (2, 3, 5, 7):
        power = decay(1, root)  # the greatest integer at most 2^40 / 2^(1 / root)
        assert power**root * 2 <= 2 ** (40 * root) < (power + 1) ** root * 2


@pytest.mark.parametrize(("n", "d", "q"), [(1, 2, 1), (-1, 2, -1), (1, 3, 0), (-2, 3, -1), (5, 2, 3)])
def test_quotients_round_halves_away_from_zero(n: int, d: int, q: int) -> None:
    assert divide(n, d) == q


@pytest.mark.parametrize(
    ("number", "units"),
    [(0.5, 500_000), (-0.1, -100_000), (1, MICRO), (2.0**-7, 7812), (3 * 2.0**-7, 23438), (-0.0, 0)],
)
def test_floats_round_half_to_even(number: float, units: int) -> None:
    assert micro(number) == units  # 2^-7 is 7812.5 micro-units, 3 * 2^-7 is 23437.5


GOOD: dict[str, Any] = {
    "device": "laptop",
    "timestamp_ms": NOW_MS,
    "valence": 0.8,
    "arousal": 0.4,
    "intensity": 0.7,
    "confidence": 1.0,
    "half_life_ms": HOUR_MS,
    "primary": "joy",
}


def test_a_reading_from_floats() -> None:
    assert Reading.from_floats(**GOOD) == JOY


@pytest.mark.parametrize(
    "bad",
    [
        {"valence": float("nan")},
        {"arousal": float("inf")},
        {"dominance": float("-inf")},
        {"valence": 1.000001},
        {"arousal": -1.1},
        {"intensity": -0.1},
        {"confidence": 1.1},
        {"confidence": True},
        {"valence": "0.5"},
        {"half_life_ms": 0},
        {"half_life_ms": 1.5},
        {"timestamp_ms": -1},
        {"primary": ""},
        {"primary": "x" * 65},
    ],
    ids=str,
)
def test_fault_numbers_no_device_could_mean_are_refused_at_the_door(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue):
        Reading.from_floats(**{**GOOD, **bad})


def test_readings_come_back_from_slots_and_what_is_none_is_skipped() -> None:
    document = Document.new(1, "laptop______life0001")
    document.put_slot("reading", JOY.to_value(), 1)
    (reading,) = readings("reading", document.slots())
    assert reading == replace(JOY, device="laptop______", writer="laptop______life0001")
    bad: list[Any] = ["x", [], [1, 2, 3, 4, 5, 6, 7, 8], [*JOY.to_value(), 1]]
    slots = [Slot("reading", f"{i:020}", 1, value, None) for i, value in enumerate(bad)]
    assert readings("reading", slots + document.slots()) == [reading]
