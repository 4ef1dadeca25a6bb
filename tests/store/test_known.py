"""What one transaction leaves to the next is used only while nobody else has written, and never says something old."""

from __future__ import annotations

from typing import Any

import pytest

from aico_crdt.errors import InvalidValue
from aico_crdt.store.prune import prune
from tests.store.conftest import exchange, send

LONG = "It was a bright cold day in April. " * 400


@pytest.fixture
def twice(family: Any) -> Any:
    """One store opened by two who do not share what they know, as two processes would."""
    (store,) = family(1)
    store.create("memory", {"content": "one"}, id="m")
    with store.transaction() as transaction:
        transaction.insert_text("memory", "m", 0, LONG)
    return store, family.open(store.path, 0)


def typed(store: Any, index: int, text: str) -> None:
    with store.transaction() as transaction:
        transaction.insert_text("memory", "m", index, text)


def test_two_who_type_in_turn_lose_nothing(twice: Any) -> None:
    one, other = twice
    for number in range(6):
        typed((one, other)[number % 2], number, str(number))
    typed(one, 0, "a")
    typed(one, 1, "b")
    assert one.text("memory", "m") == other.text("memory", "m") == "ab012345" + LONG


def test_a_row_read_in_a_transaction_is_that_of_the_last_commit_of_all(twice: Any) -> None:
    one, other = twice
    for store, content in ((one, "two"), (other, "three"), (other, "four"), (one, "five")):
        with store.transaction() as transaction:
            transaction.read("memory", "m")
        store.edit("memory", "m", {"content": content})
        for reader in (one, other):
            with reader.transaction() as transaction:
                assert transaction.read("memory", "m")["content"] == content
                assert transaction.read("memory", "m")["content"] == content


def test_what_the_other_forgot_is_gone(twice: Any) -> None:
    one, other = twice
    with one.transaction() as transaction:
        assert transaction.read("memory", "m") is not None
    other.forget("memory", "m")
    with one.transaction() as transaction:
        assert transaction.read("memory", "m") is None


def test_a_transaction_sees_its_own_changes_of_a_row_it_knew(twice: Any) -> None:
    one, _ = twice
    with one.transaction() as transaction:
        transaction.read("memory", "m")
    with one.transaction() as transaction:
        transaction.edit("memory", "m", {"content": "two"})
        assert transaction.read("memory", "m")["content"] == "two"
        transaction.forget("memory", "m")
        assert transaction.read("memory", "m") is None


def test_what_fails_leaves_nothing_behind_to_know(twice: Any) -> None:
    one, _ = twice
    typed(one, 0, "a")

    def fails() -> None:
        with one.transaction() as transaction:
            transaction.insert_text("memory", "m", 0, "lost")
            transaction.edit("memory", "m", {"content": "lost"})
            transaction.insert_text("memory", "m", 10**6, "beyond the end")

    with pytest.raises(InvalidValue):
        fails()
    typed(one, 1, "b")
    assert one.text("memory", "m") == "ab" + LONG
    with one.transaction() as transaction:
        assert transaction.read("memory", "m")["content"] == "one"


def test_one_writer_of_a_group_that_fails_takes_only_its_own_back(twice: Any) -> None:
    one, _ = twice

    def fails(transaction: Any) -> None:
        transaction.insert_text("memory", "m", 0, "lost")
        raise ValueError

    def writes(text: str) -> Any:
        return lambda transaction: transaction.insert_text("memory", "m", 0, text)

    typed(one, 0, "a")
    results = one.group([writes("b"), fails, writes("c")])
    assert isinstance(results[1], ValueError)
    typed(one, 0, "d")
    assert one.text("memory", "m") == "dcba" + LONG


def test_what_came_from_elsewhere_is_in_the_text_that_was_being_typed(family: Any) -> None:
    a, b = family(2)
    a.create("memory", {"content": "one"}, id="m", space="family")
    typed(a, 0, LONG)
    exchange(a, b)
    for number in range(4):
        typed(a, 0, "a")
        typed(b, len(b.text("memory", "m")), "b")
        if number % 2:
            exchange(a, b)
    exchange(a, b)
    assert a.text("memory", "m") == b.text("memory", "m") == "aaaa" + LONG + "bbbb"
    assert a.content_hash() == b.content_hash()


def test_a_text_beyond_ascii_is_counted_in_characters(twice: Any) -> None:
    one, other = twice
    typed(one, 2, "é")
    typed(one, 3, "ü\N{GRINNING FACE}")
    typed(one, 5, "x")
    with one.transaction() as transaction:
        transaction.delete_text("memory", "m", 2, 1)
    expected = LONG[:2] + "ü\N{GRINNING FACE}x" + LONG[2:]
    assert one.text("memory", "m") == other.text("memory", "m") == expected


def test_a_stub_that_came_between_is_told_with_the_next_entry(family: Any) -> None:
    """What is lacking is said in every header; that nothing was is forgotten when a manifest brings stubs."""
    (a,) = family(1)
    a.create("memory", {"content": "one"}, id="m", space="family")
    assert prune(a).entries
    b = family.join(a, 1)
    b.create("memory", {"content": "own"}, id="b1", space="family")
    with b.writing() as workspace:
        collection = b.directory.find("family", "memory")
        assert not workspace.lacks(collection)
    send(a, b, bodies=False)
    assert b.get("memory", "m").stub
    with b.writing() as workspace:
        assert workspace.lacks(collection)
    exchange(a, b)
    with b.writing() as workspace:
        assert not workspace.lacks(collection)
