"""What happens on one machine every day: several programs remember at the same time."""

from __future__ import annotations

from functools import partial

from bench.faults.world import Client, World, names


def processes(world: World) -> None:
    """Several processes of one machine write at once.

    Each writes records of its own, edits every fifth of them and forgets every seventh.
    """
    count = world.size(60, 12)
    clients = [world.client(0) for _ in range(world.size(4, 3))]

    def work(client: Client, prefix: str) -> None:
        for number, name in enumerate(names(prefix, count)):
            client.write(name)
            if number % 5 == 4:
                client.edit(name)
            if number % 7 == 6:
                client.forget(name)

    world.at_once(partial(work, client, f"process{number}") for number, client in enumerate(clients))
