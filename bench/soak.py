"""What ``make soak`` runs: the property tests and the crash harness, then the fuzzers led by coverage
(:mod:`bench.fuzzing`), again and again under a new seed, until the time is up.

``python -m bench.soak [--minutes 60] [--seed N] [--rounds N] [TEST …]``. Every round's seed is printed before it
begins; ``--seed N --rounds 1`` repeats a round. The tests see ``AICO_SOAK``, a whole number by which they multiply
what they try, and ``AICO_SOAK_SEED``; Hypothesis searches by its profile ``thorough``. The first round that fails ends
the soak with exit code 1.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from bench.fuzzing import SECONDS, fuzz

ROOT = Path(__file__).resolve().parents[1]
TESTS = ("property_tests", "tests/crash")
FACTOR = 5
"""Default of AICO_SOAK: a round then takes minutes, so that a soak of an hour sees several seeds."""
GRACE_S = 20
"""Given to a round that the end of the time interrupts, to end by itself."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    ends = time.monotonic() + options.minutes * 60
    seed = random.SystemRandom().randrange(1 << 31) if options.seed is None else options.seed
    rounds = 0
    while rounds < options.rounds and time.monotonic() < ends:
        print(f"soak: round {rounds + 1}, seed {seed}", flush=True)
        code = _round(seed, options.factor, options.tests or TESTS, ends - time.monotonic())
        if code is None:
            print(f"soak: time is up in the middle of seed {seed}; no test of it had failed", flush=True)
            break
        if code:
            print(f"soak: FAILED with seed {seed} (repeat: python -m bench.soak --seed {seed} --rounds 1)", flush=True)
            return 1
        if not options.tests and not fuzz(seed, options.fuzz_seconds, ends - time.monotonic()):
            return 1
        rounds += 1
        seed += 1
    print(f"soak: {rounds} whole rounds clean", flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("tests", nargs="*", metavar="TEST", help=f"default: {' '.join(TESTS)}")
    parser.add_argument("--minutes", type=float, default=60.0, help="end after so long (default 60)")
    parser.add_argument("--rounds", type=int, default=1 << 31, help="end after so many seeds")
    parser.add_argument("--seed", type=int, help="the first seed; each round takes the next (default: drawn)")
    parser.add_argument("--fuzz-seconds", type=int, default=SECONDS, help=f"for each fuzz target (default {SECONDS})")
    parser.add_argument("--factor", type=int, default=FACTOR, help=f"AICO_SOAK (default {FACTOR})")
    return parser


def _round(seed: int, factor: int, tests: Sequence[str], left_s: float) -> int | None:
    """The exit code of one round; None when the time was up before its end and no test had failed."""
    environment = {**os.environ, "AICO_SOAK": str(factor), "AICO_SOAK_SEED": str(seed)}
    environment.setdefault("HYPOTHESIS_PROFILE", "thorough")
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "2", f"--junitxml={report}"]
        command += [f"--hypothesis-seed={seed}", *tests]
        with subprocess.Popen(command, cwd=ROOT, env=environment) as running:
            try:
                return running.wait(left_s)
            except subprocess.TimeoutExpired:
                running.send_signal(signal.SIGINT)
            try:
                running.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                running.kill()
        return 1 if _failures(report) else None


def _failures(report: Path) -> int:
    """Tests that failed, of a JUnit report that pytest writes at its end, however it ends."""
    if not report.is_file():
        return 0
    suites = ElementTree.parse(report).getroot().iter("testsuite")
    return sum(int(suite.get(count, 0)) for suite in suites for count in ("failures", "errors"))


if __name__ == "__main__":
    raise SystemExit(main())
