"""What a system owes for what it acknowledged. Pure, and the same for every system.

*Owed*: the value of an acknowledged write or edit, unless an acknowledged edit replaced it or somebody asked to forget
its record. An edit that is doubtful may have replaced it or not: then either value will do.

*Lost*: an owed value that no machine's data gives back to a newly started process, neither as the record's value nor
as one of its conflicts.

*Resurrected*: a record whose forgetting was acknowledged, and that some process can read at the end.

*Divergent*: a record that two processes do not read alike at the end: its value, or the set of its conflicts. All that
are open then are asked, and one newly started on every machine.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.faults.ledger import Operation
from bench.faults.system import Reading


@dataclass(frozen=True)
class Score:
    """Counts, each with the number of those that could have been: `lost` of `owed`, `resurrected` of `forgotten`,
    `divergent` of `records`."""

    lost: int
    owed: int
    resurrected: int
    forgotten: int
    divergent: int
    records: int

    @property
    def clean(self) -> bool:
        return not (self.lost or self.resurrected or self.divergent)


def score(operations: Iterable[Operation], fresh: Sequence[Reading], open_ones: Sequence[Reading] = ()) -> Score:
    """Judge what processes read at the end.

    Args:
        operations: in the order of their answers.
        fresh: by a new process on every machine. Data that cannot be opened reads as empty.
        open_ones: by the processes that were still open before.
    """
    by_record: dict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        by_record[operation.name].append(operation)
    owed = lost = forgotten = resurrected = 0
    for name, history in by_record.items():
        forgets = [operation.fate for operation in history if operation.kind == "forget"]
        if forgets:
            if "acknowledged" in forgets:
                forgotten += 1
                resurrected += any(name in reading for reading in (*fresh, *open_ones))
            continue
        there = {value for reading in fresh for value in reading.get(name, ())}
        for operation in history:
            if operation.fate == "acknowledged" and not _replaced(operation, history):
                owed += 1
                lost += not _is_there(operation, history, there)
    readings = [*fresh, *open_ones]
    divergent = sum(len({_seen(reading, name) for reading in readings}) > 1 for name in by_record)
    return Score(lost, owed, resurrected, forgotten, divergent, len(by_record))


def _later(operation: Operation, history: Sequence[Operation]) -> list[Operation]:
    """Edits that took, or may have taken, the place of an operation's value."""
    return [
        other
        for other in history
        if other.kind == "edit"
        and other is not operation
        and (operation.value in other.replaced if other.replaced is not None else other.number > operation.number)
    ]


def _replaced(operation: Operation, history: Sequence[Operation]) -> bool:
    return any(other.fate == "acknowledged" for other in _later(operation, history))


def _is_there(operation: Operation, history: Sequence[Operation], there: set[str]) -> bool:
    """Whether its value can be read, or that of a doubtful edit which may have replaced it."""
    if operation.value in there:
        return True
    return any(other.fate == "acknowledged" or _is_there(other, history, there) for other in _later(operation, history))


def _seen(reading: Reading, name: str) -> tuple[str, frozenset[str]] | None:
    values = reading.get(name)
    return (values[0], frozenset(values)) if values else None
