"""Machines that are apart for a while, and both sides go on."""

from __future__ import annotations

from bench.faults.world import World, names


def partition(world: World) -> None:
    """A partition: both sides write and edit, then it heals.

    Of the records all had before, some are edited on one side, some on both: both edits were acknowledged, so both
    must be readable at the end, be it as a conflict. One machine is killed in the middle of healing.
    """
    clients = [world.client(machine) for machine in range(3)]
    shared = names("shared", world.size(30, 6))
    for name in shared:
        clients[0].write(name)
    world.settle()
    world.system.partition([0], [1, 2])
    for number, name in enumerate(shared):
        if number % 3 != 1:
            clients[0].edit(name)
        if number % 3 != 2:
            clients[1].edit(name)
    for client in clients:
        for name in names(f"machine{client.machine}", world.size(60, 10)):
            client.write(name)
    world.system.heal()
    clients[2].kill()
    for client in clients:
        client.write(f"healing-{client.machine}")
