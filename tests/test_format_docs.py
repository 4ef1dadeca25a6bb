"""docs/format.md says what the code does, wherever the two can be compared."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path
from struct import Struct
from typing import Any

import pytest

from aico_crdt.store import backup, lives, membership, verify
from aico_crdt.store.environment import Label
from aico_crdt.store.workspace import BORN, CHANGED, FETCHED, FORGOTTEN

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "aico_crdt"
TEXT = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
SOURCES = {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
DRAWN_ELSEWHERE = ("mesh/", "store/pages.py", "cli/", "crdt/birth.py")
"""Frames are drawn in docs/protocol.md; pages are LMDB's own format, numbers in updates lib0's; commands only read."""


def section(title: str) -> str:
    """The text under a heading, down to the next heading of its rank or above."""
    start = re.search(rf"^(#+) {re.escape(title)}$", TEXT, re.MULTILINE)
    assert start is not None, f"docs/format.md has no heading {title!r}"
    rest = TEXT[start.end() :]
    end = re.search(rf"^#{{1,{len(start[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(text: str) -> list[list[str]]:
    """The cells of every table row, without heads and rules; code marks are taken off."""
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    lines = [line for table in tables for line in table.splitlines()[2:]]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [[cell[1:-1] if re.fullmatch(r"`[^`]*`", cell) else cell for cell in row] for row in cells]


def constant(path: str) -> Any:
    """The constant that a dotted path below the package names."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(f"aico_crdt.{module}"), name)


def found_in_sources(pattern: str) -> set[str]:
    return {found[1] for source in SOURCES.values() for found in re.finditer(pattern, source)}


LIMITS = [(row[0], int(row[1].replace(",", ""))) for row in rows(section("Limits"))]
RECORDS = [(row[0], row[1], int(row[2])) for row in rows(section("Records of fixed width"))]
KEYS = [row for row in rows(section("Keys and values")) if re.fullmatch(r"[A-Z]", row[0])]


def test_there_is_something_to_compare() -> None:
    assert min(len(LIMITS), len(RECORDS), len(KEYS)) > 15


@pytest.mark.parametrize(("path", "value"), LIMITS)
def test_a_limit_is_as_documented(path: str, value: int) -> None:
    assert constant(path) == value


@pytest.mark.parametrize(("path", "layout", "size"), RECORDS)
def test_a_record_of_fixed_width_is_as_documented(path: str, layout: str, size: int) -> None:
    record = constant(path)
    assert isinstance(record, Struct)
    assert (record.format, record.size) == (layout, size)


def test_every_record_of_fixed_width_is_documented() -> None:
    made = set()
    for file, source in SOURCES.items():
        for node in ast.parse(source).body:
            if isinstance(node, ast.AnnAssign) and re.match(r"(struct\.)?Struct\(", ast.unparse(node.value or node)):
                made.add((file, f"{file[:-3].replace('/', '.')}.{ast.unparse(node.target)}"))
    assert {path for file, path in made if not file.startswith(DRAWN_ELSEWHERE)} == {path for path, _, _ in RECORDS}


def test_every_prefix_of_a_key_is_documented_with_the_length_of_its_keys() -> None:
    lengths = {row[0]: int(row[2]) for row in KEYS if row[2]}
    assert lengths == {letter.decode(): length for letter, length in verify.KEY_BYTES.items()}
    assert {row[0] for row in KEYS} == {*lengths, "M"}
    used = found_in_sources(r"""(?:scan|scan_raw|document|life)\(b"([A-Z])\"""")
    made = set(re.findall(r'return b"([A-Z])"', SOURCES["store/layout.py"]))
    assert made | used == {row[0] for row in KEYS}


WIDTHS = {"`#`": 2, "`@`": 4, "u64": 8, "u32": 4, "u16": 2}


@pytest.mark.parametrize("row", [row for row in KEYS if row[2]], ids=lambda row: str(row[0]))
def test_the_parts_of_a_key_add_up_to_its_length(row: list[str]) -> None:
    parts = [part.strip() for part in row[1].replace("#", "`#`").replace("@", "`@`").replace("``", "`").split("‖")]
    widths = [WIDTHS.get(part.split()[-1]) or int(part.split()[-1]) for part in parts]
    assert 1 + sum(widths) == int(row[2])


def test_every_named_value_is_documented() -> None:
    documented = {row[0].removesuffix(" #") for row in rows(section("Named values"))}
    assert documented == {name.strip() for name in found_in_sources(r'layout\.meta\(f?"([a-z]+ ?)[{"]')}


def test_every_person_is_documented_and_no_other() -> None:
    documented = [row[0] for row in rows(section("Identifiers")) if row[0].startswith("aico.")]
    assert len(documented) == len(set(documented))
    assert set(documented) == found_in_sources(r'b"(aico\.[a-z]+\.[0-9]+)"')


def test_every_domain_of_a_signature_is_documented_and_no_other() -> None:
    documented = {found[1] for found in re.finditer(r'^\| `"(aico-crdt [a-z]+ [0-9])" 00`', TEXT, re.MULTILINE)}
    assert documented == found_in_sources(r'b"(aico-crdt [a-z]+ [0-9])\\0"')
    assert len(documented) == 4


def test_every_purpose_of_a_derived_key_is_documented() -> None:
    listed = re.search(r"derived from it by purpose: (.*?)\.\n", section("Identifiers"), re.DOTALL)
    assert listed is not None
    documented = set(re.findall(r"`([a-z ]+)`", re.sub(r"\s+", " ", listed[1])))
    assert documented == found_in_sources(r'\.derive\("([a-z ]+)"\)')


def test_version_numbers_are_as_documented() -> None:
    numbers = {row[1]: int(row[2]) for row in rows(section("Versions")) if row[2]}
    assert {path: constant(path) for path in numbers} == numbers
    made = {
        f"{file[:-3].replace('/', '.')}.{found[1]}"
        for file, source in SOURCES.items()
        for found in re.finditer(r"^(FORMAT|VERSION): Final = \d+$", source, re.MULTILINE)
    }
    assert made - {"crdt.update_reader.FORMAT"} == set(numbers)  # that one is a content ref of Yjs


def test_magics_and_words_are_as_documented() -> None:
    assert b"aico-lives" + bytes(5) + b"\x01" == lives.MAGIC
    assert "`aico-lives` 00 00 00 00 00 01" in TEXT
    assert f'["{membership.ADMISSION}", {membership.VERSION}, family 16, device 32, admitter 32, keys' in TEXT
    assert f"{lives.CHUNK_SLOTS:,} at a time" in TEXT
    assert f"({BORN} born, {CHANGED} changed, {FORGOTTEN} forgotten, {FETCHED} fetched)" in TEXT


def test_the_label_is_as_documented(tmp_path: Path) -> None:
    Label(1, b"s" * 16, b"d" * 32, 5).write(tmp_path)
    written = re.findall(r'"([a-z_]+)":', (tmp_path / "STORE").read_text(encoding="utf-8"))
    described = re.search(r"\*\*STORE\*\* is one line of JSON: (.*?)\. A", TEXT, re.DOTALL)
    assert described is not None
    assert re.findall(r"`([a-z_]+)`", described[1]) == written


def test_a_backup_says_of_itself_what_is_documented() -> None:
    described = re.search(r"`BACKUP` holds (.*?)\. A restored", TEXT, re.DOTALL)
    assert described is not None
    assert re.findall(r"`([a-z_]+)`", described[1]) == list(backup.Backup.__annotations__)


def test_there_is_one_golden_entry_and_no_second_page_of_entries() -> None:
    assert TEXT.count("```golden-entry\n") == 1
    assert not (ROOT / "docs" / "format-entry.md").exists()
