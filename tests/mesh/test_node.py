"""Nodes: stores that talk over real links."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aico_crdt.companion import KINDS, Store
from aico_crdt.config import Config
from aico_crdt.errors import DiskFull
from aico_crdt.mesh import Instance, Node, Peer
from aico_crdt.mesh import node as node_module
from aico_crdt.store import StoreReplica, membership
from aico_crdt.sync import Arriving, Session, Tick
from aico_crdt.sync.replica import IngestReport
from tests.mesh.support import identity, until

CONFIG = Config(
    map_size_bytes=256 << 20, port=0, redial_min_ms=20, redial_max_ms=200, handshake_timeout_ms=2000, linger_ms=200
)

Start = Callable[..., Any]


class Family:
    """Stores of one family, and the nodes on them."""

    def __init__(self, root: Path, stack: AsyncExitStack) -> None:
        self.root = root
        self.stack = stack
        self.stores: list[Store] = []

    def store(self, number: int, *, trust: str = "full") -> Store:
        """The store of device `number`; number 1 founds the family."""
        path, who = self.root / f"store{number}", identity(number)
        if number == 1:
            membership.found(path, who, KINDS, name="device 1", config=CONFIG)
        else:
            admission = membership.admit(self.stores[0], who.device, name=f"device {number}", trust=trust)
            membership.join(path, who, KINDS, admission, config=CONFIG)
        return self.open(number)

    def open(self, number: int) -> Store:
        store = Store.open(self.root / f"store{number}", identity(number), config=CONFIG)
        self.stores.append(store)
        self.stack.callback(store.close)
        return store

    async def node(self, store: Store, *dial: Node, config: Config = CONFIG) -> Node:
        peers = [Peer(bytes.fromhex(node.status()["device"]), endpoints=(node.endpoint,)) for node in dial]
        node = Node(store, config, peers)
        await node.start()
        self.stack.push_async_callback(node.stop)
        return node


@pytest.fixture
async def family(tmp_path: Path) -> AsyncIterator[Family]:
    async with AsyncExitStack() as stack:
        yield Family(tmp_path, stack)


def memories(store: Store) -> dict[str, str]:
    return {row.id: row.fields["content"] for row in store.rows("memory")}


def equal(stores: Sequence[Store]) -> bool:
    """Whether all hold the same entries and show the same memories."""
    heads = [{tag: h for tag, h in store.heads().items() if h} for store in stores]
    shared = [{c.tag for c in store.directory.collections.values() if c.space != "local"} for store in stores]
    common = set.intersection(*shared)
    first = {tag: h for tag, h in heads[0].items() if tag in common}
    return all({tag: h for tag, h in each.items() if tag in common} == first for each in heads) and all(
        memories(store) == memories(stores[0]) for store in stores
    )


def connected(node: Node, device: bytes) -> bool:
    return any(peer["device"] == device.hex() and peer["connected"] for peer in node.status()["peers"])


async def test_what_was_written_before_and_after_meeting_is_everywhere(family: Family) -> None:
    a, b, c = family.store(1), family.store(2), family.store(3)
    for number in range(30):
        a.memories.add(f"of a, {number}")
        b.memories.add(f"of b, {number}")
    hub = await family.node(a)
    others = [await family.node(store, hub) for store in (b, c)]
    await until(lambda: equal([a, b, c]))
    assert len(memories(c)) == 60
    # Live, and through the hub: b and c have no link to each other.
    memory_id = b.memories.add("live")
    await until(lambda: memories(c).get(memory_id) == "live")
    assert all([await node.quiet(5) for node in (hub, *others)])
    await until(lambda: c.device in a.receipt("memory", memory_id).on)
    await until(lambda: a.device in b.receipt("memory", memory_id).on)
    of_a = a.memories.add("of the hub")
    await until(lambda: a.receipt("memory", of_a).everywhere)


async def test_a_session_hears_of_parts_of_messages(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = []
    handle = Session.handle
    monkeypatch.setattr(Session, "handle", lambda self, event, now: heard.append(event) or handle(self, event, now))
    a, b = family.store(1), family.store(2)
    node = await family.node(a)
    await family.node(b, node)
    await until(lambda: connected(node, b.device))
    (run,) = (bytes.fromhex(peer["run"]) for peer in node.status()["peers"])
    node.on_part(Instance(b.device, run))
    await until(lambda: Arriving() in heard)
    await until(lambda: Tick() in heard[heard.index(Arriving()) :])
    assert heard.count(Arriving()) == 1


async def test_a_partition_heals(family: Family) -> None:
    a, b = family.store(1), family.store(2)
    hub = await family.node(a)
    node = await family.node(b, hub)
    await until(lambda: equal([a, b]) and connected(hub, b.device))
    await node.stop()
    await until(lambda: not connected(hub, b.device))
    for number in range(20):
        a.memories.add(f"on a, {number}")
        b.memories.add(f"on b, {number}")
    assert not equal([a, b])
    await family.node(b, hub)
    await until(lambda: equal([a, b]))
    assert len(memories(a)) == 40


async def test_messages_of_many_chunks_cross(family: Family) -> None:
    a, b = family.store(1), family.store(2)
    small = replace(CONFIG, chunk_bytes=4096)
    hub = await family.node(a, config=small)
    await family.node(b, hub, config=small)
    texts = {random.Random(number).randbytes(100_000).hex() for number in range(10)}
    for text in texts:
        a.memories.add(text)
    await until(lambda: set(memories(b).values()) == texts)


async def test_a_commit_of_this_process_is_pushed_at_once(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_module, "TICK_S", 60)
    monkeypatch.setattr(node_module, "RING_S", 60)
    a, b = family.store(1), family.store(2)
    hub = await family.node(a)
    await family.node(b, hub)
    await until(lambda: equal([a, b]) and connected(hub, b.device))
    await hub.quiet(5)
    for text in ("from the loop", "from a thread"):
        memory_id = a.memories.add(text) if "loop" in text else await asyncio.to_thread(a.memories.add, text)
        await until(lambda memory_id=memory_id: memory_id in memories(b))


async def test_another_process_of_the_device_writes(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commit is not told to this node's store, only rung for on the bell."""
    monkeypatch.setattr(node_module, "TICK_S", 60)
    a, b = family.store(1), family.store(2)
    hub = await family.node(a)
    await family.node(b, hub)
    await until(lambda: connected(hub, b.device))
    script = (
        "import sys; from pathlib import Path; from aico_crdt.companion import Store; "
        "from aico_crdt.config import Config; from aico_crdt.trust import Identity; "
        "store = Store.open(Path(sys.argv[1]), Identity.from_seed(bytes([1]) * 32), "
        "config=Config(map_size_bytes=256 << 20)); store.memories.add('from outside'); store.close()"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(family.root / "store1"))
    assert await process.wait() == 0
    await until(lambda: "from outside" in memories(b).values())


async def test_fault_42_a_revoked_device_is_cut_at_once_and_gets_nothing_more(family: Family) -> None:
    a, b, c = family.store(1), family.store(2), family.store(3)
    hub = await family.node(a)
    lost = await family.node(b, hub)
    await family.node(c, hub)
    await until(lambda: equal([a, b, c]) and connected(hub, b.device) and connected(hub, c.device))
    began = asyncio.get_running_loop().time()
    await asyncio.to_thread(membership.revoke, a, b.device)
    await until(lambda: not connected(hub, b.device))
    assert asyncio.get_running_loop().time() - began < 1  # 5 s are allowed
    memory_id = a.memories.add("not for b")
    await until(lambda: memory_id in memories(c))
    attempts = lost.status()["peers"][0]["attempts"]
    await until(lambda: lost.status()["peers"][0]["attempts"] > attempts + 1)
    assert not connected(hub, b.device)
    assert memory_id not in memories(b)
    # The other member has learned of it by gossip and would not let it in either.
    await until(lambda: not c.directory.family.may_connect(b.device))


async def test_a_newcomer_admitted_while_running_gets_in(family: Family) -> None:
    a = family.store(1)
    hub = await family.node(a)
    a.memories.add("before")
    b = await asyncio.to_thread(family.store, 2)
    await family.node(b, hub)
    await until(lambda: equal([a, b]) and len(memories(b)) == 1)


async def test_a_device_of_another_family_is_refused(family: Family, tmp_path: Path) -> None:
    a = family.store(1)
    hub = await family.node(a)
    membership.found(tmp_path / "other", identity(9), KINDS, name="theirs", config=CONFIG)
    theirs = Store.open(tmp_path / "other", identity(9), config=CONFIG)
    family.stack.callback(theirs.close)
    node = await family.node(theirs, hub)
    await asyncio.sleep(0.1)
    # To it, the hub is a stranger as well: it does not even dial.
    assert node.status()["peers"][0]["attempts"] == 0
    assert hub.status()["peers"] == []


async def test_what_could_not_be_stored_is_not_acknowledged_and_comes_again(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = family.store(1), family.store(2)
    whole = StoreReplica.ingest
    full = threading.Event()
    full.set()
    refused = []

    def ingest(self: StoreReplica, tag: bytes, runs: Any, source: bytes) -> IngestReport:
        if full.is_set() and self.device == b.device:
            refused.append(tag)
            raise DiskFull("No room.")
        return whole(self, tag, runs, source)

    monkeypatch.setattr(StoreReplica, "ingest", ingest)
    memory_id = a.memories.add("to be kept")
    hub = await family.node(a)
    await family.node(b, hub)
    await until(lambda: len(refused) >= 2)  # dropped, dialed again, refused again
    assert not a.receipt("memory", memory_id).on
    full.clear()
    await until(lambda: memories(b).get(memory_id) == "to be kept")
    await until(lambda: a.receipt("memory", memory_id).on == (b.device,))


async def test_the_loop_stays_free_while_the_store_works(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow disk must not hold up the app that embeds a node, nor the heartbeats."""
    a, b = family.store(1), family.store(2)
    whole = StoreReplica.ingest
    entered, leave = threading.Event(), threading.Event()

    def slow(self: StoreReplica, tag: bytes, runs: Any, source: bytes) -> IngestReport:
        if self.device == b.device:
            entered.set()
            assert leave.wait(5)
        return whole(self, tag, runs, source)

    monkeypatch.setattr(StoreReplica, "ingest", slow)
    a.memories.add("slow")
    hub = await family.node(a)
    await family.node(b, hub)
    await until(entered.is_set)
    began = asyncio.get_running_loop().time()
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert asyncio.get_running_loop().time() - began < 1
    assert connected(hub, b.device)
    leave.set()
    await until(lambda: equal([a, b]) and len(memories(b)) == 1)


async def test_status_holds_no_content_and_says_who_is_there(family: Family) -> None:
    a, b = family.store(1), family.store(2)
    a.memories.add("a secret of mine")
    hub = await family.node(a)
    await family.node(b, hub)
    await until(lambda: equal([a, b]))
    status = hub.status()
    assert status["endpoint"].startswith("tcp://127.0.0.1:")
    (peer,) = status["peers"]
    assert (peer["device"], peer["name"], peer["connected"], peer["session"]) == (
        b.device.hex(),
        "device 2",
        True,
        "open",
    )
    assert peer["bytes_out"] > 500
    assert 0 <= peer["last_seen_s_ago"] < 5
    assert "secret" not in repr(status)


async def test_a_stopped_node_leaves_the_store_usable(family: Family) -> None:
    a = family.store(1)
    node = await family.node(a)
    await node.stop()
    await node.stop()
    memory_id = a.memories.add("afterwards")
    assert memories(a) == {memory_id: "afterwards"}
    async with Node(a, CONFIG) as again:
        assert again.endpoint
