"""The conversation as a whole: greeting, timers, what ends it, what it never says."""

from __future__ import annotations

from collections.abc import Callable

import msgpack
import pytest

from aico_crdt.errors import InvalidValue
from aico_crdt.sync import Acknowledge, Closed, Committed, Ingest, Ingested, IngestReport, Opened, Received, Sent, Tick
from aico_crdt.sync.effect import Drop, Effect, Send
from aico_crdt.sync.message import (
    Ack,
    Bodies,
    Bye,
    Digests,
    Entries,
    Heads,
    Hello,
    Manifest,
    Message,
    Want,
    WantBodies,
    decode,
    encode,
)
from aico_crdt.sync.replica import Body, FeedHead, Place
from aico_crdt.sync.session import ACK_TIMEOUT_MS, HANDSHAKE_MS, HEARD, SILENT_ROUNDS, TRANSITIONS, Session
from tests.sync.memory_replica import MemoryReplica, runs_of, tag
from tests.sync.pair import CONFIG, End, Pair, equal

T0, T1, NOWHERE = tag(0), tag(1), tag(9)


def replicas(count: int = 2, **options: object) -> list[MemoryReplica]:
    return [MemoryReplica(seed + 1, [T0, T1], **options) for seed in range(count)]  # type: ignore[arg-type]


def opened() -> Pair:
    a, b = replicas()
    return Pair(a, b).open().run()


# Greeting


def test_both_greet_and_bring_each_other_up() -> None:
    a, b = replicas()
    for number in range(30):
        (a if number % 3 else b).write(T0 if number % 2 else T1, b"x" * 300)
    Pair(a, b).open().run()
    assert equal(a, b)
    assert len(a.documents(T0)) + len(a.documents(T1)) == 30
    assert a.documents(T0) == b.documents(T0)
    assert a.documents(T1) == b.documents(T1)


def test_nothing_is_said_before_the_link_stands() -> None:
    a, b = replicas()
    end = End(a, b.device)
    end.hear(Bye("x", ""), Digests(()))
    end.handle(Tick())
    assert (end.said, end.session.state) == ([], "new")


def test_another_family_is_told_nothing() -> None:
    a, b = MemoryReplica(1), MemoryReplica(2, family=b"G" * 16)
    a.write(T0, b"x")
    pair = Pair(a, b).open().run()
    assert pair.a.dropped == "wrong-family"
    assert {type(message) for message in pair.a.said} == {Hello, Bye}
    assert a.heads(T0)
    assert not b.heads(T0)


def test_a_peer_that_is_not_who_the_link_says_is_dropped() -> None:
    a, b, c = replicas(3)
    end, other = End(a, c.device), End(b, a.device)
    end.handle(Opened())
    other.handle(Opened())
    end.handle(Received(other.out.popleft()))
    assert end.dropped == "wrong-device"


def test_fault_48_no_common_version_is_the_end_and_the_highest_common_one_is_used() -> None:
    a, b = replicas()
    a.write(T0, b"x")
    pair = Pair(a, b)
    pair.a = End(a, b.device, formats=(2, 3))
    pair.open().run()
    assert "version" in (pair.a.dropped, pair.b.dropped)
    assert {type(message) for message in pair.a.said} <= {Hello, Bye}
    assert not b.heads(T0)

    pair = Pair(a, b)
    pair.a, pair.b = End(a, b.device, formats=(1, 2, 3)), End(b, a.device, formats=(1, 2, 7))
    pair.open().run()
    assert pair.a.session.format == pair.b.session.format == 2
    assert equal(a, b)


def test_a_greeting_that_was_lost_is_said_again_ever_more_slowly_and_in_the_end_no_more() -> None:
    a, b = replicas()
    end = End(a, b.device)
    end.handle(Opened())
    end.wait(HANDSHAKE_MS + 2_000)
    assert end.dropped == "handshake"
    assert 2 < len(end.all_said(Hello)) < 6


@pytest.mark.parametrize("lost", ["a", "b"])
def test_a_lost_greeting_of_one_side_is_repaired(lost: str) -> None:
    a, b = replicas()
    a.write(T0, b"x")
    b.write(T0, b"y")
    pair = Pair(a, b).open()
    (pair.a if lost == "a" else pair.b).out.clear()
    pair.run().wait(5_000)
    assert equal(a, b)


def test_a_peer_that_begins_anew_on_the_same_link_is_greeted_anew() -> None:
    a, b = replicas()
    pair = Pair(a, b).open().run()
    pair.b = End(b, a.device)
    a.write(T0, b"x")
    pair.b.handle(Opened())
    pair.run()
    assert pair.b.session.state == pair.a.session.state == "open"
    assert equal(a, b)


def test_a_peer_that_begins_anew_is_not_acknowledged_what_it_sent_before() -> None:
    a, b = replicas()
    b.write(T0, b"x" * 100)
    pair = Pair(a, b)
    pair.a.disk_is_slow = True
    pair.open().run()
    assert pair.a.deliveries
    pair.b = End(b, a.device)
    pair.b.handle(Opened())
    pair.run()
    pair.a.said.clear()
    pair.a.commit()
    assert [ack for ack in pair.a.all_said(Ack) if ack.heads] == []
    pair.a.disk_is_slow = False
    for _ in range(len(pair.a.deliveries)):
        pair.a.commit()
    pair.run().wait(60_000)
    assert equal(a, b)


# What ends it


def test_a_farewell_ends_it_without_an_answer() -> None:
    pair = opened()
    pair.a.forget_what_was_said()
    effects = pair.a.hear(Bye("closing", "Good night."))
    assert [type(effect) for effect in effects] == [Drop]
    assert pair.a.session.state == "over"


def test_after_the_end_nothing_is_said_or_done() -> None:
    pair = opened()
    pair.a.handle(Closed())
    pair.a.forget_what_was_said()
    for event in (Opened(), Tick(), Received(b"\xff"), Ingested(7, IngestReport()), Committed(T0, [], b""), Sent(1)):
        assert pair.a.handle(event) == []


def test_a_report_nobody_waits_for_is_the_shells_mistake() -> None:
    with pytest.raises(InvalidValue):
        opened().a.handle(Ingested(99, IngestReport()))


def test_fault_34_a_peer_that_never_acknowledges_gets_a_window_full_and_is_dropped() -> None:
    a, b = replicas()
    for _ in range(400):
        a.write(T0, b"x" * 1000)
    end = End(a, b.device)
    deaf = End(b, a.device)
    end.handle(Opened())
    deaf.handle(Opened())
    end.handle(Received(deaf.out.popleft()))
    end.hear(Want(T0, (Place(a.device, a.incarnation, 1),)))
    for _ in range(5):
        end.hear(Want(T0, (Place(a.device, a.incarnation, 1),)))
        a_commit = Committed(T0, runs_of([a.write(T0, b"x" * 1000)]), a.device)
        end.handle(a_commit)
    sent = sum(len(encode(message)) for message in end.all_said(Entries))
    assert CONFIG.window_bytes // 2 < sent <= CONFIG.window_bytes
    for _ in range(ACK_TIMEOUT_MS // 1_000 + 2):
        end.hear(Digests(((T0, b"d" * 16),)))
        end.wait(1_000)
    assert end.dropped == "stalled"
    assert sent == sum(len(encode(message)) for message in end.all_said(Entries))

    Pair(a, b).open().run()  # it comes back and catches up
    assert equal(a, b)


def test_a_slow_link_is_no_dead_one() -> None:
    a, b = replicas()
    for _ in range(100):
        a.write(T0, b"x" * 1000)
    end, other = End(a, b.device), End(b, a.device)
    end.handle(Opened())
    other.handle(Opened())
    end.handle(Received(other.out.popleft()))
    end.hear(Want(T0, (Place(a.device, a.incarnation, 1),)))
    for _ in range(3 * ACK_TIMEOUT_MS // 1_000):
        end.hear(Digests(((T0, b"d" * 16),)))
        end.handle(Sent(300))
        end.wait(1_000)
    assert end.dropped == ""


def test_a_peer_that_falls_silent_is_dropped() -> None:
    pair = opened()
    pair.a.wait(SILENT_ROUNDS * CONFIG.digest_interval_ms + HANDSHAKE_MS + 2_000)
    assert pair.a.dropped == "silent"
    assert len(pair.a.all_said(Digests)) < 12


def test_fault_32_a_damaged_message_ends_it_and_changes_nothing() -> None:
    a, b = replicas()
    a.write(T0, b"x")
    entry = runs_of([b.write(T0, b"y")])
    heads = b.heads(T0)
    messages: list[Message] = [
        Heads(T0, heads),
        Want(T0, (Place(a.device, a.incarnation, 1),)),
        Entries(T0, entry, more=False, live=True, serial=1),
        Ack(T0, (), (), 0),
        Manifest(T0, b.manifest(T0) or b"", 1),
        WantBodies(T0, (b"k" * 16,)),
        Bodies(T0, (Body(b"k" * 16, 0, b"sealed"),), 1),
        Digests(((T0, b"d" * 16),)),
        Bye("x", "y"),
    ]
    before = (a.heads(T0), a.documents(T0), a.content[T0].held, a.notes)
    for message in messages:
        raw = encode(message)
        for bad in [raw[:end] for end in range(len(raw))] + [raw + b"\0", raw + b"\xc0", raw + raw]:
            end = End(a, b.device)
            end.handle(Opened())
            end.hear(
                Hello((1,), a.family, b.device, b"I" * 8, "pc", b"S" * 8, b"", 1 << 20, 60_000, ((T0, b"d" * 16),))
            )
            effects = end.handle(Received(bad))
            assert [type(effect) for effect in effects] == [Send, Drop]
            assert isinstance(decode(effects[0].raw), Bye)  # type: ignore[union-attr]
            assert end.session.state == "over"
            assert (a.heads(T0), a.documents(T0), a.content[T0].held, a.notes) == before


def test_an_acknowledgement_of_nothing_ever_sent_ends_it() -> None:
    pair = opened()
    pair.a.hear(Ack(T0, (), (), 1_000))
    assert pair.a.dropped == "malformed"


def test_a_session_is_quiet_when_it_waits_for_nothing() -> None:
    pair = opened()
    assert pair.a.session.is_quiet
    pair.a.handle(Committed(T0, runs_of([pair.a.replica.write(T0, b"x")]), pair.a.replica.device))
    assert not pair.a.session.is_quiet
    pair.run()
    assert pair.a.session.is_quiet
    behind = Heads(T0, (*pair.a.replica.heads(T0), FeedHead(b"?" * 32, b"?" * 8, 1, 4, b"h" * 32)))
    for message in (behind, Heads(T0, ())):  # something to ask for; something to offer
        pair.a.hear(message)
        assert not pair.a.session.is_quiet
        pair.run()
        assert pair.a.session.is_quiet


# What it costs


def test_a_reconnect_with_nothing_new_costs_no_more_than_two_kilobytes() -> None:
    tags = [tag(number) for number in range(12)]
    a, b = MemoryReplica(1, tags), MemoryReplica(2, tags)
    for name in tags:
        a.write(name, b"x" * 100)
        b.write(name, b"x" * 100)
    Pair(a, b).open().run()
    assert equal(a, b)
    pair = Pair(a, b).open().run()
    assert 100 < pair.bytes <= 2048


def test_a_quiet_link_exchanges_digests_and_nothing_else() -> None:
    pair = opened()
    pair.a.replica.write(T0, b"x")
    pair.wait(2 * CONFIG.digest_interval_ms)
    pair.forget_what_was_said()
    pair.wait(10 * CONFIG.digest_interval_ms)
    assert {type(message) for message in pair.a.said + pair.b.said} == {Digests}
    assert {type(effect) for effect in pair.a.effects} == {Send}, "and nothing is noted anew"
    assert 8 <= len(pair.a.said) <= 14


def test_fault_04_what_is_sent_again_changes_nothing() -> None:
    a, b = replicas()
    entries = [a.write(T0, b"x" * 50) for _ in range(5)]
    pair = Pair(a, b).open().run()
    before = (b.heads(T0), b.documents(T0))
    pair.b.hear(Entries(T0, runs_of(entries), more=False, live=True, serial=77))
    assert (b.heads(T0), b.documents(T0)) == before
    assert pair.b.all_said(Ack)[-1].heads[0].seq == 5, "and it is acknowledged again"


# What is resumed


def test_fault_15_a_long_partition_is_made_up_for_across_any_cut() -> None:
    a, b = replicas()
    for number in range(60):
        a.write(T0, b"x" * 500)
        b.write(T1 if number % 2 else T0, b"y" * 500)
    for cut_after in range(1, 200):
        pair = Pair(a, b).open()
        for _ in range(cut_after):
            if not pair.step():
                break
        else:
            continue
        break
    assert cut_after < 100, "every connection brings it further"
    assert equal(a, b)
    assert len(a.documents(T0)) == 90
    assert len(b.documents(T1)) == 30


def test_fault_15_a_cut_at_any_message_loses_nothing() -> None:
    def fresh() -> tuple[MemoryReplica, MemoryReplica]:
        a, b = replicas()
        for _ in range(8):
            a.write(T0, a.random.randbytes(2000))
            b.write(T0, b.random.randbytes(2000))
        return a, b

    a, b = fresh()
    pair, steps = Pair(a, b).open(), 0
    while pair.step():
        steps += 1
    assert steps > 5
    for cut_after in range(steps):
        a, b = fresh()
        pair = Pair(a, b).open()
        for _ in range(cut_after):
            pair.step()
        held = len(b.documents(T0)) + len(a.documents(T0))
        pair = Pair(a, b).open().run()
        assert equal(a, b)
        assert len(b.documents(T0)) == 16
        carried = sum(len(run) for said in (pair.a, pair.b) for m in said.all_said(Entries) for run in m.runs)
        assert carried == 32 - held, "what was durable is not sent again"


# What it never says


def test_fault_37_a_collection_one_may_not_see_answers_as_one_that_is_not_there() -> None:
    a, b = replicas()
    entry = a.write(T1, b"secret")
    a.shares = {b.device: [T0]}
    pair = Pair(a, b).open().run()
    answers = []
    for name in (T1, NOWHERE):  # one that is there and not for b, and one that is not there
        pair.a.forget_what_was_said()
        pair.a.hear(
            Heads(name, ()),
            Heads(name, (FeedHead(b.device, b.incarnation, 1, 4, b"h" * 32),)),
            Want(name, (Place(a.device, a.incarnation, 1),)),
            Want(name, (), manifest=True),
            Want(name, ()),
            WantBodies(name, (b"k" * 16,)),
            Entries(name, runs_of([entry]), more=False, live=False, serial=1_000 + name[0]),
            Ack(name, (), (Place(b.device, b.incarnation, 1),), 0),
        )
        said = [encode(m).replace(name, b"?").replace(bytes([name[0]]), b"?") for m in pair.a.said]
        kinds = [(type(m), len(encode(m))) for m in pair.a.said]
        answers.append((len(said), kinds, [type(e) for e in pair.a.effects]))
        assert not pair.a.all_said(Heads)
        assert {want.wants for want in pair.a.all_said(Want)} == {()}
        assert not [effect for effect in pair.a.effects if isinstance(effect, Acknowledge | Ingest)]
    assert answers[0] == answers[1]
    spoken = b"".join(encode(message) for message in pair.a.said)
    assert T1 not in spoken


def test_fault_37_what_the_peer_does_not_list_is_not_mentioned() -> None:
    a, b = MemoryReplica(1, [T0, T1]), MemoryReplica(2, [T0])
    a.write(T1, b"x")
    a.write(T0, b"x")
    pair = Pair(a, b).open().run()
    pair.a.handle(Committed(T1, runs_of([a.write(T1, b"y")]), a.device))
    pair.run()
    after_greeting = b"".join(encode(message) for message in pair.a.said if not isinstance(message, Hello))
    assert T0 in after_greeting
    assert T1 not in after_greeting


def test_fault_39_after_a_withdrawal_not_a_byte_more_is_sent() -> None:
    a, b = replicas()
    for _ in range(100):
        a.write(T0, a.random.randbytes(1000))
    pair = Pair(a, b)
    pair.b.disk_is_slow = True
    pair.open().run()
    assert pair.b.deliveries
    assert pair.a.all_said(Entries)[-1].more, "in the middle of it"
    a.shares = {b.device: [T1]}
    pair.forget_what_was_said()
    pair.b.disk_is_slow = False
    while pair.b.deliveries:
        pair.b.commit()
        pair.run()
    pair.a.handle(Committed(T0, runs_of([a.write(T0, b"y" * 1000)]), a.device))
    pair.run().wait(60_000)
    assert [m for m in pair.a.said if isinstance(m, Entries) and m.runs] == []
    assert [m for m in pair.a.said if isinstance(m, Heads) and m.tag == T0] == []
    assert a.content[T0].feeds[a.device, a.incarnation].seq > b.content[T0].feeds[a.device, a.incarnation].seq


def test_fault_46_unknown_messages_and_fields_are_counted_and_change_nothing() -> None:
    pair = opened()
    pair.a.forget_what_was_said()
    for number in range(11, 20):
        pair.a.handle(Received(msgpack.packb([number, {"what": "ever"}])))
    assert len(pair.a.told("ignored")) == 9
    assert pair.a.said == []
    fields = msgpack.unpackb(encode(Digests(())))
    pair.a.handle(Received(msgpack.packb([*fields, "more"])))
    assert pair.a.session.state == "open"
    pair.a.replica.write(T0, b"x")
    pair.wait(2 * CONFIG.digest_interval_ms)
    assert equal(pair.a.replica, pair.b.replica)


def test_fault_46_a_neighbour_that_says_more_in_every_message_is_understood() -> None:
    def newer(raw: bytes) -> bytes:
        fields = msgpack.unpackb(raw)
        if isinstance(fields[1], dict):
            fields[1]["later"] = {"a": [1]}
        return msgpack.packb([*fields, "later"])

    a, b = replicas()
    for _ in range(5):
        a.write(T0, b"x")
        b.write(T1, b"y")
    pair = Pair(a, b).open()
    while pair.a.out or pair.b.out:
        for end, other in ((pair.a, pair.b), (pair.b, pair.a)):
            if end.out:
                other.handle(Received(newer(end.out.popleft())))
                other.handle(Received(msgpack.packb([77, "later"])))
    assert equal(a, b)


# The tables


def test_every_state_has_its_row_and_only_an_open_session_hears_data() -> None:
    assert set(TRANSITIONS) == set(HEARD) == {"new", "greeting", "open", "over"}
    assert all(following in TRANSITIONS for row in TRANSITIONS.values() for following in row.values())
    assert HEARD["open"] > HEARD["greeting"] > HEARD["over"]
    assert TRANSITIONS["over"] == {}


def test_a_greeting_session_hears_no_data() -> None:
    a, b = replicas()
    end = End(a, b.device)
    end.handle(Opened())
    end.forget_what_was_said()
    end.hear(Entries(T0, runs_of([b.write(T0, b"x")]), more=False, live=True, serial=1), Heads(T0, b.heads(T0)))
    assert end.said == []
    assert not a.heads(T0)
    assert len(end.told("ignored")) == 2


def test_the_session_takes_time_and_randomness_only_as_arguments() -> None:
    def run() -> list[list[Effect]]:
        a, b = replicas()
        a.write(T0, b"x")
        session = Session(b.device, a, CONFIG, lambda count: b"r" * count)
        other = Session(a.device, b, CONFIG, lambda count: b"s" * count)
        effects = [session.handle(Opened(), 5), other.handle(Opened(), 5)]
        for effect in list(effects[1]):
            if isinstance(effect, Send):
                effects.append(session.handle(Received(effect.raw), 6))
        return effects

    calls: list[Callable[[], list[list[Effect]]]] = [run, run]
    assert calls[0]() == calls[1]()
