"""The queue of one connection: order, bounds, chunks."""

from __future__ import annotations

import pytest

from aico_crdt.errors import TooLarge
from aico_crdt.mesh.frame import FRAME_COST, HEADER_BYTES, Data, Kind, Lane, decode
from aico_crdt.mesh.outbox import Outbox

ROOM = 1 << 30


def outbox(queue_bytes: int = 100_000) -> Outbox:
    return Outbox(queue_bytes=queue_bytes, max_message_bytes=50_000, urgent_bytes=5_000)


def take(box: Outbox, chunk: int = 1000, room: int = ROOM) -> Data | None:
    taken = box.take(chunk, room)
    if taken is None:
        return None
    raw, length = taken
    got = decode(raw)
    assert isinstance(got, Data)
    assert len(got.payload) == length
    return got


def test_a_message_is_cut_into_chunks() -> None:
    box = outbox()
    box.put(Lane.BULK, bytes(2500))
    frames = [take(box) for _ in range(4)]
    assert [(f.kind, f.message, f.size, len(f.payload)) for f in frames[:3] if f] == [
        (Kind.FIRST, 0, 2500, 1000),
        (Kind.MIDDLE, 0, 1000, 1000),
        (Kind.LAST, 0, 500, 500),
    ]
    assert frames[3] is None
    assert box.queued_bytes == 0


def test_an_urgent_message_waits_for_one_chunk_at_most() -> None:
    box = outbox()
    box.put(Lane.BULK, bytes(3000))
    take(box)
    box.put(Lane.CONVERSATION, b"conversation")
    box.put(Lane.EMOTION, b"emotion")
    got = [take(box) for _ in range(4)]
    assert [(f.lane, f.kind, f.message) for f in got if f] == [
        (Lane.EMOTION, Kind.SINGLE, 1),
        (Lane.CONVERSATION, Kind.SINGLE, 2),
        (Lane.BULK, Kind.MIDDLE, 0),
        (Lane.BULK, Kind.LAST, 0),
    ]


def test_fault_34_the_queue_is_bounded_in_bytes() -> None:
    box = outbox(queue_bytes=10_000)
    taken = 0
    while box.put(Lane.BULK, bytes(900)):
        taken += 1
    assert taken == 10_000 // (900 + FRAME_COST)
    assert box.queued_bytes <= 10_000
    empty = 0
    box = outbox(queue_bytes=10_000)
    while box.put(Lane.BULK, b""):
        empty += 1
    assert empty == 10_000 // FRAME_COST  # nothing is not for nothing


def test_a_message_larger_than_the_queue_goes_alone() -> None:
    box = outbox(queue_bytes=10_000)
    assert box.put(Lane.BULK, bytes(40_000))
    assert not box.put(Lane.EMOTION, b"x")
    while take(box):
        pass
    assert box.queued_bytes == 0
    assert box.put(Lane.EMOTION, b"x")


def test_what_no_peer_takes_is_refused_here() -> None:
    box = outbox()
    with pytest.raises(TooLarge):
        box.put(Lane.BULK, bytes(50_001))
    with pytest.raises(TooLarge):
        box.put(Lane.EMOTION, bytes(5_001))
    assert box.queued_bytes == 0


def test_nothing_leaves_without_room_for_its_cost() -> None:
    box = outbox()
    box.put(Lane.BULK, bytes(500))
    cost = HEADER_BYTES + 500 + FRAME_COST
    assert take(box, room=cost - 1) is None
    assert take(box, room=cost) is not None
