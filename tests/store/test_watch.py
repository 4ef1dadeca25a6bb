"""Watching: nothing is missed, nothing is told twice in vain, and one can go on where one stopped."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from aico_crdt.errors import Closed, InvalidValue
from tests.store.conftest import send


@pytest.fixture
def store(family: Any) -> Any:
    (store,) = family(1)
    return store


def told(changes: Any) -> list[tuple[str, str]]:
    return [(change.what, change.id) for change in changes]


def test_changes_are_told_in_order_with_their_rows(store: Any) -> None:
    with store.watch() as watch:
        store.create("memory", {"content": 1}, id="a")
        store.create("fact", {"content": 2}, id="b")
        store.edit("memory", "a", {"content": 3})
        changes = watch.take()
        assert told(changes) == [("born", "b"), ("changed", "a")]  # of several of one document, the latest
        assert [change.row["content"] for change in changes] == [2, 3]
        assert [(change.kind, change.space) for change in changes] == [("fact", "own"), ("memory", "own")]
        assert watch.take() == []
        store.forget("memory", "a")
        (change,) = watch.take()
        assert (change.what, change.id, change.row) == ("forgotten", "a", None)


def test_a_watch_begins_now_unless_told_otherwise(store: Any) -> None:
    store.create("memory", {"content": 1}, id="before")
    with store.watch() as watch:
        assert watch.take() == []
    with store.watch(cursor=0) as watch:
        assert told(watch.take()) == [("born", "before")]


def test_a_cursor_resumes_exactly(store: Any) -> None:
    for n in range(20):
        store.create("memory", {"content": n}, id=f"m{n:02}")
    seen: list[str] = []
    cursor = 0
    while True:
        with store.watch("memory", cursor=cursor) as watch:
            changes = watch.take(limit=3)
            cursor = watch.cursor
        if not changes:
            break
        seen += [change.id for change in changes]
    assert seen == [f"m{n:02}" for n in range(20)]


def test_a_cursor_survives_closing_and_opening(store: Any, family: Any) -> None:
    store.create("memory", {"content": 1}, id="a")
    cursor = store.counters().change
    store.create("memory", {"content": 2}, id="b")
    store = family.reopen(store)
    with store.watch(cursor=cursor) as watch:
        assert told(watch.take()) == [("born", "b")]


def test_kind_and_filter_choose_and_a_forget_is_always_told(store: Any) -> None:
    with store.watch("memory", lambda row: row["content"] > 5) as watch:
        store.create("memory", {"content": 1}, id="low")
        store.create("memory", {"content": 9}, id="high")
        store.create("fact", {"content": 9}, id="other")
        assert told(watch.take()) == [("born", "high")]
        store.edit("memory", "low", {"content": 6})
        store.edit("memory", "high", {"content": 0})
        assert told(watch.take()) == [("changed", "low")]
        store.forget("memory", "low")
        assert told(watch.take()) == [("forgotten", "low")]
    with pytest.raises(InvalidValue, match="memory"):
        store.watch("nothing")


def test_what_was_erased_is_told_without_its_id(store: Any) -> None:
    store.create("memory", {"content": "secret"}, id="secret-id")
    store.forget("memory", "secret-id", now=True)
    with store.watch(cursor=0) as watch:
        (change,) = watch.take()
    assert (change.what, change.id, change.row) == ("forgotten", "", None)


def test_a_document_born_again_is_told_as_born(store: Any) -> None:
    with store.watch() as watch:
        store.create("memory", {"content": 1}, id="a")
        store.forget("memory", "a")
        store.create("memory", {"content": 2}, id="a")
        changes = watch.take()
    assert told(changes) == [("born", "a")]
    assert changes[0].row["content"] == 2
    assert changes[0].row.life == 2


def test_what_another_device_wrote_is_told(family: Any) -> None:
    a, b = family(2)
    with b.watch("memory") as watch:
        a.create("memory", {"content": "from a"}, id="x")
        send(a, b)
        assert told(watch.take()) == [("born", "x")]
        a.forget("memory", "x")
        send(a, b)
        assert told(watch.take()) == [("forgotten", "x")]


def test_a_cursor_the_log_does_not_reach_is_refused(store: Any) -> None:
    for n in range(5):
        store.create("memory", {"content": n})
    with store.watch(cursor=store.counters().change + 1) as watch, pytest.raises(InvalidValue, match="cursor"):
        watch.take()
    with store.writing() as workspace:
        for key, _ in list(workspace.records.scan(b"L"))[:2]:
            workspace.records.delete(key)
    with store.watch(cursor=0) as watch, pytest.raises(InvalidValue, match="cursor"):
        watch.take()
    with store.watch(cursor=2) as watch:
        assert len(watch.take()) == 3


def test_a_waiting_watcher_wakes_and_ends_when_closed(store: Any) -> None:
    seen: list[tuple[str, float]] = []
    watch = store.watch("memory")

    def follow() -> None:
        seen.extend((change.id, time.monotonic()) for change in watch)

    thread = threading.Thread(target=follow)
    thread.start()
    time.sleep(0.05)
    begun = time.monotonic()
    store.create("memory", {"content": 1}, id="a")
    while not seen and time.monotonic() - begun < 3:
        time.sleep(0.01)
    assert [document for document, _ in seen] == ["a"]
    assert seen[0][1] - begun < 0.5
    watch.close()
    thread.join(3)
    assert not thread.is_alive()


def test_closing_the_store_ends_its_watchers(store: Any) -> None:
    watch = store.watch()
    ended: list[Any] = []

    def follow() -> None:
        try:
            ended.append(list(watch))
        except Closed:
            ended.append("closed")

    thread = threading.Thread(target=follow)
    thread.start()
    time.sleep(0.05)
    store.close()
    thread.join(3)
    assert not thread.is_alive()


def test_watching_many_changes_is_cut_into_pieces(store: Any) -> None:
    store.group([lambda t, n=n: t.create("memory", {"content": n}, id=f"m{n}") for n in range(2500)])
    with store.watch(cursor=0) as watch:
        pieces = [len(watch.take()) for _ in range(4)]
    assert pieces == [1000, 1000, 500, 0]
