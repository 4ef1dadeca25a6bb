"""Measured facts about CurveZMQ (libzmq 4.3.5, pyzmq 27) that the mesh's links are built around.

Loopback and ephemeral ports only; every wait is a bounded poll. "Nothing arrives" is asserted by an event of the
client's monitor where there is one, so that it does not rest on a pause alone.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import zmq
import zmq.auth
from nacl.signing import SigningKey
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

ARRIVES_MS = 1500  # bound on a wait for something that comes
ABSENT_MS = 200  # how long nothing must come, where no event tells
CURVE_FRAME_OVERHEAD = 33  # bytes CURVE adds to a frame: command name, nonce, authenticator, flags

Keys = tuple[bytes, bytes]
SERVER, CLIENT, OTHER = (zmq.curve_keypair() for _ in range(3))


@dataclass
class ZapHandler(threading.Thread):
    """A ZAP handler (RFC 27) that admits the keys in ``allowed`` and counts what it was asked."""

    context: zmq.Context[Any]
    allowed: set[bytes]
    asked: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.socket = self.context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind("inproc://zeromq.zap.01")

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        while not self.stopped.is_set():
            if not self.socket.poll(10):
                continue
            version, request, _domain, _address, _identity, _mechanism, raw_key = self.socket.recv_multipart()
            key = z85.encode(raw_key)
            self.asked += 1
            status, user = (b"200", key) if key in self.allowed else (b"400", b"")
            self.socket.send_multipart([version, request, status, b"", user, b""])
        self.socket.close()


@dataclass
class Client:
    socket: zmq.Socket[bytes]
    monitor: zmq.Socket[bytes]

    def saw(self, event: zmq.Event, within_ms: int = ARRIVES_MS) -> bool:
        """Whether ``event`` comes within that time."""
        return any(seen == event for seen in self._events(within_ms))

    def _events(self, within_ms: int) -> Iterator[int]:
        end = time.monotonic() + within_ms / 1000
        while (left := end - time.monotonic()) > 0 and self.monitor.poll(int(left * 1000)):
            yield recv_monitor_message(self.monitor)["event"]


class Net:
    """One server context and one client context, as two processes would have them."""

    def __init__(self) -> None:
        self.server_context: zmq.Context[Any] = zmq.Context()
        self.client_context: zmq.Context[Any] = zmq.Context()
        self.zap: ZapHandler | None = None
        self.authenticator: ThreadAuthenticator | None = None
        self.clients: list[Client] = []  # a socket that nobody holds is closed

    def admit(self, *keys: bytes) -> ZapHandler:
        self.zap = ZapHandler(self.server_context, set(keys))
        self.zap.start()
        return self.zap

    def authenticate(self) -> ThreadAuthenticator:
        self.authenticator = ThreadAuthenticator(self.server_context)
        self.authenticator.start()
        return self.authenticator

    def router(self, **options: int | bytes) -> tuple[zmq.Socket[bytes], int]:
        socket = self.server_context.socket(zmq.ROUTER)
        socket.linger = 0
        socket.curve_server = True
        socket.curve_publickey, socket.curve_secretkey = SERVER
        for name, value in options.items():
            socket.setsockopt(getattr(zmq, name), value)
        return socket, socket.bind_to_random_port("tcp://127.0.0.1")

    def dealer(self, port: int, keys: Keys = CLIENT, server: bytes = SERVER[0], name: bytes = b"") -> Client:
        socket = self.client_context.socket(zmq.DEALER)
        socket.linger = 0
        socket.reconnect_ivl = 10
        socket.curve_serverkey = server
        socket.curve_publickey, socket.curve_secretkey = keys
        if name:
            socket.routing_id = name
        client = Client(socket, socket.get_monitor_socket())
        self.clients.append(client)
        socket.connect(f"tcp://127.0.0.1:{port}")
        return client

    def close(self) -> None:
        if self.zap is not None:
            self.zap.stopped.set()
            self.zap.join(5)
        self.client_context.destroy(linger=0)
        if self.authenticator is not None:
            self.authenticator.pipe.sndtimeo = 100  # a dead authenticator never takes its last order
            try:
                self.authenticator.stop()
            except zmq.Again:
                self.authenticator.pipe.close()
                self.authenticator.pipe = None  # type: ignore[assignment]
                self.authenticator.stop()
        self.server_context.destroy(linger=0)


@contextmanager
def open_net() -> Iterator[Net]:
    net = Net()
    try:
        yield net
    finally:
        net.close()


@pytest.fixture
def net() -> Iterator[Net]:
    with open_net() as opened:
        yield opened


def hears(router: zmq.Socket[bytes], within_ms: int = ARRIVES_MS) -> bytes | None:
    """The payload of the next message, or None."""
    return router.recv_multipart()[-1] if router.poll(within_ms) else None


# 14: who is let in


def test_hazard_14_a_client_that_expects_another_server_key_does_not_connect(net: Net) -> None:
    """14. CURVE proves the server's key: with the wrong one, nothing is delivered."""
    router, port = net.router()
    client = net.dealer(port, server=OTHER[0])
    client.socket.send(b"hello")
    assert not client.saw(zmq.Event.HANDSHAKE_SUCCEEDED, ABSENT_MS)
    assert hears(router, 0) is None


@pytest.mark.parametrize("options", [{}, {"ZAP_DOMAIN": b"home"}, {"ZAP_ENFORCE_DOMAIN": 1}])
def test_hazard_14_without_a_zap_handler_every_client_is_let_in(net: Net, options: dict[str, Any]) -> None:
    """14. With no ZAP handler a stranger's key is accepted, with a domain too, and with enforcing of none."""
    router, port = net.router(**options)
    net.dealer(port, keys=OTHER).socket.send(b"hello")
    assert hears(router) == b"hello"


def test_hazard_14_an_enforced_domain_without_a_handler_lets_nobody_in(net: Net) -> None:
    """14. ``ZAP_ENFORCE_DOMAIN`` with a domain fails closed."""
    router, port = net.router(ZAP_DOMAIN=b"home", ZAP_ENFORCE_DOMAIN=1)
    client = net.dealer(port)
    client.socket.send(b"hello")
    assert not client.saw(zmq.Event.HANDSHAKE_SUCCEEDED, ABSENT_MS)
    assert hears(router, 0) is None


def test_hazard_14_an_enforced_domain_with_a_handler_lets_its_keys_in(net: Net) -> None:
    """14. The same options with a handler admit exactly the keys it knows."""
    net.admit(CLIENT[0])
    router, port = net.router(ZAP_DOMAIN=b"home", ZAP_ENFORCE_DOMAIN=1)
    stranger = net.dealer(port, keys=OTHER)
    stranger.socket.send(b"stranger")
    assert stranger.saw(zmq.Event.HANDSHAKE_FAILED_AUTH)
    net.dealer(port).socket.send(b"member")
    assert hears(router) == b"member"


def test_hazard_14_curve_allow_any_in_one_domain_opens_every_domain(net: Net) -> None:
    """14. pyzmq's authenticator, told to allow any key in domain "other", allows any in "home"."""
    net.authenticate().configure_curve(domain="other", location=zmq.auth.CURVE_ALLOW_ANY)
    router, port = net.router(ZAP_DOMAIN=b"home")
    net.dealer(port, keys=OTHER).socket.send(b"hello")
    assert hears(router) == b"hello"


class Provider:
    """A credentials provider for pyzmq's authenticator that raises at its first call when told to."""

    def __init__(self, raise_once: bool = False) -> None:
        self.raise_once = raise_once

    def callback(self, domain: str, key: bytes) -> bool:
        if self.raise_once:
            self.raise_once = False
            raise LookupError(domain)
        return True


def test_hazard_14_a_callback_for_the_domain_star_serves_only_the_empty_domain(net: Net) -> None:
    """14. ``configure_curve_callback(domain="*")`` admits where no domain is set and refuses any named one."""
    net.authenticate().configure_curve_callback(domain="*", credentials_provider=Provider())
    nameless, nameless_port = net.router()
    _, named_port = net.router(ZAP_DOMAIN=b"home")
    net.dealer(nameless_port).socket.send(b"hello")
    assert hears(nameless) == b"hello"
    assert net.dealer(named_port).saw(zmq.Event.HANDSHAKE_FAILED_AUTH)


@pytest.mark.filterwarnings("ignore")
def test_hazard_14_a_callback_that_raises_ends_pyzmq_s_authenticator(net: Net) -> None:
    """14. After one exception nobody is let in any more, though the callback would now say yes."""
    net.authenticate().configure_curve_callback(domain="*", credentials_provider=Provider(raise_once=True))
    router, port = net.router()
    for _ in range(2):
        client = net.dealer(port)
        client.socket.send(b"hello")
        assert not client.saw(zmq.Event.HANDSHAKE_SUCCEEDED, ABSENT_MS)
    assert hears(router, 0) is None


# 15: who is speaking


def test_hazard_15_user_id_of_a_frame_is_the_authenticated_client_key(net: Net) -> None:
    """15. ``frame.get("User-Id")`` is what the ZAP handler answered: here the client's key in Z85."""
    net.admit(CLIENT[0])
    router, port = net.router()
    net.dealer(port, name=b"somebody else").socket.send(b"hello")
    assert router.poll(ARRIVES_MS)
    frames = router.recv_multipart(copy=False)
    assert [frame.get("User-Id") for frame in frames] == [CLIENT[0].decode()] * 2
    assert frames[0].bytes == b"somebody else"  # the routing id is whatever the client says


def test_hazard_15_without_a_zap_handler_there_is_no_user_id(net: Net) -> None:
    """15. Without ZAP, asking a frame for its user id raises ``ZMQError``."""
    router, port = net.router()
    net.dealer(port).socket.send(b"hello")
    assert router.poll(ARRIVES_MS)
    frame = router.recv_multipart(copy=False)[-1]
    with pytest.raises(zmq.ZMQError):
        frame.get("User-Id")


@pytest.mark.parametrize("handover", [0, 1])
def test_hazard_15_router_handover_lets_another_key_steal_a_routing_id(net: Net, handover: int) -> None:
    """15. With ``ROUTER_HANDOVER`` a second member takes the first one's routing id, and its messages."""
    net.admit(CLIENT[0], OTHER[0])
    router, port = net.router(ROUTER_HANDOVER=handover)
    owner = net.dealer(port, keys=CLIENT, name=b"id")
    owner.socket.send(b"owner")
    assert hears(router) == b"owner"
    thief = net.dealer(port, keys=OTHER, name=b"id")
    thief.socket.send(b"thief")
    assert hears(router, ARRIVES_MS if handover else ABSENT_MS) == (b"thief" if handover else None)
    router.send_multipart([b"id", b"for the owner"])
    receiver, loser = (thief, owner) if handover else (owner, thief)
    assert receiver.socket.poll(ARRIVES_MS)
    assert not loser.socket.poll(0)


# 16: refusal and revocation


def test_hazard_16_a_refused_client_does_not_retry(net: Net) -> None:
    """16. Refused once, a client stays away after its key is admitted; a new socket comes in."""
    zap = net.admit()
    router, port = net.router()
    refused = net.dealer(port)
    refused.socket.send(b"first")
    assert refused.saw(zmq.Event.HANDSHAKE_FAILED_AUTH)
    asked = zap.asked
    zap.allowed.add(CLIENT[0])
    assert hears(router, ABSENT_MS) is None  # twenty times its reconnect interval
    assert zap.asked == asked
    net.dealer(port).socket.send(b"second")
    assert hears(router) == b"second"


def test_hazard_16_revoking_a_key_does_not_cut_its_open_connection(net: Net) -> None:
    """16. ZAP is asked once, at the handshake: a revoked client goes on being heard."""
    zap = net.admit(CLIENT[0])
    router, port = net.router()
    client = net.dealer(port)
    client.socket.send(b"before")
    assert hears(router) == b"before"
    zap.allowed.clear()
    client.socket.send(b"after")
    assert hears(router) == b"after"


def test_hazard_16_a_context_has_one_zap_handler(net: Net) -> None:
    """16. A second handler cannot bind in the same context; another context has its own."""
    net.admit(CLIENT[0])
    second = net.server_context.socket(zmq.REP)
    with pytest.raises(zmq.ZMQError, match="in use"):
        second.bind("inproc://zeromq.zap.01")
    elsewhere = net.client_context.socket(zmq.REP)
    elsewhere.bind("inproc://zeromq.zap.01")


# 17: limits and defaults


def test_hazard_17_maxmsgsize_drops_the_connection_and_loses_the_message(net: Net) -> None:
    """17. The sender's ``send`` succeeds, the link is cut and redialled, the message is never seen again."""
    router, port = net.router(MAXMSGSIZE=1000)
    client = net.dealer(port)
    client.socket.send(b"small")
    assert hears(router) == b"small"
    client.socket.send(b"x" * 5000)
    assert client.saw(zmq.Event.DISCONNECTED)
    assert client.saw(zmq.Event.HANDSHAKE_SUCCEEDED)
    client.socket.send(b"next")
    assert hears(router) == b"next"


def test_hazard_17_maxmsgsize_counts_the_encrypted_frame(net: Net) -> None:
    """17. Under CURVE the limit includes 33 bytes a frame that are not the caller's."""
    router, port = net.router(MAXMSGSIZE=1000)
    client = net.dealer(port)
    largest = 1000 - CURVE_FRAME_OVERHEAD
    client.socket.send(b"x" * largest)
    assert hears(router) == b"x" * largest
    client.socket.send(b"x" * (largest + 1))
    assert client.saw(zmq.Event.DISCONNECTED)


def test_hazard_17_high_water_mark_counts_messages_not_bytes(net: Net) -> None:
    """17. ``SNDHWM`` of three takes three messages, of ten bytes or of a megabyte."""
    for size in (10, 1_000_000):
        socket = net.client_context.socket(zmq.DEALER)
        socket.linger = 0
        socket.sndhwm = 3
        socket.connect("tcp://127.0.0.1:1")  # nobody listens: everything waits
        for _ in range(3):
            socket.send(b"x" * size, zmq.DONTWAIT)
        with pytest.raises(zmq.Again):
            socket.send(b"x", zmq.DONTWAIT)


def test_hazard_17_defaults_are_unbounded(net: Net) -> None:
    """17. No message limit, 30 s for a handshake, no heartbeat, and closing waits for ever."""
    socket = net.server_context.socket(zmq.ROUTER)
    found = {
        name: socket.getsockopt(getattr(zmq, name))
        for name in ("MAXMSGSIZE", "HANDSHAKE_IVL", "HEARTBEAT_IVL", "SNDHWM", "RCVHWM")
    }
    assert found == {
        "MAXMSGSIZE": -1,
        "HANDSHAKE_IVL": 30_000,
        "HEARTBEAT_IVL": 0,
        "SNDHWM": 1000,
        "RCVHWM": 1000,
    }
    fresh: zmq.Context[Any] = zmq.Context()
    unlimited = fresh.socket(zmq.ROUTER)
    assert unlimited.getsockopt(zmq.LINGER) == -1
    fresh.destroy(linger=0)


def test_hazard_17_conflate_breaks_multipart_messages(net: Net) -> None:
    """17. A conflating reader gets the last frame of a message, not the last message."""
    reader, writer = net.server_context.socket(zmq.PULL), net.client_context.socket(zmq.PUSH)
    reader.conflate = True
    writer.linger = 0
    writer.connect(f"tcp://127.0.0.1:{reader.bind_to_random_port('tcp://127.0.0.1')}")
    writer.send_multipart([b"first frame", b"last frame"])
    assert reader.poll(ARRIVES_MS)
    assert reader.recv_multipart() == [b"last frame"]


# A whole ZMTP 3.0 handshake with the NULL mechanism: greeting, then READY (RFC 23). After it, silence.
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\x00") + bytes(32)
READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"


@pytest.mark.parametrize("heartbeat", [False, True])
def test_hazard_17_only_heartbeats_find_a_peer_that_froze(heartbeat: bool) -> None:
    """17. A peer that falls silent after the handshake stays connected, unless heartbeats are on."""
    context: zmq.Context[Any] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    if heartbeat:
        router.heartbeat_ivl, router.heartbeat_timeout = 20, 50
    port = router.bind_to_random_port("tcp://127.0.0.1")
    monitor = Client(router, router.get_monitor_socket())
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.sendall(GREETING + READY)
        assert monitor.saw(zmq.Event.HANDSHAKE_SUCCEEDED)
        assert monitor.saw(zmq.Event.DISCONNECTED, ARRIVES_MS if heartbeat else ABSENT_MS) is heartbeat
    context.destroy(linger=0)


@pytest.mark.parametrize("limit_ms", [30_000, 30])
def test_hazard_17_a_peer_that_never_shakes_hands_is_kept_until_the_handshake_limit(limit_ms: int) -> None:
    """17. A connection that says nothing is cut after ``HANDSHAKE_IVL``: half a minute unless it is set."""
    context: zmq.Context[Any] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.setsockopt(zmq.HANDSHAKE_IVL, limit_ms)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    monitor = Client(router, router.get_monitor_socket())
    with socket.create_connection(("127.0.0.1", port)):
        assert monitor.saw(zmq.Event.ACCEPTED)
        cut = monitor.saw(zmq.Event.HANDSHAKE_FAILED_NO_DETAIL, ARRIVES_MS if limit_ms == 30 else ABSENT_MS)
    assert cut is (limit_ms == 30)
    context.destroy(linger=0)


# 18: the link itself


def test_hazard_18_chunks_of_64_kib_arrive_whole_and_in_order(net: Net) -> None:
    """18. Two hundred encrypted 64 KiB messages over one DEALER arrive whole and in order."""
    router, port = net.router()
    client = net.dealer(port)
    chunks = [n.to_bytes(4, "big") * (16 * 1024) for n in range(200)]
    for chunk in chunks:
        client.socket.send(chunk)
    assert [hears(router) for _ in chunks] == chunks


# 19: one seed, two keys


def test_hazard_19_the_converted_signing_key_is_a_curve_key(net: Net) -> None:
    """19. The Ed25519 key converted to X25519 works as CURVE secret, and its public halves agree."""
    signing = SigningKey(bytes(range(32)))
    secret = z85.encode(bytes(signing.to_curve25519_private_key()))
    public = z85.encode(bytes(signing.verify_key.to_curve25519_public_key()))
    assert zmq.curve_public(secret) == public
    net.admit(public)
    router, port = net.router()
    net.dealer(port, keys=(public, secret)).socket.send(b"hello")
    assert hears(router) == b"hello"
