"""Two devices that both dial, over wires that are cut and frozen: always one link, the same on both sides."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from aico_crdt.mesh import Instance, Peer
from tests.mesh.proxy import Proxy
from tests.mesh.support import Device, until

BEATS = {"heartbeat_interval_ms": 100, "heartbeat_timeout_ms": 400, "redial_min_ms": 10, "redial_max_ms": 80}
Make = Callable[..., Device]


class Talker(Device):
    """Sends numbered messages over whatever link there is; keeps what came, link by link."""

    other: Device

    def __init__(self, *args: object, **settings: object) -> None:
        super().__init__(*args, **settings)  # type: ignore[arg-type]
        self.ups = 0
        self.count = 0
        self.heard: list[list[bytes]] = []

    def on_up(self, peer: Instance) -> None:
        super().on_up(peer)
        self.ups += 1
        self.count = 0
        self.heard.append([])

    async def on_message(self, peer: Instance, message: bytes) -> None:
        await super().on_message(peer, message)
        self.heard[-1].append(message)

    def say(self) -> bool:
        sent = self.send(self.other, b"%d %d" % (self.ups, self.count))
        self.count += sent
        return sent

    def check(self) -> None:
        """What one may rely on: up and down take turns, and one link carries one stream without a gap."""
        kinds = [kind for kind, _ in self.events if kind != "message"]
        assert kinds == (["up", "down"] * len(kinds))[: len(kinds)]
        for messages in self.heard:
            if messages:
                link = messages[0].split()[0]
                assert messages == [b"%s %d" % (link, number) for number in range(len(messages))]


@pytest.mark.parametrize("seed", range(4))
async def test_fault_14_one_link_and_one_stream_whatever_happens_to_the_wires(seed: int) -> None:
    rng = random.Random(seed)
    members: set[bytes] = set()
    a, b = Talker(1, members, **BEATS), Talker(2, members, **BEATS)
    a.other, b.other = b, a
    async with AsyncExitStack() as stack:
        await a.start()
        await b.start()
        stack.push_async_callback(a.links.stop)
        stack.push_async_callback(b.links.stop)
        to_a, to_b = await Proxy(a.links.endpoint).start(), await Proxy(b.links.endpoint).start()
        stack.push_async_callback(to_a.stop)
        stack.push_async_callback(to_b.stop)
        a.links.add_peer(Peer(b.device, endpoints=(to_b.endpoint,)))
        b.links.add_peer(Peer(a.device, endpoints=(to_a.endpoint,)))
        faults: list[Callable[[], None]] = [
            to_a.cut,
            to_b.cut,
            to_a.freeze,
            to_b.freeze,
            to_a.thaw,
            to_b.thaw,
            lambda: a.drop(b),
            lambda: b.drop(a),
        ]
        for _ in range(25):
            for _ in range(rng.randrange(4)):
                a.say()
                b.say()
                await asyncio.sleep(rng.random() * 0.02)
            rng.choice(faults)()
            await asyncio.sleep(rng.choice([0, 0.005, 0.05]))
        to_a.thaw()
        to_b.thaw()
        await until(lambda: a.links.is_up(b.device) and b.links.is_up(a.device))
        # The last link is the same for both: what each says over it arrives, again and again.
        await asyncio.sleep(0.3)
        for _ in range(10):
            before = len(a.messages), len(b.messages)
            await until(a.say)
            await until(b.say)
            await until(lambda before=before: len(a.messages) > before[0] and len(b.messages) > before[1])
        a.check()
        b.check()


async def test_a_wire_that_freezes_is_replaced_by_the_other_way(mesh: Make) -> None:
    """The link's wire dies silently; the other side can still dial, and the leader leaves the dead one."""
    a, b = mesh(1, **BEATS), mesh(2, **BEATS)
    await a.start()
    await b.start()
    proxy = await Proxy(a.links.endpoint).start()
    try:
        b.links.add_peer(Peer(a.device, endpoints=(proxy.endpoint,)))
        await a.linked(b)
        await b.linked(a)
        proxy.freeze()
        a.links.add_peer(b.as_peer())
        await until(lambda: a.events.count(("up", b.device)) == 2 and b.events.count(("up", a.device)) == 2)
        assert a.send(b, b"the other way")
        await until(lambda: b.messages == [b"the other way"])
    finally:
        await proxy.stop()


async def test_what_was_sent_before_the_end_arrives(mesh: Make) -> None:
    """Both when the dialed side ends and when the dialing one does."""
    for ends, stays in ((1, 2), (2, 1)):
        a, b = mesh(ends), mesh(stays)
        await a.start()
        await b.start(a.as_peer())
        await a.linked(b)
        await b.linked(a)
        for number in range(200):
            assert a.send(b, bytes([number]))
        await a.links.stop()
        await until(lambda b=b: len(b.messages) == 200)
        await until(lambda a=a, b=b: b.events[-1] == ("down", a.device))
        assert b.reasons == ["the peer said bye"]
        await b.links.stop()
