"""Admitting, revoking, listing devices."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.support import Device, Devices


def names(device: Device) -> dict[str, tuple[str, bool]]:
    return {one["name"]: (one["trust"], one["current"]) for one in device.json("devices")["devices"]}


def test_devices_are_listed_senior_first(laptop: Device) -> None:
    found = laptop.json("devices")["devices"]
    assert [one["name"] for one in found] == ["laptop", "phone"]
    assert [one["this"] for one in found] == [True, False]
    assert found[1]["admitted_by"] == found[0]["device"]
    assert found[1]["last_heard_ms"] is None
    text = laptop("devices")
    assert "this device" in text
    assert "never" in text


def test_a_device_shows_what_it_says_of_itself(laptop: Device) -> None:
    with laptop.open() as store:
        store.devices.describe(friendly_name="Mara's laptop", tier="laptop")
    assert laptop.json("devices")["devices"][0]["profile"] == {"friendly_name": "Mara's laptop", "tier": "laptop"}
    assert "Mara's laptop" in laptop("devices")


def test_a_device_is_revoked_by_name_after_being_asked(laptop: Device) -> None:
    assert laptop.run("revoke", "phone", input="n\n").exit_code == 1
    assert names(laptop)["phone"] == ("full", True)
    laptop("revoke", "phone", input="y\n")
    assert names(laptop)["phone"] == ("full", False)
    assert "not a current member" in laptop.fails("revoke", "phone", "--yes")


def test_a_device_is_revoked_by_the_beginning_of_its_id(laptop: Device) -> None:
    phone = laptop.json("devices")["devices"][1]["device"]
    assert "No device" in laptop.fails("revoke", phone[:5], "--yes")
    laptop("revoke", phone[:6], "--yes")
    assert names(laptop)["phone"] == ("full", False)


def test_admitting_again_writes_the_admission_again_and_changes_nothing(laptop: Device, tmp_path: Path) -> None:
    phone = laptop.json("devices")["devices"][1]["device"]
    before = laptop.snapshot()
    laptop("admit", phone, "--name", "phone", "--output", tmp_path / "again")
    assert laptop.snapshot() == before
    assert "already is a file" in laptop.fails("admit", phone, "--name", "phone", "--output", tmp_path / "again")
    laptop("admit", phone, "--name", "phone", "--output", tmp_path / "again", "--force")


def test_two_devices_do_not_share_a_name(laptop: Device, new: Devices, tmp_path: Path) -> None:
    tablet = new("tablet").json("id")["device"]
    assert "already is a device named" in laptop.fails("admit", tablet, "--name", "phone", "--output", tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_what_is_no_device_id_is_refused(laptop: Device) -> None:
    for text in ("12", "x" * 64, "ab" * 33):
        assert "64 hexadecimal digits" in laptop.fails("admit", text, "--name", "tablet")


def test_a_limited_device_admits_nobody(new: Devices, laptop: Device, tmp_path: Path) -> None:
    kitchen, tablet = new("kitchen"), new("tablet")
    laptop("admit", kitchen.json("id")["device"], "--name", "kitchen", "--trust", "limited", "--output", tmp_path / "k")
    kitchen("init", "--join", tmp_path / "k")
    before = kitchen.snapshot()
    said = kitchen.fails("admit", tablet.json("id")["device"], "--name", "tablet", "--output", tmp_path / "t")
    assert "may not" in said
    assert kitchen.snapshot() == before
    assert not (tmp_path / "t").exists()


def test_admitting_a_member_says_that_it_is_one(laptop: Device, phone: Device, tmp_path: Path) -> None:
    before = laptop.snapshot()
    ids = {one["name"]: one["device"] for one in laptop.json("devices")["devices"]}
    said = laptop("admit", ids["phone"], "--name", "phone", "--output", tmp_path / "a")
    assert said.startswith("phone (full) is a member already; nothing was changed.")
    assert (tmp_path / "a").exists()
    said = laptop("admit", ids["laptop"], "--name", "laptop", "--output", tmp_path / "b")
    assert said == "This is that device: laptop (full), a member already. Nothing was changed.\n"
    assert not (tmp_path / "b").exists()
    assert laptop.snapshot() == before


def test_without_an_answer_nobody_is_revoked(laptop: Device) -> None:
    before = laptop.snapshot()
    result = laptop.run("revoke", "phone", input="")
    assert result.exit_code == 1
    assert result.stderr.endswith(
        "\nError: Nothing was changed: there was no answer.\nUse --yes where nobody can answer.\n"
    )
    assert laptop.run("revoke", "phone", input="n\n").stderr.endswith("Nothing was changed.\n")
    assert laptop.snapshot() == before


def test_an_admission_that_cannot_be_written_can_be_written_again(
    laptop: Device, new: Devices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tablet = new("tablet").json("id")["device"]

    def refuse(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr("aico_crdt.cli.members.write_private", refuse)
        said = laptop.fails("admit", tablet, "--name", "tablet", "--output", tmp_path / "a")
    assert "is admitted, but" in said
    laptop("admit", tablet, "--name", "tablet", "--output", tmp_path / "a")
    assert (tmp_path / "a").exists()
