"""ZeroMQ sockets on an asyncio loop, and the options every socket of the mesh has.

A socket's file descriptor is edge-triggered: it becomes readable once when *something* happened, and any call on the
socket may use that up. So whoever sends must look for messages afterwards, and whoever reads must read until nothing
is left. :class:`Pump` keeps both rules; all sockets live in the loop's thread, so none needs a lock. Against
``zmq.asyncio`` this saves a future for each message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import zmq

from aico_crdt.config import Config
from aico_crdt.mesh.frame import HEADER_BYTES
from aico_crdt.trust import Identity

BATCH: Final = 64
"""Messages read before other work of the loop gets a turn."""
SEND_FRAMES: Final = 65_536
"""libzmq's own queue for one connection, in frames. The window bounds it in bytes long before; this bounds the
heartbeats and credits owed to a peer that reads nothing."""
CURVE_OVERHEAD_BYTES: Final = 64
"""CurveZMQ's MESSAGE command around a frame: 33 bytes (rfc.zeromq.org/spec/26), with room."""


class Pump:
    """Calls `take` for each message of `socket`, in order, on the loop. Not thread-safe."""

    def __init__(self, socket: zmq.Socket[bytes], take: Callable[[Any], None], *, copy: bool = True) -> None:
        """`take` gets the parts of a message: bytes, or :class:`zmq.Frame` when `copy` is false."""
        self._socket = socket
        self._take = take
        self._copy = copy
        self._loop = asyncio.get_running_loop()
        self._fd = int(socket.get(zmq.FD))
        self._scheduled = False
        self._closed = False
        self._loop.add_reader(self._fd, self._run)
        self._poke()

    def send(self, parts: list[bytes]) -> bool:
        """Hands one message to the socket; False when it takes no more, or knows no such peer."""
        if self._closed:
            return False
        try:
            self._socket.send_multipart(parts, zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                return False
            raise
        finally:
            self._poke()
        return True

    def drain(self) -> None:
        """Reads what has arrived, now."""
        while not self._closed and self._read():
            pass

    def close(self, linger_ms: int = 0) -> None:
        """Stops reading and closes the socket. Idempotent."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._fd)
            self._socket.close(linger_ms)

    def _poke(self) -> None:
        if not self._scheduled and not self._closed:
            self._scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = False
        more = True
        try:
            more = not self._closed and self._read()
        finally:
            # The edge may be used up: after an error in `take` too, the rest must be read.
            if more:
                self._poke()

    def _read(self) -> bool:
        """Reads up to a batch; whether there may be more."""
        for _ in range(BATCH):
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=self._copy)
            except zmq.Again:
                return False
            except zmq.ContextTerminated:
                self.close()
                return False
            self._take(parts)
            if self._closed:
                return False
        return True


def harden(socket: zmq.Socket[bytes], identity: Identity, config: Config) -> None:
    """Sets what libzmq leaves open: our keys, frame size, handshake time, queue lengths (docs/hazards.md, 17)."""
    socket.curve_publickey = identity.curve_public_z85.encode()
    socket.curve_secretkey = identity.curve_secret_z85.encode()
    socket.setsockopt(zmq.MAXMSGSIZE, config.chunk_bytes + HEADER_BYTES + CURVE_OVERHEAD_BYTES)
    socket.setsockopt(zmq.HANDSHAKE_IVL, config.handshake_timeout_ms)
    socket.setsockopt(zmq.SNDHWM, SEND_FRAMES)
    socket.setsockopt(zmq.RCVHWM, max(2, config.receive_queue_bytes // config.chunk_bytes))
    socket.setsockopt(zmq.LINGER, 0)
