"""Chroma, the vector store many memories are kept in: ``pip install chromadb``. It wants an embedding for each."""

from __future__ import annotations

import importlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.measure import Unavailable

DIMENSIONS = 384


class Chroma:
    def __init__(self, path: Path) -> None:
        try:
            chromadb: Any = importlib.import_module("chromadb")
        except ModuleNotFoundError as error:
            raise Unavailable("chroma (pip install chromadb)") from error
        self._collection = chromadb.PersistentClient(path=str(path)).create_collection("bench")
        self._rng = random.Random(1)

    def add(self, records: Sequence[tuple[str, str]]) -> None:
        """Ids and texts, one call."""
        vectors = [[self._rng.random() for _ in range(DIMENSIONS)] for _ in records]
        self._collection.add(ids=[i for i, _ in records], documents=[t for _, t in records], embeddings=vectors)
