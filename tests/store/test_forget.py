"""Forgetting: hidden at once, kept while it may be undone, then unreadable with any key the device still has."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import zstandard
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt as decrypt
from nacl.exceptions import CryptoError

from aico_crdt.errors import NotFound
from aico_crdt.feed import decode_header
from aico_crdt.store import StoreReplica, layout, pages
from aico_crdt.store.verify import verify
from tests.store.conftest import exchange, send, view
from tests.store.hostile import Hostile, count, give

SECRET = "the cat is called Schrödinger " * 20
DAY_MS = 86_400_000


def values(store: Any) -> list[tuple[bytes, bytes]]:
    """Every key and value on disk, checksums removed: what a thief of an old copy of the data file has."""
    with store.reading() as (_, records):
        return [(key, value[: -layout.CHECK_BYTES]) for key, value in records.scan_raw(b"")]


def keys(store: Any) -> list[bytes]:
    """Every key the device has: its own, those of the spaces, those of every life."""
    core = store.core
    spaces = [key for space in core.directory.spaces.values() for key in (space.key, *space.keys.values())]
    lives = [core.lives.key(slot) for slot in range(1, store.counters().slot + 4)]
    return [core.storage_key, core.checksum, core.index_secret, *spaces, *lives]


def readable(recorded: list[tuple[bytes, bytes]], known: list[bytes]) -> list[bytes]:
    """Letters of the records out of which the secret can still be had."""
    found = []
    for place, value in recorded:
        layers = [value]
        for key, (start, bound) in itertools.product(known, [(0, place), (8, place)]):
            try:
                layers.append(decrypt(value[start + 24 :], bound, value[start : start + 24], key))
            except (CryptoError, ValueError):
                continue
        layers += [
            inner
            for sealed, key, header in itertools.product(layers, known, headers(recorded))
            if place[:1] in b"IH" and (inner := opened(sealed, key, header)) is not None
        ]
        if any(b"Schr" in layer for layer in layers):
            found.append(place[:1])
    return sorted(found)


def headers(recorded: list[tuple[bytes, bytes]]) -> list[bytes]:
    return [decode_header(value[72:]).prefix for place, value in recorded if place[:1] == b"E"]


def opened(sealed: bytes, key: bytes, prefix: bytes) -> bytes | None:
    for index in range(2):
        try:
            plain = decrypt(sealed[24:], prefix + index.to_bytes(4, "big"), sealed[:24], key)
        except (CryptoError, ValueError):
            continue
        return zstandard.ZstdDecompressor().decompress(plain[1:]) if plain[:1] == b"\1" else plain
    return None


@pytest.fixture
def store(family: Any) -> Any:
    (store,) = family(1)
    store.create("memory", {"content": SECRET, "tag": "cat", "t": 5}, id="d")
    return store


def test_a_forgotten_document_is_gone_for_every_reader(store: Any) -> None:
    store.forget("memory", "d")
    assert store.read("memory", "d") is None
    assert view(store) == {}
    assert store.query("memory", "tag", "cat") == []
    assert store.query("memory", "time") == []
    assert count(store, b"X") == 0
    with pytest.raises(NotFound):
        store.text("memory", "d")
    with pytest.raises(NotFound):
        store.forget("memory", "d")


def test_the_key_is_kept_for_the_undo_window_and_then_destroyed(store: Any, clock: Any) -> None:
    recorded = values(store)
    assert set(readable(recorded, keys(store))) == {b"R", b"I"}
    store.edit("memory", "d", {"t": 6})
    recorded += values(store)
    assert set(readable(recorded, keys(store))) == {b"S", b"R", b"I"}
    store.forget("memory", "d")
    assert store.erase_due() == 0
    clock.ms += DAY_MS - 60_000
    assert store.erase_due() == 0
    assert readable(recorded, keys(store)) != []
    clock.ms += 120_000
    assert store.erase_due() == 1
    assert store.erase_due() == 0
    assert readable(recorded + values(store), keys(store)) == []


def test_forgetting_now_leaves_nothing_that_any_key_opens(store: Any) -> None:
    store.edit("memory", "d", {"content": SECRET + "!"})
    recorded = values(store)
    assert readable(recorded, keys(store)) != []
    store.forget("memory", "d", now=True)
    assert readable(recorded + values(store), keys(store)) == []
    assert count(store, b"S") == count(store, b"R") == count(store, b"U") == 0


def test_what_was_received_is_erased_on_the_receiver_too(family: Any, clock: Any) -> None:
    a, b = family(2)
    a.create("memory", {"content": SECRET}, id="d")
    send(a, b)
    recorded = values(b)
    assert readable(recorded, keys(b)) != []
    a.forget("memory", "d")
    send(a, b)
    clock.ms += DAY_MS + 1000
    b.erase_due()
    assert readable(recorded + values(b), keys(b)) == []


def test_what_waited_on_hold_is_erased_with_the_document(family: Any) -> None:
    """An entry that was held, applied and then forgotten must not be left readable in old pages."""
    a, b = family(2)
    evil = Hostile(b)
    first, second = evil.update(evil.birth(), "before"), evil.update(evil.birth({"content": SECRET}), "d")
    give(a, second)
    recorded = values(a)
    assert b"H" in {key[:1] for key, _ in recorded}
    give(a, first)
    recorded += values(a)
    a.forget("memory", "d", now=True)
    assert readable([r for r in recorded if r[0][:1] != b"H"] + values(a), keys(a)) == []
    held = [r for r in recorded if r[0][:1] == b"H"]
    for place, value in held:
        for key in keys(a):
            with pytest.raises(CryptoError):
                decrypt(value[24:], place, value[:24], key)


@pytest.mark.parametrize("step", ["before the key", "after the key"])
def test_a_crash_between_the_steps_of_erasing_is_made_up(
    step: str, store: Any, family: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = values(store)
    store.forget("memory", "d")
    clock.ms += DAY_MS + 1000
    lives = store.core.lives
    destroy = type(lives).destroy

    def crash(self: Any, slots: list[int]) -> None:
        if step == "after the key":
            destroy(self, slots)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(type(lives), "destroy", crash)
        with pytest.raises(KeyboardInterrupt):
            store.erase_due()
    store = family.reopen(store)
    assert count(store, b"U") == 1
    assert store.erase_due() == 1
    assert count(store, b"U") == 0
    assert readable(recorded + values(store), keys(store)) == []


def test_a_crash_after_the_key_was_destroyed_leaves_a_store_that_works(store: Any, family: Any, clock: Any) -> None:
    store.forget("memory", "d")
    with store.reading() as (_, records):
        slots = [int.from_bytes(value[:8], "big") for _, value in records.scan(b"U")]
    store.core.lives.destroy(slots)
    store = family.reopen(store)
    assert view(store) == {}
    store.create("memory", {"content": "again"}, id="d")
    assert view(store)["d"][:2] == (2, {"content": "again"})
    clock.ms += DAY_MS + 1000
    store.erase_due()
    assert view(store)["d"][:2] == (2, {"content": "again"})


def test_a_late_device_does_not_bring_it_back(family: Any) -> None:
    a, b, c = family(3)
    a.create("memory", {"content": SECRET}, id="d")
    exchange(a, b, c)
    c.edit("memory", "d", {"content": "late edit"})
    a.forget("memory", "d", now=True)
    exchange(a, b)
    exchange(a, b, c)
    assert view(a) == view(b) == view(c) == {}
    assert len({each.content_hash() for each in (a, b, c)}) == 1
    assert readable(values(a), keys(a)) == []


def test_it_can_be_stored_anew_and_old_items_stay_dead(family: Any) -> None:
    a, b = family(2)
    a.create("fact", {"content": "old"}, id="f")
    old = StoreReplica(a).read_entries(a.directory.find("own", "fact").tag, [(a.device, a.incarnation, 1)], 1 << 20)[0]
    a.forget("fact", "f", now=True)
    a.create("fact", {"content": "new"}, id="f")
    exchange(a, b)
    assert view(a, "fact") == view(b, "fact") == {"f": (2, {"content": "new"}, {})}
    StoreReplica(b).deliver(a.directory.find("own", "fact").tag, old, a.device)
    assert view(b, "fact") == {"f": (2, {"content": "new"}, {})}


def test_the_erase_list_names_the_items_of_the_life(family: Any) -> None:
    (a,) = family(1)
    a.create("memory", {"content": "x"}, id="d")
    a.edit("memory", "d", {"content": "y"})
    a.create("memory", {"content": "other"}, id="e")
    a.forget("memory", "d")
    with a.reading() as (_, records):
        last = [decode_header(value[72:]) for _, value in records.scan(b"E")][-1]
    assert [(erase.seq, erase.index) for erase in last.erase] == [(1, 0), (2, 0)]


def test_two_forgets_of_one_document_meet(family: Any, clock: Any) -> None:
    a, b = family(2)
    a.create("memory", {"content": "x"}, id="d")
    exchange(a, b)
    a.forget("memory", "d")
    b.forget("memory", "d", now=True)
    exchange(a, b)
    assert view(a) == view(b) == {}
    clock.ms += DAY_MS + 1000
    a.erase_due()
    b.erase_due()
    exchange(a, b)
    assert a.content_hash() == b.content_hash()
    assert count(a, b"U") == count(b, b"U") == 0
    assert set(a.receipt("memory", "d").erased_on) == {a.device, b.device}


# Others who look meanwhile: a key is destroyed for every snapshot at once


def forgotten_meanwhile(store: Any, monkeypatch: Any) -> None:
    """From now on, m1 is forgotten and erased between the taking of the next snapshot and the look at it."""
    real = type(store)._read
    done: list[None] = []

    @contextmanager
    def read(self: Any) -> Iterator[Any]:
        with real(self) as records:
            if not done:
                done.append(None)
                store.forget("memory", "m1", now=True)
            yield records

    monkeypatch.setattr(type(store), "_read", read)


@pytest.mark.parametrize("look", ["read", "query", "text", "rows", "bodies", "entries", "verify", "verify late"])
def test_what_is_erased_while_somebody_looks_is_gone_and_not_damaged(family: Any, monkeypatch: Any, look: str) -> None:
    a, b = family(2)
    for n in range(3):
        a.create("memory", {"content": SECRET, "tag": "t"}, id=f"m{n}")
    replica, collection = StoreReplica(a), a.directory.find("own", "memory")
    keys = [a.directory.spaces["own"].document_key("memory", f"m{n}") for n in range(3)]
    forgotten_meanwhile(a, monkeypatch)
    if look == "read":
        assert a.read("memory", "m1") is None
    elif look == "query":
        assert {row.id for row in a.query("memory", "tag", "t")} == {"m0", "m2"}
    elif look == "text":
        with pytest.raises(NotFound):
            a.text("memory", "m1")
    elif look == "rows":
        assert {row.id for row in a.rows("memory")} == {"m0", "m2"}
    elif look == "bodies":
        assert {body.key for body in replica.bodies(collection.tag, keys, 1 << 20)} == {keys[0], keys[2]}
    elif look == "entries":
        runs, _ = replica.read_entries(collection.tag, [(a.device, a.incarnation, 1)], 1 << 20)
        assert b"".join(b"".join(run) for run in runs)
    else:  # before or after it has found the meta page of its snapshot
        monkeypatch.undo()
        real = pages.check
        passes: list[None] = []

        def check(*arguments: Any) -> list[str]:
            passes.append(None)
            found = real(*arguments) if look == "verify late" else []
            if len(passes) == 1:
                a.forget("memory", "m1", now=True)
            return found or real(*arguments) if look == "verify" else found

        monkeypatch.setattr(pages, "check", check)
        assert verify(a, refold=True).problems == []
        assert len(passes) == (2 if look == "verify" else 1)
        monkeypatch.undo()
    send(a, b)
    assert set(view(b)) == {"m0", "m2"}


def test_a_store_that_died_between_the_key_and_the_note_serves_its_peers(family: Any, monkeypatch: Any) -> None:
    a, b = family(2)
    for n in range(3):
        a.create("memory", {"content": SECRET}, id=f"m{n}")

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("aico_crdt.store.forget.settle_erasures", dies)
    with pytest.raises(KeyboardInterrupt):
        a.forget("memory", "m1", now=True)
    monkeypatch.undo()
    a = family.reopen(a)
    assert verify(a, refold=True).problems == []
    send(a, b)
    assert set(view(b)) == {"m0", "m2"}
    assert verify(b, refold=True).problems == []
