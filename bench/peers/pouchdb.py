"""PouchDB over LevelDB: replicated documents for JavaScript. Its writes are handed to the system, not synced."""

from __future__ import annotations

from pathlib import Path

from bench.peers.node import run_node


def put(path: Path, count: int) -> float:
    """Median µs of one put."""
    return run_node("pouchdb", "pouchdb", "put", path, count)["us"]


def bulk(path: Path, count: int) -> float:
    """Documents a second, 1,000 a call."""
    return run_node("pouchdb", "pouchdb", "bulk", path, count)["per_s"]


def read(path: Path, count: int) -> dict[str, float]:
    """Median µs of `get`, and of the last 50 of a range of ids (`last_50`)."""
    return run_node("pouchdb", "pouchdb", "read", path, count)


def replicate(path: Path, count: int) -> dict[str, float]:
    """Two local stores of one process: `first_per_s`, then `noop_ms` and `ten_ms`."""
    return run_node("pouchdb", "pouchdb", "replicate", path, count)
