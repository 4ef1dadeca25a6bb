"""A child whose verbs are those of a process under test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.faults.child import Child
from bench.faults.system import Gone, Reading, Refused


class Verbs:
    """See :class:`~bench.faults.system.Process`.

    Attributes:
        ready: what the child answered when it was open.
    """

    def __init__(self, child: Child) -> None:
        """Waits until it is open. Raises Refused, Gone, and then nothing is left running."""
        self.child = child
        self.alive = True
        try:
            self.ready: Any = child.ask("ready")
        except (Refused, Gone):
            self.kill()
            raise

    def write(self, name: str, value: str) -> None:
        self.child.ask("write", name=name, value=value)

    def edit(self, name: str, value: str) -> Sequence[str]:
        replaced: list[str] = self.child.ask("edit", name=name, value=value)
        return replaced

    def forget(self, name: str) -> None:
        self.child.ask("forget", name=name)

    def read_all(self) -> Reading:
        return {name: tuple(values) for name, values in self.child.ask("read_all").items()}

    def kill(self) -> None:
        self.alive = False
        self.child.kill()

    def close(self) -> None:
        self.alive = False
        self.child.close()
