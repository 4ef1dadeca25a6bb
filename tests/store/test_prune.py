"""Pruning: what may go, what is left, and that nobody can tell the difference by reading."""

from __future__ import annotations

import base64
import random
from typing import Any

import pytest

from aico_crdt.config import Config
from aico_crdt.crdt import Document, record
from aico_crdt.errors import MapFull
from aico_crdt.feed.exchange import HeldHead
from aico_crdt.store import DocumentStore, StoreReplica, layout, membership, refold
from aico_crdt.store import prune as prune_module
from aico_crdt.store.prune import DAY_MS, compact, prune
from aico_crdt.store.receipts import receipt
from aico_crdt.store.records import DocumentRecord
from aico_crdt.store.verify import verify
from tests.store.conftest import CONFIG, exchange, send, view


def entries(store: DocumentStore, kind: str = "memory") -> int:
    """How many entries of the collections of `kind` are still held."""
    replica = StoreReplica(store)
    return sum(
        head.seq + 1 - head.floor
        for collection in store.directory.of_kind(kind)
        for head in replica.heads(collection.tag)
    )


def noise_of(size: int, seed: int) -> str:
    """Text that does not compress below `size` bytes."""
    return base64.b64encode(random.Random(seed).randbytes(size)).decode()


def fill(store: DocumentStore, name: str = "fill") -> int:
    """Write until the map is full; how many writes that took."""
    for count in range(10_000):
        try:
            store.create("memory", {"content": noise_of(75_000, count), "t": count}, id=f"{name}{count}")
        except MapFull:
            return count
    raise AssertionError("the map never filled")


def based_on(store: DocumentStore, document: str) -> dict[str, Any]:
    """The fields of a document's base."""
    with store.reading() as (core, records):
        found = store.locate(records, "memory", document)
        assert found is not None
        stored = records.get(layout.document(b"D", found[0].number, found[1]))
        state = refold.base(core, records, DocumentRecord.unpack(stored or b""))
        assert state is not None
        fields = record(Document.load(state, core.client, core.writer).slots())
        return {name: field.value for name, field in fields.items()}


def sound(*stores: DocumentStore) -> None:
    for store in stores:
        assert verify(store, refold=True).problems == []


def test_what_everybody_holds_goes_and_reading_does_not_change(family: Any) -> None:
    a, b, c = family(3)
    with a.transaction() as tx:
        for n in range(5):
            tx.create("memory", {"content": f"memory {n}", "t": n, "tag": "x"}, id=f"m{n}")
    a.edit("memory", "m0", {"content": "edited"})
    b.create("memory", {"content": "of b"}, id="b0")
    exchange(a, b, c)
    before, content, heads = view(a), a.content_hash(), a.heads()
    assert entries(a) == 3
    assert prune(a).entries >= 3
    assert entries(a) == 0
    assert (view(a), a.content_hash(), a.heads()) == (before, content, heads)
    assert [row.id for row in a.query("memory", "tag", "x")] == ["m0", "m1", "m2", "m3", "m4"]
    sound(a)
    assert prune(a).entries == 0
    assert receipt(a, "memory", "m0").everywhere


def test_what_one_recent_member_lacks_stays_with_all_that_builds_on_it(family: Any) -> None:
    a, b, c = family(3)
    a.create("memory", {"content": "one"}, id="m")
    exchange(a, b, c)
    a.edit("memory", "m", {"content": "two"})
    send(a, b)
    b.edit("memory", "m", {"content": "three"})
    send(b, a)
    prune(a)
    assert entries(a) == 2
    assert based_on(a, "m") == {"content": "one"}
    sound(a)
    assert c.device in receipt(a, "memory", "m").missing
    send(a, c)
    assert c.get("memory", "m")["content"] == "three"
    prune(a)
    assert entries(a) == 0
    sound(a, b, c)


def test_a_base_holds_only_what_was_pruned(family: Any) -> None:
    """The refold of what is left on its base is the state, after more edits from both sides as well."""
    a, b = family(2)
    a.create("memory", {"content": "one", "t": 1}, id="m")
    exchange(a, b)
    a.edit("memory", "m", {"content": "two"})
    prune(a)
    sound(a)
    assert entries(a) == 1
    b.edit("memory", "m", {"t": 7})
    exchange(a, b)
    with a.transaction() as tx:
        tx.insert_text("memory", "m", 0, "tail")
    sound(a, b)
    exchange(a, b)
    prune(a)
    a.edit("memory", "m", {"content": "three"})
    sound(a)
    exchange(a, b)
    assert view(a) == view(b)
    assert a.get("memory", "m").fields == {"content": "three", "t": 7, "text": "tail"}


def test_a_member_silent_for_keep_days_holds_nothing_back_but_its_receipt_is_not_claimed(
    family: Any, clock: Any
) -> None:
    a, b, c = family(3)
    exchange(a, b, c)
    a.create("memory", {"content": "one"}, id="m")
    send(a, b)
    clock.ms += 89 * DAY_MS
    prune(a)
    assert entries(a) == 1
    clock.ms += 2 * DAY_MS
    prune(a)
    assert entries(a) == 0
    found = receipt(a, "memory", "m")
    assert found.on == (b.device,)
    assert found.missing == (c.device,)
    sound(a)


def test_a_member_heard_of_lately_holds_back_what_is_older(family: Any, clock: Any) -> None:
    a, b = family(2)
    exchange(a, b)
    a.create("memory", {"content": "not with b"})
    clock.ms += 85 * DAY_MS
    a.create("fact", {"content": "with b"}, id="f")
    tag = a.directory.find("own", "fact").tag
    replica = StoreReplica(a)
    heads = [head.held for head in replica.heads(tag)]
    replica.acknowledged(b.device, tag, heads, [])
    clock.ms += 10 * DAY_MS
    prune(a)
    assert entries(a) == 1
    assert entries(a, "fact") == 0


def test_what_depends_on_what_stays_stays(family: Any, clock: Any) -> None:
    """Even with a stamp so old that everybody's silence would have outlasted it: its author's clock is behind."""
    a, b, c = family(3)
    exchange(a, b, c)
    clock.ms += 100 * DAY_MS
    a.create("memory", {"content": "today"}, id="m")
    b._clock_ms = lambda: clock.ms - 95 * DAY_MS
    send(a, b)
    b.edit("memory", "m", {"content": "stamped long ago"})
    send(b, a)
    prune(a)
    assert entries(a) == 2
    sound(a)


def test_a_new_entry_waits_for_a_member_that_has_long_been_quiet(family: Any, clock: Any) -> None:
    a, b = family(2)
    exchange(a, b)
    clock.ms += 200 * DAY_MS
    a.create("memory", {"content": "new"})
    prune(a)
    assert entries(a) == 1


def test_the_directory_is_never_pruned(family: Any, clock: Any) -> None:
    a, b = family(2)
    exchange(a, b)
    held = entries(a, "directory")
    clock.ms += 200 * DAY_MS
    prune(a)
    assert entries(a, "directory") == held > 0


def test_a_lone_device_and_the_local_space_keep_only_states(family: Any) -> None:
    [a] = family(1)
    a.create("memory", {"content": "mine"}, id="m", space="local")
    a.edit("memory", "m", {"content": "still mine"})
    assert prune(a).entries == 2
    assert a.get("memory", "m")["content"] == "still mine"
    a.edit("memory", "m", {"content": "and now"})
    sound(a)


def test_beyond_keep_bytes_the_oldest_go_though_somebody_lacks_them(family: Any) -> None:
    small = Config(map_size_bytes=256 << 20, keep_bytes=16 << 20)
    a, b = family(2, config=small)
    for n in range(120):
        a.create("memory", {"content": noise_of(190_000, n)}, id=f"m{n}")
    held = entries(a)
    assert held == 120
    prune(a)
    assert 70 < entries(a) <= 90
    send(a, b)
    assert view(a) == view(b)
    sound(a, b)
    assert entries(b) == 0  # the manifest covers the heads


def test_a_newcomer_below_the_floor_is_brought_up_by_manifest_and_bodies(family: Any) -> None:
    a, b = family(2)
    with a.transaction() as tx:
        for n in range(30):
            tx.create("memory", {"content": f"memory {n}", "t": n}, id=f"m{n}")
        tx.create("fact", {"content": "derived"}, id="f")
    a.forget("memory", "m3", now=True)
    exchange(a, b)
    a.forget("memory", "m4")
    prune(a)
    c = family.join(a, 2)
    send(a, c)
    assert view(c) == view(a)
    assert view(c, "fact") == view(a, "fact")
    assert c.content_hash() == a.content_hash()
    assert c.read("memory", "m3") is None
    assert c.read("memory", "m4") is None
    a.edit("memory", "m5", {"content": "edited after"})
    b.create("memory", {"content": "born after"}, id="late")
    exchange(a, b, c)
    assert view(a) == view(b) == view(c)
    c.edit("memory", "m5", {"content": "by the newcomer"})
    exchange(a, b, c)
    assert view(a) == view(b) == view(c)
    assert b.get("memory", "m5")["content"] == "by the newcomer"
    sound(a, b, c)


def test_what_a_manifest_buries_hides_and_does_not_come_back_with_a_late_device(family: Any) -> None:
    a, b, c = family(3)
    a.create("memory", {"content": "secret"}, id="m")
    exchange(a, b, c)
    c.edit("memory", "m", {"content": "secret, edited while away"})
    a.forget("memory", "m", now=True)
    exchange(a, b)
    prune_after_silence(family, a, b)
    send(a, c)
    assert c.read("memory", "m") is None
    exchange(a, b, c)
    assert all(store.read("memory", "m") is None for store in (a, b, c))
    for store in (a, b, c):
        store.erase_due(store.now_ms() + 2 * DAY_MS)
        raw = b"".join(path.read_bytes() for path in [store.path / "lives"])
        assert raw
    a.create("memory", {"content": "another"}, id="m")
    exchange(a, b, c)
    assert [store.get("memory", "m")["content"] for store in (a, b, c)] == ["another"] * 3
    sound(a, b, c)


def prune_after_silence(family: Any, *stores: DocumentStore) -> None:
    """Let keep_days pass, while `stores` stay in touch with each other, and prune the first."""
    family.clock.ms += 91 * DAY_MS
    exchange(*stores)
    prune(stores[0])
    assert entries(stores[0]) == 0


def test_a_laggard_keeps_what_it_wrote_meanwhile(family: Any) -> None:
    a, b, c = family(3)
    a.create("memory", {"content": "one", "t": 1}, id="m")
    exchange(a, b, c)
    a.edit("memory", "m", {"content": "by a"})
    a.edit("memory", "m", {"content": "by a again"})
    c.edit("memory", "m", {"t": 9})
    c.create("memory", {"content": "only on c"}, id="c0")
    exchange(a, b)
    prune_after_silence(family, a, b)
    send(a, c)
    exchange(a, b, c)
    assert view(a) == view(b) == view(c)
    assert a.get("memory", "m").fields == {"content": "by a again", "t": 9}
    assert a.get("memory", "c0")["content"] == "only on c"
    sound(a, b, c)


def test_a_phone_may_keep_stubs(family: Any) -> None:
    a, b = family(2)
    with a.transaction() as tx:
        for n in range(10):
            tx.create("memory", {"content": f"memory {n}", "t": n}, id=f"m{n}")
    exchange(a, b)
    prune(a)
    phone = family.join(a, 2)
    send(a, phone, bodies=False)
    assert phone.content_hash() == a.content_hash()
    row = phone.get("memory", "m3")
    assert row.stub
    assert row.fields == {}
    a.edit("memory", "m3", {"content": "edited"})
    a.forget("memory", "m4")
    send(a, phone, bodies=False)
    assert phone.get("memory", "m3").stub
    assert phone.read("memory", "m4") is None
    sound(phone)
    send(a, phone)
    assert view(phone) == view(a)
    sound(phone)


def test_fault_03_a_crash_in_the_middle_of_pruning_leaves_a_whole_store(family: Any, monkeypatch: Any) -> None:
    a, b = family(2)
    for n in range(12):
        a.create("memory", {"content": f"memory {n}"}, id=f"m{n}")
        a.edit("memory", f"m{n}", {"content": "edited"})
    exchange(a, b)
    before = view(a)
    monkeypatch.setattr(prune_module, "BATCH_ENTRIES", 5)
    whole = prune_module._fold
    calls = 0

    def failing(*args: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == 9:
            raise KeyboardInterrupt
        return whole(*args)

    monkeypatch.setattr(prune_module, "_fold", failing)
    with pytest.raises(KeyboardInterrupt):
        prune(a)
    assert 0 < entries(a) < 24
    assert view(a) == before
    sound(a)
    a = family.reopen(a)
    sound(a)
    prune(a)
    assert entries(a) == 0
    assert view(a) == before
    sound(a)


def test_fault_08_compaction_works_on_a_full_map(family: Any) -> None:
    small = Config(map_size_bytes=16 << 20, reserve_bytes=4 << 20)
    [a] = family(1, config=small)
    a.create("memory", {"content": "first"}, id="first")
    fill(a)
    used = a.used_bytes()
    done = compact(a)
    assert done.entries > 10
    assert done.after < 0.85 * used
    a.create("memory", {"content": "room again"})
    sound(a)


def test_compaction_trims_the_change_log_and_erases_what_is_due(family: Any, clock: Any) -> None:
    a, b = family(2)
    for n in range(10):
        a.create("memory", {"content": "x"}, id=f"m{n}")
    a.forget("memory", "m1")
    exchange(a, b)
    clock.ms += 2 * DAY_MS
    done = compact(a, keep_changes=4)
    assert done.erased == 1
    assert done.changes > 0
    with a.reading() as (_, records):
        assert sum(1 for _ in records.scan(b"L")) <= 4 + 1
        assert next(records.scan(b"I" + b""), None) is not None  # the directory's
        assert records.get(layout.meta("counters")) is not None
    sound(a)
    assert a.config == CONFIG


def test_compacting_drops_what_has_waited_too_long(family: Any, clock: Any) -> None:
    a, b = family(2)
    tag = next(c.tag for c in a.directory.of_kind("memory") if c.space == "own")
    for number in range(2):
        a.create("memory", {"c": number})
    runs, _ = StoreReplica(a).read_entries(tag, [(a.device, a.incarnation, 2)], 1 << 20)
    assert StoreReplica(b).deliver(tag, runs, a.device).held == 1  # its predecessor is not here

    assert compact(b).holds == 0
    clock.ms += b.config.hold_age_s * 1000 + 1
    assert compact(b).holds == 1
    with b.reading() as (_, records):
        assert list(records.scan_raw(b"H")) == []


def test_a_collection_too_large_for_a_manifest_is_given_as_entries_all_the_same(
    family: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = family(2)
    for number in range(3):
        a.create("memory", {"content": number})
    monkeypatch.setattr("aico_crdt.feed.manifest.MAX_DOCUMENTS", 2)
    replica, tag = StoreReplica(a), a.directory.find("own", "memory").tag
    assert replica.manifest(tag) is None
    assert "no manifest of memory" in caplog.text
    send(a, b)
    assert view(b) == view(a)


def test_who_holds_only_a_stub_keeps_no_body_for_others(family: Any) -> None:
    """A limited device drops its entries only where somebody who can bring others up holds what they wrote."""
    a, phone = family(2, trusts=["limited"])
    phone.create("memory", {"content": "one"}, id="m", space="family")
    exchange(a, phone)
    assert prune(a).entries
    c = family.join(a, 5)
    send(a, c, bodies=False)
    send(a, phone)
    membership.revoke(c, a.device)
    send(c, phone)
    assert c.get("memory", "m").stub
    tag = phone.directory.find("family", "memory").tag
    heads = [
        HeldHead(head.device, head.incarnation, head.seq, head.hash, lacking)
        for head, lacking in ((head, head.seq) for head in StoreReplica(c).heads(tag))
    ]
    StoreReplica(phone).acknowledged(c.device, tag, heads, [])
    assert prune(phone).entries == 0
    exchange(c, phone)
    assert not c.get("memory", "m").stub
    StoreReplica(phone).acknowledged(c.device, tag, [head._replace(lacking=0) for head in heads], [])
    assert prune(phone).entries
