"""Does the simulator find what is wrong? Bugs are planted in the real code, one at a time."""

from __future__ import annotations

import pytest

from simulation.run import run
from tests.simulation.plants import PLANTS, Plant

SEEDS = range(12)
STEPS = 200


@pytest.mark.slow
@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found_within_a_few_seeds(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    found = next((result for seed in SEEDS if (result := run(seed, steps=STEPS)).check), None)
    assert found is not None, f"none of {len(SEEDS)} seeds finds it"
    assert found.check != "an unexpected error", str(found)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_seeds_pass_without_a_planted_bug(seed: int) -> None:
    result = run(seed, steps=STEPS)
    assert not result.check, str(result)
