"""The hold queue: nothing waits beyond its quota, and nothing that was let go is forgotten."""

from __future__ import annotations

import random
from typing import Any

import pytest

from aico_crdt.feed import Awaited, FeedId, Head, HoldLimits, HoldQueue, Waiting, awaited_head
from aico_crdt.feed.hold import MAX_ASKED_FEEDS

LIMITS = HoldLimits(total_bytes=1000, total_count=50, author_bytes=500, author_count=20, age_ms=100)


def feed(author: bytes) -> FeedId:
    return FeedId(b"T" * 16, author * 32, b"I" * 8)


def waiting(author: bytes, seq: int, size: int = 10, since_ms: int = 0, awaited: Awaited | None = None) -> Waiting:
    what = awaited or Awaited("predecessor", author, seq - 1)
    return Waiting(author * 16 + seq.to_bytes(16, "big"), feed(author), seq, author, size, what, since_ms)


@pytest.fixture
def queue() -> HoldQueue:
    return HoldQueue(LIMITS)


def test_what_is_held_waits_until_its_event(queue: HoldQueue) -> None:
    member, key = waiting(b"a", 1, awaited=Awaited("author", b"a")), waiting(b"b", 1, awaited=Awaited("key", b"k"))
    assert queue.add(member) == queue.add(key) == []
    assert queue.retry(Awaited("author", b"b")) == []
    assert queue.retry(Awaited("key", b"a")) == []
    assert queue.retry(Awaited("author", b"a")) == [member]
    assert queue.retry(Awaited("author", b"a")) == []
    assert member.key in queue
    assert queue.remove(member.key) == member
    assert member.key not in queue
    assert queue.remove(member.key) is None
    assert queue.retry(Awaited("key", b"k")) == [key]


def test_a_head_wakes_what_waits_for_it_or_for_less_lowest_first(queue: HoldQueue) -> None:
    def head(seq: int) -> Head:
        return Head(b"x" * 32, b"I" * 8, seq, b"h" * 32)

    held = {
        seq: waiting(b"a", seq, awaited=awaited_head("dependency", b"T" * 16, head(seq))) for seq in (5, 2, 9, 7, 300)
    }
    for item in held.values():
        queue.add(item)
    assert queue.retry(awaited_head("dependency", b"U" * 16, head(9))) == []
    assert queue.retry(awaited_head("predecessor", b"T" * 16, head(9))) == []
    assert queue.retry(awaited_head("dependency", b"T" * 16, head(7))) == [held[2], held[5], held[7]]
    assert queue.retry(awaited_head("dependency", b"T" * 16, head(1 << 62))) == [held[9], held[300]]


def test_all_things_of_one_beginning_are_woken_at_once(queue: HoldQueue) -> None:
    held = [waiting(b"a", seq, awaited=Awaited("clock", what, 5)) for seq, what in enumerate((b"xa", b"xb", b"ya"), 1)]
    held.append(waiting(b"a", 9, awaited=Awaited("branch", b"xa")))
    for item in held:
        queue.add(item)
    assert queue.retry_all("clock", b"x") == held[:2]
    assert queue.retry_all("clock", b"x") == []
    assert queue.retry_all("clock", b"") == [held[2]]
    assert queue.retry_all("branch", b"x") == [held[3]]


def test_what_is_tried_in_vain_waits_for_the_next_thing(queue: HoldQueue) -> None:
    first = waiting(b"a", 4, awaited=Awaited("predecessor", b"p", 3), since_ms=7)
    queue.add(first)
    assert queue.retry(Awaited("predecessor", b"p", 3)) == [first]
    then = waiting(b"a", 4, awaited=Awaited("key", b"k"), since_ms=7)
    assert queue.add(then) == []
    assert (len(queue), queue.used_bytes) == (1, 10)
    assert queue.retry(Awaited("predecessor", b"p", 3)) == []
    assert queue.retry(Awaited("key", b"k")) == [then]


def test_the_same_entry_twice_counts_once(queue: HoldQueue) -> None:
    for _ in range(3):
        assert queue.add(waiting(b"a", 4, size=400)) == []
    assert (len(queue), queue.used_bytes) == (1, 400)


def test_fault_26_an_author_beyond_its_quota_loses_its_newest(queue: HoldQueue) -> None:
    other = waiting(b"b", 1, size=300)
    queue.add(other)
    kept = [waiting(b"a", seq, size=100) for seq in range(2, 7)]
    assert [queue.add(item) for item in kept] == [[]] * 5
    beyond = waiting(b"a", 7, size=100)
    assert queue.add(beyond) == [beyond]
    assert all(item.key in queue for item in (*kept, other))


def test_fault_26_the_author_that_uses_most_makes_room_for_others(queue: HoldQueue) -> None:
    heavy = [waiting(b"a", seq, size=100) for seq in range(1, 6)]
    for item in heavy:
        queue.add(item)
    queue.add(waiting(b"b", 1, size=300))
    light = waiting(b"c", 1, size=250)
    assert queue.add(light) == [heavy[4]]
    assert light.key in queue
    assert queue.used_bytes <= LIMITS.total_bytes


def test_fault_26_counts_are_capped_as_bytes_are(queue: HoldQueue) -> None:
    for author in (b"a", b"b", b"c"):
        for seq in range(1, 19 if author == b"c" else 17):
            queue.add(waiting(author, seq, size=0))
    assert len(queue) == 50
    assert queue.add(waiting(b"a", 99, size=0)) == [waiting(b"c", 18, size=0)]
    assert len(queue) == 50


def test_fault_26_an_entry_larger_than_the_quota_is_not_held(queue: HoldQueue) -> None:
    large = waiting(b"a", 1, size=501)
    assert queue.add(large) == [large]
    assert (len(queue), queue.used_bytes) == (0, 0)


def test_what_waits_since_a_clock_was_ahead_is_let_go_too(queue: HoldQueue) -> None:
    ahead = waiting(b"a", 8, since_ms=10_000)
    queue.add(ahead)
    assert queue.expired(9_900) == []
    assert queue.expired(9_899) == [ahead]


def test_fault_26_what_waits_too_long_is_let_go_and_asked_for_again(queue: HoldQueue) -> None:
    old, young = waiting(b"a", 8, since_ms=0), waiting(b"b", 3, since_ms=50)
    older = waiting(b"a", 7, since_ms=-5)
    for item in (old, young, older):
        queue.add(item)
    assert queue.expired(95) == []
    assert queue.expired(101) == [old, older]
    assert young.key in queue
    assert queue.ask_again() == [(feed(b"a"), 7)]
    assert queue.ask_again() == []


def test_fault_26_it_is_asked_for_only_when_there_is_room(queue: HoldQueue) -> None:
    for seq in range(1, 8):
        queue.add(waiting(b"a", seq, size=100))
    assert queue.ask_again() == []
    for seq in (1, 2):
        queue.remove(waiting(b"a", seq).key)
    assert queue.ask_again() == []
    queue.remove(waiting(b"a", 3).key)
    assert queue.ask_again() == [(feed(b"a"), 6)]


def test_fault_26_it_is_asked_for_at_once_when_what_it_waited_for_has_come(queue: HoldQueue) -> None:
    """Others may wait for just this entry, so a queue that stays full must not keep it out."""
    for seq in range(2, 7):
        queue.add(waiting(b"a", seq, size=100, awaited=Awaited("key", b"k")))
    for seq, upto in ((8, 4), (7, 3)):
        assert queue.add(waiting(b"a", seq, size=100, awaited=Awaited("dependency", b"x", upto)))
    for event in (Awaited("dependency", b"x", 2), Awaited("dependency", b"y", 3), Awaited("author", b"x", 3)):
        assert queue.retry(event) == []
        assert queue.ask_again() == []
    assert queue.retry(Awaited("dependency", b"x", 3)) == []
    assert queue.ask_again() == [(feed(b"a"), 7)]
    assert queue.ask_again() == []


def test_an_entry_whose_header_cannot_be_read_is_held_and_dropped_without_a_place(queue: HoldQueue) -> None:
    unread = Waiting(b"k" * 32, None, 0, b"peer", 10, Awaited("format", b"", 2), 0)
    queue.add(unread)
    assert queue.retry(Awaited("format", b"", 2)) == [unread]
    assert queue.expired(1000) == [unread]
    assert queue.ask_again() == []


def test_an_entry_first_charged_to_a_peer_can_be_charged_to_its_author(queue: HoldQueue) -> None:
    queue.add(waiting(b"p", 1, size=400))
    member = Waiting(waiting(b"p", 1).key, feed(b"p"), 1, b"a", 400, Awaited("key", b"k"), 0)
    assert queue.add(member) == []
    assert queue.used_bytes == 400
    full = waiting(b"p", 2, size=500)
    assert queue.add(full) == []


def test_feeds_to_ask_for_are_bounded() -> None:
    queue = HoldQueue(HoldLimits(author_bytes=0))
    for number in range(MAX_ASKED_FEEDS + 50):
        place = FeedId(b"T" * 16, number.to_bytes(32, "big"), b"I" * 8)
        queue.add(Waiting(number.to_bytes(32, "big"), place, 1, b"a", 1, Awaited("author"), 0))
    assert len(queue.ask_again()) == MAX_ASKED_FEEDS


@pytest.mark.parametrize("seed", range(5))
def test_the_books_balance_after_any_history(seed: int) -> None:
    """Against a list: bytes, counts, and what each event wakes."""
    chance = random.Random(seed)
    queue = HoldQueue(LIMITS)
    model: dict[bytes, Waiting] = {}
    asleep: set[bytes] = set()
    for now in range(600):
        step = chance.random()
        awaited = Awaited(chance.choice(["key", "author"]), chance.choice([b"1", b"2"]), chance.randrange(5))
        if step < 0.7:
            item = waiting(chance.choice([b"a", b"b", b"c"]), chance.randrange(40), chance.randrange(80), now, awaited)
            model[item.key] = item
            asleep.add(item.key)
            gone: list[Any] = queue.add(item)
        elif step < 0.85:
            woken = {
                key
                for key in asleep
                if model[key].awaited[:2] == awaited[:2] and model[key].awaited.upto <= awaited.upto
            }
            assert {item.key for item in queue.retry(awaited)} == woken
            asleep -= woken
            gone = []
        elif step < 0.95 and model:
            key = chance.choice(sorted(model))
            gone = [queue.remove(key)]
            assert gone == [model[key]]
        else:
            gone = queue.expired(now)
            assert {item.key for item in gone} == {key for key, item in model.items() if now - item.since_ms > 100}
        for item in gone:
            del model[item.key]
            asleep.discard(item.key)
        assert {key for key in model if key in queue} == set(model)
        assert (len(queue), queue.used_bytes) == (len(model), sum(item.size for item in model.values()))
        assert queue.used_bytes <= LIMITS.total_bytes
        assert len(queue) <= LIMITS.total_count
        for author in (b"a", b"b", b"c"):
            sizes = [item.size for item in model.values() if item.charged == author]
            assert sum(sizes) <= LIMITS.author_bytes
            assert len(sizes) <= LIMITS.author_count
