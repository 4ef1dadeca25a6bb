"""``python -m simulation``: run seeds, replay one, or shrink one that fails."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence

from simulation import counts
from simulation.run import DEVICES, STEPS, run, shrink


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 when every promise was kept and every class of fault came up (that only of many seeds)."""
    options = _parser().parse_args(arguments)
    if options.seed is not None:
        return _one(options)
    return _many(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one only")
    parser.add_argument("--first", type=int, default=0, help="the first of many seeds (default 0)")
    parser.add_argument("--seeds", type=int, default=100, help="how many (default 100)")
    parser.add_argument("--minutes", type=float, help="stop after so long")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"steps of each (default {STEPS})")
    parser.add_argument("--devices", type=int, default=DEVICES, help=f"devices to begin with (default {DEVICES})")
    parser.add_argument("--without", default="", help="faults to leave out, comma-separated, as simulation/faults.py")
    parser.add_argument("--only", default="", help="the steps of --seed to take, comma-separated")
    parser.add_argument("--trace", action="store_true", help="print every step of --seed")
    parser.add_argument("--shrink", action="store_true", help="leave out steps of --seed as long as it fails alike")
    return parser


def _one(options: argparse.Namespace) -> int:
    without = options.without.split(",") if options.without else []
    only = [int(number) for number in options.only.split(",")] if options.only else None
    result = run(options.seed, steps=options.steps, devices=options.devices, only=only, without=without)
    if result.check and options.shrink:
        only = shrink(result, devices=options.devices, without=without)
        result = run(options.seed, steps=options.steps, devices=options.devices, only=only, without=without)
        print(f"shrunk to {len(only)} steps: --only {','.join(map(str, only))}")
    if options.trace or options.shrink:
        print("\n".join(result.trace))
    print(result)
    return 1 if result.check else 0


def _many(options: argparse.Namespace) -> int:
    without = options.without.split(",") if options.without else []
    began = time.monotonic()
    total: Counter[str] = Counter()
    failed: list[int] = []
    seeds = range(options.first, options.first + options.seeds)
    done = 0
    for seed in seeds:
        if options.minutes is not None and time.monotonic() - began > options.minutes * 60:
            break
        result = run(seed, steps=options.steps, devices=options.devices, without=without)
        done += 1
        total.update(result.counts)
        if result.check:
            failed.append(seed)
            print(result, flush=True)
    print(counts.table(total))
    absent = counts.missing(total)
    print(f"{done} seeds, {len(failed)} failed{': ' + ', '.join(map(str, failed)) if failed else ''}")
    if absent:
        print(f"never came up: {', '.join(absent)}")
    return 1 if failed or absent else 0


if __name__ == "__main__":
    sys.exit(main())
