"""A process of this store under test: ``python -m bench.faults.systems.aico_device ORDERS``, told by lines of JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import aico_crdt
from aico_crdt.companion import Store
from aico_crdt.errors import AicoError
from aico_crdt.mesh import Node, Peer
from bench import stores

REDIAL_MAX_MS = 1000
"""An app that hears of a network dials at once; the harness has no such news to give."""
ALL = 100_000


class Device:
    def __init__(self, store: Store) -> None:
        self._memories = store.memories
        self.port = 0

    def ready(self) -> int:
        """The port it listens on; 0 when it serves no links."""
        return self.port

    def write(self, name: str, value: str) -> None:
        self._memories.add(value, id=name)

    def edit(self, name: str, value: str) -> list[str]:
        replaced = _values(self._memories.get(name))
        self._memories.edit(name, content=value)
        return replaced

    def forget(self, name: str) -> None:
        self._memories.forget(name)

    def read_all(self) -> dict[str, list[str]]:
        return {row.id: _values(row) for row in self._memories.find(limit=ALL)}


def _values(row: aico_crdt.Row) -> list[str]:
    value = row.get("content")
    return [value, *sorted(v.value for v in row.conflicts.get("content", ()) if v.value != value)]


async def serve(store: Store, device: Device, orders: dict[str, Any]) -> None:
    peers = [Peer(bytes.fromhex(peer), endpoints=(endpoint,)) for peer, endpoint in orders["peers"]]
    async with Node(store, peers=peers) as node:
        device.port = int(node.endpoint.rpartition(":")[2])
        await answer(device)


async def answer(device: Device) -> None:
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        verb = getattr(device, command.pop("do"))
        try:
            told = {"ok": await asyncio.to_thread(verb, **command)}
        except AicoError as error:
            told = {"error": f"{error.code}: {error}"}
        print(json.dumps(told), flush=True)


def main() -> None:
    orders = json.loads(sys.argv[1])
    home, skew_ms = Path(orders["home"]), orders["skew_ms"]
    with Store.open(
        home / "store",
        stores.identity(orders["device"]),
        config=aico_crdt.Config(port=0, redial_max_ms=REDIAL_MAX_MS),
        lease=home / "lease",
        clock_ms=lambda: int(time.time() * 1000) + skew_ms,
    ) as store:
        device = Device(store)
        asyncio.run(serve(store, device, orders) if orders["serves"] else answer(device))


if __name__ == "__main__":
    main()
