"""Systems for Node.js: ``make bench-faults`` installs them beside their scripts."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from bench.measure import Unavailable

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"


def installed(package: str) -> str:
    """The version of an npm package. Raises Unavailable."""
    description = MODULES / package / "package.json"
    if shutil.which("node") is None or not description.is_file():
        raise Unavailable(f"{package} (needs Node.js and make bench-faults)")
    version: str = json.loads(description.read_text())["version"]
    return version


def command(script: Path, *arguments: str) -> list[str | os.PathLike[str]]:
    """Runs a script whose clock can be set wrong by the environment: see :func:`clock`."""
    return [shutil.which("node") or "node", "--import", (HERE / "skew.mjs").as_uri(), script, *arguments]


def clock(skew_ms: int) -> dict[str, str]:
    return {"FAULTS_SKEW_MS": str(skew_ms)}
