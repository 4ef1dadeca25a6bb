"""What was forgotten for good on one device is destroyed on another as soon as it hears of it, however it hears."""

from __future__ import annotations

from pathlib import Path

from tests.cli.support import Device


def test_a_bundle_that_tells_of_a_forget_destroys_the_key(
    laptop: Device, phone: Device, month: Path, tmp_path: Path
) -> None:
    laptop("import", month)
    laptop("bundle", tmp_path / "first")
    phone("merge", phone.store_path, tmp_path / "first")
    with laptop.open() as store:
        store.memories.forget("memory-000001", now=True)
    laptop("bundle", tmp_path / "second")
    phone("merge", phone.store_path, tmp_path / "second")
    assert phone.json("status")["owed_erasures"] == 0


def test_a_merge_of_two_stores_destroys_the_key_on_both(laptop: Device, phone: Device, month: Path) -> None:
    laptop("import", month)
    laptop("merge", laptop.store_path, phone.store_path, "--key-b", phone.key)
    with laptop.open() as store:
        store.memories.forget("memory-000001", now=True)
    laptop("merge", laptop.store_path, phone.store_path, "--key-b", phone.key)
    assert phone.json("status")["owed_erasures"] == 0


def test_who_waits_to_be_admitted_is_told_how_to_join(tmp_path: Path) -> None:
    fresh = Device(tmp_path / "fresh", "fresh")
    assert "aico-crdt init" in fresh.fails("status")
    fresh("id")
    assert "init --join FILE" in fresh.fails("status")
