"""Systems without sync: a folder of data on each machine, and no links; or folders that are copied."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.faults.system import DoesNotApply, Process, Reading
from bench.faults.systems.copying import copy_newest

Open = Callable[[Path, int], Process]
"""A process on a folder of data, whose clock is so many ms ahead."""


class Folders:
    """`copied`: heal by copying the newest folder over the others; else several machines do not apply."""

    def __init__(self, root: Path, open_one: Open, *, copied: bool) -> None:
        self._root = root
        self._open_one = open_one
        self._copied = copied
        self._machines = 0
        self._skews: dict[int, int] = {}
        self._running: list[Resumed] = []

    def start(self, machines: int) -> None:
        if machines > 1 and not self._copied:
            raise DoesNotApply("no replication")
        if machines == 1 and self._copied:
            raise DoesNotApply("nothing to copy")
        for machine in range(machines):
            self._home(machine).mkdir(parents=True)
        self._machines = machines

    def open(self, machine: int) -> Process:
        self._running = [process for process in self._running if process.wanted]
        skew_ms = self._skews.get(machine, 0)
        process = Resumed(lambda: self._open_one(self._home(machine), skew_ms))
        self._running.append(process)
        return process

    def skew(self, machine: int, ms: int) -> None:
        self._skews[machine] = ms

    def partition(self, *groups: Sequence[int]) -> None:
        """Folders are copied at :meth:`heal` only."""

    def roughen(self, seed: int) -> None:
        """The same."""

    def heal(self) -> None:
        if self._machines > 1:
            running = [process for process in self._running if process.wanted]
            for process in running:
                process.pause()
            copy_newest([self._home(machine) for machine in range(self._machines)])
            for process in running:
                process.resume()

    def clone(self, machine: int) -> int:
        if not self._copied:
            raise DoesNotApply("no replication")
        shutil.copytree(self._home(machine), self._home(self._machines))
        self._machines += 1
        return self._machines - 1

    def stop(self) -> None:
        for process in self._running:
            process.close()

    def _home(self, machine: int) -> Path:
        return self._root / f"machine{machine}"


class Resumed:
    """A process that can be closed and started again between two calls, without its user's notice.

    Attributes:
        wanted: whether its user has neither killed nor closed it.
    """

    def __init__(self, start: Callable[[], Process]) -> None:
        self._start = start
        self._process = start()
        self._calls = threading.Lock()
        self.wanted = True

    def pause(self) -> None:
        """Calls wait until it is resumed."""
        self._calls.acquire()
        self._process.close()

    def resume(self) -> None:
        try:
            if self.wanted:
                self._process = self._start()
        finally:
            self._calls.release()

    def write(self, name: str, value: str) -> None:
        with self._calls:
            self._process.write(name, value)

    def edit(self, name: str, value: str) -> Sequence[str]:
        with self._calls:
            return self._process.edit(name, value)

    def forget(self, name: str) -> None:
        with self._calls:
            self._process.forget(name)

    def read_all(self) -> Reading:
        with self._calls:
            return self._process.read_all()

    def kill(self) -> None:
        self.wanted = False
        self._process.kill()

    def close(self) -> None:
        self.wanted = False
        with self._calls:
            self._process.close()
