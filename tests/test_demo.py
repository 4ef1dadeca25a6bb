"""The demo, run as people run it: what it reports is compared with the sample file, read here by itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from aico_crdt.samples import household

COMMAND = [sys.executable, "-c", "from aico_crdt.cli.main import main; main()", "demo"]
NAMES = ["laptop", "phone", "tablet"]
TIMEOUT_S = 100
PHASES = "".join(f"{phase} …\n" for phase in ("A family of three", "Loading", "Apart", "Healing", "Looking"))
"""On a pipe, a line for each phase."""


def run(temporary: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The demo with its temporary files under `temporary`, and nothing left there."""
    environment = {**os.environ, "TMPDIR": str(temporary)}
    done = subprocess.run(
        [*COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert not list(temporary.iterdir())
    return done


def report_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert (done.returncode, done.stderr) == (0, PHASES)
    report: dict[str, Any] = json.loads(done.stdout)
    assert (report["type"], report["version"], report["failures"]) == ("demo", 1, [])
    return report


@pytest.fixture
def temporary(fast_path: Path) -> Path:
    path = fast_path / "tmp"
    path.mkdir()
    return path


def private(fields: dict[str, Any]) -> bool:
    return fields.get("privacy") == "private" or bool({"personal", "confidential"} & set(fields.get("tags", ())))


def test_the_household_parts_and_agrees(temporary: Path, fast_path: Path) -> None:
    kept = fast_path / "kept"
    report = report_of(run(temporary, "--json", "--keep", str(kept)))
    records = list(household())
    apart = {r["id"] for r in records if r["kind"] == "conversation" and private(r["fields"])}
    local = Counter(
        r["device"]
        for r in records
        if (r["kind"] in ("memory", "conversation") and private(r["fields"]))
        or (r["kind"] == "message" and r["fields"]["conversation_id"] in apart)
    )
    shared = Counter(
        r["kind"]
        for r in records
        if not (r["kind"] in ("memory", "conversation") and private(r["fields"]))
        and not (r["kind"] == "message" and r["fields"]["conversation_id"] in apart)
    )
    # Apart, two messages and three readings were added and one memory was forgotten.
    shared.update({"message": 2, "emotion": 3, "memory": -1})
    assert report["load"]["written"] == Counter(r["device"] for r in records)
    assert len({report["devices"][name]["content_hash"] for name in NAMES}) == 1
    assert len(set(report["apart"]["content_hashes"].values())) == 3
    assert len(set(report["family"]["processes"].values())) == 3
    for name in NAMES:
        device = report["devices"][name]
        assert device["shared"] == shared
        assert sum(device["local"].values()) == local[name]
        assert device["problems"] == []
        assert report["load"]["received_bytes"][name] > 50_000
        assert 0 < report["heal"]["received_bytes"][name] < 50_000
    assert sum(local.values()) > 0

    (conflict,) = report["conflicts"]
    texts = {r["id"]: r["fields"]["content"] for r in records if r["kind"] == "memory"}
    assert (conflict["field"], conflict["id"]) == ("content", report["edited"])
    assert sorted(version["device"] for version in conflict["versions"]) == ["laptop", "tablet"]
    versions = {version["value"] for version in conflict["versions"]}
    assert conflict["seen"] in versions
    assert len(versions - {texts[conflict["id"]]}) == 2

    forgotten = report["receipts"]["forgotten"]
    assert forgotten["id"] in texts
    assert forgotten["forgotten"]
    assert (forgotten["erased_on"], forgotten["owing"]) == (NAMES, [])
    said = report["receipts"]["said"]
    assert (said["everywhere"], said["on"]) == (True, ["phone", "tablet"])

    check_blend(report["feeling"])
    look_at_what_was_kept(kept, forgotten["id"], texts, local)


def check_blend(feeling: dict[str, Any]) -> None:
    """The three readings of the story, blended in floats by the formula of docs/architecture.md."""
    told = [(0.5, 0.3, 0.9, 3), (0.4, 0.2, 0.8, 2), (-0.3, 0.6, 0.6, 1)]  # valence, arousal, confidence, minutes old
    weights = [confidence * 2 ** (-minutes / 30) for _, _, confidence, minutes in told]
    total = 0.1 + sum(weights)
    for name, place in (("valence", 0), ("arousal", 1)):
        expected = sum(weight * one[place] for weight, one in zip(weights, told, strict=True)) / total
        assert feeling[name] == pytest.approx(expected, abs=2e-6)
    assert feeling["contributing_devices"] == NAMES
    assert feeling["primary"] == "relieved"


def look_at_what_was_kept(kept: Path, forgotten: str, texts: dict[str, str], local: Counter[str]) -> None:
    """With commands of their own: each device exports what the file says, without what is others' own."""
    for name in NAMES:
        command = [*COMMAND[:-1], "export", "--include-local"]
        environment = {**os.environ, "AICO_CRDT_HOME": str(kept / name)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
        exported = [json.loads(line) for line in done.stdout.splitlines()[1:]]
        memories = {one["id"] for one in exported if one["kind"] == "memory"}
        assert forgotten not in memories
        mine = {r["id"] for r in household() if r["kind"] == "memory" and private(r["fields"]) and r["device"] == name}
        others = {r["id"] for r in household() if r["kind"] == "memory" and private(r["fields"])} - mine
        assert memories == texts.keys() - others - {forgotten}
    secret = next(r["fields"]["content"] for r in household() if r["kind"] == "memory" and private(r["fields"]))
    assert not [file for file in kept.rglob("*") if file.is_file() and secret.encode() in file.read_bytes()]


def test_people_read_the_same(temporary: Path) -> None:
    done = run(temporary)
    assert (done.returncode, done.stderr) == (0, PHASES)
    assert "\x1b" not in done.stdout
    for words in ("All three hold the same", "Open: 1 conflict", "forgotten; its key is destroyed on laptop, phone"):
        assert words in done.stdout


def chat(number: int) -> dict[str, Any]:
    nodes: dict[str, Any] = {"root": {"id": "root", "message": None, "parent": None, "children": ["m0"]}}
    for place in range(4):
        role = ("user", "assistant")[place % 2]
        nodes[f"m{place}"] = {
            "id": f"m{place}",
            "parent": f"m{place - 1}" if place else "root",
            "children": [f"m{place + 1}"] if place < 3 else [],
            "message": {
                "id": f"{number}-{place}",
                "author": {"role": role},
                "create_time": 1_700_000_000.0 + number * 100 + place,
                "content": {"content_type": "text", "parts": [f"Words {place} of conversation {number}."]},
                "metadata": {},
            },
        }
    head = {"conversation_id": f"chat-{number}", "title": f"Chat {number}", "create_time": 1_700_000_000.0}
    return {**head, "mapping": nodes, "current_node": "m3"}


def test_an_export_of_ones_own(temporary: Path, fast_path: Path) -> None:
    file = fast_path / "conversations.json"
    file.write_text(json.dumps([chat(number) for number in range(7)]), encoding="utf-8")
    report = report_of(run(temporary, "--json", "--input", str(file)))
    written = report["load"]["written"]
    assert sum(written.values()) == report["records"] == 7 * 5
    assert max(written.values()) - min(written.values()) <= 2
    for name in NAMES:
        shared = report["devices"][name]["shared"]
        assert (shared["conversation"], shared["message"], shared["memory"]) == (7, 28 + 2, 1)
    (conflict,) = report["conflicts"]
    assert conflict["field"] == "user_note"


def test_what_is_no_export_is_refused_before_anything_starts(temporary: Path, fast_path: Path) -> None:
    file = fast_path / "letter.txt"
    file.write_text("Dear Aico,", encoding="utf-8")
    done = run(temporary, "--input", str(file))
    assert (done.returncode, done.stdout) == (1, "")
    assert "letter.txt: This is plain text" in done.stderr


def test_interrupted_it_leaves_nothing(temporary: Path) -> None:
    process = subprocess.Popen(
        COMMAND, env={**os.environ, "TMPDIR": str(temporary)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + TIMEOUT_S
    while not list(temporary.glob("*/*/store/data.mdb")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    devices = psutil.Process(process.pid).children(recursive=True)
    assert len(devices) == 3
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=TIMEOUT_S)
    begun = PHASES[: PHASES.index("Loading")]
    assert (process.returncode, said) == (130, f"{begun}Interrupted. The three devices and what they held are gone.\n")
    assert not any(device.is_running() for device in devices)
    assert not list(temporary.iterdir())
