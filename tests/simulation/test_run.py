"""Whole families under faults, from a seed: every promise is kept, and a seed replays."""

from __future__ import annotations

import pytest

from simulation.run import run


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_family_survives_what_befalls_it(seed: int) -> None:
    result = run(seed)
    assert not result.check, str(result)


def test_a_seed_replays() -> None:
    first, second = (run(7, steps=60) for _ in range(2))
    assert first.trace == second.trace
    assert first.counts == second.counts
