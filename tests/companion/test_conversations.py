"""Conversations: heads and messages, by time, device and conversation; edited and forgotten together."""

from __future__ import annotations

from typing import Any

import pytest

from aico_crdt.errors import InvalidValue, NotFound


def test_a_conversation_and_its_messages(store: Any) -> None:
    talk = store.conversations.start(title="Breakfast", participants=["Anna", "Aico"])
    said = [
        store.conversations.say(talk, role, text)
        for role, text in [("user", "Good morning"), ("assistant", "Good morning, Anna"), ("user", "Tea, please")]
    ]
    assert [row.id for row in store.conversations.messages(talk)] == said
    assert [row["text"] for row in store.conversations.messages(talk, limit=2)] == ["Good morning, Anna", "Tea, please"]
    first = store.conversations.messages(talk)[0]
    assert (first["conversation_id"], first["role"], first["interaction_device"]) == (talk, "user", "laptop")
    assert store.conversations.get(talk)["title"] == "Breakfast"


def test_pages_go_back_in_time(store: Any) -> None:
    talk = store.conversations.start()
    for n in range(25):
        store.conversations.say(talk, "user", f"line {n}", timestamp=1000 + n)
    page, seen = store.conversations.messages(talk, limit=10), []
    while page:
        seen = [row["text"] for row in page] + seen
        page = store.conversations.messages(talk, limit=10, before_ms=page[0]["timestamp"])
    assert seen == [f"line {n}" for n in range(25)]


def test_recent_talk_over_all_conversations(store: Any) -> None:
    one, two = store.conversations.start(title="one"), store.conversations.start(title="two")
    store.conversations.say(one, "user", "first", interaction_device="phone")
    store.conversations.say(two, "user", "second", interaction_device="laptop")
    store.conversations.say(one, "user", "third", interaction_device="phone")
    assert [row["text"] for row in store.conversations.recent_messages(limit=2)] == ["third", "second"]
    assert [row["text"] for row in store.conversations.recent_messages(device="phone")] == ["third", "first"]
    assert [row["title"] for row in store.conversations.recent()] == ["two", "one"]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"titel": "x"}, "Did you mean 'title'"),
        ({"title": 7}, "title of a conversation is not text"),
        ({"created_at": "yesterday"}, "created_at"),
        ({"created_at": -1}, "after 1970"),
        ({"participants": "Anna"}, "not a list of words"),
        ({"archived": 1}, "true or false"),
        ({"metadata": [1]}, "not a mapping"),
        ({"tags": ["x"] * 300}, "more than 256"),
    ],
)
def test_wrong_fields_are_named_and_nothing_is_written(values: dict[str, Any], told: str, store: Any) -> None:
    before = store.content_hash()
    with pytest.raises(InvalidValue, match=told):
        store.conversations.start(**values)
    assert store.content_hash() == before


@pytest.mark.parametrize(
    ("arguments", "values", "told"),
    [
        (("user", ""), {}, "text of a message is empty"),
        (("human", "x"), {}, "not one of user"),
        (("user", "x" * 300_000), {}, "longer than"),
        (("user", "x"), {"type": "speech"}, "type"),
        (("user", "x"), {"timestmp": 1}, "Did you mean 'timestamp'"),
    ],
)
def test_wrong_messages_are_refused(arguments: Any, values: dict[str, Any], told: str, store: Any) -> None:
    talk = store.conversations.start()
    with pytest.raises(InvalidValue, match=told):
        store.conversations.say(talk, *arguments, **values)
    assert store.conversations.messages(talk) == []


def test_an_error_never_tells_content(store: Any) -> None:
    talk = store.conversations.start()
    with pytest.raises(InvalidValue) as caught:
        store.conversations.say(talk, "a secret role", "a secret text")
    assert "secret" not in str(caught.value)


def test_there_is_no_message_without_its_conversation(store: Any) -> None:
    with pytest.raises(NotFound):
        store.conversations.say("none", "user", "x")
    talk = store.conversations.start()
    message = store.conversations.say(talk, "user", "x")
    with pytest.raises(NotFound):
        store.conversations.say(message, "user", "a message is no conversation")
    with pytest.raises(NotFound):
        store.conversations.edit("none", title="x")


def test_editing_changes_what_is_named_and_none_clears(store: Any) -> None:
    talk = store.conversations.start(title="old", current_topic="tea", tags=["a", "b"])
    store.conversations.edit(talk, title="new", current_topic=None, tags=["b", "c"])
    row = store.conversations.get(talk)
    assert row["title"] == "new"
    assert "current_topic" not in row.fields
    assert sorted(row["tags"]) == ["b", "c"]
    with pytest.raises(InvalidValue, match="may not be empty"):
        store.conversations.edit(talk, created_at=None)
    message = store.conversations.say(talk, "user", "x")
    store.conversations.edit(message, text="corrected")
    assert store.conversations.messages(talk)[0]["text"] == "corrected"
    with pytest.raises(InvalidValue):
        store.conversations.edit(message, title="messages have none")


@pytest.mark.parametrize(
    ("values", "space"),
    [
        ({}, "own"),
        ({"relationship_context": "family"}, "family"),
        ({"tags": ["personal"]}, "local"),
        ({"relationship_context": "family", "tags": ["confidential"]}, "local"),
    ],
)
def test_labels_decide_the_space_once_for_all_messages(values: dict[str, Any], space: str, store: Any) -> None:
    talk = store.conversations.start(**values)
    store.conversations.say(talk, "user", "x")
    assert store.conversations.get(talk).space == space
    assert [row.space for row in store.conversations.messages(talk)] == [space]


def test_forgetting_a_conversation_takes_its_messages(store: Any) -> None:
    talk, other = store.conversations.start(), store.conversations.start()
    for n in range(5):
        store.conversations.say(talk, "user", f"{n}")
    kept = store.conversations.say(other, "user", "kept")
    message = store.conversations.messages(talk)[0].id
    store.conversations.forget(message)
    assert len(store.conversations.messages(talk)) == 4
    store.conversations.forget(talk)
    assert store.conversations.messages(talk) == []
    assert [row.id for row in store.conversations.recent_messages()] == [kept]
    assert [row.id for row in store.conversations.recent()] == [other]
    with pytest.raises(NotFound):
        store.conversations.forget(talk)


def test_talk_from_two_devices_comes_together_in_order(companions: Any, sync: Any, clock: Any) -> None:
    a, b = companions(2)
    talk = a.conversations.start(title="both")
    sync(a, b)
    for n in range(3):
        a.conversations.say(talk, "user", f"a{n}")
        b.conversations.say(talk, "assistant", f"b{n}")
    sync(a, b)
    texts = [row["text"] for row in a.conversations.messages(talk)]
    assert texts == [row["text"] for row in b.conversations.messages(talk)] == ["a0", "b0", "a1", "b1", "a2", "b2"]
