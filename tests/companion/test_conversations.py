"""Conversations: heads and messages, by time, device and conversation; edited and forgotten together."""

from __future__ import annotations

from typing import Any

import pytest

from aico_crdt.errors import InvalidValue, NotFound
from aico_crdt.store.verify import verify
from tests.store.conftest import Clock


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


def pages(store: Any, talk: str, limit: int, *, by_id: bool = False) -> list[str]:
    """All messages, asked for page by page from the last."""
    seen: list[str] = []
    page = store.conversations.messages(talk, limit=limit)
    while page:
        assert len(page) == limit or len(seen) + len(page) >= 200
        seen = [row["text"] for row in page] + seen
        page = store.conversations.messages(talk, limit=limit, before=page[0].id if by_id else page[0])
    return seen


def test_what_was_said_in_one_millisecond_keeps_its_order_on_every_device(
    companions: Any, sync: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock stands still: only stamps tell what came first."""
    a, b = companions(2)
    monkeypatch.setattr(Clock, "__call__", lambda clock: clock.ms)
    talk = a.conversations.start()
    sync(a, b)
    said = []
    for n in range(200):
        store = (a, b)[n // 20 % 2]
        if n and n % 20 == 0:
            sync(a, b)  # so the turns of the two follow each other
        said.append((store.conversations.say(talk, "user", f"line {n}"), f"line {n}"))
    sync(a, b)
    texts = [text for _, text in said]
    stamps = {row["timestamp"] for row in a.conversations.messages(talk, limit=500)}
    assert len(stamps) == 1
    for store in (a, b):
        assert [row["text"] for row in store.conversations.messages(talk, limit=500)] == texts
        assert [row["text"] for row in store.conversations.messages(talk, limit=30)] == texts[-30:]
        assert pages(store, talk, 33) == texts
    a.conversations.edit(said[7][0], text="edited")
    sync(a, b)
    texts[7] = "edited"
    for store in (a, b):
        assert pages(store, talk, 50, by_id=True) == texts
        assert not verify(store).problems


def test_a_page_goes_on_from_a_row_that_was_forgotten_meanwhile(store: Any) -> None:
    talk = store.conversations.start()
    said = [store.conversations.say(talk, "user", f"line {n}") for n in range(9)]
    page = store.conversations.messages(talk, limit=3)
    assert [row.id for row in page] == said[6:]
    store.conversations.forget(page[0].id)
    assert [row.id for row in store.conversations.messages(talk, limit=3, before=page[0])] == said[3:6]
    with pytest.raises(NotFound, match="go on after"):
        store.conversations.messages(talk, before=page[0].id)
    with pytest.raises(NotFound, match="go on after"):
        store.conversations.messages(store.conversations.start(), before=said[0])


def test_before_a_time_leaves_out_all_of_that_millisecond(store: Any) -> None:
    talk = store.conversations.start()
    for n in range(9):
        store.conversations.say(talk, "user", f"line {n}", timestamp=1000 + n // 3)
    told = store.conversations.messages(talk, before_ms=1002)
    assert [row["text"] for row in told] == [f"line {n}" for n in range(6)]
    assert store.conversations.messages(talk, before_ms=1000) == store.conversations.messages(talk, before_ms=0) == []
    first = store.conversations.messages(talk, before_ms=1002, before=told[4])
    assert [row["text"] for row in first] == [f"line {n}" for n in range(4)]


def test_a_query_goes_on_in_either_direction(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Clock, "__call__", lambda clock: clock.ms)
    talk = store.conversations.start()
    said = [store.conversations.say(talk, "user", f"line {n}") for n in range(6)]
    for newest_first, order in ((False, said), (True, said[::-1])):
        found, after = [], None
        while page := store.query("conversation", "message", limit=4, newest_first=newest_first, after=after):
            found += [row.id for row in page]
            after = page[-1]
        assert found == order


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
