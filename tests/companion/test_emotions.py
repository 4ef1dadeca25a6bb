"""Emotions: what each device perceives, what it blends to, and the history."""

from __future__ import annotations

from typing import Any

import pytest

from aico_crdt.crdt import Baseline
from aico_crdt.errors import InvalidValue
from tests.store.conftest import START_MS

CALM = {"valence": 0.5, "arousal": 0.25, "confidence": 1.0}


def test_one_reading_is_the_state_and_fades_to_the_baseline(store: Any) -> None:
    store.emotions.record("user", timestamp=START_MS, primary="joy", **CALM)
    now = store.emotions.state("user", as_of_ms=START_MS, baseline=Baseline())
    later = store.emotions.state("user", as_of_ms=START_MS + 86_400_000)
    assert now.primary == "joy"
    assert now.contributing_devices != ()
    assert 0 < now.valence <= 0.5
    assert abs(later.valence) < now.valence
    assert now.as_of_ms == START_MS


def test_devices_blend_to_the_same_bytes(companions: Any, sync: Any) -> None:
    a, b, c = companions(3)
    a.emotions.record("user", timestamp=START_MS, **CALM)
    b.emotions.record("user", timestamp=START_MS + 1000, valence=-0.5, arousal=0.9, confidence=0.5)
    c.emotions.record("user", timestamp=START_MS + 2000, valence=0.1, arousal=0.1, confidence=0.25)
    sync(a, b, c)
    states = [store.emotions.state("user", as_of_ms=START_MS + 5000) for store in (a, b, c)]
    assert states[0].exact == states[1].exact == states[2].exact
    assert len(states[0].contributing_devices) == 3
    assert -0.5 <= states[0].valence <= 0.5
    assert states[0].agreement < 1


def test_only_a_devices_latest_reading_counts_whatever_the_order(store: Any) -> None:
    store.emotions.record("user", timestamp=START_MS + 1000, **CALM)
    newest = store.emotions.state("user", as_of_ms=START_MS + 2000)
    store.emotions.record("user", timestamp=START_MS, valence=-1.0, arousal=1.0, confidence=1.0)
    assert store.emotions.state("user", as_of_ms=START_MS + 2000).exact == newest.exact
    assert [row["timestamp"] for row in store.emotions.history("user")] == [START_MS + 1000, START_MS]


def test_the_register_stays_one_document_and_the_history_is_optional(store: Any) -> None:
    for n in range(50):
        store.emotions.record("user", history=n % 10 == 0, timestamp=START_MS + n, **CALM)
    assert store.emotions.subjects() == ["user"]
    assert len(store.emotions.history("user")) == 5
    assert len(store.emotions.history("user", limit=2)) == 2
    assert len(store.emotions.history("user", before_ms=START_MS + 20)) == 2
    assert len(store.get("emotion", "user")["readings"]) == 1


def test_subjects_are_apart_and_an_unknown_one_is_at_the_baseline(store: Any) -> None:
    store.emotions.record("user", timestamp=START_MS, **CALM)
    store.emotions.record("companion", timestamp=START_MS, valence=-0.5, arousal=0.5, confidence=1.0)
    assert store.emotions.subjects() == ["companion", "user"]
    assert store.emotions.state("user", as_of_ms=START_MS).valence > 0
    assert store.emotions.state("companion", as_of_ms=START_MS).valence < 0
    assert store.emotions.state("nobody").contributing_devices == ()
    reading = store.emotions.history("user")[0].id
    with pytest.raises(InvalidValue, match="subject"):
        store.emotions.state(reading)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"valence": float("nan")}, "not a number"),
        ({"valence": float("inf")}, "between -1 and 1"),
        ({"valence": 1.01}, "between -1 and 1"),
        ({"arousal": -0.1}, "between 0 and 1"),
        ({"confidence": "high"}, "not a number"),
        ({"confidence": None}, "confidence"),
        ({"valance": 0.1}, "Did you mean 'valence'"),
        ({"half_life_s": 0}, "half_life_s"),
        ({"timestamp": -5}, "after 1970"),
    ],
)
def test_wrong_readings_are_refused_at_the_door(values: dict[str, Any], told: str, store: Any) -> None:
    with pytest.raises(InvalidValue, match=told):
        store.emotions.record("user", **{**CALM, **values})
    assert store.emotions.subjects() == []
    assert store.emotions.history("user") == []
