"""A member with valid keys cannot keep honest devices from writing."""

from __future__ import annotations

from typing import Any

import pytest

from aico_crdt.feed.header import MAX_DEPS
from tests.store.hostile import Hostile, give


@pytest.mark.xfail(strict=True, reason="above 1,024 feeds that moved, no entry can be written here any more")
def test_a_thousand_incarnations_do_not_stop_local_writes(family: Any) -> None:
    a, b = family(2)
    entries = []
    for number in range(MAX_DEPS + 1):
        evil = Hostile(b, number.to_bytes(8, "big"))
        entries.append(evil.update(evil.birth(), f"d{number}"))
    for start in range(0, len(entries), 100):
        give(a, *entries[start : start + 100])
    a.create("memory", {"content": "honest"}, id="x")
    assert a.read("memory", "x") is not None
