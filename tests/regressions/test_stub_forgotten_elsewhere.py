"""A newcomer with stubs follows what the others forgot and wrote since."""

from __future__ import annotations

from typing import Any

import pytest

from aico_crdt.errors import InvalidValue
from aico_crdt.store import DocumentStore, StoreReplica
from aico_crdt.store.prune import DAY_MS, prune
from aico_crdt.store.transaction import DOCUMENT_MAX_BYTES
from aico_crdt.store.verify import verify
from tests.main_job.conftest import meet
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


PART = "x" * 250_000


def grow(store: DocumentStore, name: str) -> int:
    """Fill a document by four parts at a time until the store refuses; how many times it did not."""
    for number in range(20):
        try:
            store.edit("memory", "m", {f"{name}{number}_{part}": PART for part in range(4)})
        except InvalidValue:
            return number
    raise AssertionError("a document grows without end")


def test_a_document_does_not_outgrow_its_body(family: Any) -> None:
    a, b = family(2)
    a.create("memory", {"content": "one"}, id="m")
    assert grow(a, "f") == DOCUMENT_MAX_BYTES // (4 * len(PART))
    a.edit("memory", "m", {"f0_0": "shorter"})
    a.edit("memory", "m", {"f0_1": PART.replace("x", "y")})
    exchange(a, b)
    prune(a)
    c = family.join(a, 5)
    assert meet(a, c).equal
    assert c.read("memory", "m") == a.read("memory", "m")


def test_a_document_that_grew_on_several_devices_at_once_is_fetched(family: Any) -> None:
    a, b = family(2)
    a.create("memory", {"content": "one"}, id="m")
    exchange(a, b)
    assert grow(a, "f") == grow(b, "g") > 7
    exchange(a, b)
    with pytest.raises(InvalidValue):
        a.edit("memory", "m", {"more": PART})
    a.edit("memory", "m", {"f0_0": "shorter"})
    exchange(a, b)
    prune(a)
    c = family.join(a, 5)
    assert meet(a, c).equal
    assert c.read("memory", "m") == a.read("memory", "m")
    assert len(c.read("memory", "m").fields) > 60


def test_a_body_newer_than_its_manifest_does_not_bar_the_entries_it_holds(family: Any) -> None:
    """Somebody goes on writing while a newcomer fetches bodies."""
    a, b = family(2)
    a.create("memory", {"content": "one"}, id="m")
    exchange(a, b)
    assert prune(a).entries
    c = family.join(a, 5)
    send(a, c, bodies=False)
    a.edit("memory", "m", {"content": "two"})
    with a.transaction() as tx:
        tx.insert_text("memory", "m", 0, "text")
    tag = a.directory.find("own", "memory").tag
    bodies = StoreReplica(a).bodies(tag, StoreReplica(c).stubs(tag, 10), 1 << 20)
    held = [(head.device, head.incarnation, head.seq) for head in StoreReplica(a).heads(tag)]
    assert StoreReplica(c).ingest_bodies(tag, bodies, a.device, held).applied == 1
    assert c.read("memory", "m") == a.read("memory", "m")
    exchange(a, b, c)
    assert a.heads() == b.heads() == c.heads()
    c.edit("memory", "m", {"content": "three"})
    exchange(a, b, c)
    assert a.content_hash() == b.content_hash() == c.content_hash()
    assert verify(c, refold=True).problems == []
