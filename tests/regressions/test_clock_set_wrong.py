"""A clock that was years ahead for an hour leaves nothing behind that lasts for years."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aico_crdt.companion.kinds import KINDS
from aico_crdt.companion.store import Store
from aico_crdt.store import membership
from tests.store.conftest import CONFIG, Clock, identity_of

YEARS_MS = 10 * 365 * 86_400_000


def test_a_forget_is_erased_within_the_undo_window_of_the_right_clock(family: Any, clock: Any) -> None:
    [a] = family(1)
    a.create("memory", {"content": "one"}, id="m")
    clock.ms += YEARS_MS
    a.forget("memory", "m")
    clock.ms -= YEARS_MS
    clock.ms += 2 * a.config.undo_window_s * 1000
    assert a.erase_due() == 1


def test_a_feeling_recorded_under_a_wrong_clock_is_replaced(fast_path: Path) -> None:
    clock = Clock()
    membership.found(fast_path / "store", identity_of(0), KINDS, name="a", config=CONFIG, clock_ms=clock)
    with Store.open(fast_path / "store", identity_of(0), config=CONFIG, clock_ms=clock) as store:
        clock.ms += YEARS_MS
        store.emotions.record("anna", valence=-1.0, arousal=1.0, confidence=1.0, primary="fear")
        clock.ms -= YEARS_MS
        store.emotions.record("anna", valence=1.0, arousal=0.0, confidence=1.0, primary="joy")
        assert store.emotions.state("anna").primary == "joy"
