"""docs/architecture.md and docs/glossary.md name what is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tools.check_imports import LAYERS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "aico_crdt"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
PLACES = re.findall(r"^\| ([^|]+) \| [^|]+ \| `([\w/]+\.py)` `(\w+)` \|$", GLOSSARY, re.MULTILINE)
PACKAGES = dict(re.findall(r"^\| (`\w+/`|ground) \|[^|]*\|([^|]*)\|$", ARCHITECTURE, re.MULTILINE))


def top_level_names(source: str) -> set[str]:
    names = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {ast.unparse(target) for target in targets}
    return names


@pytest.mark.parametrize(("noun", "file", "name"), PLACES)
def test_a_noun_lives_where_the_glossary_says(noun: str, file: str, name: str) -> None:
    assert name in top_level_names((PACKAGE / file).read_text(encoding="utf-8"))


def test_every_row_of_the_glossary_is_complete_and_every_noun_stands_once() -> None:
    rows = [line for line in GLOSSARY.splitlines() if line.startswith("| ") and not line.startswith("| noun ")]
    assert len(PLACES) == len(rows) > 60
    nouns = [noun for names, _, _ in PLACES for noun in names.split(", ")]
    assert len(nouns) == len(set(nouns))


def test_every_package_is_in_the_table_from_top_to_bottom_with_modules_that_exist() -> None:
    named = [name.strip("`/") for name in PACKAGES]
    there = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert set(named) == there | {"ground"}
    order = {unit: depth for depth, line in enumerate(LAYERS) for unit in line} | {"ground": 98, "samples": 99}
    assert [order[name] for name in named] == sorted(order[name] for name in named)
    for package, cell in PACKAGES.items():
        for listed in re.findall(r"`([^`]+)`", cell):
            folder = PACKAGE if package == "ground" else PACKAGE / package.strip("`/")
            assert [name for name in listed.split() if not (folder / f"{name}.py").exists()] == []


def test_files_that_the_pages_point_to_exist() -> None:
    for text in (ARCHITECTURE, GLOSSARY):
        for name in re.findall(r"`((?:docs|tools)/[\w.-]+|\w+/\w+\.py)`", text):
            assert (ROOT / name).exists() or (PACKAGE / name).exists(), name
