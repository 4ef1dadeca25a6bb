"""Runs: consecutive entries of one feed, the unit that is sent, proven and stored.

Wire, within a known collection: msgpack [device, incarnation, [entry bytes …]]
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from aico_crdt.errors import BrokenChain, Malformed
from aico_crdt.feed.entry import ENTRY_MAX_BYTES, Entry, decode_entry, encode_entry
from aico_crdt.feed.header import FeedId
from aico_crdt.feed.packing import pack, unpack
from aico_crdt.ids import DEVICE_BYTES, INCARNATION_BYTES

RUN_MAX_BYTES: Final = 2 * ENTRY_MAX_BYTES
"""Any one entry fits; a sender cuts far below."""
MAX_RUN_ENTRIES: Final = 16_384


class Run(NamedTuple):
    """Consecutive entries of one feed, at least one."""

    feed: FeedId
    entries: tuple[Entry, ...]


def entry_size(entry: Entry) -> int:
    """Bytes of `entry` on the wire, to within a few."""
    return len(entry.header.raw) + 80 + sum(len(item) + 5 if type(item) is bytes else 28 for item in entry.items)


def cut(entries: Iterable[Entry], max_bytes: int) -> list[Run]:
    """The longest beginning of `entries` that fits `max_bytes`, as runs in the same order.

    `entries` come in arrival order, which is causal, possibly many feeds in turn; neighbours of one feed that
    follow each other become one run. At least one entry is taken even if it is larger than `max_bytes`.
    """
    runs: list[tuple[FeedId, list[Entry]]] = []
    room = max_bytes
    for entry in entries:
        room -= entry_size(entry)
        if room < 0 and runs:
            break
        header = entry.header
        if runs and runs[-1][0] == header.feed and runs[-1][1][-1].header.seq + 1 == header.seq:
            runs[-1][1].append(entry)
        else:
            runs.append((header.feed, [entry]))
    return [Run(feed, tuple(taken)) for feed, taken in runs]


def encode_run(run: Run) -> bytes:
    """The wire bytes of a run; its collection is named outside."""
    return pack([run.feed.device, run.feed.incarnation, [encode_entry(entry) for entry in run.entries]])


def decode_run(raw: bytes, tag: bytes) -> Run:
    """Read a run of collection `tag`; prove it with `entry.verify_run`.

    Raises:
        NotYet: ``format``: an entry is written in a later format.
        TooLarge: beyond a cap.
        BrokenChain: an entry belongs to another feed or is out of sequence.
        Malformed: not a run.
    """
    fields = unpack(
        raw, max_bytes=RUN_MAX_BYTES, max_depth=2, max_elements=MAX_RUN_ENTRIES + 4, what="A run of entries"
    )
    if type(fields) is not list or len(fields) != 3:
        raise Malformed("A run is not a list of device, incarnation and entries.")
    device, incarnation, raws = fields
    if not (type(device) is bytes and len(device) == DEVICE_BYTES):
        raise Malformed("A run names no device.")
    if not (type(incarnation) is bytes and len(incarnation) == INCARNATION_BYTES):
        raise Malformed("A run names no incarnation.")
    if type(raws) is not list or not raws or any(type(item) is not bytes for item in raws):
        raise Malformed("A run holds no entries.")
    entries = tuple(decode_entry(item) for item in raws)
    feed = FeedId(tag, device, incarnation)
    for place, entry in enumerate(entries):
        if entry.header.feed != feed or entry.header.seq != entries[0].header.seq + place:
            raise BrokenChain("A run holds an entry that is not of its feed or out of sequence.")
    return Run(feed, entries)
