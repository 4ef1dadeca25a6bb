"""No input makes a decoder or a store raise what nobody catches, hang, crash, or change where it refuses.

Each target runs in a process of its own, since what slips through may be a segmentation fault. ``AICO_SOAK=n``
multiplies the inputs by n, ``AICO_SOAK_SEED`` is added to their seeds.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from property_tests.fuzz.__main__ import search
from property_tests.fuzz.decoders import Target
from property_tests.fuzz.mutate import change_value, damaged
from property_tests.fuzz.targets import TARGETS
from property_tests.fuzz.watch import Watch, last_input

SOAK = int(os.environ.get("AICO_SOAK", "1"))
SEED = int(os.environ.get("AICO_SOAK_SEED", "0"))
ROOT = Path(__file__).parent.parent
INPUTS = {
    "walker": 40_000, "yrs": 25_000, "merge": 25_000, "birth": 20_000, "state-vector": 5_000,
    "entry": 15_000, "manifest": 15_000, "run": 5_000, "fork": 5_000, "statement": 5_000,
    "msgpack": 10_000, "message": 15_000, "session": 8_000, "channel": 10_000,
    "store-items": 5_000, "store-headers": 4_000, "store-wires": 3_000,
    "store-manifests": 4_000, "store-bodies": 2_000, "bundles": 3_000, "bundle-files": 2_000,
}  # fmt: skip


def fuzz(name: str, seed: int, count: int, watched: Path) -> None:
    command = [sys.executable, "-m", "property_tests.fuzz", name, str(seed), str(count), "--watch", str(watched)]
    print(*command[1:])
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100 * SOAK, check=False)
    if done.returncode < 0:
        ended = "a second of CPU time" if done.returncode == -signal.SIGPROF else signal.Signals(-done.returncode).name
        tried = last_input(watched)
        pytest.fail(f"{name}, seed {seed}: {ended} at the input {tried.hex() if tried is not None else 'unknown'}")
    assert done.returncode == 0, f"{name}, seed {seed}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    tally = json.loads(done.stdout.splitlines()[-1])
    assert sum(tally.values()) == count
    assert tally["refused"] > count // 20
    assert tally["taken"] + tally.get("birth", 0) > 0


@pytest.mark.processes
@pytest.mark.parametrize("name", INPUTS)
def test_what_nobody_meant_to_write_is_taken_or_refused(name: str, tmp_path: Path) -> None:
    fuzz(name, SEED, INPUTS[name] * SOAK, tmp_path / "watched")


def test_every_target_is_fuzzed_and_with_enough_inputs() -> None:
    assert INPUTS.keys() == TARGETS.keys()
    assert sum(INPUTS.values()) >= 200_000


# That the fuzzers notice


def found_by(run: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    target = Target([b"seed"], run)  # type: ignore[arg-type]
    with Watch(tmp_path / "watched") as watch:
        search(target, 1, 200, watch)
    return [json.loads(line)["finding"] for line in capsys.readouterr().out.splitlines() if "finding" in line]


def test_what_escapes_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Panic(BaseException):
        """As Rust's."""

    def run(data: bytes) -> str:
        if data == b"seed":
            return "taken"
        raise Panic("at the disco")

    assert found_by(run, tmp_path, capsys) == ["Panic: at the disco"] * 5


def test_a_refusal_that_changed_a_store_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from property_tests.fuzz.stores import house

    with house() as home:

        def run(data: bytes) -> str:
            if data != b"seed":
                home.anne.create("memory", {"content": "trace"})
            return home.look("refused")

        assert set(found_by(run, tmp_path, capsys)) == {"Finding: what was refused has changed the store"}


@pytest.mark.parametrize(
    ("does", "code"), [("while True: pass", -signal.SIGPROF), ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV)]
)
def test_what_hangs_or_crashes_is_known_by_its_input(does: str, code: int, tmp_path: Path) -> None:
    watched = tmp_path / "watched"
    program = (
        "import pathlib, sys; from property_tests.fuzz.watch import Watch\n"
        "watch = Watch(pathlib.Path(sys.argv[1])); watch.begin(b'harmless'); watch.begin(b'culprit')\n"
    )
    done = subprocess.run([sys.executable, "-c", program + does, watched], cwd=ROOT, check=False, capture_output=True)
    assert done.returncode == code
    assert last_input(watched) == b"culprit"


def test_damage_is_repeated_by_its_seed_and_reaches_inner_values() -> None:
    seeds = [bytes.fromhex("92c40492c0c2c305"), b"plain"]  # [[nil, false] as bytes, 5]
    first = [damaged(random.Random(7), seeds, values=True) for _ in range(2)]
    assert first[0] == first[1]
    changed = {change_value(random.Random(seed), seeds[0]) for seed in range(400)}
    assert len(changed) > 50
    assert any(raw is not None and raw[0] == 0x92 and raw[-1] == 5 and raw[3:4] == b"\x92" for raw in changed)
    assert change_value(random.Random(1), b"\xc1") is None
