"""Writing: one message at a time, and a thousand writers at once."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from aico_crdt.companion import AsyncStore, Store
from bench import data, stores
from bench.measure import Bench, Result, from_turns, seconds, spread, take_turns
from bench.peers import pouchdb
from bench.peers.chroma import Chroma
from bench.peers.lmdb_raw import LmdbRaw
from bench.peers.sqlite import Record, Sqlite

PROCESSES = 8
TASKS = 1000
MEMORY = Path("/dev/shm")


def append_durable(bench: Bench) -> Result:
    """One message, on the disk when the call returns. Peers store the same JSON as one record."""
    rounds, warm_up = bench.size(2000, 150), 20
    messages = data.messages(rounds + warm_up)
    raw = [data.as_json(message) for message in messages]
    with ExitStack() as stack:
        place = stack.enter_context(bench.directory())
        store = stack.enter_context(stores.fresh(place))
        conversation = store.conversations.start()
        lmdb = stack.enter_context(LmdbRaw(place / "lmdb"))
        sqlite = stack.enter_context(Sqlite(place / "sqlite"))
        calls: dict[str, Callable[[int], object]] = {
            "ours": lambda n: store.conversations.say(conversation, **messages[n]),
            "lmdb_raw": lambda n: lmdb.put(data.message_id(n), raw[n]),
            "sqlite": lambda n: sqlite.put((data.message_id(n), conversation, messages[n]["timestamp"], raw[n])),
        }
        chroma = bench.try_peer(lambda: Chroma(place / "chroma"))
        if chroma is not None:
            calls["chroma"] = lambda n: chroma.add([(data.message_id(n), messages[n]["text"])])
        taken = take_turns(calls, rounds, warm_up=warm_up)
        size = f"{rounds} messages of {round(median(map(len, raw)))} B"
        result = from_turns("append_durable", "µs", 1e6, taken, size=size)
        above = result.value - result.peers["lmdb_raw"]
        peers = dict(result.peers)
        unsynced = bench.try_peer(lambda: pouchdb.put(place, rounds))
        if unsynced is not None:
            peers["pouchdb"] = unsynced
        extra = {"above_lmdb_raw_us": above, **_in_memory(messages)}
        return Result(result.name, result.value, "µs", "lower", peers, result.spread, size, extra)


def _in_memory(messages: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The same where a sync costs nothing: what is left is our own work, and hardly drifts."""
    if not os.access(MEMORY, os.W_OK):
        return {}
    with tempfile.TemporaryDirectory(dir=MEMORY) as place, stores.fresh(Path(place)) as store:
        conversation = store.conversations.start()
        taken = take_turns({"ours": lambda n: store.conversations.say(conversation, **messages[n])}, len(messages) - 5)
    return {"in_memory_us": median(taken["ours"]) * 1e6}


def append_group(bench: Bench) -> Result:
    """A thousand tasks of one process, each waiting for its own message to be on the disk; then eight processes."""
    rounds = bench.size(10, 3)
    with bench.directory() as place:
        with stores.fresh(place) as store:
            conversation = store.conversations.start()
            rates = asyncio.run(tasks_at_once(store, conversation, rounds))
            together = _processes(store.path, conversation, bench.size(TASKS, 250))
        peers = {"sqlite": _sqlite_batches(place, rounds), "lmdb_raw": _lmdb_batches(place, rounds)}
        chroma = bench.try_peer(lambda: _chroma_batch(place))
        if chroma is not None:
            peers["chroma"] = chroma
        unsynced = bench.try_peer(lambda: pouchdb.bulk(place, rounds * TASKS))
        if unsynced is not None:
            peers["pouchdb"] = unsynced
    size = f"{rounds} × {TASKS} tasks; peers: {TASKS} a transaction"
    extra = {f"processes_{PROCESSES}_per_s": together}
    return Result("append_group", median(rates), "messages/s", "higher", peers, spread(rates), size, extra)


async def tasks_at_once(store: Store, conversation: str, rounds: int, tasks: int = TASKS) -> list[float]:
    """Messages a second of each round."""
    rates = []
    messages = data.messages(tasks)
    async with AsyncStore(store) as shared:
        for _ in range(rounds):
            loop = asyncio.get_running_loop()
            begin = loop.time()
            await asyncio.gather(*(shared.conversations.say(conversation, **message) for message in messages))
            rates.append(tasks / (loop.time() - begin))
    return rates


def _processes(path: Path, conversation: str, tasks: int) -> float:
    """Messages a second of :data:`PROCESSES` processes together, from the first that begins to the last that ends."""
    command = [sys.executable, "-m", "bench.writer", str(path), conversation, str(tasks)]
    writers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT)
        for _ in range(PROCESSES)
    ]
    with ExitStack() as stack:
        for writer in writers:
            stack.enter_context(writer)
            stack.callback(writer.kill)
        for writer in writers:
            assert writer.stdout is not None
            writer.stdout.readline()  # it is ready
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
        spans: list[tuple[float, float]] = [json.loads(writer.communicate()[0]) for writer in writers]
    return PROCESSES * tasks / (max(end for _, end in spans) - min(begin for begin, _ in spans))


_ROOT = Path(__file__).resolve().parents[1]


def _sqlite_batches(place: Path, rounds: int) -> float:
    batch: list[Record] = [
        (data.message_id(n), "one", message["timestamp"], data.as_json(message))
        for n, message in enumerate(data.messages(TASKS))
    ]
    with Sqlite(place / "sqlite") as sqlite:
        taken = []
        for number in range(rounds):
            renamed = [(f"{number} {name}", part, at, raw) for name, part, at, raw in batch]
            taken.append(seconds(lambda records=renamed: sqlite.put_all(records)))  # type: ignore[misc]
    return TASKS / median(taken)


def _lmdb_batches(place: Path, rounds: int) -> float:
    batch = [(data.message_id(n), data.as_json(message)) for n, message in enumerate(data.messages(TASKS))]
    with LmdbRaw(place / "lmdb") as lmdb:
        taken = []
        for number in range(rounds):
            renamed = [(f"{number} {name}", raw) for name, raw in batch]
            taken.append(seconds(lambda records=renamed: lmdb.put_all(records)))  # type: ignore[misc]
    return TASKS / median(taken)


def _chroma_batch(place: Path) -> float:
    chroma = Chroma(place / "chroma")
    batch = [(data.message_id(n), message["text"]) for n, message in enumerate(data.messages(TASKS))]
    return TASKS / seconds(lambda: chroma.add(batch))
