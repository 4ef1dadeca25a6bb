"""The key of a life is the same for every thread, also while the file of keys is mapped anew."""

from __future__ import annotations

import mmap
import threading
from pathlib import Path
from typing import Any

import pytest

from aico_crdt.store import lives


def test_a_key_asked_for_during_a_remap_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grown = lives.LifeKeys(tmp_path / "lives", b"k" * 32, create=True)
    grown.reserve(1)
    other = lives.LifeKeys(tmp_path / "lives", b"k" * 32, create=False)  # as another process has it
    grown.reserve(9000)
    meanwhile: list[bytes] = []
    real = mmap.mmap

    def slow(*arguments: Any, **named: Any) -> mmap.mmap:
        thread = threading.Thread(target=lambda: meanwhile.append(other.key(9000)))
        thread.start()
        thread.join(2)
        return real(*arguments, **named)

    monkeypatch.setattr(lives.mmap, "mmap", slow)
    asked = other.key(9000)
    monkeypatch.undo()
    for _ in range(100):
        if meanwhile:
            break
        threading.Event().wait(0.05)
    assert {asked, *meanwhile} == {grown.key(9000)}
