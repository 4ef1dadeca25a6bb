"""A stub whose body is here with a peer becomes whole."""

from __future__ import annotations

from typing import Any

from aico_crdt.store.prune import prune
from aico_crdt.store.verify import verify
from tests.store.conftest import exchange, send
from tests.store.hostile import Hostile, give


def test_a_document_above_one_mebibyte(family: Any) -> None:
    a, b = family(2)
    a.create("memory", {"content": "one"}, id="m")
    for number in range(5):
        a.edit("memory", "m", {f"f{number}": "x" * 250_000})
    exchange(a, b)
    assert prune(a).entries
    c = family.join(a, 5)
    for _ in range(3):
        exchange(a, c)
    assert not c.get("memory", "m").stub


def test_a_hostile_update_for_a_stub(family: Any) -> None:
    a, b = family(2)
    a.create("memory", {"content": "one"}, id="m")
    exchange(a, b)
    prune(a)
    c = family.join(a, 5)
    send(a, c, bodies=False)
    assert c.get("memory", "m").stub
    evil = Hostile(b)
    bad = evil.update(b"\xff\xff no update", "m")
    assert give(a, bad).rejected
    give(c, bad)
    for _ in range(3):
        send(a, c)
    assert not c.get("memory", "m").stub


def test_an_update_of_clocks_that_nobody_has(family: Any) -> None:
    """It cannot be told without the body; elsewhere it waits for ever."""
    a, b = family(2)
    a.create("memory", {"content": "one"}, id="m")
    exchange(a, b)
    prune(a)
    c = family.join(a, 5)
    send(a, c, bodies=False)
    evil = Hostile(b)
    document = evil.document()
    document.bear({"content": "never sent"}, evil.stamp + 1)
    document.take_update()
    document.set("content", "bad", evil.stamp + 2)
    update = document.take_update()
    assert update is not None
    bad = evil.update(update, "m")
    assert give(a, bad).held
    assert give(c, bad).applied
    for _ in range(3):
        send(a, c)
    row = c.get("memory", "m")
    assert not row.stub
    assert row.fields == {"content": "one"}
    assert verify(c, refold=True).clean
