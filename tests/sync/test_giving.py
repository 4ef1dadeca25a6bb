"""What is answered and pushed, to whom, in which order, and what is not."""

from __future__ import annotations

import pytest

from aico_crdt.feed import decode_entry
from aico_crdt.sync import Committed, Opened, Place
from aico_crdt.sync.message import Ack, Bodies, Digests, Entries, Heads, Hello, Manifest, Want, WantBodies, encode
from tests.sync.memory_replica import MemoryReplica, runs_of, tag
from tests.sync.pair import CONFIG, End, Pair, equal

T0, T1 = tag(0), tag(1)


def fresh(tags: tuple[bytes, ...] = (T0, T1)) -> Pair:
    return Pair(MemoryReplica(1, tags), MemoryReplica(2, tags))


def commit(end: End, name: bytes, size: int = 40) -> None:
    entry = end.replica.write(name, end.replica.random.randbytes(size))
    end.handle(Committed(name, runs_of([entry]), end.replica.device))


def pushed(end: End) -> list[Entries]:
    return [message for message in end.all_said(Entries) if message.live]


# Pushing


def test_an_own_commit_is_pushed_at_once_in_one_message() -> None:
    pair = fresh().open().run()
    pair.forget_what_was_said()
    commit(pair.a, T0)
    assert len(pushed(pair.a)) == len(pair.a.said) == 1
    pair.run()
    assert equal(pair.a.replica, pair.b.replica)
    assert [type(message) for message in pair.b.said] == [Ack]


def test_commits_of_others_go_to_peers_that_have_no_link_to_their_author() -> None:
    a, b, c = (MemoryReplica(seed, (T0,)) for seed in (1, 2, 3))
    for linked in (False, True):
        pair = Pair(a, b)
        pair.b = End(b, a.device, links=lambda linked=linked: [c.device] if linked else [])
        pair.open().run()
        run = runs_of([c.write(T0, b"x")])
        a.ingest(T0, run)
        pair.a.handle(Committed(T0, run, c.device))
        assert bool(pushed(pair.a)) is not linked


def test_the_shell_may_know_better_who_is_linked() -> None:
    a, b, c = (MemoryReplica(seed, (T0,)) for seed in (1, 2, 3))
    pair = Pair(a, b, connected=lambda device, _: device == c.device).open().run()
    pair.a.handle(Committed(T0, runs_of([c.write(T0, b"x")]), c.device))
    assert pushed(pair.a) == []
    commit(pair.a, T0)
    assert len(pushed(pair.a)) == 1, "own entries go to everyone"


def test_links_that_change_are_told_with_the_digests() -> None:
    a, b, c = (MemoryReplica(seed, (T0,)) for seed in (1, 2, 3))
    links: list[bytes] = []
    pair = Pair(a, b)
    pair.b = End(b, a.device, links=lambda: links)
    pair.open().run()
    links.append(c.device)
    pair.wait(2 * CONFIG.digest_interval_ms)
    pair.a.handle(Committed(T0, runs_of([c.write(T0, b"x")]), c.device))
    assert pushed(pair.a) == []


def test_what_one_copy_of_the_peer_wrote_is_pushed_to_the_other() -> None:
    """Both have the peer's id; their incarnations tell them apart."""
    pair = fresh().open().run()
    peer, run = pair.b.replica, runs_of([MemoryReplica(3).write(T0, b"x")])
    pair.a.handle(Committed(T0, run, peer.device, peer.incarnation))
    assert pushed(pair.a) == []
    pair.a.handle(Committed(T0, run, peer.device, b"the copy"))
    assert len(pushed(pair.a)) == 1


def test_a_link_to_one_copy_of_an_author_is_no_link_to_the_other() -> None:
    a, b, c = (MemoryReplica(seed, (T0,)) for seed in (1, 2, 3))
    pair = Pair(a, b)
    pair.b = End(b, a.device, links=lambda: [c.device + c.incarnation])
    pair.open().run()
    run = runs_of([c.write(T0, b"x")])
    pair.a.handle(Committed(T0, run, c.device, c.incarnation))
    assert pushed(pair.a) == []
    pair.a.handle(Committed(T0, run, c.device, b"the copy"))
    assert len(pushed(pair.a)) == 1


def test_nothing_is_pushed_back_to_its_author_or_to_who_brought_it() -> None:
    pair = fresh().open().run()
    b, c = pair.b.replica, MemoryReplica(3)
    pair.a.handle(Committed(T0, runs_of([b.write(T0, b"x")]), b.device))
    pair.a.handle(Committed(T0, runs_of([c.write(T0, b"x")]), c.device, source=b.device))
    assert pushed(pair.a) == []


def test_what_is_not_shared_is_not_pushed() -> None:
    pair = fresh().open().run()
    pair.a.replica.shares = {pair.b.replica.device: [T0]}
    commit(pair.a, T1)
    assert pushed(pair.a) == []
    commit(pair.a, T0)
    assert len(pushed(pair.a)) == 1


def test_while_a_collection_is_brought_up_nothing_of_it_is_pushed_and_nothing_is_lost() -> None:
    pair = fresh()
    for _ in range(40):
        pair.a.replica.write(T0, b"x" * 100)
    pair.open()
    for _ in range(30):
        commit(pair.a, T0)
        commit(pair.a, T1)
        pair.step()
    said = pair.a.said
    first_live = next((place for place, m in enumerate(said) if isinstance(m, Entries) and m.live and m.tag == T0), 0)
    last_run = max((p for p, m in enumerate(said) if isinstance(m, Entries) and not m.live and m.tag == T0), default=0)
    assert not first_live or first_live > last_run
    pair.run()
    assert equal(pair.a.replica, pair.b.replica), "without waiting for the next digests"


def test_a_push_without_room_is_dropped_told_and_made_up_for_when_acknowledgements_come() -> None:
    pair = fresh().open().run()
    pair.b.disk_is_slow = True
    for _ in range(60):
        commit(pair.a, T0, 4000)
        pair.run()
    assert pair.a.told("skipped")
    assert pair.a.session._giving.window.used <= CONFIG.window_bytes
    pair.b.disk_is_slow = False
    while pair.b.deliveries:
        pair.b.commit()
        pair.run()
    assert equal(pair.a.replica, pair.b.replica)


def test_a_commit_larger_than_the_window_still_arrives() -> None:
    pair = fresh().open().run()
    commit(pair.a, T0, 300_000)
    pair.run()
    commit(pair.a, T0, 10)
    pair.run()
    assert equal(pair.a.replica, pair.b.replica)


# Answering


def test_the_most_urgent_collection_comes_first() -> None:
    tags = tuple(tag(number) for number in range(5))
    pair = fresh(tags)
    for name in reversed(tags):
        for _ in range(3):
            pair.a.replica.write(name, b"x" * 100)
    pair.open().run()
    order = [message.tag for message in pair.a.all_said(Entries)]
    assert order == sorted(order, key=tags.index)
    assert set(order) == set(tags)


def test_a_stream_is_in_order_of_arrival_cut_by_bytes_and_says_when_it_ends() -> None:
    pair = fresh((T0,))
    a, c = pair.a.replica, MemoryReplica(3, (T0,))
    for _ in range(10):
        a.ingest(T0, runs_of([c.write(T0, c.random.randbytes(900))]))
        a.write(T0, a.random.randbytes(900))
    pair.open().run()
    stream = pair.a.all_said(Entries)
    assert [message.more for message in stream] == [True] * (len(stream) - 1) + [False]
    assert all(len(encode(message)) < CONFIG.chunk_bytes + 1500 for message in stream)
    raws = [raw for message in stream for run in message.runs for raw in run]
    assert [decode_entry(raw).header.hash for raw in raws] == [e.header.hash for e in a.content[T0].arrived]


@pytest.mark.parametrize("size", [1000, 9000, 20_000])
def test_streams_leave_room_for_a_push(size: int) -> None:
    pair = fresh()
    for _ in range(100):
        pair.a.replica.write(T0, pair.a.replica.random.randbytes(size))
    pair.b.disk_is_slow = True
    pair.open().run()
    assert CONFIG.window_bytes // 2 < pair.a.said_bytes
    commit(pair.a, T1, CONFIG.window_bytes // 10)
    assert len(pushed(pair.a)) == 1


def test_what_is_more_urgent_overtakes_a_stream_at_the_next_acknowledgement() -> None:
    pair = fresh()
    for _ in range(100):
        pair.a.replica.write(T1, pair.a.replica.random.randbytes(2000))
    pair.b.disk_is_slow = True
    pair.open().run()
    pair.a.replica.write(T0, b"urgent")
    pair.a.hear(Want(T0, (Place(pair.a.replica.device, pair.a.replica.incarnation, 1),)))
    pair.a.forget_what_was_said()
    pair.b.commit()
    pair.b.commit()
    pair.b.commit()
    pair.run()
    assert pair.a.all_said(Entries)[0].tag == T0
    assert T1 in [message.tag for message in pair.a.all_said(Entries)]


def test_heads_that_are_behind_are_answered_with_heads_once() -> None:
    pair = fresh().open().run()
    pair.a.replica.write(T0, b"x")
    for _ in range(3):
        pair.a.hear(Heads(T0, ()))
    assert len(pair.a.all_said(Heads)) == 1
    pair.a.hear(Heads(T0, pair.a.replica.heads(T0)))
    assert len(pair.a.all_said(Heads)) == 1


def test_only_what_differs_is_spoken_of() -> None:
    pair = fresh()
    for end in (pair.a, pair.b):
        end.replica.write(T1, b"x")
    pair.open().run()
    pair.a.replica.write(T0, b"new")
    again = Pair(pair.a.replica, pair.b.replica).open().run()
    assert {message.tag for message in again.a.all_said(Heads)} == {T0}
    assert len([raw for m in again.a.all_said(Entries) for run in m.runs for raw in run]) == 1


def test_heads_are_answered_by_exactly_one_want() -> None:
    pair = fresh().open().run()
    pair.a.replica.write(T0, b"x")
    for _ in range(3):
        pair.a.forget_what_was_said()
        pair.a.hear(Heads(T0, pair.a.replica.heads(T0)))
        assert pair.a.all_said(Want) == [Want(T0, ())]


def test_equal_digests_and_heads_are_acknowledgements() -> None:
    pair = fresh()
    a, b = pair.a.replica, pair.b.replica
    a.write(T0, b"x")
    pair.open().run()
    me = (a.device, a.incarnation)
    assert a.notes[b.device, T0][me] == (1, a.heads(T0)[0].hash)
    a.notes.clear()
    Pair(a, b).open().run()
    assert a.notes[b.device, T0][me] == (1, a.heads(T0)[0].hash)
    assert b.notes[a.device, T0][me] == (1, a.heads(T0)[0].hash)


def test_who_lacks_bodies_does_not_acknowledge_them_by_its_digest() -> None:
    a, b = MemoryReplica(1, (T0, T1)), MemoryReplica(2, (T0, T1), body_budget=0)
    a.write(T0, b"x")
    a.prune(T0)
    pair = Pair(a, b).open().run()
    assert a.digest(T0) == b.digest(T0)
    me = (a.device, a.incarnation)
    told = (b.device, T0, *me)
    assert a.lacking_notes[told] == 1, "what the manifest brought is acknowledged so"
    a.notes.clear()
    pair = Pair(a, b).open().run()
    assert me not in a.notes.get((b.device, T0), {}), "digests that agree are no word of it"
    pair.wait(3 * CONFIG.digest_interval_ms)
    assert len([ack for ack in pair.b.all_said(Ack) if ack.tag == T0]) == 1, "it is said once"
    assert (a.notes[b.device, T0][me][0], a.lacking_notes[told]) == (1, 1)
    b.body_budget = 10
    pair.wait(2 * CONFIG.digest_interval_ms)
    assert b.documents(T0) == a.documents(T0)
    assert (a.notes[b.device, T0][me][0], a.lacking_notes[told]) == (1, 0)


def test_what_was_lacking_and_is_not_any_more_is_acknowledged_by_the_same_digest() -> None:
    pair = fresh()
    a, b = pair.a.replica, pair.b.replica
    a.write(T0, b"x")
    pair.open().run()
    (head,) = b.heads(T0)
    pair.a.hear(Digests(((T0, b.digest(T0)),)))
    pair.a.hear(Heads(T0, (head._replace(lacking=1),)))
    assert a.lacking_notes[b.device, T0, *head[:2]] == 1
    pair.a.hear(Digests(((T0, b.digest(T0)),)))
    assert a.lacking_notes[b.device, T0, *head[:2]] == 0


def test_a_commit_while_digests_are_compared_is_not_acknowledged_by_them() -> None:
    pair = fresh().open().run()
    a, b = pair.a.replica, pair.b.replica
    digest = a.digest(T0)
    a.write(T0, b"x")
    a.digest = lambda name: digest  # type: ignore[method-assign]  # as it was a moment ago
    pair.a.session._giving._collection(T0).agreed = b""
    a.notes.clear()
    pair.a.hear(Digests(((T0, digest),)))
    assert not a.notes.get((b.device, T0))


# Manifests and bodies


def test_a_manifest_is_given_by_who_may_and_else_the_stream_alone() -> None:
    for may_attest in (True, False):
        a = MemoryReplica(1, (T0,), may_attest=may_attest)
        a.write(T0, b"x")
        a.prune(T0)
        a.write(T0, b"y")
        b = MemoryReplica(2, (T0,))
        pair = Pair(a, b).open().run()
        assert bool(pair.a.all_said(Manifest)) is may_attest
        assert pair.a.all_said(Entries)[-1].more is False
        assert equal(a, b) is may_attest


def test_bodies_come_in_the_order_asked_and_those_not_held_are_left_out() -> None:
    pair = fresh().open().run()
    a = pair.a.replica
    a.write(T0, b"x")
    a.write(T0, b"y")
    one, two = a.documents(T0)
    pair.a.forget_what_was_said()
    pair.a.hear(WantBodies(T0, (two, b"?" * 16, one)))
    assert [body.key for body in pair.a.all_said(Bodies)[0].bodies] == [two, one]


def test_a_flood_of_questions_is_bounded() -> None:
    a, b = MemoryReplica(1, (T0,)), MemoryReplica(2, (T0,))
    for _ in range(100):
        a.write(T0, a.random.randbytes(1000))
    end = End(a, b.device)
    end.handle(Opened())
    end.hear(Hello((1,), a.family, b.device, b"I" * 8, "pc", b"S" * 8, b"", 1 << 20, 60_000, ((T0, b"d" * 16),)))
    end.forget_what_was_said()
    keys = tuple(a.documents(T0))
    for number in range(2_000):
        end.hear(
            Want(T0, (Place(a.device, a.incarnation, 1),)),
            Want(number.to_bytes(16, "big"), (Place(a.device, a.incarnation, 1),)),
            WantBodies(T0, keys),
        )
    assert end.said_bytes <= CONFIG.window_bytes
    assert len(end.session._giving._body_requests) <= 16
    assert len(end.session._giving._nowhere) <= 64


def test_feeds_there_are_not_are_not_looked_for() -> None:
    pair = fresh().open().run()
    pair.a.replica.write(T0, b"x")
    pair.a.replica.read_entries = lambda *asked: pytest.fail("asked the store")  # type: ignore[method-assign]
    pair.a.forget_what_was_said()
    pair.a.hear(Want(T0, tuple(Place(bytes([number]) * 32, b"I" * 8, 1) for number in range(100))))
    assert [(message.runs, message.more) for message in pair.a.all_said(Entries)] == [((), False)]


def test_digests_that_agree_end_an_offer_that_was_lost() -> None:
    pair = fresh()
    pair.open().run()
    pair.b.replica.write(T0, b"x")
    pair.a.hear(Digests(pair.b.session._exchange.digests()))
    pair.a.out.clear()
    pair.a.hear(Digests(pair.a.session._exchange.digests()))
    pair.a.forget_what_was_said()
    commit(pair.a, T0)
    assert len(pushed(pair.a)) == 1
