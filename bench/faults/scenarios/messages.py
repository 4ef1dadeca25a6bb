"""A bad network."""

from __future__ import annotations

from bench.faults.system import DoesNotApply
from bench.faults.world import World, names


def messages(world: World) -> None:
    """Messages dropped, doubled and reordered; connections cut.

    Three machines write and edit records of their own meanwhile. Then the network is good.
    """
    if not world.system.talks:
        raise DoesNotApply("no messages")
    clients = [world.client(machine) for machine in range(3)]
    for client in clients:
        client.write(f"before-{client.machine}")
    world.settle()
    world.system.roughen(world.rng.getrandbits(32))
    rows = [names(f"machine{client.machine}", world.size(50, 10)) for client in clients]
    for row in zip(*rows, strict=True):
        for client, name in zip(clients, row, strict=True):
            client.write(name)
            if world.rng.random() < 0.3:
                client.edit(name)
