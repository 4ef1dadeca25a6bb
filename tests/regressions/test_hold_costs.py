"""What waits costs nothing while what it waits for has not come, and goes on when it comes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from aico_crdt.crdt.lib0 import write_varuint
from aico_crdt.feed import Entry, Operation
from aico_crdt.store import DocumentStore, ingest
from aico_crdt.store.prune import DAY_MS, prune
from tests.store.conftest import exchange, send
from tests.store.hostile import Hostile, count, give, heads_of

FLOOD = 60


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """One item for each run that a receiver has looked at."""
    seen: list[object] = []
    real = ingest.verify_run
    monkeypatch.setattr(ingest, "verify_run", lambda *given: seen.append(given) or real(*given))
    return iter([seen])


def continuing(store: DocumentStore, number: int, document: str) -> Entry:
    """An entry whose update continues a clock that nobody else has."""
    evil = Hostile(store, number.to_bytes(8, "big"))
    born = evil.document()
    born.bear({"content": "x"}, evil.stamp)
    born.take_update()
    born.set("content", "y", evil.stamp)
    later = born.take_update()
    assert later is not None
    return evil.update(later, document)


def test_an_honest_entry_looks_at_nothing_that_waits_for_others(family: Any, judged: Any) -> None:
    a, b, c = family(3)
    assert give(a, *(continuing(b, number, f"d{number}") for number in range(FLOOD))).held == FLOOD
    seen = next(judged)
    seen.clear()
    c.create("memory", {"content": "honest"})
    send(c, a)
    assert len(seen) == 1


def test_nor_does_one_of_the_very_document_that_others_wait_for(family: Any, judged: Any) -> None:
    a, b, c = family(3)
    c.create("memory", {"content": "one"}, id="m")
    exchange(a, b, c)
    evil = Hostile(b, b"12345678")
    flood = [continuing(b, number, "m") for number in range(FLOOD)]
    flood += [
        Hostile(b, number.to_bytes(8, "little")).update(evil.birth(), "m", life=9) for number in range(1, 1 + FLOOD)
    ]
    assert give(a, *flood).held == 2 * FLOOD
    seen = next(judged)
    seen.clear()
    for content in ("two", "three"):
        c.edit("memory", "m", {"content": content})
        send(c, a)
    assert a.read("memory", "m")["content"] == "three"
    c.forget("memory", "m")
    send(c, a)
    assert len(seen) == 3


def test_what_waits_for_several_clocks_of_a_writer_is_looked_at_once(family: Any, judged: Any) -> None:
    """However many clocks it names, it waits for the highest."""
    a, b, c = family(3)
    evil, other = Hostile(b, b"11111111"), Hostile(c)
    updates, document = [], other.document()
    for number in range(5):
        if number:
            document.set("content", f"{number}", other.stamp)
        else:
            document.bear({"content": "0"}, other.stamp)
        updates.append(document.take_update())
    client = write_varuint(other.client)
    striking = b"\0\1" + client + b"\3" + bytes([0, 1, 2, 1, 4, 1])  # three ranges of one operation each
    assert give(a, evil.update(striking, "m")).held == 1
    seen = next(judged)
    seen.clear()
    for number, update in enumerate(updates):
        assert update is not None
        assert give(a, other.update(update, "m")).applied == (1 if number < 4 else 2)
    assert len(seen) == 6
    assert count(a, b"H") == 0


def test_what_waits_for_a_life_goes_on_when_the_one_before_it_ends(family: Any) -> None:
    a, b, c = family(3)
    c.create("memory", {"content": "one"}, id="m")
    exchange(a, b, c)
    evil = Hostile(b)
    assert give(a, evil.update(evil.birth({"content": "reborn"}), "m", life=2)).held == 1
    c.edit("memory", "m", {"content": "two"})
    send(c, a)
    assert count(a, b"H") == 1
    c.forget("memory", "m")
    send(c, a)
    assert count(a, b"H") == 0
    assert a.read("memory", "m")["content"] == "reborn"


def test_a_forget_of_a_later_life_waits_for_it(family: Any) -> None:
    a, b, c = family(3)
    c.create("memory", {"content": "one"}, id="m")
    exchange(a, b, c)
    evil = Hostile(b)
    forget = evil.entry(Operation("m", 2, "forget", b"\x92\xc0\xc2"), deps=heads_of(b, evil.collection()))
    assert give(a, forget).held == 1
    c.forget("memory", "m")
    c.create("memory", {"content": "again"}, id="m")
    send(c, a)
    assert count(a, b"H") == 0
    assert a.read("memory", "m") is None


def test_what_waits_for_a_body_goes_on_when_it_comes(family: Any, clock: Any) -> None:
    """Of a document that two bore, the manifest names one; whether the other did too shows in its body."""
    a, b, c, d = family(4, trusts=["limited", "full", "limited"])
    for store in (b, d):
        store.create("fact", {"content": "x"}, id="m", space="family")
    for store in (b, d, b):
        exchange(a, store)
    clock.ms += 100 * DAY_MS
    prune(a)
    send(a, c, bodies=False)
    assert c.get("fact", "m").stub
    d.forget("fact", "m", now=True)
    d.create("fact", {"content": "after"}, id="n", space="family")
    send(d, c)
    assert c.read("fact", "n") is None
    send(a, c)
    assert c.read("fact", "m") is None
    assert c.read("fact", "n") is not None
    assert count(c, b"H") == 0
