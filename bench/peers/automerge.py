"""automerge-repo over WebSocket: Automerge documents that find each other, both sides in the memory of one process."""

from __future__ import annotations

from pathlib import Path

from bench.peers.node import run_node


def first_sync(path: Path, count: int) -> float:
    """Documents a second from one repo to another that asks for each."""
    return run_node("automerge", "@automerge/automerge-repo", "first_sync", path, count)["per_s"]
