"""What waits: entries that may become valid but are not yet (`NotYet`), within quotas.

The queue knows what each waits for and what it weighs; the bytes themselves are kept by the caller, who also
fills the queue again when the store is opened. An entry waits for one thing at a time: when that comes,
`retry` hands it out for another look, and the caller either removes it or adds it again with what it lacks
next.

Nothing here is lost for good: what is evicted or grows too old is asked for again when what it waited for has
come, or when its author has room.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass
from typing import Final, NamedTuple

from aico_crdt.feed.header import FeedId, Head

NO_END: Final = (1 << 64) - 1
"""As `upto` of an event: all of that name has come."""
MAX_ASKED_FEEDS: Final = 1024
"""Feeds remembered for asking again; the digests of the next session find what is forgotten here."""


class Awaited(NamedTuple):
    """What an entry waits for, and just so the event that it has come.

    `reason` is `NotYet.missing`. `what` names the thing: a device id, a key id, a feed, a document, a writer's part of
    one. `upto` orders things of one name: a sequence number, a clock, a life, a format. What came up to `upto`
    satisfies all that wait for less.
    """

    reason: str
    what: bytes = b""
    upto: int = 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """One waiting entry.

    Attributes:
        key: names it: its header hash, or a hash of its bytes where the header cannot be read.
        feed, seq: its place, to ask for it again; ``None``, 0 where the header cannot be read.
        charged: the device whose quota it uses: the author if that is a member, else the peer that brought it
            (a
            stranger can make up any number of authors).
        size: bytes it takes on disk.
        since_ms: when it came, Unix milliseconds.
    """

    key: bytes
    feed: FeedId | None
    seq: int
    charged: bytes
    size: int
    awaited: Awaited
    since_ms: int


@dataclass(frozen=True, slots=True)
class HoldLimits:
    """Quotas. One author may use a quarter: three dishonest ones still leave room for the rest."""

    total_bytes: int = 64 * 1024 * 1024
    total_count: int = 65_536
    author_bytes: int = 16 * 1024 * 1024
    author_count: int = 16_384
    age_ms: int = 30 * 24 * 3600 * 1000
    """A device that was on holiday for a month brings what was missing."""


@dataclass(slots=True)
class _Account:
    """What one device uses: its entries in order of arrival, and their bytes."""

    keys: dict[bytes, None]
    used_bytes: int = 0


@dataclass(slots=True)
class _Lost:
    """The lowest entry of a feed that was let go, and whether what it waited for has come since."""

    seq: int
    charged: bytes
    awaited: Awaited
    came: bool = False


def awaited_head(reason: str, tag: bytes, head: Head) -> Awaited:
    """Wait for an entry of a feed (`reason` "predecessor" or "dependency"), or tell that it was applied."""
    return Awaited(reason, tag + head.device + head.incarnation, head.seq)


class HoldQueue:
    """Waiting entries by key, by what they wait for, and by who is charged. Not thread-safe."""

    def __init__(self, limits: HoldLimits | None = None) -> None:
        self.limits = limits or HoldLimits()
        self.used_bytes = 0
        self._waiting: dict[bytes, Waiting] = {}
        self._accounts: dict[bytes, _Account] = {}
        self._by_awaited: dict[tuple[str, bytes], list[tuple[int, bytes]]] = {}
        self._lost: dict[FeedId, _Lost] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, key: bytes) -> bool:
        return key in self._waiting

    def add(self, waiting: Waiting) -> list[Waiting]:
        """Hold `waiting`; if its key is held already it keeps its place and waits for the new thing.

        Returns:
            what had to go to stay within the quotas, possibly `waiting` itself: the newest of its author, or
            of the author that uses most. The newest, since the older are what the newer wait for.
        """
        earlier = self._waiting.get(waiting.key)
        if earlier is not None and earlier.charged != waiting.charged:
            self.remove(waiting.key)
            earlier = None
        if earlier is not None:
            self._forget_awaited(earlier)
        account = self._accounts.setdefault(waiting.charged, _Account({}))
        growth = waiting.size - (earlier.size if earlier is not None else 0)
        account.keys[waiting.key] = None
        account.used_bytes += growth
        self.used_bytes += growth
        self._waiting[waiting.key] = waiting
        insort(self._by_awaited.setdefault(waiting.awaited[:2], []), (waiting.awaited.upto, waiting.key))
        return self._evict(waiting.charged)

    def remove(self, key: bytes) -> Waiting | None:
        """Let go of an entry that was applied, rejected or deleted. ``None`` if it was not held."""
        waiting = self._waiting.pop(key, None)
        if waiting is None:
            return None
        account = self._accounts[waiting.charged]
        del account.keys[key]
        account.used_bytes -= waiting.size
        self.used_bytes -= waiting.size
        if not account.keys:
            del self._accounts[waiting.charged]
        self._forget_awaited(waiting)
        return waiting

    def retry(self, event: Awaited) -> list[Waiting]:
        """What waited for `event`, lowest `upto` first.

        Each stays held and counted until the caller removes it, or adds it again with what it waits for next.
        """
        for lost in self._lost.values():
            if lost.awaited[:2] == event[:2] and lost.awaited.upto <= event.upto:
                lost.came = True
        bucket = self._by_awaited.get(event[:2])
        if bucket is None:
            return []
        end = bisect_right(bucket, event.upto, key=lambda row: row[0])
        ready = [self._waiting[key] for _, key in bucket[:end]]
        del bucket[:end]
        if not bucket:
            del self._by_awaited[event[:2]]
        return ready

    def retry_all(self, reason: str, prefix: bytes) -> list[Waiting]:
        """What waits for any thing of `reason` whose name begins with `prefix`, as :meth:`retry`."""
        names = {waiting.awaited.what for waiting in self._waiting.values() if waiting.awaited.reason == reason}
        lost = {gone.awaited.what for gone in self._lost.values() if gone.awaited.reason == reason}
        found = []
        for what in sorted(names | lost):
            if what.startswith(prefix):
                found += self.retry(Awaited(reason, what, NO_END))
        return found

    def everything(self) -> list[Waiting]:
        """All that waits. Each stays held, as with :meth:`retry`."""
        return list(self._waiting.values())

    def expired(self, now_ms: int) -> list[Waiting]:
        """Let go of what has waited longer than the limit, and return it. What has waited since a time so far ahead
        was noted under a clock that was wrong."""
        old = [item for item in self._waiting.values() if abs(now_ms - item.since_ms) > self.limits.age_ms]
        for waiting in old:
            self._lose(waiting)
        return old

    def ask_again(self) -> list[tuple[FeedId, int]]:
        """Feeds to ask for, each with the lowest sequence number let go of. Each is named once.

        Named are those that wait no longer, and those whose author uses less than half its quota: half, so that what
        comes is not evicted at once. To be called at a digest's pace, since what is asked for in vain comes back here.
        """
        room = 2 * self.used_bytes <= self.limits.total_bytes and 2 * len(self) <= self.limits.total_count
        ready = [
            (feed, lost.seq)
            for feed, lost in self._lost.items()
            if lost.came or (room and self._has_room(lost.charged))
        ]
        for feed, _ in ready:
            del self._lost[feed]
        return ready

    def _has_room(self, charged: bytes) -> bool:
        account = self._accounts.get(charged)
        return account is None or (
            2 * account.used_bytes <= self.limits.author_bytes and 2 * len(account.keys) <= self.limits.author_count
        )

    def _evict(self, charged: bytes) -> list[Waiting]:
        """Lose entries until every quota holds; only `charged` may have grown beyond its own."""
        limits, evicted = self.limits, []
        while (account := self._accounts.get(charged)) is not None and (
            account.used_bytes > limits.author_bytes or len(account.keys) > limits.author_count
        ):
            evicted.append(self._lose_newest(account))
        while self.used_bytes > limits.total_bytes or len(self) > limits.total_count:
            by_bytes = self.used_bytes > limits.total_bytes
            heaviest = max(self._accounts.values(), key=lambda used: used.used_bytes if by_bytes else len(used.keys))
            evicted.append(self._lose_newest(heaviest))
        return evicted

    def _lose_newest(self, account: _Account) -> Waiting:
        waiting = self._waiting[next(reversed(account.keys))]
        self._lose(waiting)
        return waiting

    def _lose(self, waiting: Waiting) -> None:
        """Remove, and note the place for asking again."""
        self.remove(waiting.key)
        if waiting.feed is None:
            return
        lost = self._lost.get(waiting.feed)
        if lost is None or waiting.seq < lost.seq:
            came = lost is not None and lost.came
            self._lost[waiting.feed] = _Lost(waiting.seq, waiting.charged, waiting.awaited, came)
        if len(self._lost) > MAX_ASKED_FEEDS:
            del self._lost[next(iter(self._lost))]

    def _forget_awaited(self, waiting: Waiting) -> None:
        """Drop the index row, unless `retry` already took it."""
        name, row = waiting.awaited[:2], (waiting.awaited.upto, waiting.key)
        bucket = self._by_awaited.get(name, [])
        at = bisect_left(bucket, row)
        if at < len(bucket) and bucket[at] == row:
            del bucket[at]
            if not bucket:
                del self._by_awaited[name]
