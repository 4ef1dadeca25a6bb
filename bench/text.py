"""Typing: a person's keystrokes into one long text, sealed and on the disk."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path

from aico_crdt.companion import Store
from bench import stores
from bench.measure import Bench, Result, Unavailable
from bench.peers.pycrdt_raw import Edit, PycrdtRaw

TRACE = Path(__file__).resolve().parents[2] / "shared" / "data" / "automerge-paper.json.gz"
"""The B4 trace of github.com/dmonad/crdt-benchmarks: the writing of a paper, 259,778 keystrokes."""
MAX_EDITS = 64
MAX_S = 0.05


def text_b4(bench: Bench) -> Result:
    """The trace in entries of at most 64 keystrokes or 50 ms of replay, beside a bare Yjs text in memory."""
    if not TRACE.is_file():
        raise Unavailable(f"text_b4 (the trace ../shared/data/{TRACE.name})")
    with gzip.open(TRACE) as file:
        trace = json.load(file)
    edits: list[Edit] = [tuple(patch) for txn in trace["txns"] for patch in txn["patches"]]
    whole = len(edits)
    edits = edits[: bench.size(whole, 4000)]
    raw, raw_s = _raw(edits)
    with bench.directory() as place, stores.fresh(place) as store:
        name = store.memories.add("a paper")
        begin = time.perf_counter()
        entries = _type(store, name, iter(edits))
        ours_s = time.perf_counter() - begin
        text = store.text("memory", name)
    assert text == raw
    if len(edits) == whole:
        assert text == trace["endContent"]
    size = f"{len(edits)} keystrokes in {entries} entries"
    return Result(
        "text_b4", ours_s / len(edits) * 1e6, "µs/keystroke", "lower", {"pycrdt_raw": raw_s / len(edits) * 1e6},
        size=size, extra={"total_s": ours_s, "per_entry_ms": ours_s / entries * 1e3},
    )  # fmt: skip


def _raw(edits: list[Edit]) -> tuple[str, float]:
    """The text in the end, and the seconds it took."""
    peer = PycrdtRaw()
    begin = time.perf_counter()
    for start in range(0, len(edits), MAX_EDITS):
        peer.edit(edits[start : start + MAX_EDITS])
    taken = time.perf_counter() - begin
    return peer.text(), taken


def _type(store: Store, name: str, edits: Iterator[Edit]) -> int:
    """Returns the number of entries."""
    entries = 0
    more = True
    while more:
        more = False
        with store.transaction() as transaction:
            ends = time.perf_counter() + MAX_S
            for count, (position, deleted, inserted) in enumerate(edits, 1):
                if deleted:
                    transaction.delete_text("memory", name, position, deleted)
                if inserted:
                    transaction.insert_text("memory", name, position, inserted)
                if count == MAX_EDITS or time.perf_counter() > ends:
                    more = True
                    break
        entries += 1
    return entries
