"""All faults end: how long until everybody who belongs agrees, and holds everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aico_crdt.store import StoreReplica
from simulation.device import Device
from simulation.finding import Finding
from simulation.network import CALM

if TYPE_CHECKING:
    from simulation.world import World

ROUNDS: Final = 150
PAUSE_MS: Final = 10_000


def live(world: World) -> list[Device]:
    """Who belongs to the family in the eyes of its founder, whom nobody revokes. A revocation that went with the disk
    of its author is none, and so is an admission."""
    return [device for device in world.devices if world.devices[0].knows(device)]


def heal(world: World) -> None:
    """No more faults, everybody up and linked; run until all are equal.

    Raises:
        Finding: that does not come.
    """
    calm(world)
    before: object = None
    still = 0
    for _ in range(ROUNDS):
        world.advance(PAUSE_MS)
        now = [state(device) for device in live(world)]
        quiet = all(device.shell is not None and device.shell.is_quiet for device in live(world))
        still = still + 1 if now == before and quiet else 0
        before = now
        if still >= 3 and agree(world):
            return
    raise Finding("the replicas do not become equal", differences(world))


def calm(world: World) -> None:
    """No more faults, everybody up."""
    world.network.weather = CALM
    world.network.blocked.clear()
    for device in world.devices:
        device.fuse, device.answer_fuse, device.frugal = None, False, False
        device.formats = (1, 2) if device.later else (1,)
        if device.shell is not None:
            device.shell.replica.frugal, device.shell.formats = False, tuple(device.formats)
        if not device.up:
            world.start(device)
    world.close_all()


def state(device: Device) -> object:
    replica = StoreReplica(device.store)
    tags = list(device.store.directory.collections)
    return [(replica.digest(tag), tuple(replica.stubs(tag, 1))) for tag in tags]


def agree(world: World) -> bool:
    return not differences(world)


def differences(world: World) -> str:
    """Which two differ in what, empty when nobody does."""
    found = []
    devices = live(world)
    for place, one in enumerate(devices):
        for other in devices[place + 1 :]:
            a, b = StoreReplica(one.store), StoreReplica(other.store)
            for tag, collection in one.store.directory.collections.items():
                shared = tag in a.collections(other.identity.device) and tag in b.collections(one.identity.device)
                if shared and a.digest(tag) != b.digest(tag):
                    found.append(f"{one} and {other} in {collection.space}/{collection.kind}")
        for tag, collection in one.store.directory.collections.items():
            if StoreReplica(one.store).stubs(tag, 1):
                found.append(f"{one} has stubs in {collection.space}/{collection.kind}")
    return "; ".join(found[:5])
