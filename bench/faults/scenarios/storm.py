"""Everything together."""

from __future__ import annotations

import random
import time
from functools import partial

from bench.faults.scenarios.clock import TEN_YEARS_MS
from bench.faults.world import Client, World

PATIENCE_S = 120.0
MACHINES = 3


def storm(world: World) -> None:
    """Processes, partitions, bad networks, kills and wrong clocks together, at random.

    Each of three machines writes records, and edits and forgets its own, now and then by a clock that is ten years
    wrong; meanwhile links are cut, rough and good by turns, and processes are killed.
    """
    each = world.size(120, 24)
    count = 2 if world.system.several else 1
    clients = [[world.client(machine) for _ in range(count)] for machine in range(MACHINES)]
    world.settle()

    def work(mine: list[Client], rng: random.Random) -> None:
        own: list[str] = []
        for number in range(each):
            client, chance = rng.choice(mine), rng.random()
            if chance < 0.03:
                for one in mine:
                    world.restart(one, skew_ms=rng.choice((TEN_YEARS_MS, 0, -TEN_YEARS_MS)))
            if chance < 0.5 or not own:
                own.append(f"machine{client.machine}-{number:04}")
                client.write(own[-1])
            elif chance < 0.85:
                client.edit(rng.choice(own))
            else:
                client.forget(own.pop(rng.randrange(len(own))))

    def trouble() -> None:
        for number in range(world.size(24, 8)):
            if not world.ledger.wait_for(number * each * MACHINES // world.size(24, 8), PATIENCE_S):
                return
            what, alone = world.rng.randrange(4), world.rng.randrange(MACHINES)
            pause_s = world.rng.random() * 0.01
            victim = world.rng.choice(clients[alone])
            seed = world.rng.getrandbits(32)
            if what == 0:
                world.system.partition([alone], [other for other in range(MACHINES) if other != alone])
            elif what == 1:
                world.system.roughen(seed)
            elif what == 2:
                world.system.heal()
            else:
                time.sleep(pause_s)
                victim.kill()

    works = [partial(work, mine, random.Random(world.rng.getrandbits(32))) for mine in clients]
    world.at_once([*works, trouble])
