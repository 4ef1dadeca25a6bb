"""docs/faults.md names, under each case, the tests that pin it: checked, or written anew with ``--write``.

A test belongs to the cases whose numbers its name begins with: ``test_fault_07_…``, ``test_fault_27_and_31_…``. A case
without one says ``planned``, with a reason if somebody wrote one.
Run: ``python -m tools.list_faults [--write] [ROOT]``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PAGE: Final = Path("docs/faults.md")
FOLDERS: Final = ("tests", "property_tests")
_TEST: Final = re.compile(r"^ *(?:async )?def (test_fault_(\d\d(?:_and_\d\d)*)_\w+)\(", re.MULTILINE)
_CASE: Final = re.compile(r"\*\*(\d+)\.\*\* ")
_PLANNED: Final = "- planned"
_OWNED: Final = re.compile(r"- (?:planned|`test_fault_)")


def tests_by_case(root: Path) -> dict[int, dict[str, list[str]]]:
    """Case → file → names of its tests, sorted."""
    found: dict[int, dict[str, list[str]]] = {}
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            for name, numbers in _TEST.findall(path.read_text(encoding="utf-8")):
                for number in numbers.split("_and_"):
                    files = found.setdefault(int(number), {})
                    files.setdefault(path.relative_to(root).as_posix(), []).append(name)
    return {case: {file: sorted(names) for file, names in files.items()} for case, files in found.items()}


def page_with(text: str, tests: dict[int, dict[str, list[str]]]) -> str:
    """The page `text` with the tests of every case as they are."""
    lines: list[str] = []
    case, planned = 0, ""
    for line in [*text.split("\n"), "**0.** "]:
        started = _CASE.match(line)
        if case and (started or line.startswith("#") or line == ""):
            lines += _listed(tests.get(case, {}), planned)
            case = 0
        if started:
            case, planned = int(started[1]), _PLANNED
        if case and line.startswith(_PLANNED):
            planned = line
        elif not (case and _OWNED.match(line)):
            lines.append(line)
    return "\n".join(lines[:-1])


def _listed(files: dict[str, list[str]], planned: str) -> Iterator[str]:
    if not files:
        yield planned
    for file, names in sorted(files.items()):
        yield from (f"- `{name}` ({file})" for name in names)


def strangers(text: str, tests: dict[int, dict[str, list[str]]]) -> list[int]:
    """Numbers that tests bear and the page does not know."""
    return sorted(set(tests) - {int(number) for number in _CASE.findall(text)})


def main() -> int:
    arguments = [argument for argument in sys.argv[1:] if argument != "--write"]
    root = Path(arguments[0] if arguments else ".")
    text = (root / PAGE).read_text(encoding="utf-8")
    tests = tests_by_case(root)
    if unknown := strangers(text, tests):
        print(f"{PAGE} has no case {', '.join(map(str, unknown))}; write what it is first.")
        return 1
    wanted = page_with(text, tests)
    if wanted == text:
        print(f"{PAGE}: names every test")
        return 0
    if "--write" in sys.argv[1:]:
        (root / PAGE).write_text(wanted, encoding="utf-8")
        print(f"{PAGE}: written")
        return 0
    print(f"{PAGE} does not name the tests there are. Run: python -m tools.list_faults --write")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
