"""Imports point downward only, libraries stay where they belong, pure packages do no I/O.

Reads the sources, so an import inside a function or under ``TYPE_CHECKING`` counts like any other.
Run: ``python -m tools.check_imports [ROOT]``.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PACKAGE: Final = "aico_crdt"

LAYERS: Final = (
    ("cli", "__main__"),
    ("agents", "gateway", "hub"),
    ("mesh",),
    ("sync", "companion"),
    ("search",),
    ("store",),
    ("trust", "feed"),
    ("crdt",),
    ("config", "versions", "logs", "home"),
    ("ids", "clock", "aead"),
    ("errors",),
)
"""From top to bottom. What stands on one line does not know each other."""

DATA: Final = {"samples": ("cli", "companion")}
"""Packages of data, and who may import them."""

PURE: Final = ("crdt", "feed", "trust", "sync")
"""Take time, randomness and I/O as arguments; import only each other (downward) and the ground."""

GROUND: Final = ("config", "versions", "logs", "ids", "clock", "aead", "errors")

IO_MODULES: Final = {
    "trust/lease.py": "keeps the counter outside the store that tells a copied store from the original",
    "trust/keyfile.py": "reads and makes the file with the device's seed",
}
"""Modules of pure packages that touch the machine, and why; pure modules may not import them."""

IMPURE: Final = frozenset(
    {"asyncio", "concurrent", "multiprocessing", "select", "signal", "subprocess", "threading"}
    | {"fcntl", "glob", "io", "lmdb", "mmap", "os", "pathlib", "platform", "shutil", "sqlite3", "tempfile"}
    | {"http", "socket", "ssl", "urllib", "zmq"}
    | {"random", "secrets", "time", "uuid"}
)

LIBRARIES: Final = {
    "pycrdt": ("crdt/document.py",),
    "lmdb": ("store/", "versions.py"),
    "zmq": ("mesh/", "versions.py"),
    "hnswlib": ("search/",),
    "click": ("cli/",),
    "rich": ("cli/",),
}
"""Libraries with one home; a name that ends in a slash is a folder. versions.py asks what they are."""

_DEPTH: Final = {unit: depth for depth, line in enumerate(LAYERS) for unit in line}


def problems(root: Path) -> list[str]:
    """One line for each breach in the package under `root`, sorted by file and line."""
    found: list[str] = []
    for path in sorted((root / PACKAGE).rglob("*.py")):
        file = path.relative_to(root / PACKAGE).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        breaches = sorted((line, text) for line, text in _breaches(file, tree))
        found += [f"{PACKAGE}/{file}:{line}: {text}" for line, text in breaches]
    return found


def _breaches(file: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    here = file.split("/")[0].removesuffix(".py")
    if here == "__init__":
        return  # the public table of contents stands above everything
    if here not in _DEPTH and here not in DATA:
        yield 1, f"`{here}` has no place yet: give it one in LAYERS of tools/check_imports.py"
        return
    pure = here in PURE and file not in IO_MODULES
    for line, name in _imports(file, tree):
        top, *rest = name.split(".")
        if top == PACKAGE:
            reason = _inside(here, rest, pure)
        else:
            reason = _outside(file, here, top, pure)
        if reason:
            yield line, reason
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (called := _name(node.func)):
            if called in ("__import__", "import_module"):
                yield node.lineno, "an import by name hides from this check: write an import statement"
            elif pure and called in ("open", "input"):
                yield node.lineno, f"`{here}` is pure and may not call `{called}`: take what it gives"


def _imports(file: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything imported; for ``from a import b`` that is ``a.b``."""
    package = [PACKAGE, *file.split("/")[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            prefix = [*base, *(node.module or "").split(".")] if node.module else base
            yield from ((node.lineno, ".".join([*prefix, alias.name])) for alias in node.names)


def _inside(here: str, rest: list[str], pure: bool) -> str:
    there = rest[0] if rest else ""
    if there == here or there == "__version__":
        return f"`{'.'.join(rest)}` does I/O and this module is pure" if pure and _io_module(rest) else ""
    if there in DATA:
        return "" if here in DATA[there] else f"`{there}` is data for {_list(DATA[there])} only"
    if there not in _DEPTH:
        return f"`{'.'.join([PACKAGE, *rest])}` is no module: import from the one that defines the name"
    if here in DATA:
        return f"`{here}` is data and imports nothing"
    if _DEPTH[there] == _DEPTH[here]:
        return f"`{here}` and `{there}` stand on one line and do not know each other"
    if _DEPTH[there] < _DEPTH[here]:
        return f"`{here}` may not import `{there}`: imports point downward only"
    if pure and there not in PURE + GROUND:
        return f"`{here}` is pure and may not import `{there}`: describe what it needs as a Protocol"
    if pure and _io_module(rest):
        return f"`{here}` is pure and may not import `{'.'.join(rest)}`, which does I/O"
    return ""


def _outside(file: str, here: str, top: str, pure: bool) -> str:
    homes = LIBRARIES.get(top)
    if homes and not any(file == home or (home.endswith("/") and file.startswith(home)) for home in homes):
        return f"`{top}` is imported in {_list(homes)} only"
    if pure and top in IMPURE:
        return f"`{here}` is pure and may not import `{top}`: take time, randomness and I/O as arguments"
    return ""


def _io_module(rest: list[str]) -> bool:
    return any("/".join(rest[:end]) + ".py" in IO_MODULES for end in range(1, len(rest) + 1))


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Name):
        return function.id
    return function.attr if isinstance(function, ast.Attribute) and function.attr == "import_module" else ""


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def main() -> int:
    found = problems(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
    print("\n".join(found) or "imports: every one points downward")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
