"""Chroma in a virtual environment of its own, in two ways it documents: a persistent client in every process, and one
server that all processes ask. Embeddings are given, so nothing is downloaded."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from bench.faults.child import Child
from bench.faults.system import Process
from bench.faults.systems.folders import Folders
from bench.faults.systems.verbs import Verbs
from bench.measure import Unavailable

HERE = Path(__file__).parent
PYTHON = HERE / ".venv" / "bin" / "python"
QUIET = {"ANONYMIZED_TELEMETRY": "False"}


class Chroma(Folders):
    name = "chroma"
    several = True
    talks = False

    def __init__(self, root: Path, *, copied: bool = False) -> None:
        self.version = _version()
        super().__init__(root, lambda home, skew_ms: _open(home, root / "log", skew_ms), copied=copied)


class ChromaCopied(Chroma):
    name = "chroma+copies"

    def __init__(self, root: Path) -> None:
        super().__init__(root, copied=True)


def _open(home: Path, log: Path, skew_ms: int) -> Process:
    command: list[str | os.PathLike[str]] = [PYTHON, HERE / "chroma_client.py", home, str(skew_ms)]
    return Verbs(Child(command, log, env=QUIET))


def _version() -> str:
    if not PYTHON.is_file():
        raise Unavailable("chroma (needs make bench-faults)")
    code = "import importlib.metadata as m; print(m.version('chromadb'))"
    told = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=False)
    if told.returncode:
        raise Unavailable("chroma (its virtual environment is broken: run make bench-faults)")
    return told.stdout.strip()
