"""The family: one deterministic fold of the statements in a set of entries.

1. *Who could belong.* From the founder, admissions by devices of full trust span a tree. A device's **rank** is
   (depth, hlc of its admission, device) by the admission nearest the founder, then the oldest; its standing
   trust is the strongest of all, so it only grows. Revocations play no part.
2. *Which revocations count.* They are taken in causal order; of those that do not know of each other the one
   of the senior author first, then by (hlc, hash). One counts if its author is a full member *by what has
   been counted so far*: admitted through statements none of which lies above a counted revocation of its own
   author, and itself not above a counted revocation of its author. So of two full devices that revoke each
   other unknowingly the senior stays; one that knew of its revocation cannot answer it; and a device admitted
   above its admitter's head has no say.
3. *Who belongs.* The tree once more, without the statements above a counted revocation of their author. Who
   is revoked stays revoked; of a device revoked twice the greater head counts, feed by feed, but what it says
   of itself only where nobody else has spoken.

Statements get no grace from later entries in force.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from property_tests.model.causality import pasts, whole
from property_tests.model.entry import DIRECTORY, Admit, Entries, Entry, Feed, Found, Revoke

Rank = tuple[int, int, str]
_TRUSTS: Final = ("full", "limited", "relay", "guest")
"""Strongest first."""
Limits = Mapping[str, Mapping[tuple[str, str], int]]
"""Revoked device → (collection, incarnation) → the greatest seq that counts."""


class Place(NamedTuple):
    """A device's place in the tree of admissions."""

    rank: Rank
    trust: str


@dataclass(frozen=True)
class Family:
    """`standing`: the tree that ignores revocations; `members`: the tree that counts them, revoked devices included."""

    standing: Mapping[str, Place]
    members: Mapping[str, Place]
    limits: Limits

    @property
    def current(self) -> frozenset[str]:
        return frozenset(device for device in self.members if device not in self.limits)


def limit(whose: Family, feed: Feed) -> int | None:
    """The greatest seq of `feed` that counts by its author's own right: None = all, 0 = nothing."""
    if feed.device not in whose.members:
        return 0
    return _limit(whose.limits, feed)


@lru_cache(maxsize=512)
def family(entries: Entries) -> Family:
    """The fold of the statements in `entries`; those void or without their whole past do not speak yet."""
    records = whole(entries, (entry for entry in entries if entry.collection == DIRECTORY))
    standing = _tree(records, lambda entry: True)
    limits: dict[str, dict[tuple[str, str], int]] = {}
    spoken: set[str] = set()

    def counts(entry: Entry) -> bool:
        end = _limit(limits, entry.feed)
        return end is None or entry.seq <= end

    for entry, revoke in _in_order(records, standing):
        author, by_itself = _tree(records, counts).get(entry.device), entry.device == revoke.device
        if author is None or author.trust != "full" or not counts(entry) or (by_itself and revoke.device in spoken):
            continue
        if not by_itself and revoke.device not in spoken:
            spoken.add(revoke.device)
            limits[revoke.device] = {}
        ends = limits.setdefault(revoke.device, {})
        for collection, incarnation, seq in revoke.heads:
            ends[collection, incarnation] = max(seq, ends.get((collection, incarnation), 0))
    return Family(standing, _tree(records, counts), limits)


def _limit(limits: Limits, feed: Feed) -> int | None:
    ends = limits.get(feed.device)
    return None if ends is None else ends.get((feed.collection, feed.incarnation), 0)


def _tree(records: Entries, counts: Callable[[Entry], bool]) -> dict[str, Place]:
    """Places of all devices reached from the founder by the admissions that count, nearest and oldest first."""
    foundings = [entry for entry in records if Found() in entry.operations]
    if not foundings:
        return {}
    founding = min(foundings, key=lambda entry: entry.hash)
    places: dict[str, Place] = {}
    offers = [(0, founding.hlc, founding.hash, founding.device, "full")]
    while offers:
        depth, hlc, _, device, trust = heapq.heappop(offers)
        place = places.get(device, Place((depth, hlc, device), trust))
        is_news = device not in places or _TRUSTS.index(trust) < _TRUSTS.index(place.trust)
        if not is_news:
            continue
        places[device] = place._replace(trust=trust)
        if trust == "full":
            for entry in records:
                if entry.device == device and counts(entry):
                    for admit in entry.operations:
                        if isinstance(admit, Admit):
                            offer = (depth + 1, entry.hlc, entry.hash, admit.device, admit.trust)
                            heapq.heappush(offers, offer)
    return places


def _in_order(records: Entries, standing: Mapping[str, Place]) -> Iterable[tuple[Entry, Revoke]]:
    """Revocations by devices that ever stood: causes first, then the senior author's, then by (hlc, hash)."""
    past = pasts(records)
    waiting = {
        entry
        for entry in records
        if entry.device in standing and any(isinstance(operation, Revoke) for operation in entry.operations)
    }
    while waiting:
        ready = [entry for entry in waiting if not any(other.hash in past[entry.hash] for other in waiting)]
        first = min(ready, key=lambda entry: (standing[entry.device].rank, entry.hlc, entry.hash))
        waiting.remove(first)
        for operation in first.operations:
            if isinstance(operation, Revoke):
                yield first, operation
