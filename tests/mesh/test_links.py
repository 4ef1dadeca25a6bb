"""Links over real sockets on loopback."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import zmq

from aico_crdt.config import Config
from aico_crdt.errors import Closed, ForkedProcess, InvalidValue, MachineError, TooLarge
from aico_crdt.mesh import Lane, Peer, frame
from aico_crdt.mesh.client import Connection
from aico_crdt.mesh.frame import Hello, Kind
from aico_crdt.trust import Identity, curve_key
from tests.mesh.support import Device, identity, until

Make = Callable[..., Device]
"""``mesh(number)``: a device. The ids of 1, 2, 3 begin with 8a, 81, ed: 2 leads 1 leads 3."""


class RawPeer:
    """A device that speaks frames by hand."""

    def __init__(
        self,
        who: Identity,
        target: Device,
        *,
        key: str = "",
        answers: bool = False,
        run: bytes = b"raw peer",
        **settings: Any,
    ) -> None:
        self.run = run
        self.context = zmq.Context()
        self.answers = answers
        self.leads = who.device < target.device
        self.frames: list[bytes] = []
        self.ready = False
        self.reason = ""
        self.connection = Connection(
            self.context,
            who,
            Config(**settings),
            server_key=key or curve_key(target.device),
            endpoint=target.links.endpoint,
            on_ready=self._on_ready,
            on_frame=self._on_frame,
            on_end=self._on_end,
        )

    def _on_ready(self, _: Connection) -> None:
        self.ready = True

    def _on_frame(self, connection: Connection, raw: bytes) -> None:
        self.frames.append(raw)
        if self.answers and raw[1] == Kind.PING:
            connection.write(b"\1\6" + raw[2:])

    def _on_end(self, _: Connection, reason: str) -> None:
        self.reason = reason

    async def greet(self) -> RawPeer:
        """Says hello, without a link."""
        await until(lambda: self.ready)
        self.connection.write(frame.encode_hello(Hello(self.run, 1 << 20, 256 << 10)))
        return self

    async def open(self) -> RawPeer:
        """Greets and opens a link."""
        await self.greet()
        await until(lambda: self.frames if self.leads else frame.encode_bare(Kind.OPEN) in self.frames)
        self.connection.settle()
        self.connection.write(frame.encode_bare(Kind.OPEN))
        return self

    async def close(self) -> None:
        self.connection.close()
        await asyncio.to_thread(self.context.term)


@pytest.fixture
async def raw() -> AsyncIterator[Callable[..., RawPeer]]:
    async with AsyncExitStack() as stack:

        def make(*args: Any, **named: Any) -> RawPeer:
            peer = RawPeer(*args, **named)
            stack.push_async_callback(peer.close)
            return peer

        yield make


# --- messages


async def test_messages_pass_both_ways_whoever_dialed(mesh: Make) -> None:
    for first, second in ((1, 2), (2, 1)):
        a, b = mesh(first), mesh(second)
        await a.start()
        await b.start(a.as_peer())
        await a.linked(b)
        await b.linked(a)
        assert a.send(b, b"to b")
        assert b.send(a, b"to a")
        await until(lambda a=a, b=b: (a.messages, b.messages) == ([b"to a"], [b"to b"]))
        assert a.events == [("up", b.device), ("message", b.device)]


async def test_large_messages_pass_both_ways_at_once(mesh: Make) -> None:
    a, b = mesh(1), mesh(2)
    await a.start()
    await b.start(a.as_peer())
    await a.linked(b)
    await b.linked(a)
    to_a, to_b = os.urandom(5 << 20), os.urandom(5 << 20)
    assert a.send(b, to_b)
    assert b.send(a, to_a)
    await until(lambda: a.messages and b.messages)
    assert (a.messages, b.messages) == ([to_a], [to_b])
    await until(lambda: a.sent == len(to_b))
    assert a.queued_bytes(b) == 0
    assert b.parts == (5 << 20) // Config().chunk_bytes - 1


async def test_an_urgent_message_overtakes_what_waits(mesh: Make) -> None:
    a, b = mesh(1), mesh(2)
    await a.start()
    await b.start(a.as_peer())
    await a.linked(b)
    await b.linked(a)
    for _ in range(12):
        a.send(b, bytes(1 << 20), Lane.BULK)
    a.send(b, b"calm", Lane.EMOTION)
    await until(lambda: len(b.messages) == 13)
    # 4 chunks were under way, so at most one message had left whole and one had begun.
    assert b.messages.index(b"calm") <= 2


async def test_order_within_a_lane_is_kept(mesh: Make) -> None:
    a, b = mesh(1), mesh(2)
    await a.start()
    await b.start(a.as_peer())
    await a.linked(b)
    expected = [number.to_bytes(4, "big") * (1 + number % 3 * 40_000) for number in range(60)]
    for message in expected:
        assert a.send(b, message)
    await until(lambda: len(b.messages) == 60)
    assert b.messages == expected


async def test_both_dial_and_one_link_carries_the_messages(mesh: Make) -> None:
    a, b = mesh(1), mesh(2)
    await a.start()
    await b.start(a.as_peer())
    a.links.add_peer(b.as_peer())
    await a.linked(b)
    await b.linked(a)
    for number in range(50):
        assert a.send(b, bytes([number]))
        assert b.send(a, bytes([number]))
        await asyncio.sleep(0)
    await until(lambda: len(a.messages) == len(b.messages) == 50)
    assert a.messages == b.messages == [bytes([number]) for number in range(50)]
    assert ("down", b.device) not in a.events
    assert ("down", a.device) not in b.events


async def test_two_nodes_in_one_process_have_contexts_of_their_own(mesh: Make) -> None:
    """Each has its own ZAP handler: what one admits, the other does not."""
    here: set[bytes] = set()
    there: set[bytes] = set()
    a, b = mesh(1, here), mesh(2, there)
    await a.start()
    await b.start()
    c = mesh(3, here)
    here.add(b.device)
    await c.start(a.as_peer(), Peer(b.device, endpoints=(b.links.endpoint,)))
    await c.linked(a)
    await until(lambda: _reason(c, b) == "the peer refused this device")
    assert not c.links.is_up(b.device)


def _reason(device: Device, other: Device) -> str:
    return next(status.last_reason for status in device.links.status() if status.device == other.device)


# --- who may connect


async def test_a_stranger_is_refused(mesh: Make, raw: Callable[..., RawPeer]) -> None:
    a = mesh(1)
    await a.start()
    stranger = raw(identity(9), a)
    await until(lambda: stranger.reason)
    assert stranger.reason == "the peer refused this device"
    assert a.events == []
    assert a.links.status() == []


async def test_a_client_without_keys_is_refused(mesh: Make) -> None:
    a = mesh(1)
    await a.start()
    context = zmq.Context()
    plain = context.socket(zmq.DEALER)
    plain.linger = 0
    monitor = plain.get_monitor_socket()
    plain.connect(a.links.endpoint)
    plain.send(frame.encode_hello(Hello(b"raw peer", 1 << 20, 256 << 10)))
    events: list[int] = []

    def failed() -> bool:
        while monitor.poll(0):
            events.append(int.from_bytes(monitor.recv_multipart()[0][:2], "little"))
        return int(zmq.Event.DISCONNECTED) in events

    await until(failed)
    assert int(zmq.Event.HANDSHAKE_SUCCEEDED) not in events
    assert a.events == []
    plain.disable_monitor()
    plain.close()
    monitor.close()
    await asyncio.to_thread(context.term)


async def test_another_server_under_that_address_is_not_talked_to(mesh: Make, raw: Callable[..., RawPeer]) -> None:
    a = mesh(1)
    await a.start()
    a.members.add(identity(7).device)
    deceived = raw(identity(7), a, key=curve_key(identity(8).device))
    await until(lambda: deceived.reason)
    assert "another key" in deceived.reason
    assert not deceived.ready


async def test_who_is_revoked_is_cut_at_once(mesh: Make) -> None:
    a, b, c = mesh(1), mesh(2), mesh(3)
    await a.start()
    await b.start(a.as_peer())
    await c.start(a.as_peer())
    await a.linked(b, c)
    a.members = a.members - {b.device}
    a.links.recheck()
    await until(lambda: ("down", b.device) in a.events)
    assert not a.send(b, b"secret")
    assert a.send(c, b"still here")
    await until(lambda: ("down", a.device) in b.events)
    attempts = next(s.attempts for s in b.links.status())
    await until(lambda: next(s.attempts for s in b.links.status()) > attempts)
    assert a.events.count(("up", b.device)) == 1
    assert _reason(b, a)


async def test_the_key_is_checked_on_every_message(mesh: Make, raw: Callable[..., RawPeer]) -> None:
    """Without any recheck: the first message after the revocation does not arrive."""
    a = mesh(1)
    await a.start()
    a.members.add(identity(2).device)
    peer = await raw(identity(2), a).open()
    peer.connection.write(frame.encode_data(Kind.SINGLE, Lane.BULK, 0, 3, b"one"))
    await until(lambda: a.messages == [b"one"])
    a.members = a.members - {identity(2).device}
    peer.connection.write(frame.encode_data(Kind.SINGLE, Lane.BULK, 1, 3, b"two"))
    await until(lambda: peer.reason)
    assert peer.reason == "the connection was closed"
    assert a.messages == [b"one"]
    assert a.events[-1] == ("down", identity(2).device)


async def test_the_key_of_a_dialed_peer_is_checked_on_every_message_too(mesh: Make) -> None:
    a, b = mesh(1, set()), mesh(2)
    b.members.add(identity(1).device)
    await b.start()
    a.members.add(b.device)
    await a.start(b.as_peer())
    await a.linked(b)
    await b.linked(a)
    assert b.send(a, b"one")
    await until(lambda: a.messages == [b"one"])
    a.members.discard(b.device)
    assert b.send(a, b"two")
    await until(lambda: a.events[-1][0] == "down")
    assert a.messages == [b"one"]


async def test_who_is_admitted_later_is_let_in_by_a_later_attempt(mesh: Make) -> None:
    a, b = mesh(1, set()), mesh(2)
    await a.start()
    b.members.add(a.device)
    await b.start(a.as_peer())
    await until(lambda: _reason(b, a) == "the peer refused this device")
    a.members.add(b.device)
    await a.linked(b)


async def test_a_routing_id_of_ones_own_choice_is_not_heard(mesh: Make) -> None:
    """Chosen ids could be those of others; libzmq's own begin with a zero byte."""
    a = mesh(1)
    await a.start()
    who = identity(2)
    a.members.add(who.device)
    context = zmq.Context()
    thief = context.socket(zmq.DEALER)
    thief.setsockopt(zmq.ROUTING_ID, b"mine")
    thief.linger = 0
    thief.curve_publickey, thief.curve_secretkey = who.curve_public_z85.encode(), who.curve_secret_z85.encode()
    thief.curve_serverkey = curve_key(a.device).encode()
    thief.connect(a.links.endpoint)
    thief.send(frame.encode_hello(Hello(b"raw peer", 1 << 20, 256 << 10)))
    assert await asyncio.to_thread(thief.poll, 300) == 0
    assert a.links.status() == []
    thief.close()
    await asyncio.to_thread(context.term)


# --- bad frames


async def test_fault_32_who_sends_a_broken_frame_is_cut_and_others_are_not(
    mesh: Make, raw: Callable[..., RawPeer]
) -> None:
    a, b = mesh(1), mesh(2)
    await a.start()
    await b.start(a.as_peer())
    await a.linked(b)
    bad = identity(3)
    a.members.add(bad.device)
    good = frame.encode_data(Kind.SINGLE, Lane.BULK, 0, 5, b"hello")
    for broken in (good[:-1], good + b"x", b"", b"\1", b"\2" + good[1:], frame.encode_bare(Kind.OPEN)):
        peer = await raw(bad, a).open()
        await until(lambda: a.links.is_up(bad.device))
        peer.connection.write(broken)
        await until(lambda peer=peer: peer.reason)
        await until(lambda: not a.links.is_up(bad.device))
    assert a.messages == []
    assert a.events.count(("down", bad.device)) == 6
    assert ("down", b.device) not in a.events
    assert b.send(a, b"fine")
    await until(lambda: a.messages == [b"fine"])


async def test_a_frame_over_the_chunk_size_drops_the_connection(mesh: Make, raw: Callable[..., RawPeer]) -> None:
    a = mesh(1, chunk_bytes=4096)
    await a.start()
    a.members.add(identity(2).device)
    peer = await raw(identity(2), a).open()
    await until(lambda: a.links.is_up(identity(2).device))
    peer.connection.write(frame.encode_data(Kind.SINGLE, Lane.BULK, 0, 5000, bytes(5000)))
    await until(lambda: peer.reason)
    await until(lambda: a.events and a.events[-1][0] == "down")
    assert a.messages == []


async def test_what_no_peer_takes_is_not_queued(mesh: Make) -> None:
    small = {"max_message_bytes": 4 << 20, "receive_queue_bytes": 1 << 20}
    a, b = mesh(1, **small), mesh(2, **small)
    await a.start()
    await b.start(a.as_peer())
    await a.linked(b)
    with pytest.raises(TooLarge):
        a.send(b, bytes((4 << 20) + 1))
    assert a.send(b, bytes(4 << 20))
    await until(lambda: b.messages)


# --- links that break


async def test_redial_after_the_server_came_back(mesh: Make) -> None:
    a, b = mesh(1), mesh(2)
    await a.start()
    port = int(a.links.endpoint.rpartition(":")[2])
    await b.start(a.as_peer())
    await b.linked(a)
    await a.links.stop()
    await until(lambda: b.events[-1] == ("down", a.device))
    again = mesh(1)
    await again.start(port=port)
    await again.linked(b)
    await b.linked(again)
    assert b.send(again, b"welcome back")
    await until(lambda: again.messages == [b"welcome back"])


async def test_a_dialer_that_begins_anew_takes_the_place_of_its_old_link(
    mesh: Make, raw: Callable[..., RawPeer]
) -> None:
    """Its old connection may look alive for long: the newest one of a key counts."""
    for here, there in ((1, 2), (2, 1)):  # as follower and as leader
        a = mesh(here, heartbeat_interval_ms=200)
        await a.start()
        who = identity(there)
        a.members.add(who.device)
        first = await raw(who, a).open()
        await until(lambda a=a, who=who: a.links.is_up(who.device))
        await raw(who, a).open()
        await until(lambda a=a, who=who: a.events == [("up", who.device), ("down", who.device), ("up", who.device)])
        await until(lambda first=first: first.reason)


async def test_a_link_that_lives_is_not_left_for_a_second_connection(mesh: Make, raw: Callable[..., RawPeer]) -> None:
    """The two hellos had crossed: the peer has a link by now, over the first connection."""
    a = mesh(2, heartbeat_interval_ms=100, heartbeat_timeout_ms=1000)
    await a.start()
    who = identity(1)
    a.members.add(who.device)
    first = await raw(who, a, answers=True).open()
    await until(lambda: a.links.is_up(who.device))
    second = await raw(who, a, answers=True).greet()
    await until(lambda: second.frames)
    await asyncio.sleep(0.25)
    assert a.events == [("up", who.device)]
    assert not first.reason


async def test_a_follower_asks_anew_when_the_leader_does_not_choose(mesh: Make, raw: Callable[..., RawPeer]) -> None:
    """Its link is gone and another connection stands by: only a new hello tells a leader that missed it."""
    a = mesh(1, heartbeat_interval_ms=100, heartbeat_timeout_ms=1000)
    await a.start()
    who = identity(2)
    a.members.add(who.device)
    first = await raw(who, a, answers=True).open()
    await until(lambda: a.links.is_up(who.device))
    second = await raw(who, a, answers=True).greet()
    await until(lambda: second.frames)
    first.connection.close()
    await until(lambda: second.reason)
    assert not a.links.is_up(who.device)


async def test_a_link_is_opened_once(mesh: Make, raw: Callable[..., RawPeer]) -> None:
    a = mesh(1)
    await a.start()
    a.members.add(identity(2).device)
    peer = await raw(identity(2), a).open()
    await until(lambda: a.links.is_up(identity(2).device))
    peer.connection.write(frame.encode_bare(Kind.OPEN))
    await until(lambda: peer.reason)
    assert "twice" in a.reasons[0]


async def test_a_slow_handler_hears_of_one_link_after_the_other(mesh: Make) -> None:
    a, b = mesh(1), mesh(2)
    reading = asyncio.Event()
    kept = b.on_message

    async def slow(device: bytes, message: bytes) -> None:
        await reading.wait()
        await kept(device, message)

    b.on_message = slow  # type: ignore[method-assign]
    await a.start()
    await b.start(a.as_peer())
    await a.linked(b)
    for message in (b"1", b"2", b"3"):
        assert a.send(b, message)
    for ups in (2, 3):
        await until(lambda: a.queued_bytes(b) == 0)
        await asyncio.sleep(0.05)  # what was sent has arrived there
        a.drop(b)
        await until(lambda ups=ups: a.events.count(("up", b.device)) == ups)
    await asyncio.sleep(0.05)
    assert b.events == [("up", a.device)]
    assert not b.send(a, b"over a link it has not been told of")
    reading.set()
    await b.linked(a)
    # What had arrived is handed on; a link that came and went meanwhile, with nothing to say, is not told.
    assert b.events == [("up", a.device), *[("message", a.device)] * 3, ("down", a.device), ("up", a.device)]
    assert b.messages == [b"1", b"2", b"3"]


async def test_a_revocation_does_not_wait_for_the_handler(mesh: Make) -> None:
    a, b = mesh(1), mesh(2)

    async def never(device: bytes, message: bytes) -> None:
        await asyncio.Event().wait()

    a.on_message = never  # type: ignore[method-assign]
    await a.start()
    await b.start(a.as_peer())
    await b.linked(a)
    assert b.send(a, b"1")
    assert b.send(a, b"2")
    await until(lambda: next(s.bytes_in for s in a.links.status()) >= 11 + 2 + 2 * 12)
    a.members = a.members - {b.device}
    a.links.recheck()
    await until(lambda: a.events == [("up", b.device), ("down", b.device)])


async def test_the_end_does_not_wait_for_a_handler_that_hangs(mesh: Make) -> None:
    a, b = mesh(1), mesh(2)

    async def never(device: bytes, message: bytes) -> None:
        await asyncio.Event().wait()

    a.on_message = never  # type: ignore[method-assign]
    await a.start()
    await b.start(a.as_peer())
    await b.linked(a)
    assert b.send(a, b"1")
    await b.links.stop()
    async with asyncio.timeout(2):
        await a.links.stop()
    assert a.events == [("up", b.device), ("down", b.device)]


async def test_only_the_connection_meant_is_cut(mesh: Make) -> None:
    """Descriptors are used again at once: one that names another connection by now is left alone."""
    a, b = mesh(1), mesh(2)
    await a.start()
    await b.start(a.as_peer())
    await a.linked(b)
    (route,) = a.links._server._routes.values()
    a.links._server._shut_down(route.descriptor, ("127.0.0.1", 1))
    a.links._server._shut_down(0, route.address)
    await asyncio.sleep(0.1)
    assert len(b.events) == 1
    a.links._server._shut_down(route.descriptor, route.address)
    await until(lambda: b.events[-1] == ("down", a.device) or len(b.events) > 2)


async def test_a_frozen_peer_is_noticed(mesh: Make, raw: Callable[..., RawPeer]) -> None:
    """Its connection stands and its libzmq answers, but nobody reads: only heartbeats of our own tell."""
    a = mesh(1, heartbeat_interval_ms=100, heartbeat_timeout_ms=300)
    await a.start()
    a.members.add(identity(2).device)
    peer = await raw(identity(2), a).open()
    await until(lambda: a.links.is_up(identity(2).device))
    began = asyncio.get_running_loop().time()
    await until(lambda: a.events[-1][0] == "down", 2)
    assert asyncio.get_running_loop().time() - began < 1
    assert a.reasons == ["no sign of life for 300 ms"]
    assert Kind.PING in {raw[1] for raw in peer.frames}


async def test_a_living_peer_is_not_taken_for_frozen(mesh: Make) -> None:
    beats = {"heartbeat_interval_ms": 100, "heartbeat_timeout_ms": 250}
    a, b = mesh(1, **beats), mesh(2, **beats)
    await a.start()
    await b.start(a.as_peer())
    await a.linked(b)
    await asyncio.sleep(0.8)
    assert [kind for kind, _ in a.events + b.events] == ["up", "up"]
    assert next(s.rtt_ms for s in a.links.status()) is not None


async def test_fault_16_a_peer_that_never_answers_is_dialed_ever_more_seldom(mesh: Make) -> None:
    """TCP connects, and nothing ever comes back: a one-way link."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        a = mesh(1)
        other = identity(2)
        a.members.add(other.device)
        endpoint = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        await a.start(
            Peer(other.device, endpoints=(endpoint,)), handshake_timeout_ms=100, redial_min_ms=50, redial_max_ms=400
        )
        await asyncio.sleep(1.5)
        status = a.links.status()[0]
        # 100 ms each, waits of at least 25, 50, 100, 200, 200 ms between them: no more than these fit in 1.5 s.
        assert 3 <= status.attempts <= 6
        assert not status.connected
        assert status.last_reason
        assert a.events == []


async def test_fault_16_a_peer_that_never_greets_is_given_up(mesh: Make) -> None:
    """The CURVE handshake is done, and then nobody speaks."""
    a = mesh(1)
    other = identity(2)
    a.members.add(other.device)
    context = zmq.Context()
    mute = context.socket(zmq.ROUTER)
    mute.linger = 0
    mute.curve_server = True
    mute.curve_publickey, mute.curve_secretkey = other.curve_public_z85.encode(), other.curve_secret_z85.encode()
    port = mute.bind_to_random_port("tcp://127.0.0.1")
    try:
        await a.start(Peer(other.device, endpoints=(f"tcp://127.0.0.1:{port}",)), handshake_timeout_ms=150)
        await until(lambda: "time for a handshake" in a.links.status()[0].last_reason)
        assert a.events == []
    finally:
        await a.links.stop()
        mute.close()
        await asyncio.to_thread(context.term)


async def test_a_loop_that_was_held_up_does_not_blame_its_peers(mesh: Make) -> None:
    beats = {"heartbeat_interval_ms": 100, "heartbeat_timeout_ms": 300}
    a, b = mesh(1, **beats), mesh(2, **beats)
    await a.start()
    await b.start(a.as_peer())
    await a.linked(b)
    time.sleep(0.5)
    await asyncio.sleep(0.15)
    assert [kind for kind, _ in a.events + b.events] == ["up", "up"]


async def test_one_side_that_can_dial_is_enough(mesh: Make) -> None:
    a, b = mesh(1), mesh(2)
    await a.start(Peer(identity(2).device, endpoints=("tcp://127.0.0.1:1",)))
    await b.start(a.as_peer())
    await a.linked(b)
    assert a.send(b, b"x" * 100_000)
    await until(lambda: b.messages)


async def test_the_second_endpoint_is_tried_when_the_first_does_not_answer(mesh: Make) -> None:
    a, b = mesh(1), mesh(2)
    await a.start()
    await b.start(Peer(a.device, endpoints=("tcp://127.0.0.1:1", a.links.endpoint)))
    await b.linked(a)


async def test_fault_34_a_reader_that_does_not_read_is_dropped_and_catches_up_later(mesh: Make) -> None:
    quick = {"send_queue_bytes": 2 << 20, "receive_queue_bytes": 2 << 20}
    a, b = mesh(1, **quick), mesh(2, **quick)
    await a.start()
    reading = asyncio.Event()
    kept = b.on_message

    async def slow(device: bytes, message: bytes) -> None:
        await reading.wait()
        await kept(device, message)

    b.on_message = slow  # type: ignore[method-assign]
    await b.start(a.as_peer())
    await a.linked(b)
    await b.linked(a)
    taken = 0
    async with asyncio.timeout(5):
        while a.send(b, bytes(100_000)):
            taken += 1
            assert a.queued_bytes(b) <= 2 << 20
            await asyncio.sleep(0.001)
    # The queue here, the window, and what the reader lets wait: bounded in bytes, whatever is sent.
    assert taken * 100_000 <= (2 << 20) + (1 << 20) + (2 << 20) + (1 << 20)
    assert a.reasons == [] or "does not read" in a.reasons[0]
    await until(lambda: a.events.count(("down", b.device)) == 1)
    reading.set()
    await until(lambda: a.links.is_up(b.device))
    await until(lambda: b.links.is_up(a.device))
    b.messages.clear()
    assert a.send(b, b"again")
    await until(lambda: b"again" in b.messages)


async def test_fault_33_half_open_connections_do_not_disturb_an_established_peer(mesh: Make) -> None:
    a, b = mesh(1, handshake_timeout_ms=500), mesh(2)
    await a.start()
    await b.start(a.as_peer())
    await a.linked(b)
    port = int(a.links.endpoint.rpartition(":")[2])
    crowd = []
    try:
        for _ in range(300):
            half = socket.socket()
            half.setblocking(False)
            half.connect_ex(("127.0.0.1", port))
            crowd.append(half)
        began = asyncio.get_running_loop().time()
        for number in range(50):
            assert b.send(a, bytes([number]))
            await until(lambda number=number: len(a.messages) == number + 1)
        assert asyncio.get_running_loop().time() - began < 2
        assert ("down", b.device) not in a.events
        # Those who say nothing are sent away; a newcomer gets in among them.
        c = mesh(3)
        await c.start(a.as_peer())
        await a.linked(c)
        crowd[0].setblocking(True)
        crowd[0].settimeout(3)
        while crowd[0].recv(100):  # its greeting, then the end
            pass
    except ConnectionResetError:
        pass
    finally:
        for half in crowd:
            half.close()


async def test_no_more_peers_than_configured(mesh: Make) -> None:
    a = mesh(1, max_peers=2)
    await a.start()
    others = [mesh(number) for number in (2, 3, 4)]
    for other in others:
        await other.start(a.as_peer())
    await until(lambda: sum(status.connected for status in a.links.status()) == 2)
    await asyncio.sleep(0.1)
    assert sum(status.connected for status in a.links.status()) == 2
    assert sum(other.links.is_up(a.device) for other in others) == 2


# --- the object itself


async def test_a_failing_handler_drops_the_link_only(mesh: Make) -> None:
    a, b = mesh(1), mesh(2)
    seen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))

    async def fail(device: bytes, message: bytes) -> None:
        raise RuntimeError("a bug")

    a.on_message = fail  # type: ignore[method-assign]
    await a.start()
    await b.start(a.as_peer())
    await b.linked(a)
    assert b.send(a, b"x")
    await until(lambda: b.events.count(("up", a.device)) == 2)
    assert a.reasons == ["the handler failed"]
    assert isinstance(seen[0]["exception"], RuntimeError)


async def test_a_failing_check_of_keys_lets_nobody_in(mesh: Make, raw: Callable[..., RawPeer]) -> None:
    a = mesh(1)
    answers = [RuntimeError("no family"), None]

    def admits(key: str) -> bytes | None:
        answer = answers.pop(0) if answers else None
        if isinstance(answer, Exception):
            raise answer
        return None

    a.admits = admits  # type: ignore[method-assign]
    await a.start()
    for _ in range(3):  # the handler lives on
        peer = raw(identity(2), a)
        await until(lambda peer=peer: peer.reason)
        assert peer.reason == "the peer refused this device"


async def test_a_taken_port_is_told_and_leaves_nothing_behind(mesh: Make) -> None:
    a = mesh(1)
    await a.start()
    port = int(a.links.endpoint.rpartition(":")[2])
    b = mesh(2)
    with pytest.raises(MachineError, match=f"port {port}"):
        await b.start(port=port)
    with pytest.raises(InvalidValue, match="host"):
        await mesh(3).start(host="no such host")
    b.config = a.config
    await b.start()


async def test_links_end_once_and_say_so(mesh: Make) -> None:
    a = mesh(1)
    await a.start()
    await a.links.stop()
    await a.links.stop()
    with pytest.raises(Closed):
        a.links.send(a.device, b"x")
    with pytest.raises(InvalidValue):
        await a.links.start()


async def test_links_are_not_used_after_fork(mesh: Make) -> None:
    a, b = mesh(1), mesh(2)
    await a.start()
    await b.start(a.as_peer())
    await a.linked(b)
    child = os.fork()
    if child == 0:
        # Nothing but the exit code leaves the child: pytest must not go on in it.
        code = 1
        try:
            a.links.send(b.device, b"from the child")
        except ForkedProcess:
            code = 0
        finally:
            os._exit(code)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert a.send(b, b"from the parent")
    await until(lambda: b.messages == [b"from the parent"])


# Copies: several running programs with one device id


async def test_each_copy_of_a_device_has_a_link_of_its_own(mesh: Make) -> None:
    """Whoever leads and whoever dials."""
    for number, copied in ((1, 2), (2, 1)):
        hub, first, second = await mesh(number).start(), mesh(copied), mesh(copied)
        await first.start(hub.as_peer())
        await hub.linked(first)
        await second.start()
        hub.links.add_peer(second.as_peer())
        await until(lambda hub=hub, first=first: len(hub.links.linked(first.device)) == 2)
        await until(lambda hub=hub, second=second: second.links.is_up(hub.device))
        for run in hub.links.linked(first.device):
            assert hub.links.send(run, run.run)
        await until(lambda first=first, second=second: first.messages and second.messages)
        assert (first.messages, second.messages) == ([first.links.run], [second.links.run])
        assert not hub.reasons
        await asyncio.gather(*(device.links.stop() for device in (first, second, hub)))


async def test_copies_that_dial_each_other_at_once_have_one_link(mesh: Make) -> None:
    first, second = mesh(1), mesh(1)
    await asyncio.gather(first.start(), second.start())
    for here, there in ((first, second), (second, first)):
        here.links.add_peer(there.as_peer())
    await until(lambda: first.links.linked(first.device) and second.links.linked(first.device))
    await until(lambda: all(len(list(d.links._by_transport)) == 1 for d in (first, second)))
    assert len(first.links.linked(first.device)) == len(second.links.linked(first.device)) == 1
    assert first.links.linked(first.device)[0].run == second.links.run


async def test_a_program_begun_anew_takes_the_place_of_one_that_died_unnoticed(
    mesh: Make, raw: Callable[..., RawPeer]
) -> None:
    """Its run is another, so it might be a copy; but the old one does not show that it lives."""
    for here, there in ((1, 2), (2, 1)):  # as follower and as leader
        a = mesh(here, heartbeat_interval_ms=200)
        await a.start()
        who = identity(there)
        a.members.add(who.device)
        silent = await raw(who, a).open()
        await until(lambda a=a, who=who: a.links.is_up(who.device))
        lives = await raw(who, a, run=b"run two.", answers=True).open()
        await until(lambda a=a, who=who: len(a.links.linked(who.device)) == 2)
        await until(lambda silent=silent: silent.reason)
        assert [peer.run for peer in a.links.linked(who.device)] == [b"run two."]
        assert not lives.reason


async def test_of_many_copies_the_one_heard_of_longest_ago_makes_way(mesh: Make, raw: Callable[..., RawPeer]) -> None:
    a = mesh(1)
    await a.start()
    who = identity(2)
    a.members.add(who.device)
    copies: list[RawPeer] = []
    for number in range(frame.MAX_RUNS + 1):
        copies.append(await raw(who, a, run=bytes([number]) * 8, answers=True).open())
        await until(lambda number=number: bytes([number]) * 8 in [p.run for p in a.links.linked(who.device)])
    await until(lambda: any(copy.reason for copy in copies))
    assert len(a.links.linked(who.device)) == frame.MAX_RUNS
    assert sum(bool(copy.reason) for copy in copies) == 1
    assert not copies[-1].reason
