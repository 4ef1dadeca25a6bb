"""Bytes: what a feeling that was read a hundred thousand times takes, and what memories take on the disk."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aico_crdt.companion import Store
from aico_crdt.store import StoreReplica, Transaction, layout, states
from aico_crdt.store.prune import compact
from aico_crdt.store.records import DocumentRecord
from aico_crdt.store.vacuum import vacuum
from aico_crdt.sync.effect import Acknowledge, Ingest, IngestBodies, IngestManifest
from aico_crdt.sync.local import CarryOut, converge
from aico_crdt.sync.replica import IngestReport
from bench import data, stores
from bench.measure import Bench, Result
from bench.peers.sqlite import Sqlite

DEVICES = 3
REOPEN_EVERY = 100
SUBJECT = "anna"


def emotion_register_size(bench: Bench) -> Result:
    """The Yjs state of one subject's register on the device where it is largest, all devices having met."""
    readings = bench.size(100_000, 3000)
    rng = random.Random(3)
    with bench.directory() as place:
        paths = [place / f"device {number}" for number in range(1, DEVICES + 1)]
        with stores.new_store(paths[0]) as first:
            first.emotions.record(SUBJECT, history=False, **_reading(rng, 0))  # one register, born once
            for number, path in enumerate(paths[1:], 2):
                stores.join_family(first, path, number)
        _meet(paths)
        done, rounds = 1, 0
        while done < readings:
            for number, path in enumerate(paths, 1):
                count = min(REOPEN_EVERY, readings - done)
                with stores.open_store(path, number) as store:
                    stores.in_groups(store, [_record(store, _reading(rng, done + n)) for n in range(count)])
                done += count
            rounds += 1
            if rounds % 10 == 0:
                _meet(paths)
        _meet(paths)
        found = []
        for number, path in enumerate(paths, 1):
            with stores.open_store(path, number) as store:
                found.append(_state_bytes(store, "emotion", SUBJECT))
                assert len(store.emotions.state(SUBJECT).contributing_devices) == DEVICES
    size = f"{readings} readings on {DEVICES} devices, each opened anew every {REOPEN_EVERY}"
    return Result("emotion_register_size", max(found), "B", "lower", size=size)


def _record(store: Store, reading: dict[str, Any]) -> Callable[[Transaction], str]:
    def write(transaction: Transaction) -> str:
        return store.emotions.record(SUBJECT, history=False, within=transaction, **reading)

    return write


def _reading(rng: random.Random, number: int) -> dict[str, Any]:
    return {
        "timestamp": data.START_MS + number * 1000,
        "valence": round(rng.uniform(-1, 1), 3),
        "arousal": round(rng.random(), 3),
        "intensity": round(rng.random(), 3),
        "confidence": round(rng.uniform(0.3, 1), 3),
    }


def _meet(paths: list[Path]) -> None:
    """Bring all devices together, twice around, through the protocol."""
    opened = [stores.open_store(path, number) for number, path in enumerate(paths, 1)]
    try:
        for a, b in [(0, 1), (1, 2), (0, 2), (0, 1)]:
            report = converge(
                StoreReplica(opened[a]),
                StoreReplica(opened[b]),
                _carrier(opened[a], opened[b].device),
                _carrier(opened[b], opened[a].device),
                opened[a].now_ms(),
            )
            assert report.equal, report
    finally:
        for store in opened:
            store.close()


def _carrier(store: Store, peer: bytes) -> CarryOut:
    replica = StoreReplica(store)

    def carry_out(effect: Ingest | IngestManifest | IngestBodies | Acknowledge) -> IngestReport | None:
        if isinstance(effect, Acknowledge):
            replica.acknowledged(peer, effect.tag, effect.heads, effect.erased)
            return None
        if isinstance(effect, Ingest):
            return replica.ingest(effect.tag, effect.runs, peer)
        if isinstance(effect, IngestManifest):
            return replica.ingest_manifest(effect.tag, effect.raw, peer)
        return replica.ingest_bodies(effect.tag, effect.bodies, peer, effect.heads)

    return carry_out


def _state_bytes(store: Store, kind: str, name: str) -> int:
    """The length of a document's state, as Yjs writes it."""
    with store.reading() as (core, records):
        found = store.locate(records, kind, name)
        assert found is not None
        collection, key = found
        record = records.get(layout.document(b"D", collection.number, key))
        assert record is not None
        return len(states.read(core, records, DocumentRecord.unpack(record)))


def store_bytes(bench: Bench) -> Result:
    """The whole directory of a store of memories, pruned, through what they are as JSON."""
    memories = bench.size(50_000, 2000)
    json_bytes = sum(len(data.as_json(data.memory(number))) for number in range(memories))
    with bench.directory() as place:
        with stores.fresh(place) as store:
            stores.in_groups(store, (stores.remember(store, number) for number in range(memories)))
            path, grown = store.path, stores.disk_bytes(store.path)
            compact(store)
            live = store.used_bytes()
        compacted = stores.disk_bytes(path)
        vacuum(path)
        ours = stores.disk_bytes(path)
        with Sqlite(place / "sqlite") as sqlite:
            sqlite.put_all(
                (data.memory_id(n), "memory", n, data.as_json(data.memory(n))) for n in range(memories)
            )
        theirs = (place / "sqlite").stat().st_size
    size = f"{memories} memories of {json_bytes // memories} B of JSON"
    extra = {
        "before_ratio": grown / json_bytes,
        "before_vacuum_ratio": compacted / json_bytes,
        "live_pages_ratio": live / json_bytes,
        "directory_bytes": ours,
        "json_bytes": json_bytes,
    }
    peers = {"sqlite": theirs / json_bytes}
    return Result("store_bytes", ours / json_bytes, "× JSON", "lower", peers, size=size, extra=extra)
