"""why: who wrote each field, when, proven how, and who has it."""

from __future__ import annotations

import pytest

from aico_crdt import clock
from aico_crdt.feed import Entry
from aico_crdt.store import replica
from tests.cli.support import Device


@pytest.fixture
def conflict(laptop: Device, phone: Device) -> str:
    """A memory that both edited without knowing of each other, on both devices."""
    with laptop.open() as store:
        store.memories.add("as born", id="memory-000001", about="Mara", created_at=1000)
    laptop("merge", laptop.store_path, phone.store_path, "--key-b", phone.key)
    for device, text in ((laptop, "of the laptop"), (phone, "of the phone")):
        with device.open() as store:
            store.memories.edit("memory-000001", content=text)
    laptop("merge", laptop.store_path, phone.store_path, "--key-b", phone.key)
    return "memory-000001"


def test_every_field_names_its_writer_its_entry_and_its_holders(conflict: str, laptop: Device) -> None:
    found = laptop.json("why", conflict)
    devices = {one["name"]: one["device"] for one in laptop.json("devices")["devices"]}
    assert found["conflicts"] == ["content"]
    content = [w for w in found["writes"] if w["field"] == "content"]
    assert {(w["device_name"], w["value"]) for w in content} == {("laptop", "of the laptop"), ("phone", "of the phone")}
    assert [w["seen"] for w in content] == [w["value"] == found["fields"]["content"] for w in content]
    (about,) = [w for w in found["writes"] if w["field"] == "about"]
    assert (about["value"], about["device_name"], about["seen"]) == ("Mara", "laptop", True)
    for write in found["writes"]:
        assert write["verified"] is True
        assert write["attested_by"] is None
        assert write["missing"] == []
        assert write["on"] == [devices["phone"]]
        entry = laptop.json("inspect", "entry", write["entry"])
        assert entry["device"] == devices[write["device_name"]]
        assert clock.from_text(entry["hlc"]) >= clock.from_text(write["hlc"])
    assert about["entry"] != content[0]["entry"] != content[1]["entry"]


def test_it_reads_as_a_table(conflict: str, laptop: Device) -> None:
    text = laptop("why", "memory", conflict)
    assert "signed by phone, verified now" in text
    assert "content is in conflict: 2 versions are open." in text
    assert sum(line.startswith("content") and "* of the" in line for line in text.splitlines()) == 1


def test_what_nobody_else_has_yet_is_said(laptop: Device) -> None:
    with laptop.open() as store:
        store.memories.add("new", id="memory-000001")
    assert "not yet phone" in laptop("why", "memory-000001")


def test_sets_show_what_was_added_and_removed(laptop: Device) -> None:
    with laptop.open() as store:
        store.memories.add("tags", id="memory-000001", tags=["a", "b"])
        store.memories.edit("memory-000001", tags=["b", "c"])
    values = [w["value"] for w in laptop.json("why", "memory-000001")["writes"] if w["field"] == "tags"]
    assert sorted(map(str, values)) == ["+c", "-a", "['a', 'b']"]


def test_an_edit_replaces_the_field_as_born(laptop: Device) -> None:
    """In a kind whose documents are born once; in memories an edit says which births it saw."""
    with laptop.open() as store:
        store.conversations.start(id="talk-000001", title="old", current_topic="tea")
        store.conversations.edit("talk-000001", title="new")
    writes = laptop.json("why", "talk-000001")["writes"]
    assert [w["value"] for w in writes if w["field"] == "title"] == ["new"]
    assert [w["value"] for w in writes if w["field"] == "current_topic"] == ["tea"]


def test_a_signature_that_does_not_hold_is_told(conflict: str, laptop: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    real = replica.read_wire_entry

    def forged(*arguments: object) -> Entry:
        entry = real(*arguments)  # type: ignore[arg-type]
        return Entry(entry.header, bytes(64), entry.items)

    monkeypatch.setattr("aico_crdt.cli.reading.read_wire_entry", forged)
    assert "NOT VALID" in laptop("why", conflict, code=1)
    writes = laptop.json("why", conflict, code=1)["writes"]
    assert {w["verified"] for w in writes} == {False}
    entry = laptop.json("inspect", "entry", writes[0]["entry"], code=1)
    assert entry["verified"] is False
    assert "not by the device it names" in entry["problem"]


def test_of_a_forgotten_document_nothing_is_known(conflict: str, laptop: Device) -> None:
    with laptop.open() as store:
        store.forget("memory", conflict, now=True)
    assert "was forgotten" in laptop.fails("why", conflict)
