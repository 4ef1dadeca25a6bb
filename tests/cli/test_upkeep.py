"""verify, compact, backup and restore."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.support import Device, Devices


@pytest.fixture
def filled(laptop: Device, month: Path) -> Device:
    laptop("import", month)
    return laptop


@pytest.mark.parametrize("options", [(), ("--refold",)])
def test_a_sound_store_verifies(filled: Device, options: tuple[str, ...]) -> None:
    report = filled.json("verify", *options)
    assert report["sound"] is True
    assert report["problems"] == []
    assert report["counts"]["documents"] == 5
    assert "Sound: " in filled("verify", *options)


def test_compacting_destroys_what_is_due_and_drops_what_everyone_holds(filled: Device, phone: Device) -> None:
    filled("merge", filled.store_path, phone.store_path, "--key-b", phone.key)
    with filled.open() as store:
        store.forget("memory", "memory-000001")
    filled.environment["AICO_CRDT_UNDO_WINDOW_S"] = "0"
    with filled.open() as store:
        store.conversations.forget("message-000001")
    before = filled.json("status")
    assert before["owed_erasures"] == 2
    report = filled.json("compact")
    assert report["erased"] == 1  # the other is within its day
    assert report["entries"] > 0
    after = filled.json("status")
    assert after["owed_erasures"] == 1
    assert after["content_hash"] == before["content_hash"]
    assert sum(c["entries"] for c in after["collections"]) < sum(c["entries"] for c in before["collections"])
    assert filled.json("verify", "--refold")["sound"] is True
    assert "entries dropped   0" in filled("compact")


def test_a_vacuum_shrinks_the_file_and_needs_the_store_to_itself(filled: Device) -> None:
    before = filled.json("status")["content_hash"]
    report = filled.json("vacuum")
    assert report["bytes"] <= report["bytes_before"]
    assert "file" in filled("vacuum")
    assert filled.json("status")["content_hash"] == before
    with filled.open():
        assert "is open in" in filled.fails("vacuum")


def test_what_was_pruned_is_said_to_have_been_verified_when_it_came(filled: Device, phone: Device) -> None:
    filled("merge", filled.store_path, phone.store_path, "--key-b", phone.key)
    filled("compact")
    found = filled.json("why", "memory-000001")
    assert {(w["entry"], w["verified"], w["device_name"]) for w in found["writes"]} == {(None, None, "laptop")}
    assert "its signed entry was pruned; it was verified when it came" in filled("why", "memory-000001")
    receipt = filled.json("status", "memory-000001")
    assert receipt["on"]
    assert {(tuple(w["on"]), tuple(w["missing"])) for w in found["writes"]} == {(tuple(receipt["on"]), ())}
    assert "this device, phone" in filled("why", "memory-000001")
    assert "None of its entries is held here" in filled("inspect", "document", "memory-000001")


def test_a_backup_is_restored_as_a_new_incarnation(filled: Device, tmp_path: Path) -> None:
    before = filled.json("status")
    assert "keep a copy elsewhere" in filled("backup", tmp_path / "backup")
    with filled.open() as store:
        store.memories.add("after the backup", id="memory-000002")
    shutil.rmtree(filled.store_path)
    report = filled.json("restore", tmp_path / "backup")
    after = filled.json("status")
    assert (after["content_hash"], after["device"], after["store"]) == tuple(
        before[name] for name in ("content_hash", "device", "store")
    )
    assert after["incarnation"] == report["incarnation"] != before["incarnation"]
    assert "There is no document" in filled.fails("status", "memory-000002")


def test_what_came_after_the_backup_comes_from_the_others(filled: Device, phone: Device, tmp_path: Path) -> None:
    filled("backup", tmp_path / "backup")
    with filled.open() as store:
        store.memories.add("after the backup", id="memory-000002")
    filled("merge", filled.store_path, phone.store_path, "--key-b", phone.key)
    shutil.rmtree(filled.store_path)
    filled("restore", tmp_path / "backup")
    with filled.open() as store:
        store.memories.add("after the restore", id="memory-000003")
    assert filled.json("merge", filled.store_path, phone.store_path, "--key-b", phone.key)["equal"] is True
    with filled.open() as store:
        assert {row.id for row in store.rows("memory")} == {f"memory-00000{number}" for number in (1, 2, 3)}


def test_a_store_is_not_overwritten(filled: Device, tmp_path: Path) -> None:
    filled("backup", tmp_path / "backup")
    before = filled.snapshot()
    filled.fails("restore", tmp_path / "backup")
    assert filled.snapshot() == before
    assert "is not empty" in filled.fails("backup", tmp_path / "backup")
    assert "outside the store" in filled.fails("backup", filled.store_path / "backup")


def test_a_damaged_backup_makes_no_store(filled: Device, tmp_path: Path) -> None:
    filled("backup", tmp_path / "backup")
    for name in ("data.mdb", "lives", "BACKUP"):
        path = tmp_path / "backup" / name
        raw = path.read_bytes()
        place = raw.index(b'"data"') + 12 if name == "BACKUP" else 40
        for damaged in (raw[: len(raw) // 2], raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]):
            path.write_bytes(damaged)
            filled.fails("restore", tmp_path / "backup", "--store", tmp_path / "new")
            assert not (tmp_path / "new").exists()
        path.write_bytes(raw)
    filled("restore", tmp_path / "backup", "--store", tmp_path / "new")


def test_a_backup_needs_its_key(filled: Device, new: Devices, stranger: Device, tmp_path: Path) -> None:
    filled("backup", tmp_path / "backup")
    other = new("other")
    assert "restore it from your backup of the key" in other.fails("restore", tmp_path / "backup")
    assert "is not the key" in other.fails("restore", tmp_path / "backup", "--key", stranger.key)
    assert "There is no backup" in other.fails("restore", tmp_path / "nothing")
    assert not other.store_path.exists()
    other("restore", tmp_path / "backup", "--key", filled.key)
