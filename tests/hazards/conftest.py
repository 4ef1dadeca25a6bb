"""What the hazard tests share: a child process in which a library may crash, panic or exhaust memory."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Protocol

import pytest

MIB = 1 << 20
STACK_BYTES = 8 * MIB  # the usual Linux default; where a stack overflows depends on it

_PRELUDE = """
import resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))
resource.setrlimit(resource.RLIMIT_STACK, ({stack}, resource.getrlimit(resource.RLIMIT_STACK)[1]))
"""


@dataclass(frozen=True)
class Outcome:
    """How a child process ended. ``returncode`` is negative when a signal killed it."""

    returncode: int
    lines: list[str]
    stderr: str

    @property
    def crashed(self) -> bool:
        return self.returncode < 0


class Isolated(Protocol):
    def __call__(self, code: str, *args: str, memory_bytes: int = ...) -> Outcome: ...


@pytest.fixture
def isolated() -> Isolated:
    """Run Python source in a child with limited memory, stack and time; its ``sys.argv[1:]`` are ``args``."""

    def run(code: str, *args: str, memory_bytes: int = 2048 * MIB) -> Outcome:
        prelude = _PRELUDE.format(memory=memory_bytes, stack=STACK_BYTES)
        done = subprocess.run(
            [sys.executable, "-c", prelude + code, *args],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env={**os.environ, "RUST_BACKTRACE": "0", "PYTHONFAULTHANDLER": ""},
        )
        return Outcome(done.returncode, done.stdout.split("\n")[:-1], done.stderr)

    return run
