"""merge and diff: two stores brought together, or compared; and a bundle in place of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.support import Device, Devices


def add(device: Device, document_id: str, content: str, **fields: Any) -> None:
    with device.open() as store:
        store.memories.add(content, id=document_id, **fields)


@pytest.fixture
def both(laptop: Device, phone: Device, month: Path) -> list[object]:
    """Two stores that each hold what the other lacks; the arguments that name them."""
    laptop("import", month)
    add(phone, "memory-phone1", "from the phone")
    add(phone, "memory-phone2", "of the family", privacy="family")
    add(phone, "memory-local1", "stays", privacy="private")
    return [laptop.store_path, phone.store_path, "--key-b", phone.key]


def test_both_end_equal_and_the_report_says_what_came_from_where(
    both: list[object], laptop: Device, phone: Device
) -> None:
    report = laptop.json("merge", *both)
    assert report["equal"] is True
    assert laptop("diff", laptop.store_path, phone.store_path, "--key-b", phone.key).startswith("The same. ")
    assert report["conflicts"] == []
    assert report["a"]["content_hash"] == report["b"]["content_hash"] == phone.json("status")["content_hash"]
    came = {(r["space"], r["kind"], r["device_name"]): r["entries"] for r in report["a"]["received"]}
    assert came == {("own", "memory", "phone"): 1, ("family", "memory", "phone"): 1}
    came = {(r["space"], r["kind"], r["device_name"]): r["entries"] for r in report["b"]["received"]}
    assert came == {("own", kind, "laptop"): 1 for kind in ("memory", "conversation", "emotion")}
    assert report["a"]["received_bytes"] > 0
    with laptop.open() as store:
        assert store.memories.get("memory-phone1")["content"] == "from the phone"
        assert store.read("memory", "memory-local1") is None
    with phone.open() as store:
        assert store.conversations.get("talk-000001")["title"] == "Tea"


def test_afterwards_each_knows_what_the_other_holds(both: list[object], laptop: Device) -> None:
    laptop("merge", *both)
    assert laptop.json("status", "memory-000001")["everywhere"] is True
    assert list(laptop.json("status")["pending"].values()) == [0]
    assert laptop.json("devices")["devices"][1]["last_heard_ms"] is not None


def test_merging_again_moves_nothing(both: list[object], laptop: Device) -> None:
    laptop("merge", *both)
    before = laptop.snapshot()
    again = laptop.json("merge", *both)
    assert (again["a"]["received_entries"], again["b"]["received_entries"]) == (0, 0)
    assert laptop.snapshot() == before


def test_open_conflicts_are_listed_with_their_writers(both: list[object], laptop: Device, phone: Device) -> None:
    laptop("merge", *both)
    for device, text in ((laptop, "one"), (phone, "other")):
        with device.open() as store:
            store.memories.edit("memory-000001", content=text)
    report = laptop.json("merge", *both)
    assert report["equal"] is True
    (found,) = report["conflicts"]
    assert found["id"] == "memory-000001"
    assert {v["device_name"]: v["value"] for v in found["conflicts"]["content"]} == {"laptop": "one", "phone": "other"}
    assert laptop.json("inspect", "conflicts")["documents"] == report["conflicts"]
    assert "memory memory-000001: content, 2 versions" in laptop("merge", *both)


def test_another_family_s_store_is_refused_and_nothing_changed(laptop: Device, stranger: Device) -> None:
    before = laptop.snapshot(), stranger.snapshot()
    for command in ("merge", "diff"):
        said = laptop.fails(command, laptop.store_path, stranger.store_path, "--key-b", stranger.key)
        assert "belongs to family" in said
    assert (laptop.snapshot(), stranger.snapshot()) == before


def test_a_store_is_not_merged_with_itself(laptop: Device) -> None:
    assert "are the same store" in laptop.fails("merge", laptop.store_path, laptop.home / "." / "store")


def test_diff_names_what_differs_and_where(both: list[object], laptop: Device, phone: Device) -> None:
    add(laptop, "memory-both01", "first")
    laptop("merge", *both)
    assert laptop.json("diff", *both)["same"] is True
    with phone.open() as store:
        store.memories.edit("memory-both01", content="second", about="Mara")
    add(laptop, "memory-a00001", "a")
    add(phone, "memory-b00001", "b")
    found = laptop.json("diff", *both, code=1)
    assert found["only_a"] == [{"kind": "memory", "id": "memory-a00001"}]
    assert found["only_b"] == [{"kind": "memory", "id": "memory-b00001"}]
    (differing,) = found["differing"]
    assert differing["id"] == "memory-both01"
    assert set(differing["fields"]) == {"about", "content", "updated_at"}
    assert found["content_hash_a"] != found["content_hash_b"]
    assert "differs" in laptop("diff", *both, code=1)


# Bundles


@pytest.fixture
def bundle(laptop: Device, month: Path, tmp_path: Path) -> Path:
    """What the laptop holds."""
    laptop("import", month)
    laptop("bundle", tmp_path / "laptop.bundle")
    return tmp_path / "laptop.bundle"


def test_a_bundle_brings_the_other_device_up(bundle: Path, laptop: Device, phone: Device) -> None:
    report = phone.json("merge", phone.store_path, bundle)
    assert report["applied"] == 3
    assert report["bundle"]["device_name"] == "laptop"
    assert report["bundle_lacks"] == []
    assert report["a"]["content_hash"] == laptop.json("status")["content_hash"]
    assert phone.json("diff", phone.store_path, bundle)["same"] is True


def test_taking_a_bundle_again_changes_nothing(bundle: Path, phone: Device) -> None:
    phone("merge", phone.store_path, bundle)
    before = phone.snapshot()
    again = phone.json("merge", phone.store_path, bundle)
    assert again["applied"] == 0
    assert again["duplicates"] > 0
    assert phone.snapshot() == before


def test_a_bundle_is_its_writer_s_own_word_of_what_it_holds(bundle: Path, phone: Device) -> None:
    phone("merge", phone.store_path, bundle)
    assert phone.json("status", "memory-000001")["everywhere"] is True


def test_what_the_bundle_lacks_is_said_and_can_be_carried_back(bundle: Path, laptop: Device, phone: Device) -> None:
    add(phone, "memory-phone1", "from the phone")
    assert phone.json("merge", phone.store_path, bundle)["bundle_lacks"] == ["own/memory"]
    assert "carry one back" in phone("merge", phone.store_path, bundle)
    back = bundle.with_name("back.bundle")
    phone("bundle", back)
    laptop("merge", laptop.store_path, back)
    assert laptop.json("status")["content_hash"] == phone.json("status")["content_hash"]


def test_diff_with_a_bundle_changes_nothing_and_leaves_nothing(bundle: Path, phone: Device) -> None:
    before, files = phone.snapshot(), sorted(phone.home.iterdir())
    found = phone.json("diff", phone.store_path, bundle, code=1)
    assert {(d["kind"], d["id"]) for d in found["only_b"]} == {
        ("conversation", "talk-000001"),
        ("message", "message-000001"),
        ("memory", "memory-000001"),
        ("emotion", "reading-000001"),
        ("emotion", "mara"),
    }
    assert found["only_a"] == found["differing"] == []
    assert (phone.snapshot(), sorted(phone.home.iterdir())) == (before, files)


def test_a_bundle_is_sealed_and_private(bundle: Path) -> None:
    assert bundle.stat().st_mode & 0o777 == 0o600
    assert b"jasmine" not in bundle.read_bytes()
    assert b"memory" not in bundle.read_bytes()


def test_a_limited_device_takes_what_it_may_read(new: Devices, laptop: Device, tmp_path: Path) -> None:
    kitchen = new("kitchen")
    laptop("admit", kitchen.json("id")["device"], "--name", "kitchen", "--trust", "limited", "--output", tmp_path / "k")
    kitchen("init", "--join", tmp_path / "k")
    add(laptop, "memory-own001", "mine")
    add(laptop, "memory-fam001", "ours", privacy="family")
    laptop("bundle", tmp_path / "b")
    report = kitchen.json("merge", kitchen.store_path, tmp_path / "b")
    assert report["bundle"]["unreadable_collections"] == 1
    with kitchen.open() as store:
        assert store.memories.get("memory-fam001")["content"] == "ours"
        assert store.read("memory", "memory-own001") is None


def test_a_file_is_not_overwritten(bundle: Path, laptop: Device) -> None:
    content = bundle.read_bytes()
    assert "already is a file" in laptop.fails("bundle", bundle)
    assert bundle.read_bytes() == content
