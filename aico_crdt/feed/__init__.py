"""Feeds: signed entries with sealed items, their chains, and what may be applied when. Pure; knows no member
or disk.

==============  ====================================================================
`header`        what is signed in clear: place, predecessor, dependencies, item hashes
`item`          one sealed operation on one document
`entry`         header + signature + items; writing, reading, proving
`causality`     what must be applied before an entry
`run`           consecutive entries of one feed, as they travel
`fork`          proof that a device signed two entries for one place
`hold`          what waits, within quotas
`manifest`      what a collection holds at some heads, instead of its history
`packing`       strict MessagePack
==============  ====================================================================
"""

from __future__ import annotations

from aico_crdt.feed.causality import deps_since, missing
from aico_crdt.feed.entry import (
    Entry,
    Erased,
    Item,
    check_items,
    decode_entry,
    encode_entry,
    verify_entry,
    verify_head,
    verify_run,
    write_entry,
)
from aico_crdt.feed.fork import ForkProof, decode_fork, encode_fork, is_fork, prove_fork, verify_fork, winner
from aico_crdt.feed.header import GENESIS, Erase, FeedId, Head, Header, ItemRef, decode_header
from aico_crdt.feed.hold import Awaited, HoldLimits, HoldQueue, Waiting, awaited_head
from aico_crdt.feed.item import Operation, item_mark, open_item
from aico_crdt.feed.manifest import (
    DocumentState,
    Manifest,
    SignedHead,
    Tombstone,
    decode_manifest,
    encode_manifest,
    verify_manifest,
    write_manifest,
)
from aico_crdt.feed.run import Run, cut, decode_run, encode_run

__all__ = [
    "Awaited",
    "DocumentState",
    "Entry",
    "Erase",
    "Erased",
    "Item",
    "FeedId",
    "ForkProof",
    "GENESIS",
    "Head",
    "Header",
    "HoldLimits",
    "HoldQueue",
    "ItemRef",
    "Manifest",
    "Operation",
    "Run",
    "SignedHead",
    "Tombstone",
    "Waiting",
    "awaited_head",
    "check_items",
    "cut",
    "decode_entry",
    "decode_fork",
    "decode_header",
    "decode_manifest",
    "decode_run",
    "deps_since",
    "encode_entry",
    "encode_fork",
    "encode_manifest",
    "encode_run",
    "is_fork",
    "missing",
    "item_mark",
    "open_item",
    "prove_fork",
    "verify_entry",
    "verify_head",
    "verify_fork",
    "verify_manifest",
    "verify_run",
    "winner",
    "write_entry",
    "write_manifest",
]
