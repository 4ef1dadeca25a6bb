"""A device whose directory was copied, and both copies run: whoever came first, all hear all."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from aico_crdt.companion import KINDS, Store
from aico_crdt.mesh import Node, Peer
from aico_crdt.store import StoreReplica, membership
from aico_crdt.sync.replica import IngestReport
from tests.mesh.support import identity, until
from tests.mesh.test_node import CONFIG


class Copied:
    """Device 1, a copy of it, and device 2; each has written one memory before they meet."""

    def __init__(self, root: Path, stack: AsyncExitStack) -> None:
        self.stack = stack
        first, copied, third = (root / name for name in ("first", "copy", "third"))
        membership.found(first, identity(1), KINDS, name="device 1", config=CONFIG)
        with Store.open(first, identity(1), config=CONFIG) as store:
            admission = membership.admit(store, identity(2).device, name="device 2")
        membership.join(third, identity(2), KINDS, admission, config=CONFIG)
        shutil.copytree(first, copied)
        self.original, self.copy, self.third = self.stores = [
            stack.enter_context(Store.open(path, identity(number), config=CONFIG, lease=path.with_suffix(".lease")))
            for path, number in ((first, 1), (copied, 1), (third, 2))
        ]
        for store, text in zip(self.stores, ("of the original", "of the copy", "of the third"), strict=True):
            store.memories.add(text)

    async def node(self, store: Store, *dial: Node) -> Node:
        peers = [Peer(bytes.fromhex(node.status()["device"]), endpoints=(node.endpoint,)) for node in dial]
        return await self.stack.enter_async_context(Node(store, CONFIG, peers))

    async def equal(self, count: int, *stores: Store) -> None:
        await until(lambda: all(len(store.memories.find()) == count for store in stores))


@pytest.fixture
async def copied(fast_path: Path) -> AsyncIterator[Copied]:
    async with AsyncExitStack() as stack:
        yield Copied(fast_path, stack)


def links(node: Node, store: Store) -> int:
    """How many runs of the device of `store` have a link to `node`."""
    return sum(peer["connected"] and peer["device"] == store.device.hex() for peer in node.status()["peers"])


async def test_fault_13_two_live_copies_of_a_device_both_reach_a_third(copied: Copied) -> None:
    hub = await copied.node(copied.third)
    await copied.node(copied.original, hub)
    await copied.equal(2, copied.third, copied.original)
    await copied.node(copied.copy, hub)
    await copied.equal(3, *copied.stores)
    assert links(hub, copied.original) == 2


async def test_what_one_copy_writes_is_pushed_to_the_other(copied: Copied) -> None:
    hub = await copied.node(copied.third)
    for store in (copied.original, copied.copy):
        await copied.node(store, hub)
    await copied.equal(3, *copied.stores)
    for store in copied.stores:
        store.memories.add(f"live, {len(store.memories.find())}")
        await copied.equal(len(store.memories.find()), *copied.stores)


async def test_a_copy_that_came_first_does_not_keep_the_original_from_being_dialed(copied: Copied) -> None:
    original = await copied.node(copied.original)
    hub = await copied.node(copied.third)
    await copied.node(copied.copy, hub)
    await copied.equal(2, copied.third, copied.copy)
    hub.add_peer(Peer(copied.original.device, endpoints=(original.endpoint,)))
    await copied.equal(3, *copied.stores)


async def test_copies_that_dial_each_other_have_one_link(copied: Copied) -> None:
    original = await copied.node(copied.original)
    copy = await copied.node(copied.copy, original)
    original.add_peer(Peer(copied.copy.device, endpoints=(copy.endpoint,)))
    await copied.equal(2, copied.original, copied.copy)
    copied.original.memories.add("live")
    await copied.equal(3, copied.original, copied.copy)
    await copied.node(copied.third, original, copy)
    await copied.equal(4, *copied.stores)
    assert (links(original, copied.copy), links(copy, copied.original)) == (1, 1)


async def test_a_device_that_dials_itself_gives_that_up(copied: Copied) -> None:
    node = await copied.node(copied.original)
    node.add_peer(Peer(copied.original.device, endpoints=(node.endpoint,)))
    (own,) = node.status()["peers"]
    await until(lambda: "itself" in node.status()["peers"][0]["last_reason"])
    other = await copied.node(copied.third, node)
    await copied.equal(2, copied.original, copied.third)
    assert links(other, copied.original) == 1
    assert next(peer["attempts"] for peer in node.status()["peers"] if peer["device"] == own["device"]) == 1


async def test_a_receipt_counts_a_copied_device_when_both_copies_hold_it(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = await copied.node(copied.third)
    device = copied.original.device
    await copied.node(copied.original, hub)
    await copied.equal(2, copied.third, copied.original)
    known = copied.third.memories.find()[0].id
    await until(lambda: device in copied.third.receipt("memory", known).on)
    await copied.node(copied.copy, hub)
    await copied.equal(3, *copied.stores)
    written = copied.third.memories.add("for both")
    await copied.equal(4, *copied.stores)
    await until(lambda: device in copied.third.receipt("memory", written).on)

    ingest = StoreReplica.ingest

    def deaf(replica: StoreReplica, *delivery: Any) -> IngestReport:
        return IngestReport() if replica._store is copied.copy else ingest(replica, *delivery)

    monkeypatch.setattr(StoreReplica, "ingest", deaf)
    lost = copied.third.memories.add("for one")
    await copied.equal(5, copied.third, copied.original)
    assert await hub.quiet(5)
    assert copied.third.receipt("memory", lost).on == ()
