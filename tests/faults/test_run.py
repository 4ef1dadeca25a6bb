"""The command, and this store under some of the faults."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bench.faults.__main__ import main
from bench.faults.scenarios import SCENARIOS
from bench.faults.systems import SYSTEMS, chroma, node

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "fault-harness.md"


@pytest.mark.processes
@pytest.mark.slow
def test_this_store_is_clean_where_processes_write_and_what_was_forgotten_stays_away(
    fast_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = fast_path / "results.json"
    given = ["crash-several", "forget-edit", "--peers", "aico-crdt", "--quick", "--seed", "5"]
    assert main([*given, "--dir", str(fast_path), "--output", str(output)]) == 0
    crash, forget = json.loads(output.read_text())["results"]
    for cell in (crash, forget):
        assert (cell["lost"], cell["resurrected"], cell["divergent"]) == (0, 0, 0)
        assert cell["seeds"] == [5]
        assert not cell["notes"]
    assert crash["owed"] > 5
    assert (forget["forgotten"], forget["records"]) == (8, 16)
    table = capsys.readouterr().out
    assert "crash-several" in table
    assert "0 of 8" in table
    assert {path.name for path in fast_path.iterdir()} == {"results.json"}  # nothing is left behind


def test_peers_that_are_not_installed_are_told_once_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(node, "MODULES", tmp_path / "none")
    monkeypatch.setattr(chroma, "PYTHON", tmp_path / "none")
    peers = [name for name in SYSTEMS if not name.startswith("aico-crdt")]
    output = tmp_path / "results.json"
    assert main(["processes", "crash", "--dir", str(tmp_path), "--output", str(output), "--peers", *peers]) == 0
    told = capsys.readouterr().err
    assert told.count("skipped:") == len(peers)
    assert "make bench-faults" in told
    assert not output.exists()


@pytest.mark.parametrize("given", [["no-such-fault"], ["--peers", "aico"]])
def test_an_unknown_name_is_refused_before_anything_runs(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*given, "--output", str(tmp_path / "results.json")]) == 2
    assert given[-1] in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_document_names_every_fault_every_system_and_the_versions_that_are_installed() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert {name for name in SCENARIOS if f"`{name}`" not in text} == set()
    assert {name for name in SYSTEMS if f"`{name}`" not in text} == set()
    pinned = json.loads((node.HERE / "package.json").read_text())["dependencies"]
    assert {f"{name} {version}" for name, version in pinned.items() if f"{name} {version}" not in text} == set()
    constraints = (node.HERE / "constraints.txt").read_text()
    found = re.search(r"^chromadb==(.+)$", constraints, re.MULTILINE)
    assert found is not None
    assert f"chromadb {found[1]}" in text
