"""Reading: one memory, the end of a conversation, and a store that was closed."""

from __future__ import annotations

import json
import random
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from bench import data, stores
from bench.measure import Bench, Result, from_turns, seconds, spread, take_turns
from bench.peers import pouchdb
from bench.peers.lmdb_raw import LmdbRaw
from bench.peers.sqlite import Sqlite

LAST = 50


def filled(bench: Bench, documents: int) -> Path:
    """A closed store with so many documents, the same for all that ask in this run."""

    def make() -> Path:
        with stores.fresh(bench.place()) as store:
            stores.fill(store, documents)
            return store.path

    return bench.once(("filled", documents), make)


def read_row(bench: Bench) -> Result:
    """One memory by its id, at random. Peers decode the same JSON."""
    documents, rounds = bench.size(50_000, 2000), bench.size(5000, 500)
    half = documents // 2
    rng = random.Random(1)
    names = [data.memory_id(rng.randrange(half)) for _ in range(rounds + 100)]
    records = [(data.memory_id(n), "memory", n, data.as_json(data.memory(n))) for n in range(half)]
    with ExitStack() as stack:
        place = stack.enter_context(bench.directory())
        store = stack.enter_context(stores.open_store(filled(bench, documents)))
        lmdb = stack.enter_context(LmdbRaw(place / "lmdb"))
        sqlite = stack.enter_context(Sqlite(place / "sqlite"))
        lmdb.put_all((name, raw) for name, _, _, raw in records)
        sqlite.put_all(records)
        calls = {
            "ours": lambda n: store.memories.get(names[n]),
            "lmdb_raw": lambda n: json.loads(lmdb.get(names[n]) or b""),
            "sqlite": lambda n: json.loads(sqlite.get(names[n])),
        }
        taken = take_turns(calls, rounds, warm_up=100)
        result = from_turns("read_row", "µs", 1e6, taken, size=f"{rounds} reads of {half} memories")
        node = bench.try_peer(lambda: bench.once(("pouchdb read", half), lambda: pouchdb.read(place, half)))
    return result if node is None else _beside(result, "pouchdb", node["get"])


def read_last_50(bench: Bench) -> Result:
    """The last 50 messages of a conversation of 500."""
    documents, rounds = bench.size(50_000, 2000), bench.size(500, 50)
    half = documents // 2
    rng = random.Random(2)
    parts = [data.conversation_id(rng.randrange(half)) for _ in range(rounds + 10)]
    records = [
        (data.message_id(n), data.conversation_id(n), n, data.as_json(message))
        for n, message in enumerate(data.messages(half))
    ]
    with ExitStack() as stack:
        place = stack.enter_context(bench.directory())
        store = stack.enter_context(stores.open_store(filled(bench, documents)))
        sqlite = stack.enter_context(Sqlite(place / "sqlite"))
        sqlite.put_all(records)
        assert len(store.conversations.messages(parts[0], limit=LAST)) == LAST
        calls = {
            "ours": lambda n: store.conversations.messages(parts[n], limit=LAST),
            "sqlite": lambda n: [json.loads(raw) for raw in sqlite.last(parts[n], LAST)],
        }
        taken = take_turns(calls, rounds, warm_up=10)
        size = f"{rounds} reads of {half} messages"
        result = from_turns("read_last_50", "ms", 1e3, taken, size=size)
        node = bench.try_peer(lambda: bench.once(("pouchdb read", half), lambda: pouchdb.read(place, half)))
    return result if node is None else _beside(result, "pouchdb", node["last_50"] / 1000)


def _beside(result: Result, peer: str, value: float) -> Result:
    peers = {**result.peers, peer: value}
    return Result(result.name, result.value, result.unit, "lower", peers, result.spread, result.size, result.extra)


def open_cold(bench: Bench) -> Result:
    """Open and read one memory, after the system was asked to forget the file. Large and small take turns."""
    large, small, rounds = bench.size(50_000, 3000), bench.size(1000, 300), bench.size(21, 7)
    paths = {"ours": filled(bench, large), "small": filled(bench, small)}
    taken: dict[str, list[float]] = {who: [] for who in paths}
    for _ in range(rounds):
        for who, path in paths.items():
            stores.forget_pages(path)
            taken[who].append(seconds(lambda path=path: _open_and_read(path)))  # type: ignore[misc]
    ours, few = median(taken["ours"]) * 1e3, median(taken["small"]) * 1e3
    size = f"{large} documents, beside {small}"
    extra = {f"with_{small}_ms": few, "ratio_to_small": ours / few}
    return Result("open_cold", ours, "ms", "lower", {}, spread(taken["ours"], 1e3), size, extra)


def _open_and_read(path: Path) -> None:
    with stores.open_store(path) as store:
        store.memories.get(data.memory_id(7))
