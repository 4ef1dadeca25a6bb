"""Two devices in two processes, over CURVE on loopback: meeting first, meeting again, and living side by side."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Self

from bench import data, stores
from bench.measure import Bench, Result, percentile, spread
from bench.peers import automerge, pouchdb

ROOT = Path(__file__).resolve().parents[1]
MIB = 1 << 20


class Device:
    """A process that runs :mod:`bench.device`."""

    def __init__(self, path: Path, number: int) -> None:
        command = [sys.executable, "-m", "bench.device", str(path), str(number)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        self.id: str = self._answer()["device"]

    def ask(self, verb: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": verb, **arguments}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a device's process ended; its error stands above")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@dataclass(frozen=True)
class Pair:
    """Two devices that have met: their stores, and what their meeting took."""

    first: Path
    second: Path
    documents: int
    seconds: float
    bytes: float
    peak_bytes: tuple[int, int]
    anonymous_bytes: tuple[int, int]


@contextmanager
def running(first: Path, second: Path) -> Iterator[tuple[Device, Device, str]]:
    """Both devices, the first of which listens there."""
    with Device(first, 1) as a, Device(second, 2) as b:
        yield a, b, a.ask("serve")["endpoint"]


def met(bench: Bench, documents: int) -> Pair:
    """A pair of so many documents, an entry each; the same for all that ask in this run."""

    def make() -> Pair:
        place = bench.place()
        with stores.new_store(place / "first", max_items=1) as store:
            stores.join_family(store, place / "second", 2)
            stores.fill(store, documents)
        with running(place / "first", place / "second") as (a, b, endpoint):
            found = b.ask("link", device=a.id, endpoint=endpoint, heads=a.ask("heads"))
            memory = [device.ask("memory") for device in (a, b)]
        return Pair(
            place / "first",
            place / "second",
            documents,
            found["settled_ms"] / 1000,
            found["bytes"],
            (memory[0]["peak"], memory[1]["peak"]),
            (memory[0]["anonymous"], memory[1]["anonymous"]),
        )

    return bench.once(("met", documents), make)


def first_sync(bench: Bench) -> Result:
    """All documents of one device, each an entry of its own, to another that has none."""
    pair = met(bench, bench.size(50_000, 2000))
    peers = {}
    count = bench.size(10_000, 2000)
    node = bench.try_peer(lambda: _pouchdb(bench, count))
    if node is not None:
        peers["pouchdb"] = node["first_per_s"]
    few = bench.size(1000, 200)
    automerge_per_s = bench.try_peer(lambda: automerge.first_sync(ROOT, few))
    if automerge_per_s is not None:
        peers["automerge"] = automerge_per_s
    extra = {
        "giver_peak_MiB": pair.peak_bytes[0] / MIB,
        "taker_peak_MiB": pair.peak_bytes[1] / MIB,
        "giver_anonymous_MiB": pair.anonymous_bytes[0] / MIB,
        "taker_anonymous_MiB": pair.anonymous_bytes[1] / MIB,
        "bytes_per_document": pair.bytes / pair.documents,
    }
    size = f"{pair.documents} documents; pouchdb {count}, automerge {few}, each within one process"
    return Result("first_sync", pair.documents / pair.seconds, "documents/s", "higher", peers, size=size, extra=extra)


def _pouchdb(bench: Bench, count: int) -> dict[str, float]:
    def make() -> dict[str, float]:
        with bench.directory() as place:
            return pouchdb.replicate(place, count)

    return bench.once(("pouchdb replicate", count), make)


def resync_noop(bench: Bench) -> Result:
    """Meeting again, nothing changed: from the authenticated link until that is known."""
    return _resync(bench, "resync_noop", 0)


def resync_ten(bench: Bench) -> Result:
    """Meeting again, ten memories changed: from the authenticated link until they are on the other disk."""
    return _resync(bench, "resync_ten", 10)


def _resync(bench: Bench, name: str, changed: int) -> Result:
    rounds = bench.size(15, 4)
    large, small = bench.size(50_000, 2000), bench.size(1000, 300)
    found = {size: _meetings(bench, met(bench, size), changed, rounds) for size in (large, small)}
    settled = [one["settled_ms"] for one in found[large]]
    ours, few = median(settled), median(one["settled_ms"] for one in found[small])
    extra = {
        "bytes": median(one["bytes"] for one in found[large]),
        f"with_{small}_ms": few,
        f"with_{small}_bytes": median(one["bytes"] for one in found[small]),
        "ratio_to_small": ours / few,
        "cold_handshake_ms": median(one["handshake_ms"] for one in found[large]),
    }
    peers = {}
    count = bench.size(10_000, 2000)
    node = bench.try_peer(lambda: _pouchdb(bench, count))
    if node is not None:
        peers["pouchdb"] = node["ten_ms" if changed else "noop_ms"]
    size = f"{rounds} meetings, {large} documents, beside {small}; pouchdb {count} within one process"
    return Result(name, ours, "ms", "lower", peers, spread(settled), size, extra)


def _meetings(bench: Bench, pair: Pair, changed: int, rounds: int) -> list[dict[str, float]]:
    found = []
    with running(pair.first, pair.second) as (a, b, endpoint):
        for number in range(-1, rounds):  # the first is not counted
            if changed:
                first = (number + 1) * changed % (pair.documents // 2 - changed)
                a.ask("change", first=first, count=changed)
            one = b.ask("link", device=a.id, endpoint=endpoint, heads=a.ask("heads"))
            b.ask("unlink")
            if number >= 0:
                found.append(one)
    return found


def live_latency(bench: Bench) -> Result:
    """From the commit on one device to the commit on the other, one message after another."""
    count = bench.size(1000, 100)
    pair = met(bench, bench.size(1000, 300))
    with running(pair.first, pair.second) as (a, b, endpoint):
        b.ask("link", device=a.id, endpoint=endpoint, heads=a.ask("heads"))
        b.ask("received")
        conversation = data.conversation_id(0)
        a.ask("say", conversation=conversation, count=10, gap_ms=10)
        written = a.ask("say", conversation=conversation, count=count, gap_ms=10)
        received = _received(b, written[-1][0])
    there: dict[int, float] = {}
    for seq, at in received:
        there.setdefault(seq, at)
    taken = [(there[seq] - at) * 1e3 for seq, at in written if seq in there]
    assert len(taken) == len(written), "some message never came"
    extra = {"p99_ms": percentile(taken, 99), "max_ms": max(taken)}
    size = f"{count} messages, one each 10 ms"
    return Result("live_latency", median(taken), "ms", "lower", {}, spread(taken), size, extra)


def _received(device: Device, last: int) -> list[tuple[int, float]]:
    """Seq and time of all that came, the entry `last` included."""
    found: list[tuple[int, float]] = []
    ends = time.monotonic() + 30
    while not any(seq == last for seq, _ in found):
        if time.monotonic() > ends:
            raise RuntimeError("the last message never came")
        time.sleep(0.02)
        found += device.ask("received")
    return found
