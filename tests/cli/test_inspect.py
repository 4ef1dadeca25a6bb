"""status, inspect and log: what the store holds, as people and as programs read it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from aico_crdt.feed import Entry, decode_entry, encode_entry
from aico_crdt.store import StoreReplica
from tests.cli.support import Device


@pytest.fixture
def filled(laptop: Device, month: Path) -> Device:
    laptop("import", month)
    return laptop


def test_status_counts_by_space_and_kind(filled: Device) -> None:
    status = filled.json("status")
    counts = {(c["space"], c["kind"]): c["documents"] for c in status["collections"]}
    assert counts["own", "conversation"] == 2
    assert counts["own", "memory"] == 1
    assert counts["own", "emotion"] == 2  # the reading, and its subject's register
    assert {c["messages"] for c in status["collections"] if c["space"] == "own" and c["kind"] == "conversation"} == {1}
    assert status["conflicts"] == status["held_entries"] == status["owed_erasures"] == 0
    assert 0 < status["used_bytes"] < status["limit_bytes"]
    # Three collections were written to, and the directory holds two statements.
    assert list(status["pending"].values()) == [5]
    text = filled("status")
    assert "own/memory" in text
    assert [line.split()[1:3] for line in text.splitlines() if line.startswith("own/conversation")] == [["2", "1"]]
    assert "phone: 5 entries it has not acknowledged; never heard from" in text


def test_status_of_a_document_says_where_it_is(filled: Device) -> None:
    receipt = filled.json("status", "memory-000001")
    phone = filled.json("devices")["devices"][1]["device"]
    assert receipt["here"] is True
    assert receipt["everywhere"] is False
    assert receipt["missing"] == [phone]
    assert receipt["on"] == []
    assert "missing     phone" in filled("status", "memory-000001")


def test_waiting_for_a_document_ends_with_1_when_time_is_up(filled: Device) -> None:
    assert filled.json("status", "memory-000001", "--wait", "--timeout", "0.1", code=1)["everywhere"] is False
    assert filled.run("status", "--wait").exit_code == 2


def test_status_of_a_forgotten_document_says_who_forgot_and_who_owes(filled: Device) -> None:
    with filled.open() as store:
        store.forget("memory", "memory-000001", now=True)
    receipt = filled.json("status", "memory-000001")
    devices = {one["name"]: one["device"] for one in filled.json("devices")["devices"]}
    assert receipt["forgotten"] is True
    assert receipt["forgotten_by"] == "laptop"
    assert receipt["erased_on"] == [devices["laptop"]]
    assert receipt["owing"] == [devices["phone"]]
    text = filled("status", "memory-000001")
    assert "by laptop" in text
    assert "still owed by  phone" in text


def test_a_device_need_not_say_that_it_holds_what_it_wrote(laptop: Device, phone: Device) -> None:
    with phone.open() as store:
        store.memories.add("from the phone", id="memory-phone1")
        collection = store.directory.find("own", "memory")
        assert collection is not None
        runs, _ = StoreReplica(store).read_entries(collection.tag, [(store.device, store.incarnation, 1)], 1 << 20)
        device = store.device
    with laptop.open() as store:
        assert StoreReplica(store).ingest(collection.tag, runs, device).applied == 1
    # The two statements of the directory are all that it has not acknowledged.
    assert list(laptop.json("status")["pending"].values()) == [2]


def test_a_living_document_goes_before_a_forgotten_one_of_the_same_name(laptop: Device) -> None:
    with laptop.open() as store:
        store.memories.add("mine", id="memory-000001", privacy="family")
        store.forget("memory", "memory-000001", now=True)
        store.memories.add("ours", id="memory-000001")
    assert laptop.json("inspect", "document", "memory-000001")["space"] == "own"


def test_ids_may_be_begun_but_not_ambiguously(filled: Device) -> None:
    assert filled.json("status", "memory")["id"] == "memory-000001"
    assert "at least 6 characters" in filled.fails("status", "memor")
    with filled.open() as store:
        store.memories.add("Another.", id="memory-000002")
    said = filled.fails("status", "memory-0")
    assert "memory memory-000001" in said
    assert "memory memory-000002" in said
    assert filled.json("status", "memory-000002")["id"] == "memory-000002"


def test_one_id_in_two_kinds_needs_its_kind(filled: Device) -> None:
    with filled.open() as store:
        store.memories.add("Of the same name.", id="talk-000001")
    assert "or the kind" in filled.fails("inspect", "document", "talk-000001")
    assert filled.json("inspect", "document", "memory", "talk-000001")["fields"]["content"] == "Of the same name."


def test_inspect_shows_collections_feeds_and_documents(filled: Device) -> None:
    assert "own/memory" in filled("inspect")
    assert filled.json("inspect") == filled.json("inspect", "store")
    assert "own/memory" in filled("inspect", "--store", filled.store_path, "store")
    assert filled.run("inspect", "--json", "store").exit_code == 2
    found = filled.json("inspect", "collection", "own/memory")
    assert [(f["device_name"], f["floor"], f["seq"]) for f in found["feed_list"]] == [("laptop", 1, 1)]
    assert [(d["id"], d["state"], d["life"]) for d in found["document_list"]] == [("memory-000001", "whole", 1)]
    assert filled.json("inspect", "collection", found["tag"]) == found
    assert "memory-000001" in filled("inspect", "collection", "own/memory")
    assert "There are " in filled.fails("inspect", "collection", "own/nothing")


def test_what_was_rejected_is_shown_with_its_reason(laptop: Device, phone: Device) -> None:
    with phone.open() as store:
        store.memories.add("from the phone")
        collection = store.directory.find("own", "memory")
        assert collection is not None
        runs, _ = StoreReplica(store).read_entries(collection.tag, [(store.device, store.incarnation, 1)], 1 << 20)
        device = store.device
    entry = decode_entry(runs[0][0])
    forged = encode_entry(Entry(entry.header, bytes(64), entry.items))
    with laptop.open() as store:
        assert StoreReplica(store).ingest(collection.tag, [[forged]], device).rejected == 1
    (kept,) = laptop.json("inspect", "store")["evidence_list"]
    assert (kept["what"], kept["reason"], kept["source"]) == ("rejected", "bad-signature", device.hex())
    assert "rejected (bad-signature) from phone" in laptop("inspect")
    assert laptop.json("status")["evidence"] == 1


def test_inspect_takes_a_document_apart(filled: Device) -> None:
    with filled.open() as store:
        store.memories.edit("memory-000001", content="Likes green tea.", tags=["tea", "green"])
    found = filled.json("inspect", "document", "memory-000001")
    assert found["fields"]["content"] == "Likes green tea."
    assert sorted(found["fields"]["tags"]) == ["green", "tea"]
    slots = {slot["name"]: slot for slot in found["slots"]}
    assert set(slots) == {"*", "content", "tags/green", "updated_at"}
    assert slots["*"]["value"]["content"] == "Likes jasmine tea."
    assert slots["*"]["entry"] != slots["content"]["entry"]
    assert slots["content"]["device_name"] == "laptop"
    assert [entry["seq"] for entry in found["entries"]] == [1, 2]
    text = filled("inspect", "document", "memory-000001")
    assert "Likes green tea." in text
    assert slots["content"]["entry"] in text


def test_inspect_shows_a_feed_and_an_entry_with_its_signature_checked(filled: Device) -> None:
    feed = filled.json("inspect", "feed", "own/memory/laptop")
    assert (feed["floor"], feed["seq"]) == (1, 1)
    ref = feed["entries"][0]["entry"]
    entry = filled.json("inspect", "entry", ref)
    assert entry["verified"] is True
    assert entry["problem"] is None
    assert entry["items"][0]["id"] == "memory-000001"
    assert entry["items"][0]["content"]["*"]["content"] == "Likes jasmine tea."
    by_parts = filled.json("inspect", "entry", entry["tag"], entry["device"], entry["incarnation"], entry["seq"])
    assert by_parts == entry
    text = filled("inspect", "entry", ref)
    assert "verified: signed by laptop" in text
    assert "none: the first of its feed" in text
    assert "not here any more, or never was" in filled.fails("inspect", "entry", ref[:-1] + "7")


def test_an_entry_whose_item_is_erased_still_verifies(filled: Device) -> None:
    ref = filled.json("log", "--kind", "memory")["entries"][0]["entry"]
    with filled.open() as store:
        store.forget("memory", "memory-000001", now=True)
    entry = filled.json("inspect", "entry", ref)
    assert entry["verified"] is True
    assert [(item["what"], item["content"]) for item in entry["items"]] == [("erased", None)]


def test_a_statement_is_told_in_words(laptop: Device) -> None:
    whats = [item["what"] for entry in laptop.json("log")["entries"] for item in entry["items"]]
    assert whats == ["admit phone (full)", "found family as laptop"]


def test_the_log_is_newest_first_and_of_one_kind_if_asked(filled: Device) -> None:
    with filled.open() as store:
        store.memories.edit("memory-000001", content="x")
    found = filled.json("log", "--kind", "memory")["entries"]
    assert [[item["what"] for item in entry["items"]] for entry in found] == [["changed"], ["born"]]
    assert {entry["kind"] for entry in found} == {"memory"}
    assert len(filled.json("log", "--limit", "1")["entries"]) == 1
    assert "changed memory-000001" in filled("log", "--limit", "1")
    assert "no kind 'tea'" in filled.fails("log", "--kind", "tea")


def test_a_message_is_called_one(filled: Device) -> None:
    (entry,) = filled.json("log", "--kind", "message")["entries"]
    assert {item["kind"] for item in entry["items"]} == {"conversation", "message"}
    with filled.open() as store:
        store.conversations.edit("talk-000001", title="Another")
    assert [e["seq"] for e in filled.json("log", "--kind", "message", "--limit", "1")["entries"]] == [entry["seq"]]
    assert len(filled.json("log", "--kind", "conversation")["entries"]) == 2
    assert filled("why", "message-000001").startswith("message message-000001 (")
    assert filled("why", "message", "message-000001") == filled("why", "conversation", "message-000001")
    assert filled("status", "message-000001").startswith("message ")
    assert filled("inspect", "document", "message-000001").startswith("message ")


def test_a_revocation_names_the_device(laptop: Device) -> None:
    laptop("revoke", "phone", "--yes")
    assert "revoke phone" in laptop("log")


@pytest.mark.processes
def test_the_log_can_be_followed(filled: Device) -> None:
    following = filled.process("log", "--follow", "--json", "--kind", "memory")
    assert following.stdout is not None
    assert json.loads(following.stdout.readline())["items"][0]["what"] == "born"
    with filled.open() as store:
        store.memories.edit("memory-000001", content="x")
    assert json.loads(following.stdout.readline())["items"][0]["what"] == "changed"
    following.send_signal(signal.SIGINT)
    _, said = following.communicate(timeout=10)
    assert following.returncode == 130
    assert said == "Interrupted. Nothing was changed.\n"


def test_what_devices_and_people_wrote_does_not_steer_the_terminal(laptop: Device) -> None:
    with laptop.open() as store:
        store.memories.add("red \x1b[31m alarm \x07 \u202e back", id="steering-1", key="[bold]x[/bold]")
    for words in (("inspect", "document", "steering-1"), ("why", "steering-1")):
        text = laptop(*words)
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "\u202e" not in text
        assert "[bold]x[/bold]" in text
    assert laptop.json("inspect", "document", "steering-1")["fields"]["content"].startswith("red \x1b[31m")
