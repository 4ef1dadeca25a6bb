"""What a verification finds, and what its parts share. See :mod:`aico_crdt.store.verify`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import lmdb
import msgpack

from aico_crdt.errors import AicoError
from aico_crdt.store import forget
from aico_crdt.store.core import Core
from aico_crdt.store.records import Collection, Counters, Records

MAX_PROBLEMS: Final = 1000
"""Told one by one; what comes after is only counted."""

Progress = Callable[[str, int, int], None]
"""Called with what is being looked at, how many were, and how many there are (0: unknown)."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `kind` is ``file``, ``pages``, ``record``, ``feed``, ``entry``, ``item``, ``document``,
    ``index``, ``key``, ``counter``, ``family`` or ``waiting``; `where` names the place by ids; `what` is a sentence."""

    kind: str
    where: str
    what: str


@dataclass(slots=True)
class Report:
    """What :func:`verify` found. `counts` says how many of what were looked at; `more` how many problems beyond
    MAX_PROBLEMS were only counted."""

    problems: list[Problem] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    more: int = 0

    @property
    def clean(self) -> bool:
        return not self.problems

    def add(self, kind: str, where: str, what: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(kind, where, what))
        else:
            self.more += 1

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + number

    @contextmanager
    def guard(self, kind: str, where: str) -> Iterator[None]:
        """Whatever damaged bytes make the block raise becomes a problem of `kind` at `where`."""
        try:
            yield
        except AicoError as error:
            self.add(kind, where, error.what)
        except lmdb.Error as error:
            self.add(kind, where, f"The database failed ({type(error).__name__}).")
        except (ValueError, TypeError, KeyError, IndexError, msgpack.UnpackException) as error:
            self.add(kind, where, f"Bytes there cannot be read ({type(error).__name__}).")


class Scope:
    """What the parts of a verification share: one snapshot and the report."""

    def __init__(
        self, core: Core, records: Records, report: Report, *, refold: bool, progress: Progress | None
    ) -> None:
        self.core = core
        self.records = records
        self.report = report
        self.refold = refold
        self.counters = Counters.load(records)
        self.collections: dict[int, Collection] = {c.number: c for c in core.directory.collections.values()}
        self._progress = progress

    def erased_since(self, key: bytes, value: bytes) -> bool:
        """Whether a record that does not open was erased, or is about to be, by somebody since this snapshot."""
        with self.records.fresh() as fresh:
            if fresh is None:
                return False
            return fresh.get(key) != value or forget.owed_life(fresh, int.from_bytes(value[:8], "big")) is not None

    def step(self, what: str, done: int, total: int = 0) -> None:
        if self._progress is not None and done % 64 == 0:
            self._progress(what, done, total)
