"""kill -9 at random instants while several processes write."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from crash.kills import Round, Tally
from crash.ledger import Ledger
from crash.zygote import Zygote
from tests.crash.conftest import SEED, SOAK

pytestmark = [pytest.mark.processes, pytest.mark.slow]
KILLS = 60
A_ROUND = 15

_places = itertools.count()


@pytest.mark.parametrize("half", ["first", "second"])
def test_fault_01_kill_9_while_four_processes_write(zygote: Zygote, template: Path, scratch: Path, half: str) -> None:
    """Messages, edits, forgets, transactions, entries of a peer, pruning, backups: all acknowledged is there, nothing
    forgotten is back, what was cut off is whole or absent, one incarnation wrote one valid chain."""
    tally, seed = Tally(), SEED * 1000 + (500 if half == "second" else 0)
    while tally.kills < KILLS * SOAK:
        print(f"round of seed {seed}")
        Round(zygote, template, scratch / f"round{next(_places)}", seed, tally).run(A_ROUND)
        assert tally.faults == [], f"seed {seed}"
        seed += 1
    print(tally)
    assert tally.acknowledged > 3 * tally.kills
    assert tally.in_the_middle > tally.kills // 4, "the kills hit idle processes"
    assert tally.restored > 0, "no backup was ever finished"


def test_a_ledger_knows_what_is_possible() -> None:
    """The judge itself: what is missing, back, changed, or half done is seen."""
    ledger = Ledger({"a": 1, "gone": None})
    ledger.hear("w", [["will", {"b": 2, "c": 3}]])
    assert ledger.faults({"a": 1}) == []
    assert ledger.faults({"a": 1, "b": 2, "c": 3}) == []
    for wrong in ({}, {"a": 2}, {"a": 1, "gone": 1}, {"a": 1, "b": 2}, {"a": 1, "x": 1}):
        assert len(ledger.faults(wrong)) == 1, wrong
    ledger.hear("w", [["did"]])
    assert ledger.faults({"a": 1}) != []
    ledger.hear("w", [["will", {"a": None}]])
    ledger.settle("w", {"b": 2, "c": 3})
    assert ledger.faults({"b": 2, "c": 3}) == []
    assert ledger.acknowledged == 1
