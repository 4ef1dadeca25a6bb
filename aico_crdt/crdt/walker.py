"""The walker: reads a foreign Yjs v1 update completely, in Python, before Yrs sees a byte of it.

Yrs believes what it is told: counts, clocks, client ids, UTF-8. Here nothing is believed (docs/hazards.md, 1 to 6).
The bytes are drawn in :mod:`aico_crdt.crdt.update_reader`.

What cannot be seen here: what *kind* of item a clock of the document holds. A parent that is no type passes, and
Yrs stumbles over it halfway; so whoever applies an update still compares the state vector with
:meth:`Walked.after`, encodes the state once, and throws the document away when either fails.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aico_crdt.crdt.lib0 import read_varuint, write_varuint
from aico_crdt.crdt.struct_graph import DELETED, Id
from aico_crdt.crdt.update_reader import ANY, MAX_CLIENTS, MAX_CLOCK, STRING, WIDE_CLOCK, UpdateReader
from aico_crdt.errors import Malformed, NotYet, TooLarge

__all__ = [
    "ANY",
    "DELETED",
    "STRING",
    "AllKnown",
    "Walked",
    "decode_state_vector",
    "encode_state_vector",
    "pairs_of",
    "walk",
    "without_deletes",
]

MAX_BYTES: Final = 1 << 20
MAX_STRUCTS: Final = 1 << 14
"""Structs and delete ranges of one author's update: Yrs takes quadratic time over hostile ones, a second for these."""
MAX_STATE_STRUCTS: Final = 1 << 17
"""The same of a whole state; a text document of 1 MB edited letter by letter has about so many."""
MAX_DEPTH: Final = 64
_WIDE_CHARACTER: Final = re.compile(rb"[\xf0-\xf4][\x80-\xbf]{3}")
"""The UTF-8 of U+10000 to U+10FFFF, which UTF-16 and Yjs's clocks count as two. Other bytes may look like it."""
_FIELD_CONTENTS: Final = frozenset((DELETED, ANY))
_TEXT_CONTENTS: Final = frozenset((DELETED, STRING))


@dataclass(frozen=True, slots=True)
class Walked:
    """What an update says, and what it needs.

    Attributes:
        inserted: client → (first clock, end clock) of its structs.
        deleted: (client, clock, length) of each delete range, in order.
        keys: the map keys set in root types, in order.
        roots: names of the root types referred to.
        gc: number of GC structs.
        inherits: (client, clock) of every origin that is a struct of another client than the item itself. An
            item with an origin takes its parent *and its map key* from there, so where keys tell who wrote, this
            must be empty; an item whose origins are its own client's stays under keys that client has named.
        contents: the content refs used (:data:`ANY` …).
        unkeyed: number of items put into a root type without a key: elements of a text or an array.
        nested: number of items put into a type that is itself an item.
        rights: number of right origins: places between elements. Map entries have none.
        lists: number of items that hold several values at once. Map entries are single.
        cuts: (client, clock) before which the update needs a string cut: beside its origins and delete ranges.
        pairs: (client, clock) of the second half of every surrogate pair in its strings. A cut there makes Yrs
            encode a state that others read differently, while all state vectors agree. Within the update it is
            refused here; a text document compares `cuts` with the pairs of its own state (:func:`pairs_of`).
    """

    inserted: Mapping[int, tuple[int, int]]
    deleted: tuple[tuple[int, int, int], ...]
    keys: tuple[str, ...]
    roots: frozenset[str]
    gc: int
    inherits: tuple[Id, ...]
    contents: frozenset[int]
    unkeyed: int
    nested: int
    rights: int
    lists: int
    cuts: frozenset[Id]
    pairs: frozenset[Id]

    @property
    def is_fields(self) -> bool:
        """Whether it does nothing but set and delete plain values under keys that its own clients have named.

        Only then does the walk prove the outcome: an element of a text or an array whose origins are in the wrong
        order passes, and Yrs may order it differently on two replicas.
        """
        return (
            not (self.unkeyed or self.nested or self.rights or self.lists or self.inherits)
            and self.contents <= _FIELD_CONTENTS
        )

    @property
    def is_text(self) -> bool:
        """Whether it does nothing but insert and delete plain strings in sequences."""
        return not (self.keys or self.nested) and self.contents <= _TEXT_CONTENTS

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
    max_structs: int | None = None,
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
        TooLarge: above `max_bytes`, `max_structs` (delete ranges included), `max_depth`, or 65,536 clients.
        NotAllowed: structs of another client than `author`.
        NotYet: ``"clock"``: otherwise sound, it continues, refers to or deletes clocks that are not known yet: those of
            the client that `thing` names (:func:`clock_name`), `upto` so many.
    """
    if max_structs is None:
        max_structs = MAX_STATE_STRUCTS if author is None else MAX_STRUCTS
    return _scan(update, known, author, overlap, max_bytes, max_structs, max_depth)[0]


def read_update(update: bytes) -> Walked:
    """What an update says, whatever it depends on.

    Raises:
        Malformed: `update` is broken; it is meant to have passed :func:`walk`.
    """
    return _scan(update, AllKnown(), None, True, len(update), len(update), MAX_DEPTH)[0]


def without_deletes(update: bytes, client: int, clock: int) -> bytes:
    """`update` with every delete of `client`'s clocks at or above `clock` cut out, the rest byte by byte the same.

    For refolding past a fork: deletes of what the losing branch wrote must not strike the winner's clocks.

    Raises:
        Malformed: `update` is broken; it is meant to have passed :func:`walk`.
    """
    walked, start = _scan(update, AllKnown(), None, True, len(update), len(update), MAX_DEPTH)
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
                raise Malformed(WIDE_CLOCK)
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


def intrudes(added: bytes) -> bool:
    """Whether among these structs there is a map entry whose place is beside another client's.

    Args:
        added: the structs as Yrs encodes them once they are integrated: only then do they say what is a map entry.
    """
    reader = UpdateReader(added, AllKnown(), None, True, len(added), MAX_DEPTH)
    reader.read_structs()
    return reader.intrudes


def clock_name(client: int) -> bytes:
    """What :class:`~aico_crdt.errors.NotYet` calls the operations of a client that an update waits for."""
    return client.to_bytes(8, "big")


def pairs_of(state: bytes) -> frozenset[Id]:
    """Where the strings of a document's encoded state must not be cut; see :attr:`Walked.pairs`.

    Most texts hold no character beyond U+FFFF, and reading a long text's state takes milliseconds: the state is read
    only where it holds bytes that could be one.

    Raises:
        Malformed: `state` is broken, as far as it was read.
    """
    if _WIDE_CHARACTER.search(state) is None:
        return frozenset()
    return _scan(state, {}, None, False, len(state), len(state), MAX_DEPTH)[0].pairs


class AllKnown(dict[int, int]):
    """A state vector that knows every clock: for the walk of an update whose document is not here."""

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
    reader = UpdateReader(update, known, author, overlap, max_structs, max_depth)
    try:
        start = reader.read_structs()
        deleted, end = reader.read_deletes(start)
    except IndexError:
        raise Malformed("An update ends in the middle.") from None
    if end != len(update):
        raise Malformed("An update has bytes after its end.")
    cuts = frozenset(reader.cuts)
    pairs = frozenset(reader.pairs)
    if pairs and not pairs.isdisjoint(cuts):
        raise Malformed("An update cuts a surrogate pair in two.")
    if reader.needs:
        client = min(reader.needs)
        end, here = reader.needs[client], known.get(client, 0)
        what = f"An update builds on {end} operations of a client of which {here} are known."
        raise NotYet("clock", what, thing=clock_name(client), upto=end)
    walked = Walked(
        reader.graph.inserted,
        deleted,
        tuple(reader.keys),
        frozenset(reader.roots),
        reader.gc,
        tuple(reader.inherits),
        frozenset(reader.contents),
        reader.unkeyed,
        reader.nested,
        reader.rights,
        reader.lists,
        cuts,
        pairs,
    )
    return walked, start
