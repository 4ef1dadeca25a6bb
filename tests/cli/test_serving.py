"""serve and sync: the commands over real links on loopback, as processes."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.support import Device, error_of

pytestmark = pytest.mark.processes


@contextmanager
def serving(device: Device, who: str = "", meetings: int = 0) -> Iterator[str]:
    """The endpoint of a `serve` process.

    It must end well when it is interrupted, having told of so many `meetings` with `who`.
    """
    process = device.process("serve", "--bind", "tcp://127.0.0.1:0")
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.match(r"Listening on (tcp://127\.0\.0\.1:\d+) as \w+", line)
        assert found is not None, line + (process.stderr.read() if process.stderr is not None else "")
        yield found[1]
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=15)
        assert process.returncode == 0
        *told, last = out.splitlines()
        assert last == "Stopped."
        assert told == [f"{who} connected.", f"{who} left: the peer said bye."] * meetings
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def peers(device: Device, other: Device, endpoint: str) -> Path:
    """devices.yaml of `device` that names `other`."""
    name = other.home.name
    text = f"- id: {other.json('id')['device']}\n  name: {name}\n  endpoints: [{endpoint}]\n"
    (device.home / "devices.yaml").write_text(text)
    return device.home / "devices.yaml"


def test_meeting_a_serving_peer_brings_both_to_the_same(laptop: Device, phone: Device, month: Path) -> None:
    laptop("import", month)
    with phone.open() as store:
        store.memories.add("from the phone", id="memory-phone1")
    with serving(laptop, "phone", 2) as endpoint:
        peers(phone, laptop, endpoint)
        report = phone.json("sync", "--timeout", "15")
        (met,) = report["peers"]
        assert (met["name"], met["reached"], met["reason"]) == ("laptop", True, None)
        assert report["quiet"] is True
        assert sum(one["entries"] for one in report["received"]) == 3
        assert laptop.json("status")["content_hash"] == report["content_hash"]
        assert phone.json("status", "memory-phone1", "--wait", "--timeout", "10")["everywhere"] is True
        assert "Received 0 entries" in phone("sync", "--peer", "laptop")


def test_a_peer_that_does_not_answer(laptop: Device, phone: Device) -> None:
    peers(phone, laptop, "tcp://127.0.0.1:9")
    said = phone.run("sync", "--timeout", "0.5")
    assert said.exit_code == 1
    assert "No link with laptop within 0.5 s." in said.stderr
    assert "no link" in said.stdout


def test_without_peers_there_is_nobody_to_meet(phone: Device) -> None:
    said = phone.fails("sync")
    assert "There is no peer to dial" in said
    assert str(phone.home / "devices.yaml") in said


def test_a_peer_that_is_not_listed(laptop: Device, phone: Device) -> None:
    peers(phone, laptop, "tcp://127.0.0.1:9")
    assert "not among the devices to dial" in phone.fails("sync", "--peer", "phone")
    assert "No device" in phone.fails("sync", "--peer", "tablet")


@pytest.mark.parametrize("bind", ["here", "tcp://host", "tcp://127.0.0.1:99999", "udp://127.0.0.1:1"])
def test_what_is_no_address(laptop: Device, bind: str) -> None:
    assert "tcp://HOST:PORT" in laptop.fails("serve", "--bind", bind)


def test_a_port_that_is_taken(laptop: Device, phone: Device) -> None:
    with serving(laptop) as endpoint:
        process = phone.process("serve", "--bind", endpoint)
        _, said = process.communicate(timeout=15)
        assert process.returncode == 1
        assert "Address already in use" in error_of(said)


def test_an_address_of_another_machine(laptop: Device) -> None:
    process = laptop.process("serve", "--bind", "tcp://203.0.113.7:0")
    _, said = process.communicate(timeout=15)
    assert process.returncode == 1
    assert "203.0.113.7 is not an address of this machine" in error_of(said)


def test_a_device_that_was_revoked_is_told_that_it_may_have_been(laptop: Device, phone: Device) -> None:
    peers(phone, laptop, "tcp://127.0.0.1:9")
    assert "device that was revoked gets no link" in phone.run("sync", "--timeout", "0.5").stderr
    phone("revoke", "phone", "--yes")
    assert "This device was revoked" in phone.run("sync", "--timeout", "0.5").stderr


def test_a_serving_store_stays_usable_by_other_processes(laptop: Device, month: Path) -> None:
    with serving(laptop):
        laptop("import", month)
        assert laptop.json("status", "memory-000001")["here"] is True
