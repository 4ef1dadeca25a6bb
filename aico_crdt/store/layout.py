"""Every key and value of the LMDB environment, in one table. Byte order is big-endian throughout.

One unnamed database, so that a commit writes few pages and one `stat` tells how many are live. Every key starts with
one letter; every value ends in an 8-byte checksum of key and value, keyed per store, so that a flipped bit anywhere in
a live record is noticed even where nothing is encrypted. `#` is a collection number (u16), `@` a feed number (u32).

======  ===================================  ======================================================================
prefix  key after it                         value
======  ===================================  ======================================================================
``M``   name                                 one named value (format, state, identity, spaces …)
``K``   collection tag 16                    `#`
``F``   `#` device 32 incarnation 8          feed: `@`, floor, seq, head hash, arrival, endorsed, fork seq
``G``   `@`                                  `#` device 32 incarnation 8
``E``   `@` seq u64                          arrival u64, signature 64, header
``I``   `@` seq u64 index u16                life slot u64, item sealed again; or GRAVE, document key, life
``A``   `#` arrival u64                      `@` seq u64
``D``   `#` document key 16                  life, slot, state, base, creator, state hash, stamp
``S``   life slot u64                        state of that life, sealed under its key; none if the row says it all
``C``   life slot u64, number u32            an update later than the state in ``S``, sealed under the life's key
``R``   life slot u64                        row, sealed under the life's key
``B``   life slot u64                        base: the state everything pruned was folded into, sealed
``O``   `#` document key 16 arrival u64 i16  `@` seq u64 index u16: items of the living life since its base
``T``   `#` document key 16                  tombstone: greatest dead life, stamp, where it went (sealed)
``U``   due ms u64 `#` document key 16 life  a dead life whose key is still to be destroyed: slot, feed, seq
``X``   `#` index 8 order u64 born u64 key   an index entry, empty
``L``   change u64                           change log: `#`, document key, life, what, stamp
``N``   `@` seq u64 index u16                an item that came erased before its forget did: `#`, document key, life
``H``   number u64                           an entry on hold, sealed
``P``   device 32 `@`                        what that device said it holds: seq, lacking to, erased to, heard at ms
``V``   number u64                           evidence: a fork proof or a rejected entry
``Y``   `#` order u64 document key 16        a stub whose body is wanted
``Q``   header hash 32                       an entry on a lost branch, without what it wrote
======  ===================================  ======================================================================
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import Final

from aico_crdt.errors import Damaged

FORMAT: Final = 1
"""Version of everything in this table; a greater one is refused before LMDB opens the file."""
CHECK_BYTES: Final = 8

COLLECTION: Final = struct.Struct(">H")
FEED: Final = struct.Struct(">I")
U64: Final = struct.Struct(">Q")
AT: Final = struct.Struct(">IQ")
ITEM_AT: Final = struct.Struct(">IQH")
CHANGE: Final = struct.Struct(">H16sIBQ")

GRAVE: Final = bytes([255]) * 8
"""In place of a life slot: the item was erased; what follows names the life it belonged to."""
GAP: Final = struct.Struct(">H16sQ")

WHOLE: Final = 0
STUB: Final = 1
HIDDEN: Final = 2
FETCHED: Final = 3
"""States of a document's life: whole, made of entries; only known by hash; forgotten, its key waiting to be destroyed;
whole, brought up by a body, which may hold what entries still to come say."""

NO_BASE: Final = 0
BASE_KEPT: Final = 1
BASE_IS_STATE: Final = 2
"""What a life was folded into when its first entries were pruned: nothing was; a record of its own; its state, which
nothing has changed since."""


def check(key: bytes, value: bytes, secret: bytes) -> bytes:
    """The 8-byte checksum of a record."""
    return blake2b(key + value, digest_size=CHECK_BYTES, key=secret).digest()


def open_value(key: bytes, stored: bytes, secret: bytes) -> bytes:
    """The value of a stored record, its checksum verified.

    Raises:
        Damaged: the record was changed on disk.
    """
    value = stored[:-CHECK_BYTES]
    if check(key, value, secret) != stored[-CHECK_BYTES:]:
        raise Damaged(f"A record under {key[:1].decode('latin-1')!r} does not match its checksum.")
    return value


def meta(name: str) -> bytes:
    return b"M" + name.encode()


def collection(tag: bytes) -> bytes:
    return b"K" + tag


def feed(number: int, device: bytes, incarnation: bytes) -> bytes:
    return b"F" + COLLECTION.pack(number) + device + incarnation


def feed_prefix(number: int) -> bytes:
    return b"F" + COLLECTION.pack(number)


def feed_name(feed_number: int) -> bytes:
    return b"G" + FEED.pack(feed_number)


def entry(feed_number: int, seq: int) -> bytes:
    return b"E" + AT.pack(feed_number, seq)


def item(feed_number: int, seq: int, index: int) -> bytes:
    return b"I" + ITEM_AT.pack(feed_number, seq, index)


def gap(feed_number: int, seq: int, index: int) -> bytes:
    return b"N" + ITEM_AT.pack(feed_number, seq, index)


def arrival(number: int, at: int) -> bytes:
    return b"A" + COLLECTION.pack(number) + U64.pack(at)


def document(letter: bytes, number: int, key: bytes) -> bytes:
    """Keys of one document: `letter` is D or T."""
    return letter + COLLECTION.pack(number) + key


def life(letter: bytes, slot: int) -> bytes:
    """Keys of what is sealed under the key of one life: `letter` is one of S, R, B; and the beginning of those of C."""
    return letter + U64.pack(slot)


def later(slot: int, number: int) -> bytes:
    return b"C" + U64.pack(slot) + FEED.pack(number)


def operation(number: int, key: bytes, at: int, index: int) -> bytes:
    return b"O" + COLLECTION.pack(number) + key + U64.pack(at) + index.to_bytes(2, "big")


def erasure(due_ms: int, number: int, key: bytes, life: int) -> bytes:
    return b"U" + U64.pack(due_ms) + COLLECTION.pack(number) + key + FEED.pack(life)


def index(number: int, name: bytes, order: int, born: int, key: bytes) -> bytes:
    """Rows of equal order come in the order of their births (stamps)."""
    return index_prefix(number, name) + U64.pack(order) + U64.pack(born) + key


def index_prefix(number: int, name: bytes) -> bytes:
    return b"X" + COLLECTION.pack(number) + name


def change(number: int) -> bytes:
    return b"L" + U64.pack(number)


def hold(number: int) -> bytes:
    return b"H" + U64.pack(number)


def peer(device: bytes, feed_number: int) -> bytes:
    return b"P" + device + FEED.pack(feed_number)


def evidence(number: int) -> bytes:
    return b"V" + U64.pack(number)


def wanted(number: int, order: int, key: bytes) -> bytes:
    return b"Y" + COLLECTION.pack(number) + U64.pack(order) + key


def void(header_hash: bytes) -> bytes:
    return b"Q" + header_hash
