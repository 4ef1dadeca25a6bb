"""Every scenario on systems in memory: the honest one is clean, each flaw is found and called by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.faults import world
from bench.faults.report import Cell, markdown
from bench.faults.run import run
from bench.faults.scenarios import SCENARIOS
from bench.faults.score import Score
from tests.faults.fake import Fake, Flaw, fake

FORGETTING = {"processes", "crash", "crash-several", "forget", "forget-edit", "storm"}
SEVERAL_MACHINES = {name for name, scenario in SCENARIOS.items() if scenario.machines > 1}


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "STILL_S", 0.02)
    monkeypatch.setattr(world, "POLL_S", 0.001)


def outcome(name: str, flaw: Flaw, place: Path) -> Cell:
    return run(fake(flaw), SCENARIOS[name], [1, 2], place, quick=True)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_system_that_keeps_its_promises_is_clean(name: str, tmp_path: Path) -> None:
    cell = outcome(name, "", tmp_path)
    assert cell.score.clean
    assert cell.score.owed > 10
    assert (cell.score.forgotten > 5) == (name in FORGETTING)
    assert cell.seeds == [1, 2]
    assert not cell.notes


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_system_that_drops_everything_loses_everything(name: str, tmp_path: Path) -> None:
    score = outcome(name, "drops", tmp_path).score
    assert score.lost == score.owed > 10
    assert score.resurrected == score.divergent == 0


@pytest.mark.parametrize("name", sorted(FORGETTING))
def test_a_system_that_forgets_to_forget_resurrects_all_of_it(name: str, tmp_path: Path) -> None:
    score = outcome(name, "resurrects", tmp_path).score
    assert score.resurrected == score.forgotten > 5
    assert score.lost == score.divergent == 0


@pytest.mark.parametrize("name", sorted(SEVERAL_MACHINES))
def test_a_system_that_does_not_sync_is_divergent_and_loses_nothing(name: str, tmp_path: Path) -> None:
    score = outcome(name, "diverges", tmp_path).score
    assert score.divergent > 10
    assert score.lost == 0


def test_two_edits_made_apart_are_both_owed(tmp_path: Path) -> None:
    """Of each three shared records, one is edited on both sides; of 6, that is 2 in each of two runs."""
    cell = outcome("partition", "last writer wins", tmp_path)
    assert (cell.score.lost, cell.score.divergent) == (4, 0)
    assert outcome("clock", "last writer wins", tmp_path).score.clean  # there, every edit has seen the one before


def test_a_kill_makes_an_operation_doubtful_and_the_program_starts_again() -> None:
    one = world.World(Fake(""), "seed")
    one.start(1)
    client = one.client(0)
    client.write("a")
    client.kill()
    for name in ("b", "c"):
        client.write(name)
    client.edit("no such record")
    assert [(done.name, done.fate) for done in one.ledger.operations] == [
        ("a", "acknowledged"),
        ("b", "doubtful"),
        ("c", "acknowledged"),
    ]
    assert one.ledger.refusals == {"no such record": 1}
    assert one.judge() == Score(lost=0, owed=2, resurrected=0, forgotten=0, divergent=0, records=3)


def test_a_system_that_does_nothing_at_all_is_not_called_clean(tmp_path: Path) -> None:
    cell = outcome("processes", "refuses", tmp_path)
    assert cell.score == Score(0, 0, 0, 0, 0, 0)
    assert cell.notes == ["cannot be read: closed today", "NOTHING WAS ACKNOWLEDGED"]
    assert cell.refused.total() > 50
    assert "NOTHING WAS ACKNOWLEDGED" in markdown([cell])


def test_a_seed_decides_what_is_asked_of_a_system(tmp_path: Path) -> None:
    assert outcome("messages", "", tmp_path).score == outcome("messages", "", tmp_path).score
