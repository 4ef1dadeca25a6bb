"""A newcomer with stubs follows what the others forgot and wrote since."""

from __future__ import annotations

from typing import Any

import pytest

from aico_crdt.store.prune import DAY_MS, prune
from tests.store.conftest import exchange, send


def test_a_limited_device_forgets_what_is_a_stub_elsewhere(family: Any, clock: Any) -> None:
    a, b, c = family(3, trusts=["limited", "full"])
    b.create("memory", {"content": "x"}, id="m", space="family")
    exchange(a, b)
    clock.ms += 100 * DAY_MS
    prune(a)
    send(a, c, bodies=False)
    b.forget("memory", "m", now=True)
    b.create("memory", {"content": "after"}, id="n", space="family")
    send(b, a)
    exchange(a, c)
    assert c.read("memory", "m") is None
    assert c.read("memory", "n") is not None


@pytest.mark.xfail(
    strict=True, reason="a document may grow beyond the largest body, and is then a stub for ever elsewhere"
)
def test_a_document_above_the_largest_body(family: Any) -> None:
    a, b = family(2)
    a.create("memory", {"content": "one"}, id="m")
    for number in range(36):
        a.edit("memory", "m", {f"f{number}": "x" * 250_000})
    exchange(a, b)
    prune(a)
    c = family.join(a, 5)
    for _ in range(2):
        exchange(a, c)
    assert not c.get("memory", "m").stub
