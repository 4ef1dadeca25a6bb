"""The companion's store: several verbs in one commit, forgetting several at once."""

from __future__ import annotations

from typing import Any

import pytest

from aico_crdt.errors import NotFound


def test_verbs_join_one_transaction(store: Any) -> None:
    commits = store.counters().commits
    with store.transaction() as t:
        talk = store.conversations.start(title="x", within=t)
        store.conversations.say(talk, "user", "hello", within=t)
        memory = store.memories.add("hello was said", within=t)
        store.memories.edit(memory, importance=0.5, within=t)
        store.emotions.record("user", valence=0.1, arousal=0.1, confidence=1.0, within=t)
        store.devices.describe(location="desk", within=t)
    assert store.counters().commits == commits + 1
    assert store.memories.get(memory)["importance"] == 0.5
    assert len(store.conversations.messages(talk)) == 1


def test_verbs_that_join_are_taken_back_together(store: Any) -> None:
    before = store.content_hash()
    with pytest.raises(NotFound), store.transaction() as t:  # noqa: PT012
        store.memories.add("lost", within=t)
        store.conversations.say("none", "user", "x", within=t)
    assert store.content_hash() == before


def test_forgetting_several_is_all_or_nothing(store: Any) -> None:
    memories = [store.memories.add(f"m{n}") for n in range(3)]
    with pytest.raises(NotFound):
        store.forget_all([("memory", memories[0]), ("memory", "none")])
    assert len(store.memories.find()) == 3
    store.forget_all([("memory", memory) for memory in memories[:2]], now=True)
    assert [row.id for row in store.memories.find()] == memories[2:]
    assert all(store.receipt("memory", memory).erased_on == (store.device,) for memory in memories[:2])
