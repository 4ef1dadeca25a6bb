"""Incarnations: a store that may have been copied or rolled back writes on as a new writer, before its first write."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from aico_crdt import ids
from aico_crdt.errors import InvalidValue
from aico_crdt.feed import decode_header
from aico_crdt.store import store as store_module
from aico_crdt.trust import lease as lease_module
from tests.store.conftest import exchange, send, view


def incarnations(store: Any) -> set[bytes]:
    """Those that have written anything here."""
    with store.reading() as (_, records):
        headers = [decode_header(value[72:]) for _, value in records.scan(b"E")]
    return {header.incarnation for header in headers if header.device == store.device}


@pytest.fixture
def written(family: Any) -> Any:
    (store,) = family(1)
    store.create("memory", {"content": "before"}, id="d")
    return store


def test_a_crash_while_it_is_opened_costs_no_incarnation(written: Any, family: Any, monkeypatch: Any) -> None:
    """The lease must not run ahead of a commit that may never be."""
    before = written.incarnation
    real = lease_module.Lease.renew

    def dies(*arguments: Any) -> None:
        real(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(lease_module.Lease, "renew", dies)
    with pytest.raises(KeyboardInterrupt):
        family.reopen(written)
    monkeypatch.undo()
    written = family.reopen(written)
    assert written.incarnation == before


def test_opening_again_keeps_the_incarnation(written: Any, family: Any) -> None:
    before = written.incarnation
    for _ in range(3):
        written = family.reopen(written)
        written.edit("memory", "d", {"content": "again"})
    assert written.incarnation == before
    assert incarnations(written) == {before}


def renewed(family: Any, path: Path, before: bytes, **named: Any) -> Any:
    store = family.open(path, 0, **named)
    assert store.incarnation != before
    assert store.writer == ids.writer(store.device, store.incarnation)
    store.edit("memory", "d", {"content": "after"})
    assert incarnations(store) == {before, store.incarnation}
    assert view(store)["d"][1:] == ({"content": "after"}, {})
    return store


def test_no_lease(written: Any, family: Any) -> None:
    before = written.incarnation
    written.close()
    written.path.with_name(written.path.name + ".lease").unlink()
    renewed(family, written.path, before)


def test_another_machine(written: Any, family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = written.incarnation
    written.close()
    monkeypatch.setattr(store_module, "machine_id", lambda: bytes(lease_module.MACHINE_BYTES))
    renewed(family, written.path, before)


def test_another_path(written: Any, family: Any) -> None:
    before = written.incarnation
    written.close()
    moved = written.path.with_name("moved")
    written.path.rename(moved)
    renewed(family, moved, before, lease=written.path.with_name(written.path.name + ".lease"))


def test_a_copy_put_back(written: Any, family: Any) -> None:
    """The lease outside the store is ahead of it."""
    before = written.incarnation
    written.close()
    copy = written.path.with_name("copy")
    shutil.copytree(written.path, copy)
    with family.open(written.path, 0) as store:
        store.create("memory", {"content": "lost"}, id="lost")
    shutil.rmtree(written.path)
    copy.rename(written.path)
    store = renewed(family, written.path, before)
    assert "lost" not in view(store)


def test_a_store_put_back_gets_its_lost_writes_again_and_converges(family: Any) -> None:
    a, b = family(2)
    a.create("memory", {"content": 1}, id="d")
    exchange(a, b)
    path = a.path
    a.close()
    copy = path.with_name("copy")
    shutil.copytree(path, copy)
    a = family.open(path, 0)
    a.edit("memory", "d", {"content": "after the copy"})
    a.create("memory", {"content": "lost"}, id="lost")
    send(a, b)
    a.close()
    shutil.rmtree(path)
    copy.rename(path)
    a = family.open(path, 0)
    a.create("memory", {"content": "new"}, id="new")
    exchange(a, b)
    assert set(view(a)) == {"d", "lost", "new"}
    assert view(a) == view(b)
    assert view(a)["d"][1]["content"] == "after the copy"
    assert a.content_hash() == b.content_hash()


def test_a_peer_that_holds_more_of_our_feed_makes_us_write_as_another(family: Any) -> None:
    """No lease, so nothing here can tell; the peer can."""
    a, b = family(2)
    a.create("memory", {"content": 1}, id="d")
    path = a.path
    a.close()
    copy = path.with_name("copy")
    shutil.copytree(path, copy)
    a = family.open(path, 0, lease=False)
    a.edit("memory", "d", {"content": "told to b"})
    send(a, b)
    a.close()
    shutil.rmtree(path)
    copy.rename(path)
    a = family.open(path, 0, lease=False)
    before = a.incarnation
    send(b, a)
    assert a.incarnation != before
    a.edit("memory", "d", {"content": "after"})
    exchange(a, b)
    assert view(a) == view(b) == {"d": (1, {"content": "after"}, {})}


def test_another_process_takes_over_a_new_incarnation(written: Any, family: Any) -> None:
    second = family.open(written.path, 0)
    written.renew_incarnation()
    assert second.incarnation != written.incarnation
    second.edit("memory", "d", {"content": "of the second"})
    assert second.incarnation == written.incarnation
    third = family.reopen(second)
    assert third.incarnation == written.incarnation


def test_a_lease_within_the_store_is_refused(written: Any, family: Any) -> None:
    written.close()
    with pytest.raises(InvalidValue, match="outside"):
        family.open(written.path, 0, lease=written.path / "lease")
