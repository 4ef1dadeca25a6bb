"""The verbs of a local write: what they refuse changes nothing; what they did is one atomic commit."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest

from aico_crdt.config import Config
from aico_crdt.crdt.value import MAX_BYTES
from aico_crdt.errors import Closed, Forbidden, InvalidValue, NotFound
from aico_crdt.feed import decode_header
from tests.store.conftest import CONFIG, exchange, view
from tests.store.hostile import count, essence

BAD_VALUES = [math.nan, math.inf, 1 << 53, object(), {1: 2}, "\ud800", b"x" * (MAX_BYTES + 1), {"a": math.nan}]


def entries(store: Any) -> int:
    return count(store, b"E")


def changes(store: Any) -> int:
    return int(store.counters().change)


@pytest.fixture
def store(family: Any) -> Any:
    (store,) = family(1)
    store.create("memory", {"content": "first", "tags": ["a"]}, id="d")
    return store


# What is refused


@pytest.mark.parametrize("value", BAD_VALUES, ids=range(len(BAD_VALUES)))
def test_a_value_no_replica_could_store_is_refused(value: Any, store: Any) -> None:
    before = essence(store)
    for write in (
        lambda t: t.create("memory", {"content": value}),
        lambda t: t.edit("memory", "d", {"content": value}),
        lambda t: t.put_slot("memory", "d", "content", value),
        lambda t: t.put_slot("memory", "unborn", "content", value),
    ):
        with pytest.raises(InvalidValue), store.transaction() as transaction:
            write(transaction)
    assert essence(store) == before


@pytest.mark.parametrize(
    "write",
    [
        lambda t: t.create("memory", {"Bad Name": 1}),
        lambda t: t.create("memory", ["no mapping"]),
        lambda t: t.create("nothing", {"content": 1}),
        lambda t: t.create("memory", {"content": 1}, space="nowhere"),
        lambda t: t.create("memory", {"content": 1}, space="directory"),
        lambda t: t.create("memory", {"content": 1}, id=""),
        lambda t: t.create("memory", {"content": 1}, id="x" * 129),
        lambda t: t.create("memory", {"content": 1}, id="a\nb"),
        lambda t: t.create("memory", {"content": 1}, id="d"),
        lambda t: t.create("memory", {"content": 1}, id="d", space="family"),
        lambda t: t.create("memory", {f"f{n}": "x" * 60_000 for n in range(10)}),
        lambda t: t.edit("memory", "d", {"": 1}),
        lambda t: t.add("memory", "d", "tags", ["x" * 300]),
        lambda t: t.add("memory", "d", "tags", [""]),
        lambda t: t.add("memory", "d", "tags", [7]),
        lambda t: t.discard("memory", "d", "Tags", ["a"]),
        lambda t: t.increment("memory", "d", "total", 1.5),
        lambda t: t.increment("memory", "d", "total", 1 << 60),
        lambda t: t.insert_text("memory", "d", 5, "beyond"),
        lambda t: t.insert_text("memory", "d", 0, "\ud800"),
        lambda t: t.delete_text("memory", "d", 0, 1),
    ],
)
def test_a_verb_that_raises_leaves_the_transaction_as_it_was(write: Any, store: Any) -> None:
    before, entries_before, changes_before = essence(store), entries(store), changes(store)
    with store.transaction() as transaction:
        with pytest.raises(InvalidValue):
            write(transaction)
        assert transaction.read("memory", "d")["content"] == "first"
    assert essence(store) == before
    assert (entries(store), changes(store)) == (entries_before, changes_before)
    with store.transaction() as transaction:
        with pytest.raises(InvalidValue):
            write(transaction)
        transaction.edit("memory", "d", {"content": "second"})
    assert set(view(store)) == {"d"}
    assert store.get("memory", "d").fields == {"content": "second", "tags": ["a"]}
    assert changes(store) == changes_before + 1


@pytest.mark.parametrize(
    "write",
    [
        lambda t: t.edit("memory", "none", {"content": 1}),
        lambda t: t.add("memory", "none", "tags", ["x"]),
        lambda t: t.discard("memory", "none", "tags", ["x"]),
        lambda t: t.increment("memory", "none", "total"),
        lambda t: t.insert_text("memory", "none", 0, "x"),
        lambda t: t.delete_text("memory", "none", 0, 1),
        lambda t: t.forget("memory", "none"),
        lambda t: t.text("memory", "none"),
        lambda t: t.edit("fact", "d", {"content": 1}),
    ],
)
def test_what_is_not_here_is_not_found(write: Any, store: Any) -> None:
    before = essence(store)
    with pytest.raises(NotFound), store.transaction() as transaction:
        write(transaction)
    assert essence(store) == before


def test_an_ended_transaction_is_closed(store: Any) -> None:
    with store.transaction() as transaction:
        pass
    for verb in (
        lambda: transaction.create("memory", {"content": 1}),
        lambda: transaction.edit("memory", "d", {"content": 1}),
        lambda: transaction.forget("memory", "d"),
    ):
        with pytest.raises(Closed):
            verb()


def test_a_closed_store_says_so(store: Any) -> None:
    store.close()
    store.close()
    for verb in (
        lambda: store.create("memory", {}),
        lambda: store.read("memory", "d"),
        lambda: store.forget("memory", "d"),
        store.content_hash,
    ):
        with pytest.raises(Closed):
            verb()


def test_a_limited_device_writes_where_it_may_and_forgets_its_own(family: Any) -> None:
    a, b = family(2, trusts=["limited"])
    theirs = a.create("memory", {"content": "of a"}, space="family")
    exchange(a, b)
    with pytest.raises(InvalidValue, match="own"):
        b.create("memory", {"content": "x"})
    b.edit("memory", theirs, {"content": "edited by b"})
    mine = b.create("memory", {"content": "of b"}, space="family")
    before = essence(b)
    with pytest.raises(Forbidden):
        b.forget("memory", theirs)
    assert essence(b) == before
    b.forget("memory", mine)
    exchange(a, b)
    assert view(a) == view(b)
    assert set(view(a)) == {theirs}


def test_a_transaction_within_a_transaction_is_refused_and_does_not_hang(store: Any) -> None:
    outcome: list[Any] = []

    def nest() -> None:
        try:
            with store.transaction() as transaction:
                transaction.edit("memory", "d", {"content": "outer"})
                try:
                    store.edit("memory", "d", {"content": "inner"})
                except InvalidValue as error:
                    outcome.append(error.code)
        except BaseException as error:  # noqa: BLE001  # told below
            outcome.append(error)

    thread = threading.Thread(target=nest, daemon=True)
    thread.start()
    thread.join(5)
    assert outcome == ["invalid-value"]
    assert store.get("memory", "d")["content"] == "outer"


# What is written


def test_every_verb_writes_what_it_says(store: Any) -> None:
    with store.transaction() as t:
        made = t.create("memory", {"content": "made", "n": 1})
        t.edit("memory", "d", {"content": "edited", "more": [1, {"x": None}]})
        t.add("memory", "d", "words", ["p", "q", "r"])
        t.discard("memory", "d", "words", ["q"])
        t.increment("memory", "d", "total", 5)
        t.increment("memory", "d", "total", -2)
        t.insert_text("memory", "d", 0, "hé😀o")
        t.insert_text("memory", "d", 3, "ll")
        t.delete_text("memory", "d", 0, 1)
        t.put_slot("fact", "register", "reading", 7)
        inside = t.read("memory", "d")
    assert store.get("memory", made).fields == {"content": "made", "n": 1}
    row = store.get("memory", "d")
    assert row.fields == inside.fields
    assert row["content"] == "edited"
    assert row["more"] == [1, {"x": None}]
    assert row["total"] == 3
    assert store.text("memory", "d") == row["text"] == "é😀llo"
    assert store.get("fact", "register")["reading"] == 7


def test_several_documents_of_several_collections_are_one_commit_and_one_entry_each(store: Any) -> None:
    before, commits = entries(store), store.counters().commits
    with store.transaction() as t:
        for n in range(10):
            t.create("memory", {"content": n}, id=f"m{n}", space="own" if n % 2 else "family")
            t.create("fact", {"content": n}, id=f"f{n}")
        t.create("memory", {"content": "home"}, id="h", space="local")
    assert store.counters().commits == commits + 1
    assert entries(store) == before + 4
    assert len(t.places) == 4
    assert len(view(store)) == 12


def test_an_exception_takes_everything_back(store: Any) -> None:
    before = essence(store)
    with pytest.raises(ZeroDivisionError), store.transaction() as t:  # noqa: PT012
        t.create("memory", {"content": 1})
        t.edit("memory", "d", {"content": "lost"})
        t.forget("memory", "d")
        _ = 1 / 0
    assert essence(store) == before
    store.edit("memory", "d", {"content": "next"})
    assert store.get("memory", "d")["content"] == "next"


def test_a_document_may_be_born_edited_and_forgotten_in_one_transaction(store: Any) -> None:
    with store.transaction() as t:
        t.create("memory", {"content": 1}, id="short")
        t.edit("memory", "short", {"content": 2})
        t.forget("memory", "short")
        assert t.read("memory", "short") is None
        with pytest.raises(NotFound):
            t.edit("memory", "short", {"content": 3})
        with pytest.raises(InvalidValue):
            t.create("memory", {"content": 4}, id="short")
    assert store.read("memory", "short") is None
    store.create("memory", {"content": 5}, id="short")
    assert store.get("memory", "short").life == 2


def test_moving_forgets_in_one_space_and_bears_in_another(family: Any) -> None:
    a, b = family(2)
    a.create("memory", {"content": "ours"}, id="m", space="own")
    exchange(a, b)
    with a.transaction() as t:
        row = t.read("memory", "m")
        t.forget("memory", "m", moved_to="family")
        t.create("memory", row.fields, id="m", space="family")
    exchange(a, b)
    for each in (a, b):
        assert each.get("memory", "m").space == "family"
        receipt = each.receipt("memory", "m")
        assert not receipt.forgotten
        assert receipt.everywhere


# Groups


def test_a_failing_writer_in_the_middle_of_a_group_changes_nothing(store: Any) -> None:
    def fails(t: Any) -> None:
        t.edit("memory", "d", {"content": "wrong", "extra": 1})
        t.create("memory", {"content": "wrong"}, id="w1")
        t.edit("memory", "new", {"content": "wrong"})
        t.forget("fact", "f")
        raise KeyError("on purpose")

    def last(t: Any) -> str:
        t.edit("memory", "d", {"last": 3})
        t.edit("memory", "new", {"more": "right"})
        t.edit("fact", "f", {"content": "still here"})
        return str(t.read("memory", "d")["content"])

    before, commits = entries(store), store.counters().commits
    results = store.group(
        [
            lambda t: t.create("memory", {"content": "right"}, id="new"),
            lambda t: t.edit("memory", "d", {"content": "right"}),
            lambda t: t.create("fact", {"content": 1}, id="f"),
            fails,
            lambda t: t.create("memory", {"content": math.nan}),
            last,
        ]
    )
    assert results[0] == "new"
    assert isinstance(results[3], KeyError)
    assert isinstance(results[4], InvalidValue)
    assert results[5] == "right"
    assert view(store)["d"][1] == {"content": "right", "tags": ["a"], "last": 3}
    assert view(store)["new"][1] == {"content": "right", "more": "right"}
    assert "w1" not in view(store)
    assert store.get("fact", "f")["content"] == "still here"
    assert store.counters().commits == commits + 1
    assert entries(store) == before + 2


def test_a_group_agrees_with_its_writers_one_by_one_elsewhere(family: Any) -> None:
    a, b = family(2)
    a.group([lambda t, n=n: t.create("memory", {"content": n}, id=f"m{n % 4}") for n in range(8)])
    a.group([lambda t, n=n: t.edit("memory", f"m{n % 4}", {"content": n}) for n in range(8)])
    exchange(a, b)
    assert view(a) == view(b)
    assert {name: row[1]["content"] for name, row in view(b).items()} == {"m0": 4, "m1": 5, "m2": 6, "m3": 7}


def test_a_group_of_failures_writes_no_entry(store: Any) -> None:
    before = essence(store)
    results = store.group([lambda t: t.edit("memory", "none", {"a": 1})] * 3)
    assert [type(result) for result in results] == [NotFound] * 3
    assert essence(store) == before


# Caps


def test_a_value_at_the_cap_is_stored_and_one_above_is_not(family: Any) -> None:
    a, b = family(2)
    room = MAX_BYTES - 1 - 1 - 1 - len("content") - 1
    made = a.create("memory", {"content": "x" * (room - 1)})
    exchange(a, b)
    assert len(b.get("memory", made)["content"]) == room - 1
    with pytest.raises(InvalidValue):
        a.create("memory", {"content": "x" * (MAX_BYTES + 1)})


def test_more_than_one_entry_holds_is_cut_into_several(family: Any) -> None:
    a, b = family(2, config=Config(map_size_bytes=CONFIG.map_size_bytes, max_items=16, max_entry_bytes=64 << 10))
    with a.transaction() as t:
        for n in range(40):
            t.create("memory", {"content": n}, id=f"m{n:02}")
        for n in range(6):
            t.create("memory", {"content": "z" * 30_000}, id=f"large{n}")
    assert len(t.places) > 4
    exchange(a, b)
    assert view(a) == view(b)
    with a.reading() as (_, records):
        for _, value in records.scan(b"E"):
            header = decode_header(value[72:])
            assert len(header.items) <= 16
            assert sum(item.size for item in header.items) <= 64 << 10


def test_a_change_too_large_for_one_entry_is_refused_whole(family: Any) -> None:
    (a,) = family(1, config=Config(map_size_bytes=CONFIG.map_size_bytes, max_entry_bytes=64 << 10))
    before = essence(a)
    with pytest.raises(InvalidValue, match="entry"):
        a.create("memory", {"content": "x" * 70_000})
    assert essence(a) == before
    results = a.group(
        [lambda t: t.create("memory", {"content": "x" * 70_000}), lambda t: t.create("memory", {}, id="fits")]
    )
    assert isinstance(results[0], InvalidValue)
    assert set(view(a)) == {"fits"}


def test_reading_within_a_transaction_sees_it_and_outside_does_not(store: Any) -> None:
    with store.transaction() as t:
        t.edit("memory", "d", {"content": "inside"})
        assert t.read("memory", "d")["content"] == "inside"
        assert store.get("memory", "d")["content"] == "first"
    assert store.get("memory", "d")["content"] == "inside"
