"""npm's yjs as a process to talk to. `make` installs it where there is npm; else what needs it is skipped."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.store.conftest import clock, family, kinds

__all__ = ["clock", "family", "kinds", "yjs"]

HERE = Path(__file__).parent
NODE = shutil.which("node")
INSTALLED = NODE is not None and (HERE / "node_modules" / "yjs").is_dir()


class Yjs:
    """See `yjs.mjs`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, verb: str, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": verb, **request}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "yjs has ended"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def read(self, *updates: bytes) -> dict[str, Any]:
        return self.ask("read", updates=[encoded(update) for update in updates])

    def decode(self, update: bytes) -> dict[str, Any]:
        return self.ask("decode", update=encoded(update))

    def write(self, client: int, state: bytes, *acts: tuple[Any, ...]) -> tuple[bytes, str]:
        """The update that `client` makes of a document of that state by `acts`, and the text after it."""
        answer = self.ask("write", client=client, updates=[encoded(state)], acts=acts)
        return base64.b64decode(answer["update"]), answer["text"]


def encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


@pytest.fixture(scope="session")
def yjs() -> Iterator[Yjs]:
    assert NODE is not None
    with subprocess.Popen(
        [NODE, HERE / "yjs.mjs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        yield Yjs(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0
