"""One connection as a state machine: greeting, credit, heartbeats, queue out, messages in.

Pure: frames come by :meth:`Channel.receive` and leave through ``write``, the time is an argument. Whether the other
side stands behind a dialed or an accepted connection makes no difference here.

Credit (as in RFC 9113, flow control): a receiver states its window once and then tells how much it has taken in all;
a sender stops at the window. So what is on its way to a reader that does not read is bounded in bytes, where
ZeroMQ's high-water marks count messages; and it stays short enough for an urgent message to be soon through.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final, NamedTuple

from aico_crdt.config import Config
from aico_crdt.errors import Malformed
from aico_crdt.mesh import frame
from aico_crdt.mesh.frame import Kind, Lane
from aico_crdt.mesh.outbox import Outbox

WINDOW_CHUNKS: Final = 4
"""Chunks on their way at once: 1 MiB by default, what a 100 Mbit/s link at 80 ms holds."""


class Signal(Enum):
    """What a frame means for the link above."""

    GREETED = "greeted"
    """The other side has said hello: this is an aico-crdt peer and frames pass both ways."""
    OPENED = "opened"
    """The other side runs the link over this connection."""
    ALIVE = "alive"
    """The other side has answered :meth:`Channel.probe`, or a heartbeat."""
    BYE = "bye"
    """Nothing more comes."""


class Delivery(NamedTuple):
    """A whole message."""

    lane: Lane
    message: bytes


class Channel:
    """The state of one connection. Not thread-safe.

    Attributes:
        hello: what the other side said of itself, None before.
        opened: both sides may send messages, as far as this side knows.
        last_heard_ms: when the last frame came.
        rtt_ms: of the last ping, None before it.
        bytes_in, bytes_out: of frames.
        parts: of messages that were not whole with them.
    """

    def __init__(self, config: Config, write: Callable[[bytes], bool], now_ms: float) -> None:
        """`write` hands one frame to the socket and tells whether it was taken."""
        self._config = config
        self._write = write
        self._outbox = Outbox(
            queue_bytes=config.send_queue_bytes,
            max_message_bytes=config.max_message_bytes,
            urgent_bytes=config.receive_queue_bytes,
        )
        self._reassembler = frame.Reassembler(config.max_message_bytes, config.receive_queue_bytes)
        self._window = WINDOW_CHUNKS * config.chunk_bytes
        self._received = self._granted = 0
        self._sent = self._credited = 0
        self._last_ping_ms = now_ms
        self._ping = 0
        self.last_heard_ms = now_ms
        self.hello: frame.Hello | None = None
        self.opened = False
        self.stuck = False
        self.rtt_ms: float | None = None
        self.bytes_in = self.bytes_out = 0
        self.parts = 0

    @property
    def queued_bytes(self) -> int:
        """Bytes of messages that wait to leave."""
        return self._outbox.queued_bytes

    @property
    def greeted(self) -> bool:
        """Whether the other side has said hello."""
        return self.hello is not None

    def greet(self, run: bytes, linked: tuple[bytes, ...] = ()) -> None:
        """Says hello, as `run` that has links to the runs `linked`; the first thing to do on a new connection."""
        self._put(frame.encode_hello(frame.Hello(run, self._window, self._config.chunk_bytes, linked)))

    def open(self) -> None:
        """Tells the other side that the link runs here."""
        self.opened = True
        self._put(frame.encode_bare(Kind.OPEN))
        self.flush()

    def say_bye(self) -> None:
        """Tells the other side that nothing follows."""
        self._put(frame.encode_bare(Kind.BYE))

    def send(self, lane: Lane, message: bytes) -> bool:
        """Queues a message; False when the queue is full. Returns before it left.

        Raises:
            TooLarge: no peer would take it.
        """
        return self._outbox.put(lane, message)

    def flush(self) -> int:
        """Sends what the window allows; message bytes that left the queue."""
        if self.hello is None or not self.opened:
            return 0
        left = 0
        chunk = min(self._config.chunk_bytes, self.hello.chunk)
        while (taken := self._outbox.take(chunk, self.hello.window - self._sent + self._credited)) is not None:
            raw, length = taken
            self._sent += len(raw) + frame.FRAME_COST
            left += length
            self._put(raw)
        return left

    def receive(self, raw: bytes, now_ms: float) -> Signal | Delivery | None:
        """What the frame `raw` means.

        Raises:
            Malformed: (or a class of it) the other side breaks the protocol; close the connection.
        """
        self.last_heard_ms = now_ms
        self.bytes_in += len(raw)
        got = frame.decode(raw)
        if isinstance(got, frame.Hello):
            return self._greeted(got)
        if self.hello is None:
            raise Malformed("The first frame of a connection is a hello.")
        if isinstance(got, frame.Data):
            return self._data(got)
        if isinstance(got, frame.Token):
            return self._token(got, now_ms)
        return Signal.OPENED if got.kind is Kind.OPEN else Signal.BYE

    def grant(self) -> None:
        """Lets the other side send more: call it when what has been received finds room above."""
        if self._received - self._granted >= self._window // 4:
            self._granted = self._received
            self._put(frame.encode_token(Kind.CREDIT, self._received))

    def is_silent(self, now_ms: float) -> bool:
        """Asks for a sign of life when none has come for a while; True when none came in time."""
        silent_ms = now_ms - self.last_heard_ms
        if silent_ms >= self._config.heartbeat_timeout_ms:
            return True
        if min(silent_ms, now_ms - self._last_ping_ms) >= self._config.heartbeat_interval_ms:
            self.probe(now_ms)
        return False

    def probe(self, now_ms: float) -> None:
        """Asks for a sign of life."""
        self._last_ping_ms = now_ms
        self._ping = int(now_ms * 1000)
        self._put(frame.encode_token(Kind.PING, self._ping))

    def excuse(self, late_ms: float) -> None:
        """This process stood still for so long: a silence during that time says nothing of the peer."""
        self.last_heard_ms += late_ms

    def _greeted(self, hello: frame.Hello) -> Signal:
        if self.hello is not None:
            raise Malformed("A second hello on one connection.")
        self.hello = hello
        return Signal.GREETED

    def _data(self, data: frame.Data) -> Delivery | None:
        if not self.opened:
            raise Malformed("A message before the link was opened.")
        self._received += data.cost
        if self._received - self._granted > self._window:
            raise Malformed(f"More than the window of {self._window} bytes was sent.")
        message = self._reassembler.add(data)
        if message is None:
            self.parts += 1
            return None
        return Delivery(data.lane, message)

    def _token(self, token: frame.Token, now_ms: float) -> Signal | None:
        if token.kind is Kind.PING:
            self._put(frame.encode_token(Kind.PONG, token.value))
        elif token.kind is Kind.PONG and token.value == self._ping:
            self.rtt_ms = max(now_ms - token.value / 1000, 0.0)
            return Signal.ALIVE
        elif token.kind is Kind.CREDIT:
            if not self._credited <= token.value <= self._sent:
                raise Malformed(f"Credit for {token.value} bytes where {self._sent} were sent.")
            self._credited = token.value
        return None

    def _put(self, raw: bytes) -> None:
        self.bytes_out += len(raw)
        if not self._write(raw):
            self.stuck = True  # the peer takes nothing at all: the link above gives the connection up
