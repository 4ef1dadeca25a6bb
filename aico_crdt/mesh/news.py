"""What was committed since the last look: the entries to push, told from the heads of the feeds.

Heads are compared instead of collecting what each commit did: so a commit by another process of this device, and
several at once, need no path of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from aico_crdt.feed import decode_entry
from aico_crdt.sync import Committed, Place, Replica, Run

BATCH_BYTES: Final = 256 << 10
"""Read and pushed at a time: small beside the window of a peer."""


class News:
    """Remembers how far each feed had come. Not thread-safe."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._seen: dict[bytes, dict[tuple[bytes, bytes], int]] = {}

    def skip(self, tag: bytes) -> None:
        """What there is now of `tag` is no news."""
        self._seen[tag] = {(h.device, h.incarnation): h.seq for h in self._replica.heads(tag)}

    def of(self, tag: bytes, source: bytes, max_bytes: int) -> Iterator[Committed]:
        """New entries of `tag` in the order of their arrival, those by others as handed over by `source`.

        Ends soon after `max_bytes`: whom that much was pushed to finds the rest by comparing heads.
        """
        seen = self._seen.get(tag, {})
        self.skip(tag)
        wants = [
            Place(device, incarnation, seen.get((device, incarnation), 0) + 1)
            for (device, incarnation), seq in self._seen[tag].items()
            if seq > seen.get((device, incarnation), 0)
        ]
        after: int | None = 0
        size = 0
        while wants and after is not None and size <= max_bytes:
            runs, after = self._replica.read_entries(tag, wants, BATCH_BYTES, after)
            size += sum(len(raw) for run in runs for raw in run)
            yield from self._by_author(tag, runs, source)

    def _by_author(self, tag: bytes, runs: Sequence[Run], source: bytes) -> Iterator[Committed]:
        here = (self._replica.device, self._replica.incarnation)
        for writer, group in groupby(runs, _writer):
            yield Committed(tag, list(group), *writer, b"" if writer == here else source)


def _writer(run: Run) -> tuple[bytes, bytes]:
    """Device and incarnation."""
    header = decode_entry(run[0]).header
    return header.device, header.incarnation
