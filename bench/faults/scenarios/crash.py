"""Programs that are killed while they write, and started again."""

from __future__ import annotations

import time
from functools import partial

from bench.faults.system import DoesNotApply
from bench.faults.world import Client, World, names

PATIENCE_S = 60.0


def crash(world: World) -> None:
    """kill -9 of the only process while it writes.

    It writes, edits and forgets; at moments drawn beforehand (so many operations done, then up to 5 ms) it is killed,
    and started again with its next operation.
    """
    _crash(world, 1)


def crash_of_one(world: World) -> None:
    """kill -9 of one of several processes while all write.

    As before; which of them is killed is drawn too.
    """
    if not world.system.several:
        raise DoesNotApply("one process at a time")
    _crash(world, world.size(4, 3))


def _crash(world: World, count: int) -> None:
    kills, between = world.size(20, 4), world.size(15, 6)
    clients = [world.client(0) for _ in range(count)]
    moments = [(world.rng.randrange(count), world.rng.random() * 0.005) for _ in range(kills)]
    each = (kills + 1) * between // count

    def work(client: Client, prefix: str) -> None:
        done = 0
        for number, name in enumerate(names(prefix, each)):
            for step in (client.write, client.edit, client.forget):
                if done < each and (step == client.write or number % 3 == (1 if step == client.edit else 2)):
                    step(name)
                    done += 1

    def kill() -> None:
        for number, (victim, pause) in enumerate(moments):
            if not world.ledger.wait_for((number + 1) * between, PATIENCE_S):
                return
            time.sleep(pause)
            clients[victim].kill()

    works = [partial(work, client, f"process{number}") for number, client in enumerate(clients)]
    world.at_once([*works, kill])
