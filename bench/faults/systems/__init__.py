"""The systems under test, by name; ours is first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from bench.faults.system import System
from bench.faults.systems.aico import Aico
from bench.faults.systems.aico_post import AicoByPost
from bench.faults.systems.chroma import Chroma, ChromaCopied
from bench.faults.systems.mcp_memory import McpMemory, McpMemoryCopied
from bench.faults.systems.pouchdb import PouchDB
from bench.faults.systems.yjs import Yjs

__all__ = ["SYSTEMS"]

SYSTEMS: Mapping[str, Callable[[Path], System]] = {
    system.name: system for system in (Aico, AicoByPost, McpMemory, McpMemoryCopied, Chroma, ChromaCopied, PouchDB, Yjs)
}
"""Each makes the system in a directory of its own; raises :class:`bench.measure.Unavailable` when it is not installed.
"""
