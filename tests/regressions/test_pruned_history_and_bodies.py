"""What a manifest covers is there once its bodies are, and what nobody else has is not pruned beyond reach."""

from __future__ import annotations

import contextlib
from typing import Any

from aico_crdt.store.prune import DAY_MS, prune
from tests.store.conftest import exchange, send, view


def test_a_stub_is_not_filled_with_an_older_state(family: Any, clock: Any) -> None:
    a, b, c = family(3)
    a.create("memory", {"content": "old"}, id="m")
    exchange(a, b, c)
    a.edit("memory", "m", {"content": "new"})
    clock.ms += 100 * DAY_MS  # nobody was heard of since
    assert prune(a).entries
    send(a, b, bodies=False)
    send(c, b)
    for _ in range(3):
        exchange(a, b, c)
    assert b.heads() == a.heads()
    assert view(b) == view(a)
    assert b.content_hash() == a.content_hash()


def test_a_limited_device_that_was_long_away_keeps_what_only_it_has(family: Any, clock: Any) -> None:
    a, b = family(2, trusts=["limited"])
    b.create("memory", {"content": "on a long journey"}, id="m", space="family")
    clock.ms += 100 * DAY_MS
    prune(b)
    with contextlib.suppress(AssertionError):  # it has pruned what is wanted and may not sign a manifest
        send(b, a)
    assert a.read("memory", "m") is not None
