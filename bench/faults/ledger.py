"""What was asked of a system, and which of it was acknowledged. Kept by the harness, never by the system."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import Literal

Kind = Literal["write", "edit", "forget"]
Fate = Literal["acknowledged", "doubtful"]


@dataclass(frozen=True)
class Operation:
    """One operation that may have been done.

    Attributes:
        fate: doubtful when the process was gone before it had answered.
        replaced: values of the record that this one took the place of; None when that is unknown, so that it may have
            been any value of an operation before it.
    """

    number: int
    kind: Kind
    name: str
    value: str
    fate: Fate
    replaced: frozenset[str] | None = frozenset()


class Ledger:
    """Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._operations: list[Operation] = []
        self._values = 0
        self.refusals: Counter[str] = Counter()
        """Operations that were answered with an error, by the error."""

    @property
    def operations(self) -> tuple[Operation, ...]:
        with self._changed:
            return tuple(self._operations)

    def new_value(self, name: str) -> str:
        """A value that is asked for once only."""
        with self._changed:
            self._values += 1
            return f"{name} value {self._values} " + "tea garden rain letter window bicycle harvest lamp river "

    def record(
        self, kind: Kind, name: str, value: str, fate: Fate, replaced: frozenset[str] | None = frozenset()
    ) -> None:
        with self._changed:
            self._operations.append(Operation(len(self._operations), kind, name, value, fate, replaced))
            self._changed.notify_all()

    def refuse(self, error: str) -> None:
        with self._changed:
            self.refusals[error] += 1
            self._changed.notify_all()

    def wait_for(self, count: int, timeout_s: float) -> bool:
        """Until so many operations were answered, or refused; False when they were not in time."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._operations) + self.refusals.total() >= count, timeout_s)
