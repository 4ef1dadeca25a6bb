"""A machine that exists twice."""

from __future__ import annotations

from bench.faults.world import Client, World, names


def clone(world: World) -> None:
    """A machine's directory is copied to a second machine; both go on and sync.

    What a restored backup does, or a disk moved to a new machine while the old one is still used. Original, copy and
    a third machine write records, and each edits records nobody else edits.
    """
    _clone(world)


def clone_by_turns(world: World) -> None:
    """The same, but original and copy are never switched on together until the end.

    Each meets the third machine while the other one is off.
    """
    original, copy = _clone(world, apart=True)
    for away in (copy, original, copy, original):
        world.settle(away)


def _clone(world: World, *, apart: bool = False) -> tuple[Client, Client]:
    original, other = world.client(0), world.client(1)
    shared = names("shared", world.size(30, 6))
    for name in shared:
        original.write(name)
    world.settle()
    copy = world.clone(original)
    world.system.partition([original.machine], [other.machine], [copy.machine])
    for number, client in enumerate((original, other, copy)):
        for name in names(f"machine{client.machine}", world.size(40, 8)):
            client.write(name)
        for name in shared[number::3]:
            client.edit(name)
    for client, away in ((original, copy), (other, None), (copy, original)):
        world.settle(away if apart else None)
        for name in names(f"after{client.machine}", world.size(10, 3)):
            client.write(name)
    return original, copy
