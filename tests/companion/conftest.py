"""Stores of one family as a companion app has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aico_crdt.companion import KINDS, Store
from aico_crdt.store import membership
from tests.store.conftest import CONFIG, Clock, exchange, identity_of, send


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def companions(fast_path: Path, clock: Clock) -> Iterator[Callable[..., list[Store]]]:
    """``companions(2, trusts=["limited"])``: stores of one family that know of one another."""
    stores: list[Store] = []

    def make(count: int, *, trusts: tuple[str, ...] = ()) -> list[Store]:
        named: dict[str, Any] = {"config": CONFIG, "clock_ms": clock}
        for place in range(count):
            path, identity = fast_path / f"store{place}", identity_of(place)
            if place == 0:
                membership.found(path, identity, KINDS, name="laptop", **named)
            else:
                trust = trusts[place - 1] if place <= len(trusts) else "full"
                name = ("phone", "tablet", "hub")[place - 1]
                raw = membership.admit(stores[0], identity.device, name=name, trust=trust)
                membership.join(path, identity, KINDS, raw, **named)
            stores.append(Store.open(path, identity, **named))
        for other in stores[1:]:
            send(stores[0], other)
        return list(stores)

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def store(companions: Any) -> Store:
    (store,) = companions(1)
    return store  # type: ignore[no-any-return]


@pytest.fixture
def sync() -> Callable[..., None]:
    return exchange
