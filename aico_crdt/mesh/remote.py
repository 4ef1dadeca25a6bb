"""What :mod:`~aico_crdt.mesh.links` keeps of other devices: their lines, the link, what waits for the handler."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from aico_crdt.mesh.channel import Channel, Delivery
from aico_crdt.mesh.client import Connection, Dialer
from aico_crdt.mesh.frame import FRAME_COST, Lane
from aico_crdt.mesh.server import Route


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """What one may show of a peer. Times are seconds of the loop's clock, counts bytes of frames."""

    device: bytes
    connected: bool
    dialed: bool
    """Whether this device dialed the link."""
    since: float | None
    last_heard: float | None
    rtt_ms: float | None
    bytes_in: int
    bytes_out: int
    queued_bytes: int
    attempts: int
    last_reason: str
    """Why the last link or attempt ended; empty before."""


class Line:
    """One connection of a device."""

    __slots__ = ("channel", "closed", "device", "dialed", "key", "said_link", "transport")

    def __init__(self, device: bytes, key: str, transport: Route | Connection, channel: Channel) -> None:
        self.device = device
        self.key = key
        self.transport = transport
        self.channel = channel
        self.dialed = isinstance(transport, Connection)
        self.said_link = False
        self.closed = False


class Link:
    """What the handler is told of one link, from up to down."""

    __slots__ = ("changed", "end", "lanes", "line", "sent", "since", "task", "told_up", "waiting_bytes")

    def __init__(self, line: Line, since: float) -> None:
        self.line = line
        self.since = since
        self.lanes: dict[Lane, deque[bytes]] = {lane: deque() for lane in Lane}
        self.waiting_bytes = 0
        self.sent = 0
        self.end: str | None = None
        self.changed = asyncio.Event()
        self.told_up = False
        self.task: asyncio.Task[None] | None = None

    def put(self, delivery: Delivery) -> None:
        """A message waits for the handler."""
        self.lanes[delivery.lane].append(delivery.message)
        self.waiting_bytes += len(delivery.message) + FRAME_COST
        self.changed.set()

    def take(self) -> bytes | None:
        """The most urgent message that waits."""
        for queue in self.lanes.values():
            if queue:
                message = queue.popleft()
                self.waiting_bytes -= len(message) + FRAME_COST
                return message
        return None

    def clear(self) -> None:
        """What waits is not handed on."""
        for queue in self.lanes.values():
            queue.clear()
        self.waiting_bytes = 0


class Remote:
    """All this device has to do with another."""

    def __init__(self, device: bytes) -> None:
        self.device = device
        self.link: Link | None = None
        self.opening: Line | None = None
        self.contender: Line | None = None
        self.lines: dict[Line, None] = {}
        self.told: asyncio.Task[None] | None = None
        self.wake = asyncio.Event()
        self.dialer: Dialer | None = None
        self.dialing: asyncio.Task[None] | None = None
        self.last_heard: float | None = None
        self.bytes_in = self.bytes_out = 0
        self.last_reason = ""

    @property
    def current(self) -> Line | None:
        """The line that carries the link, or is offered for it."""
        return self.link.line if self.link is not None else self.opening

    def status(self) -> LinkStatus:
        """See :class:`LinkStatus`."""
        channels = [line.channel for line in self.lines]
        heard = [channel.last_heard_ms / 1000 for channel in channels if channel.greeted]
        link, dialer = self.link, self.dialer
        return LinkStatus(
            device=self.device,
            connected=link is not None,
            dialed=link is not None and link.line.dialed,
            since=link.since if link is not None else None,
            last_heard=max(heard, default=self.last_heard),
            rtt_ms=link.line.channel.rtt_ms if link is not None else None,
            bytes_in=self.bytes_in + sum(channel.bytes_in for channel in channels),
            bytes_out=self.bytes_out + sum(channel.bytes_out for channel in channels),
            queued_bytes=link.line.channel.queued_bytes if link is not None else 0,
            attempts=dialer.attempts if dialer is not None else 0,
            last_reason=self.last_reason or (dialer.last_reason if dialer is not None else ""),
        )
