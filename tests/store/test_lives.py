"""The file of life keys: what may be relied on is on the disk, whatever a crash left in the file."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from aico_crdt.store import lives
from aico_crdt.store.lives import MAGIC, SLOT_BYTES, LifeKeys

KEY = b"k" * 32


def slot_bytes(path: Path, slot: int) -> bytes:
    start = len(MAGIC) + slot * SLOT_BYTES
    return path.read_bytes()[start : start + SLOT_BYTES]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lives, "CHUNK_SLOTS", 4)
    return tmp_path / "lives"


def test_keys_are_random_and_kept(path: Path) -> None:
    keys = LifeKeys(path, KEY, create=True)
    for slot in range(1, 12):
        keys.reserve(slot)
    made = [keys.key(slot) for slot in range(1, 12)]
    assert len(set(made)) == 11
    keys.close()
    again = LifeKeys(path, KEY, create=False)
    assert [again.key(slot) for slot in range(1, 12)] == made
    for slot in (5, 6, 7, 9):  # given out again after their transactions were taken back: within a chunk nothing moves
        again.reserve(slot)
    assert [again.key(slot) for slot in range(1, 12)] == made


def test_what_a_crash_left_beyond_the_keys_in_use_is_never_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that grew without its content, as after a loss of power: keys of zeros would survive their erasure."""
    keys = LifeKeys(path, KEY, create=True)
    for slot in range(1, 4):
        keys.reserve(slot)
    keys.close()
    with path.open("ab") as file:
        file.write(bytes(4 * SLOT_BYTES))
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(file), real(file))[1])
    keys = LifeKeys(path, KEY, create=False)
    keys.reserve(4)
    assert len(synced) == 1
    for slot in range(4, 8):
        if slot > 4:
            keys.reserve(slot)
        assert slot_bytes(path, slot) != bytes(SLOT_BYTES)
    assert len(synced) == 1, "one sync a chunk"


def test_a_chunk_whose_sync_failed_is_made_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed sync the kernel calls the pages clean: a second sync of the same bytes would say nothing."""
    keys = LifeKeys(path, KEY, create=True)
    for slot in range(1, 4):
        keys.reserve(slot)

    def fails(file: int) -> None:
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="I/O"):
        keys.reserve(4)
    lost = slot_bytes(path, 4)
    monkeypatch.undo()
    monkeypatch.setattr(lives, "CHUNK_SLOTS", 4)
    keys.reserve(4)
    assert slot_bytes(path, 4) not in (lost, b"")


def test_a_destroyed_key_is_gone_for_every_process(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, other = LifeKeys(path, KEY, create=True), None
    for slot in range(1, 4):
        keys.reserve(slot)
    other = LifeKeys(path, KEY, create=False)
    before = other.key(2)
    whole: list[Any] = []
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: whole.append(at) or real(file, data[:20], at))
    keys.destroy([2])  # a write may be cut short: it goes on
    assert len(whole) == 2
    assert other.key(2) != before
    assert other.key(1) == keys.key(1)
