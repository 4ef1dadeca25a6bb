"""A copy that writes as its original, where peers have pruned: nothing is lost, and no receipt claims what is not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aico_crdt.store.prune import prune
from aico_crdt.store.verify import verify
from tests.regressions.clones import forked, settle
from tests.store.conftest import exchange, send


def test_a_store_set_back_is_not_brought_up_over_its_own_writes(family: Any, tmp_path: Path) -> None:
    a, b = family(2)
    a.create("memory", {"content": "one"}, id="m")
    exchange(a, b)
    a.close()
    shutil.copytree(a.path, tmp_path / "old")
    a = family.open(a.path, 0, lease=False)
    for number in range(3):
        a.create("memory", {"content": "later"}, id=f"n{number}")
    exchange(a, b)
    assert prune(b).entries
    a.close()
    old = family.open(tmp_path / "old", 0, lease=False)
    old.create("memory", {"content": "precious"}, id="p")
    settle(old, b)
    assert b.read("memory", "p") is not None
    assert old.content_hash() == b.content_hash()


def test_a_receipt_does_not_count_a_peer_on_another_branch(family: Any, tmp_path: Path) -> None:
    loser, winner, [b] = forked(family, tmp_path, lambda store: store.create("memory", {"content": "x"}, id="x"))
    winner.create("memory", {"content": "y"}, id="y")
    send(winner, b)
    send(loser, b)
    assert b.read("memory", "x") is None
    assert loser.receipt("memory", "x").on == ()


def test_pruning_does_not_hide_a_fork(family: Any, tmp_path: Path) -> None:
    loser, winner, [b] = forked(family, tmp_path, lambda store: store.create("memory", {"content": "x"}, id="x"))
    winner.create("memory", {"content": "y"}, id="y")
    send(winner, b)
    send(loser, b)
    prune(loser)
    settle(loser, winner, b)
    assert b.read("memory", "x") is not None
    assert loser.content_hash() == winner.content_hash() == b.content_hash()


def test_copies_of_a_store_never_opened_are_told_apart(family: Any, tmp_path: Path) -> None:
    from aico_crdt.store import membership
    from tests.store.conftest import CONFIG, identity_of

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    path = tmp_path / "one" / "store"
    membership.found(path, identity_of(0), family.kinds, name="a", config=CONFIG, clock_ms=family.clock)
    shutil.copytree(path, tmp_path / "two" / "store")
    assert family.open(path, 0).incarnation != family.open(tmp_path / "two" / "store", 0).incarnation


def set_back(family: Any, root: Path, write: Callable[[Any], None], *, others: int = 1) -> tuple[Any, list[Any]]:
    """(a store set back to before `write`, its peers, which have pruned what `write` did)."""
    a, *rest = family(1 + others)
    a.create("memory", {"content": "one"}, id="m")
    exchange(a, *rest)
    a.close()
    shutil.copytree(a.path, root / "old")
    a = family.open(a.path, 0, lease=False)
    write(a)
    exchange(a, *rest)
    assert all(prune(peer).entries for peer in rest)
    a.close()
    return family.open(root / "old", 0, lease=False), rest


def test_what_a_store_set_back_changed_is_said_again(family: Any, tmp_path: Path) -> None:
    old, [b] = set_back(family, tmp_path, lambda a: [a.create("memory", {"n": n}, id=f"n{n}") for n in range(3)])
    old.edit("memory", "m", {"content": "two"})
    old.forget("memory", "m", now=True)
    old.create("memory", {"content": "precious"}, id="p")
    old.edit("memory", "p", {"more": "still"})
    settle(old, b)
    assert b.read("memory", "p") is not None
    assert b.read("memory", "p").fields == {"content": "precious", "more": "still"}
    assert b.read("memory", "m") is None
    assert old.content_hash() == b.content_hash()
    assert [verify(store, refold=True).problems for store in (old, b)] == [[], []]


def test_an_edit_of_a_store_set_back_meets_the_other_copys(family: Any, tmp_path: Path) -> None:
    """The two branches wrote under the same clocks of one Yjs client; both edits show."""

    def write(a: Any) -> None:
        a.edit("memory", "m", {"content": "of the other copy"})
        a.create("memory", {"content": "x"}, id="x")

    old, [b] = set_back(family, tmp_path, write)
    old.edit("memory", "m", {"content": "of the old one"})
    settle(old, b)
    row = b.read("memory", "m")
    assert row is not None
    assert {version.value for version in row.conflicts["content"]} == {"of the other copy", "of the old one"}
    assert old.content_hash() == b.content_hash()


def test_every_collection_of_a_store_set_back_is_written_again(family: Any, tmp_path: Path) -> None:
    """The new incarnation begins with the first of them; the others are of an earlier one then."""

    def write(a: Any) -> None:
        for kind in ("memory", "fact"):
            for number in range(2):
                a.create(kind, {"content": "later"}, id=f"n{number}")

    old, [b] = set_back(family, tmp_path, write)
    for kind in ("memory", "fact"):
        old.create(kind, {"content": "precious"}, id="p")
    settle(old, b)
    for kind in ("memory", "fact"):
        assert b.read(kind, "p") is not None
    assert old.content_hash() == b.content_hash()


def test_a_copy_found_out_when_it_was_opened_repeats_nothing(family: Any, tmp_path: Path) -> None:
    """What it wrote before was written before the copy was made: all of it is in what the manifest attests."""
    a, b = family(2)
    a.create("memory", {"content": "one"}, id="m")
    exchange(a, b)
    with a.transaction() as tx:
        tx.insert_text("memory", "m", 0, "text")
    a.close()
    shutil.copytree(a.path, tmp_path / "old")
    a = family.open(a.path, 0, lease=False)
    a.create("memory", {"content": "later"}, id="n")
    exchange(a, b)
    assert prune(b).entries
    a.close()
    old = family.open(tmp_path / "old", 0)  # with a lease: another place, so a new incarnation
    settle(old, b)
    assert [store.read("memory", "m").fields["text"] for store in (old, b)] == ["text", "text"]
    assert old.content_hash() == b.content_hash()
