"""House rules: no machine's paths, no registry hosts, no long files, no log messages that are built.

Looks at the files git tracks, so that what is being written in a checkout is not judged before it is added.
Run: ``python -m tools.check_house [ROOT]``.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MAX_LINES: Final = 600
"""A module beyond this holds more than one concept."""

# Written so that no pattern matches its own line.
PATTERNS: Final = (
    (re.compile(r"(?<![\w.~)}])/(?:home|work|root|Users|opt)/\w"), "a path of one machine"),
    (
        re.compile(r"(?:pypi|npmjs|crates|anaconda)[.](?:org|io|com)|pythonhosted[.]org|proxy[.]golang[.]org"),
        "a package registry's host: pip's own configuration names it",
    ),
    (re.compile(r"[ \t]+$"), "trailing whitespace"),
)

LOG_CALLS: Final = frozenset({"debug", "info", "warning", "error", "critical", "exception", "log"})
LOGGERS: Final = frozenset({"log", "logger", "logging", "_log", "_logger", "LOG"})


def tracked(root: Path) -> list[Path]:
    """The files git knows under `root`; where there is no git, all but caches and hidden ones."""
    listed = subprocess.run(["git", "-C", root, "ls-files", "-z"], capture_output=True, check=False)
    if listed.returncode == 0:
        found = (root / name.decode() for name in listed.stdout.split(b"\0") if name)
    else:
        hidden = re.compile(r"(?:^|/)(?:\.(?!ci/)|__pycache__/|[^/]+\.egg-info/)")
        found = (path for path in root.rglob("*") if not hidden.search(path.relative_to(root).as_posix()))
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def problems(root: Path) -> list[str]:
    """One line for each breach in the tracked text files under `root`."""
    found = []
    for path in tracked(root):
        raw = path.read_bytes()
        if b"\0" in raw:
            continue
        name, text = path.relative_to(root).as_posix(), raw.decode("utf-8", "replace")
        found += [f"{name}:{line}: {what}" for line, what in _breaches(name, text)]
    return found


def _breaches(name: str, text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.split("\n"), 1):
        for pattern, what in PATTERNS:
            if pattern.search(line):
                yield number, what
    if name.startswith("aico_crdt/") and name.endswith(".py"):
        count = len(text.splitlines())
        if count > MAX_LINES:
            yield MAX_LINES, f"{count} lines; over {MAX_LINES} it holds more than one concept: split it"
        yield from _built_log_messages(ast.parse(text))


def _built_log_messages(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Log calls whose message is no literal: content could be inside where no formatter can see it."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        *_, target, verb = ["", "", *ast.unparse(node.func).split(".")]
        if target not in LOGGERS or verb not in LOG_CALLS:
            continue
        for message in node.args[1:2] if verb == "log" else node.args[:1]:
            if not (isinstance(message, ast.Constant) and isinstance(message.value, str)):
                yield node.lineno, "a log message is a literal, ids its arguments (aico_crdt/logs.py)"


def main() -> int:
    found = problems(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
    print("\n".join(found) or "house rules: kept")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
