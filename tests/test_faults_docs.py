"""docs/faults.md names exactly the tests that bear the numbers of its cases."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import list_faults

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / list_faults.PAGE).read_text(encoding="utf-8")


def test_every_test_named_exists_and_every_test_there_is_is_named() -> None:
    """On a mismatch: python -m tools.list_faults --write"""
    tests = list_faults.tests_by_case(ROOT)
    assert list_faults.strangers(TEXT, tests) == []
    made = {(name, file) for files in tests.values() for file, names in files.items() for name in names}
    assert set(re.findall(r"^- `(test_fault_\w+)` \(([\w/.]+)\)$", TEXT, re.MULTILINE)) == made
    assert list_faults.page_with(TEXT, tests) == TEXT


def test_the_cases_are_numbered_without_a_gap_and_each_has_a_test_or_is_planned() -> None:
    numbers = [int(number) for number in re.findall(r"^\*\*(\d+)\.\*\* ", TEXT, re.MULTILINE)]
    assert numbers == [*range(1, len(numbers) + 1)]
    assert len(numbers) == 48
    for case in re.findall(r"^\*\*\d+\.\*\* .*?(?=^\*\*|^#|\Z)", TEXT, re.DOTALL | re.MULTILINE):
        assert ("\n- `test_fault_" in case) is not ("\n- planned" in case), case


PAGE = """# Faults

## One

**1.** The first thing,
told on two lines.
- planned: there is no such part yet

**2.** The second.
- `test_fault_02_gone` (tests/test_a.py)
- not yet: the half of it

**3.** The third.
- planned
"""


def project(root: Path, source: str, page: str = PAGE) -> Path:
    for folder in ("docs", "tests/deep", "property_tests"):
        (root / folder).mkdir(parents=True)
    (root / "docs/faults.md").write_text(page, encoding="utf-8")
    (root / "tests/deep/test_b.py").write_text(source, encoding="utf-8")
    return root


SOURCE = """
def test_fault_03_plain(): ...
class TestX:
    async def test_fault_01_and_03_both(self): ...
def helper_test_fault_02_x(): ...
# def test_fault_02_in_a_comment():
"""


def test_the_lists_are_written_anew_and_the_rest_is_kept(tmp_path: Path) -> None:
    root = project(tmp_path, SOURCE)
    written = list_faults.page_with(PAGE, list_faults.tests_by_case(root))
    assert (
        written
        == """# Faults

## One

**1.** The first thing,
told on two lines.
- `test_fault_01_and_03_both` (tests/deep/test_b.py)

**2.** The second.
- not yet: the half of it
- planned

**3.** The third.
- `test_fault_01_and_03_both` (tests/deep/test_b.py)
- `test_fault_03_plain` (tests/deep/test_b.py)
"""
    )
    assert list_faults.page_with(written, list_faults.tests_by_case(root)) == written


def run(root: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["list_faults", *arguments, str(root)])
    return list_faults.main()


def test_the_command_checks_writes_and_refuses_a_number_nobody_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = project(tmp_path, SOURCE)
    assert run(root, monkeypatch) == 1
    assert "--write" in capsys.readouterr().out
    assert run(root, monkeypatch, "--write") == 0
    assert run(root, monkeypatch) == 0
    (root / "tests/deep/test_b.py").write_text("def test_fault_04_new(): ...\n", encoding="utf-8")
    assert run(root, monkeypatch, "--write") == 1
    assert "no case 4" in capsys.readouterr().out
