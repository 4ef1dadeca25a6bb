"""The pages of an LMDB file, read without LMDB: is the B+tree whole, before the engine trusts it?

LMDB believes its page headers; a damaged one makes it crash the process or loop. This module reads the file format of
the engine's 0.9 series (`mdb.c`, "Data layout": struct MDB_page, MDB_node, MDB_meta, MDB_db) with plain file reads
and checks everything a flipped byte could change: every live page's number, flags, bounds and nodes, the order of
keys and separators, the counts in the meta page, and that every page is used exactly once or is free.
It says nothing about values: their checksums do.

Page, little-endian: number u64, pad u16, flags u16, then lower u16 and upper u16, or the length of an overflow chain
u32; then node offsets u16. Node: size low u16, size high u16, flags u16, key size u16, key, value; in a branch the
first three are the 48 bits of the child's page number. Meta, after the page header: magic u32, version u32, address
u64, map size u64, two trees (free pages, records), last page u64, transaction u64.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aico_crdt.errors import Damaged

DATA_FILE: Final = "data.mdb"
MAX_FAULTS: Final = 100
ATTEMPTS: Final = 3
_MAGIC: Final = 0xBEEFC0DE
_VERSION: Final = 1
_PAGE: Final = struct.Struct("<QHHHH")
_LENGTH: Final = struct.Struct("<I")
_NODE: Final = struct.Struct("<HHHH")
_META: Final = struct.Struct("<IIQQ")
_TREE: Final = struct.Struct("<IHHQQQQQ")
_TAIL: Final = struct.Struct("<QQ")
_U64: Final = struct.Struct("<Q")
_BRANCH: Final = 1
_LEAF: Final = 2
_OVERFLOW: Final = 4
_IS_META: Final = 8
_BIG: Final = 1
_NO_PAGE: Final = (1 << 64) - 1
_HEADER_BYTES: Final = 16
_MAX_DEPTH: Final = 32  # CURSOR_STACK in mdb.c
_SIZES: Final = frozenset(1 << shift for shift in range(9, 17))
_INTEGER_KEY: Final = 8
_RESTORE: Final = "Run `aico-crdt repair`, or restore a backup."


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree as a meta page describes it."""

    pad: int
    flags: int
    depth: int
    branches: int
    leaves: int
    overflows: int
    entries: int
    root: int


@dataclass(frozen=True, slots=True)
class Meta:
    """One of the two meta pages: a snapshot."""

    map_size: int
    page_size: int
    free: Tree
    main: Tree
    last: int
    transaction: int


def read_metas(raw: bytes) -> list[Meta]:
    """Both meta pages, from the first bytes of a file.

    Raises:
        Damaged: one of them is none.
    """
    first = _read_meta(raw, 0)
    return [first, _read_meta(raw, first.page_size)]


def read_sound_metas(raw: bytes) -> list[Meta]:
    """Those of the two meta pages that are whole, newest first, as far as their numbers can be believed."""
    found = []
    for start in [0, *sorted(_SIZES)]:
        with contextlib.suppress(Damaged):
            meta = _read_meta(raw, start)
            if start in (0, meta.page_size):
                found.append(meta)
    return sorted(found[:2], key=lambda meta: -meta.transaction)


def _read_meta(raw: bytes, start: int) -> Meta:
    try:
        number, _, flags, _, _ = _PAGE.unpack_from(raw, start)
        magic, version, _, map_size = _META.unpack_from(raw, start + _HEADER_BYTES)
        place = start + _HEADER_BYTES + _META.size
        free = Tree(*_TREE.unpack_from(raw, place))
        main = Tree(*_TREE.unpack_from(raw, place + _TREE.size))
        last, transaction = _TAIL.unpack_from(raw, place + 2 * _TREE.size)
    except struct.error:
        raise Damaged("The data file is cut short.", _RESTORE) from None
    if magic != _MAGIC or version != _VERSION or flags != _IS_META:
        raise Damaged("The data file is not an LMDB file of this format.", _RESTORE)
    if free.pad not in _SIZES or number != (start != 0) or free.flags != _INTEGER_KEY or main.flags or main.pad:
        raise Damaged("A meta page of the data file is damaged.", _RESTORE)
    return Meta(map_size, free.pad, free, main, last, transaction)


def _neighbours(metas: list[Meta]) -> bool:
    """Whether the meta pages are of two commits in a row, or of a file that has seen none."""
    a, b = metas[0].transaction, metas[1].transaction
    return abs(a - b) == 1 or a == b == 0


def check_header(directory: Path) -> None:
    """The quick look before LMDB opens a file: there, an LMDB file, long enough. Costs one read.

    Raises:
        Damaged: it is not, with what to do about it.
    """
    for attempt in range(ATTEMPTS):
        try:
            return _look(directory)
        except Damaged:
            if attempt + 1 == ATTEMPTS or not (directory / DATA_FILE).exists():
                raise
        time.sleep(0.01)  # another process may have been committing


def _look(directory: Path) -> None:
    try:
        with open(directory / DATA_FILE, "rb") as file:
            head = file.read(2 << 16)
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise Damaged("The data file is missing.", _RESTORE) from None
    metas = read_metas(head)
    newest = max(metas, key=lambda meta: meta.transaction)
    if metas[0].page_size != metas[1].page_size or not _neighbours(metas):
        raise Damaged("The meta pages of the data file contradict each other.", _RESTORE)
    # The pages at the end may be free and never written, so a file may be shorter than its last page says.
    if size < (newest.last + 1) * newest.page_size and check(directory):
        raise Damaged("The data file is cut short or damaged.", _RESTORE)


def check(directory: Path, transaction: int | None = None) -> list[str]:
    """What is wrong with the file's trees; empty when nothing is. Never raises on damage, but :class:`Overtaken`.

    Args:
        transaction: check the snapshot of that transaction, which a read transaction of the caller keeps from being
            overwritten; None for the newest, when nobody else writes.
    """
    faults: list[str] = []
    try:
        with open(directory / DATA_FILE, "rb", buffering=0) as file:
            _Walk(file.fileno(), faults).run(transaction)
    except Damaged as error:
        faults.append(error.what)
    except OSError as error:
        faults.append(f"The data file cannot be read: {os.strerror(error.errno or 5)}.")
    return faults


Range = tuple[bytes, bytes | None]
"""What lies between two keys, neither of them included. None: to the end."""


def salvage(
    directory: Path, meta: Meta, sound: Callable[[bytes, bytes], bool], lost: list[Range]
) -> Iterator[tuple[bytes, bytes]]:
    """The records of the snapshot `meta` that can be read and are `sound`, in key order. Between which of them others
    were is added to `lost`. Pages that are free are not looked at, whatever leads to them: they hold what was."""
    with open(directory / DATA_FILE, "rb", buffering=0) as file:
        yield from _Walk(file.fileno(), [], lost).records(meta, sound)


class Overtaken(Exception):
    """Two commits came between the taking of a snapshot and the look at its meta page: take a newer one."""


class _Full(Exception):
    """Enough faults."""


class _Walk:
    """One pass over one snapshot."""

    def __init__(self, descriptor: int, faults: list[str], lost: list[Range] | None = None) -> None:
        self._file = descriptor
        self._faults = faults
        self._lost = lost
        self._size = os.fstat(descriptor).st_size
        self._page_size = 0
        self._used = bytearray()
        self._counts = [0, 0, 0, 0]

    def _fault(self, page: int, what: str) -> None:
        self._faults.append(f"Page {page}: {what}.")
        if len(self._faults) >= MAX_FAULTS and self._lost is None:
            raise _Full

    def run(self, transaction: int | None) -> None:
        if sys.byteorder != "little":
            return  # the format is the machine's own; no big-endian machine is supported yet
        metas = read_metas(os.pread(self._file, 2 << 16, 0))
        meta = self._choose(metas, transaction)
        self._page_size = meta.page_size
        if meta.last < 1 or meta.last > self._size // meta.page_size + (1 << 20):
            self._faults.append("The meta page names a last page far beyond the file.")
            return
        self._used = bytearray(meta.last + 1)
        self._used[0] = self._used[1] = 1
        try:
            self._tree(meta.main, "records", integers=False)
            free = list(self._tree(meta.free, "free pages", integers=True))
            self._free(free, meta)
        except _Full:
            return

    def records(self, meta: Meta, sound: Callable[[bytes, bytes], bool]) -> Iterator[tuple[bytes, bytes]]:
        """See :func:`salvage`."""
        assert self._lost is not None
        self._page_size = meta.page_size
        pages = min(meta.last + 1, self._size // meta.page_size + 1)
        self._used = bytearray(pages)
        self._used[:2] = b"\1\1"
        with contextlib.suppress(_Full):
            for key, value in list(self._tree(meta.free, "free pages", integers=True)):
                for (page,) in _U64.iter_unpack(value[8 : len(value) // 8 * 8]):
                    if len(key) == 8 and 2 <= page < pages:
                        self._used[page] = 1
        self._lost.clear()
        self._faults.clear()
        if meta.main.root == _NO_PAGE or not 0 < meta.main.depth <= _MAX_DEPTH:
            self._lost += [(b"", None)] if meta.main.entries else []
            return
        self._counts = [0, 0, 0, 0]
        last, gap = b"", False
        for key, value in self._node(meta.main.root, meta.main.depth, None, None, integers=False):
            if key <= last or not sound(key, value):
                gap = True
                continue
            if gap:
                self._lost.append((last, key))
            last, gap = key, False
            yield key, value
        if gap:
            self._lost.append((last, None))

    def _lose(self) -> Iterator[tuple[bytes, bytes]]:
        """A page cannot be read: a mark in the place of its records, for who salvages."""
        if self._lost is not None:
            yield b"", b""

    def _choose(self, metas: list[Meta], transaction: int | None) -> Meta:
        if metas[0].page_size != metas[1].page_size:
            raise Damaged("The meta pages name different page sizes.")
        if transaction is not None:
            for meta in metas:
                if meta.transaction == transaction:
                    return meta
            if all(meta.transaction > transaction for meta in metas):
                raise Overtaken
            raise Damaged("The meta page of the present snapshot is not in the file.")
        newest = max(metas, key=lambda meta: meta.transaction)
        # Commit n writes meta page n modulo 2, so the two always hold neighbouring numbers.
        if not _neighbours(metas) or metas[newest.transaction & 1] is not newest:
            raise Damaged("The transaction numbers of the meta pages contradict each other.")
        return newest

    def _tree(self, tree: Tree, name: str, *, integers: bool) -> list[tuple[bytes, bytes]]:
        """Walk one tree; the values of the free tree are returned, those of the record tree are not looked at."""
        if tree.root == _NO_PAGE:
            if tree.entries or tree.depth or tree.branches or tree.leaves or tree.overflows:
                self._faults.append(f"The tree of {name} has no root but is not empty.")
            return []
        if not 0 < tree.depth <= _MAX_DEPTH:
            self._faults.append(f"The tree of {name} has an impossible depth.")
            return []
        self._counts = [0, 0, 0, 0]
        found: list[tuple[bytes, bytes]] = []
        before: bytes | None = None
        for key, value in self._node(tree.root, tree.depth, None, None, integers=integers):
            if before is not None and not self._less(before, key, integers):
                self._faults.append(f"The keys of {name} are out of order.")
                break
            before = key
            if integers:
                found.append((key, value))
        if self._counts != [tree.branches, tree.leaves, tree.overflows, tree.entries]:
            self._faults.append(f"The tree of {name} does not have as many pages or records as its meta page says.")
        return found

    @staticmethod
    def _less(a: bytes, b: bytes, integers: bool) -> bool:
        return int.from_bytes(a, "little") < int.from_bytes(b, "little") if integers else a < b

    def _take(self, page: int, count: int = 1) -> bool:
        """Mark pages as used; False and a fault when one is out of range or used already."""
        if page < 2 or page + count > len(self._used) or (page + count) * self._page_size > self._size:
            self._fault(page, "lies outside the file")
            return False
        if any(self._used[page : page + count]):
            self._fault(page, "is used twice")
            return False
        self._used[page : page + count] = b"\1" * count
        return True

    def _node(
        self, page: int, depth: int, low: bytes | None, high: bytes | None, *, integers: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of every record below `page`; keys lie in [`low`, `high`)."""
        if not self._take(page):
            yield from self._lose()
            return
        raw = os.pread(self._file, self._page_size, page * self._page_size)
        number, _, flags, lower, upper = _PAGE.unpack_from(raw)
        wanted = _LEAF if depth == 1 else _BRANCH
        if number != page or flags != wanted:
            self._fault(page, "has the wrong number or kind")
            yield from self._lose()
            return
        if not _HEADER_BYTES < lower <= upper <= self._page_size or lower % 2:
            self._fault(page, "has impossible bounds")
            yield from self._lose()
            return
        nodes = self._nodes(page, raw, lower, upper, branch=depth > 1)
        if nodes is None:
            yield from self._lose()
            return
        if depth > 1:
            self._counts[0] += 1
            for place, (key, child, _) in enumerate(nodes):
                start = low if place == 0 else key
                end = nodes[place + 1][0] if place + 1 < len(nodes) else high
                if start is not None and end is not None and not self._less(start, end, integers):
                    self._fault(page, "has separators out of order")
                    yield from self._lose()
                    return
                yield from self._node(child, depth - 1, start, end, integers=integers)
            return
        self._counts[1] += 1
        for key, at, size in nodes:
            self._counts[3] += 1
            below = low is not None and self._less(key, low, integers)
            if below or (high is not None and not self._less(key, high, integers)):
                self._fault(page, "holds a key that its parents do not lead to")
                yield from self._lose()
                return
            if size >= 0:
                yield key, raw[at : at + size] if integers or self._lost is not None else b""
                continue
            value = self._overflow(page, _U64.unpack_from(raw, at)[0], -size, wanted=integers or self._lost is not None)
            yield key, value

    def _overflow(self, owner: int, page: int, size: int, *, wanted: bool) -> bytes:
        count = (_HEADER_BYTES + size - 1) // self._page_size + 1
        if not self._take(page, count):
            return b""
        self._counts[2] += count
        head = os.pread(self._file, _HEADER_BYTES, page * self._page_size)
        number, _, flags, _, _ = _PAGE.unpack_from(head)
        if number != page or flags != _OVERFLOW or _LENGTH.unpack_from(head, 12)[0] != count:
            self._fault(page, f"is not the long value that page {owner} names")
            return b""
        return os.pread(self._file, size, page * self._page_size + _HEADER_BYTES) if wanted else b""

    def _nodes(
        self, page: int, raw: bytes, lower: int, upper: int, *, branch: bool
    ) -> list[tuple[bytes, int, int]] | None:
        """Per node (key, child page, 0) of a branch, or (key, offset of the value, its size) of a leaf, the size
        negative when the value lies on overflow pages. None after a fault."""
        found, extents = [], []
        for slot in range(_HEADER_BYTES, lower, 2):
            at = raw[slot] | raw[slot + 1] << 8
            if at < upper or at + _NODE.size > self._page_size or at % 2:
                self._fault(page, "has a node outside its bounds")
                return None
            size_low, size_high, flags, key_size = _NODE.unpack_from(raw, at)
            body = at + _NODE.size
            key = raw[body : body + key_size]
            if branch:
                child = size_low | size_high << 16 | flags << 32
                length = _NODE.size + key_size
                found.append((key, child, 0))
            else:
                size = size_low | size_high << 16
                big = flags == _BIG
                if flags not in (0, _BIG):
                    self._fault(page, "has a node of an unknown kind")
                    return None
                length = _NODE.size + key_size + (8 if big else size)
                found.append((key, body + key_size, -size if big else size))
            length += length & 1
            extents.append((at, length))
        # Deleting a node closes its gap, so nodes fill the page from `upper` to its end exactly.
        at = upper
        for start, length in sorted(extents):
            if start != at:
                self._fault(page, "has nodes that overlap or leave a gap")
                return None
            at += length
        if at != self._page_size:
            self._fault(page, "has nodes that overlap or leave a gap")
            return None
        return found

    def _free(self, records: list[tuple[bytes, bytes]], meta: Meta) -> None:
        """The lists of free pages: in descending order, of no live page, and together with the live ones all."""
        for key, value in records:
            count = _U64.unpack_from(value)[0] if len(value) >= 8 else -1
            if len(key) != 8 or not 0 <= count <= len(value) // 8 - 1 or _U64.unpack(key)[0] > meta.transaction:
                self._faults.append("A list of free pages is damaged.")
                return
            before = 1 << 64
            for (page,) in _U64.iter_unpack(value[8 : 8 + 8 * count]):
                if page >= before or page >= len(self._used) or page < 2:
                    self._faults.append("A list of free pages is out of order.")
                    return
                if self._used[page]:
                    self._fault(page, "is free and in use")
                self._used[page] = 1
                before = page
        if (lost := self._used.count(0)) and not self._faults:
            self._faults.append(f"{lost} pages are neither in use nor free.")
