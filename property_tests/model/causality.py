"""What came before what, which sets are whole, and which entries a fork makes void.

An entry's causal past is what `prev` and `deps` reach (Schwarz and Mattern, *Detecting causal relationships
in distributed computations*, 1994). Links never leave a collection.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache

from property_tests.model.entry import GENESIS, Entries, Entry, Feed, Hashes, Head, by_hash, hashes


def causal_past(entry: Entry, entries: Entries) -> Hashes:
    """Hashes of what among `entries` its author had applied when it wrote `entry`; without `entry`."""
    return pasts(entries)[entry.hash]


@lru_cache(maxsize=512)
def pasts(entries: Entries) -> Mapping[str, Hashes]:
    """The causal past of every entry, by hash."""
    known = by_hash(entries)
    result: dict[str, Hashes] = {}
    todo = sorted(known)
    while todo:
        own_hash = todo[-1]
        links = [link for link in known[own_hash].links if link in known]
        before = [link for link in links if link not in result]
        if before and own_hash not in result:
            todo += before
            continue
        todo.pop()
        result[own_hash] = frozenset(links).union(*(result[link] for link in links))
    return result


@lru_cache(maxsize=512)
def forks(entries: Entries) -> Entries:
    """The void: at a fork (two entries after one) all but the smallest hash, and whatever chains from those.

    Only what chains from the feed's beginning is judged. More entries make more void, never less.
    """
    after: defaultdict[tuple[Feed, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        after[entry.feed, entry.prev].append(entry)
    void: set[Entry] = set()
    todo = [(feed, GENESIS, False) for feed, prev in after if prev == GENESIS]
    while todo:
        feed, prev, lost = todo.pop()
        siblings = sorted(after[feed, prev], key=lambda entry: entry.hash)
        for place, entry in enumerate(siblings):
            is_void = lost or place > 0
            if is_void:
                void.add(entry)
            todo.append((feed, entry.hash, is_void))
    return frozenset(void)


def closed(candidates: Iterable[Entry], met: Hashes = frozenset()) -> Entries:
    """The greatest subset of `candidates` in which every link leads to a member of it, or counts as `met`."""
    left = by_hash(candidates)
    while lacking := [h for h, e in left.items() if not all(link in left or link in met for link in e.links)]:
        for own_hash in lacking:
            del left[own_hash]
    return frozenset(left.values())


def whole(entries: Entries, candidates: Iterable[Entry]) -> Entries:
    """:func:`closed`, where a dependency on a void one of `entries` counts as met."""
    void = forks(entries)
    return closed(set(candidates) - void, hashes(void))


def tips(entries: Iterable[Entry]) -> dict[Feed, Entry]:
    """The newest entry of each feed, in a set without forks."""
    newest: dict[Feed, Entry] = {}
    for entry in entries:
        if entry.feed not in newest or newest[entry.feed].seq < entry.seq:
            newest[entry.feed] = entry
    return newest


def heads(entries: Iterable[Entry], collection: str) -> frozenset[Head]:
    """The newest entry of each feed of a collection, by name."""
    return frozenset(entry.head for feed, entry in tips(entries).items() if feed.collection == collection)
