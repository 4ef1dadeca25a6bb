"""A device as a person runs it: a home of its own, and the commands in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from click.testing import CliRunner, Result

from aico_crdt.cli.main import cli
from aico_crdt.cli.opening import App
from aico_crdt.companion.store import Store

ROOT = Path(__file__).resolve().parents[2]
SMALL_MAP = str(256 << 20)


class Device:
    """One machine with one user: ``device("status")`` runs a command there."""

    def __init__(self, root: Path, name: str) -> None:
        self.home = root / name
        self.store_path = self.home / "store"
        self.environment = {"AICO_CRDT_HOME": str(self.home), "AICO_CRDT_MAP_SIZE_BYTES": SMALL_MAP}

    def __call__(self, *words: object, code: int = 0, input: str | None = None) -> str:
        """stdout of a command that ends with `code`."""
        result = self.run(*words, input=input)
        assert result.exit_code == code, f"{words}: {result.exit_code}\n{result.output}"
        return result.stdout

    def run(self, *words: object, input: str | None = None) -> Result:
        arguments = [str(word) for word in words]
        return CliRunner().invoke(cli, arguments, env=self.environment, input=input, catch_exceptions=False)

    def fails(self, *words: object) -> str:
        """The error a command ends with."""
        result = self.run(*words)
        assert result.exit_code == 1, f"{words}: {result.exit_code}\n{result.output}"
        return error_of(result.stderr)

    def json(self, *words: object, code: int = 0) -> Any:
        return json.loads(self(*words, "--json", code=code))

    def process(self, *words: object, stdout: int | IO[str] = subprocess.PIPE, **env: str) -> subprocess.Popen[str]:
        """The command as a process of its own, its output piped unless it goes elsewhere."""
        program = "from aico_crdt.cli.main import main; main()"
        return subprocess.Popen(
            [sys.executable, "-c", program, *map(str, words)],
            env={**os.environ, **self.environment, **env, "PYTHONPATH": str(ROOT)},
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )

    @contextmanager
    def open(self) -> Iterator[Store]:
        with App(environment=self.environment).open() as store:
            yield store

    @property
    def key(self) -> Path:
        return next((self.home / "keys").glob("*.key"))

    def snapshot(self) -> dict[str, Any]:
        """What must not change when a command fails."""
        with self.open() as store:
            rows = {kind: {row.id: (row.life, row.fields) for row in store.rows(kind)} for kind in store.kinds}
            return {"heads": store.heads(), "rows": rows, "members": set(store.directory.family.members)}


Devices = Callable[[str], Device]


def error_of(stderr: str) -> str:
    """The error at the end of stderr, after any warnings: what happened, what to do, and no traceback."""
    _, error, after = stderr.partition("Error: ")
    assert error, stderr
    assert "Traceback" not in stderr
    what, cure = after.splitlines()
    assert what
    assert cure
    return error + after


def write_lines(path: Path, records: Sequence[dict[str, Any]], **header: Any) -> Path:
    first = {"format": "aico-crdt/export", "version": 1, "records": len(records), **header}
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in [first, *records]), "utf-8")
    return path


MONTH: list[dict[str, Any]] = [
    {"kind": "conversation", "id": "talk-000001", "fields": {"title": "Tea", "created_at": 1000, "updated_at": 2000}},
    {
        "kind": "message",
        "id": "message-000001",
        "fields": {
            "conversation_id": "talk-000001", "role": "user", "text": "Which tea?", "timestamp": 1500,
            "interaction_device": "laptop",
        },
    },
    {
        "kind": "memory",
        "id": "memory-000001",
        "fields": {"content": "Likes jasmine tea.", "tags": ["tea"], "created_at": 1600, "updated_at": 1600},
    },
    {
        "kind": "emotion", "id": "reading-000001", "subject": "mara",
        "fields": {"timestamp": 1700, "valence": 0.5, "arousal": 0.25, "confidence": 1.0},
    },
]  # fmt: skip
