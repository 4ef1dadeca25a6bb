"""SQLite as an app would use it: WAL, synchronous=FULL, JSON in a column, an index by group and time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

Record = tuple[str, str, int, bytes]
"""Id, group (a conversation), time, JSON."""


class Sqlite:
    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("CREATE TABLE IF NOT EXISTS record (id TEXT PRIMARY KEY, part TEXT, at INTEGER, json BLOB)")
        self._db.execute("CREATE INDEX IF NOT EXISTS by_part ON record (part, at)")

    def put(self, record: Record) -> None:
        self._db.execute("INSERT INTO record VALUES (?, ?, ?, ?)", record)

    def put_all(self, records: Iterable[Record]) -> None:
        """One transaction."""
        self._db.execute("BEGIN")
        self._db.executemany("INSERT INTO record VALUES (?, ?, ?, ?)", records)
        self._db.execute("COMMIT")

    def get(self, name: str) -> bytes:
        found: bytes = self._db.execute("SELECT json FROM record WHERE id = ?", (name,)).fetchone()[0]
        return found

    def last(self, part: str, limit: int) -> list[bytes]:
        rows = self._db.execute("SELECT json FROM record WHERE part = ? ORDER BY at DESC LIMIT ?", (part, limit))
        return [row[0] for row in rows]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()
