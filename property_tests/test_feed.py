"""Causal delivery: whatever the order, duplicates and losses, a replica applies exactly the entries whose whole
past it was given, each after its past, and everything once everything was given.

The model records, when an entry is written, the set of entries its author had applied: that is its past. It knows
nothing of dependencies, heads or waiting.
"""

from __future__ import annotations

import dataclasses
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from aico_crdt.feed import (
    GENESIS,
    Entry,
    Erased,
    Head,
    HoldLimits,
    HoldQueue,
    Operation,
    Waiting,
    awaited_head,
    cut,
    decode_entry,
    deps_since,
    encode_entry,
    missing,
    verify_run,
    write_entry,
)
from aico_crdt.feed.causality import Writer

AUTHORS = 4
TAG = b"T" * 16
NAMES = st.integers(0, AUTHORS - 1)
STEP = st.tuples(NAMES, st.none() | NAMES, st.integers(0, 40))
STEPS = st.lists(STEP, min_size=1) | st.lists(STEP, min_size=40, max_size=80)
"""(a, None, n): a writes, under a new incarnation when n is 0. (a, b, n): a applies the first n entries b has, in b's
order."""
Steps = list[tuple[int, int | None, int]]


class Author:
    """One device: writes entries and applies those of others in the order they were given to it."""

    def __init__(self, number: int) -> None:
        self.key = SigningKey(bytes([number + 1]) * 32)
        self.device = bytes(self.key.verify_key)
        self.incarnations = 0
        self.applied: dict[bytes, Entry] = {}
        self.heads: dict[Writer, Head] = {}
        self.restart()

    def restart(self) -> None:
        self.incarnations += 1
        self.own = (self.device, self.incarnations.to_bytes(8, "big"))
        self.last: dict[Writer, Head] = {}

    def apply(self, entry: Entry) -> None:
        head = entry.header.head
        self.applied[head.hash] = entry
        self.heads[head.device, head.incarnation] = head

    def write(self) -> Entry:
        before = self.heads.get(self.own)
        entry = write_entry(
            family=b"F" * 16,
            tag=TAG,
            device=self.device,
            incarnation=self.own[1],
            seq=before.seq + 1 if before else 1,
            prev=before.hash if before else GENESIS,
            deps=deps_since(self.heads, self.last, self.own),
            hlc=len(self.applied),
            key_id=b"K" * 8,
            key=b"k" * 32,
            erase=[],
            operations=[Operation("d", 0, "update", b"x" * (len(self.applied) % 40))],
            sign=lambda message: self.key.sign(message).signature,
            random=lambda count: b"n" * count,
        )
        self.last = dict(self.heads)
        self.apply(entry)
        return entry


class History:
    """Entries with the past of each: hashes of everything its author had applied when it wrote."""

    def __init__(self, steps: Steps) -> None:
        self.entries: dict[bytes, Entry] = {}
        self.past: dict[bytes, frozenset[bytes]] = {}
        authors = [Author(number) for number in range(AUTHORS)]
        for a, b, count in steps:
            if b is not None:
                for entry in [*authors[b].applied.values()][:count]:
                    if entry.header.hash not in authors[a].applied:
                        authors[a].apply(entry)
                continue
            if count == 0:
                authors[a].restart()
            known = frozenset(authors[a].applied)
            entry = authors[a].write()
            self.entries[entry.header.hash] = entry
            self.past[entry.header.hash] = known

    def closed(self, given_hashes: set[bytes]) -> set[bytes]:
        """The specification: what was given with its whole past."""
        return {name for name in given_hashes if self.past[name] <= given_hashes}


class Receiver:
    """The smallest replica: causality and the hold queue, as a store wires them."""

    def __init__(self, limits: HoldLimits | None = None) -> None:
        self.queue = HoldQueue(limits)
        self.held: dict[bytes, Entry] = {}
        self.heads: dict[Writer, Head] = {}
        self.applied: list[bytes] = []

    def deliver(self, raw: bytes) -> None:
        todo = [decode_entry(raw)]
        while todo:
            entry = todo.pop()
            header = entry.header
            known = self.heads.get((header.device, header.incarnation))
            if known is not None and header.seq <= known.seq:
                self.queue.remove(header.hash)
                self.held.pop(header.hash, None)
            elif lacking := missing(header, self.heads):
                self.hold(entry, lacking[0])
            else:
                self.queue.remove(header.hash)
                self.held.pop(header.hash, None)
                self.heads[header.device, header.incarnation] = header.head
                self.applied.append(header.hash)
                woken = self.queue.retry(awaited_head("dependency", TAG, header.head))
                todo += [self.held[waiting.key] for waiting in woken]

    def hold(self, entry: Entry, lacking: Head) -> None:
        header = entry.header
        awaited = awaited_head("dependency", TAG, lacking)
        size = len(encode_entry(entry))
        self.held[header.hash] = entry
        waiting = Waiting(header.hash, header.feed, header.seq, header.device, size, awaited, 0)
        for evicted in self.queue.add(waiting):
            del self.held[evicted.key]


def check_order(history: History, receiver: Receiver) -> None:
    before: set[bytes] = set()
    for name in receiver.applied:
        assert history.past[name] <= before
        assert name not in before
        before.add(name)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.randoms(use_true_random=False), st.floats(0, 0.6))
def test_exactly_what_came_with_its_past_is_applied(steps: Steps, chance: Random, loss: float) -> None:
    history = History(steps)
    delivered = [name for name in history.entries if chance.random() >= loss]
    mail = delivered + [name for name in delivered if chance.random() < 0.3]
    chance.shuffle(mail)
    receiver = Receiver()
    for name in mail:
        receiver.deliver(encode_entry(history.entries[name]))
    check_order(history, receiver)
    expected = history.closed(set(delivered))
    assert set(receiver.applied) == expected
    assert set(receiver.held) == set(delivered) - expected
    assert len(receiver.queue) == len(receiver.held)

    late = [name for name in history.entries if name not in set(delivered)]
    chance.shuffle(late)
    for name in late:
        receiver.deliver(encode_entry(history.entries[name]))
    check_order(history, receiver)
    assert set(receiver.applied) == set(history.entries)
    assert (len(receiver.queue), receiver.queue.used_bytes, receiver.held) == (0, 0, {})


@settings(max_examples=100, deadline=None)
@given(STEPS, st.randoms(use_true_random=False), st.integers(0, 6))
def test_what_a_small_queue_lets_go_is_asked_for_until_all_is_applied(steps: Steps, chance: Random, room: int) -> None:
    """A peer answers each question with the feed from there on; nothing else is ever sent again."""
    history = History(steps)
    receiver = Receiver(
        HoldLimits(total_bytes=600 * room, total_count=room, author_bytes=600 * room, author_count=room)
    )
    mail = [*history.entries]
    chance.shuffle(mail)
    for name in mail:
        receiver.deliver(encode_entry(history.entries[name]))
        assert len(receiver.queue) <= room
    rounds = 0
    while asked := receiver.queue.ask_again():
        rounds += 1
        assert rounds <= len(mail)
        chance.shuffle(asked)
        for feed, seq in asked:
            answer = [one for one in history.entries.values() if one.header.feed == feed and one.header.seq >= seq]
            for entry in answer:
                receiver.deliver(encode_entry(entry))
    check_order(history, receiver)
    assert set(receiver.applied) == set(history.entries)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.randoms(use_true_random=False), st.integers(0, 5000))
def test_runs_cut_anywhere_and_partly_erased_still_verify(steps: Steps, chance: Random, max_bytes: int) -> None:
    entries = [*History(steps).entries.values()]
    known: dict[object, bytes] = {}
    sent = 0
    while sent < len(entries):
        runs = cut(entries[sent:], max_bytes)
        assert runs
        for run in runs:
            bare = [
                dataclasses.replace(entry, items=chance.choice([(None,), (Erased(b"d" * 16, 1),), entry.items]))
                for entry in run.entries
            ]
            bare = [decode_entry(encode_entry(entry)) for entry in bare]
            verify_run(bare, known.get(run.feed, GENESIS))
            known[run.feed] = bare[-1].header.hash
            sent += len(bare)
    assert sent == len(entries)
