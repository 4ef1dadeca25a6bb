"""Devices with links on loopback: ephemeral ports, bounded waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache

from aico_crdt.config import Config
from aico_crdt.mesh import Instance, Lane, Links, Peer
from aico_crdt.trust import Identity, curve_key

WAIT_S = 5.0
"""A bound, not a duration: what is waited for takes milliseconds."""
QUICK = {"port": 0, "redial_min_ms": 20, "redial_max_ms": 200, "handshake_timeout_ms": 2000, "linger_ms": 200}


def identity(number: int) -> Identity:
    """A device that is the same in every run."""
    return Identity.from_seed(bytes([number]) * 32)


key_of = cache(curve_key)


async def until(condition: Callable[[], object], wait_s: float = WAIT_S) -> None:
    """Returns when `condition` is true; fails the test when that takes too long."""
    async with asyncio.timeout(wait_s):
        while not condition():
            await asyncio.sleep(0.002)


class Device:
    """A device's links, with a record of all that its handler was told."""

    def __init__(self, number: int, members: set[bytes], **settings: object) -> None:
        self.identity = identity(number)
        self.device = self.identity.device
        self.members = members
        self.members.add(self.device)
        self.config = Config(**{**QUICK, **settings})  # type: ignore[arg-type]
        self.events: list[tuple[str, bytes]] = []
        self.messages: list[bytes] = []
        self.reasons: list[str] = []
        self.sent = self.parts = 0
        self.links: Links

    def admits(self, key: str) -> bytes | None:
        return next((device for device in self.members if key_of(device) == key), None)

    async def start(self, *peers: Peer, **settings: object) -> Device:
        if settings:
            self.config = Config(**{**QUICK, **settings})  # type: ignore[arg-type]
        self.links = Links(self.identity, self.config, self.admits, peers, self)
        await self.links.start()
        return self

    def as_peer(self) -> Peer:
        return Peer(self.device, endpoints=(self.links.endpoint,))

    async def linked(self, *others: Device) -> None:
        await until(lambda: all(self.links.is_up(other.device) for other in others))

    def send(self, other: Device, message: bytes, lane: Lane = Lane.BULK) -> bool:
        peers = self.links.linked(other.device)
        return bool(peers) and self.links.send(peers[-1], message, lane)

    def queued_bytes(self, other: Device) -> int:
        return sum(status.queued_bytes for status in self.links.status() if status.device == other.device)

    def drop(self, other: Device) -> None:
        for peer in self.links.linked(other.device):
            self.links.drop(peer, "test")

    def on_up(self, peer: Instance) -> None:
        self.events.append(("up", peer.device))

    async def on_message(self, peer: Instance, message: bytes) -> None:
        self.events.append(("message", peer.device))
        self.messages.append(message)

    def on_sent(self, peer: Instance, count: int) -> None:
        self.sent += count

    def on_part(self, peer: Instance) -> None:
        self.parts += 1

    def on_down(self, peer: Instance, reason: str) -> None:
        self.events.append(("down", peer.device))
        self.reasons.append(reason)
