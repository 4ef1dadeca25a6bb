"""A machine that exists twice."""

from __future__ import annotations

from bench.faults.world import World, names


def clone(world: World) -> None:
    """A machine's directory is copied to a second machine; both go on and sync.

    What a restored backup does, or a disk moved to a new machine while the old one is still used. Original, copy and
    a third machine write records, and each edits records nobody else edits.
    """
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
    world.settle()
    for client in (original, other, copy):
        for name in names(f"after{client.machine}", world.size(10, 3)):
            client.write(name)
