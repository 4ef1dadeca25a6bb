"""Receiving: entries of a peer, checked, applied and on the disk, without a network."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from aico_crdt.companion import Store
from aico_crdt.store import StoreReplica
from aico_crdt.sync import Run
from bench import stores
from bench.measure import Bench, Result, spread
from bench.peers.lmdb_raw import LmdbRaw

WINDOW_BYTES = 1 << 20
"""What a session has under way at most (Config.window_bytes), hence what is received with one commit."""
Batch = tuple[bytes, list[Run]]


@contextmanager
def offered(place: Path, entries: int) -> Iterator[tuple[Store, bytes, list[Batch]]]:
    """(who takes, from whom, what): one-item entries of a peer that were not taken yet."""
    with stores.fresh(place, max_items=1) as giver:
        stores.join_family(giver, place / "taker", 2)
        stores.in_groups(giver, [stores.begin(giver, number) for number in range(0, entries, 500)])
        before, started = heads_of(giver), batches_of(giver, {})
        stores.in_groups(giver, [stores.say(giver, number) for number in range(entries)])
        batches = batches_of(giver, before)
        with stores.open_store(place / "taker", 2) as taker:
            take(taker, started, giver.device)
            yield taker, giver.device, batches


def ingest(bench: Bench) -> Result:
    """One-item entries in the runs a session would get, every check made; the commit's sync included."""
    entries, rounds = bench.size(20_000, 1000), bench.size(3, 2)
    rates = []
    with bench.directory() as place, stores.fresh(place, max_items=1) as giver:
        paths = [place / f"taker {number}" for number in range(rounds)]
        for number, path in enumerate(paths):
            stores.join_family(giver, path, 2 + number)
        stores.in_groups(giver, [stores.begin(giver, number) for number in range(0, entries, 500)])
        before, started = heads_of(giver), batches_of(giver, {})
        stores.in_groups(giver, [stores.say(giver, number) for number in range(entries)])
        batches = batches_of(giver, before)
        for number, path in enumerate(paths):
            with stores.open_store(path, 2 + number) as taker:
                take(taker, started, giver.device)
                begin = time.perf_counter()
                applied = take(taker, batches, giver.device)
                rates.append(applied / (time.perf_counter() - begin))
                assert applied == entries
        raw = _lmdb_alone(place, batches)
    size = f"{entries} entries of one message, {WINDOW_BYTES >> 20} MiB a commit"
    return Result("ingest", median(rates), "entries/s", "higher", {"lmdb_raw": raw}, spread(rates), size)


def _lmdb_alone(place: Path, batches: list[Batch]) -> float:
    """The same bytes put and synced as often, nothing looked at: entries a second."""
    entries = 0
    with LmdbRaw(place / "lmdb") as lmdb:
        begin = time.perf_counter()
        for number, (_, runs) in enumerate(batches):
            records = [(f"{number} {at}", raw) for at, raw in enumerate(raw for run in runs for raw in run)]
            lmdb.put_all(records)
            entries += len(records)
        return entries / (time.perf_counter() - begin)


Heads = dict[tuple[bytes, bytes, bytes], int]


def heads_of(store: Store) -> Heads:
    return {(tag, head[0], head[1]): head[2] for tag, heads in store.heads().items() for head in heads}


def batches_of(giver: Store, after: Heads) -> list[Batch]:
    """What `giver` has beyond `after`, cut as a session would."""
    replica = StoreReplica(giver)
    found = []
    for tag, collection in giver.directory.collections.items():
        if collection.space == "local":
            continue
        wants = [
            (head.device, head.incarnation, after.get((tag, head.device, head.incarnation), 0) + 1)
            for head in replica.heads(tag)
        ]
        cursor: int | None = 0
        while cursor is not None:
            runs, cursor = replica.read_entries(tag, wants, WINDOW_BYTES, cursor)
            if runs:
                found.append((tag, runs))
    return found


def take(taker: Store, batches: list[Batch], source: bytes) -> int:
    """Returns how many entries were applied."""
    replica = StoreReplica(taker)
    applied = 0
    for tag, runs in batches:
        report = replica.ingest(tag, runs, source)
        assert not report.rejected
        assert not report.held
        applied += report.applied
    return applied
