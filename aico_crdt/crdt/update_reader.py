"""One suspicious pass over a Yjs v1 update.

Layout (github.com/yjs/yjs, ``UpdateDecoderV1``; integers are lib0 varuints)::

    update  = clients, client*            deletes, clients, deleted*
    client  = structs, client id, clock,  struct*           clocks count on from struct to struct
    struct  = 0 (GC), length
            | info, [left id], [right id], [parent], [parent_sub], content
    info    = content ref | 0x80 left origin | 0x40 right origin | 0x20 parent_sub
    parent  = 1, root name | 0, id        only without origins: with one, parent and key are inherited from it
    id      = client id, clock
    deleted = client id, ranges, (clock, length)*

=====  =========  =============================================  ===================================
ref    content    bytes                                          length in clocks
=====  =========  =============================================  ===================================
1      deleted    length                                         as stated
3      binary     varstring, any bytes                           1
4      string     varstring                                      UTF-16 code units
5      embed      varstring of JSON                              1
6      format     key, varstring of JSON                         1
7      type       0 array, 1 map, 2 text, 3 XML element + name,  1
                  4 XML fragment, 6 XML text
8      any        count, Any*                                    count
=====  =========  =============================================  ===================================

Refused although Yjs knows them: 2 (JSON: obsolete, and Yrs 0.28 reads one string too many, so no two readers
agree on it), 9 (subdocuments), 10 (Skip: a hole), 11 (move), XML hooks (Yrs and Yjs disagree on their bytes),
weak links.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aico_crdt.crdt.lib0 import check_json, decode, read_string, read_varuint, skip_any, utf16_length
from aico_crdt.crdt.struct_graph import DELETED, GC, TYPE, Graph, Id, Link, Run
from aico_crdt.errors import Malformed, NotAllowed, TooLarge

BINARY: Final = 3
STRING: Final = 4
EMBED: Final = 5
FORMAT: Final = 6
ANY: Final = 8
MAX_CLIENTS: Final = 1 << 16
MAX_CLOCK: Final = (1 << 31) - 1
"""Yrs keeps clocks in 32 bits, drops what is above without a word, and subtracts them as signed."""
WIDE_CLOCK: Final = "A clock has more bits than Yrs counts in."

LEFT: Final = 0x80
RIGHT: Final = 0x40
_ORIGINS: Final = LEFT | RIGHT
KEY: Final = 0x20
CONTENT: Final = 0x1F
_XML_ELEMENT: Final = 3
_NAMELESS_TYPES: Final = frozenset((0, 1, 2, 4, 6))


class UpdateReader:
    """Reads one update from front to back: :meth:`read_structs`, then :meth:`read_deletes`.

    Positions are handed along; what is found is kept here, under the names that
    :class:`~aico_crdt.crdt.walker.Walked` explains. Past the end it raises `IndexError`.
    """

    __slots__ = (
        "author",
        "contents",
        "count",
        "cuts",
        "data",
        "gc",
        "graph",
        "inherits",
        "intrudes",
        "keys",
        "known",
        "lists",
        "max_depth",
        "max_structs",
        "named",
        "needs",
        "nested",
        "overlap",
        "pairs",
        "rights",
        "roots",
        "unkeyed",
    )

    def __init__(
        self,
        data: bytes,
        known: Mapping[int, int],
        author: int | None,
        overlap: bool,
        max_structs: int,
        max_depth: int,
    ) -> None:
        self.data = data
        self.known = known
        self.author = author
        self.overlap = overlap
        self.max_structs = max_structs
        self.max_depth = max_depth
        self.keys: list[str] = []
        self.roots: set[str] = set()
        self.gc = 0
        self.inherits: list[Id] = []
        self.contents: set[int] = set()
        self.unkeyed = 0
        self.nested = 0
        self.rights = 0
        self.lists = 0
        self.cuts: list[Id] = []
        self.pairs: list[Id] = []
        self.intrudes = False
        self.count = 0
        self.named: set[tuple[str, str]] = set()
        self.needs: dict[int, int] = {}
        self.graph = Graph(known)

    def read_structs(self) -> int:
        """Reads the first half; the position of the delete set."""
        data = self.data
        clients, i = read_varuint(data, 0)
        if clients * 5 > len(data) - i:  # count, client, clock, and the shortest struct
            raise Malformed("An update states more clients than it has bytes for.")
        if clients > MAX_CLIENTS:
            raise TooLarge(f"An update has structs of {clients} clients, {MAX_CLIENTS} are accepted.")
        for _ in range(clients):
            i = self._read_client(i)
        self.graph.check(self.max_depth)
        return i

    def _read_client(self, i: int) -> int:
        data = self.data
        structs, i = read_varuint(data, i)
        before = i
        client, i = read_varuint(data, i)
        own = data[before:i]  # integers have one spelling, so an id of this client starts with these bytes
        first, i = read_varuint(data, i)
        if self.author is not None and client != self.author:
            raise NotAllowed("An update has structs of a client that is not its author's.")
        if client in self.graph.inserted:
            raise Malformed("An update has two runs of structs of one client.")
        if structs == 0 or structs * 2 > len(data) - i:
            raise Malformed("An update states more structs than it has bytes for, or none.")
        self.count += structs
        if self.count > self.max_structs:
            raise TooLarge(f"An update has {self.count} structs, {self.max_structs} are accepted.")
        if first > MAX_CLOCK:
            raise Malformed(WIDE_CLOCK)
        base = self.known.get(client, 0)
        if first > base:
            self._need(client, first)
        if first < base and not self.overlap:
            raise Malformed(f"An update begins at clock {first}, which is taken: known is {base}.")

        run = self.graph.runs[client] = Run()
        clock = first
        for _ in range(structs):
            info = data[i]
            i, length = self._read_struct(i, client, clock, own, run)
            if length == 0:
                raise Malformed("A struct of no length.")
            if info & KEY and any(origin[0] != client for origin, _ in run.links[-1]):
                self.intrudes = True
            if clock < base < clock + length:
                self.cuts.append((client, base))
            clock += length
            if clock > MAX_CLOCK:
                raise Malformed(WIDE_CLOCK)
        self.graph.inserted[client] = (first, clock)
        return i

    def _read_struct(self, i: int, client: int, clock: int, own: bytes, run: Run) -> tuple[int, int]:
        """The position after the struct at `i`, and its length in clocks."""
        data = self.data
        info = data[i]
        i += 1
        ref = info & CONTENT
        run.starts.append(clock)
        run.refs.append(ref)
        link: Link = ()
        if info == GC:
            self.gc += 1
            run.links.append(link)
            length, i = read_varuint(data, i)
            return i, length
        if info & _ORIGINS:
            if info & LEFT:
                left, i = self._read_id(i, client, clock, own)
                self.cuts.append((left[0], left[1] + 1))
                link = ((left, 0),)
            if info & RIGHT:
                right, i = self._read_id(i, client, clock, own)
                self.cuts.append(right)
                self.rights += 1
                if link and link[0][0] == right:
                    raise Malformed("A struct is placed before and after the same element.")
                link = (*link, (right, 0))
        else:
            named = data[i]
            i += 1
            if named == 1:
                root, i = read_string(data, i)
                self.roots.add(root)
                if info & KEY:
                    key, i = read_string(data, i)
                    self.keys.append(key)
                    if self.author is not None:  # a later write of a key has its earlier one as origin
                        if (root, key) in self.named:
                            raise Malformed("An update begins the same key twice.")
                        self.named.add((root, key))
                else:
                    self.unkeyed += 1
            elif named == 0:
                parent, i = self._read_id(i, client, clock, own, origin=False)
                self.graph.parents.append(parent)
                self.nested += 1
                link = ((parent, 1),)
                if info & KEY:
                    _, i = read_string(data, i)
            else:
                raise Malformed("A parent is neither a name nor an id.")
        run.links.append(link)
        self.contents.add(ref)
        if ref == ANY:
            length, i = read_varuint(data, i)
            if length > len(data) - i:
                raise Malformed("A count is larger than what is left of the update.")
            if length > 1:
                self.lists += 1
            for _ in range(length):
                i = skip_any(data, i, self.max_depth)
            return i, length
        if ref == STRING:
            size, i = read_varuint(data, i)
            end = i + size
            if end > len(data):
                raise Malformed("A string is longer than what is left of the update.")
            chunk = data[i:end]
            return end, size if chunk.isascii() else self._measure(decode(chunk), client, clock)
        return self._read_other(i, ref)

    def _read_other(self, i: int, ref: int) -> tuple[int, int]:
        """The rarer contents: position and length."""
        data = self.data
        if ref == DELETED:
            length, i = read_varuint(data, i)
            return i, length
        if ref == TYPE:
            self.graph.types += 1
            kind = data[i]
            i += 1
            if kind == _XML_ELEMENT:
                _, i = read_string(data, i)
            elif kind not in _NAMELESS_TYPES:
                raise Malformed("A shared type of a kind that is not accepted.")
            return i, 1
        if ref == FORMAT:
            _, i = read_string(data, i)
        elif ref == BINARY:
            size, i = read_varuint(data, i)
            if size > len(data) - i:
                raise Malformed("A content is longer than what is left of the update.")
            return i + size, 1
        elif ref != EMBED:
            raise Malformed("A struct with content that is not accepted: JSON, subdocument, hole, move, unknown.")
        text, i = read_string(data, i)
        check_json(text, self.max_depth)
        return i, 1

    def _read_id(self, i: int, client: int, clock: int, own: bytes, *, origin: bool = True) -> tuple[Id, int]:
        """The id that a struct at (`client`, `clock`) refers to, and the position after it."""
        data = self.data
        if data.startswith(own, i):
            target, i = read_varuint(data, i + len(own))
            if target >= clock:  # Yrs would take it for a collected item, and the struct for garbage
                raise Malformed("A struct refers to itself or to a later struct of its client.")
            return (client, target), i
        other, i = read_varuint(data, i)
        target, i = read_varuint(data, i)
        if target >= self.known.get(other, 0):
            if target > MAX_CLOCK:
                raise Malformed(WIDE_CLOCK)
            if self.author is not None:
                self._need(other, target + 1)
                return (other, target), i
            self.graph.waits.setdefault(client, []).append((clock, other, target))
        if origin:
            self.inherits.append((other, target))
        return (other, target), i

    def _need(self, client: int, end: int) -> None:
        """Note that the document must know `client` up to `end`. What is broken further on is refused for good."""
        self.needs[client] = max(end, self.needs.get(client, 0))

    def _measure(self, text: str, client: int, clock: int) -> int:
        length = utf16_length(text)
        if length > len(text):
            for character in text:
                if character > "\uffff":
                    self.pairs.append((client, clock + 1))
                    clock += 1
                clock += 1
        return length

    def read_deletes(self, i: int) -> tuple[tuple[tuple[int, int, int], ...], int]:
        """The second half: the delete ranges and the position after them."""
        data = self.data
        clients, i = read_varuint(data, i)
        if clients * 4 > len(data) - i:
            raise Malformed("A delete set states more clients than it has bytes for.")
        if clients > MAX_CLIENTS:
            raise TooLarge(f"A delete set names {clients} clients, {MAX_CLIENTS} are accepted.")
        deleted: list[tuple[int, int, int]] = []
        seen: set[int] = set()
        for _ in range(clients):
            client, i = read_varuint(data, i)
            ranges, i = read_varuint(data, i)
            if client in seen:
                raise Malformed("A delete set names a client twice.")
            seen.add(client)
            if ranges == 0 or ranges * 2 > len(data) - i:
                raise Malformed("A delete set states more ranges than it has bytes for, or none.")
            self.count += ranges
            if self.count > self.max_structs:
                raise TooLarge(f"An update has {self.count} structs and ranges; {self.max_structs} are taken.")
            limit = max(self.known.get(client, 0), self.graph.inserted.get(client, (0, 0))[1])
            last = 0
            for _ in range(ranges):
                clock, i = read_varuint(data, i)
                length, i = read_varuint(data, i)
                if length == 0 or clock < last:
                    raise Malformed("Delete ranges are empty, overlap, or are out of order.")
                last = clock + length
                if last > MAX_CLOCK:
                    raise Malformed(WIDE_CLOCK)
                if last > limit:
                    self._need(client, last)
                deleted.append((client, clock, length))
                self.cuts.append((client, clock))
                self.cuts.append((client, last))
        return tuple(deleted), i
