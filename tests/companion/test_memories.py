"""Memories: one per content, found by key, tag, person, namespace and time."""

from __future__ import annotations

from typing import Any

import pytest

from aico_crdt.errors import InvalidValue, NotFound


def test_the_same_memory_twice_is_one(store: Any) -> None:
    first = store.memories.add("likes tea", about="Anna")
    assert store.memories.add("likes tea", about="Anna", importance=0.9) == first
    assert store.memories.add("likes tea", about="Ben") != first
    assert store.memories.add("likes tea", about="Anna", key="drink") != first
    assert store.memories.add("likes tea", about="Anna", append=True) != first
    assert len(store.memories.find()) == 4
    assert "importance" not in store.memories.get(first).fields


def test_the_same_memory_on_two_devices_is_one(companions: Any, sync: Any) -> None:
    a, b = companions(2)
    assert a.memories.add("likes tea", tags=["x"]) == b.memories.add("likes tea", tags=["y"])
    sync(a, b)
    (row,) = a.memories.find()
    assert sorted(row["tags"]) == ["x", "y"]
    assert [r.fields for r in b.memories.find()] == [row.fields]


def test_a_memory_edited_twice_at_once_is_an_open_conflict_that_an_edit_settles(companions: Any, sync: Any) -> None:
    a, b = companions(2)
    memory = a.memories.add("likes tea")
    sync(a, b)
    a.memories.edit(memory, content="likes green tea")
    b.memories.edit(memory, content="likes black tea")
    sync(a, b)
    row = a.memories.get(memory)
    assert {version.value for version in row.conflicts["content"]} == {"likes green tea", "likes black tea"}
    assert row["content"] == "likes black tea"  # the later
    assert set(row.conflicts) == {"content"}  # when it was edited is no conflict
    assert b.memories.get(memory).fields == row.fields
    a.memories.edit(memory, content="likes any tea")
    sync(a, b)
    assert b.memories.get(memory).conflicts == {}
    assert b.memories.get(memory)["content"] == "likes any tea"


def test_tags_are_a_set_in_which_adding_wins(companions: Any, sync: Any) -> None:
    a, b = companions(2)
    memory = a.memories.add("x", tags=["one", "two"])
    sync(a, b)
    a.memories.edit(memory, tags=["two", "three"])
    b.memories.edit(memory, tags=["one", "two", "four"])
    sync(a, b)
    assert sorted(a.memories.get(memory)["tags"]) == sorted(b.memories.get(memory)["tags"]) == ["four", "three", "two"]
    assert [row.id for row in a.memories.find(tag="three")] == [memory]
    assert a.memories.find(tag="one") == []


def test_finding_by_what_is_known(store: Any) -> None:
    for n in range(6):
        store.memories.add(
            f"m{n}", about="Anna" if n % 2 else "Ben", namespace="home", tags=[f"t{n % 3}"], key=f"k{n}",
            created_at=1000 + n,
        )  # fmt: skip

    def contents(**wanted: Any) -> list[str]:
        return [row["content"] for row in store.memories.find(**wanted)]

    assert contents() == ["m5", "m4", "m3", "m2", "m1", "m0"]
    assert contents(limit=2) == ["m5", "m4"]
    assert contents(about="Anna") == ["m5", "m3", "m1"]
    assert contents(tag="t0") == ["m3", "m0"]
    assert contents(tag="t0", about="Anna") == ["m3"]
    assert contents(key="k4") == ["m4"]
    assert contents(namespace="home", about="Ben", limit=1) == ["m4"]
    assert contents(namespace="work") == []


@pytest.mark.parametrize(
    ("values", "space"),
    [
        ({}, "own"),
        ({"privacy": "family"}, "family"),
        ({"privacy": "public"}, "family"),
        ({"privacy": "private"}, "local"),
        ({"relationship_context": "family"}, "family"),
        ({"tags": ["personal"]}, "local"),
        ({"privacy": "family", "tags": ["confidential"]}, "local"),
    ],
)
def test_labels_decide_the_space(values: dict[str, Any], space: str, companions: Any, sync: Any) -> None:
    a, b, c = companions(3, trusts=("full", "limited"))
    memory = a.memories.add("x", **values)
    assert a.memories.get(memory).space == space
    sync(a, b, c)
    assert (b.read("memory", memory) is not None) == (space != "local")
    assert (c.read("memory", memory) is not None) == (space == "family")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"importence": 1}, "Did you mean 'importance'"),
        ({"importance": 1.5}, "between 0 and 1"),
        ({"importance": float("nan")}, "not a number"),
        ({"confidence": True}, "not a number"),
        ({"privacy": "secret"}, "not one of public, family, private"),
        ({"is_favorite": "yes"}, "true or false"),
        ({"expires_at": 1.5}, "whole Unix milliseconds"),
    ],
)
def test_wrong_fields_are_refused(values: dict[str, Any], told: str, store: Any) -> None:
    with pytest.raises(InvalidValue, match=told):
        store.memories.add("x", **values)
    assert store.memories.find() == []
    memory = store.memories.add("x")
    with pytest.raises(InvalidValue, match=told):
        store.memories.edit(memory, **values)
    with pytest.raises(InvalidValue, match="content"):
        store.memories.add("  ")


def test_forgetting_and_storing_anew(store: Any) -> None:
    memory = store.memories.add("likes tea")
    store.memories.forget(memory, now=True)
    assert store.memories.find() == []
    with pytest.raises(NotFound):
        store.memories.get(memory)
    with pytest.raises(NotFound):
        store.memories.edit(memory, content="x")
    assert store.memories.add("likes tea") == memory
    assert store.memories.get(memory).life == 2
