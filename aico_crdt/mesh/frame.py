"""Frames: what crosses one connection, and messages put together from them.

Pure. A message is cut into frames of at most a chunk, because libzmq drops a connection over its size limit without
a word (docs/hazards.md, 17). One frame is one ZeroMQ message part; integers are big-endian::

    every frame   version u8 = 1 | kind u8 | …
    single  1     lane u8 | message id u32 | size u32 | payload     the whole message: size = payload bytes
    first   2     lane u8 | message id u32 | size u32 | payload     size = bytes of the whole message
    middle  3     lane u8 | message id u32 | size u32 | payload     size = bytes of this payload
    last    4     lane u8 | message id u32 | size u32 | payload     size = bytes of this payload
    ping    5     token u64                                         answered at once by
    pong    6     token u64                                         the same token
    hello   7     window u32 | chunk u32 | run 8 | count u8 | linked runs, 8 each
                                                                    first frame in either direction
    open    8                                                       the link runs over this connection
    credit  9     cost u64                                          cost of all data frames taken so far
    bye    10                                                       nothing follows; the connection may be closed

Messages of different lanes interleave at chunk granularity; those of one lane do not. Message ids rise by one with
each message begun, so that a lost or repeated frame is noticed. The cost of a data frame is its length plus
:data:`FRAME_COST`; a sender keeps the cost it has not been given credit for within the receiver's window.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

from aico_crdt.errors import Malformed, TooLarge, UnknownVersion

VERSION: Final = 1
_DATA: Final = struct.Struct(">BBBII")
_TOKEN: Final = struct.Struct(">BBQ")
_HELLO: Final = struct.Struct(">BBII8sB")
_BARE: Final = struct.Struct(">BB")
HEADER_BYTES: Final = _DATA.size
FRAME_COST: Final = 64
"""Bytes a frame costs beside its length: what queues spend on it, so that tiny frames are bounded too."""
MIN_CHUNK_BYTES: Final = 1024
MESSAGE_IDS: Final = 1 << 32
RUN_BYTES: Final = 8
MAX_RUNS: Final = 4
"""Running programs of one device that have a link each: a device and copies of it."""


class Lane(IntEnum):
    """What goes first. Lower is more urgent; a lower lane waits for at most one chunk of a higher one."""

    EMOTION = 0
    CONVERSATION = 1
    BULK = 2


class Kind(IntEnum):
    """The second byte of a frame."""

    SINGLE = 1
    FIRST = 2
    MIDDLE = 3
    LAST = 4
    PING = 5
    PONG = 6
    HELLO = 7
    OPEN = 8
    CREDIT = 9
    BYE = 10


class Data(NamedTuple):
    """A whole message or a part of one; ``size`` as drawn above."""

    kind: Kind
    lane: Lane
    message: int
    size: int
    payload: bytes

    @property
    def cost(self) -> int:
        """What this frame takes from the receiver's window."""
        return HEADER_BYTES + len(self.payload) + FRAME_COST


class Token(NamedTuple):
    """A ping, pong or credit with its number."""

    kind: Kind
    value: int


class Hello(NamedTuple):
    """Who speaks: the run of its program (8 random bytes); its limits as a receiver, in bytes; and the runs of the
    device it speaks to that it has a link to already."""

    run: bytes
    window: int
    chunk: int
    linked: tuple[bytes, ...] = ()


class Bare(NamedTuple):
    """An open or a bye."""

    kind: Kind


Frame = Data | Token | Hello | Bare
_DATA_KINDS: Final = {int(kind): kind for kind in (Kind.SINGLE, Kind.FIRST, Kind.MIDDLE, Kind.LAST)}
_TOKEN_KINDS: Final = {int(kind): kind for kind in (Kind.PING, Kind.PONG, Kind.CREDIT)}
_BARE_KINDS: Final = {int(kind): kind for kind in (Kind.OPEN, Kind.BYE)}
_LANES: Final = {int(lane): lane for lane in Lane}


def encode_data(kind: Kind, lane: Lane, message: int, size: int, payload: bytes | memoryview) -> bytes:
    """The bytes of a data frame."""
    return b"".join((_DATA.pack(VERSION, kind, lane, message, size), payload))


def encode_token(kind: Kind, value: int) -> bytes:
    """The bytes of a ping, pong or credit."""
    return _TOKEN.pack(VERSION, kind, value)


def encode_hello(hello: Hello) -> bytes:
    """The bytes of a hello."""
    fixed = _HELLO.pack(VERSION, Kind.HELLO, hello.window, hello.chunk, hello.run, len(hello.linked))
    return fixed + b"".join(hello.linked)


def encode_bare(kind: Kind) -> bytes:
    """The bytes of an open or a bye."""
    return _BARE.pack(VERSION, kind)


def decode(raw: bytes) -> Frame:
    """The frame in `raw`.

    Raises:
        UnknownVersion: of a format this release does not speak.
        Malformed: no frame, or one with bytes missing or left over.
    """
    if len(raw) < _BARE.size:
        raise Malformed(f"A frame has at least {_BARE.size} bytes, not {len(raw)}.")
    if raw[0] != VERSION:
        raise UnknownVersion(f"A frame of version {raw[0]}; this release speaks {VERSION}.")
    number = raw[1]
    if number in _DATA_KINDS:
        return _decode_data(_DATA_KINDS[number], raw)
    if number in _TOKEN_KINDS:
        return Token(_TOKEN_KINDS[number], _exactly(_TOKEN, raw)[2])
    if number == Kind.HELLO:
        return _decode_hello(raw)
    if number in _BARE_KINDS:
        _exactly(_BARE, raw)
        return Bare(_BARE_KINDS[number])
    raise Malformed(f"There is no frame of kind {number}.")


def _decode_data(kind: Kind, raw: bytes) -> Data:
    if len(raw) < HEADER_BYTES:
        raise Malformed(f"A data frame has at least {HEADER_BYTES} bytes, not {len(raw)}.")
    _, _, lane, message, size = _DATA.unpack_from(raw)
    if lane not in _LANES:
        raise Malformed(f"There is no lane {lane}.")
    got = len(raw) - HEADER_BYTES
    wrong = (not 0 < got < size) if kind is Kind.FIRST else (got != size or (kind is not Kind.SINGLE and got == 0))
    if wrong:
        raise Malformed(f"A frame of kind {kind.name.lower()} states {size} bytes and carries {got}.")
    return Data(kind, _LANES[lane], message, size, raw[HEADER_BYTES:])


def _decode_hello(raw: bytes) -> Hello:
    if len(raw) < _HELLO.size:
        raise Malformed(f"A hello of {len(raw)} bytes.")
    _, _, window, chunk, run, linked = _HELLO.unpack_from(raw)
    if linked > MAX_RUNS or len(raw) != _HELLO.size + linked * RUN_BYTES:
        raise Malformed(f"A hello with {linked} links has {len(raw)} bytes.")
    if chunk < MIN_CHUNK_BYTES or window < 2 * chunk:
        raise Malformed(f"A hello with chunks of {chunk} bytes and a window of {window}.")
    runs = (raw[at : at + RUN_BYTES] for at in range(_HELLO.size, len(raw), RUN_BYTES))
    return Hello(run, window, chunk, tuple(runs))


def _exactly(form: struct.Struct, raw: bytes) -> tuple[int, ...]:
    if len(raw) != form.size:
        raise Malformed(f"A frame of kind {raw[1]} has {form.size} bytes, not {len(raw)}.")
    return form.unpack(raw)


class Reassembler:
    """Messages from the data frames of one connection, in order. After an error the connection is of no use.

    Holds at most one unfinished message a lane, and of each no more than has arrived. Not thread-safe.
    """

    def __init__(self, max_message_bytes: int, urgent_bytes: int) -> None:
        """At most `max_message_bytes` a message in the bulk lane, and `urgent_bytes` in the others."""
        self._caps = {lane: min(urgent_bytes, max_message_bytes) for lane in Lane}
        self._caps[Lane.BULK] = max_message_bytes
        self._partial: dict[Lane, tuple[int, int, bytearray]] = {}
        self._next = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of unfinished messages."""
        return sum(len(buffer) for _, _, buffer in self._partial.values())

    def add(self, data: Data) -> bytes | None:
        """The message that `data` completes, or None.

        Raises:
            Malformed: the frame does not follow those before it.
            TooLarge: the message would be over the cap of its lane.
        """
        if data.kind is Kind.SINGLE or data.kind is Kind.FIRST:
            return self._begin(data)
        return self._go_on(data)

    def _begin(self, data: Data) -> bytes | None:
        if data.message != self._next:
            raise Malformed(f"Message {data.message} begins where {self._next} was due.")
        if data.size > self._caps[data.lane]:
            raise TooLarge(f"A message of {data.size} bytes; the cap is {self._caps[data.lane]}.")
        if data.lane in self._partial:
            raise Malformed(f"Message {data.message} begins inside another of its lane.")
        self._next = (self._next + 1) % MESSAGE_IDS
        if data.kind is Kind.SINGLE:
            return data.payload
        self._partial[data.lane] = (data.message, data.size, bytearray(data.payload))
        return None

    def _go_on(self, data: Data) -> bytes | None:
        message, size, buffer = self._partial.get(data.lane, (None, 0, bytearray()))
        if message != data.message:
            raise Malformed(f"A part of message {data.message}, which has not begun.")
        if data.kind is Kind.MIDDLE and len(buffer) + data.size >= size:
            raise Malformed(f"Message {message} goes on beyond its {size} bytes.")
        if data.kind is Kind.LAST and len(buffer) + data.size != size:
            raise Malformed(f"Message {message} of {size} bytes ends after {len(buffer) + data.size}.")
        buffer += data.payload
        if data.kind is Kind.MIDDLE:
            return None
        del self._partial[data.lane]
        return bytes(buffer)
