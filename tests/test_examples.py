"""The examples run as a person would run them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, home: Path, *arguments: str) -> str:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, env={**os.environ, "AICO_CRDT_HOME": str(home)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_chat_log_keeps_what_was_said(tmp_path: Path) -> None:
    run("chat_log.py", tmp_path, "Good", "morning")
    shown = run("chat_log.py", tmp_path, "Tea?")
    assert [line.split(": ", 1)[1] for line in shown.splitlines()] == ["Good morning", "Tea?"]


def test_a_mood_recorded_in_one_process_is_heard_in_another(tmp_path: Path) -> None:
    run("mood_watch.py", tmp_path, "calm")
    environment = {**os.environ, "AICO_CRDT_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / "mood_watch.py")], env=environment, stdout=subprocess.PIPE, text=True
    ) as watcher:
        try:
            deadline = time.monotonic() + 20
            while not list((tmp_path / "store" / "wake").iterdir()):  # until it listens
                assert time.monotonic() < deadline
                time.sleep(0.02)
            time.sleep(0.2)
            run("mood_watch.py", tmp_path, "happy")
            assert watcher.stdout is not None
            assert watcher.stdout.readline().startswith("happy ")
        finally:
            watcher.kill()
