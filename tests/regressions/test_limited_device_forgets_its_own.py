"""A limited device may forget what it bore, also before anybody else has seen it, and write on."""

from __future__ import annotations

from typing import Any

from tests.store.conftest import exchange


def test_what_was_born_and_forgotten_before_the_first_sync(family: Any) -> None:
    a, b = family(2, trusts=["limited"])
    b.create("memory", {"content": "a slip"}, id="m", space="family")
    b.forget("memory", "m", now=True)
    b.create("memory", {"content": "after"}, id="n", space="family")
    exchange(a, b)
    assert a.read("memory", "n") is not None
    assert a.read("memory", "m") is None
