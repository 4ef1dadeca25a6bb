"""Peers written for Node.js: ``make bench-peers`` installs them beside their scripts."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from bench.measure import Unavailable

HERE = Path(__file__).parent
TIMEOUT_S = 300


def run_node(script: str, package: str, work: str, path: Path, count: int) -> dict[str, float]:
    """Figures from ``node <script>.mjs <work> <path> <count>``, which prints them as one JSON object."""
    node = shutil.which("node")
    if node is None or not (HERE / "node_modules" / package).is_dir():
        raise Unavailable(f"{script} (needs Node.js and make bench-peers)")
    result = subprocess.run(
        [node, HERE / f"{script}.mjs", work, path, str(count)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if result.returncode:
        raise Unavailable(f"{script} (it failed with exit code {result.returncode} at {work})")
    found: dict[str, float] = json.loads(result.stdout)
    return found
