"""The library of ``shim.c``: built once with the system's compiler, loaded into other processes, told what to do there.

A process that was started with :func:`environment` has it loaded, and off. ``Shim()`` inside that process commands it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("shim.c")
BEFORE, AFTER, HALF = 0, 1, 2
"""When a process is killed: before the step, after it, or with half of it written."""
FOREVER: Final = (1 << 62) - 1


@cache
def library() -> Path | None:
    """The built library; None where there is no LD_PRELOAD or no C compiler, or it does not build."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not sys.platform.startswith("linux") or compiler is None:
        return None
    name = blake2b(SOURCE.read_bytes() + compiler.encode(), digest_size=8).hexdigest()
    place = Path(tempfile.gettempdir()) / f"aico-crash-{os.getuid()}-{name}"
    target = place / "shim.so"
    place.mkdir(mode=0o700, exist_ok=True)
    if place.stat().st_uid != os.getuid():
        return None
    if not target.exists():
        made = place / f"{os.getpid()}.so"
        command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(made), str(SOURCE), "-ldl", "-lpthread"]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return None
        made.replace(target)
    return target


def environment() -> Mapping[str, str]:
    """Variables for a process that is to have the library loaded."""
    found = library()
    assert found is not None, "no shim here: ask library() first"
    return {**os.environ, "LD_PRELOAD": str(found)}


class Shim:
    """The library as loaded into this process."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        for name in ("crash_fail", "crash_kill"):
            getattr(self._library, name).argtypes = [ctypes.c_long] * (3 if name == "crash_fail" else 1) + (
                [] if name == "crash_fail" else [ctypes.c_int]
            )
        self._library.crash_off.restype = ctypes.c_long

    def watch(self, path: str | os.PathLike[str]) -> None:
        """Only what lies below `path` counts."""
        self._library.crash_watch(os.fsencode(os.path.realpath(path)))

    def count(self) -> None:
        """Count steps, do nothing."""
        self._library.crash_count()

    def fail(self, step: int, *, error: int = errno.EIO, forever: bool = False) -> None:
        """Step number `step` from now (from 1) fails with `error`; with `forever` all later ones, too."""
        self._library.crash_fail(step, FOREVER if forever else step, error)

    def kill(self, step: int, moment: int) -> None:
        """The process dies at step number `step` from now."""
        self._library.crash_kill(step, moment)

    def log(self, file: int) -> None:
        """Log every step to an open file; see :mod:`crash.power`."""
        self._library.crash_log(file)

    def note(self, text: str) -> None:
        """Put a line of one's own into the log, which is no step."""
        self._library.crash_note(text.encode())

    def off(self) -> int:
        """Back to normal; how many steps there were."""
        return int(self._library.crash_off())
