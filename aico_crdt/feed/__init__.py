"""Feeds: signed entries with sealed items, their chains, and what may be applied when. Pure; knows no member
or disk.

==============  ====================================================================
`header`        what is signed in clear: place, predecessor, dependencies, item hashes
`item`          one sealed operation on one document
`entry`         header + signature + items; writing, reading, proving
`causality`     what must be applied before an entry
`run`           consecutive entries of one feed, as they travel
`packing`       strict MessagePack
==============  ====================================================================
"""

from __future__ import annotations

from aico_crdt.feed.causality import deps_since, missing
from aico_crdt.feed.entry import (
    Entry,
    check_items,
    decode_entry,
    encode_entry,
    verify_entry,
    verify_run,
    write_entry,
)
from aico_crdt.feed.header import GENESIS, Erase, FeedId, Head, Header, ItemRef, decode_header
from aico_crdt.feed.item import Operation, open_item
from aico_crdt.feed.run import Run, cut, decode_run, encode_run

__all__ = [
    "GENESIS",
    "Entry",
    "Erase",
    "FeedId",
    "Head",
    "Header",
    "ItemRef",
    "Operation",
    "Run",
    "check_items",
    "cut",
    "decode_entry",
    "decode_header",
    "decode_run",
    "deps_since",
    "encode_entry",
    "encode_run",
    "missing",
    "open_item",
    "verify_entry",
    "verify_run",
    "write_entry",
]
