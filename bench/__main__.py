"""``python -m bench [NAME …] [--quick]``: measure, print a table, write the results as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from aico_crdt.store.environment import filesystem_of
from bench.measure import Bench, Result, Unavailable
from bench.names import NAMES

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
SCRATCH = HERE.parent / "build"
"""On the disk of the checkout; the system's temporary directory may be in memory, where a sync costs nothing."""


WIDTH = 150
"""Columns of the table where no terminal says how many there are."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        print(f"Nothing is called {', '.join(unknown)}. Names: {', '.join(NAMES)}.", file=sys.stderr)
        return 2
    console = Console(stderr=True, highlight=False)
    options.dir.mkdir(parents=True, exist_ok=True)
    filesystem = filesystem_of(options.dir)
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    disk = filesystem or "unknown file system"
    console.print(f"{os.cpu_count()} cores{load}, {disk}, Python {platform.python_version()}")
    if filesystem in ("tmpfs", "ramfs"):
        console.print(f"{options.dir} is in memory: durable costs nothing there. Name a disk with --dir.")
    found: list[Result] = []
    scratch = Path(tempfile.mkdtemp(prefix="bench-", dir=options.dir))
    try:
        bench = Bench(scratch, quick=options.quick, say=console.print)
        for name in options.names or NAMES:
            result = _measure(name, bench, console.print)
            if result is not None:
                found.append(result)
                _write(options.output, found)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    out = Console()
    if not out.is_terminal:
        out.width = WIDTH
    out.print(_table(found, quick=options.quick))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all when none is given: {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="small sizes, for a look: figures are not the real ones")
    parser.add_argument("--dir", type=Path, default=SCRATCH, help="where stores are made (default: build)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="default: bench/results.json")
    return parser


def _measure(name: str, bench: Bench, say: Callable[[str], Any]) -> Result | None:
    begin = time.perf_counter()
    try:
        result = NAMES[name](bench)
    except Unavailable as absent:
        say(f"skipped: {absent}")
        return None
    say(f"{name}: {_number(result.value)} {result.unit} (measured in {time.perf_counter() - begin:.1f} s)")
    return result


def _write(path: Path, found: Sequence[Result]) -> None:
    path.write_text(json.dumps([result.as_json() for result in found], indent=1, ensure_ascii=False) + "\n")


def _table(found: Sequence[Result], *, quick: bool) -> Table:
    table = Table(title="Quick look: small sizes" if quick else None, title_justify="left")
    for heading in ("name", "median", "p10 to p90", "peers (ours through theirs)", "also", "measured on"):
        table.add_column(heading, no_wrap=heading == "name")
    for result in found:
        around = "" if result.spread is None else " to ".join(map(_number, result.spread))
        peers = "\n".join(
            f"{peer} {_number(value)} ({result.ratio[peer]:.2f})" for peer, value in result.peers.items()
        )
        extra = "\n".join(f"{name} {_number(value)}" for name, value in result.extra.items())
        table.add_row(result.name, f"{_number(result.value)} {result.unit}", around, peers, extra, result.size)
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    raise SystemExit(main())
