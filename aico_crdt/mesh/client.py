"""The way out: one DEALER for each connection dialed, with the server's key pinned.

A socket serves one connection and is closed with it, so no frame of an old one can turn up in the next. libzmq's own
reconnecting is off; :class:`Dialer` waits and dials, because a client that was refused would never be tried again
(docs/hazards.md, 16) and because the waits are ours to choose.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import zmq
from zmq.utils.monitor import parse_monitor_message

from aico_crdt.config import Config
from aico_crdt.errors import MachineError
from aico_crdt.logs import logger
from aico_crdt.mesh.backoff import Backoff
from aico_crdt.mesh.sockets import Pump, harden
from aico_crdt.trust import Identity

_ENDS: Final = {
    zmq.Event.DISCONNECTED: "the connection was closed",
    zmq.Event.CLOSED: "nobody answers at that address",
    zmq.Event.HANDSHAKE_FAILED_AUTH: "the peer refused this device",
    zmq.Event.HANDSHAKE_FAILED_PROTOCOL: "the handshake failed: another protocol, or another key than the pinned one",
    zmq.Event.HANDSHAKE_FAILED_NO_DETAIL: "the handshake failed: another protocol, or another key than the pinned one",
}
_EVENTS: Final = sum(_ENDS, start=int(zmq.Event.HANDSHAKE_SUCCEEDED))

log = logger(__name__)


class Connection:
    """One dialed connection, from before its handshake to its end. Lives on the loop it was made on.

    Attributes:
        ended: resolves to the reason when the connection is over, whoever ended it.
        ready_at: loop time (s) of :meth:`settle`, None before.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        identity: Identity,
        config: Config,
        *,
        server_key: str,
        endpoint: str,
        on_ready: Callable[[Connection], None],
        on_frame: Callable[[Connection, bytes], None],
        on_end: Callable[[Connection, str], None],
    ) -> None:
        """Begins to dial `endpoint`. `on_ready` after the CURVE handshake, `on_end` at most once.

        Raises:
            MachineError: libzmq cannot make sense of the endpoint, or has no socket left.
        """
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._on_ready, self._on_frame, self._on_end = on_ready, on_frame, on_end
        self.endpoint = endpoint
        self.ended: asyncio.Future[str] = loop.create_future()
        self.ready_at: float | None = None
        self._closed = False
        self._deadline: asyncio.TimerHandle | None = None
        try:
            socket = context.socket(zmq.DEALER)
        except zmq.ZMQError as error:
            raise MachineError(f"No further socket: {error.strerror}.", "Lower `max_peers`.") from error
        harden(socket, identity, config)
        socket.curve_serverkey = server_key.encode()
        socket.setsockopt(zmq.IPV6, 1)
        socket.setsockopt(zmq.RECONNECT_IVL, -1)
        socket.setsockopt(zmq.CONNECT_TIMEOUT, config.handshake_timeout_ms)
        monitor = socket.get_monitor_socket(_EVENTS)
        self._socket = socket
        self._pump = Pump(socket, self._take)
        self._monitor = Pump(monitor, self._noticed)
        try:
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close("the endpoint is not one")
            what = f"Cannot dial {endpoint}: {error.strerror}."
            raise MachineError(what, "Mend the endpoint of the peer.") from error
        # A peer that accepts and then says nothing, or is no peer of ours, must not hold the dialer.
        self._deadline = loop.call_later(
            config.handshake_timeout_ms / 1000, self.finish, "no answer within the time for a handshake"
        )

    def write(self, raw: bytes) -> bool:
        """Hands a frame to the socket; False when it takes no more."""
        return self._pump.send([raw])

    def settle(self) -> None:
        """The peer has said hello: the time for the handshake no longer runs."""
        if self._deadline is not None:
            self._deadline.cancel()
        self.ready_at = self._loop.time()

    def close(self, reason: str = "closed here", linger_ms: int = 0) -> None:
        """Ends the connection without telling `on_end`. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if not self.ended.done():  # who awaited it may have been cancelled, and it with them
            self.ended.set_result(reason)
        if self._deadline is not None:
            self._deadline.cancel()
        self._socket.disable_monitor()
        self._monitor.close()
        self._pump.close(linger_ms)

    def _take(self, parts: list[bytes]) -> None:
        if len(parts) == 1:
            self._on_frame(self, parts[0])
        else:
            self.finish("a message of several parts")

    def _noticed(self, parts: list[bytes]) -> None:
        event = parse_monitor_message(parts)["event"]
        if event == zmq.Event.HANDSHAKE_SUCCEEDED:
            self._on_ready(self)
        else:
            self._pump.drain()  # what arrived before the end counts
            self.finish(_ENDS.get(zmq.Event(event), "the connection was closed"))

    def finish(self, reason: str) -> None:
        """Ends the connection and tells `on_end`. Idempotent."""
        if not self._closed:
            self.close(reason)
            self._on_end(self, reason)


class Dialer:
    """Keeps dialing one peer while a connection is wanted: its endpoints in turn, with ever longer waits.

    Attributes:
        endpoints: where the peer may be; may be replaced.
        attempts: connections dialed so far.
        last_reason: why the last one ended, empty before.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        config: Config,
        random: Callable[[], float],
        *,
        wanted: Callable[[], Awaitable[None]],
        connect: Callable[[str], Connection],
    ) -> None:
        """`wanted` returns when the peer is to be dialed and there are endpoints; `connect` begins to."""
        self.endpoints = tuple(endpoints)
        self._backoff = Backoff(config.redial_min_ms, config.redial_max_ms, random)
        self._wanted, self._connect = wanted, connect
        self.attempts = 0
        self.last_reason = ""

    async def run(self) -> None:
        """Dials until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._wanted()
            endpoint = self.endpoints[self.attempts % len(self.endpoints)]
            self.attempts += 1
            try:
                connection = self._connect(endpoint)
            except MachineError as error:
                self.last_reason = error.what
            else:
                try:
                    self.last_reason = await connection.ended
                finally:
                    connection.finish("no longer dialed")
                if connection.ready_at is not None:
                    self._backoff.held(1000 * (loop.time() - connection.ready_at))
            wait_ms = self._backoff.next_ms()
            log.debug("dialer: %s: %s; again in %d ms", endpoint, self.last_reason.replace(" ", "-"), wait_ms)
            await asyncio.sleep(wait_ms / 1000)
