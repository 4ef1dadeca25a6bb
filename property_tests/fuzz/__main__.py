"""Tries inputs in this process, and says at its end how many ended how; see the package."""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from property_tests.fuzz.mutate import damaged
from property_tests.fuzz.targets import TARGETS, Target
from property_tests.fuzz.watch import Watch

MAX_FINDINGS: Final = 5
MEMORY_BYTES: Final = 4 << 30
"""What takes more is a finding: every decoder works within a few megabytes. Stores reserve addresses, not memory."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m property_tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("seed", type=int, nargs="?", default=0)
    parser.add_argument("count", type=int, nargs="?", default=1000)
    parser.add_argument("--input", type=Path, help="try this file and nothing else")
    parser.add_argument("--watch", type=Path, default=Path("/dev/null"), help="keep the input under trial here")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        target = stack.enter_context(TARGETS[options.target]())
        if options.input is not None:
            print(target.run(options.input.read_bytes()))
            return 0
        watch = stack.enter_context(Watch(options.watch))
        findings = search(target, options.seed, options.count, watch)
    return 1 if findings else 0


def search(target: Target, seed: int, count: int, watch: Watch) -> int:
    """How many of `count` inputs of `seed` were findings; each is printed as one line of JSON, the tally as the last.

    The seeds of the target, all valid, are tried first.
    """
    rng = random.Random(seed)
    tally: Counter[str] = Counter()
    findings = 0
    for number in range(count):
        data = target.seeds[number] if number < len(target.seeds) else damaged(rng, target.seeds, values=target.values)
        watch.begin(data)
        try:
            tally[target.run(data)] += 1
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - that there is none is what is tested; a Rust panic is one
            watch.rest()
            findings += 1
            print(json.dumps({"finding": f"{type(error).__name__}: {error}"[:500], "input": data.hex()}), flush=True)
            if findings == MAX_FINDINGS:
                break
    watch.rest()
    print(json.dumps(tally))
    return findings


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    sys.exit(main())
