"""Membership: a deterministic fold over the set of trust statements.

1. **Founder.** The ``Found`` whose (author, nonce) hashes to the family id names it; any other is ignored.
   The id is what devices agreed on when they paired, so nobody can found somebody else's family.
2. **Rank.** Every device that full-trust devices admitted, revocations left aside, has the rank (depth in the
   tree of admissions, stamp of the admission, device id); the founder is first. Two devices with one
   :func:`aico_crdt.ids.device_name` would share slots, so the one of later rank is no member.
3. **Revocations** are taken in causal order, concurrent ones by (rank of author, stamp, entry hash). One
   counts iff its author is a full member at that point and it is not *above* a revocation of its author that
   already counts: what the revoker had not seen of the revoked device's directory feeds is above. So when two
   devices revoke each other at once the senior one stays, and when one had seen the other's revocation it
   came too late, everywhere.
4. **Admissions** count iff their author is full and they are not above a revocation of it. Of several for one
   device the strongest trust counts, then the senior author's. Revoked stays revoked: that device joins under
   a new key.

What the revoker had seen is the causal past of its entry, which the hash chains prove; the heads it declares
bound the device's *other* entries (:meth:`Family.limit`). Stamps decide only between concurrent statements: a
back-dated one gains nothing against a revocation, since what counts is its place in the feed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush

from aico_crdt.ids import device_name
from aico_crdt.trust.space import may_read
from aico_crdt.trust.statement import (
    TRUSTS,
    Admit,
    Found,
    Revoke,
    SealedKey,
    Statement,
    encode_statement,
    family_id,
)


@dataclass(frozen=True, slots=True)
class Record:
    """One statement and the directory entry that carries it.

    Args:
        device, incarnation, seq, hlc, hash: of the entry's header.
        clock: the entry's whole causal past within the directory collection, itself included: the greatest
            sequence number by (device, incarnation).
        statement: what it says. An entry with several statements makes several records.
    """

    device: bytes
    incarnation: bytes
    seq: int
    hlc: int
    hash: bytes
    clock: Mapping[tuple[bytes, bytes], int] = field(hash=False)
    statement: Statement

    def saw(self, other: Record) -> bool:
        """Whether `other` is in this record's causal past (or is its own entry)."""
        return self.clock.get((other.device, other.incarnation), 0) >= other.seq


@dataclass(frozen=True, slots=True)
class Member:
    """A device that is, or was, of the family.

    Args:
        device: its id.
        name, device_type: as its admission says.
        trust: one of :data:`aico_crdt.trust.statement.TRUSTS`; of a revoked device, what it had.
        admitted_by: the device that admitted it; itself for the founder.
        rank: 0 for the founder; lower is senior.
        revoked: whether its membership has ended.
        limits: of a revoked device: the highest sequence number still in force by (tag, incarnation).
        keys: the sealed keys of every admission of it that counts, that of the strongest trust first.
    """

    device: bytes
    name: str
    trust: str
    device_type: str
    admitted_by: bytes
    rank: int
    revoked: bool = False
    limits: Mapping[tuple[bytes, bytes], int] = field(default_factory=dict)
    keys: tuple[SealedKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Family:
    """Who belongs: the result of :func:`fold`. `founder` is None as long as its ``Found`` is not known."""

    id: bytes
    founder: bytes | None
    members: Mapping[bytes, Member]

    def trust_of(self, device: bytes) -> str | None:
        """The trust of a current member, None for any other device."""
        member = self.members.get(device)
        return None if member is None or member.revoked else member.trust

    def was_member(self, device: bytes) -> bool:
        """Whether `device` is a member or was one before it was revoked."""
        return device in self.members

    def limit(self, device: bytes, tag: bytes, incarnation: bytes) -> int | None:
        """The highest sequence number of a feed that is in force by its author's own right.

        None is no limit (a current member). 0 is nothing: never a member, or a feed its revoker had not seen.
        """
        member = self.members.get(device)
        if member is None:
            return 0
        return member.limits.get((tag, incarnation), 0) if member.revoked else None

    def may_connect(self, device: bytes) -> bool:
        """Whether a link to `device` may be open: current members only."""
        return self.trust_of(device) is not None

    def current(self) -> list[Member]:
        """The current members, senior first."""
        return sorted((m for m in self.members.values() if not m.revoked), key=lambda member: member.rank)

    def readers(self, space: str) -> list[Member]:
        """The current members in the audience of `space`, senior first."""
        return [member for member in self.current() if may_read(space, member.trust)]


_Admission = tuple[Record, Admit]
_Revocation = tuple[Record, Revoke]
_Rank = tuple[int, int, bytes]
_Seen = dict[bytes, dict[bytes, int]]
"""Of each revoked device, by incarnation: the greatest sequence number that a revoker had seen."""


def fold(family: bytes, records: Iterable[Record]) -> Family:
    """The members of `family` by the set of `records`; their order and repetition change nothing.

    Costs O(records + revocations × (feeds that revoke + admissions)). What does not count is no error.
    """
    ordered = _distinct(records)
    root = _root(family, ordered)
    if root is None:
        return Family(family, None, {})
    founder, found = root
    made = _by_author(ordered)
    ranks = _ranks(founder, made)
    admissions = {author: [a for a in made[author] if a[1].device in ranks] for author in ranks if author in made}
    counted, seen = _count(founder, admissions, _causal(ordered, ranks))
    revoked = {revoke.device for _, revoke in counted}
    limits = _limits(counted, revoked)
    place = {device: index for index, device in enumerate(sorted(ranks, key=lambda device: ranks[device]))}

    def member(device: bytes, by: bytes, say: Found | Admit, trust: str, keys: Iterable[SealedKey]) -> Member:
        ended, bounds = device in revoked, limits.get(device, {})
        return Member(device, say.name, trust, say.device_type, by, place[device], ended, bounds, tuple(keys))

    members = {founder: member(founder, founder, found, TRUSTS[0], found.keys)}
    for device, counting in _counting(founder, admissions, seen, place).items():
        record, admit = counting[0]
        keys = [key for _, each in counting for key in each.keys]
        members[device] = member(device, record.device, admit, admit.trust, keys)
    return Family(family, founder, members)


def _distinct(records: Iterable[Record]) -> list[Record]:
    """Each statement of each entry once, in an order that depends on nothing but the set."""
    known = {(record.hash, encode_statement(record.statement)): record for record in records}
    return [known[key] for key in sorted(known)]


def _root(family: bytes, ordered: Iterable[Record]) -> tuple[bytes, Found] | None:
    founding = [
        (record.hlc, record.hash, record.device, record.statement)
        for record in ordered
        if isinstance(record.statement, Found) and family_id(record.device, record.statement.nonce) == family
    ]
    return min(founding, key=lambda each: each[:2])[2:] if founding else None


def _by_author(ordered: Iterable[Record]) -> dict[bytes, list[_Admission]]:
    made: dict[bytes, list[_Admission]] = defaultdict(list)
    for record in ordered:
        if isinstance(record.statement, Admit):
            made[record.device].append((record, record.statement))
    return made


def _ranks(founder: bytes, made: Mapping[bytes, Iterable[_Admission]]) -> dict[bytes, _Rank]:
    """Every device that is reached from the founder by admissions of full devices, level by level."""
    ranks = {founder: (0, 0, founder)}
    names = {device_name(founder): founder}
    full, frontier, depth = {founder}, {founder}, 0
    while frontier:
        depth += 1
        level = sorted(
            (record.hlc, admit.device, admit.trust)
            for author in frontier
            for record, admit in made.get(author, ())
            if admit.device != founder
        )
        frontier = set()
        for hlc, device, trust in level:
            if names.setdefault(device_name(device), device) != device:
                continue
            ranks.setdefault(device, (depth, hlc, device))
            if trust == TRUSTS[0] and device not in full:
                full.add(device)
                frontier.add(device)
    return ranks


def _causal(ordered: Iterable[Record], ranks: Mapping[bytes, _Rank]) -> Iterator[_Revocation]:
    """The revocations by ranked authors in causal order, concurrent ones by (rank, stamp, hash).

    Kahn's algorithm over a heap. Within a feed each waits for the one before it, so an edge from the last one
    seen of every feed stands for all of them.
    """
    taken = [(r, r.statement) for r in ordered if isinstance(r.statement, Revoke) and r.device in ranks]
    taken.sort(key=lambda each: (ranks[each[0].device], each[0].hlc, each[0].hash))  # stable: `ordered` breaks ties
    feeds: dict[tuple[bytes, bytes], list[int]] = defaultdict(list)
    for index in sorted(range(len(taken)), key=lambda index: taken[index][0].seq):
        feeds[taken[index][0].device, taken[index][0].incarnation].append(index)
    followers: list[list[int]] = [[] for _ in taken]
    waits = [0] * len(taken)
    for index, (record, _) in enumerate(taken):
        for feed, indices in feeds.items():
            last = bisect_right(indices, record.clock.get(feed, 0), key=lambda each: taken[each][0].seq)
            # One entry's statements, and the two sides of a fork, have "seen" each other: that is no order.
            while last and taken[indices[last - 1]][0].saw(record):
                last -= 1
            for before in reversed(indices[:last]):
                if taken[before][0].seq != taken[indices[last - 1]][0].seq:
                    break
                followers[before].append(index)
                waits[index] += 1
    ready = [index for index, count in enumerate(waits) if not count]
    left = set(range(len(taken)))
    while left:
        index = heappop(ready) if ready else min(left)  # a cycle takes forked clocks; its senior goes first
        if index not in left:
            continue
        left.remove(index)
        yield taken[index]
        for follower in followers[index]:
            waits[follower] -= 1
            if not waits[follower]:
                heappush(ready, follower)


def _count(
    founder: bytes, admissions: Mapping[bytes, list[_Admission]], revocations: Iterable[_Revocation]
) -> tuple[list[_Revocation], _Seen]:
    """The revocations that count, and what their authors had seen of those they revoked."""
    counted: list[_Revocation] = []
    seen: _Seen = {}
    full = _full(founder, admissions, seen)
    for record, revoke in revocations:
        if record.device not in full or _above(record, seen):
            continue
        counted.append((record, revoke))
        known = seen.setdefault(revoke.device, {})
        for (device, incarnation), seq in record.clock.items():
            if device == revoke.device:
                known[incarnation] = max(seq, known.get(incarnation, 0))
        full = _full(founder, admissions, seen)
    return counted, seen


def _above(record: Record, seen: _Seen) -> bool:
    known = seen.get(record.device)
    return known is not None and record.seq > known.get(record.incarnation, 0)


def _full(founder: bytes, admissions: Mapping[bytes, list[_Admission]], seen: _Seen) -> set[bytes]:
    """The devices that have, or had until they were revoked, full trust."""
    full, frontier = {founder}, [founder]
    while frontier:
        for record, admit in admissions.get(frontier.pop(), ()):
            if admit.trust == TRUSTS[0] and admit.device not in full and not _above(record, seen):
                full.add(admit.device)
                frontier.append(admit.device)
    return full


def _counting(
    founder: bytes, admissions: Mapping[bytes, list[_Admission]], seen: _Seen, place: Mapping[bytes, int]
) -> dict[bytes, list[_Admission]]:
    """The admissions that count, of each device the decisive one first."""
    counting: dict[bytes, list[_Admission]] = defaultdict(list)
    for author in _full(founder, admissions, seen):
        for record, admit in admissions.get(author, ()):
            if admit.device != founder and not _above(record, seen):
                counting[admit.device].append((record, admit))
    for each in counting.values():
        each.sort(key=lambda a: (TRUSTS.index(a[1].trust), place[a[0].device], a[0].hlc, a[0].hash, a[0].seq))
    return counting


def _limits(counted: Iterable[_Revocation], revoked: Iterable[bytes]) -> dict[bytes, dict[tuple[bytes, bytes], int]]:
    """Per revoked device and feed the greatest head that its revokers declare.

    What a device says of itself is heard only where nobody else has spoken: else a stolen device would revoke
    itself, with heads without end, and stay in force.
    """
    limits: dict[bytes, dict[tuple[bytes, bytes], int]] = {}
    for device in revoked:
        of_device = [(record.device, revoke.heads) for record, revoke in counted if revoke.device == device]
        by_others = [heads for author, heads in of_device if author != device]
        bounds = limits[device] = {}
        for heads in by_others or [heads for _, heads in of_device]:
            for tag, incarnation, seq in heads:
                bounds[tag, incarnation] = max(seq, bounds.get((tag, incarnation), 0))
    return limits
