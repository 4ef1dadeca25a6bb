"""Links: whole messages between devices, whoever of two dialed.

A *line* is one connection with its :class:`~aico_crdt.mesh.channel.Channel`; the *link* to a device is the one line
that carries messages. Both devices may dial at once, and one may find a connection dead while the other does not yet;
so that both always mean the same line, the one with the smaller device id leads::

    dialed side                  accepting side
        hello ────────────────────▶               once CURVE and ZAP have let it in
              ◀──────────────────── hello
        open  ◀───────or───────────▶ open          the leader, on the line it chooses: its first
        open  ◀───────or───────────▶ open          the other answers; the link is up on both sides

A hello tells whether its sender has a link already. To a leader that believes in a link, a hello without one means that
the link may be dead (or that the two crossed): it asks for a sign of life, and without one leaves it for the new line.
A link ends with its line, and a line carries one link at most. A dialer rests while another line carries the link.

What happens to one device is told in order: up, messages, down, and only then the next up. Credit goes back to the
sender while the messages that wait for the handler stay under ``receive_queue_bytes``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from random import SystemRandom
from typing import Final, Protocol

import zmq

from aico_crdt.config import Config
from aico_crdt.errors import Closed, ForkedProcess, InvalidValue, Malformed, PeerError
from aico_crdt.logs import logger
from aico_crdt.mesh.channel import Channel, Delivery, Signal
from aico_crdt.mesh.client import Connection, Dialer
from aico_crdt.mesh.frame import Lane
from aico_crdt.mesh.peers import Peer
from aico_crdt.mesh.remote import Line, Link, LinkStatus, Remote
from aico_crdt.mesh.server import Route, Server
from aico_crdt.mesh.zap import ZapHandler
from aico_crdt.trust import Identity, curve_key

log = logger(__name__)

SOCKETS_A_PEER: Final = 4
"""A DEALER, its monitor's two ends, and one that is just closing."""
MIN_TICK_S: Final = 0.02
CONTEST_S: Final = 1.0
"""How long a line may take to show that it lives when another wants its place: a slow round trip. At most a beat."""


class Handler(Protocol):
    """Who hears of links. All is called on the loop; `on_message` for one device is never called twice at once."""

    def on_up(self, device: bytes) -> None:
        """Messages may be sent to `device`."""

    async def on_message(self, device: bytes, message: bytes) -> None:
        """A whole message. While it is awaited, the next one of the device waits. A :class:`PeerError` raised here
        drops the link. Cancelled when the link is cut (a revocation, the end)."""

    def on_sent(self, device: bytes, count: int) -> None:
        """`count` message bytes left the queue to `device`."""

    def on_part(self, device: bytes) -> None:
        """A part of a message from `device` has come that is not whole yet."""

    def on_down(self, device: bytes, reason: str) -> None:
        """The link is gone; what was queued to send is dropped."""


class Links:
    """The links of one device, with a ZeroMQ Context of their own. Lives on the loop that started it; not thread-safe.

    Attributes:
        endpoint: where it listens, once started.
    """

    def __init__(
        self,
        identity: Identity,
        config: Config,
        admits: Callable[[str], bytes | None],
        peers: Iterable[Peer],
        handler: Handler,
        *,
        random: Callable[[], float] | None = None,
    ) -> None:
        """`admits` tells the device a CURVE key (Z85) belongs to, None while it may not connect; it is asked for every
        message. `peers` are dialed as far as they are admitted. `random` yields numbers in [0, 1), for the waits.
        """
        self._identity = identity
        self._config = config
        self._admits = admits
        self._peers = tuple(peers)
        self._handler = handler
        self._random = random or SystemRandom().random
        self._remotes: dict[bytes, Remote] = {}
        self._by_transport: dict[Route | Connection, Line] = {}
        self._telling: set[asyncio.Task[None]] = set()
        self._running = False
        self._moved = asyncio.Event()
        self._pid = os.getpid()
        self.endpoint = ""

    # --- life

    async def start(self) -> None:
        """Listens and begins to dial.

        Raises:
            MachineError: the port cannot be had.
            InvalidValue: started before, or the host is no address.
        """
        self.check_process()
        if self.endpoint:
            raise InvalidValue("These links were started before.", "Make new ones.")
        self._loop = asyncio.get_running_loop()
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        context.set(zmq.MAX_SOCKETS, min(64 + SOCKETS_A_PEER * self._config.max_peers, 65_536))
        zap: ZapHandler | None = None
        try:
            zap = ZapHandler(context, lambda key: self._admits(key) is not None)
            self._server = Server(context, self._identity, self._config, self._admits, self)
        except BaseException:
            if zap is not None:
                zap.close()
            context.term()
            raise
        self._context, self._zap = context, zap
        self.endpoint = self._server.endpoint
        self._running = True
        self._contest_s = min(CONTEST_S, self._config.heartbeat_interval_ms / 1000)
        self._tick_s = max(MIN_TICK_S, self._config.heartbeat_interval_ms / 4000)
        self._timer = self._loop.call_later(self._tick_s, self._tick)
        for peer in self._peers:
            self.add_peer(peer)
        log.info("links: listening on %s", self.endpoint)

    async def stop(self) -> None:
        """Sends what is queued as far as ``linger_ms`` allows, says bye, closes everything. Idempotent."""
        if not self._running:
            return
        self.check_process()
        self._running = False
        self._timer.cancel()
        await self._drain()
        for line in list(self._by_transport.values()):
            line.channel.say_bye()
            if isinstance(line.transport, Connection):
                line.transport.close(linger_ms=self._config.linger_ms)
            self._forget(line, "this device stopped", cut=True)
        self._server.close(self._config.linger_ms)
        self._zap.close()
        dialing = [remote.dialing for remote in self._remotes.values() if remote.dialing is not None]
        for task in dialing:
            task.cancel()
        if self._telling:  # a handler may be at the last messages; one that hangs is not waited for
            await asyncio.wait(self._telling, timeout=self._config.linger_ms / 1000)
        for task in self._telling:
            task.cancel()
        await asyncio.gather(*dialing, *self._telling, return_exceptions=True)
        # term() waits until the sockets have let go; at most linger_ms, but not on the loop.
        await asyncio.to_thread(self._context.term)
        log.info("links: closed %s", self.endpoint)

    def add_peer(self, peer: Peer) -> None:
        """Dials `peer` too, from now on; new endpoints take the place of those given before."""
        self._check_running()
        if peer.device == self._identity.device:
            return
        key = curve_key(peer.device)
        remote = self._remote(peer.device)
        if remote.dialer is not None:
            remote.dialer.endpoints = peer.endpoints
            remote.wake.set()
            return
        remote.dialer = Dialer(
            peer.endpoints,
            self._config,
            self._random,
            wanted=partial(self._wanted, remote, key),
            connect=partial(self._dial, remote, key),
        )
        remote.dialing = self._loop.create_task(remote.dialer.run())
        remote.dialing.add_done_callback(_report)

    # --- verbs

    def send(self, device: bytes, message: bytes, lane: Lane = Lane.BULK) -> bool:
        """Queues `message` to `device`; False when there is no link (any more). A peer whose queue is full does not
        read: its link is dropped, which `on_down` tells.

        Raises:
            TooLarge: the message is over what its lane takes.
        """
        self._check_running()
        remote = self._remotes.get(device)
        link = remote.link if remote is not None else None
        if link is None or not link.told_up:
            return False
        if not link.line.channel.send(lane, message):
            self._close(link.line, "it does not read: its queue is full")
            return False
        self._flush(link)
        return True

    def is_up(self, device: bytes) -> bool:
        """Whether `device` has a link and the handler has been told."""
        remote = self._remotes.get(device)
        return remote is not None and remote.link is not None and remote.link.told_up

    def queued_bytes(self, device: bytes) -> int:
        """Message bytes that wait to leave to `device`."""
        remote = self._remotes.get(device)
        return remote.link.line.channel.queued_bytes if remote is not None and remote.link is not None else 0

    def drop(self, device: bytes, reason: str) -> None:
        """Ends the link to `device`, if any; it may come back."""
        self._check_running()
        remote = self._remotes.get(device)
        if remote is not None and remote.link is not None:
            self._close(remote.link.line, reason)

    def recheck(self) -> None:
        """Asks for every key again: cuts what is no longer admitted, dials what newly is."""
        self._check_running()
        self._server.recheck()
        for line in [line for line in self._by_transport.values() if self._admits(line.key) != line.device]:
            self._close(line, "no longer admitted", cut=True)
        for remote in self._remotes.values():
            remote.wake.set()

    def status(self) -> list[LinkStatus]:
        """All devices that were dialed or had a link, by device id."""
        return [remote.status() for _, remote in sorted(self._remotes.items())]

    # --- routes: accepted connections (server.Listener)

    def on_route(self, route: Route) -> bool:
        """See :class:`~aico_crdt.mesh.server.Listener`."""
        if not self._running or not self._make_room(route.device):
            log.warning("links: turned %s away: %d peers are connected", route.device.hex(), self._config.max_peers)
            return False
        self._add_line(Line(route.device, route.key, route, self._channel(route.write)))
        return True

    def on_frame(self, route: Route, raw: bytes) -> None:
        """See :class:`~aico_crdt.mesh.server.Listener`."""
        line = self._by_transport.get(route)
        if line is not None:
            self._receive(line, raw)

    def on_route_lost(self, route: Route, reason: str) -> None:
        """See :class:`~aico_crdt.mesh.server.Listener`."""
        line = self._by_transport.get(route)
        if line is not None:
            self._close(line, reason, cut=reason == "no longer admitted")

    # --- dialed connections

    async def _wanted(self, remote: Remote, key: str) -> None:
        while not self._may_dial(remote, key):
            remote.wake.clear()
            await remote.wake.wait()

    def _may_dial(self, remote: Remote, key: str) -> bool:
        has_endpoints = remote.dialer is not None and bool(remote.dialer.endpoints)
        return has_endpoints and remote.current is None and self._admits(key) == remote.device

    def _dial(self, remote: Remote, key: str, endpoint: str) -> Connection:
        return Connection(
            self._context,
            self._identity,
            self._config,
            server_key=key,
            endpoint=endpoint,
            on_ready=partial(self._on_ready, remote.device, key),
            on_frame=self._on_dialed_frame,
            on_end=self._on_end,
        )

    def _on_ready(self, device: bytes, key: str, connection: Connection) -> None:
        if not self._make_room(device):
            connection.close("as many peers as `max_peers` allows are connected")
            return
        line = Line(device, key, connection, self._channel(connection.write))
        self._add_line(line)
        self._greet(line)

    def _on_dialed_frame(self, connection: Connection, raw: bytes) -> None:
        line = self._by_transport.get(connection)
        if line is None:
            return
        if self._admits(line.key) != line.device:
            self._close(line, "no longer admitted", cut=True)
        else:
            self._receive(line, raw)

    def _on_end(self, connection: Connection, reason: str) -> None:
        line = self._by_transport.get(connection)
        if line is not None:
            self._close(line, reason)

    # --- lines

    def _channel(self, write: Callable[[bytes], bool]) -> Channel:
        return Channel(self._config, write, self._now_ms())

    def _add_line(self, line: Line) -> None:
        self._by_transport[line.transport] = line
        self._remote(line.device).lines[line] = None

    def _greet(self, line: Line) -> None:
        line.said_link = self._remote(line.device).link is not None
        line.channel.greet(has_link=line.said_link)

    def _receive(self, line: Line, raw: bytes) -> None:
        parts = line.channel.parts
        try:
            got = line.channel.receive(raw, self._now_ms())
            if line.channel.parts > parts:
                self._handler.on_part(line.device)
            elif isinstance(got, Delivery):
                self._deliver(line, got)
            elif got is Signal.OPENED:
                self._opened(line)
            elif got is Signal.ALIVE:
                self._alive(line)
            elif got is Signal.BYE:
                self._close(line, "the peer said bye")
            elif got is not None:
                self._greeted(line, peer_has_link=got is Signal.GREETED_WITH_LINK)
        except Malformed as error:
            self._close(line, f"it broke the protocol: {error.what}")
            return
        link = self._link_of(line)
        if link is not None:
            self._grant(link)
            self._flush(link)
        if line.channel.stuck:
            self._close(line, "it takes nothing")

    def _greeted(self, line: Line, *, peer_has_link: bool) -> None:
        remote = self._remote(line.device)
        if isinstance(line.transport, Connection):
            line.transport.settle()
        else:
            self._greet(line)
        current = remote.current
        if not self._leads(line.device):
            if line.dialed and line.said_link and current is not None:
                self._close(line, "another line carries the link")
        elif current is None:
            self._open(remote, line)
        elif not peer_has_link:
            remote.contender = line
            current.channel.probe(self._now_ms())
            self._loop.call_later(self._contest_s, self._settle, remote, current, line)
        elif line.dialed:
            self._close(line, "another line carries the link")

    def _alive(self, line: Line) -> None:
        remote = self._remote(line.device)
        if remote.current is line:
            remote.contender = None

    def _settle(self, remote: Remote, current: Line, contender: Line) -> None:
        """The leader leaves a line that has not shown that it lives."""
        if self._running and remote.contender is contender and remote.current is current and not contender.closed:
            remote.contender = None
            self._close(current, "the peer began anew", then=contender)

    def _open(self, remote: Remote, line: Line) -> None:
        """The leader chooses `line`."""
        remote.opening = line
        line.channel.open()

    def _opened(self, line: Line) -> None:
        remote = self._remote(line.device)
        if self._leads(line.device):
            if remote.opening is not line:
                raise Malformed("It opened a link that was not offered.")
            remote.opening = None
        else:
            if line.channel.opened:
                raise Malformed("It opened one link twice.")
            if remote.link is not None:
                self._close(remote.link.line, "the peer began anew", then=line)
            line.channel.open()
        self._bring_up(remote, line)

    def _close(self, line: Line, reason: str, *, cut: bool = False, then: Line | None = None) -> None:
        """Ends a line and the link it carries. With `cut`, what it brought and waits is not handed on either.
        `then` is the line to go on with."""
        if line.closed:
            return
        line.transport.close() if isinstance(line.transport, Route) else line.transport.close(reason)
        self._forget(line, reason, cut=cut)
        remote = self._remote(line.device)
        if not self._running or remote.current is not None:
            return
        others = [other for other in remote.lines if other.channel.greeted]
        if not self._leads(line.device):
            # The leader may choose one of them. If it does not, it has not noticed: only a new hello tells it.
            self._loop.call_later(2 * self._contest_s, self._retire, remote, others)
        elif then is not None or others:
            self._open(remote, then or others[-1])
        remote.wake.set()

    def _retire(self, remote: Remote, lines: Sequence[Line]) -> None:
        if self._running and remote.current is None:
            for line in lines:
                self._close(line, "the link it stood by for is gone")

    def _forget(self, line: Line, reason: str, *, cut: bool) -> None:
        line.closed = True
        self._moved.set()
        remote = self._remote(line.device)
        del self._by_transport[line.transport]
        del remote.lines[line]
        remote.last_heard = line.channel.last_heard_ms / 1000
        remote.bytes_in += line.channel.bytes_in
        remote.bytes_out += line.channel.bytes_out
        remote.last_reason = reason
        if remote.opening is line:
            remote.opening = None
        link = self._link_of(line)
        if link is not None:
            remote.link = None
            log.info("links: %s is down: %s", line.device.hex(), reason.replace(" ", "-"))
            link.end = reason
            link.changed.set()
            if cut:
                link.clear()
                if link.task is not None and link.told_up:
                    link.task.cancel()

    # --- links

    def _bring_up(self, remote: Remote, line: Line) -> None:
        link = Link(line, self._loop.time())
        log.info("links: %s is up, %s", remote.device.hex(), "dialed" if line.dialed else "accepted")
        remote.link = link
        for other in [other for other in remote.lines if other.dialed and other is not line]:
            self._close(other, "another line carries the link")
        link.task = remote.told = self._loop.create_task(self._tell(remote.told, link))
        self._telling.add(link.task)
        link.task.add_done_callback(partial(self._told, link))

    async def _tell(self, before: asyncio.Task[None] | None, link: Link) -> None:
        """Tells the handler of one link, after the one before it."""
        if before is not None:
            await asyncio.wait([before])
        if link.end is not None and not link.waiting_bytes:
            return  # over before it could be told
        device = link.line.device
        link.told_up = True
        self._handler.on_up(device)
        try:
            while True:
                message = link.take()
                if message is not None:
                    await self._handler.on_message(device, message)
                    self._grant(link)
                elif link.end is not None:
                    return
                else:
                    link.changed.clear()
                    await link.changed.wait()
        except PeerError as error:
            log.warning("links: %s: %s", device.hex(), error.code)
            self._close(link.line, error.what)
        except asyncio.CancelledError:
            if link.end is None:
                raise
        finally:
            link.clear()
            self._handler.on_down(device, link.end or "the handler failed")

    def _told(self, link: Link, task: asyncio.Task[None]) -> None:
        self._telling.discard(task)
        if not link.line.closed:
            self._close(link.line, "the handler failed")
        _report(task)

    def _deliver(self, line: Line, delivery: Delivery) -> None:
        link = self._link_of(line)
        if link is None:
            raise Malformed("A message before both sides had opened the link.")
        link.put(delivery)

    def _grant(self, link: Link) -> None:
        if link.end is None and link.waiting_bytes < self._config.receive_queue_bytes:
            link.line.channel.grant()

    def _flush(self, link: Link) -> None:
        count = link.line.channel.flush()
        if count:
            self._moved.set()
            if not link.sent:
                self._loop.call_soon(self._tell_sent, link)
            link.sent += count
        if link.line.channel.stuck:
            self._close(link.line, "it takes nothing")

    def _tell_sent(self, link: Link) -> None:
        count, link.sent = link.sent, 0
        if link.end is None:
            self._handler.on_sent(link.line.device, count)

    def _link_of(self, line: Line) -> Link | None:
        link = self._remote(line.device).link
        return link if link is not None and link.line is line else None

    # --- the rest

    def _tick(self) -> None:
        now_ms = self._now_ms()
        late_ms = now_ms - 1000 * self._timer.when()
        for line in list(self._by_transport.values()):
            if late_ms > 1000 * self._tick_s:
                line.channel.excuse(late_ms)
            if line.channel.is_silent(now_ms):
                self._close(line, f"no sign of life for {self._config.heartbeat_timeout_ms} ms")
        if self._running:
            self._timer = self._loop.call_later(self._tick_s, self._tick)

    async def _drain(self) -> None:
        """Waits until nothing is queued, for ``linger_ms`` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.linger_ms / 1000):
                while any(line.channel.queued_bytes for line in self._by_transport.values()):
                    self._moved.clear()
                    await self._moved.wait()

    def _remote(self, device: bytes) -> Remote:
        remote = self._remotes.get(device)
        if remote is None:
            remote = self._remotes[device] = Remote(device)
        return remote

    def _make_room(self, device: bytes) -> bool:
        """Whether `device` may have one connection more: `max_peers` devices at once, a few lines each. The oldest
        that carries no link makes way: of connections by one key, the newest is the one that lives."""
        lines = self._remote(device).lines
        if not lines:
            return sum(1 for remote in self._remotes.values() if remote.lines) < self._config.max_peers
        while len(lines) >= SOCKETS_A_PEER:
            self._close(next(line for line in lines if self._link_of(line) is None), "a newer connection came")
        return True

    def _leads(self, device: bytes) -> bool:
        return self._identity.device < device

    def _now_ms(self) -> float:
        return self._loop.time() * 1000

    def check_process(self) -> None:
        """Raises ForkedProcess in a child of the process that made these links."""
        if os.getpid() != self._pid:
            raise ForkedProcess("These links were made before os.fork().", "Make new ones in the child process.")

    def _check_running(self) -> None:
        self.check_process()
        if not self._running:
            raise Closed("The links are not started, or were stopped.")


def _report(task: asyncio.Task[None]) -> None:
    """A failed task of ours is a bug: the loop's handler is told, and what it served goes on without it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        context = {"message": "a task of the links failed", "exception": error, "task": task}
        task.get_loop().call_exception_handler(context)
