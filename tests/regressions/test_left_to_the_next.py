"""What a loaded document leaves behind: to its next life, to the next incarnation of the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aico_crdt.store import StoreReplica
from aico_crdt.store.verify import verify
from tests.regressions.clones import forked, settle
from tests.store.conftest import exchange

LONG = "It was a bright cold day in April. " * 1000


def typed(store: Any, index: int, text: str) -> None:
    with store.transaction() as transaction:
        transaction.insert_text("memory", "m", index, text)


def run_after(store: Any, tag: bytes, seq: int) -> Any:
    """What `store` has written itself above `seq`."""
    (run,), _ = StoreReplica(store).read_entries(tag, [(store.device, store.incarnation, seq + 1)], 1 << 30)
    return run


def test_a_new_life_does_not_lean_on_the_state_of_the_last(family: Any) -> None:
    """What is typed into a long text is stored beside its state; of a life just born there is no state to be beside."""
    a, b = family(2)
    a.create("memory", {"content": "one"}, id="m")
    typed(a, 0, LONG)
    exchange(a, b)
    typed(b, 0, "b")  # the text stays loaded there
    exchange(a, b)
    tag = a.directory.find("own", "memory").tag
    (mine,) = [head for head in StoreReplica(a).heads(tag) if head.device == a.device]
    typed(a, 0, "a")
    runs = [run_after(a, tag, mine.seq)]
    a.forget("memory", "m")
    with a.transaction() as transaction:
        transaction.create("memory", {"content": "two"}, id="m")
        transaction.insert_text("memory", "m", 0, "new")
    runs.append(run_after(a, tag, mine.seq + 1))
    StoreReplica(b).deliver(tag, runs, a.device)  # the edit, the forget and the birth in one transaction
    assert b.text("memory", "m") == "new"
    assert b.get("memory", "m").fields == {"content": "two", "text": "new"}
    for store in (a, b, family.open(b.path, 1)):
        report = verify(store, refold=True)
        assert report.clean, report.problems
    assert a.content_hash() == b.content_hash()


def test_a_new_incarnation_does_not_write_in_the_name_of_the_last(family: Any) -> None:
    """A text that stayed loaded from one transaction to the next is written under the incarnation that loaded it."""
    a, b = family(2)
    a.create("memory", {"content": "one"}, id="m")
    typed(a, 0, LONG)
    exchange(a, b)
    a.renew_incarnation()
    typed(a, 0, "later ")
    exchange(a, b)
    assert b.text("memory", "m") == a.text("memory", "m") == "later " + LONG
    for store in (a, b):
        report = verify(store, refold=True)
        assert report.clean, report.problems


def test_who_lost_a_fork_writes_on_in_a_new_name(family: Any, fast_path: Path) -> None:
    def write(store: Any) -> None:
        typed(store, 0, "lost ")

    def before(store: Any) -> None:
        typed(store, 0, LONG)

    loser, winner, (other,) = forked(family, fast_path, write, before=before)
    settle(loser, other, winner)
    typed(loser, 0, "later ")
    settle(loser, other, winner)
    assert loser.text("memory", "m") == other.text("memory", "m") == winner.text("memory", "m")
    assert loser.text("memory", "m").startswith("later lost ")
    for store in (loser, other):
        report = verify(store, refold=True)
        assert report.clean, report.problems
