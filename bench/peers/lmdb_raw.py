"""LMDB alone: the floor under a durable write here. Nothing signed, sealed, indexed or replicated."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import lmdb


class LmdbRaw:
    """Every :meth:`put` is one transaction, synced before it returns."""

    def __init__(self, path: Path) -> None:
        self._environment = lmdb.open(str(path), map_size=8 << 30)

    def put(self, key: str, value: bytes) -> None:
        self.put_all([(key, value)])

    def put_all(self, records: Iterable[tuple[str, bytes]]) -> None:
        with self._environment.begin(write=True) as transaction:
            for key, value in records:
                transaction.put(key.encode(), value)

    def get(self, key: str) -> bytes | None:
        with self._environment.begin() as transaction:
            found = transaction.get(key.encode())
            return None if found is None else bytes(found)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._environment.close()
