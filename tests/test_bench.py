"""The benchmarks run, and say what they measured in the shape that is promised; never how fast."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import soak
from bench.__main__ import main
from bench.measure import Bench, Result, Unavailable, percentile, take_turns
from bench.names import NAMES

PROMISED = (
    "append_durable append_group read_row read_last_50 open_cold ingest first_sync resync_noop resync_ten "
    "live_latency emotion_register_size store_bytes text_b4"
)
KEYS = {"name", "value", "unit", "better", "peers", "ratio", "size", "extra"}


def run(place: Path, *names: str) -> list[dict[str, Any]]:
    output = place / "results.json"
    assert main([*names, "--quick", "--dir", str(place), "--output", str(output)]) == 0
    found: list[dict[str, Any]] = json.loads(output.read_text())
    return found


def test_every_promised_name_is_there() -> None:
    assert list(NAMES) == PROMISED.split()


def test_results_have_the_promised_shape(fast_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["append_durable", "read_row", "emotion_register_size"]
    found = run(fast_path, *names)
    assert [one["name"] for one in found] == names
    for one in found:
        assert one.keys() - {"p10", "p90"} == KEYS
        assert one["value"] > 0
        assert one["better"] in ("lower", "higher")
        assert one["ratio"].keys() == one["peers"].keys()
        for peer, theirs in one["peers"].items():
            assert one["ratio"][peer] == pytest.approx(one["value"] / theirs, rel=1e-3)
    assert {"lmdb_raw", "sqlite"} <= found[0]["peers"].keys()
    assert [one["unit"] for one in found] == ["µs", "µs", "B"]
    assert found[0]["extra"]["above_lmdb_raw_us"] == pytest.approx(
        found[0]["value"] - found[0]["peers"]["lmdb_raw"], abs=0.1
    )
    table = capsys.readouterr().out
    assert all(name in table for name in names)
    assert {path.name for path in fast_path.iterdir()} == {"results.json"}  # nothing is left behind


@pytest.mark.processes
def test_two_processes_meet_and_are_measured(fast_path: Path) -> None:
    noop, latency = run(fast_path, "resync_noop", "live_latency")
    assert noop["extra"]["bytes"] > 0
    assert noop["extra"]["ratio_to_small"] > 0
    assert latency["p10"] <= latency["value"] <= latency["p90"] <= latency["extra"]["max_ms"]


def test_ingest_applies_every_entry_it_counts(fast_path: Path) -> None:
    assert run(fast_path, "ingest")[0]["unit"] == "entries/s"


def test_an_unknown_name_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "results.json"
    assert main(["append_durable", "apend", "--output", str(output)]) == 2
    assert not output.exists()
    told = capsys.readouterr().err
    assert "apend" in told
    assert "append_durable" in told


def test_the_ratio_is_ours_through_theirs() -> None:
    result = Result("n", 300.0, "µs", "lower", {"twice as fast": 150.0, "slower": 1200.0, "did nothing": 0.0})
    assert result.ratio == {"twice as fast": 2.0, "slower": 0.25}
    assert result.as_json()["ratio"] == {"twice as fast": 2.0, "slower": 0.25}


def test_an_absent_peer_is_told_once_and_left_out(tmp_path: Path) -> None:
    said: list[str] = []
    bench = Bench(tmp_path, quick=True, say=said.append)

    def absent() -> int:
        raise Unavailable("nothing (install it)")

    assert [bench.try_peer(absent), bench.try_peer(absent), bench.try_peer(lambda: 7)] == [None, None, 7]
    assert said == ["skipped: nothing (install it)"]


def test_calls_take_turns_and_warming_up_does_not_count() -> None:
    calls: list[tuple[str, int]] = []
    taken = take_turns({"a": lambda n: calls.append(("a", n)), "b": lambda n: calls.append(("b", n))}, 2, warm_up=1)
    assert calls == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert {name: len(samples) for name, samples in taken.items()} == {"a": 2, "b": 2}


def test_percentiles_are_nearest_ranks() -> None:
    samples = [float(number) for number in range(100, 0, -1)]
    assert (percentile(samples, 10), percentile(samples, 50), percentile(samples, 99)) == (11, 51, 100)
    assert percentile([4.0], 90) == 4


# --- the soak


def write_test(path: Path, body: str) -> Path:
    file = path / "test_soaked.py"
    file.write_text(f"import os, time\ndef test_soaked():\n    {body}\n")
    return file


@pytest.mark.processes
def test_the_soak_prints_its_seed_and_stops_at_the_first_failure(tmp_path: Path) -> None:
    file = write_test(tmp_path, "assert os.environ['AICO_SOAK_SEED'] != '12' and os.environ['AICO_SOAK'] == '3'")
    command = [sys.executable, "-m", "bench.soak", "--seed", "11", "--rounds", "5", "--factor", "3", str(file)]
    result = subprocess.run(command, cwd=soak.ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    told = [line for line in result.stdout.splitlines() if line.startswith("soak:")]
    assert told[:2] == ["soak: round 1, seed 11", "soak: round 2, seed 12"]
    assert "FAILED with seed 12" in told[2]


@pytest.mark.processes
def test_the_soak_ends_when_its_time_is_up(tmp_path: Path) -> None:
    file = write_test(tmp_path, "time.sleep(60)")
    command = [sys.executable, "-m", "bench.soak", "--seed", "1", "--minutes", "0.03", str(file)]
    result = subprocess.run(command, cwd=soak.ROOT, capture_output=True, text=True, check=False, timeout=50)
    assert result.returncode == 0
    assert "time is up in the middle of seed 1" in result.stdout


def test_a_failure_is_told_even_when_the_time_was_up(tmp_path: Path) -> None:
    """What pytest wrote before it was interrupted decides, not its exit code."""
    report = tmp_path / "report.xml"
    for failures, errors in ((0, 0), (1, 0), (0, 2)):
        report.write_text(f'<testsuites><testsuite failures="{failures}" errors="{errors}" tests="9"/></testsuites>')
        assert soak._failures(report) == failures + errors
    assert soak._failures(tmp_path / "killed before it was written.xml") == 0
