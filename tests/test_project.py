"""The project keeps its own rules, and the checks that say so can fail."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import aico_crdt
from tools import check_house, check_imports

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirement_name(requirement: str) -> str:
    return normal(re.split(r"[<>=!~ \[;]", requirement, maxsplit=1)[0])


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = (line.partition("==") for line in lines if line and not line.startswith("#"))
    return {normal(name): version for name, _, version in found}


# --- one version, one licence


def test_the_version_has_one_source_and_is_semantic() -> None:
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    assert "version" not in PYPROJECT["project"]
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "aico_crdt.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", aico_crdt.__version__)


def test_the_installed_version_is_the_source_s() -> None:
    try:
        installed = metadata.version("aico-crdt")
    except metadata.PackageNotFoundError:
        pytest.skip("run from a source tree that is not installed")
    assert installed == aico_crdt.__version__


def test_the_changelog_knows_the_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[.*{re.escape(aico_crdt.__version__)}", changelog, re.MULTILINE)


def test_the_licence_is_the_whole_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert PYPROJECT["project"]["license"] == "Apache-2.0"
    # What apache.org publishes as LICENSE-2.0.txt, blanks aside.
    words = hashlib.sha256(" ".join(text.split()).encode()).hexdigest()
    assert words == "0ffddef9e48f8a09aed5caf2d44f7ba1c1be2d9b8e0a6f693b1635b2d5566645"


# --- packaging


def test_the_package_says_it_is_typed_and_ships_that() -> None:
    assert (ROOT / "aico_crdt" / "py.typed").is_file()
    assert "py.typed" in PYPROJECT["tool"]["setuptools"]["package-data"]["aico_crdt"]


def test_everything_required_is_pinned_within_its_bounds() -> None:
    project, pinned = PYPROJECT["project"], pins()
    extras = project["optional-dependencies"].values()
    for requirement in [*project["dependencies"], *(r for extra in extras for r in extra)]:
        name = requirement_name(requirement)
        if name == "aico-crdt":
            continue
        assert name in pinned, f"{name} has no pin in constraints.txt"
        if low := re.search(r">=([\d.]+)", requirement):
            assert version_key(pinned[name]) >= version_key(low[1])


def version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def test_importing_the_package_imports_none_of_its_libraries() -> None:
    heavy = "{'pycrdt', 'lmdb', 'zmq', 'numpy', 'hnswlib', 'rich', 'click', 'nacl'}"
    program = (
        "import sys, aico_crdt, aico_crdt.versions, aico_crdt.logs, aico_crdt.config\n"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


# --- make


def test_make_has_every_promised_target() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", text, re.MULTILINE))
    assert {"demo", "test", "lint", "bench", "soak", "clean", "help"} <= targets


def test_what_continuous_integration_runs() -> None:
    script = ROOT / ".ci" / "run"
    text = script.read_text(encoding="utf-8")
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in text
    assert re.findall(r"^make (\w+)$", text, re.MULTILINE) == ["lint", "test"]


def test_make_says_when_python_is_too_old(tmp_path: Path) -> None:
    old = tmp_path / "old-python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2" && exit 0\nexit 1\n')
    old.chmod(0o700)
    result = subprocess.run(
        ["make", "-s", "-C", ROOT, "test", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert "needs Python 3.11 or newer" in result.stderr
    assert "Python 3.9.2" in result.stderr
    assert not (tmp_path / "venv").exists()


# --- import direction


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / "aico_crdt" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


GOOD = {
    "__init__.py": "from aico_crdt.store import a\nfrom aico_crdt.cli import b\n",
    "errors.py": "import re\n",
    "clock.py": "from aico_crdt.errors import InvalidValue\n",
    "config.py": "import os\nfrom aico_crdt import clock\n",
    "versions.py": "from aico_crdt import __version__\ndef f():\n    import lmdb, zmq\n",
    "crdt/document.py": "import pycrdt\nfrom . import walker\nfrom .walker import x\n",
    "crdt/text.py": "from aico_crdt.crdt.document import Document\n",
    "feed/entry.py": "from aico_crdt import errors, ids\nfrom ..crdt import walker\nimport msgpack\n",
    "trust/lease.py": "import os, mmap\nfrom aico_crdt.trust import space\n",
    "trust/keyfile.py": "from pathlib import Path\nfrom aico_crdt.trust.lease import Lease\n",
    "store/environment.py": "import lmdb, os, time\nfrom aico_crdt.trust.lease import Lease\n",
    "sync/session.py": "from aico_crdt.feed.entry import Entry\nfrom aico_crdt.config import Config\n",
    "companion/memory.py": "from aico_crdt.store import x\nfrom aico_crdt import samples\n",
    "mesh/link.py": "import zmq.asyncio, time\nfrom aico_crdt.sync import session\n",
    "cli/main.py": "import click, rich\nfrom aico_crdt.mesh import node\nfrom aico_crdt import samples\n",
}


def test_a_tree_that_keeps_the_direction_has_no_problems(tmp_path: Path) -> None:
    assert check_imports.problems(tree(tmp_path, GOOD)) == []


BAD = {
    "upward": ("store/a.py", "from aico_crdt.sync import session\n", "point downward only"),
    "upward by a relative import": ("crdt/a.py", "from ..store import b\n", "point downward only"),
    "upward for types only": (
        "store/a.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import aico_crdt.mesh.node\n",
        "point downward only",
    ),
    "upward inside a function": (
        "feed/a.py",
        "def f():\n    from aico_crdt import cli\n",
        "point downward only",
    ),
    "sideways": ("feed/a.py", "from aico_crdt.trust import family\n", "do not know each other"),
    "sideways the other way": ("trust/a.py", "from aico_crdt import feed\n", "do not know each other"),
    "sideways on the ground": ("ids.py", "from aico_crdt import clock\n", "do not know each other"),
    "pure into disk": (
        "sync/a.py",
        "from aico_crdt.store import b\n",
        "describe what it needs as a Protocol",
    ),
    "pure into an I/O module": ("sync/a.py", "from aico_crdt.trust.lease import Lease\n", "which does I/O"),
    "pure into its own I/O module": (
        "trust/a.py",
        "from . import lease\n",
        "does I/O and this module is pure",
    ),
    "pure reads the clock": ("feed/a.py", "import time\n", "may not import `time`"),
    "pure draws at random": ("crdt/a.py", "from random import choice\n", "may not import `random`"),
    "pure opens a file": ("trust/a.py", "def f():\n    return open('x')\n", "may not call `open`"),
    "pycrdt elsewhere": (
        "crdt/text.py",
        "import pycrdt\n",
        "`pycrdt` is imported in `crdt/document.py` only",
    ),
    "lmdb elsewhere": ("cli/a.py", "import lmdb\n", "`lmdb` is imported in"),
    "zmq elsewhere": ("store/a.py", "from zmq import asyncio\n", "`zmq` is imported in"),
    "import by name": ("mesh/a.py", "import importlib\nimportlib.import_module('lmdb')\n", "by name hides"),
    "from the table of contents": ("store/a.py", "from aico_crdt import Store\n", "is no module"),
    "data from elsewhere": ("store/a.py", "from aico_crdt.samples import x\n", "is data for"),
    "a package nobody placed": ("misc/a.py", "", "no place yet"),
}


@pytest.mark.parametrize("case", BAD)
def test_each_breach_of_the_direction_is_found(case: str, tmp_path: Path) -> None:
    file, text, expected = BAD[case]
    found = check_imports.problems(tree(tmp_path, {file: text}))
    assert len(found) == 1
    assert found[0].startswith(f"aico_crdt/{file}:")
    assert expected in found[0]


def test_a_breach_names_its_line(tmp_path: Path) -> None:
    found = check_imports.problems(tree(tmp_path, {"feed/a.py": '"""Doc."""\n\nimport time\n'}))
    assert found[0].startswith("aico_crdt/feed/a.py:3:")


def test_imports_of_this_project_point_downward() -> None:
    assert check_imports.problems(ROOT) == []


# --- house rules


def house(root: Path, name: str, text: str) -> list[str]:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return check_house.problems(root)


# Put together here so that this file itself keeps the rules.
HOST = "pypi" + ".org"
HOME = "/" + "home/someone/x"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("docs/a.md", f"see {HOME}", "a path of one machine"),
        ("a.toml", f'path = "{HOME}"', "a path of one machine"),
        ("constraints.txt", f"--index-url https://{HOST}/simple", "a package registry's host"),
        ("a.md", "trailing \nfine\n", "trailing whitespace"),
        ("aico_crdt/a.py", "x = 1\n" * 601, "over 600 it holds more than one concept"),
        ("aico_crdt/a.py", 'log.info(f"wrote {text}")\n', "a log message is a literal"),
        ("aico_crdt/a.py", 'self.log.warning("wrote %s" % text)\n', "a log message is a literal"),
        ("aico_crdt/a.py", "logging.log(10, text)\n", "a log message is a literal"),
    ],
)
def test_each_breach_of_a_house_rule_is_found(name: str, text: str, expected: str, tmp_path: Path) -> None:
    found = house(tmp_path, name, text)
    assert len(found) == 1
    assert found[0].startswith(f"{name}:")
    assert expected in found[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("docs/a.md", "~/work/x, ./home/x, https://example.org/work/x and /usr/bin/env\n"),
        ("tests/a.py", "x = 1\n" * 1000),
        ("aico_crdt/a.py", "x = 1\n" * 600),
        ("aico_crdt/a.py", 'log.info("wrote %d", 3)\nlog.log(10, "at %d", 3)\nmath.log(x)\nself.info(x)\n'),
        ("a.bin", "\0 " + HOST),
    ],
)
def test_what_keeps_the_house_rules_passes(name: str, text: str, tmp_path: Path) -> None:
    assert house(tmp_path, name, text) == []


def test_the_tree_keeps_the_house_rules() -> None:
    assert check_house.problems(ROOT) == []


def test_without_git_the_house_rules_look_at_all_but_hidden_files(tmp_path: Path) -> None:
    for name in (".venv/a.md", "x/__pycache__/a.md", "y.egg-info/a.md", ".ci/run", "docs/a.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(HOST)
    assert [line.split(":")[0] for line in check_house.problems(tmp_path)] == [".ci/run", "docs/a.md"]
