"""A process of this store under test: ``python -m bench.faults.systems.aico_device ORDERS``, told by lines of JSON."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from pathlib import Path
from typing import Any

import aico_crdt
from aico_crdt.companion import Store
from aico_crdt.errors import AicoError
from aico_crdt.mesh import Instance, Lane, Node, Peer
from bench import stores

REDIAL_MAX_MS = 1000
"""An app that hears of a network dials at once; the harness has no such news to give."""
ALL = 100_000


class Device:
    """The verbs of a process that has no links."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.port = 0

    def ready(self) -> int:
        """The port it listens on; 0 for none."""
        return self.port

    def write(self, name: str, value: str) -> None:
        self.store.memories.add(value, id=name)

    def edit(self, name: str, value: str) -> list[str]:
        replaced = _values(self.store.memories.get(name))
        self.store.memories.edit(name, content=value)
        return replaced

    def forget(self, name: str) -> None:
        self.store.memories.forget(name)

    def read_all(self) -> dict[str, list[str]]:
        return {row.id: _values(row) for row in self.store.memories.find(limit=ALL)}

    async def run(self) -> None:
        """Answers until its input ends."""
        while line := await asyncio.to_thread(sys.stdin.readline):
            command = json.loads(line)
            verb = getattr(self, command.pop("do"))
            try:
                told = {"ok": await asyncio.to_thread(verb, **command)}
            except AicoError as error:
                told = {"error": f"{error.code}: {error}"}
            print(json.dumps(told), flush=True)


def _values(row: aico_crdt.Row) -> list[str]:
    value = row.get("content")
    return [value, *sorted(v.value for v in row.conflicts.get("content", ()) if v.value != value)]


class Meshed(Device):
    """It is linked with its peers."""

    def __init__(self, store: Store, peers: list[tuple[str, str]]) -> None:
        super().__init__(store)
        self._peers = [Peer(bytes.fromhex(device), endpoints=(endpoint,)) for device, endpoint in peers]

    async def run(self) -> None:
        async with Node(self.store, peers=self._peers) as node:
            self.port = int(node.endpoint.rpartition(":")[2])
            await super().run()


class Posted(Device):
    """What its sessions say are events; what it hears is told by verbs."""

    def up(self, device: str) -> None:
        self._loop.call_soon_threadsafe(self._node.meet, bytes.fromhex(device))

    def down(self, device: str) -> None:
        self._loop.call_soon_threadsafe(self._node.part, bytes.fromhex(device))

    def hear(self, device: str, raw: str) -> None:
        heard = self._node.on_message(Instance(bytes.fromhex(device), b""), base64.b64decode(raw))
        asyncio.run_coroutine_threadsafe(heard, self._loop).result()

    async def run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._node = PostedNode(self.store)
        async with self._node:
            await super().run()


class PostedNode(Node):
    """A node whose links are the post of the harness."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._post = PostLinks(self)
        self._links = self._post  # type: ignore[assignment]

    def meet(self, device: bytes) -> None:
        self._post.linked.add(device)
        self.on_up(Instance(device, b""))

    def part(self, device: bytes) -> None:
        self._post.linked.discard(device)
        self.on_down(Instance(device, b""), "the network")


class PostLinks:
    """What :class:`Node` asks of its links."""

    endpoint = ""

    def __init__(self, node: PostedNode) -> None:
        self._node = node
        self.linked: set[bytes] = set()

    def check_process(self) -> None:
        pass

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def recheck(self) -> None:
        pass

    def send(self, peer: Instance, message: bytes, lane: Lane) -> bool:
        if peer.device not in self.linked:
            return False
        event = {"event": "message", "to": peer.device.hex(), "raw": base64.b64encode(message).decode()}
        print(json.dumps(event), flush=True)
        asyncio.get_running_loop().call_soon(self._node.on_sent, peer, len(message))
        return True

    def drop(self, peer: Instance, reason: str) -> None:
        print(json.dumps({"event": "drop", "to": peer.device.hex()}), flush=True)
        self._node.part(peer.device)


def main() -> None:
    orders: dict[str, Any] = json.loads(sys.argv[1])
    home, skew_ms = Path(orders["home"]), orders["skew_ms"]
    with Store.open(
        home / "store",
        stores.identity(orders["device"]),
        config=aico_crdt.Config(port=0, redial_max_ms=REDIAL_MAX_MS),
        lease=home / "lease",
        clock_ms=lambda: int(time.time() * 1000) + skew_ms,
    ) as store:
        asyncio.run(_device(store, orders).run())


def _device(store: Store, orders: dict[str, Any]) -> Device:
    match orders["network"]:
        case "mesh":
            return Meshed(store, orders["peers"])
        case "post":
            return Posted(store)
        case _:
            return Device(store)


if __name__ == "__main__":
    main()
