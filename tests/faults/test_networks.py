"""Networks that fail on purpose do fail, and heal."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from bench.faults.post import Post, Route
from bench.faults.wire import Wire, Wires


def posted(route: Route, count: int) -> list[int]:
    post, received = Post(), list[int]()
    for number in range(count):
        post.send(route, received.append, number)
    post.flush()
    post.stop()
    return received


def test_a_good_route_brings_everything_in_order() -> None:
    assert posted(Route(), 100) == list(range(100))


def test_a_rough_route_drops_doubles_and_reorders_until_it_is_healed() -> None:
    route = Route()
    route.roughen(7)
    received = posted(route, 300)
    assert set(range(300)) - set(received)
    assert len(received) > len(set(received))
    assert received != sorted(received)
    route.heal()
    assert posted(route, 50) == list(range(50))


def test_what_is_sent_while_a_route_is_cut_is_gone() -> None:
    route = Route()
    route.cut()
    assert posted(route, 10) == []


@pytest.fixture
def wire() -> Iterator[Wire]:
    """To a server that sends back what it gets."""
    server = socket.create_server(("127.0.0.1", 0))

    def echo(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65_536):
                connection.sendall(data)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=echo, args=[server.accept()[0]], daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    wires = Wires()
    made = wires.new()
    made.target = server.getsockname()
    yield made
    wires.stop()
    server.close()


def passes(connection: socket.socket, data: bytes) -> bool:
    with contextlib.suppress(OSError):
        connection.sendall(data)
        back = b""
        while len(back) < len(data) and (more := connection.recv(65_536)):
            back += more
        return back == data
    return False


def dialed(wire: Wire) -> socket.socket:
    return socket.create_connection(("127.0.0.1", wire.port), timeout=10)


def test_a_cut_wire_ends_connections_and_lets_none_begin(wire: Wire) -> None:
    with dialed(wire) as connection:
        assert passes(connection, b"x" * 100_000)
        wire.cut()
        assert not passes(connection, b"y")
    with dialed(wire) as connection:
        assert not passes(connection, b"y")
    wire.heal()
    with dialed(wire) as connection:
        assert passes(connection, b"y" * 100_000)


def test_a_rough_wire_cuts_every_connection_sooner_or_later(wire: Wire) -> None:
    wire.roughen(3)
    with dialed(wire) as connection:
        assert not all(passes(connection, b"x" * 1000) for _ in range(100))
    wire.heal()
    with dialed(wire) as connection:
        assert all(passes(connection, b"x" * 1000) for _ in range(100))
