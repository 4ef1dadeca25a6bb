"""A member with valid keys cannot keep honest devices from writing."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import msgpack

from aico_crdt.feed import Operation, encode_entry
from aico_crdt.feed.header import MAX_DEPS, MAX_LIFE, MAX_SEQ
from aico_crdt.feed.manifest import encode_manifest, write_manifest
from aico_crdt.store import StoreReplica
from aico_crdt.store.prune import prune
from tests.store.conftest import exchange, send
from tests.store.hostile import Hostile, give, heads_of


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


def test_a_limited_device_does_not_forget_what_others_bore(family: Any) -> None:
    a, b = family(2, trusts=["limited"])
    a.create("memory", {"content": "one"}, id="m", space="family")
    exchange(a, b)
    evil = Hostile(b)
    shared = evil.collection("family")
    birth = evil.update(evil.birth({}), "m", collection=shared, deps=heads_of(b, shared))
    forget = evil.entry(Operation("m", 1, "forget", msgpack.packb([None, True])), collection=shared)
    assert give(a, birth, forget).applied == 2, "its feed goes on on every replica alike"
    assert a.read("memory", "m") is not None


def test_a_manifest_does_not_silence_other_devices(family: Any) -> None:
    a, b, c = family(3)
    a.create("memory", {"content": "one"}, id="m")
    exchange(a, b, c)
    lie(c, b, [(head[0], head[1], 1 << 62, b"x" * 32) for head in heads_of(a, a.directory.find("own", "memory"))])
    a.create("memory", {"content": "two"}, id="n")
    exchange(a, c)
    assert c.read("memory", "n") is not None


def test_a_manifest_does_not_stop_local_writes(family: Any) -> None:
    a, b = family(2)
    a.create("memory", {"content": "one"}, id="m")
    exchange(a, b)
    lie(a, b, [(head[0], head[1], MAX_SEQ, b"x" * 32) for head in heads_of(a, a.directory.find("own", "memory"))])
    a.create("memory", {"content": "two"}, id="n")


def test_a_manifest_does_not_end_all_lives_to_come(family: Any) -> None:
    a, b = family(2)
    a.create("memory", {"content": "one"}, id="m")
    exchange(a, b)
    key = a.directory.spaces["own"].document_key("memory", "m")
    lie(a, b, [], [(key, MAX_LIFE)])
    a.create("memory", {"content": "two"}, id="m")


def test_a_full_directory_does_not_stop_admissions(family: Any) -> None:
    a, b = family(2, trusts=["limited"])
    evil = Hostile(b)
    for number in range(18):
        document = evil.document()
        for place in range(4):
            evil.stamp += 1
            document.set(f"f{place}", os.urandom(250_000), evil.stamp)
        update = document.take_update()
        assert update is not None
        give(a, evil.update(update, f"d{number}", collection=a.directory.directory))
    joined = family.join(a, 7)
    assert joined.directory.family.may_connect(joined.device)
    exchange(a, joined)
    exchange(a, joined)
    assert joined.read("directory", "d17") == a.read("directory", "d17") is not None
    assert StoreReplica(joined).gaps(a.directory.directory.tag) == []


def test_a_manifest_does_not_move_a_document_to_its_last_life(family: Any) -> None:
    a, b = family(2)
    key = a.directory.spaces["own"].document_key("memory", "m")
    feed = (b.device, b"hostile!", 1, b"x" * 32)  # something must advance for documents to count
    lie(a, b, [feed], documents=[(key, MAX_LIFE, bytes(32), 1)])
    a.create("memory", {"content": "one"}, id="m")
    assert a.read("memory", "m") is not None


def test_who_bore_a_document_is_not_told_by_a_limited_device(family: Any) -> None:
    a, b = family(2, trusts=["limited"])
    a.create("memory", {"content": "one"}, id="m", space="family")
    a.edit("memory", "m", {"content": "two"})
    exchange(a, b)
    where = b.directory.find("family", "memory")
    with b.writing() as workspace:
        opened = workspace.open(where, "m")
        opened.record.creator = b.device
        opened.touched = True
    assert prune(a).entries
    c = family.join(a, 5)
    send(a, c, bodies=False)
    stubs = StoreReplica(c).stubs(where.tag, 10)
    StoreReplica(c).ingest_bodies(where.tag, StoreReplica(b).bodies(where.tag, stubs, 1 << 20), b.device)
    assert not c.get("memory", "m").stub
    with c.writing() as workspace:
        record = workspace.open(c.directory.find("family", "memory"), "m").record
        assert record is not None
        assert record.creator == a.device


def test_a_manifest_waits_for_the_authors_of_its_feeds(family: Any) -> None:
    """The directory comes first, and says who they are; what nobody admitted wrote moves nothing."""
    a, b = family(2)
    a.create("memory", {"content": "one"}, id="m")
    late = family.join(a, 5)
    late.create("memory", {"content": "late"}, id="n")
    exchange(a, late)
    tag = a.directory.find("own", "memory").tag
    raw = StoreReplica(a).manifest(tag)
    assert StoreReplica(b).ingest_manifest(tag, raw, a.device).rejected == 1
    assert b.read("memory", "m") is None
    assert StoreReplica(b).heads(tag) == ()
    exchange(a, b)
    assert StoreReplica(b).ingest_manifest(tag, raw, a.device).applied == 1


def test_a_head_whose_signature_a_relay_swapped_is_left_out_of_manifests(family: Any) -> None:
    """Only the last signature of a run is checked; where a run stops half way the head's may be anybody's."""
    a, b = family(2, trusts=["limited"])
    evil = Hostile(b)
    shared = evil.collection("family")
    first = evil.update(evil.birth(), "d0", collection=shared)
    unknown = evil.entry(Operation("d0", 1, "later", b""), collection=shared)
    swapped = dataclasses.replace(first, signature=bytes(64))
    run = [encode_entry(swapped), encode_entry(unknown)]
    assert StoreReplica(a).deliver(shared.tag, [run], b.device).applied == 1
    a.create("memory", {"content": "one"}, id="m", space="family")
    late = family.join(a, 5)
    raw = StoreReplica(a).manifest(shared.tag)
    assert StoreReplica(late).ingest_manifest(shared.tag, raw, a.device).applied == 1
    assert [head.device for head in StoreReplica(late).heads(shared.tag)] == [a.device]
    send(a, late)
    assert late.read("memory", "d0") == a.read("memory", "d0") is not None
    assert late.read("memory", "m") is not None


def lie(
    taker: Any,
    liar: Any,
    heads: list[Any],
    tombstones: Sequence[tuple[bytes, int]] = (),
    documents: Sequence[tuple[bytes, int, bytes, int]] = (),
) -> None:
    """Give `taker` a manifest that `liar` signed, its heads too: it has no other key."""
    tag = taker.directory.find("own", "memory").tag
    signed = []
    for device, incarnation, seq, digest in heads:
        message = b"aico-crdt entry 1\0" + taker.directory.family.id + tag + incarnation + seq.to_bytes(8, "big")
        signed.append((device, incarnation, seq, digest, liar.identity.sign(message + digest)))
    manifest = write_manifest(
        family=taker.directory.family.id,
        tag=tag,
        device=liar.device,
        hlc=liar.counters().stamp,
        heads=signed,
        documents=[(*row, liar.device) for row in documents],
        tombstones=list(tombstones),
        sign=liar.identity.sign,
    )
    StoreReplica(taker).ingest_manifest(tag, encode_manifest(manifest), liar.device)
