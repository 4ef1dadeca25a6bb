"""A process of Chroma under test: ``python chroma_client.py DIRECTORY SKEW_MS``, told by lines of JSON.

Runs in Chroma's own virtual environment, so it imports nothing of this project.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from typing import Any

ALL = 1_000_000


def set_clock(skew_ms: int) -> None:
    """Of Python's clocks; Chroma's core in Rust reads the system's own."""
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + skew_ms / 1000
    time.time_ns = lambda: real_ns() + skew_ms * 1_000_000


def embedding(text: str) -> list[float]:
    return [byte / 255 for byte in hashlib.blake2b(text.encode(), digest_size=16).digest()]


class Memories:
    def __init__(self, directory: str) -> None:
        import chromadb

        client = chromadb.PersistentClient(path=directory)
        self._collection: Any = client.get_or_create_collection("memories", embedding_function=None)

    def ready(self) -> None:
        return None

    def write(self, name: str, value: str) -> None:
        self._collection.add(ids=[name], documents=[value], embeddings=[embedding(value)])

    def edit(self, name: str, value: str) -> list[str]:
        found: list[str] = self._collection.get(ids=[name])["documents"]
        if not found:
            raise LookupError("no such record")
        self._collection.update(ids=[name], documents=[value], embeddings=[embedding(value)])
        return found

    def forget(self, name: str) -> None:
        self._collection.delete(ids=[name])

    def read_all(self) -> dict[str, list[str]]:
        found = self._collection.get(limit=ALL)
        return {name: [value] for name, value in zip(found["ids"], found["documents"], strict=True)}


def main() -> None:
    set_clock(int(sys.argv[2]))
    memories: Memories | None = None
    for line in sys.stdin:
        command = json.loads(line)
        verb = command.pop("do")
        try:
            memories = memories or Memories(sys.argv[1])
            told = {"ok": getattr(memories, verb)(**command)}
        except Exception as error:  # noqa: BLE001 - whatever Chroma raises is its answer
            told = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
