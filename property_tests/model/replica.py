"""A replica: what it received, and the base below which it keeps documents instead of operations.

Pruning and manifests are one thing seen from two sides. Both replace the operations of a **cut** (all entries
of a collection up to some heads, causally closed) by what they come to: a body for each document, and
tombstones. A replica that prunes makes the bodies itself; one that takes a manifest gets heads, state hashes
and tombstones at once, and each document stays a **stub** until its body is there: whole or a stub, never
partly.

Headers of the cut are kept here because later entries say through them what they have seen. A store may drop
them: there each Yjs update itself names what it deletes.

A base is **sound** as long as everything below it is still applied. Two things can end that: a fork that comes to
light below it, and, on the replica of a device that left the family and so writes no witness, a revocation. Nothing
can be refolded from such a base: the replica goes back to the entries, or takes a manifest of one who knows. Hence
the prune rule: only what every replica has applied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Final, NamedTuple, TypeVar

from property_tests.model.causality import closed, forks, heads
from property_tests.model.documents import Document, Key, documents, tombstones
from property_tests.model.entry import DIRECTORY, Entries, Hashes, Head, by_hash, hashes
from property_tests.model.membership import family
from property_tests.model.receipt import applied, refused

T = TypeVar("T")
State = tuple[int, str]
"""(life, hash of the document)"""


@dataclass(frozen=True)
class Base:
    """What stands for the entries of `cut`: `states` of all documents then alive, `bodies` of those fetched."""

    cut: Hashes = frozenset()
    states: Mapping[Key, State] = field(default_factory=dict)
    bodies: Mapping[Key, Document] = field(default_factory=dict)
    dead: Mapping[Key, int] = field(default_factory=dict)


NO_BASE: Final = Base()


@dataclass(frozen=True)
class Replica:
    """`received`: every entry, as a bare header where it lies below the base."""

    received: Entries = frozenset()
    base: Base = NO_BASE


class Manifest(NamedTuple):
    """What the full device `by` attests of a collection: all it has applied, without the documents themselves."""

    by: str
    collection: str
    heads: frozenset[Head]
    headers: Entries
    states: Mapping[Key, State]
    dead: Mapping[Key, int]


def shows(replica: Replica) -> dict[Key, Document]:
    """Every document a reader sees: alive and whole."""
    hidden = stubs(replica)
    shown = documents(applied(replica.received), replica.base.bodies, forgotten(replica), forks(replica.received))
    return {key: document for key, document in shown.items() if key not in hidden}


def forgotten(replica: Replica) -> dict[Key, int]:
    """The greatest dead life of each document, by the entries and by the base. A void entry's forget counts as well."""
    received = replica.received
    return tombstones(applied(received) | (forks(received) - refused(received)), replica.base.dead)


def stubs(replica: Replica) -> dict[Key, State]:
    """Documents known to be alive whose body is wanted."""
    dead = forgotten(replica)
    return {
        key: (life, state)
        for key, (life, state) in replica.base.states.items()
        if key not in replica.base.bodies and life > dead.get(key, 0)
    }


def sound(replica: Replica) -> bool:
    """Everything below the base is still applied."""
    return replica.base.cut <= hashes(applied(replica.received))


def state_of(document: Document) -> State:
    return document.life, blake2b(repr(document).encode(), digest_size=16).hexdigest()


def manifest(replica: Replica, by: str, collection: str) -> Manifest:
    """What `by`, whose replica this is, can attest.

    Raises:
        ValueError: it may not, holds stubs itself, or these are trust statements.
    """
    place = family(replica.received).members.get(by)
    if collection == DIRECTORY or by not in family(replica.received).current or not place or place.trust != "full":
        raise ValueError("only a full member attests, and statements are folded from entries")
    if not sound(replica) or any(key[0] == collection for key in stubs(replica)):
        raise ValueError("nobody attests what it does not have")
    mine = frozenset(entry for entry in applied(replica.received) if entry.collection == collection)
    states = {key: state_of(document) for key, document in shows(replica).items() if key[0] == collection}
    dead = {key: life for key, life in forgotten(replica).items() if key[0] == collection}
    return Manifest(by, collection, heads(mine, collection), frozenset(e.bare() for e in mine), states, dead)


def with_manifest(replica: Replica, given: Manifest) -> Replica:
    """The replica after taking a manifest: heads advance at once, documents become stubs unless already the
    same.

    Taken only if its author is a full member *here*, all it covers would be applied *here* (its author may
    not know yet of a revocation or a fork) and it covers the base already there; otherwise it waits and
    nothing changes.
    """
    whose = family(replica.received)
    covered = hashes(given.headers)
    received = _below(replica.received, covered) | _new(given.headers, replica.received)
    trusted = given.by in whose.current and whose.members[given.by].trust == "full"
    if not (trusted and covered <= hashes(applied(received)) and cut_of(replica, given.collection) <= covered):
        return replica
    before = shows(replica)
    bodies = {k: d for k, d in before.items() if given.states.get(k) == state_of(d)}
    base = Base(
        replica.base.cut | covered,
        {**_others(replica.base.states, given.collection), **given.states},
        {**_others(replica.base.bodies, given.collection), **bodies},
        {k: max(given.dead.get(k, 0), replica.base.dead.get(k, 0)) for k in {**given.dead, **replica.base.dead}},
    )
    return Replica(received, base)


def body(replica: Replica, key: Key, cut: Hashes) -> Document | None:
    """The document as it was at `cut` (of its collection), if this replica can still tell: whole, its base below."""
    mine = frozenset(entry for entry in applied(replica.received) if entry.collection == key[0])
    at_cut = frozenset(entry for entry in mine if entry.hash in cut)
    if cut != hashes(at_cut) or (replica.base.cut & hashes(mine)) - cut or key in stubs(replica):
        return None
    return documents(at_cut, replica.base.bodies, replica.base.dead, forks(replica.received)).get(key)


def cut_of(replica: Replica, collection: str) -> Hashes:
    """The cut below which this replica's documents of one collection are bodies."""
    return replica.base.cut & hashes(entry for entry in replica.received if entry.collection == collection)


def with_body(replica: Replica, key: Key, document: Document) -> Replica:
    """The replica after a body came for one of its stubs; unchanged if it is not what the manifest attested."""
    wanted = stubs(replica).get(key)
    if wanted is None or wanted != state_of(document):
        return replica
    return replace(replica, base=replace(replica.base, bodies={**replica.base.bodies, key: document}))


def prune(replica: Replica, collection: str, up_to: Iterable[Head]) -> Replica:
    """The replica without the operations of all at or below the heads `up_to`; what it shows stays the same.

    Raises:
        ValueError: not all of it is applied here, something of it is missing, or stubs are in the way.
    """
    ends = {(head.device, head.incarnation): head.seq for head in up_to}
    mine = frozenset(entry for entry in applied(replica.received) if entry.collection == collection)
    below = frozenset(e for e in mine if e.seq <= ends.get((e.device, e.incarnation), 0))
    met = hashes(forks(replica.received))
    if collection == DIRECTORY or closed(below, met) != below or not set(up_to) <= {e.head for e in below}:
        raise ValueError("only what has been applied, with all it stands on, and no statements")
    if cut_of(replica, collection) - hashes(below) or any(key[0] == collection for key in stubs(replica)):
        raise ValueError("a base only grows, and only over whole documents")
    void = forks(replica.received)
    bodies = documents(below, _only(replica.base.bodies, collection), _only(replica.base.dead, collection), void)
    base = Base(
        replica.base.cut | hashes(below),
        {**_others(replica.base.states, collection), **{k: state_of(d) for k, d in bodies.items()}},
        {**_others(replica.base.bodies, collection), **bodies},
        {**replica.base.dead, **tombstones(below, _only(replica.base.dead, collection))},
    )
    return Replica(_below(replica.received, hashes(below)), base)


def _below(entries: Entries, cut: Hashes) -> Entries:
    return frozenset(entry.bare() if entry.hash in cut else entry for entry in entries)


def _new(entries: Entries, known: Entries) -> Entries:
    return frozenset(by_hash(entries)[own_hash] for own_hash in hashes(entries) - hashes(known))


def _others(table: Mapping[Key, T], collection: str) -> dict[Key, T]:
    return {key: value for key, value in table.items() if key[0] != collection}


def _only(table: Mapping[Key, T], collection: str) -> dict[Key, T]:
    return {key: value for key, value in table.items() if key[0] == collection}
