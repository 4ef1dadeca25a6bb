"""``python -m bench.faults [FAULT …] [--peers NAME …] [--seed N] [--quick]``: run, print a table, write JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from aico_crdt.store.environment import filesystem_of
from bench.faults.report import Cell, markdown, table
from bench.faults.run import run
from bench.faults.scenarios import SCENARIOS
from bench.faults.systems import SYSTEMS
from bench.measure import Unavailable

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
SCRATCH = HERE.parents[1] / "build"
WIDTH = 130


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    for given, known in ((options.faults, SCENARIOS), (options.peers, SYSTEMS)):
        unknown = [name for name in given if name not in known]
        if unknown:
            print(f"Nothing is called {', '.join(unknown)}. Names: {', '.join(known)}.", file=sys.stderr)
            return 2
    options.dir.mkdir(parents=True, exist_ok=True)
    say = Console(stderr=True, highlight=False)
    seeds = range(options.seed, options.seed + options.rounds)
    cells: list[Cell] = []
    absent: dict[str, str] = {}
    for fault in options.faults or SCENARIOS:
        for name in options.peers or SYSTEMS:
            if name in absent:
                continue
            try:
                cell = run(SYSTEMS[name], SCENARIOS[fault], seeds, options.dir, quick=options.quick)
            except Unavailable as reason:
                absent[name] = str(reason)
                say.print(f"skipped: {reason}")
                continue
            say.print(f"{fault} on {name}: {cell.why_not or f'{cell.seconds:.0f} s'}")
            cells.append(cell)
            options.output.write_text(json.dumps(_results(cells, options), indent=1, ensure_ascii=False) + "\n")
    out = Console(highlight=False)
    if not out.is_terminal:
        out.width = WIDTH
    if options.markdown:
        print(markdown(cells))
    else:
        out.print(table(cells))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"all when none is given: {', '.join(SCENARIOS)}")
    parser.add_argument("--peers", nargs="+", default=[], metavar="NAME", help=f"default all: {', '.join(SYSTEMS)}")
    parser.add_argument("--seed", type=int, default=1, help="decides every moment of every fault (default 1)")
    parser.add_argument("--rounds", type=int, default=1, help="so many seeds one after another, summed up (default 1)")
    parser.add_argument("--quick", action="store_true", help="small sizes, for a look")
    parser.add_argument("--dir", type=Path, default=SCRATCH, help="where data is put (default: build)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="default: bench/faults/results.json")
    parser.add_argument("--markdown", action="store_true", help="print the table for a document")
    return parser


def _results(cells: Sequence[Cell], options: argparse.Namespace) -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {filesystem_of(options.dir)}",
        "python": platform.python_version(),
        "quick": options.quick,
        "results": [cell.as_json() for cell in cells],
    }


if __name__ == "__main__":
    raise SystemExit(main())
