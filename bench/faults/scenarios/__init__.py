"""The faults: each file holds one function over a :class:`~bench.faults.world.World`, told by its docstring.

Two machines edit one record only while they are apart, and processes of one machine never: so what an edit replaced
is what its process read just before, whatever the system.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.faults.scenarios.clock import clock
from bench.faults.scenarios.clone import clone, clone_by_turns
from bench.faults.scenarios.crash import crash, crash_of_one
from bench.faults.scenarios.forget import forget, forget_and_edit
from bench.faults.scenarios.messages import messages
from bench.faults.scenarios.partition import partition
from bench.faults.scenarios.processes import processes
from bench.faults.scenarios.storm import storm
from bench.faults.world import World

__all__ = ["SCENARIOS", "Scenario"]


@dataclass(frozen=True)
class Scenario:
    """`machines` more than one asks for replication."""

    name: str
    machines: int
    run: Callable[[World], None]

    @property
    def title(self) -> str:
        return (self.run.__doc__ or "").partition("\n")[0].rstrip(".")


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("processes", 1, processes),
        Scenario("crash", 1, crash),
        Scenario("crash-several", 1, crash_of_one),
        Scenario("partition", 3, partition),
        Scenario("messages", 3, messages),
        Scenario("clock", 2, clock),
        Scenario("clone", 2, clone),
        Scenario("clone-turns", 2, clone_by_turns),
        Scenario("forget", 2, forget),
        Scenario("forget-edit", 2, forget_and_edit),
        Scenario("storm", 3, storm),
    )
}
