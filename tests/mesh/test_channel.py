"""Two channels back to back, without a socket."""

from __future__ import annotations

from collections import deque

import pytest

from aico_crdt.config import Config
from aico_crdt.errors import Malformed
from aico_crdt.mesh import frame
from aico_crdt.mesh.channel import WINDOW_CHUNKS, Channel, Delivery, Signal
from aico_crdt.mesh.frame import Hello, Kind, Lane

CONFIG = Config(chunk_bytes=4096, send_queue_bytes=1 << 20, receive_queue_bytes=1 << 20)
WINDOW = WINDOW_CHUNKS * 4096


class Wire:
    """Two channels and the frames between them."""

    def __init__(self, left: Config = CONFIG, right: Config = CONFIG) -> None:
        self.to_right: deque[bytes] = deque()
        self.to_left: deque[bytes] = deque()
        self.left = Channel(left, lambda raw: self.to_right.append(raw) is None, 0)
        self.right = Channel(right, lambda raw: self.to_left.append(raw) is None, 0)

    def greet(self) -> None:
        self.left.greet(b"l" * 8)
        self.right.greet(b"r" * 8)
        assert self.pass_all() == [Signal.GREETED, Signal.GREETED]

    def open(self) -> None:
        self.greet()
        self.left.open()
        assert self.pass_all() == [Signal.OPENED]
        self.right.open()
        assert self.pass_all() == [Signal.OPENED]

    def pass_all(self, *, grant: bool = True, now_ms: float = 0) -> list[Signal | Delivery]:
        """All frames to where they go, until none is under way."""
        got = []
        while self.to_right or self.to_left:
            for queue, channel in ((self.to_right, self.right), (self.to_left, self.left)):
                if queue:
                    event = channel.receive(queue.popleft(), now_ms)
                    if event is not None:
                        got.append(event)
                    if grant:
                        channel.grant()
                    channel.flush()
        return got


def receive_all(channel: Channel, frames: list[bytes]) -> list[Signal | Delivery]:
    return [event for raw in frames if (event := channel.receive(raw, 0)) is not None]


def test_messages_pass_both_ways_after_greeting_and_opening() -> None:
    wire = Wire()
    wire.open()
    assert wire.left.send(Lane.BULK, bytes(50_000))
    assert wire.right.send(Lane.EMOTION, b"calm")
    wire.left.flush()
    wire.right.flush()
    got = wire.pass_all()
    assert set(got) == {Delivery(Lane.BULK, bytes(50_000)), Delivery(Lane.EMOTION, b"calm")}
    assert wire.left.queued_bytes == wire.right.queued_bytes == 0


def test_parts_of_a_message_that_is_not_whole_are_counted() -> None:
    wire = Wire()
    wire.open()
    wire.left.send(Lane.BULK, bytes(3 * 4096))
    wire.left.send(Lane.BULK, b"short")
    wire.left.flush()
    wire.pass_all()
    assert (wire.right.parts, wire.left.parts) == (2, 0)


def test_fault_34_what_is_under_way_to_a_silent_reader_stays_within_its_window() -> None:
    wire = Wire()
    wire.open()
    for _ in range(100):
        wire.left.send(Lane.BULK, bytes(3000))
    wire.left.flush()
    under_way = sum(len(raw) + frame.FRAME_COST for raw in wire.to_right)
    assert WINDOW - 3100 < under_way <= WINDOW
    assert len(wire.pass_all(grant=False)) == len([0] * (under_way // 3075))
    assert not wire.to_right  # without credit, not a frame more
    wire.right.grant()
    assert len(wire.pass_all()) == 100 - under_way // 3075


def test_whoever_sends_beyond_the_window_breaks_the_protocol() -> None:
    wire = Wire()
    wire.open()
    frames = [frame.encode_data(Kind.SINGLE, Lane.BULK, number, 4000, bytes(4000)) for number in range(5)]
    assert len(receive_all(wire.right, frames[:4])) == 4
    with pytest.raises(Malformed, match="window"):
        wire.right.receive(frames[4], 0)


def test_the_smaller_chunk_of_the_two_is_used() -> None:
    wire = Wire(Config(chunk_bytes=64 << 10), CONFIG)
    wire.open()
    wire.left.send(Lane.BULK, bytes(100_000))
    wire.left.flush()
    assert {len(raw) - frame.HEADER_BYTES for raw in wire.to_right} == {4096}


def test_nothing_is_heard_before_the_greeting_nor_a_message_before_the_opening() -> None:
    hello = frame.encode_hello(Hello(b"r" * 8, WINDOW, 4096))
    for early in (frame.encode_bare(Kind.OPEN), frame.encode_token(Kind.PING, 1)):
        with pytest.raises(Malformed):
            Wire().left.receive(early, 0)
    wire = Wire()
    wire.left.receive(hello, 0)
    with pytest.raises(Malformed):
        wire.left.receive(frame.encode_data(Kind.SINGLE, Lane.BULK, 0, 1, b"x"), 0)
    with pytest.raises(Malformed):
        wire.left.receive(hello, 0)


def test_credit_that_was_not_earned_is_refused() -> None:
    wire = Wire()
    wire.open()
    with pytest.raises(Malformed):
        wire.left.receive(frame.encode_token(Kind.CREDIT, 1), 0)


def test_silence_is_asked_about_and_then_noticed() -> None:
    wire = Wire()
    wire.open()
    interval, timeout = CONFIG.heartbeat_interval_ms, CONFIG.heartbeat_timeout_ms
    assert not wire.left.is_silent(interval - 1)
    assert not wire.to_right
    assert not wire.left.is_silent(interval)
    assert wire.to_right  # a ping
    wire.pass_all(now_ms=interval + 5)
    assert wire.left.rtt_ms == 5
    assert not wire.left.is_silent(timeout)
    assert wire.left.is_silent(interval + 5 + timeout)


def test_a_silence_while_this_process_stood_still_does_not_count() -> None:
    wire = Wire()
    wire.open()
    wire.left.excuse(60_000)
    assert not wire.left.is_silent(60_000)
    assert wire.left.is_silent(60_000 + CONFIG.heartbeat_timeout_ms)


def test_fault_32_a_damaged_frame_raises_and_yields_nothing() -> None:
    frames = []
    wire = Wire()
    wire.open()
    wire.left.send(Lane.BULK, bytes(9000))
    wire.left.flush()
    frames = list(wire.to_right)
    for place, raw in enumerate(frames):
        for bad in (raw[:-1], raw + b"\0", raw[:5], b"", b"\2" + raw[1:]):
            other = Wire()
            other.open()
            assert receive_all(other.right, frames[:place]) == []
            with pytest.raises(Malformed):
                receive_all(other.right, [bad, *frames[place + 1 :]])
