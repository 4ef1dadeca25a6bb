from __future__ import annotations

from typing import Any


def test_three_stores_hold_the_same_after_an_exchange(family: Any, sync: Any, view: Any) -> None:
    a, b, c = family(3)
    first = a.create("memory", {"content": "tea", "t": 1})
    b.create("memory", {"content": "bread", "t": 2})
    sync(a, b, c)
    a.edit("memory", first, {"content": "green tea"})
    c.edit("memory", first, {"content": "black tea"})
    sync(a, b, c)
    assert view(a) == view(b) == view(c)
    assert len({store.content_hash() for store in (a, b, c)}) == 1
    assert len(view(a)[first][2]["content"]) == 2
