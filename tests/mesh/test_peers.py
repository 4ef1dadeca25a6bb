"""devices.yaml: what it may say, and where an error stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from aico_crdt.errors import InvalidValue, NotFound
from aico_crdt.mesh import Peer, load_peers, parse_peers
from aico_crdt.mesh.peers import SAMPLE, check_endpoint
from aico_crdt.trust import Identity

LAPTOP = Identity.from_seed(b"\1" * 32)
TABLET = Identity.from_seed(b"\2" * 32)


def test_a_file_of_two_devices(tmp_path: Path) -> None:
    path = tmp_path / "devices.yaml"
    path.write_text(
        f"# at home\n- id: {LAPTOP.device.hex()}\n  name: laptop\n"
        f"  endpoints: [tcp://192.168.1.20:5555, 'tcp://[fe80::1]:5555']\n  capabilities: [memory, high_memory]\n"
        f"  public_key: '{LAPTOP.curve_public_z85}'\n"
        f"- id: {TABLET.device.hex()}\n"
    )
    assert load_peers(path) == (
        Peer(LAPTOP.device, "laptop", ("tcp://192.168.1.20:5555", "tcp://[fe80::1]:5555"), ("memory", "high_memory")),
        Peer(TABLET.device),
    )


def test_nothing_is_an_empty_list() -> None:
    assert parse_peers(b"") == parse_peers(b"# nobody yet\n") == parse_peers(b"[]") == ()


def test_no_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        load_peers(tmp_path / "devices.yaml")


GOOD = f"- id: {LAPTOP.device.hex()}\n  name: laptop\n"


@pytest.mark.parametrize(
    ("text", "line", "field"),
    [
        ("- id: [unclosed\n", 2, ""),
        ("devices: 1\n", None, "not a list"),
        ("- 5\n", 1, ""),
        ("- name: laptop\n", 1, "`id`"),
        ("- id: 3b6a\n", 1, "`id`"),
        (f"- id: {'f' * 64}\n", 1, "`id`"),
        (GOOD + f"- id: {TABLET.device.hex()}\n  endpoints: tcp:/a:1\n", 3, "`endpoints`"),
        (GOOD + f"- id: {TABLET.device.hex()}\n  endpoints: ['ipc:///tmp/x']\n", 3, "`endpoints`"),
        (GOOD + f"- id: {TABLET.device.hex()}\n  capabilities: [5]\n", 3, "`capabilities`"),
        (GOOD + f"- id: {TABLET.device.hex()}\n  public_key: '{LAPTOP.curve_public_z85}'\n", 3, "`public_key`"),
        (GOOD + f"- id: {TABLET.device.hex()}\n  nmae: x\n", 3, "`nmae`"),
        (GOOD + GOOD, 1, "3"),
        ("- id: 1\n  name: !!python/object:os.system x\n", 2, ""),
        ("- &a {id: x}\n- *a\n", None, "alias"),
        ("[" * 3000, None, "deep"),
        ("- id: \x00\n", 1, ""),
        ("- id: 2026-99-99\n", None, ""),
    ],
)
def test_an_error_names_line_and_field(text: str, line: int | None, field: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        parse_peers(text.encode(), "devices.yaml")
    assert "devices.yaml" in str(caught.value)
    assert line is None or f"line {line}" in str(caught.value) or f"lines {line}" in str(caught.value)
    assert field in str(caught.value)


def test_one_endpoint_needs_no_list_and_a_wrong_one_is_told_once_with_a_sample() -> None:
    entry = f"- id: {LAPTOP.device.hex()}\n  endpoints: "
    assert parse_peers(f"{entry}tcp://a:1\n".encode())[0].endpoints == ("tcp://a:1",)
    for wrong in ("5", "tcp:/a:1"):
        with pytest.raises(InvalidValue) as caught:
            parse_peers(f"{entry}{wrong}\n".encode())
        assert caught.value.what.count("devices.yaml") == 1
        assert caught.value.cure.endswith(SAMPLE)
    assert parse_peers(SAMPLE.encode())[0].endpoints == ("tcp://192.168.1.20:5555",)


def test_a_huge_file_is_not_read() -> None:
    with pytest.raises(InvalidValue, match="larger"):
        parse_peers(b"#" * (2 << 20))


@pytest.mark.parametrize(
    "text", ["tcp://a:0", "tcp://a:65536", "tcp://:5", "tcp://a", "ws://a:5", "tcp://a b:5", "tcp://a:5/x", 5, None]
)
def test_what_is_no_endpoint(text: object) -> None:
    with pytest.raises(InvalidValue):
        check_endpoint(text)
