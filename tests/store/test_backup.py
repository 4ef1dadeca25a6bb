"""Backups: consistent while others write, private, checked; what is restored goes on as somebody new."""

from __future__ import annotations

import json
import os
import shutil
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from aico_crdt.errors import AicoError, Damaged, InvalidValue, NewerFormat, NoStore, StoreExists, WrongKey
from aico_crdt.store import DocumentStore, lives
from aico_crdt.store import backup as backup_module
from aico_crdt.store.backup import BACKUP_FILE, backup, read_backup, restore, take
from aico_crdt.store.environment import Environment, read_label
from aico_crdt.store.verify import verify
from tests.store.conftest import CONFIG, exchange, identity_of, send, view


def restored(family: Any, source: Path, path: Path, index: int = 0) -> DocumentStore:
    restore(source, path, identity_of(index), family.kinds, config=CONFIG)
    return family.open(path, index, lease=False)  # type: ignore[no-any-return]


def test_a_backup_is_restored_as_it_was_taken(family: Any, tmp_path: Path) -> None:
    a, b = family(2)
    a.create("memory", {"content": "kept", "t": 1}, id="m")
    b.create("memory", {"content": "of b"}, id="b0")
    exchange(a, b)
    expected, content, heads = view(a), a.content_hash(), a.heads()
    made = backup(a, tmp_path / "backup")
    a.edit("memory", "m", {"content": "after the backup"})
    assert read_backup(tmp_path / "backup") == made
    again = restored(family, tmp_path / "backup", tmp_path / "again")
    assert (view(again), again.content_hash(), again.heads()) == (expected, content, heads)
    assert again.incarnation != a.incarnation
    assert verify(again, refold=True).problems == []


def test_a_backup_is_private_sealed_and_no_store(family: Any, tmp_path: Path) -> None:
    [a] = family(1)
    a.create("memory", {"content": "nobody reads this"})
    backup(a, tmp_path / "backup")
    assert stat.S_IMODE((tmp_path / "backup").stat().st_mode) == 0o700
    for path in (tmp_path / "backup").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
        assert b"nobody reads" not in path.read_bytes()
    assert {path.name for path in (tmp_path / "backup").iterdir()} == {"BACKUP", "data.mdb", "lives"}
    with pytest.raises(NoStore):
        family.open(tmp_path / "backup", 0)


def test_a_backup_taken_while_others_write_and_forget_is_consistent(family: Any, tmp_path: Path) -> None:
    [a] = family(1)
    for n in range(50):
        a.create("memory", {"content": "x" * 2000}, id=f"m{n}")
    stop = threading.Event()

    def busy() -> None:
        number = 50
        while not stop.is_set():
            a.create("memory", {"content": "y" * 500}, id=f"m{number}")
            a.forget("memory", f"m{number - 50}", now=True)
            number += 1

    writer = threading.Thread(target=busy)
    writer.start()
    try:
        for number in range(4):
            backup(a, tmp_path / f"backup{number}")
    finally:
        stop.set()
        writer.join()
    for number in range(4):
        again = restored(family, tmp_path / f"backup{number}", tmp_path / f"again{number}")
        assert verify(again, refold=True).problems == []
        assert len(view(again)) in (50, 51)
        again.close()


def test_life_keys_made_while_a_backup_is_taken_are_in_it(
    family: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lives, "CHUNK_SLOTS", 2)
    [a] = family(1)
    whole = shutil.copyfile

    def copyfile(source: Path, target: Path) -> None:
        whole(source, target)
        for number in range(7):
            a.create("memory", {"content": "meanwhile"}, id=f"m{number}")

    monkeypatch.setattr(backup_module.shutil, "copyfile", copyfile)
    backup(a, tmp_path / "backup")
    monkeypatch.undo()
    again = restored(family, tmp_path / "backup", tmp_path / "again")
    assert len(view(again)) == 7
    assert verify(again).problems == []


def test_fault_13_a_restored_store_and_the_one_it_was_taken_of_both_go_on(family: Any, tmp_path: Path) -> None:
    a, b = family(2)
    a.create("memory", {"content": "one", "t": 1}, id="m")
    exchange(a, b)
    backup(a, tmp_path / "backup")
    a.edit("memory", "m", {"content": "on the first"})
    a.create("memory", {"content": "only on the first"}, id="first")
    again = restored(family, tmp_path / "backup", tmp_path / "again")
    again.edit("memory", "m", {"t": 2})
    again.create("memory", {"content": "only on the second"}, id="second")
    exchange(a, b)
    exchange(again, b)
    exchange(a, again, b)
    assert view(a) == view(b) == view(again)
    assert b.get("memory", "m").fields == {"content": "on the first", "t": 2}
    assert set(view(b)) == {"m", "first", "second"}
    for store in (a, b, again):
        assert verify(store, refold=True).problems == []


def test_fault_13_a_clone_that_writes_as_its_original_is_found_out_and_nothing_is_lost(
    family: Any, tmp_path: Path
) -> None:
    """Copied file by file, lease and all: nothing tells it that it is a copy until their entries meet."""
    a, b = family(2)
    a.create("memory", {"content": "one", "t": 1, "tag": "x"}, id="m")
    exchange(a, b)
    a.close()
    shutil.copytree(a.path, tmp_path / "clone")
    a = family.open(a.path, 0, lease=False)
    clone = family.open(tmp_path / "clone", 0, lease=False)
    assert clone.incarnation == a.incarnation
    first = a.incarnation
    a.edit("memory", "m", {"content": "by the original"})
    a.create("memory", {"content": "of the original"}, id="original")
    clone.edit("memory", "m", {"t": 2})
    clone.create("memory", {"content": "of the clone"}, id="clone")
    clone.edit("memory", "m", {"tag": "y"})
    reports = send(a, b) + send(clone, b)
    for _ in range(4):
        for pair in ((a, b), (clone, b), (a, clone)):
            exchange(*pair)
    assert view(a) == view(b) == view(clone)
    assert b.get("memory", "m").fields == {"content": "by the original", "t": 2, "tag": "y"}
    assert set(view(b)) == {"m", "original", "clone"}
    assert len({a.incarnation, clone.incarnation, first}) >= 2
    assert a.incarnation != clone.incarnation
    assert reports
    for store in (a, b, clone):
        assert verify(store, refold=True).problems == []


def test_the_lease_tells_a_copy_that_came_to_another_path(family: Any, tmp_path: Path) -> None:
    [a] = family(1)
    a.create("memory", {"content": "one"})
    was = a.incarnation
    a.close()
    shutil.copytree(a.path, tmp_path / "clone")
    shutil.copyfile(a.path.with_name(a.path.name + ".lease"), tmp_path / "clone.lease")
    assert family.open(tmp_path / "clone", 0).incarnation != was
    assert family.open(a.path, 0).incarnation == was


# What is refused, and that nothing is left behind


def test_a_target_in_use_is_left_alone(family: Any, tmp_path: Path) -> None:
    [a] = family(1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "photo").write_text("mine")
    with pytest.raises(StoreExists):
        backup(a, tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["photo"]
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreExists):
        backup(a, tmp_path / "file")
    with pytest.raises(InvalidValue):
        backup(a, a.path / "inside")
    backup(a, tmp_path / "backup")
    with pytest.raises(StoreExists):
        restore(tmp_path / "backup", a.path, identity_of(0), family.kinds, config=CONFIG)
    assert view(a) == {}


def test_a_damaged_backup_is_refused_and_leaves_nothing(family: Any, tmp_path: Path) -> None:
    [a] = family(1)
    a.create("memory", {"content": "one"})
    backup(a, tmp_path / "backup")
    target = tmp_path / "again"

    def refused(kind: type[AicoError]) -> None:
        with pytest.raises(kind):
            restore(tmp_path / "broken", target, identity_of(0), family.kinds, config=CONFIG)
        assert not target.exists()
        assert not [path for path in tmp_path.iterdir() if "restoring" in path.name]
        shutil.rmtree(tmp_path / "broken")
        shutil.copytree(tmp_path / "backup", tmp_path / "broken")

    with pytest.raises(NoStore):
        restore(tmp_path / "nowhere", target, identity_of(0), family.kinds)
    shutil.copytree(tmp_path / "backup", tmp_path / "broken")
    for name in ("data.mdb", "lives"):
        data = bytearray((tmp_path / "broken" / name).read_bytes())
        data[-100] ^= 1
        (tmp_path / "broken" / name).write_bytes(data)
        refused(Damaged)
        os.truncate(tmp_path / "broken" / name, 5000)
        refused(Damaged)
        (tmp_path / "broken" / name).unlink()
        refused(Damaged)
    for text in ("", "{}", "[]", "nonsense", json.dumps({"version": "1"})):
        (tmp_path / "broken" / BACKUP_FILE).write_text(text)
        refused(Damaged)
    for field in ("version", "format"):
        changed = json.loads((tmp_path / "backup" / BACKUP_FILE).read_text()) | {field: 99}
        (tmp_path / "broken" / BACKUP_FILE).write_text(json.dumps(changed))
        refused(NewerFormat)
    with pytest.raises(WrongKey):
        restore(tmp_path / "backup", target, identity_of(1), family.kinds, config=CONFIG)
    restore(tmp_path / "backup", target, identity_of(0), family.kinds, config=CONFIG)


def test_a_restored_store_that_was_never_opened_since_its_founding_is_somebody_new(family: Any, tmp_path: Path) -> None:
    from aico_crdt.store import membership

    path = tmp_path / "founded"
    membership.found(path, identity_of(0), family.kinds, name="a", config=CONFIG, clock_ms=family.clock)
    environment = Environment.acquire(path, CONFIG)
    take(environment, read_label(path), identity_of(0), tmp_path / "backup", 0)
    environment.release()
    a = family.open(path, 0, lease=False)
    again = restored(family, tmp_path / "backup", tmp_path / "again")
    assert again.incarnation != a.incarnation
