"""Who writes which record in the demo, and what a story needs that an export lacks."""

from __future__ import annotations

from typing import Any

from aico_crdt.cli.demo_story import DEVICES, Glimpse, Placing, anyones
from aico_crdt.companion.imports import Record


def record(kind: str, id: str | None = None, device: str | None = None, **fields: Any) -> Record:
    return Record(kind, id, device, fields)


def test_records_go_where_they_say_and_others_in_turn() -> None:
    placing = Placing()
    assert [placing.device(record("memory", device=name)) for name in ("tablet", "phone")] == ["tablet", "phone"]
    assert [placing.device(record("memory")) for _ in range(4)] == ["laptop", "phone", "tablet", "laptop"]
    names = ["watch", "car", "watch", "laptop", "car"]
    assert [placing.device(record("memory", device=name)) for name in names] == [
        "phone", "tablet", "phone", "laptop", "tablet",
    ]  # fmt: skip


def test_messages_of_a_private_conversation_are_written_where_it_is() -> None:
    placing = Placing()
    assert placing.device(record("conversation", "secret", "phone", tags=["confidential"])) == "phone"
    assert placing.device(record("conversation", "open", "phone", tags=["garden"])) == "phone"
    for name in DEVICES:
        assert placing.device(record("message", None, name, conversation_id="secret")) == "phone"
        assert placing.device(record("message", None, name, conversation_id="open")) == name


def test_a_story_names_only_what_everybody_has() -> None:
    glimpse = Glimpse()
    for one in (
        record("memory", "hidden", privacy="private", created_at=5_000),
        record("memory", "first", created_at=1_000),
        record("memory", None),
        record("conversation", "talk", updated_at=9_000),
        record("memory", "second"),
        record("memory", "third"),
        record("conversation", "diary", tags=["personal"]),
    ):
        glimpse.see(one)
    story = anyones(glimpse, now_ms=0)
    assert (story.edited, story.forgotten, list(story.before)) == ("first", "second", [])
    assert [arguments["conversation_id"] for verb, arguments in story.meanwhile["laptop"] if verb == "say"] == ["talk"]
    assert glimpse.last_ms == 9_000
    felt = [arguments for writes in story.meanwhile.values() for verb, arguments in writes if verb == "feel"]
    assert len(felt) == 3
    assert all(9_000 < one["timestamp"] <= story.as_of_ms for one in felt)


def test_what_an_export_lacks_is_written_before() -> None:
    story = anyones(Glimpse(), now_ms=1_800_000_000_000)
    assert [verb for verb, _ in story.before] == ["remember", "remember", "start"]
    assert [arguments["id"] for _, arguments in story.before[:2]] == [story.edited, story.forgotten]
