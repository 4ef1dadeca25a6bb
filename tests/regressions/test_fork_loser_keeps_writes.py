"""What a device acknowledged is not lost, and does not come back, because a clone of it won a fork."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.regressions.clones import forked, settle, slots_of
from tests.store.conftest import send, view


def test_text_of_the_loser_is_written_again(family: Any, tmp_path: Path) -> None:
    def write(store: Any) -> None:
        with store.transaction() as transaction:
            transaction.insert_text("memory", "m", 0, "hello")

    loser, winner, [b] = forked(family, tmp_path, write)
    settle(loser, winner, b)
    assert [store.text("memory", "m") for store in (loser, winner, b)] == ["hello"] * 3


def test_a_discard_of_the_loser_is_said_again(family: Any, tmp_path: Path) -> None:
    def add(store: Any) -> None:
        with store.transaction() as transaction:
            transaction.add("memory", "m", "tags", ["a"])

    def discard(store: Any) -> None:
        with store.transaction() as transaction:
            transaction.discard("memory", "m", "tags", ["a"])

    loser, winner, [b] = forked(family, tmp_path, discard, before=add)
    settle(loser, winner, b)
    assert ("tags/a", True) not in slots_of(b)


def test_writing_again_keeps_concurrent_values(family: Any, tmp_path: Path) -> None:
    loser, winner, [b] = forked(family, tmp_path, lambda store: store.edit("memory", "m", {"content": "by loser"}))
    b.edit("memory", "m", {"content": "by b"})
    send(b, loser)
    settle(loser, winner, b)
    conflict = b.get("memory", "m").conflicts.get("content", ())
    assert {version.value for version in conflict} == {"by loser", "by b"}


def test_counters_of_others_survive(family: Any, tmp_path: Path) -> None:
    def count(store: Any, amount: int) -> None:
        with store.transaction() as transaction:
            transaction.increment("memory", "m", "n", amount)

    loser, winner, [b] = forked(family, tmp_path, lambda store: count(store, 5))
    count(b, 3)
    send(b, loser)
    settle(loser, winner, b)
    assert sum(value for name, value in slots_of(b) if name == "n") == 8


def test_a_birth_of_the_loser_that_another_edited_is_written_again(family: Any, tmp_path: Path) -> None:
    def write(store: Any) -> None:
        store.create("memory", {"content": "precious", "t": 7}, id="new")

    loser, winner, [b] = forked(family, tmp_path, write)
    send(loser, b)
    b.edit("memory", "new", {"content": "by b"})
    send(b, loser)
    settle(loser, winner, b)
    assert b.get("memory", "new").fields == {"content": "by b", "t": 7}


def test_an_edit_that_others_built_on_the_lost_branch_survives(family: Any, tmp_path: Path) -> None:
    loser, winner, [b] = forked(family, tmp_path, lambda store: store.edit("memory", "m", {"content": "by loser"}))
    send(loser, b)
    b.edit("memory", "m", {"content": "by b"})
    send(winner, b)
    settle(loser, winner, b)
    assert view(loser) == view(winner) == view(b)
    assert b.get("memory", "m").fields["content"] == "by b"


def test_a_feed_that_built_on_a_lost_branch_is_not_stuck(family: Any, tmp_path: Path) -> None:
    loser, winner, [b, c, d] = forked(
        family, tmp_path, lambda store: store.edit("memory", "m", {"content": "by loser"}), others=3
    )
    send(loser, b)
    b.edit("memory", "m", {"content": "by b"})
    send(winner, d)  # the winner first, then the fork, then what was built on the loser
    send(loser, d)
    send(b, d)
    send(b, c)  # as it was written, the winner last
    send(winner, c)
    b.create("memory", {"content": "after"}, id="after")
    settle(b, c, d)
    assert d.read("memory", "after") is not None
    assert b.heads() == c.heads() == d.heads()
    assert b.content_hash() == c.content_hash() == d.content_hash()


def test_a_void_forget_does_not_part_those_who_saw_it(family: Any, tmp_path: Path) -> None:
    loser, winner, [b, c] = forked(family, tmp_path, lambda store: store.forget("memory", "m"), others=2)
    send(loser, b)
    loser.close()  # and is never seen again
    settle(winner, b, c)
    assert b.heads() == c.heads()
    assert b.content_hash() == c.content_hash()
