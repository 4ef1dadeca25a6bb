"""Receipts: where a write is, told by those who hold it, and never more than that."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from aico_crdt.errors import NotFound
from aico_crdt.feed import Entry, decode_entry, encode_entry
from aico_crdt.feed.exchange import HeldHead
from aico_crdt.store import StoreReplica, membership
from aico_crdt.store.prune import DAY_MS, prune
from tests.store.conftest import exchange, send


def devices(*stores: Any) -> set[bytes]:
    return {store.device for store in stores}


def test_a_write_is_here_first_and_on_others_once_they_said_so(family: Any) -> None:
    a, b, c = family(3)
    made = a.create("memory", {"content": 1})
    receipt = a.receipt("memory", made)
    assert receipt.here
    assert not receipt.everywhere
    assert (set(receipt.on), set(receipt.missing)) == (set(), devices(b, c))
    send(a, b)
    receipt = a.receipt("memory", made)
    assert (set(receipt.on), set(receipt.missing)) == (devices(b), devices(c))
    send(a, c)
    assert a.receipt("memory", made).everywhere
    a.edit("memory", made, {"content": 2})
    assert set(a.receipt("memory", made).missing) == devices(b, c)


def test_a_delivery_without_an_acknowledgement_is_not_claimed(family: Any) -> None:
    a, b = family(2)
    made = a.create("memory", {"content": 1})
    source, target = StoreReplica(a), StoreReplica(b)
    tag = a.directory.find("own", "memory").tag
    runs, _ = source.read_entries(tag, [(a.device, a.incarnation, 1)], 1 << 20)
    target.deliver(tag, runs, a.device)
    assert a.receipt("memory", made).on == ()


def test_an_acknowledgement_of_something_else_is_not_believed(family: Any) -> None:
    a, b = family(2)
    made = a.create("memory", {"content": 1})
    tag = a.directory.find("own", "memory").tag
    source = StoreReplica(a)
    source.acknowledged(b.device, tag, [HeldHead(a.device, a.incarnation, 1, bytes(32))], [])
    assert a.receipt("memory", made).on == ()
    source.acknowledged(b.device, tag, [HeldHead(a.device, b"another!", 1, bytes(32))], [])
    assert a.receipt("memory", made).on == ()
    head = source.heads(tag)[0]
    source.acknowledged(b.device, tag, [HeldHead(a.device, a.incarnation, 1, head.hash)], [])
    assert a.receipt("memory", made).on == (b.device,)
    source.acknowledged(b.device, tag, [HeldHead(a.device, a.incarnation, 0, bytes(32))], [])
    assert a.receipt("memory", made).on == (b.device,)  # it never takes back what it said


def brought_up_by_manifest(family: Any, clock: Any) -> tuple[Any, Any, Any, str]:
    """(a, relay, newcomer, id): the newcomer has heads and stubs."""
    a, relay, newcomer = family(3)
    made = a.create("memory", {"content": 1})
    clock.ms += 100 * DAY_MS
    prune(a)
    send(a, relay)
    send(a, newcomer, bodies=False)
    assert newcomer.get("memory", made).stub
    return a, relay, newcomer, made


def test_a_stub_is_not_a_copy(family: Any, clock: Any) -> None:
    a, relay, newcomer, made = brought_up_by_manifest(family, clock)
    assert a.receipt("memory", made).on == (relay.device,)
    later = a.create("memory", {"content": 2})
    a.edit("memory", made, {"content": 3})
    send(a, newcomer, bodies=False)
    assert newcomer.device in a.receipt("memory", later).on  # it came as an entry, whole
    assert newcomer.device not in a.receipt("memory", made).on
    send(a, newcomer)
    assert newcomer.device in a.receipt("memory", made).on


def test_who_builds_on_stubs_does_not_hold_what_is_behind_them(family: Any, clock: Any) -> None:
    a, relay, newcomer, made = brought_up_by_manifest(family, clock)
    with a.writing() as workspace:  # as if it had come up by somebody else's manifest
        for key in [key for key, _ in workspace.records.scan(b"P" + newcomer.device)]:
            workspace.records.delete(key)
    newcomer.create("memory", {"content": 2})
    send(newcomer, relay)
    send(relay, a)
    assert a.receipt("memory", made).on == (relay.device,)
    StoreReplica(newcomer).ingest_bodies(*bodies_for(newcomer, a), a.device)
    later = a.create("memory", {"content": 3})
    send(a, relay)
    send(relay, newcomer)
    newcomer.create("memory", {"content": 4})  # builds on that, and on nothing that is lacking
    send(newcomer, relay)
    send(relay, a)
    assert newcomer.device in a.receipt("memory", made).on
    assert newcomer.device in a.receipt("memory", later).on


def bodies_for(store: Any, giver: Any) -> tuple[bytes, list[Any]]:
    tag = store.directory.find("own", "memory").tag
    return tag, StoreReplica(giver).bodies(tag, StoreReplica(store).stubs(tag, 10), 1 << 20)


def test_what_came_erased_without_a_forget_is_lacking(family: Any) -> None:
    a, b, c = family(3)
    a.create("memory", {"content": 1}, id="one")
    kept = a.create("memory", {"content": 2})
    tag = a.directory.find("own", "memory").tag
    (run,), _ = StoreReplica(a).read_entries(tag, [(a.device, a.incarnation, 1)], 1 << 20)
    first = decode_entry(run[0])
    bare = encode_entry(Entry(first.header, first.signature, (None,)))
    StoreReplica(b).ingest(tag, [[bare, run[1]]], c.device)
    (head,) = StoreReplica(b).heads(tag)
    assert (head.seq, head.lacking) == (2, 1)
    StoreReplica(a).acknowledged(b.device, tag, [head.held], [])
    assert a.receipt("memory", "one").on == ()
    assert a.receipt("memory", kept).on == (b.device,)


def test_an_older_word_says_nothing_of_what_is_lacking(family: Any) -> None:
    a, b = family(2)
    made = a.create("memory", {"content": 1})
    tag, replica = a.directory.find("own", "memory").tag, StoreReplica(a)
    old = replica.heads(tag)[0].held
    a.edit("memory", made, {"content": 2})
    new = replica.heads(tag)[0].held
    for head in (new._replace(lacking=1), old):
        replica.acknowledged(b.device, tag, [head], [])
        assert a.receipt("memory", made).on == ()
    replica.acknowledged(b.device, tag, [new], [])
    assert a.receipt("memory", made).on == (b.device,)


def test_of_a_doubted_device_nothing_is_counted_until_it_is_said_again(family: Any) -> None:
    """Several copies of it run: neither what was noted before nor what its entries build on tells of them all."""
    a, b = family(2)
    made = a.create("memory", {"content": 1})
    send(a, b)
    assert a.receipt("memory", made).on == (b.device,)
    tag, replica = a.directory.find("own", "memory").tag, StoreReplica(a)
    head = replica.heads(tag)[0]
    replica.doubt(b.device)
    assert a.receipt("memory", made).on == ()
    b.create("memory", {"content": 2})
    runs, _ = StoreReplica(b).read_entries(tag, [(b.device, b.incarnation, 1)], 1 << 20)
    assert replica.ingest(tag, runs, b.device).applied
    assert a.receipt("memory", made).on == ()
    replica.acknowledged(b.device, tag, [head.held], [])
    assert a.receipt("memory", made).on == (b.device,)


def test_receipts_survive_closing_and_opening(family: Any) -> None:
    a, b = family(2)
    made = a.create("memory", {"content": 1})
    send(a, b)
    assert family.reopen(a).receipt("memory", made).everywhere


def test_every_part_of_a_document_counts(family: Any) -> None:
    """Written by two devices: it is on the third only when both parts are."""
    a, b, c = family(3)
    made = a.create("memory", {"content": 1})
    exchange(a, b, c)
    b.edit("memory", made, {"content": 2})
    send(b, a)
    assert set(a.receipt("memory", made).missing) >= devices(c)
    send(a, c)
    assert c.device in a.receipt("memory", made).on


def test_only_those_who_may_have_it_are_asked(family: Any) -> None:
    a, b, c = family(3, trusts=["full", "limited"])
    own = a.create("memory", {"content": 1})
    shared = a.create("memory", {"content": 1}, space="family")
    home = a.create("memory", {"content": 1}, space="local")
    assert set(a.receipt("memory", own).missing) == devices(b)
    assert set(a.receipt("memory", shared).missing) == devices(b, c)
    assert a.receipt("memory", home).everywhere


def test_a_revoked_device_is_no_longer_waited_for(family: Any) -> None:
    a, b, c = family(3)
    made = a.create("memory", {"content": 1})
    send(a, b)
    membership.revoke(a, c.device)
    assert a.receipt("memory", made).everywhere


def test_what_is_not_here_has_no_receipt(family: Any) -> None:
    (a,) = family(1)
    with pytest.raises(NotFound):
        a.receipt("memory", "none")


def test_a_forgotten_document_says_who_still_owes_its_erasure(family: Any, clock: Any) -> None:
    a, b, c = family(3)
    made = a.create("memory", {"content": 1})
    exchange(a, b, c)
    a.forget("memory", made)
    receipt = a.receipt("memory", made)
    assert receipt.forgotten
    assert set(receipt.owing) == devices(a, b, c)
    exchange(a, b, c)
    receipt = a.receipt("memory", made)
    assert set(receipt.on) == devices(b, c)  # they hide it
    assert set(receipt.owing) == devices(a, b, c)  # and keep the key while it may be undone
    clock.ms += 86_400_001
    a.erase_due()
    assert set(a.receipt("memory", made).erased_on) == devices(a)
    b.erase_due()
    exchange(a, b, c)
    receipt = a.receipt("memory", made)
    assert (set(receipt.erased_on), set(receipt.owing)) == (devices(a, b), devices(c))
    c.erase_due()
    exchange(a, b, c)
    receipt = a.receipt("memory", made)
    assert (set(receipt.erased_on), receipt.owing) == (devices(a, b, c), ())


def test_a_revoked_devices_erasure_stays_unconfirmed(family: Any) -> None:
    a, b, c = family(3)
    made = a.create("memory", {"content": 1})
    exchange(a, b, c)
    membership.revoke(a, c.device)
    a.forget("memory", made, now=True)
    exchange(a, b)
    b.erase_due()
    exchange(a, b)
    receipt = a.receipt("memory", made)
    assert set(receipt.erased_on) == devices(a, b)
    assert receipt.owing == ()
    assert receipt.unconfirmed == (c.device,)


def test_waiting_ends_with_the_acknowledgement(family: Any) -> None:
    a, b, c = family(3)
    made = a.create("memory", {"content": 1})
    begun = time.monotonic()
    assert a.wait("memory", made, timeout_s=0.05).on == ()
    assert 0.04 < time.monotonic() - begun < 2
    threads = [threading.Timer(0.1, send, (a, b)), threading.Timer(0.3, send, (a, c))]
    for thread in threads:
        thread.start()
    assert set(a.wait("memory", made, on=1, timeout_s=10).on) == devices(b)
    assert a.wait("memory", made, everywhere=True, timeout_s=10).everywhere
    for thread in threads:
        thread.join()


def test_a_document_that_moved_has_the_receipt_of_where_it_lives(family: Any) -> None:
    a, b = family(2)
    a.create("memory", {"content": 1}, id="m", space="family")
    with a.transaction() as t:
        t.forget("memory", "m", moved_to="own")
        t.create("memory", {"content": 1}, id="m", space="own")
    receipt = a.receipt("memory", "m")
    assert not receipt.forgotten
    assert receipt.missing == (b.device,)
