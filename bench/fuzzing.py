"""The fuzz targets led by coverage, one after the other, for so many seconds each: a part of every round of the soak.

``python -m bench.fuzzing [--seconds 60] [--seed N] [TARGET …]``. What was tried and led somewhere new is kept in
``.fuzz/TARGET``, and the next run goes on from there; interrupting loses nothing. One line tells how each target
ended. The first finding ends the run with exit code 1, and a line that says how to see it again.

Where Atheris cannot be installed (it is built for x86-64 Linux), the inputs are damaged blindly instead.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from property_tests.fuzz.watch import last_input

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / ".fuzz"
SECONDS = 20
BLIND_INPUTS = 1000
"""Inputs tried blindly for a second of the time there is: what the slowest target tries."""
_RUNS = re.compile(rb"Done (\d+) runs|^#(\d+)\t", re.MULTILINE)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fuzzing", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    parser.add_argument("--seconds", type=int, default=SECONDS, help=f"for each target (default {SECONDS})")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    return 0 if fuzz(options.seed, options.seconds, targets=options.targets) else 1


def fuzz(seed: int, seconds: int, left_s: float = float("inf"), targets: Sequence[str] = ()) -> bool:
    """Whether nothing was found in `seconds` for each target, as far as `left_s` reach."""
    every: Sequence[str] = list(importlib.import_module("property_tests.fuzz.targets").TARGETS)
    KEPT.mkdir(exist_ok=True)
    guided = importlib.util.find_spec("atheris") is not None
    if not guided:
        print("fuzz: no Atheris for this Python; inputs are damaged blindly", flush=True)
    ends = time.monotonic() + left_s
    for name in targets or every:
        room = int(min(seconds, ends - time.monotonic()))
        if room > 0 and not _target(name, seed, room, guided):
            return False
    return True


def _target(name: str, seed: int, seconds: int, guided: bool) -> bool:
    log, trying = KEPT / f"{name}.log", KEPT / f"{name}-trying"
    if guided:
        command = ["property_tests.fuzz.guided", name, str(KEPT / name), "--seconds", str(seconds), "--seed", str(seed)]
    else:
        command = ["property_tests.fuzz", name, str(seed), str(BLIND_INPUTS * seconds), "--watch", str(trying)]
    with log.open("wb") as out, subprocess.Popen(
        [sys.executable, "-m", *command], cwd=ROOT, stdout=out, stderr=subprocess.STDOUT
    ) as running:  # fmt: skip
        try:
            code = running.wait()
        except KeyboardInterrupt:
            running.send_signal(signal.SIGINT)
            raise
    runs = [int(done or at) for done, at in _RUNS.findall(log.read_bytes())]
    kept = len(list((KEPT / name).iterdir())) if guided else 0
    if code == 0:
        print(f"fuzz: {name}: {max(runs, default=BLIND_INPUTS * seconds):,} inputs, {kept} kept", flush=True)
        return True
    ended = "a second of CPU time" if code == -signal.SIGPROF else f"exit code {code}"
    print(f"fuzz: FOUND something in {name} ({ended}); see {log}", flush=True)
    tried = last_input(trying) if trying.is_file() else None
    if tried is not None:
        finding = KEPT / f"{name}-finding"
        finding.write_bytes(tried)
        print(f"fuzz: again: python -m property_tests.fuzz {name} --input {finding}", flush=True)
    return False


if __name__ == "__main__":
    raise SystemExit(main())
