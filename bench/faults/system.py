"""What is put to the test, as the harness sees it: machines with data of their own, processes on them, links between.

An operation that returns is acknowledged. One that raises :class:`Refused` was not done, and its caller knows; one that
ends in :class:`Gone` may have been done or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

Reading = Mapping[str, tuple[str, ...]]
"""By record, the value that a plain read gives, then every further value the system offers as a conflict."""


class Refused(Exception):
    """The system answered with an error."""


class Gone(Exception):
    """The process died, or did not answer in time, before it had answered."""


class DoesNotApply(Exception):
    """The system has nothing that could fail here; holds why, in a few words."""


class Process(Protocol):
    """One operating-system process that uses the data of its machine through the system's documented interface.

    Every call raises :class:`Refused` or :class:`Gone` when there is reason.
    """

    def write(self, name: str, value: str) -> None:
        """A new record."""

    def edit(self, name: str, value: str) -> Sequence[str]:
        """A new value for a record. Returns those it replaced, as the process itself saw them."""

    def forget(self, name: str) -> None:
        """Delete a record."""

    def read_all(self) -> Reading:
        """Every record there is."""

    def kill(self) -> None:
        """Ends it by SIGKILL."""

    def close(self) -> None:
        """Ends it in good order."""


class System(Protocol):
    """A system under test. Lives for one scenario.

    Attributes:
        several: whether it is made for several processes on one machine's data.
        talks: whether machines say anything to each other, so that it can get lost.
    """

    name: str
    version: str
    several: bool
    talks: bool

    def start(self, machines: int) -> None:
        """So many machines, linked and empty."""

    def open(self, machine: int) -> Process:
        """A new process on a machine, by the clock the machine has now."""

    def skew(self, machine: int, ms: int) -> None:
        """Processes opened on the machine from now on believe that it is so much later."""

    def partition(self, *groups: Sequence[int]) -> None:
        """Only machines of one group reach each other."""

    def roughen(self, seed: int) -> None:
        """All reach each other, but badly: messages are dropped, doubled and reordered, connections are cut."""

    def heal(self) -> None:
        """All reach each other, and nothing is lost on the way."""

    def clone(self, machine: int) -> int:
        """Copy all that a machine keeps to a new machine, while no process runs on it. Returns its number."""

    def stop(self) -> None:
        """Ends what still runs."""
