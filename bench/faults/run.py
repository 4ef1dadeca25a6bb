"""One scenario on one system."""

from __future__ import annotations

import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.faults.report import Cell
from bench.faults.scenarios import Scenario
from bench.faults.score import Score
from bench.faults.system import DoesNotApply, System
from bench.faults.world import World


def run(
    make: Callable[[Path], System], scenario: Scenario, seeds: Sequence[int], place: Path, *, quick: bool = False
) -> Cell:
    """All seeds together. What they count is summed up.

    Raises:
        Unavailable: the system is not installed.
    """
    cell = Cell(scenario.name, "", "")
    begin = time.monotonic()
    for seed in seeds:
        with tempfile.TemporaryDirectory(dir=place, prefix="faults-", ignore_cleanup_errors=True) as directory:
            system = make(Path(directory))
            cell.system, cell.version = system.name, system.version
            world = World(system, f"{seed} {scenario.name}", quick=quick)
            try:
                world.start(scenario.machines)
                scenario.run(world)
                found = world.judge()
            except DoesNotApply as reason:
                cell.why_not = str(reason)
                return cell
            finally:
                world.stop_clients()
                system.stop()
            if not any(operation.fate == "acknowledged" for operation in world.ledger.operations):
                world.note("NOTHING WAS ACKNOWLEDGED")  # not clean: broken
            cell.seeds.append(seed)
            cell.score = _sum(cell.score, found)
            cell.doubtful += sum(operation.fate == "doubtful" for operation in world.ledger.operations)
            cell.refused += Counter({_short(text, directory): n for text, n in world.ledger.refusals.items()})
            cell.notes += [note for text in world.notes if (note := _short(text, directory)) not in cell.notes]
    cell.seconds = time.monotonic() - begin
    return cell


def _sum(one: Score, other: Score) -> Score:
    return Score(*(a + b for a, b in zip(vars(one).values(), vars(other).values(), strict=True)))


def _short(text: str, directory: str) -> str:
    """An error without what differs from run to run: paths, and names of records."""
    return re.sub(r"[a-z]+\d*-\d{4}", "…", text.replace(directory, "…"))
