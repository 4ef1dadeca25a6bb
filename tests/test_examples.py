"""The examples run as a person would run them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import aico_crdt

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


def test_a_chat_log_has_a_conversation_of_its_own_and_shows_what_names_no_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("chat_log.py", tmp_path, "Good morning")
    monkeypatch.setenv("AICO_CRDT_HOME", str(tmp_path))
    with aico_crdt.open_store() as store, store.transaction() as transaction:
        (own,) = store.conversations.recent()
        fields = {"conversation_id": own.id, "role": "user", "text": "From an import", "timestamp": 4_000_000_000_000}
        transaction.create("conversation", fields, space=own.space)
        store.conversations.start(title="Another", within=transaction)
    shown = run("chat_log.py", tmp_path)
    assert [line.split(": ", 1)[1] for line in shown.splitlines()] == ["Good morning", "From an import"]


def test_an_unknown_mood_is_told_in_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "mood_watch.py"), "hungry"]
    done = subprocess.run(command, env={**os.environ, "AICO_CRDT_HOME": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "There is no mood 'hungry' here; choose one of happy, calm, sad, angry.\n"


def test_a_mood_recorded_in_one_process_is_heard_in_another(tmp_path: Path) -> None:
    run("mood_watch.py", tmp_path, "calm")
    environment = {**os.environ, "AICO_CRDT_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / "mood_watch.py")], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as watcher:  # fmt: skip
        try:
            deadline = time.monotonic() + 20
            while not list((tmp_path / "store" / "wake").iterdir()):  # until it listens
                assert time.monotonic() < deadline
                time.sleep(0.02)
            time.sleep(0.2)
            run("mood_watch.py", tmp_path, "happy")
            assert watcher.stdout is not None
            assert watcher.stdout.readline().startswith("happy ")
            watcher.send_signal(signal.SIGINT)
            _, said = watcher.communicate(timeout=10)
            assert said == ""
        finally:
            watcher.kill()
