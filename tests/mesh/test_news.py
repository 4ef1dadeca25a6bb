"""What is new in a store, as its sessions are told."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from aico_crdt.companion import KINDS, Store
from aico_crdt.config import Config
from aico_crdt.mesh.news import News
from aico_crdt.store import StoreReplica, membership
from aico_crdt.sync import Place
from tests.mesh.support import identity

CONFIG = Config(map_size_bytes=256 << 20)


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Store, Store]:
    membership.found(tmp_path / "a", identity(1), KINDS, name="a", config=CONFIG)
    a = Store.open(tmp_path / "a", identity(1), config=CONFIG)
    admission = membership.admit(a, identity(2).device, name="b")
    membership.join(tmp_path / "b", identity(2), KINDS, admission, config=CONFIG)
    return a, Store.open(tmp_path / "b", identity(2), config=CONFIG)


def tag_of(store: Store) -> bytes:
    return next(c.tag for c in store.directory.collections.values() if (c.space, c.kind) == ("own", "memory"))


def test_only_what_came_after_the_last_look_is_new(stores: tuple[Store, Store]) -> None:
    a, _ = stores
    tag, news = tag_of(a), News(StoreReplica(a))
    a.memories.add("old")
    news.skip(tag)
    assert list(news.of(tag, b"", 1 << 20)) == []
    a.memories.add("one")
    a.memories.add("two")
    (told,) = news.of(tag, b"", 1 << 20)
    assert (told.author, told.source, sum(len(run) for run in told.runs)) == (a.device, b"", 2)
    assert list(news.of(tag, b"", 1 << 20)) == []


def test_authors_keep_the_order_of_arrival_and_only_others_have_a_source(stores: tuple[Store, Store]) -> None:
    """An own entry committed beside a delivery must be pushed to the very peer that delivered."""
    a, b = stores
    tag = tag_of(a)
    of_a, of_b = StoreReplica(a), StoreReplica(b)
    news = News(of_a)
    a.memories.add("first, own")
    b.memories.add("second, of b")
    runs, _ = of_b.read_entries(tag, [Place(b.device, b.incarnation, 1)], 1 << 20, 0)
    of_a.ingest(tag, runs, b.device)
    a.memories.add("third, own")
    told = list(news.of(tag, b.device, 1 << 20))
    assert [(each.author, each.source) for each in told] == [
        (a.device, b""),
        (b.device, b.device),
        (a.device, b""),
    ]


def test_a_flood_is_told_in_part(stores: tuple[Store, Store]) -> None:
    """Whoever was pushed that much compares heads for the rest."""
    a, _ = stores
    tag, news = tag_of(a), News(StoreReplica(a))
    for number in range(12):
        a.memories.add(random.Random(number).randbytes(100_000).hex())
    size = sum(len(raw) for told in news.of(tag, b"", 100_000) for run in told.runs for raw in run)
    assert 100_000 < size < 1_000_000
    assert list(news.of(tag, b"", 100_000)) == []
