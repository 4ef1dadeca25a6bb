"""Vacuum: smaller, the same, nothing old left in it, and never under somebody's feet."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aico_crdt.errors import DiskFull, NoStore, StoreInUse
from aico_crdt.store.prune import compact
from aico_crdt.store.vacuum import COPY_DIRECTORY, vacuum
from aico_crdt.store.verify import verify
from tests.store.conftest import view

HOLD = """
import lmdb, sys
environment = lmdb.open(sys.argv[1], map_size=1 << 30)
print("open", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def worn(family: Any) -> Any:
    """A store most of whose pages are free."""
    (store,) = family(1)
    with store.transaction() as transaction:
        for number in range(400):
            transaction.create("memory", {"content": "x" * 2000, "t": number}, id=f"m{number}")
    store.forget_all([("memory", f"m{number}") for number in range(5, 400)], now=True)
    compact(store)
    return store


def test_the_file_shrinks_and_says_the_same(family: Any, worn: Any) -> None:
    expected, path, heads = view(worn), worn.path, worn.heads()
    worn.close()
    done = vacuum(path)
    assert done.after == (path / "data.mdb").stat().st_size < done.before / 2
    with family.open(path, 0) as again:
        assert view(again) == expected
        assert again.heads() == heads
        assert verify(again).clean
        again.create("memory", {"content": "later"}, id="later")
    assert not (path / COPY_DIRECTORY).exists()
    assert (path / "data.mdb").stat().st_mode & 0o777 == 0o600


def test_the_bytes_of_what_is_gone_are_gone(family: Any) -> None:
    (store,) = family(1)
    store.create("memory", {"content": "Schr\N{LATIN SMALL LETTER O WITH DIAERESIS}dinger" * 20}, id="d")
    with store.reading() as (_, records):
        rows = [value[-200:-8] for _, value in records.scan_raw(b"R")]
        items = [value[-200:-8] for _, value in records.scan_raw(b"I") if any(value[:8])]  # not of statements
        assert len(rows) == len(items) == 1
        sealed = rows + items
    store.forget("memory", "d", now=True)
    compact(store)
    path = store.path
    store.close()
    assert any(part in (path / "data.mdb").read_bytes() for part in sealed)
    vacuum(path)
    raw = (path / "data.mdb").read_bytes()
    assert not [part for part in sealed if part in raw]


def test_it_is_refused_while_the_store_is_open_here(worn: Any) -> None:
    before = (worn.path / "data.mdb").read_bytes()
    with pytest.raises(StoreInUse, match="in this process"):
        vacuum(worn.path)
    assert (worn.path / "data.mdb").read_bytes() == before


def test_it_is_refused_while_another_process_has_it_open(worn: Any) -> None:
    path = worn.path
    worn.close()
    before = (path / "data.mdb").read_bytes()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(StoreInUse, match="in another process"):
            vacuum(path)
        other.communicate("\n")
    assert (path / "data.mdb").read_bytes() == before
    assert vacuum(path).after < len(before)


def test_who_opens_it_meanwhile_waits_and_finds_the_new_file(worn: Any) -> None:
    path = worn.path
    worn.close()
    opened: list[Any] = []
    script = HOLD.replace('print("open"', 'import os; print(os.stat(sys.argv[1] + "/data.mdb").st_ino')

    def progress(what: str, done: int, total: int) -> None:
        if not opened:
            process = subprocess.Popen(
                [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            opened.append(process)

    vacuum(path, progress=progress)
    inode, _ = opened[0].communicate("\n")
    assert int(inode) == os.stat(path / "data.mdb").st_ino


def test_nobody_in_this_process_opens_it_meanwhile(family: Any, worn: Any) -> None:
    path = worn.path
    worn.close()
    errors: list[BaseException] = []

    def progress(what: str, done: int, total: int) -> None:
        def attempt() -> None:
            try:
                family.open(path, 0).close()
            except StoreInUse as error:
                errors.append(error)

        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()

    vacuum(path, progress=progress)
    assert errors
    family.open(path, 0).close()


def test_without_room_nothing_changes(worn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = worn.path
    worn.close()
    before = (path / "data.mdb").read_bytes()
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=1, f_frsize=4096))
    with pytest.raises(DiskFull):
        vacuum(path)
    assert (path / "data.mdb").read_bytes() == before
    assert not (path / COPY_DIRECTORY).exists()


def test_what_a_vacuum_that_was_cut_short_left_is_cleared(worn: Any) -> None:
    path = worn.path
    worn.close()
    (path / COPY_DIRECTORY).mkdir()
    (path / COPY_DIRECTORY / "data.mdb").write_bytes(b"half")
    vacuum(path)
    assert not (path / COPY_DIRECTORY).exists()


def test_where_no_store_is(tmp_path: Path) -> None:
    with pytest.raises(NoStore):
        vacuum(tmp_path)


