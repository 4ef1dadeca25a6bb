"""The way in: one ROUTER for all who dial this device.

A connection is a *route*: the ROUTER's routing id for it. Neither it nor anything a peer says proves who speaks; the
CURVE key that libzmq attaches to each message does (docs/hazards.md, 15). The key is asked for on every message, so one
that is no longer admitted is cut off at once.

libzmq has no call that closes one connection of a ROUTER. :meth:`Route.cut` shuts the TCP connection down beneath it,
after which libzmq cleans up as for any lost connection. Descriptors are used again at once, so a connection is known by
its descriptor together with the address it comes from.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket as posix
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import zmq
from zmq.utils.monitor import parse_monitor_message

from aico_crdt.config import Config
from aico_crdt.errors import InvalidValue, MachineError, Malformed
from aico_crdt.logs import logger
from aico_crdt.mesh.frame import Kind, encode_token
from aico_crdt.mesh.sockets import Pump, harden
from aico_crdt.mesh.zap import DOMAIN
from aico_crdt.trust import Identity

BACKLOG: Final = 1024
"""Connections the kernel keeps while none is accepted; what Linux takes by default is 4,096."""
PROBE_S: Final = 0.05
"""Between a connection's end and the look whether its route is gone: its last frames are read meanwhile."""
_PROBE: Final = encode_token(Kind.PING, 0)
_TCP: Final = (posix.AF_INET, posix.AF_INET6)

Address = tuple[object, ...]

log = logger(__name__)


class Listener(Protocol):
    """Who hears of routes; called on the loop."""

    def on_route(self, route: Route) -> bool:
        """A new connection by an admitted device; false turns it away."""

    def on_frame(self, route: Route, raw: bytes) -> None:
        """A frame by the device of `route`, whose key was admitted a moment ago."""

    def on_route_lost(self, route: Route, reason: str) -> None:
        """The connection is gone."""


class Route:
    """One accepted connection."""

    __slots__ = ("_server", "address", "descriptor", "device", "id", "key")

    def __init__(
        self, server: Server, routing_id: bytes, key: str, device: bytes, descriptor: int, address: Address
    ) -> None:
        self._server = server
        self.id = routing_id
        self.key = key
        self.device = device
        self.descriptor = descriptor
        self.address = address

    def write(self, raw: bytes) -> bool:
        """Hands a frame to the connection; False when it is gone or takes no more."""
        return self._server.write(self, raw)

    def close(self) -> None:
        """Forgets the route and cuts its TCP connection. Idempotent."""
        self._server.cut(self)


class Server:
    """Binds on construction; everything on the loop it was made on.

    Attributes:
        endpoint: where it listens, with the port the system chose when 0 was asked for.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        identity: Identity,
        config: Config,
        admits: Callable[[str], bytes | None],
        listener: Listener,
    ) -> None:
        """`admits` tells the device a key (Z85) belongs to, None when it may not connect.

        Raises:
            MachineError: the port is taken, or the host is no address of this machine.
        """
        self._admits = admits
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._routes: dict[bytes, Route] = {}
        socket = context.socket(zmq.ROUTER)
        harden(socket, identity, config)
        socket.curve_server = True
        socket.setsockopt(zmq.IPV6, int(":" in config.host))
        socket.zap_domain = DOMAIN
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        # The channels have heartbeats of their own; these clear away who passed the handshake and then fell silent.
        socket.setsockopt(zmq.HEARTBEAT_IVL, config.heartbeat_interval_ms)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, config.heartbeat_timeout_ms)
        socket.setsockopt(zmq.BACKLOG, BACKLOG)
        monitor = socket.get_monitor_socket(zmq.Event.DISCONNECTED)
        try:
            socket.bind(f"tcp://{config.host}:{config.port or '*'}")
        except zmq.ZMQError as error:
            socket.disable_monitor()
            socket.close(0)
            monitor.close(0)
            raise _bind_error(config, error) from error
        self._socket = socket
        self.endpoint = bytes(socket.getsockopt(zmq.LAST_ENDPOINT)).decode().rstrip("\0")
        self._port = int(self.endpoint.rpartition(":")[2])
        self._pump = Pump(socket, self._take, copy=False)
        self._monitor = Pump(monitor, self._noticed)

    def write(self, route: Route, raw: bytes) -> bool:
        """See :meth:`Route.write`."""
        return self._routes.get(route.id) is route and self._pump.send([route.id, raw])

    def cut(self, route: Route) -> None:
        """See :meth:`Route.close`."""
        if self._routes.get(route.id) is route:
            del self._routes[route.id]
            self._shut_down(route.descriptor, route.address)

    def recheck(self) -> None:
        """Cuts the routes whose key is no longer admitted, and says so to the listener."""
        for route in [r for r in self._routes.values() if self._admits(r.key) != r.device]:
            self._lose(route, "no longer admitted")

    def close(self, linger_ms: int = 0) -> None:
        """Closes the port and all connections. Idempotent."""
        if not self._socket.closed:
            self._socket.disable_monitor()
        self._monitor.close()
        self._pump.close(linger_ms)
        self._routes.clear()

    def _take(self, parts: list[zmq.Frame]) -> None:
        route = self._route(parts)
        if route is not None:
            self._listener.on_frame(route, parts[1].bytes)

    def _route(self, parts: list[zmq.Frame]) -> Route | None:
        """The route a message came by; None when it is not to be heard."""
        if len(parts) != 2:
            return None
        routing_id = parts[0].bytes
        route = self._routes.get(routing_id)
        key = str(parts[1].get("User-Id"))
        device = self._admits(key)
        if route is not None and (device is None or route.key != key or route.device != device):
            self._lose(route, "no longer admitted")
            return None
        if route is not None:
            return route
        descriptor = int(parts[1].get(zmq.SRCFD))
        address = self._address_of(descriptor)
        # A routing id that a client chose could be one that another had: only libzmq's own, which begin with 0.
        if device is None or not routing_id.startswith(b"\0"):
            log.info("server: dropped a message of a key that is not admitted")
            self._shut_down(descriptor, address)
            return None
        route = Route(self, routing_id, key, device, descriptor, address)
        if not self._listener.on_route(route):
            self._shut_down(descriptor, address)
            return None
        self._routes[routing_id] = route
        return route

    def _noticed(self, parts: list[bytes]) -> None:
        try:
            descriptor = parse_monitor_message(parts)["value"]
        except (RuntimeError, ValueError) as error:
            raise Malformed("libzmq sent a monitor event that pyzmq cannot read.") from error
        if any(route.descriptor == descriptor for route in self._routes.values()):
            self._loop.call_later(PROBE_S, self._probe, descriptor)

    def _probe(self, descriptor: int) -> None:
        """Loses the routes of a closed descriptor. Its number may be in use again: the ROUTER itself is asked."""
        self._pump.drain()
        for route in [r for r in self._routes.values() if r.descriptor == descriptor]:
            if not self.write(route, _PROBE):
                self._lose(route, "the connection was closed")

    def _lose(self, route: Route, reason: str) -> None:
        self.cut(route)
        self._listener.on_route_lost(route, reason)

    def _shut_down(self, descriptor: int, address: Address) -> None:
        """Ends the TCP connection from `address` behind `descriptor`."""
        with _connection(descriptor) as connection:
            if connection is not None and address and self._address(connection) == address:
                connection.shutdown(posix.SHUT_RDWR)

    def _address_of(self, descriptor: int) -> Address:
        with _connection(descriptor) as connection:
            if connection is not None:
                return self._address(connection)
        return ()

    def _address(self, connection: posix.socket) -> Address:
        """Where a connection of this port comes from; () for anything else."""
        if connection.family in _TCP and connection.getsockname()[1] == self._port:
            return tuple(connection.getpeername())
        return ()


@contextlib.contextmanager
def _connection(descriptor: int) -> Iterator[posix.socket | None]:
    """What is behind one of libzmq's descriptors, held by a duplicate. The number may by now name something else, or
    nothing: None then, and an error of the system inside the block ends it."""
    try:
        duplicate = os.dup(descriptor)
    except OSError:
        yield None
        return
    try:
        connection = posix.socket(fileno=duplicate)
    except OSError:
        os.close(duplicate)
        yield None
        return
    with connection, contextlib.suppress(OSError):
        yield connection


def _bind_error(config: Config, error: zmq.ZMQError) -> MachineError | InvalidValue:
    what = f"Cannot listen on {config.host} port {config.port}: {os.strerror(error.errno or 0)}."
    if error.errno in (errno.EINVAL, errno.ENODEV):  # libzmq: no address, no interface of that name
        return InvalidValue(what, "Set `host` to an address, such as 127.0.0.1 or 0.0.0.0.")
    if error.errno == errno.EADDRNOTAVAIL:
        what = f"Cannot listen on {config.host} port {config.port}: {config.host} is not an address of this machine."
        return InvalidValue(what, "Set `host` to one of this machine's own, or to 0.0.0.0 for all of them.")
    return MachineError(what, "Set another `port` (0 lets the system choose), or end what listens there.")
