"""Apply, hold, reject: where each received entry ends, by the set received.

::

    received ─┬─ rejected   void by a fork, or its author may never do this; and what stands on a refused one
              ├─ applied    in force, not rejected, and all it stands on is applied too
              └─ held       the rest: may become valid when more is known

**In force by its own right**: the author is a member and the entry at or below its revocation head. **By
grace**: it lies in the causal past of one in force by its own right. Grace is for entries, not for trust
statements (``membership`` never looks at it). A void entry is never in force; where one in force stands on a
void one, that dependency counts as met once the void one is known to be void. What a void entry wrote does not count; a
life that it ended stays ended, wherever it is known.

**Witness.** A replica that would no longer apply something it has applied, because a revocation (or a fork
among the statements or the witnesses) took its right away, writes an empty entry whose deps name it, in the
same transaction. Hence: as long as its device belongs to the family, what a replica has applied stays
applied, void entries excepted.
"""

from __future__ import annotations

from functools import lru_cache

from property_tests.model.causality import causal_past, forks, pasts, whole
from property_tests.model.entry import Entries, Entry, Forget, Hashes, Write, by_hash, hashes
from property_tests.model.membership import family, limit


def may(entry: Entry, trust: str, entries: Entries) -> bool:
    """The authority table: full may all; limited may write documents and forget those it bore; others nothing."""
    if trust == "full":
        return True
    if trust != "limited":
        return not entry.operations
    return all(
        isinstance(operation, Write)
        or (isinstance(operation, Forget) and entry.device in creators(operation, entry, entries))
        for operation in entry.operations
    )


def creators(forget: Forget, entry: Entry, entries: Entries) -> frozenset[str]:
    """The devices that bore this life, as far as the author of `entry` knew: writers with no writer before them."""
    known, past = by_hash(entries), pasts(entries)

    def writes(own_hash: str) -> bool:
        return any(
            isinstance(operation, Write) and (operation.document, operation.life) == tuple(forget)
            for operation in known[own_hash].operations
        )

    writers = {own_hash for own_hash in causal_past(entry, entries) if writes(own_hash)}
    return frozenset(known[own_hash].device for own_hash in writers if not writers & past[own_hash])


@lru_cache(maxsize=512)
def refused(entries: Entries) -> Entries:
    """What its author may not do, by its standing trust, and all that stands on it. Unknown authors wait."""
    standing = family(entries).standing
    bad = {
        entry.hash
        for entry in entries
        if entry.device in standing and not may(entry, standing[entry.device].trust, entries)
    }
    return frozenset(
        entry for entry in entries if entry.hash in bad or (bad and bad & causal_past(entry, entries))
    )


@lru_cache(maxsize=512)
def in_force(entries: Entries) -> Entries:
    """What counts: by its author's own right, or in the causal past of such an entry."""
    void, whose = forks(entries), family(entries)

    def by_right(entry: Entry) -> bool:
        end = limit(whose, entry.feed)
        return end is None or entry.seq <= end

    strong = {entry for entry in entries - void - refused(entries) if by_right(entry)}
    graced: Hashes = frozenset().union(*(causal_past(entry, entries) for entry in strong))
    return frozenset(strong | {entry for entry in entries if entry.hash in graced}) - void


@lru_cache(maxsize=512)
def applied(received: Entries) -> Entries:
    """The greatest subset in force in which nothing lacks what it stands on."""
    return whole(received, in_force(received) - refused(received))


def rejected(received: Entries) -> Entries:
    """What more entries will not make valid: kept as evidence and passed on, never applied."""
    return forks(received) | refused(received)


def held(received: Entries) -> Entries:
    """What more entries may make valid."""
    return received - applied(received) - rejected(received)


def unwitnessed(before: Entries, received: Entries) -> Entries:
    """What a replica that had applied `before` must name in witnesses now that it has `received`."""
    now = hashes(applied(received)) | hashes(rejected(received))
    return frozenset(entry for entry in before if entry.hash not in now)
