"""Links: whole messages between running devices, whoever of two dialed.

A *line* is one connection with its :class:`~aico_crdt.mesh.channel.Channel`; a *run* is one running program of a
device, of which there are several where a device was copied and the copies run; the *link* to a run is the one line
that carries messages. Both sides may dial at once, and one may find a connection dead while the other does not yet; so
that both always mean the same line, the one with the smaller (device id, run) leads::

    dialed side                  accepting side
        hello ────────────────────▶               once CURVE and ZAP have let it in
              ◀──────────────────── hello
        open  ◀───────or───────────▶ open          the leader, on the line it chooses: its first
        open  ◀───────or───────────▶ open          the other answers; the link is up on both sides

A hello tells to which runs of the other device its sender has links already. To a leader that believes in a link, a
hello without it means that the link may be dead (or that the two crossed): it asks for a sign of life, and without one
leaves it for the new line. A link ends with its line, and a line carries one link at most. A dialer rests while whom it
met last has a link. When a further run of a device comes, the others show that they live, since one of them may be the
same program before it began anew; of those that do, :data:`~aico_crdt.mesh.frame.MAX_RUNS` keep their links.

What happens to one run is told in order: up, messages, down, and only then the next up. Credit goes back to the
sender while the messages that wait for the handler stay under ``receive_queue_bytes``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from random import SystemRandom
from typing import Final

import zmq

from aico_crdt.config import Config
from aico_crdt.errors import Closed, ForkedProcess, InvalidValue, Malformed, PeerError
from aico_crdt.logs import logger
from aico_crdt.mesh.channel import Channel, Delivery, Signal
from aico_crdt.mesh.client import Connection, Dialer
from aico_crdt.mesh.frame import MAX_RUNS, RUN_BYTES, Lane
from aico_crdt.mesh.handler import Handler, Instance
from aico_crdt.mesh.peers import Peer
from aico_crdt.mesh.remote import Line, Link, LinkStatus, Remote, Run, report
from aico_crdt.mesh.server import Route, Server
from aico_crdt.mesh.zap import ZapHandler
from aico_crdt.trust import Identity, curve_key

log = logger(__name__)

SOCKETS_A_PEER: Final = 4
"""A DEALER, its monitor's two ends, and one that is just closing."""
LINES_A_PEER: Final = 2 * MAX_RUNS
"""One for each link, and as many that stand by or greet."""
MIN_TICK_S: Final = 0.02
CONTEST_S: Final = 1.0
"""How long a line may take to show that it lives when another wants its place: a slow round trip. At most a beat."""


class Links:
    """The links of one device, with a ZeroMQ Context of their own. Lives on the loop that started it; not thread-safe.

    Attributes:
        run: 8 random bytes that tell these links from those of every copy of the device.
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
        self.run = os.urandom(RUN_BYTES)
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
        zap = None
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
        """Dials `peer` too, from now on; new endpoints take the place of those given before. Under its own id a device
        finds copies of itself; an endpoint that turns out to be this very program is given up."""
        self._check_running()
        key, remote = curve_key(peer.device), self._remote(peer.device)
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
        remote.dialing.add_done_callback(report)

    # --- verbs

    def send(self, peer: Instance, message: bytes, lane: Lane = Lane.BULK) -> bool:
        """Queues `message` to `peer`; False when there is no link (any more). A peer whose queue is full does not
        read: its link is dropped, which `on_down` tells.

        Raises:
            TooLarge: the message is over what its lane takes.
        """
        self._check_running()
        link = self._link_to(peer)
        if link is None or not link.told_up:
            return False
        if not link.line.channel.send(lane, message):
            self._close(link.line, "it does not read: its queue is full")
            return False
        self._flush(link)
        return True

    def is_up(self, device: bytes) -> bool:
        """Whether `device` has a link and the handler has been told."""
        return bool(self.linked(device))

    def linked(self, device: bytes) -> list[Instance]:
        """The runs of `device` of whose links the handler has been told, oldest first."""
        remote = self._remotes.get(device)
        return [link.peer for link in remote.links if link.told_up] if remote is not None else []

    def drop(self, peer: Instance, reason: str) -> None:
        """Ends the link to `peer`, if any; it may come back."""
        self._check_running()
        link = self._link_to(peer)
        if link is not None:
            self._close(link.line, reason)

    def recheck(self) -> None:
        """Asks for every key again: cuts what is no longer admitted, dials what newly is."""
        self._check_running()
        self._server.recheck()
        for line in [line for line in self._by_transport.values() if self._admits(line.key) != line.device]:
            self._close(line, "no longer admitted", cut=True)
        for remote in self._remotes.values():
            remote.wake.set()

    def status(self) -> list[LinkStatus]:
        """All devices that were dialed or had a link, by device id; each run that has a link by itself."""
        return [status for _, remote in sorted(self._remotes.items()) for status in remote.status()]

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
        return has_endpoints and not remote.rests and self._admits(key) == remote.device

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
        line.said = tuple(link.peer.run for link in self._remote(line.device).links)
        line.channel.greet(self.run, line.said)

    def _receive(self, line: Line, raw: bytes) -> None:
        parts = line.channel.parts
        try:
            got = line.channel.receive(raw, self._now_ms())
            if line.channel.parts > parts:
                self._part(line)
            elif isinstance(got, Delivery):
                self._deliver(line, got)
            elif got is Signal.OPENED:
                self._opened(line)
            elif got is Signal.ALIVE:
                self._alive(line)
            elif got is Signal.BYE:
                self._close(line, "the peer said bye")
            elif got is not None:
                self._greeted(line)
        except Malformed as error:
            self._close(line, f"it broke the protocol: {error.what}")
            return
        link = self._link_of(line)
        if link is not None:
            self._grant(link)
            self._flush(link)
        if line.channel.stuck:
            self._close(line, "it takes nothing")

    def _greeted(self, line: Line) -> None:
        hello = line.channel.hello
        assert hello is not None
        if isinstance(line.transport, Connection):
            line.transport.settle()
        else:
            self._greet(line)
        remote = self._remote(line.device)
        if line.device == self._identity.device and hello.run == self.run:
            self._met_itself(remote, line)
            return
        line.run = run = remote.run(hello.run)
        if line.dialed:
            remote.found = run
        current = run.current
        if current is not None and line.dialed:
            self._loop.call_later(2 * self._contest_s, self._spare, run, line)
        if not self._leads(run):
            if line.dialed and hello.run in line.said and current is not None:
                self._close(line, "another line carries the link")
        elif current is None:
            self._open(run, line)
        elif self.run not in hello.linked:
            run.contender = line
            current.channel.probe(self._now_ms())
            self._loop.call_later(self._contest_s, self._settle, run, current, line)
        elif line.dialed:
            self._close(line, "another line carries the link")

    def _met_itself(self, remote: Remote, line: Line) -> None:
        """A list of devices that several share names each to itself as well. The dialing end says no more."""
        if remote.dialer is not None and isinstance(line.transport, Connection):
            remote.dialer.endpoints = tuple(e for e in remote.dialer.endpoints if e != line.transport.endpoint)
            self._close(line, "that is this device itself")

    def _alive(self, line: Line) -> None:
        if line.run is not None and line.run.current is line:
            line.run.contender = None

    def _settle(self, run: Run, current: Line, contender: Line) -> None:
        """The leader leaves a line that has not shown that it lives."""
        if self._running and run.contender is contender and run.current is current and not contender.closed:
            run.contender = None
            self._close(current, "the peer began anew", then=contender)

    def _spare(self, run: Run, line: Line) -> None:
        """Ends a dialed line that stood by while two hellos crossed, and is not needed."""
        if self._running and run.link is not None and run.link.line is not line:
            self._close(line, "another line carries the link")

    def _open(self, run: Run, line: Line) -> None:
        """The leader chooses `line`."""
        run.opening = line
        line.channel.open()

    def _opened(self, line: Line) -> None:
        run = line.run
        assert run is not None  # a channel takes no open before a hello
        if self._leads(run):
            if run.opening is not line:
                raise Malformed("It opened a link that was not offered.")
            run.opening = None
        else:
            if line.channel.opened:
                raise Malformed("It opened one link twice.")
            if run.link is not None:
                self._close(run.link.line, "the peer began anew", then=line)
            line.channel.open()
        self._bring_up(run, line)

    def _close(self, line: Line, reason: str, *, cut: bool = False, then: Line | None = None) -> None:
        """Ends a line and the link it carries. With `cut`, what it brought and waits is not handed on either.
        `then` is the line to go on with."""
        if line.closed:
            return
        line.transport.close() if isinstance(line.transport, Route) else line.transport.close(reason)
        self._forget(line, reason, cut=cut)
        self._remote(line.device).wake.set()
        run = line.run
        if not self._running or run is None or run.current is not None:
            return
        if not self._leads(run):
            # The leader may choose one of them. If it does not, it has not noticed: only a new hello tells it.
            self._loop.call_later(2 * self._contest_s, self._retire, run, run.lines)
        elif then is not None or run.lines:
            self._open(run, then or run.lines[-1])

    def _retire(self, run: Run, lines: Sequence[Line]) -> None:
        if self._running and run.current is None:
            for line in lines:
                self._close(line, "the link it stood by for is gone")

    def _forget(self, line: Line, reason: str, *, cut: bool) -> None:
        line.closed = True
        self._moved.set()
        remote, run = self._remote(line.device), line.run
        del self._by_transport[line.transport]
        del remote.lines[line]
        remote.last_heard = line.channel.last_heard_ms / 1000
        remote.bytes_in += line.channel.bytes_in
        remote.bytes_out += line.channel.bytes_out
        remote.last_reason = reason
        if run is not None and run.opening is line:
            run.opening = None
        link = self._link_of(line)
        if run is not None and link is not None:
            run.link = None
            log.info("links: %s is down: %s", line.device.hex(), reason.replace(" ", "-"))
            link.end = reason
            link.changed.set()
            if cut:
                link.clear()
                if link.task is not None and link.told_up:
                    link.task.cancel()

    # --- links

    def _bring_up(self, run: Run, line: Line) -> None:
        link = Link(run.peer, line, self._loop.time())
        log.info("links: %s is up, %s", line.device.hex(), "dialed" if line.dialed else "accepted")
        earlier = run.remote.links
        run.link = link
        for other in [other for other in run.lines if other.dialed and other is not line]:
            self._close(other, "another line carries the link")
        link.task = run.told = self._loop.create_task(self._tell(run.told, link))
        self._telling.add(link.task)
        link.task.add_done_callback(partial(self._told, run, link))
        self._examine(earlier)

    def _examine(self, others: Sequence[Link]) -> None:
        """A further run of a device has come: a copy, or the same program begun anew. Which, the others show."""
        if len(others) >= MAX_RUNS:
            oldest = min(others, key=lambda other: other.line.channel.last_heard_ms)
            self._close(oldest.line, "too many copies of the device are connected")
        now_ms = self._now_ms()
        for other in others:
            if not other.line.closed:
                other.line.channel.probe(now_ms)
                self._loop.call_later(self._contest_s, self._outlive, other.line, now_ms)

    def _outlive(self, line: Line, since_ms: float) -> None:
        if self._running and line.channel.last_heard_ms <= since_ms:
            self._close(line, "the peer began anew")

    async def _tell(self, before: asyncio.Task[None] | None, link: Link) -> None:
        """Tells the handler of one link, after the one before it."""
        if before is not None:
            await asyncio.wait([before])
        if link.end is not None and not link.waiting_bytes:
            return  # over before it could be told
        peer = link.peer
        link.told_up = True
        self._handler.on_up(peer)
        try:
            while True:
                message = link.take()
                if message is not None:
                    await self._handler.on_message(peer, message)
                    self._grant(link)
                elif link.end is not None:
                    return
                else:
                    link.changed.clear()
                    await link.changed.wait()
        except PeerError as error:
            log.warning("links: %s: %s", peer.device.hex(), error.code)
            self._close(link.line, error.what)
        except asyncio.CancelledError:
            if link.end is None:
                raise
        finally:
            link.clear()
            self._handler.on_down(peer, link.end or "the handler failed")

    def _told(self, run: Run, link: Link, task: asyncio.Task[None]) -> None:
        self._telling.discard(task)
        if not link.line.closed:
            self._close(link.line, "the handler failed")
        run.remote.sweep()
        report(task)

    def _deliver(self, line: Line, delivery: Delivery) -> None:
        link = self._link_of(line)
        if link is None:
            raise Malformed("A message before both sides had opened the link.")
        link.put(delivery)

    def _part(self, line: Line) -> None:
        link = self._link_of(line)
        if link is not None and link.told_up:
            self._handler.on_part(link.peer)

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
            self._handler.on_sent(link.peer, count)

    def _link_of(self, line: Line) -> Link | None:
        link = line.run.link if line.run is not None else None
        return link if link is not None and link.line is line else None

    def _link_to(self, peer: Instance) -> Link | None:
        remote = self._remotes.get(peer.device)
        run = remote.runs.get(peer.run) if remote is not None else None
        return run.link if run is not None else None

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
        """Whether `device` may have one connection more: `max_peers` devices, a few lines each. The oldest without a
        link makes way: of connections by one key, the newest live."""
        lines = self._remote(device).lines
        if not lines:
            return sum(1 for remote in self._remotes.values() if remote.lines) < self._config.max_peers
        while len(lines) >= LINES_A_PEER:
            self._close(next(line for line in lines if self._link_of(line) is None), "a newer connection came")
        return True

    def _leads(self, run: Run) -> bool:
        return (self._identity.device, self.run) < run.peer

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
