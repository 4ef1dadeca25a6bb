"""What is asked for, how deliveries reach the store, when they are acknowledged."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from aico_crdt.feed import encode_entry
from aico_crdt.sync import Arriving, Closed, FeedHead, Ingest, IngestBodies, Ingested, IngestReport, Opened, Place
from aico_crdt.sync.message import Ack, Bodies, Entries, Heads, Hello, Manifest, Want, WantBodies
from aico_crdt.sync.replica import Body
from aico_crdt.sync.taking import RETRY_MAX_MS, STALL_MS
from tests.sync.memory_replica import MemoryReplica, document_of, runs_of, tag
from tests.sync.pair import CONFIG, End, Pair, equal

T0, T1 = tag(0), tag(1)


def listening(replica: MemoryReplica | None = None, **options: Any) -> tuple[End, MemoryReplica]:
    """An end that has been greeted by another replica, which the test plays."""
    own, peer = replica or MemoryReplica(1, (T0, T1)), MemoryReplica(2, (T0, T1))
    end = End(own, peer.device, **options)
    end.handle(Opened())
    digests = tuple((name, own.digest(name)) for name in (T0, T1))
    end.hear(Hello((1,), own.family, peer.device, b"I" * 8, "pc", b"S" * 8, b"", 1 << 20, 600_000, digests))
    end.forget_what_was_said()
    return end, peer


def stream(replica: MemoryReplica, name: bytes, entries: list[Any], serial: int, more: bool = False) -> Entries:
    return Entries(name, runs_of(entries), more=more, live=False, serial=serial)


# Wants


def test_what_is_behind_is_asked_for_from_there() -> None:
    own = MemoryReplica(1, (T0, T1))
    other, third = MemoryReplica(2, (T0, T1)), MemoryReplica(3, (T0, T1))
    first, second = [other.write(T0, b"x") for _ in range(2)]
    own.ingest(T0, runs_of([first]))
    other.ingest(T0, runs_of([third.write(T0, b"y")]))
    end, _ = listening(own)
    end.hear(Heads(T0, other.heads(T0)))
    (want,) = end.all_said(Want)
    assert set(want.wants) == {
        Place(other.device, other.incarnation, 2),
        Place(third.device, third.incarnation, 1),
    }
    assert want.manifest is False
    assert second.header.seq == 2


def test_below_the_floor_a_manifest_is_asked_for_and_the_rest_as_entries() -> None:
    end, peer = listening()
    third = MemoryReplica(3)
    heads = (
        FeedHead(peer.device, peer.incarnation, 5, 9, b"h" * 32),
        FeedHead(third.device, third.incarnation, 1, 4, b"h" * 32),
    )
    end.hear(Heads(T0, heads))
    assert end.all_said(Want) == [Want(T0, (Place(third.device, third.incarnation, 1),), manifest=True)]


def test_a_fork_is_asked_for_once_from_the_floor_both_hold() -> None:
    own = MemoryReplica(1, (T0, T1))
    other = MemoryReplica(2, (T0, T1))
    own.ingest(T0, runs_of([other.write(T0, b"x") for _ in range(3)]))
    end, _ = listening(own)
    for seq in (3, 2):
        end.hear(Heads(T0, (FeedHead(other.device, other.incarnation, 2, seq, b"?" * 32),)))
        end.hear(Entries(T0, (), more=False, live=False, serial=seq))
    assert end.all_said(Want) == [Want(T0, (Place(other.device, other.incarnation, 2),)), Want(T0, ())]
    assert len(end.told("fork")) == 1


def test_of_a_branch_that_the_peer_has_pruned_a_manifest_is_asked_for() -> None:
    own = MemoryReplica(1, (T0, T1))
    other = MemoryReplica(2, (T0, T1))
    own.ingest(T0, runs_of([other.write(T0, b"x") for _ in range(3)]))
    end, _ = listening(own)
    end.hear(Heads(T0, (FeedHead(other.device, other.incarnation, 4, 3, b"?" * 32),)))
    assert end.all_said(Want) == [Want(T0, (), manifest=True)]


def test_a_clone_and_its_original_end_with_one_branch() -> None:
    a, b = MemoryReplica(1, (T0,)), MemoryReplica(2, (T0,))
    for _ in range(3):
        a.write(T0, b"common")
    Pair(a, b).open().run()
    clone = MemoryReplica(1, (T0,))
    clone.ingest(T0, runs_of(a.content[T0].arrived))
    clone.random.seed(99)
    for _ in range(4):
        a.write(T0, b"one")
    for _ in range(2):
        clone.write(T0, b"other")
    for pair in ((a, b), (clone, b), (b, a)):
        Pair(*pair).open().run().wait(60_000)
    Pair(b, clone).open().run().wait(60_000)
    assert a.heads(T0) == b.heads(T0) == clone.heads(T0)
    assert a.heads(T0)[0].seq in (5, 7)


def test_a_peer_that_holds_more_of_our_own_feed_is_told() -> None:
    end, _ = listening()
    end.replica.write(T0, b"x")
    end.hear(Heads(T0, (FeedHead(end.replica.device, end.replica.incarnation, 1, 5, b"h" * 32),)))
    assert [tell.detail["seq"] for tell in end.told("own-feed")] == [5]
    assert end.all_said(Want)[0].wants == (Place(end.replica.device, end.replica.incarnation, 2),)


def test_a_gap_is_asked_for_once_of_who_still_holds_that_entry() -> None:
    own, other = MemoryReplica(1, (T0, T1)), MemoryReplica(2, (T0, T1))
    own.ingest(T0, runs_of([other.write(T0, b"x") for _ in range(4)]))
    gaps = [Place(other.device, other.incarnation, seq) for seq in (2, 3)]
    own.gaps = lambda name: gaps if name == T0 else ()  # type: ignore[method-assign]
    end, _ = listening(own)
    head = own.heads(T0)[0]
    end.hear(Heads(T0, (head._replace(floor=4),)))
    end.hear(Heads(T0, (head._replace(seq=1, hash=own.hash_at(T0, Place(*head[:2], 1)) or b""),)))
    assert {want.wants for want in end.all_said(Want)} == {()}
    other.write(T0, b"new")
    end.hear(Heads(T0, other.heads(T0)))
    assert end.all_said(Want)[-1].wants == (gaps[0],), "from the first gap on, which brings the rest"
    end.hear(Entries(T0, (), more=False, live=False, serial=1))
    end.hear(Heads(T0, own.heads(T0)))
    assert end.all_said(Want)[-1].wants == ()


def test_heads_during_a_stream_are_answered_at_its_end() -> None:
    end, peer = listening()
    entries = [peer.write(T0, b"x") for _ in range(4)]
    end.hear(Heads(T0, peer.heads(T0)))
    end.hear(stream(peer, T0, entries[:2], 1, more=True))
    peer.write(T0, b"late")
    end.hear(Heads(T0, peer.heads(T0)))
    assert len(end.all_said(Want)) == 1
    end.hear(stream(peer, T0, entries[2:], 2))
    assert end.all_said(Want)[1:] == [Want(T0, (Place(peer.device, peer.incarnation, 5),))]


def test_heads_are_not_answered_while_what_they_name_is_being_ingested() -> None:
    end, peer = listening()
    end.disk_is_slow = True
    end.hear(Entries(T0, runs_of([peer.write(T0, b"x")]), more=False, live=True, serial=1))
    end.hear(Heads(T0, peer.heads(T0)))
    assert end.all_said(Want) == []
    end.commit()
    assert end.all_said(Want) == [Want(T0, ())]


def test_what_does_not_come_is_asked_for_again_ever_more_rarely() -> None:
    end, peer = listening()
    heads = (FeedHead(peer.device, peer.incarnation, 1, 4, b"h" * 32),)
    asked = []
    for _ in range(4 * RETRY_MAX_MS // 10_000):
        end.hear(Heads(T0, heads))
        if end.all_said(Want)[-1].wants:
            asked.append(end.now_ms)
        end.hear(Entries(T0, (), more=False, live=False, serial=len(end.said)))
        end.now_ms += 10_000
    pauses = [later - sooner for sooner, later in pairwise(asked)]
    assert pauses == sorted(pauses)
    assert pauses[-1] <= RETRY_MAX_MS + 10_000
    assert 5 < len(asked) < 20


def test_a_stream_that_stops_is_given_up_and_asked_for_again() -> None:
    end, peer = listening()
    entries = [peer.write(T0, b"x") for _ in range(4)]
    end.hear(Heads(T0, peer.heads(T0)))
    end.hear(stream(peer, T0, entries[:2], 1, more=True))
    end.wait(STALL_MS + 2_000)
    assert end.all_said(Want)[1:] == [Want(T0, (Place(peer.device, peer.incarnation, 3),))]


# Deliveries


def test_the_store_gets_one_delivery_at_a_time_in_order() -> None:
    end, peer = listening()
    end.disk_is_slow = True
    entries = [peer.write(T0, b"x") for _ in range(3)]
    for serial, entry in enumerate(entries, 1):
        end.hear(stream(peer, T0, [entry], serial, more=serial < 3))
    assert len(end.deliveries) == 1
    got = []
    while end.deliveries:
        effect = end.deliveries[0]
        assert isinstance(effect, Ingest)
        assert len(end.deliveries) == 1
        got += [raw for run in effect.runs for raw in run]
        end.commit()
    assert got == [encode_entry(entry) for entry in entries]


def test_nothing_is_acknowledged_before_it_is_durable_and_everything_after() -> None:
    end, peer = listening()
    end.disk_is_slow = True
    end.hear(stream(peer, T0, [peer.write(T0, b"x")], 1, more=True), stream(peer, T0, [peer.write(T0, b"y")], 2))
    assert end.all_said(Ack) == []
    end.commit()
    assert [ack.serial for ack in end.all_said(Ack)] == [1]
    end.commit()
    head = end.replica.heads(T0)[0]
    last = end.all_said(Ack)[-1]
    assert (last.serial, last.heads[0].seq, last.heads[0].hash) == (2, 2, head.hash)


def test_after_a_withdrawal_an_acknowledgement_names_no_heads() -> None:
    end, peer = listening()
    end.disk_is_slow = True
    end.hear(stream(peer, T0, [peer.write(T0, b"x")], 1))
    end.replica.shares = {}
    end.commit()
    assert end.all_said(Ack) == [Ack(T0, (), (), 1)]


def test_a_crash_before_the_commit_is_never_acknowledged_and_costs_nothing() -> None:
    end, peer = listening()
    end.disk_is_slow = True
    end.hear(stream(peer, T0, [peer.write(T0, b"x")], 1))
    end.handle(Closed())
    assert end.all_said(Ack) == []
    assert not end.replica.heads(T0)
    Pair(end.replica, peer).open().run()
    assert equal(end.replica, peer)


def test_a_crash_after_the_commit_and_before_the_acknowledgement_repeats_nothing() -> None:
    end, peer = listening()
    end.disk_is_slow = True
    end.hear(stream(peer, T0, [peer.write(T0, b"x")], 1))
    effect = end.deliveries.popleft()
    end.replica.carry_out(effect, peer.device)
    end.handle(Closed())
    assert end.all_said(Ack) == []
    again = Pair(end.replica, peer).open().run()
    assert again.b.all_said(Entries) == []
    assert peer.notes[end.replica.device, T0], "the greeting itself acknowledges"


def test_entries_are_rejected_by_the_store_and_the_window_is_freed_all_the_same() -> None:
    end, peer = listening()
    foreign = MemoryReplica(5, (T0,), family=b"G" * 16)
    end.hear(stream(peer, T0, [foreign.write(T0, b"x")], 1))
    assert not end.replica.heads(T0)
    assert end.all_said(Ack)[-1] == Ack(T0, (), (), 1)
    end.hear(Entries(T0, ((b"no entry",),), more=False, live=True, serial=2))
    assert end.all_said(Ack)[-1].serial == 2
    assert end.dropped == ""


def test_what_is_held_is_asked_for_once() -> None:
    end, peer = listening()
    peer.write(T0, b"x")
    late = [peer.write(T0, b"y") for _ in range(3)]
    for serial, entry in enumerate(late, 1):
        end.hear(Entries(T0, runs_of([entry]), more=False, live=True, serial=serial))
    assert end.all_said(Want) == [Want(T0, (Place(peer.device, peer.incarnation, 1),))]
    end.hear(stream(peer, T0, peer.content[T0].arrived, 9))
    assert equal(end.replica, peer)


def test_a_doubled_delivery_is_taken_once() -> None:
    end, peer = listening()
    message = stream(peer, T0, [peer.write(T0, b"x")], 1)
    end.hear(message, message)
    assert len([effect for effect in end.effects if isinstance(effect, Ingest)]) == 1


def test_a_peer_that_overruns_the_window_is_dropped() -> None:
    end, peer = listening()
    end.disk_is_slow = True
    for serial in range(1, 200):
        end.hear(Entries(T0, runs_of([peer.write(T0, peer.random.randbytes(4000))]), False, True, serial))
    assert end.dropped == "too-large"
    assert end.session._taking._queued_bytes <= 2 * CONFIG.window_bytes


def test_a_manifest_nobody_asked_for_is_not_taken() -> None:
    end, peer = listening()
    peer.write(T0, b"x")
    end.hear(Manifest(T0, peer.manifest(T0) or b"", 1), Bodies(T0, (Body(b"k" * 16, 0, b"x"),), 2))
    assert len(end.told("unasked")) == 2
    assert not end.replica.heads(T0)
    assert [ack.serial for ack in end.all_said(Ack)] == [1, 2]


def awaiting_a_manifest() -> tuple[End, MemoryReplica]:
    end, peer = listening()
    peer.write(T0, b"x")
    peer.prune(T0)
    end.hear(Heads(T0, peer.heads(T0)))
    assert end.all_said(Want) == [Want(T0, (), manifest=True)]
    return end, peer


def test_a_manifest_that_is_on_its_way_is_awaited() -> None:
    end, peer = awaiting_a_manifest()
    for _ in range(20):
        end.wait(STALL_MS - 1_000)
        end.handle(Arriving())
    assert len(end.all_said(Want)) == 1
    assert end.dropped == ""
    end.wait(2 * STALL_MS)
    assert len(end.all_said(Want)) == 2, "when nothing comes it is asked for again"
    end.hear(Manifest(T0, peer.manifest(T0) or b"", 1), Entries(T0, (), more=False, live=False, serial=2))
    assert equal(end.replica, peer)


def test_a_manifest_that_comes_late_is_taken() -> None:
    end, peer = awaiting_a_manifest()
    for _ in range(20):
        end.wait(STALL_MS)
    assert end.all_said(Want)[-1] == Want(T0, ()), "it was given up"
    end.hear(Manifest(T0, peer.manifest(T0) or b"", 1))
    assert end.told("unasked") == []
    assert equal(end.replica, peer)
    end.hear(Manifest(T0, peer.manifest(T0) or b"", 2))
    assert end.told("unasked"), "once"


def test_an_unknown_report_does_not_acknowledge() -> None:
    end, peer = listening()
    end.disk_is_slow = True
    end.hear(stream(peer, T0, [peer.write(T0, b"x")], 1))
    with pytest.raises(Exception, match="No delivery"):
        end.handle(Ingested(12345, IngestReport()))
    assert end.all_said(Ack) == []


# Manifests, stubs, bodies


def pruned(count: int, size: int = 200) -> MemoryReplica:
    replica = MemoryReplica(1, (T0, T1))
    for _ in range(count):
        replica.write(T0, replica.random.randbytes(size))
    replica.prune(T0)
    return replica


def test_a_newcomer_gets_the_manifest_then_the_bodies_in_batches() -> None:
    a, b = pruned(700, size=20), MemoryReplica(2, (T0, T1))
    pair = Pair(a, b).open().run()
    assert equal(a, b)
    assert b.documents(T0) == a.documents(T0)
    filled = [body.key for m in pair.a.all_said(Bodies) for body in m.bodies]
    assert sorted(filled) == sorted(a.documents(T0)), "each once"
    assert max(len(m.keys) for m in pair.b.all_said(WantBodies)) == 512


def test_the_newest_stubs_are_filled_first() -> None:
    own = MemoryReplica(1, (T0, T1))
    keys = [document_of(own.write(T0, b"x")) for _ in range(600)]
    own.content[T0].bodies = dict.fromkeys(keys)
    end, _ = listening(own)
    end.hear(Heads(T0, own.heads(T0)))
    end.handle(Closed())
    pair = Pair(own, MemoryReplica(2, (T0, T1))).open().run()
    assert pair.a.all_said(WantBodies)[0].keys == tuple(reversed(keys))[:512]


def test_what_came_after_the_manifest_is_asked_for_too() -> None:
    a, b = pruned(5), MemoryReplica(2, (T0, T1))
    attested = a.manifest(T0)
    a.manifest = lambda name: attested  # type: ignore[method-assign]
    for _ in range(4):
        a.write(T0, b"after")
    Pair(a, b).open().run()
    assert equal(a, b)


def test_a_phone_keeps_stubs() -> None:
    a, b = pruned(20), MemoryReplica(2, (T0, T1), body_budget=0)
    pair = Pair(a, b).open().run().wait(60_000)
    assert equal(a, b)
    assert list(b.documents(T0).values()) == [None] * 20
    assert pair.b.all_said(WantBodies) == []


def test_bodies_the_peer_lacks_are_asked_for_once_and_the_others_come() -> None:
    a, b = pruned(100), MemoryReplica(2, (T0, T1))
    keys = list(a.documents(T0))
    for key in keys[20:90]:
        a.content[T0].bodies[key] = None
    a.body_budget = 0
    pair = Pair(a, b).open().run().wait(200_000)
    assert {key for key, body in b.documents(T0).items() if body is None} == set(keys[20:90])
    assert len(pair.b.all_said(WantBodies)) < 10
    pair.forget_what_was_said()
    pair.wait(200_000)
    assert pair.b.all_said(WantBodies) == []


def test_a_body_that_does_not_fit_its_stub_is_not_asked_for_again_and_again() -> None:
    a, b = pruned(10), MemoryReplica(2, (T0, T1))
    b.ingest_bodies = lambda name, bodies: IngestReport(rejected=len(bodies))  # type: ignore[method-assign]
    pair = Pair(a, b).open().run().wait(200_000)
    assert len(pair.b.all_said(WantBodies)) == 1


def test_only_bodies_that_were_asked_for_reach_the_store() -> None:
    own = MemoryReplica(1, (T0, T1))
    key = document_of(own.write(T0, b"x"))
    own.content[T0].bodies[key] = None
    end, _ = listening(own)
    end.handle(Closed())
    end, _ = listening(own)
    end.hear(Bodies(T0, (Body(key, 0, b"body"), Body(b"?" * 16, 0, b"body")), 1))
    effect = next(effect for effect in end.effects if isinstance(effect, IngestBodies))
    assert [body.key for body in effect.bodies] == [key]


def test_bodies_are_cut_by_bytes_and_go_on() -> None:
    a, b = pruned(40, size=1500), MemoryReplica(2, (T0, T1))
    pair = Pair(a, b).open().run()
    assert b.documents(T0) == a.documents(T0)
    assert max(len(m.bodies) for m in pair.a.all_said(Bodies)) < 5


# Erasures


def test_erasures_are_told_with_heads_and_acknowledgements_and_when_they_change() -> None:
    a, b = MemoryReplica(1, (T0, T1)), MemoryReplica(2, (T0, T1))
    a.write(T0, b"x")
    b.content[T0].erased = (Place(a.device, a.incarnation, 1),)
    pair = Pair(a, b).open().run()
    assert a.erased_notes[b.device, T0] == (Place(a.device, a.incarnation, 1),)
    b.content[T0].erased = (Place(a.device, a.incarnation, 7),)
    pair.forget_what_was_said()
    pair.wait(3 * CONFIG.digest_interval_ms)
    assert a.erased_notes[b.device, T0] == (Place(a.device, a.incarnation, 7),)
    assert len(pair.b.all_said(Ack)) == 1, "once, however many rounds"


def test_an_acknowledgement_tells_what_was_erased_in_the_feeds_it_names() -> None:
    end, peer = listening()
    other = Place(end.replica.device, end.replica.incarnation, 1)
    mine = Place(peer.device, peer.incarnation, 1)
    end.replica.content[T0].erased = (other, mine)
    end.hear(stream(peer, T0, [peer.write(T0, b"x")], 1))
    assert end.all_said(Ack)[0].erased == (mine,)
