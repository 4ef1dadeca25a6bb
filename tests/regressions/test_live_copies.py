"""A device whose directory was copied, and both copies run: a third device must hear both, whoever came first."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from aico_crdt.companion import KINDS, Store
from aico_crdt.mesh import Node, Peer
from aico_crdt.store import membership
from tests.mesh.support import identity, until
from tests.mesh.test_node import CONFIG

PATIENCE_S = 3.0


@pytest.mark.xfail(strict=True, raises=TimeoutError, reason="a device has one link, and a copy is the same device")
async def test_two_live_copies_of_a_device_both_reach_a_third(fast_path: Path) -> None:
    first, copied, third = (fast_path / name for name in ("first", "copy", "third"))
    membership.found(first, identity(1), KINDS, name="device 1", config=CONFIG)
    with Store.open(first, identity(1), config=CONFIG) as store:
        admission = membership.admit(store, identity(2).device, name="device 2")
    membership.join(third, identity(2), KINDS, admission, config=CONFIG)
    shutil.copytree(first, copied)
    with ExitStack() as stack:
        original, other, copy = (
            stack.enter_context(Store.open(path, identity(number), config=CONFIG, lease=path.with_suffix(".lease")))
            for path, number in ((first, 1), (third, 2), (copied, 1))
        )
        original.memories.add("of the original")
        copy.memories.add("of the copy")
        async with Node(other, CONFIG) as hub:
            there = [Peer(other.device, endpoints=(hub.endpoint,))]
            async with Node(original, CONFIG, there):
                await until(lambda: len(other.memories.find()) == 1)
                async with Node(copy, CONFIG, there):
                    stores = (original, other, copy)
                    await until(lambda: all(len(store.memories.find()) == 2 for store in stores), PATIENCE_S)
