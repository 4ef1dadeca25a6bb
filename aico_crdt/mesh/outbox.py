"""What waits to be sent to one peer: bounded in bytes, the urgent lanes first, cut into chunks as it leaves.

Pure. A message is cut only when its turn comes, so an urgent one waits for at most one chunk of another.
"""

from __future__ import annotations

from collections import deque

from aico_crdt.errors import TooLarge
from aico_crdt.mesh.frame import FRAME_COST, HEADER_BYTES, MESSAGE_IDS, Kind, Lane, encode_data


class _Message:
    __slots__ = ("id", "payload", "sent")

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.id: int | None = None
        self.sent = 0


class Outbox:
    """The queue of one connection. Not thread-safe."""

    def __init__(self, *, queue_bytes: int, max_message_bytes: int, urgent_bytes: int) -> None:
        self._queue_bytes = queue_bytes
        self._caps = {lane: min(urgent_bytes, max_message_bytes) for lane in Lane}
        self._caps[Lane.BULK] = max_message_bytes
        self._lanes: dict[Lane, deque[_Message]] = {lane: deque() for lane in Lane}
        self._next = 0
        self.queued_bytes = 0

    def put(self, lane: Lane, message: bytes) -> bool:
        """Queues `message`; False when there is no room. One message larger than the queue goes alone.

        Raises:
            TooLarge: over the cap of a message in that lane.
        """
        if len(message) > self._caps[lane]:
            raise TooLarge(
                f"A message of {len(message)} bytes; the cap is {self._caps[lane]}.",
                "Raise `max_message_bytes` or `receive_queue_bytes` on both devices.",
            )
        cost = len(message) + FRAME_COST
        if self.queued_bytes and self.queued_bytes + cost > self._queue_bytes:
            return False
        self._lanes[lane].append(_Message(message))
        self.queued_bytes += cost
        return True

    def take(self, chunk_bytes: int, room: int) -> tuple[bytes, int] | None:
        """The next frame and how many message bytes are in it; None when nothing waits or its cost is over `room`."""
        for lane, queue in self._lanes.items():
            if queue:
                message = queue[0]
                length = min(len(message.payload) - message.sent, chunk_bytes)
                if HEADER_BYTES + length + FRAME_COST > room:
                    return None
                return self._frame(lane, message, length), length
        return None

    def _frame(self, lane: Lane, message: _Message, length: int) -> bytes:
        size = len(message.payload)
        begins, ends = message.sent == 0, message.sent + length == size
        if message.id is None:
            message.id, self._next = self._next, (self._next + 1) % MESSAGE_IDS
        payload = memoryview(message.payload)[message.sent : message.sent + length]
        message.sent += length
        self.queued_bytes -= length
        if ends:
            self._lanes[lane].popleft()
            self.queued_bytes -= FRAME_COST
        if begins:
            return encode_data(Kind.SINGLE if ends else Kind.FIRST, lane, message.id, size, payload)
        return encode_data(Kind.LAST if ends else Kind.MIDDLE, lane, message.id, length, payload)
