"""What a run found, as a table and as JSON."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from bench.faults.score import Score

REASON_CHARS = 75


@dataclass
class Cell:
    """One scenario on one system, over all seeds.

    Attributes:
        why_not: why it does not apply; then nothing was counted.
        refused: operations that were answered with an error, by the error. They count for nothing.
        doubtful: operations whose process was gone before it had answered.
    """

    scenario: str
    system: str
    version: str
    seeds: list[int] = field(default_factory=list)
    score: Score = field(default_factory=lambda: Score(0, 0, 0, 0, 0, 0))
    refused: Counter[str] = field(default_factory=Counter)
    doubtful: int = 0
    notes: list[str] = field(default_factory=list)
    why_not: str = ""
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        who = {"scenario": self.scenario, "system": self.system, "version": self.version}
        if self.why_not:
            return {**who, "does_not_apply": self.why_not}
        return {
            **who,
            "seeds": self.seeds,
            **vars(self.score),
            "refused": self.refused.total(),
            "refusals": dict(self.refused.most_common(5)),
            "doubtful": self.doubtful,
            "notes": self.notes,
            "seconds": round(self.seconds, 1),
        }


def table(cells: Sequence[Cell]) -> Table:
    made = Table()
    for heading in ("fault", "system", "lost", "resurrected", "divergent", "refused", ""):
        made.add_column(
            heading, no_wrap=heading != "", justify="left" if heading in ("fault", "system", "") else "right"
        )
    for number, cell in enumerate(cells):
        last = number + 1 == len(cells) or cells[number + 1].scenario != cell.scenario
        first = number == 0 or cells[number - 1].scenario != cell.scenario
        made.add_row(cell.scenario if first else "", cell.system, *_counts(cell), end_section=last)
    return made


def markdown(cells: Sequence[Cell]) -> str:
    """For the documents: what was counted, then which faults do not apply to whom."""
    lines = ["| fault | system | lost | resurrected | divergent | refused | |", "|---|---|--:|--:|--:|--:|---|"]
    lines += [f"| {' | '.join((cell.scenario, cell.system, *_counts(cell)))} |" for cell in cells if not cell.why_not]
    reasons: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        if cell.why_not:
            reasons.setdefault((cell.system, cell.why_not), []).append(cell.scenario)
    lines += ["", *(f"- {system}, {why}: {', '.join(faults)}" for (system, why), faults in reasons.items())]
    return "\n".join(" ".join(line.split()) for line in lines).strip()


def _counts(cell: Cell) -> tuple[str, ...]:
    if cell.why_not:
        return ("–", "–", "–", "–", cell.why_not)
    found = cell.score
    counted = ((found.lost, found.owed), (found.resurrected, found.forgotten), (found.divergent, found.records))
    refused = cell.refused.total()
    reasons = [textwrap.shorten(f"refused: {reason}", REASON_CHARS) for reason, _ in cell.refused.most_common(1)]
    return (
        *(f"{count} of {total}" if total else "–" for count, total in counted),
        str(refused) if refused else "",
        "; ".join([*cell.notes, *reasons]),
    )
