"""Notices what no exception tells: an input that crashes the process, or keeps it busy for a second.

The input under trial lies in a file that outlives the process. A second of CPU time ends the process by SIGPROF, as
the system does it and not Python, which a loop in Rust or C would not let run. CPU time, so that a busy machine hangs
nothing.
"""

from __future__ import annotations

import mmap
import signal
from pathlib import Path
from typing import Final, Self

CPU_S: Final = 1.0
_CAPACITY: Final = 1 << 20


class Watch:
    """Of one process; a context manager. `path` keeps the input under trial, and is empty when none is."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b")
        self._file.truncate(_CAPACITY)
        self._map = mmap.mmap(self._file.fileno(), _CAPACITY)
        signal.signal(signal.SIGPROF, signal.SIG_DFL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.rest()
        self._map.close()
        self._file.close()

    def begin(self, data: bytes) -> None:
        """`data` is tried now; the next call ends it."""
        self._map[4 : 4 + len(data)] = data
        self._map[:4] = (len(data) + 1).to_bytes(4, "big")
        signal.setitimer(signal.ITIMER_PROF, CPU_S)

    def rest(self) -> None:
        """Nothing is tried."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        self._map[:4] = bytes(4)


def last_input(path: Path) -> bytes | None:
    """The input a process was trying when it ended, None if it was not."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:4], "big") - 1
    return raw[4 : 4 + size] if size >= 0 else None
