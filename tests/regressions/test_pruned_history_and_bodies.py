"""What a manifest covers is there once its bodies are, and what nobody else has is not pruned beyond reach."""

from __future__ import annotations

import contextlib
from typing import Any

from aico_crdt.store import StoreReplica
from aico_crdt.store.prune import DAY_MS, prune
from aico_crdt.store.verify import verify
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


def test_a_limited_device_keeps_what_its_author_may_still_lose(family: Any, clock: Any) -> None:
    a, phone = family(2, trusts=["limited"])
    a.create("memory", {"content": "one"}, id="m", space="family")
    exchange(a, phone)
    assert not prune(phone).entries
    clock.ms += 100 * DAY_MS
    assert prune(phone).entries


def test_two_that_pruned_apart_from_each_other_bring_each_other_up(family: Any, clock: Any) -> None:
    """Each is moved on by the other's manifest, and what was whole there is a stub at both."""
    a, b = family(2)
    a.create("memory", {"content": "one", "note": "one"}, id="m")
    exchange(a, b)
    a.edit("memory", "m", {"content": "by a"})
    b.edit("memory", "m", {"note": "by b"})
    clock.ms += 100 * DAY_MS  # neither has heard of the other since
    assert prune(a).entries
    assert prune(b).entries
    where = a.directory.find("own", "memory")
    assert where is not None
    manifests = [StoreReplica(store).manifest(where.tag) for store in (a, b)]
    assert StoreReplica(b).ingest_manifest(where.tag, manifests[0] or b"", a.device).applied
    assert StoreReplica(a).ingest_manifest(where.tag, manifests[1] or b"", b.device).applied
    assert StoreReplica(a).manifest(where.tag) is None  # nobody attests what it does not have
    for _ in range(3):
        exchange(a, b)
    assert a.get("memory", "m").fields == b.get("memory", "m").fields == {"content": "by a", "note": "by b"}
    assert a.content_hash() == b.content_hash()


def test_a_newer_body_may_read_as_if_it_were_older(family: Any) -> None:
    """What was written last has been taken away again: the newest stamp in the document went back."""
    a, b = family(2)
    a.create("memory", {"content": "one"}, id="m")
    with a.transaction() as tx:
        tx.add("memory", "m", "tags", ["red"])
    exchange(a, b)
    assert prune(a).entries
    c = family.join(a, 2)
    send(a, c, bodies=False)
    with a.transaction() as tx:
        tx.discard("memory", "m", "tags", ["red"])
    exchange(a, b, c)
    assert view(c) == view(a) == view(b) != {}


def test_a_stub_that_two_manifests_named_is_asked_for_once(family: Any, clock: Any) -> None:
    a, b = family(2)
    a.create("memory", {"content": "one"}, id="m")
    exchange(a, b)
    assert prune(a).entries
    c = family.join(a, 2)
    send(a, c, bodies=False)
    a.edit("memory", "m", {"content": "two"})
    exchange(a, b)
    clock.ms += 100 * DAY_MS  # the newcomer has not been heard of since
    assert prune(a).entries
    send(a, c, bodies=False)
    exchange(a, b, c)
    where = a.directory.find("own", "memory")
    assert where is not None
    assert StoreReplica(c).stubs(where.tag, 10) == []
    assert verify(c).clean


def test_what_changed_a_stub_is_not_pruned_before_its_body_comes(family: Any) -> None:
    a, b = family(2)
    a.create("memory", {"content": "one"}, id="m")
    exchange(a, b)
    assert prune(a).entries
    c = family.join(a, 2)
    send(a, c, bodies=False)
    where = a.directory.find("own", "memory")
    assert where is not None
    attested = StoreReplica(a).bodies(where.tag, StoreReplica(c).stubs(where.tag, 10), 1 << 20)
    a.edit("memory", "m", {"content": "two"})
    exchange(a, b, c, bodies=False)
    assert not prune(c).entries
    assert StoreReplica(c).ingest_bodies(where.tag, attested, b"").applied
    assert view(c) == view(a)
