"""The header of an entry: signed in clear, so that any relay can check a feed it cannot read.

``raw = msgpack [prefix, [[item hash, item size, mark] …]]``; ``prefix`` is everything before the item list and the
associated data of every item. A header keeps the bytes it was decoded from: hash and signature are of those,
never of a second encoding, so elements that a later minor format appends survive and verify. Drawn byte by
byte in docs/format.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from aico_crdt.clock import MAX_STAMP
from aico_crdt.errors import Malformed, NotYet, TooLarge
from aico_crdt.feed.packing import pack, unpack
from aico_crdt.ids import DEVICE_BYTES, FAMILY_BYTES, HASH_BYTES, INCARNATION_BYTES, KEY_ID_BYTES, TAG_BYTES

FORMAT: Final = 1
HEADER_MAX_BYTES: Final = 512 * 1024
"""Room for a header with as many dependencies, items and erasures as the counts below allow."""
ITEM_MAX_BYTES: Final = 1024 * 1024
ENTRY_MAX_BYTES: Final = 4 * 1024 * 1024
"""An entry is unpacked whole in memory, and must fit a phone's; a longer text is several entries."""
MAX_ITEMS: Final = 1024
MAX_DEPS: Final = 1024
"""A dependency is a feed of this collection that moved: devices times incarnations, in practice below ten."""
MAX_ERASE: Final = 4096
MAX_SEQ: Final = (1 << 63) - 1
GENESIS: Final = bytes(HASH_BYTES)
"""What the first entry of a feed names as its predecessor."""
MAX_LIFE: Final = (1 << 32) - 1
"""Forgotten and born again once a second, a document lasts a century."""
MARK_BYTES: Final = 16
NO_MARK: Final = bytes(MARK_BYTES)
_DEPTH: Final = 16
_PREFIX_FIELDS: Final = 11


class FeedId(NamedTuple):
    """One writer's chain in one collection."""

    tag: bytes
    device: bytes
    incarnation: bytes


class Head(NamedTuple):
    """An entry named by its place and its header's hash, within one collection."""

    device: bytes
    incarnation: bytes
    seq: int
    hash: bytes


class Erase(NamedTuple):
    """One item of an earlier entry of this collection that a forget wants dropped, named in clear."""

    device: bytes
    incarnation: bytes
    seq: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody wants of an address
    item_hash: bytes


class ItemRef(NamedTuple):
    """What a header says of one sealed item: its hash, its size in bytes, and its mark.

    The mark (16 bytes) binds the item to one life of one document for those who hold the space's tag key, see
    `item_mark`; it is zero for what belongs to no document.
    """

    hash: bytes
    size: int
    mark: bytes = NO_MARK


@dataclass(frozen=True, slots=True)
class Header:
    """One decoded header. `raw`, `prefix` and `hash` belong together; never build one from parts of
    another."""

    format: int
    family: bytes
    tag: bytes
    device: bytes
    incarnation: bytes
    seq: int
    prev: bytes
    deps: tuple[Head, ...]
    hlc: int
    key_id: bytes
    erase: tuple[Erase, ...]
    items: tuple[ItemRef, ...]
    lacks: bool
    """Of what it depends on, its author may not have held all: stubs, or items that came erased unexplained."""
    raw: bytes
    prefix: bytes
    hash: bytes

    @property
    def feed(self) -> FeedId:
        return FeedId(self.tag, self.device, self.incarnation)

    @property
    def head(self) -> Head:
        return Head(self.device, self.incarnation, self.seq, self.hash)


def header_hash(raw: bytes) -> bytes:
    """32 bytes that name a header: what its signature covers and its successor's `prev` holds."""
    return blake2b(raw, digest_size=HASH_BYTES, person=b"aico.header.1").digest()


def encode_prefix(
    *,
    family: bytes,
    tag: bytes,
    device: bytes,
    incarnation: bytes,
    seq: int,
    prev: bytes,
    deps: Sequence[Head],
    hlc: int,
    key_id: bytes,
    erase: Sequence[Erase],
    lacks: bool = False,
) -> bytes:
    """The bytes before the item list, dependencies sorted by feed."""
    fields = [FORMAT, family, tag, device, incarnation, seq, prev, sorted(deps), hlc, key_id, erase]
    return pack([*fields, True] if lacks else fields)


def encode_header(prefix: bytes, items: Sequence[ItemRef]) -> bytes:
    """The bytes that are hashed and signed."""
    return pack([prefix, items])


def decode_header(raw: bytes) -> Header:
    """Read and check one header.

    Raises:
        NotYet: ``format``: written in a later format; keep it and its signature.
        TooLarge: longer than `HEADER_MAX_BYTES`, or more items, dependencies or erasures than allowed.
        Malformed: anything else that no author of this format writes.
    """
    outer = unpack(raw, max_bytes=HEADER_MAX_BYTES, max_depth=_DEPTH, what="A header")
    if type(outer) is not list or len(outer) < 2 or type(outer[0]) is not bytes:
        raise Malformed("A header is not a list of a prefix and items.")
    prefix, items = outer[0], outer[1]
    fields = unpack(prefix, max_bytes=HEADER_MAX_BYTES, max_depth=_DEPTH, what="A header's prefix")
    if type(fields) is not list or not fields or type(fields[0]) is not int or fields[0] < FORMAT:
        raise Malformed("A header names no format.")
    if fields[0] != FORMAT:
        raise NotYet("format", f"An entry is in format {fields[0]}.", "Upgrade aico-crdt to read it.")
    if len(fields) < _PREFIX_FIELDS:
        raise Malformed(f"A header has {len(fields)} fields; format {FORMAT} has {_PREFIX_FIELDS}.")
    _, family, tag, device, incarnation, seq, prev, deps, hlc, key_id, erase, *_ = fields
    _check_fields(family, tag, device, incarnation, seq, prev, hlc, key_id)
    return Header(
        FORMAT,
        family,
        tag,
        device,
        incarnation,
        seq,
        prev,
        _deps(deps, device, incarnation) if deps else _none(deps, "dependencies"),
        hlc,
        key_id,
        _erase(erase) if erase else _none(erase, "erasures"),
        _items(items) if items else _none(items, "items"),
        any(element is True for element in fields[_PREFIX_FIELDS : _PREFIX_FIELDS + 1]),
        raw,
        prefix,
        header_hash(raw),
    )


def make_header(
    family: bytes,
    tag: bytes,
    device: bytes,
    incarnation: bytes,
    seq: int,
    prev: bytes,
    hlc: int,
    key_id: bytes,
    items: Sequence[ItemRef],
    raw: bytes,
    prefix: bytes,
) -> Header:
    """What :func:`decode_header` makes of `raw`, which was encoded from these, neither depends nor erases, and lacks
    nothing.

    Raises:
        TooLarge, Malformed: as there.
    """
    if len(raw) > HEADER_MAX_BYTES:
        raise TooLarge(f"A header is {len(raw)} bytes long; at most {HEADER_MAX_BYTES} are accepted.")
    _check_fields(family, tag, device, incarnation, seq, prev, hlc, key_id)
    named = _items([list(item) for item in items])
    return Header(
        FORMAT, family, tag, device, incarnation, seq, prev, (), hlc, key_id, (), named, False, raw, prefix,
        header_hash(raw),
    )  # fmt: skip


def _check_fields(
    family: Any, tag: Any, device: Any, incarnation: Any, seq: Any, prev: Any, hlc: Any, key_id: Any
) -> None:
    if not (
        _is_bytes(family, FAMILY_BYTES)
        and _is_bytes(tag, TAG_BYTES)
        and _is_bytes(device, DEVICE_BYTES)
        and _is_bytes(incarnation, INCARNATION_BYTES)
        and _is_seq(seq)
        and _is_bytes(prev, HASH_BYTES)
        and type(hlc) is int
        and 0 <= hlc <= MAX_STAMP
        and _is_bytes(key_id, KEY_ID_BYTES)
    ):
        raise Malformed("A header has a field of the wrong type or length.")
    if (seq == 1) is not (prev == GENESIS):
        raise Malformed("A header's predecessor does not fit its sequence number.")


def _is_bytes(value: Any, length: int) -> bool:
    return type(value) is bytes and len(value) == length


def _is_seq(value: Any) -> bool:
    return type(value) is int and 0 < value <= MAX_SEQ


def _none(rows: Any, what: str) -> tuple[()]:
    if type(rows) is not list:
        raise Malformed(f"A header's {what} are not a list.")
    return ()


def _rows(rows: Any, width: int, most: int, what: str) -> list[list[Any]]:
    if type(rows) is not list or any(type(row) is not list or len(row) != width for row in rows):
        raise Malformed(f"A header's {what} are not rows of {width}.")
    if len(rows) > most:
        raise TooLarge(f"A header has {len(rows)} {what}; at most {most} are accepted.")
    return rows


def _deps(rows: Any, own_device: bytes, own_incarnation: bytes) -> tuple[Head, ...]:
    deps = []
    last = (b"", b"")
    for device, incarnation, seq, digest in _rows(rows, 4, MAX_DEPS, "dependencies"):
        if not (
            _is_bytes(device, DEVICE_BYTES)
            and _is_bytes(incarnation, INCARNATION_BYTES)
            and _is_seq(seq)
            and _is_bytes(digest, HASH_BYTES)
        ):
            raise Malformed("A header has a dependency that names no entry.")
        feed = (device, incarnation)
        if feed <= last or feed == (own_device, own_incarnation):
            raise Malformed("A header's dependencies are not sorted, name a feed twice, or name its own.")
        last = feed
        deps.append(Head(device, incarnation, seq, digest))
    return tuple(deps)


def _erase(rows: Any) -> tuple[Erase, ...]:
    erase = []
    for device, incarnation, seq, index, item_hash in _rows(rows, 5, MAX_ERASE, "erasures"):
        if not (
            _is_bytes(device, DEVICE_BYTES)
            and _is_bytes(incarnation, INCARNATION_BYTES)
            and _is_seq(seq)
            and type(index) is int
            and 0 <= index < MAX_ITEMS
            and _is_bytes(item_hash, HASH_BYTES)
        ):
            raise Malformed("A header erases something that names no item.")
        erase.append(Erase(device, incarnation, seq, index, item_hash))
    return tuple(erase)


def _items(rows: Any) -> tuple[ItemRef, ...]:
    items = []
    for digest, size, mark in _rows(rows, 3, MAX_ITEMS, "items"):
        if not (
            _is_bytes(digest, HASH_BYTES)
            and type(size) is int
            and 0 < size <= ITEM_MAX_BYTES
            and _is_bytes(mark, MARK_BYTES)
        ):
            raise Malformed("A header names an item without a hash, or of an impossible size or mark.")
        items.append(ItemRef(digest, size, mark))
    return tuple(items)
