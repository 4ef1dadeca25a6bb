"""Frames as bytes, and messages put together from them."""

from __future__ import annotations

import contextlib
import random
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aico_crdt.errors import Malformed, PeerError, TooLarge, UnknownVersion
from aico_crdt.mesh import frame
from aico_crdt.mesh.frame import Bare, Data, Hello, Kind, Lane, Reassembler, Token

CHUNK = 100
CAPS = {"max_message_bytes": 10_000, "urgent_bytes": 1_000}


def cut(message: bytes, number: int, lane: Lane = Lane.BULK, chunk: int = CHUNK) -> list[bytes]:
    """The frames of a message, written from the drawing in docs/protocol.md and not by the code under test."""
    pieces = [message[at : at + chunk] for at in range(0, len(message), chunk)] or [b""]
    if len(pieces) == 1:
        return [struct.pack(">BBBII", 1, 1, lane, number, len(message)) + message]
    frames = [struct.pack(">BBBII", 1, 2, lane, number, len(message)) + pieces[0]]
    frames += [struct.pack(">BBBII", 1, 3, lane, number, len(piece)) + piece for piece in pieces[1:-1]]
    return [*frames, struct.pack(">BBBII", 1, 4, lane, number, len(pieces[-1])) + pieces[-1]]


def feed_all(reassembler: Reassembler, frames: list[bytes]) -> list[bytes | None]:
    return [feed(reassembler, raw) for raw in frames]


def feed(reassembler: Reassembler, raw: bytes) -> bytes | None:
    got = frame.decode(raw)
    assert isinstance(got, Data)
    return reassembler.add(got)


CONTROL = {
    b"\1\5" + b"\0" * 7 + b"\x2a": Token(Kind.PING, 42),
    b"\1\6" + b"\xff" * 8: Token(Kind.PONG, 2**64 - 1),
    b"\1\7\0\x10\0\0\0\4\0\0" + b"runruns1" + b"\1runruns2": Hello(b"runruns1", 1 << 20, 256 << 10, (b"runruns2",)),
    b"\1\x08": Bare(Kind.OPEN),
    b"\1\x09" + b"\0" * 6 + b"\1\0": Token(Kind.CREDIT, 256),
    b"\1\x0a": Bare(Kind.BYE),
}


@pytest.mark.parametrize(("raw", "meaning"), CONTROL.items())
def test_control_frames_are_as_drawn(raw: bytes, meaning: object) -> None:
    assert frame.decode(raw) == meaning


def test_control_frames_are_written_as_drawn() -> None:
    written = [
        frame.encode_token(Kind.PING, 42),
        frame.encode_token(Kind.PONG, 2**64 - 1),
        frame.encode_hello(Hello(b"runruns1", 1 << 20, 256 << 10, (b"runruns2",))),
        frame.encode_bare(Kind.OPEN),
        frame.encode_token(Kind.CREDIT, 256),
        frame.encode_bare(Kind.BYE),
    ]
    assert written == list(CONTROL)


@given(st.lists(st.tuples(st.sampled_from(Lane), st.integers(0, 450)), max_size=8), st.randoms())
@settings(deadline=None, max_examples=60)
def test_messages_of_different_lanes_interleave(sizes: list[tuple[Lane, int]], rng: random.Random) -> None:
    """Whatever the interleaving that keeps each lane's own order, every message comes out as it went in."""
    reassembler = Reassembler(**CAPS)
    waiting = {lane: [rng.randbytes(size) for at, size in sizes if at == lane] for lane in Lane}
    expected = {lane: list(messages) for lane, messages in waiting.items()}
    begun: dict[Lane, list[bytes]] = {}
    got: dict[Lane, list[bytes]] = {lane: [] for lane in Lane}
    number = 0
    while any(waiting.values()) or begun:
        lane = rng.choice([lane for lane in Lane if waiting[lane] or lane in begun])
        if lane not in begun:
            begun[lane] = cut(waiting[lane].pop(0), number, lane)
            number += 1
        message = feed(reassembler, begun[lane].pop(0))
        if message is not None:
            got[lane].append(message)
        if not begun[lane]:
            del begun[lane]
    assert got == expected
    assert reassembler.held_bytes == 0


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 200, 301])
def test_fault_32_frames_truncated_or_extended_at_every_offset(size: int) -> None:
    """No damaged frame yields a message, and what stood before it stands after it."""
    message = bytes(range(256)) * 2
    frames = cut(message[:size], 0)
    for place, raw in enumerate(frames):
        damaged = [raw[:end] for end in range(len(raw))] + [raw + b"\0", raw + b"\1\2" * 20]
        damaged += [raw[:at] + b"\x55" + raw[at:] for at in range(len(raw))]
        for bad in damaged:
            reassembler = Reassembler(**CAPS)
            for before in frames[:place]:
                feed(reassembler, before)
            held = reassembler.held_bytes
            try:
                result = feed(reassembler, bad)
            except (Malformed, AssertionError):
                # refused at once; nothing was taken
                assert reassembler.held_bytes == held
                continue
            # A first frame that lost or won payload is still one; the message it begins must never come out.
            assert result is None
            with pytest.raises(Malformed):
                feed_all(reassembler, frames[place + 1 :])


@pytest.mark.parametrize("raw", CONTROL)
def test_fault_32_control_frames_truncated_or_extended(raw: bytes) -> None:
    for end in range(len(raw)):
        with pytest.raises(PeerError):
            frame.decode(raw[:end])
    for extra in (b"\0", b"\1\5", bytes(300)):
        with pytest.raises(Malformed):
            frame.decode(raw + extra)


def test_a_foreign_version_or_kind_is_a_typed_error() -> None:
    for version in {*range(256)} - {1}:
        with pytest.raises(UnknownVersion):
            frame.decode(bytes([version, 5]) + bytes(8))
    for kind in {*range(256)} - set(range(1, 11)):
        with pytest.raises(Malformed):
            frame.decode(bytes([1, kind]) + bytes(20))
    with pytest.raises(Malformed):
        frame.decode(b"\1\1\3" + bytes(8))  # lane 3


@given(st.binary(max_size=40))
@settings(deadline=None, max_examples=200)
def test_random_bytes_are_a_frame_or_a_typed_error(raw: bytes) -> None:
    with contextlib.suppress(Malformed):
        frame.decode(raw)


def test_a_lost_or_repeated_frame_is_noticed() -> None:
    first, middle, last = cut(bytes(300), 0)
    for wrong in ([middle], [last], [first, last], [first, middle, middle], [first, first]):
        reassembler = Reassembler(**CAPS)
        with pytest.raises(Malformed):
            feed_all(reassembler, wrong)
    reassembler = Reassembler(**CAPS)
    feed(reassembler, cut(b"x", 0)[0])
    with pytest.raises(Malformed):
        feed(reassembler, cut(b"x", 2)[0])  # 1 was lost


def test_a_message_over_its_lanes_cap_is_refused_by_its_first_frame() -> None:
    for lane, cap in ((Lane.BULK, 10_000), (Lane.CONVERSATION, 1_000), (Lane.EMOTION, 1_000)):
        reassembler = Reassembler(**CAPS)
        with pytest.raises(TooLarge):
            feed(reassembler, cut(bytes(cap + 1), 0, lane)[0])
        assert reassembler.held_bytes == 0
        *begun, last = feed_all(reassembler, cut(bytes(cap), 0, lane))
        assert not any(begun)
        assert last == bytes(cap)


def test_only_what_arrived_is_held() -> None:
    """A frame that announces much and brings little costs little."""
    reassembler = Reassembler(1 << 30, 1 << 20)
    feed(reassembler, struct.pack(">BBBII", 1, 2, Lane.BULK, 0, 1 << 30) + b"x")
    assert reassembler.held_bytes == 1


def test_the_drawing_in_the_docs_names_every_kind() -> None:
    text = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
    drawn = re.findall(
        r"^\| (\d+) \| (single|first|middle|last|ping|pong|hello|open|credit|bye) \|", text, re.MULTILINE
    )
    assert [(int(number), name) for number, name in drawn] == [(int(kind), kind.name.lower()) for kind in Kind]
