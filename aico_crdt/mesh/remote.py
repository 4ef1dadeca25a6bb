"""What :mod:`~aico_crdt.mesh.links` keeps of other devices: their lines, runs and links, what waits for the handler."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from aico_crdt.mesh.channel import Channel, Delivery
from aico_crdt.mesh.client import Connection, Dialer
from aico_crdt.mesh.frame import FRAME_COST, Lane
from aico_crdt.mesh.handler import Instance
from aico_crdt.mesh.server import Route


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """What one may show of a run of a peer. Times are seconds of the loop's clock, counts bytes of frames, of all
    connections of the device."""

    device: bytes
    run: bytes
    """Empty while the device has no link."""
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
    """One connection of a device.

    Attributes:
        said: the runs of the device that this side said, in its hello, to have links to.
        run: who is at the other end, None before its hello.
    """

    __slots__ = ("channel", "closed", "device", "dialed", "key", "run", "said", "transport")

    def __init__(self, device: bytes, key: str, transport: Route | Connection, channel: Channel) -> None:
        self.device = device
        self.key = key
        self.transport = transport
        self.channel = channel
        self.dialed = isinstance(transport, Connection)
        self.said: tuple[bytes, ...] = ()
        self.run: Run | None = None
        self.closed = False


class Link:
    """What the handler is told of one link, from up to down."""

    __slots__ = ("changed", "end", "lanes", "line", "peer", "sent", "since", "task", "told_up", "waiting_bytes")

    def __init__(self, peer: Instance, line: Line, since: float) -> None:
        self.peer = peer
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


class Run:
    """All this device has to do with one running program of another."""

    def __init__(self, peer: Instance, remote: Remote) -> None:
        self.peer = peer
        self.remote = remote
        self.link: Link | None = None
        self.opening: Line | None = None
        self.contender: Line | None = None
        self.told: asyncio.Task[None] | None = None

    @property
    def current(self) -> Line | None:
        """The line that carries the link, or is offered for it."""
        return self.link.line if self.link is not None else self.opening

    @property
    def lines(self) -> list[Line]:
        """The connections to it that have greeted, oldest first."""
        return [line for line in self.remote.lines if line.run is self]

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to come of it."""
        return not self.lines and (self.told is None or self.told.done())


class Remote:
    """All this device has to do with another, and with copies of it.

    Attributes:
        lines: all connections, oldest first.
        found: the run that was met where this device dials.
    """

    def __init__(self, device: bytes) -> None:
        self.device = device
        self.lines: dict[Line, None] = {}
        self.runs: dict[bytes, Run] = {}
        self.found: Run | None = None
        self.wake = asyncio.Event()
        self.dialer: Dialer | None = None
        self.dialing: asyncio.Task[None] | None = None
        self.last_heard: float | None = None
        self.bytes_in = self.bytes_out = 0
        self.last_reason = ""

    @property
    def links(self) -> list[Link]:
        """One for each run that has one."""
        return [run.link for run in self.runs.values() if run.link is not None]

    @property
    def rests(self) -> bool:
        """Whether who would be met by dialing has a link, or is about to."""
        return self.found is not None and self.found.current is not None

    def run(self, name: bytes) -> Run:
        """The run of this name, from now on known."""
        self.sweep()
        if name not in self.runs:
            self.runs[name] = Run(Instance(self.device, name), self)
        return self.runs[name]

    def sweep(self) -> None:
        """Forgets the runs of which nothing more is to come."""
        for name in [name for name, run in self.runs.items() if run.is_over]:
            del self.runs[name]

    def status(self) -> list[LinkStatus]:
        """Of each run that has a link, or one that tells of none."""
        return [self._status(link) for link in self.links] or [self._status(None)]

    def _status(self, link: Link | None) -> LinkStatus:
        channels = [line.channel for line in self.lines]
        links = channels if link is None else [link.line.channel]
        heard = [channel.last_heard_ms / 1000 for channel in links if channel.greeted]
        dialer = self.dialer
        return LinkStatus(
            device=self.device,
            run=link.peer.run if link is not None else b"",
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


def report(task: asyncio.Task[None]) -> None:
    """A failed task of ours is a bug: the loop's handler is told, and what it served goes on without it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        context = {"message": "a task of the links failed", "exception": error, "task": task}
        task.get_loop().call_exception_handler(context)
