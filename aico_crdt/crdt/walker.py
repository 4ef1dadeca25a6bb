"""The walker: reads a Yjs v1 update completely, in Python, before Yrs sees a byte of it.

Yrs believes what it is told: counts, clocks, client ids, UTF-8. Here nothing is believed (docs/hazards.md, 1 to 6).
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

Refused although Yjs knows them: 2 (JSON: obsolete, and Yrs 0.28 reads one string too many, so no two readers agree on
it), 9 (subdocuments), 10 (Skip: a hole), 11 (move), XML hooks (Yrs and Yjs disagree on their bytes), weak links.

What cannot be seen here: what *kind* of item a clock of the document holds. A parent that is no type passes, and Yrs
stumbles over it halfway; so whoever applies an update still compares the state vector with :meth:`Walked.after`,
encodes the state once, and throws the document away when either fails.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final

from aico_crdt.crdt.lib0 import check_json, decode, read_string, read_varuint, skip_any, utf16_length, write_varuint
from aico_crdt.errors import Malformed, NotAllowed, NotYet, TooLarge

MAX_BYTES: Final = 1 << 20
MAX_STRUCTS: Final = 1 << 17
"""Structs and delete ranges of one update; a text document of 1 MB edited letter by letter has about so many."""
MAX_DEPTH: Final = 64
MAX_CLIENTS: Final = 1 << 16
MAX_CLOCK: Final = (1 << 31) - 1
"""Yrs keeps clocks in 32 bits, drops what is above without a word, and subtracts them as signed."""

_Link = tuple[tuple[tuple[int, int], int], ...]
"""Ids a struct hangs on, each with the levels of nesting that this adds: 1 for a parent, 0 for an origin."""

DELETED: Final = 1
BINARY: Final = 3
STRING: Final = 4
EMBED: Final = 5
FORMAT: Final = 6
TYPE: Final = 7
ANY: Final = 8
_WIDE_CLOCK: Final = "A clock has more bits than Yrs counts in."


@dataclass(frozen=True, slots=True)
class Walked:
    """What an update says, and what it needs.

    Attributes:
        inserted: client → (first clock, end clock) of its structs.
        deleted: (client, clock, length) of each delete range, in order.
        keys: the map keys set in root types, in order.
        roots: names of the root types referred to.
        gc: number of GC structs.
        inherits: (client, clock) of every origin that is a struct of another client than the item itself. An item
            with an origin takes its parent *and its map key* from there, so where keys tell who wrote, this is empty.
            An item whose origins are its own client's stays under keys which that client has named itself.
        contents: the content refs used (:data:`ANY` …); a document that holds plain values wants {1, 8} at most.
        unkeyed: number of items put into a root type without a key: elements of a text or an array.
        nested: number of items put into a type that is itself an item.
        cuts: (client, clock) before which the update needs a string to be cut: next to its origins and delete ranges.
        pairs: (client, clock) of the second half of every surrogate pair in its strings. A cut there makes Yrs encode
            a state that other replicas read differently, while all state vectors agree. Within the update it is
            refused here; a text document compares `cuts` with the pairs of its own state (:func:`pairs_of`).
    """

    inserted: Mapping[int, tuple[int, int]]
    deleted: tuple[tuple[int, int, int], ...]
    keys: tuple[str, ...]
    roots: frozenset[str]
    gc: int
    inherits: tuple[tuple[int, int], ...]
    contents: frozenset[int]
    unkeyed: int
    nested: int
    cuts: frozenset[tuple[int, int]]
    pairs: frozenset[tuple[int, int]]

    def after(self, known: Mapping[int, int]) -> dict[int, int]:
        """The state vector a document at `known` has once this update is applied."""
        state = dict(known)
        for client, (_, end) in self.inserted.items():
            if end > state.get(client, 0):
                state[client] = end
        return state


def walk(
    update: bytes,
    known: Mapping[int, int],
    author: int | None,
    *,
    overlap: bool = False,
    max_bytes: int = MAX_BYTES,
    max_structs: int = MAX_STRUCTS,
    max_depth: int = MAX_DEPTH,
) -> Walked:
    """Checks the whole of `update` against a document's state vector.

    Args:
        update: Yjs v1 bytes.
        known: client → next clock, of the document it is meant for.
        author: the only client that may insert; None for an attested whole state.
        overlap: structs may begin below the known clocks (what is known already is passed over by Yrs).

    Raises:
        Malformed: never valid: broken bytes, clocks taken before, a length of 0, content that is refused.
        TooLarge: above `max_bytes`, `max_structs` (delete ranges included), `max_depth` or the caps of this module.
        NotAllowed: structs of another client than `author`.
        NotYet: ``"clock"``: continues, refers to or deletes clocks that are not known yet.
    """
    return _scan(update, known, author, overlap, max_bytes, max_structs, max_depth)[0]


def without_deletes(update: bytes, client: int, clock: int) -> bytes:
    """`update` with every delete of `client`'s clocks at or above `clock` cut out; the rest byte by byte the same.

    For refolding past a fork: deletes of what the losing branch wrote must not strike the winner's clocks.

    Raises:
        Malformed: `update` is broken; it is meant to have passed :func:`walk`.
    """
    walked, start = _scan(update, _AllKnown(), None, True, len(update), len(update), MAX_DEPTH)
    ranges: dict[int, list[tuple[int, int]]] = {}
    for owner, first, length in walked.deleted:
        if owner == client:
            length = min(length, clock - first)
        if length > 0:
            ranges.setdefault(owner, []).append((first, length))
    out = [update[:start], write_varuint(len(ranges))]
    for owner, kept in ranges.items():
        out += (write_varuint(owner), write_varuint(len(kept)))
        for first, length in kept:
            out += (write_varuint(first), write_varuint(length))
    return b"".join(out)


def decode_state_vector(data: bytes, max_clients: int = MAX_CLIENTS) -> dict[int, int]:
    """Client → next clock, from an encoded state vector: varuint count, then (client id, clock) each.

    Raises:
        Malformed: a count above what is left, a client twice, a clock beyond 31 bits, bytes after the end.
        TooLarge: more than `max_clients`.
    """
    state: dict[int, int] = {}
    try:
        count, i = read_varuint(data, 0)
        if count * 2 > len(data) - i:
            raise Malformed("A state vector states more clients than it has bytes for.")
        if count > max_clients:
            raise TooLarge(f"A state vector names {count} clients, {max_clients} are accepted.")
        for _ in range(count):
            client, i = read_varuint(data, i)
            clock, i = read_varuint(data, i)
            if client in state:
                raise Malformed("A state vector names a client twice.")
            if clock > MAX_CLOCK:
                raise Malformed(_WIDE_CLOCK)
            state[client] = clock
    except IndexError:
        raise Malformed("A state vector ends in the middle.") from None
    if i != len(data):
        raise Malformed("A state vector has bytes after its end.")
    return state


def encode_state_vector(state: Mapping[int, int]) -> bytes:
    """The inverse of :func:`decode_state_vector`; clients in ascending order."""
    out = [write_varuint(len(state))]
    for client in sorted(state):
        out += (write_varuint(client), write_varuint(state[client]))
    return b"".join(out)


def pairs_of(state: bytes) -> frozenset[tuple[int, int]]:
    """Where the strings of a document's encoded state must not be cut; see :attr:`Walked.pairs`.

    Raises:
        Malformed: `state` is broken.
    """
    return _scan(state, {}, None, False, len(state), len(state), MAX_DEPTH)[0].pairs


class _AllKnown(dict[int, int]):
    """A state vector that knows every clock."""

    def get(self, key: int, default: int = 0, /) -> int:  # type: ignore[override]
        return MAX_CLOCK


def _scan(
    update: bytes,
    known: Mapping[int, int],
    author: int | None,
    overlap: bool,
    max_bytes: int,
    max_structs: int,
    max_depth: int,
) -> tuple[Walked, int]:
    """What :func:`walk` returns, and the position of the delete set."""
    if len(update) > max_bytes:
        raise TooLarge(f"An update has {len(update)} bytes, {max_bytes} are accepted.")
    reader = _Reader(update, known, author, overlap, max_structs, max_depth)
    try:
        start = reader.read_structs()
        reader.check_structs()
        deleted, end = reader.read_deletes(start)
    except IndexError:
        raise Malformed("An update ends in the middle.") from None
    if end != len(update):
        raise Malformed("An update has bytes after its end.")
    cuts = frozenset(reader.cuts)
    pairs = frozenset(reader.pairs)
    if pairs and not pairs.isdisjoint(cuts):
        raise Malformed("An update cuts a surrogate pair in two.")
    walked = Walked(
        reader.inserted,
        deleted,
        tuple(reader.keys),
        frozenset(reader.roots),
        reader.gc,
        tuple(reader.inherits),
        frozenset(reader.contents),
        reader.unkeyed,
        reader.nested,
        cuts,
        pairs,
    )
    return walked, start


class _Run:
    """The structs of one client, by number: where each starts, what it is, and the ids it hangs on."""

    __slots__ = ("links", "refs", "starts")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.refs: list[int] = []
        self.links: list[_Link] = []

    def at(self, clock: int) -> int:
        """The number of the struct that holds `clock`."""
        return bisect_right(self.starts, clock) - 1


class _Reader:
    """One pass over one update. Positions are passed along in locals; what is found is kept here."""

    __slots__ = (
        "author",
        "contents",
        "count",
        "cuts",
        "data",
        "gc",
        "inherits",
        "inserted",
        "keys",
        "known",
        "max_depth",
        "max_structs",
        "nested",
        "overlap",
        "pairs",
        "parents",
        "roots",
        "runs",
        "types",
        "unkeyed",
        "waits",
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
        self.inserted: dict[int, tuple[int, int]] = {}
        self.keys: list[str] = []
        self.roots: set[str] = set()
        self.gc = 0
        self.inherits: list[tuple[int, int]] = []
        self.contents: set[int] = set()
        self.unkeyed = 0
        self.nested = 0
        self.cuts: list[tuple[int, int]] = []
        self.pairs: list[tuple[int, int]] = []
        self.count = 0
        self.types = 0
        self.runs: dict[int, _Run] = {}
        self.parents: list[tuple[int, int]] = []
        self.waits: dict[int, list[tuple[int, int, int]]] = {}

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
        if client in self.inserted:
            raise Malformed("An update has two runs of structs of one client.")
        if structs == 0 or structs * 2 > len(data) - i:
            raise Malformed("An update states more structs than it has bytes for, or none.")
        self.count += structs
        if self.count > self.max_structs:
            raise TooLarge(f"An update has {self.count} structs, {self.max_structs} are accepted.")
        if first > MAX_CLOCK:
            raise Malformed(_WIDE_CLOCK)
        base = self.known.get(client, 0)
        if first > base:
            raise NotYet("clock", f"An update continues at clock {first}, known is {base}.")
        if first < base and not self.overlap:
            raise Malformed(f"An update begins at clock {first}, which is taken: known is {base}.")

        run = self.runs[client] = _Run()
        clock = first
        for _ in range(structs):
            i, length = self._read_struct(i, client, clock, own, run)
            if length == 0:
                raise Malformed("A struct of no length.")
            if clock < base < clock + length:
                self.cuts.append((client, base))
            clock += length
            if clock > MAX_CLOCK:
                raise Malformed(_WIDE_CLOCK)
        self.inserted[client] = (first, clock)
        return i

    def _read_struct(self, i: int, client: int, clock: int, own: bytes, run: _Run) -> tuple[int, int]:
        """The position after the struct at `i`, and its length in clocks."""
        data = self.data
        info = data[i]
        i += 1
        ref = info & 31
        run.starts.append(clock)
        run.refs.append(ref)
        link: _Link = ()
        if info == 0:
            self.gc += 1
            run.links.append(link)
            length, i = read_varuint(data, i)
            return i, length
        if info & 192:
            if info & 128:
                left, i = self._read_id(i, client, clock, own)
                self.cuts.append((left[0], left[1] + 1))
                link = ((left, 0),)
            if info & 64:
                right, i = self._read_id(i, client, clock, own)
                self.cuts.append(right)
                link = (*link, (right, 0))
        else:
            named = data[i]
            i += 1
            if named == 1:
                root, i = read_string(data, i)
                self.roots.add(root)
                if info & 32:
                    key, i = read_string(data, i)
                    self.keys.append(key)
                else:
                    self.unkeyed += 1
            elif named == 0:
                parent, i = self._read_id(i, client, clock, own, origin=False)
                self.parents.append(parent)
                self.nested += 1
                link = ((parent, 1),)
                if info & 32:
                    _, i = read_string(data, i)
            else:
                raise Malformed("A parent is neither a name nor an id.")
        run.links.append(link)
        self.contents.add(ref)
        if ref == ANY:
            length, i = read_varuint(data, i)
            if length > len(data) - i:
                raise Malformed("A count is larger than what is left of the update.")
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
            self.types += 1
            kind = data[i]
            i += 1
            if kind == 3:
                _, i = read_string(data, i)
            elif kind not in (0, 1, 2, 4, 6):
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
            raise Malformed("A struct with content that is not accepted (JSON, subdocument, hole, move or unknown).")
        text, i = read_string(data, i)
        check_json(text, self.max_depth)
        return i, 1

    def _read_id(
        self, i: int, client: int, clock: int, own: bytes, *, origin: bool = True
    ) -> tuple[tuple[int, int], int]:
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
                raise Malformed(_WIDE_CLOCK)
            if self.author is not None:
                raise NotYet("clock", f"An update refers to clock {target} of a client not known so far.")
            self.waits.setdefault(client, []).append((clock, other, target))
        if origin:
            self.inherits.append((other, target))
        return (other, target), i

    def _measure(self, text: str, client: int, clock: int) -> int:
        length = utf16_length(text)
        if length > len(text):
            for character in text:
                if character > "\uffff":
                    self.pairs.append((client, clock + 1))
                    clock += 1
                clock += 1
        return length

    def check_structs(self) -> None:
        """What can be told only with all structs read."""
        if self.waits:
            self._check_order()
        for client, clock in self.parents:
            if self._is_fresh(client, clock):
                run = self.runs[client]
                if run.refs[run.at(clock)] not in (0, DELETED, TYPE):
                    raise Malformed("A parent is not a shared type.")
        if self.types > self.max_depth:
            self._check_depth()

    def _is_fresh(self, client: int, clock: int) -> bool:
        """Whether this update, and not the document, says what is at `clock`."""
        return self.known.get(client, 0) <= clock < self.inserted.get(client, (0, 0))[1]

    def _check_order(self) -> None:
        """That the runs of several clients can be integrated one after another: no missing struct and no circle.

        Each run advances to its next reference to clocks that are not there yet, and is woken when they are.
        """
        done = {client: self.known.get(client, 0) for client in self.inserted}
        position = dict.fromkeys(self.waits, 0)
        sleepers: dict[int, list[tuple[int, int]]] = {}
        awake = list(self.inserted)
        while awake:
            client = awake.pop()
            waits = self.waits.get(client, ())
            at = position.get(client, 0)
            while at < len(waits):
                clock, other, target = waits[at]
                if target >= done.get(other, 0):
                    if target >= self.inserted.get(other, (0, 0))[1]:
                        raise NotYet("clock", f"An update refers to clock {target} of a client that is not in it.")
                    heappush(sleepers.setdefault(other, []), (target, client))
                    done[client] = max(done[client], clock)
                    break
                at += 1
            else:
                done[client] = max(done[client], self.inserted[client][1])
            position[client] = at
            waiting = sleepers.get(client)
            while waiting and waiting[0][0] < done[client]:
                awake.append(heappop(waiting)[1])
        if any(done[client] < end for client, (_, end) in self.inserted.items()):
            raise Malformed("The structs of an update refer to each other in a circle.")

    def _check_depth(self) -> None:
        """That types lie in each other at most `max_depth` deep, as far as this update shows."""
        depths: dict[tuple[int, int], int] = {}  # (client, number of struct) -> depth of the type that holds it
        for client, run in self.runs.items():
            for number in range(len(run.starts)):
                stack = [(client, number)]
                while stack:
                    owner, index = stack[-1]
                    deepest = 0
                    for (other, clock), step in self.runs[owner].links[index]:
                        if not self._is_fresh(other, clock):
                            deepest = max(deepest, step)
                            continue
                        key = (other, self.runs[other].at(clock))
                        if key not in depths:
                            stack.append(key)
                        else:
                            deepest = max(deepest, depths[key] + step)
                    if stack[-1] == (owner, index):
                        stack.pop()
                        depths[owner, index] = deepest
                        if deepest > self.max_depth:
                            raise TooLarge(f"Shared types are nested deeper than {self.max_depth} levels.")

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
                raise TooLarge(f"An update has {self.count} structs and ranges, {self.max_structs} are accepted.")
            limit = max(self.known.get(client, 0), self.inserted.get(client, (0, 0))[1])
            last = 0
            for _ in range(ranges):
                clock, i = read_varuint(data, i)
                length, i = read_varuint(data, i)
                if length == 0 or clock < last:
                    raise Malformed("Delete ranges are empty, overlap, or are out of order.")
                last = clock + length
                if last > limit:
                    raise NotYet("clock", f"An update deletes up to clock {last}, known is {limit}.")
                deleted.append((client, clock, length))
                self.cuts.append((client, clock))
                self.cuts.append((client, last))
        return tuple(deleted), i
