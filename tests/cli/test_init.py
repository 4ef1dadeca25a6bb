"""Making stores: founding, the identity to be admitted by, joining."""

from __future__ import annotations

import stat
from pathlib import Path

from tests.cli.support import Device, Devices


def test_a_store_is_made_with_a_private_key_outside_of_it(new: Devices) -> None:
    laptop = new("laptop")
    said = laptop("init", "--name", "laptop", "--type", "server")
    assert "founded its family" in said
    status = laptop.json("status")
    assert (status["name"], status["trust"], status["path"]) == ("laptop", "full", str(laptop.store_path))
    assert laptop.key.stat().st_size == 32
    assert stat.S_IMODE(laptop.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(laptop.store_path.stat().st_mode) == 0o700
    assert not any(path.suffix == ".key" for path in laptop.store_path.rglob("*"))
    lease = laptop.home / "leases"
    assert len(list(lease.glob("*.lease"))) == 1
    assert not list(laptop.home.glob("keys/next-*"))


def test_the_name_defaults_to_the_host_s(new: Devices) -> None:
    device = new("any")
    device("init")
    assert device.json("status")["name"]


def test_an_identity_is_made_once_and_stays(new: Devices) -> None:
    phone = new("phone")
    first = phone.json("id")
    assert first["family"] is None
    assert len(bytes.fromhex(first["device"])) == 32
    assert len(first["curve_public"]) == 40
    assert phone.json("id") == first
    assert first["device"] in phone("init", "--identity-only")
    assert not phone.store_path.exists()


def test_each_store_path_has_an_identity_of_its_own(new: Devices) -> None:
    device = new("device")
    first = device.json("id")["device"]
    second = device.json("id", "--store", device.home / "other")["device"]
    assert first != second
    device("init", "--name", "first")
    device("init", "--name", "second", "--store", device.home / "other")
    assert device.json("status")["device"] == first
    assert device.json("status", "--store", device.home / "other")["device"] == second


def test_a_device_joins_by_its_admission(new: Devices, tmp_path: Path) -> None:
    laptop, phone = new("laptop"), new("phone")
    laptop("init", "--name", "laptop")
    device = phone.json("id")["device"]
    said = laptop("admit", device, "--name", "phone", "--trust", "limited", "--output", tmp_path / "a")
    assert "init --join" in said
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    phone("init", "--join", tmp_path / "a")
    status = phone.json("status")
    assert (status["device"], status["name"], status["trust"]) == (device, "phone", "limited")
    assert status["family"] == laptop.json("status")["family"] == phone.json("id")["family"]
    assert "own" not in {collection["space"] for collection in status["collections"]}


def test_a_key_may_be_kept_elsewhere(new: Devices, tmp_path: Path) -> None:
    device = new("device")
    key = tmp_path / "stick" / "my.key"
    device("init", "--name", "device", "--key", key)
    assert key.stat().st_size == 32
    assert not (device.home / "keys").exists()
    assert device.json("status", "--key", key)["name"] == "device"
    assert "Name its file with --key" in device.fails("status")


def test_join_takes_no_name(laptop: Device, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert laptop.run("init", "--store", tmp_path / "new", "--join", tmp_path / "a", "--name", "x").exit_code == 2


def test_what_was_made_for_a_store_that_failed_is_removed(new: Devices) -> None:
    device = new("device")
    assert device.run("init", "--name", "line\nbreak").exit_code == 1
    assert not device.store_path.exists()
    assert not list((device.home / "keys").iterdir())
