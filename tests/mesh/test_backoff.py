"""The waits between dials."""

from __future__ import annotations

import random

from aico_crdt.mesh.backoff import Backoff


def test_fault_16_waits_double_and_are_capped() -> None:
    """A link over which nothing ever comes back is dialed ever more seldom, but never given up."""
    backoff = Backoff(250, 30_000, lambda: 0.999999)
    waits = [round(backoff.next_ms()) for _ in range(12)]
    assert waits == [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000, 30_000, 30_000]


def test_waits_are_spread_over_the_upper_half() -> None:
    rng = random.Random(1)
    waits = [Backoff(1000, 30_000, rng.random).next_ms() for _ in range(200)]
    assert all(500 <= wait < 1000 for wait in waits)
    assert max(waits) - min(waits) > 400


def test_a_connection_that_held_starts_anew_and_one_that_broke_does_not() -> None:
    backoff = Backoff(100, 10_000, lambda: 0.999999)
    for _ in range(4):
        backoff.next_ms()
    backoff.held(1599)
    assert round(backoff.next_ms()) == 1600
    backoff.held(3200)
    assert round(backoff.next_ms()) == 100
