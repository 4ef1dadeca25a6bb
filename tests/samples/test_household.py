"""The bundled month is what it says: large enough, whole, and in range."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from aico_crdt.companion.imports import read_jsonl
from aico_crdt.samples import household, household_lines

RECORDS = list(household())
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# 1 March 2026 in Berlin to 31 March 2026, 20:00 UTC (when the export says it was made); Unix milliseconds.
FIRST_MS, LAST_MS = 1_772_319_600_000, 1_774_987_200_000
DEVICES = {"laptop", "phone", "tablet"}


def of(kind: str) -> list[dict[str, Any]]:
    return [record for record in RECORDS if record["kind"] == kind]


def time_of(record: dict[str, Any]) -> int:
    ms = record["fields"]["timestamp" if record["kind"] in ("message", "emotion") else "created_at"]
    assert type(ms) is int
    return ms


def words(text: str) -> str:
    return re.sub(r"\W+", " ", text.casefold()).strip()


def check_unique(texts: Iterable[str]) -> None:
    repeated = [text for text, times in Counter(texts).items() if times > 1]
    assert not repeated


def test_the_month_is_as_large_as_promised() -> None:
    assert len(of("conversation")) >= 12
    assert len(of("message")) >= 220
    assert len(of("memory")) >= 64
    assert len(of("emotion")) >= 48
    assert {e["subject"] for e in of("emotion")} == {"user", "companion"}
    assert {r["kind"] for r in RECORDS} == {"conversation", "message", "memory", "emotion"}


def test_the_importer_reads_what_the_file_holds() -> None:
    read = list(read_jsonl(household_lines()))
    assert len(read) == len(RECORDS)
    for got, line in zip(read, RECORDS, strict=True):
        subject = {"subject": line["subject"]} if "subject" in line else {}
        assert (got.kind, got.id, got.device) == (line["kind"], line.get("id"), line["device"])
        assert got.fields == line["fields"] | subject


def test_every_device_has_its_share_of_every_kind() -> None:
    for kind in ("conversation", "message", "memory", "emotion"):
        share = Counter(r["device"] for r in of(kind))
        assert share.keys() == DEVICES
        assert min(share.values()) * 20 >= share.total()


def test_ids_are_ulids_of_their_records_time() -> None:
    named = [r for r in RECORDS if r["kind"] != "emotion"]
    assert len({r["id"] for r in named}) == len(named)
    assert not any("id" in r for r in of("emotion"))
    for record in named:
        assert len(record["id"]) == 26
        assert set(record["id"]) <= set(ALPHABET)
        value = 0
        for character in record["id"]:
            value = value * 32 + ALPHABET.index(character)
        assert value < 1 << 128
        assert value >> 80 == time_of(record)


def test_time_runs_forward_through_march() -> None:
    times = [time_of(r) for r in RECORDS]
    assert times == sorted(times)
    assert times[0] >= FIRST_MS
    assert times[-1] <= LAST_MS
    assert {1, 31} <= {(ms - FIRST_MS) // 86_400_000 + 1 for ms in times}


def test_whatever_is_referred_to_stands_above() -> None:
    conversations: dict[str, dict[str, Any]] = {}
    messages: dict[str, dict[str, Any]] = {}
    for record in RECORDS:
        fields = record["fields"]
        match record["kind"]:
            case "conversation":
                conversations[record["id"]] = fields
            case "message":
                assert fields["conversation_id"] in conversations
                if "reply_to" in fields:
                    asked = messages[fields["reply_to"]]
                    assert asked["conversation_id"] == fields["conversation_id"]
                    assert (asked["role"], fields["role"]) == ("user", "assistant")
                messages[record["id"]] = fields
            case "memory":
                source = messages[fields["source_message_id"]]
                assert source["conversation_id"] == fields["source_conversation_id"]
                assert source["timestamp"] < fields["created_at"] <= source["timestamp"] + 1000
            case "emotion":
                assert fields.get("context_id") is None or fields["context_id"] in conversations
    for key, fields in conversations.items():
        spoken = [m["timestamp"] for m in messages.values() if m["conversation_id"] == key]
        assert len(spoken) >= 8
        assert fields["created_at"] <= min(spoken)
        assert fields["updated_at"] == max(spoken)


def test_conversations_are_whole() -> None:
    for conversation in of("conversation"):
        fields = conversation["fields"]
        assert fields["title"]
        assert fields["current_topic"]
        assert fields["tags"]
        assert "Aico" in fields["participants"]
        assert len(fields["participants"]) >= 2
        assert fields["relationship_context"] in ("family", "personal", "work")
    assert {c["fields"]["relationship_context"] for c in of("conversation")} == {"family", "personal", "work"}


def test_messages_are_whole() -> None:
    kinds = {"user": "user_input", "assistant": "system_response", "system": "system"}
    for message in of("message"):
        fields = message["fields"]
        assert fields["text"].strip() == fields["text"] != ""
        assert fields["type"] == kinds[fields["role"]]
        assert fields["interaction_device"] == message["device"]
        if "emotion" in fields:
            assert fields["emotion"]["primary"].isalpha()
            assert 0 < fields["emotion"]["confidence"] <= 1
    assert sum("emotion" in m["fields"] for m in of("message")) >= 30
    # Some conversations go on at another device.
    places: dict[str, set[str]] = {}
    for message in of("message"):
        places.setdefault(message["fields"]["conversation_id"], set()).add(message["device"])
    assert sum(len(devices) > 1 for devices in places.values()) >= 3


def test_memories_are_whole_and_in_range() -> None:
    for memory in of("memory"):
        fields = memory["fields"]
        assert fields["content"]
        assert fields["about"]
        assert fields["tags"]
        assert fields["category"]
        assert fields["memory_type"] in ("episodic", "semantic", "procedural")
        assert 0 <= fields["confidence"] <= 1
        assert 0 <= fields["importance"] <= 1
        assert fields.get("privacy") in (None, "public", "family", "private")
        assert fields["updated_at"] >= fields["created_at"]
    privacies = Counter(m["fields"].get("privacy") for m in of("memory"))
    assert {None, "public", "family", "private"} == privacies.keys()
    # (namespace, about, key) names one memory.
    check_unique(f"{m['namespace']}/{m['about']}/{m['key']}" for m in (r["fields"] for r in of("memory")))


def test_readings_are_in_range() -> None:
    for reading in of("emotion"):
        fields = reading["fields"]
        assert fields["source"] in ("text", "voice", "self_report")
        assert fields["primary"].isalpha()
        assert fields.get("secondary", "x").isalpha()
        assert -1 <= fields["valence"] <= 1
        for name in ("arousal", "intensity", "confidence"):
            assert 0 <= fields[name] <= 1
            assert math.isfinite(fields[name])
        assert fields["dominance"] is None or 0 <= fields["dominance"] <= 1
        assert fields["half_life_s"] in (1800, 43200)
    readings = [e["fields"] for e in of("emotion")]
    assert any(f["dominance"] is None for f in readings)
    assert any("context_id" not in f for f in readings)
    assert min(f["valence"] for f in readings) < -0.5
    assert max(f["valence"] for f in readings) > 0.5
    for subject in ("user", "companion"):
        assert {e["device"] for e in of("emotion") if e["subject"] == subject} == DEVICES


@pytest.mark.parametrize("kind", ["message", "memory"])
def test_nothing_is_said_twice(kind: str) -> None:
    check_unique(words(r["fields"]["text" if kind == "message" else "content"]) for r in of(kind))


def test_the_household_speaks_more_than_ascii() -> None:
    said = "\n".join(m["fields"]["text"] for m in of("message"))
    assert re.search(r"[äöüß]", said)
    assert "Tomás" in said
    assert "Pão" in said
    assert re.search(r"[\u3040-\u30ff]", said)
    assert re.search(r"[\u4e00-\u9fff]", said)
    assert re.search(r"[\U0001f300-\U0001faff]", said)
    german = re.findall(r"\b(?:nicht|und|ich|du|der|das|wenn|schön\w*)\b", said)
    assert len(german) >= 20
