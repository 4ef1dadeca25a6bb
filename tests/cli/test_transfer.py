"""export and import: what goes out comes in again, whole or not at all, once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aico_crdt.cli import output, transfer
from aico_crdt.samples import household_lines
from tests.cli.support import MONTH, Device, write_lines

CHATGPT = Path(__file__).resolve().parents[1] / "samples" / "data" / "chatgpt_conversations.json"


def records(text: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The header, and the records by id."""
    header, *lines = (json.loads(line) for line in text.splitlines())
    assert header["records"] == len(lines)
    return header, {line["id"]: line for line in lines}


def said(fields: dict[str, Any]) -> str:
    """What `fields` say, as text: tags are a set, and a field that is null is not there."""
    present = {name: sorted(value) if name == "tags" else value for name, value in fields.items() if value is not None}
    return json.dumps(present, sort_keys=True)


def test_counts_are_in_singular_and_plural() -> None:
    found = {"memory": 2, "message": 1, "conversation": 2}
    assert output.counts(found) == "2 conversations, 2 memories, 1 message"


def test_what_goes_out_is_what_came_in(laptop: Device, phone: Device, month: Path, tmp_path: Path) -> None:
    laptop("import", month)
    header, found = records(laptop("export"))
    assert (header["format"], header["version"]) == ("aico-crdt/export", 1)
    assert {i: (r["kind"], r.get("subject"), r["fields"]) for i, r in found.items()} == {
        r["id"]: (r["kind"], r.get("subject"), r["fields"]) for r in MONTH
    }
    assert {r["device"] for r in found.values()} == {"laptop"}
    laptop("export", tmp_path / "out.jsonl")
    phone("import", tmp_path / "out.jsonl")
    _, again = records(phone("export"))
    assert {i: r["fields"] for i, r in again.items()} == {i: r["fields"] for i, r in found.items()}


def test_the_household_s_month_comes_back_whole(laptop: Device, tmp_path: Path) -> None:
    source = tmp_path / "month.jsonl"
    source.write_text("".join(household_lines()), "utf-8")
    report = laptop.json("import", source)
    assert report["imported"] == {"conversation": 20, "message": 304, "memory": 70, "emotion": 68}
    _, shared = records(laptop("export"))
    _, every = records(laptop("export", "--include-local"))
    assert len(every) == 462
    assert 0 < len(shared) < 462
    assert {line["fields"].get("privacy") for line in shared.values()} <= {None, "public", "family"}
    for line in map(json.loads, source.read_text("utf-8").splitlines()[1:]):
        if "id" in line:
            assert said(every[line["id"]]["fields"]) == said(line["fields"])
    readings = sorted(said(r["fields"]) for r in every.values() if r["kind"] == "emotion")
    wanted = [json.loads(line) for line in source.read_text("utf-8").splitlines() if '"kind":"emotion"' in line]
    assert readings == sorted(said(line["fields"]) for line in wanted)


def test_importing_twice_changes_nothing(laptop: Device, tmp_path: Path) -> None:
    without_ids = [{name: value for name, value in record.items() if name != "id"} for record in MONTH]
    del without_ids[1]  # a message needs a conversation it can name
    source = write_lines(tmp_path / "a.jsonl", [*MONTH, *without_ids])
    assert sum(laptop.json("import", source)["imported"].values()) == 7
    before = laptop.snapshot()
    again = laptop.json("import", source)
    assert (again["imported"], again["here_before"], again["records"]) == ({}, 7, 7)
    assert laptop.snapshot() == before


def test_a_record_twice_in_one_file_is_one(laptop: Device, tmp_path: Path) -> None:
    report = laptop.json("import", write_lines(tmp_path / "a.jsonl", [MONTH[2], MONTH[2]]))
    assert (report["imported"], report["here_before"]) == ({"memory": 1}, 1)


def test_what_was_forgotten_here_is_not_brought_back(laptop: Device, month: Path) -> None:
    laptop("import", month)
    with laptop.open() as store:
        store.forget("memory", "memory-000001", now=True)
    report = laptop.json("import", month)
    assert (report["imported"], report["here_before"], report["forgotten_before"]) == ({}, 3, 1)
    assert laptop.json("status", "memory-000001")["forgotten"] is True


def test_what_is_here_stays_as_it_is(laptop: Device, month: Path) -> None:
    with laptop.open() as store:
        store.memories.add("Edited since.", id="memory-000001")
    laptop("import", month)
    with laptop.open() as store:
        assert store.memories.get("memory-000001")["content"] == "Edited since."


def test_an_imported_reading_counts_in_the_subject_s_state(laptop: Device, month: Path) -> None:
    laptop("import", month)
    with laptop.open() as store:
        state = store.emotions.state("mara", as_of_ms=1700)
        assert state.contributing_devices == (store.writer,) or len(state.contributing_devices) == 1
        assert state.valence > 0


def test_only_some_kinds(laptop: Device, month: Path) -> None:
    laptop("import", month)
    _, found = records(laptop("export", "--kind", "memory", "--kind", "emotion"))
    assert set(found) == {"memory-000001", "reading-000001"}


def test_a_mergeable_text_goes_out_and_comes_in(laptop: Device, phone: Device, tmp_path: Path) -> None:
    with laptop.open() as store, store.transaction() as transaction:
        transaction.create("memory", {"content": "x", "created_at": 1, "updated_at": 1}, id="memory-text01")
        transaction.insert_text("memory", "memory-text01", 0, "Long, with 🍵")
    laptop("export", tmp_path / "out.jsonl")
    phone("import", tmp_path / "out.jsonl")
    with phone.open() as store:
        assert store.text("memory", "memory-text01") == "Long, with 🍵"


def test_an_export_is_private_and_overwrites_nothing_unasked(laptop: Device, month: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    target.write_text("mine")
    assert "already is a file" in laptop.fails("export", target)
    assert target.read_text() == "mine"
    laptop("export", target, "--force")
    assert target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []


def test_chatgpt_conversations(laptop: Device) -> None:
    report = laptop.json("import", CHATGPT)
    assert report["format"] == "chatgpt"
    assert report["imported"]["conversation"] > 0
    assert report["imported"]["message"] > 0
    assert set(report["left_out"]) == {"other_branches", "hidden", "without_text", "parts"}
    before = laptop.snapshot()
    assert laptop.json("import", CHATGPT)["imported"] == {}
    assert laptop.snapshot() == before


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"kind": "recipe"}, "Record 2 is of a kind"),
        (
            {"fields": {"content": "x", "colour": 1, "created_at": 1, "updated_at": 1}},
            "Record 2: A memory has no field",
        ),
        ({"fields": {"content": "", "created_at": 1, "updated_at": 1}}, "Record 2: The content of a memory is empty"),
        ({"kind": "message", "fields": {**MONTH[1]["fields"], "conversation_id": "elsewhere"}}, "neither above it nor"),
        ({"kind": "emotion", "fields": {"timestamp": 1, "valence": 0.0, "arousal": 0.0, "confidence": 1.0}}, "subject"),
        (
            {"kind": "emotion", "subject": "m", "fields": {"timestamp": 1, "valence": 9, "arousal": 0}},
            "between -1 and 1",
        ),
        ({"id": ""}, "Line 3: `id`"),
    ],
)
def test_one_bad_record_and_nothing_is_imported(
    laptop: Device, tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    before = laptop.snapshot()
    source = write_lines(tmp_path / "a.jsonl", [MONTH[0], {**MONTH[2], **change}])
    assert problem in laptop.fails("import", source)
    assert laptop.snapshot() == before


def test_an_import_goes_in_batches(laptop: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "BATCH", 10)
    memories = [{**MONTH[2], "id": f"memory-{number:06}"} for number in range(25)]
    laptop("import", write_lines(tmp_path / "a.jsonl", memories))
    found = laptop.json("inspect", "feed", "own/memory/laptop")
    assert [len(entry["items"]) for entry in found["entries"]] == [5, 10, 10]


def test_an_interrupted_import_says_what_it_kept(
    laptop: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "BATCH", 10)
    real, calls = transfer.import_batch, []

    def interrupted(*arguments: Any) -> None:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(real(*arguments))

    monkeypatch.setattr(transfer, "import_batch", interrupted)
    memories = [{**MONTH[2], "id": f"memory-{number:06}"} for number in range(25)]
    result = laptop.run("import", write_lines(tmp_path / "a.jsonl", memories))
    assert result.exit_code == 130
    assert "20 of 25 records are done and kept" in result.stderr
    assert len(laptop.json("inspect", "collection", "own/memory")["document_list"]) == 20
