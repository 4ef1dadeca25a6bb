"""docs/commands.md says what the JSON holds, and nothing that is not so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aico_crdt import config
from aico_crdt.cli.main import cli
from aico_crdt.companion import fields
from aico_crdt.mesh.peers import SAMPLE
from tests.cli.support import ROOT, Device

PAGE = (ROOT / "docs" / "commands.md").read_text("utf-8")
FREE = {"fields", "profile", "counts", "pending", "content", "imported", "left_out", "value"}
"""Fields whose own names are not ours: a document's fields, devices, kinds, reasons."""
LATER = {
    "where",
    "reason",
    "source",
    "time_ms",
    "what",
    "erased_on",
    "owing",
    "unconfirmed",
    "forgotten_by",
    "forgotten_hlc",
    "moved_to",
}
"""Of forgotten documents, damage and evidence only."""

SECTIONS = {"conflicts", "document", "status", "log", "merge", "kind"}
"""Sections that others refer to; and the kind of a problem."""


def section(type: str, *, follow: bool = True) -> set[str]:
    """The names in backquotes under the heading `type`, and of the sections it refers to if `follow`."""
    match = re.search(rf"^### {re.escape(type)}\n(.*?)(?=^### |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert match is not None, f"docs/commands.md has no section {type}"
    text = match[1]
    names = set(re.findall(r"`([a-z_]+)`", text))
    for other in re.findall(r"(?:[Aa]s in|fields of a collection in|fields of) `([a-z-]+)`", text):
        if follow and other != type:
            names |= section(other)
    return names


def names(value: Any, *, conflicts: bool = False) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if not conflicts:
                yield name
            if name not in FREE:
                yield from names(inner, conflicts=name == "conflicts" and isinstance(inner, dict))
    elif isinstance(value, list):
        for inner in value:
            yield from names(inner)


@pytest.fixture
def busy(laptop: Device, phone: Device, month: Path) -> list[object]:
    """Two stores with a conflict, and something to merge; the arguments that name them."""
    laptop("import", month)
    both = [laptop.store_path, phone.store_path, "--key-b", phone.key]
    laptop("merge", *both)
    for device in (laptop, phone):
        with device.open() as store:
            store.memories.edit("memory-000001", content=device.home.name)
    laptop("merge", *both)
    with phone.open() as store:
        store.memories.add("not merged yet")
        store.memories.edit("memory-000001", about="Mara")
    return both


def test_every_field_of_every_document_is_described(
    busy: list[object], laptop: Device, phone: Device, month: Path, tmp_path: Path
) -> None:
    entry = laptop.json("log", "--limit", "1")["entries"][0]["entry"]
    runs: list[list[object]] = [
        ["id"], ["devices"], ["status"], ["status", "memory-000001"], ["inspect", "store"], ["inspect", "conflicts"],
        ["inspect", "collection", "own/memory"], ["inspect", "document", "memory-000001"],
        ["inspect", "feed", "own/memory/laptop"], ["inspect", "entry", entry], ["log"], ["why", "memory-000001"],
        ["diff", *busy], ["merge", *busy], ["bundle", tmp_path / "b"], ["merge", phone.store_path, tmp_path / "b",
        "--key-a", phone.key], ["import", month], ["verify"], ["repair"], ["compact"], ["vacuum"],
        ["backup", tmp_path / "backup"],
        ["restore", tmp_path / "backup", "--store", tmp_path / "restored"],
    ]  # fmt: skip
    seen = set()
    for words in runs:
        document = laptop.json(*words, code=1 if words[0] == "diff" else 0)
        type = document.pop("type")
        assert document.pop("version") == 1
        seen.add(type)
        found = set(names(document))
        assert found <= section(type), f"{type}: not described"
        invented = section(type, follow=False) - found - LATER - SECTIONS
        assert not invented, f"{type}: described but not there"
    headings = set(re.findall(r"^### (.+)$", PAGE, re.MULTILINE))
    assert headings == seen | {"sync", "demo"}  # these two are run by tests of their own


def test_every_command_is_on_the_page() -> None:
    for name in cli.list_commands(None):  # type: ignore[arg-type]
        assert name == "completion" or f"`{name}" in PAGE, name


def table(title: str) -> list[list[str]]:
    """The rows of the last table under the heading `title`."""
    rest = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+) \|$", rest, re.MULTILINE)[1:]
    return [[cell.strip() for cell in row.split("|")] for row in rows]


UNITS = {"bytes": "bytes", "ms": "ms", "s": "s", "days": "days", "percent": "percent"}


def test_every_setting_is_listed_with_its_default_and_unit() -> None:
    settings = {one.name: one.default for one in config._settings()}
    listed = table("Settings")
    assert [row[0].strip("`") for row in listed] == list(settings)
    if not config._ON_64_BIT:
        settings["map_size_bytes"] = 64 << 30  # the page gives what nearly everybody has
    for name, default, unit, why in listed:
        setting = name.strip("`")
        assert unit == UNITS.get(setting.rpartition("_")[2], ""), setting
        assert config._convert(config._BY_NAME[setting], default, "the page") == settings[setting], setting
        assert why


def test_every_field_of_an_export_is_listed() -> None:
    records = {"conversation": fields.CONVERSATION, "message": fields.MESSAGE, "memory": fields.MEMORY}
    listed = dict(table("Export"))
    assert listed.keys() == {*records, "emotion"}
    for kind, known in {**records, "emotion": fields.READING}.items():
        assert re.findall(r"`(\w+)`", listed[kind]) == list(known), kind
        required = [name for name, one in known.items() if one.required]
        assert re.findall(r"\*\*`(\w+)`\*\*", listed[kind]) == required, kind


@pytest.mark.parametrize("page", ["README.md", "docs/commands.md"])
def test_the_sample_of_devices_yaml_is_the_one_that_errors_show(page: str) -> None:
    assert f"```yaml\n{SAMPLE}\n```\n" in (ROOT / page).read_text("utf-8")
