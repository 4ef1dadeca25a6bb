"""A bare Yjs text in memory: nothing signed, sealed or written to a disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pycrdt import Doc, Text

Edit = tuple[int, int, str]
"""Position, deleted characters, inserted text. Positions are those of ASCII text."""


class PycrdtRaw:
    def __init__(self) -> None:
        self._doc: Doc[Any] = Doc()
        self._text = self._doc.get("t", type=Text)

    def edit(self, edits: Sequence[Edit]) -> None:
        """All of them in one Yjs transaction."""
        text = self._text
        with self._doc.transaction():
            for position, deleted, inserted in edits:
                if deleted:
                    del text[position : position + deleted]
                if inserted:
                    text.insert(position, inserted)

    def text(self) -> str:
        return str(self._text)
