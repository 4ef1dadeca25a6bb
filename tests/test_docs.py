"""Every code block of the README and the docs runs, in the order of its page, in an empty home."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from aico_crdt.cli.main import cli

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = {"python", "console"}
SHOWN = {"sh", "toml", "yaml", "json", "text", "mermaid"}
"""Shown only: commands of two machines, files, drawings."""


def blocks(page: Path) -> list[tuple[str, str, int]]:
    text = page.read_text(encoding="utf-8")
    return [(m[1], m[2], text[: m.start()].count("\n") + 2) for m in BLOCK.finditer(text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AICO_CRDT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "docs"}
    for language, code, line in blocks(page):
        assert language in RUN | SHOWN, f"{page.name}:{line}: a block of {language} is neither run nor known as shown"
        if language == "python":
            exec(compile("\n" * (line - 1) + code, str(page), "exec"), names)
        elif language == "console":
            for command in re.findall(r"^\$ aico-crdt (.*)$", code, re.MULTILINE):
                result = CliRunner().invoke(cli, shlex.split(command))
                assert result.exit_code == 0, f"{page.name}:{line}: {command}: {result.output}"


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
