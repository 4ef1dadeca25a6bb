"""Scenarios in the simulated world: what is broken, and what holds when it is mended."""

from __future__ import annotations

import pytest

from tests.sync.memory_replica import MemoryReplica, tag
from tests.sync.simulation import CONFIG, Faults, World

STORM = Faults(drop=0.1, double=0.1, cut=0.01, crash=0.03, delay_ms=400, reorder=True)


@pytest.mark.parametrize("seed", range(12))
def test_fault_14_drop_duplicate_reorder_delay_cut_and_crash_end_equal_and_complete(seed: int) -> None:
    world = World(seed, 3 + seed % 3, faults=STORM)
    world.scribble(40)
    world.heal()
    shown = [[replica.documents(name) for name in world.tags] for replica in world.replicas]
    assert all(one == shown[0] for one in shown)
    assert sum(len(documents) for documents in shown[0]) == len(world.written) == 40


def test_a_world_without_faults_is_equal_at_once_by_pushes_alone() -> None:
    world = World(1, 4)
    world.run(5_000)
    world.scribble(50)
    world.run(500)
    assert world.is_equal()
    assert world.drops == []


def test_a_chain_relays_without_waiting_for_digests() -> None:
    world = World(2, 4, links=[(0, 1), (1, 2), (2, 3)])
    world.run(12_000)
    world.write(0, world.tags[0])
    world.run(400)
    assert world.is_equal()


@pytest.mark.parametrize("deaf", [(0, 1), (1, 0)])
def test_fault_16_a_link_that_works_one_way_is_quiet_and_heals(deaf: tuple[int, int]) -> None:
    world = World(3, 2, faults=Faults(deaf=frozenset({deaf})))
    world.scribble(10)
    world.run(600_000)
    assert world.messages < 2_500, "a few messages for each second at most"
    before = world.messages
    world.run(600_000)
    assert world.messages - before < 2_500
    world.heal()


def test_fault_16_a_link_that_turns_one_way_later_is_noticed() -> None:
    world = World(4, 2)
    world.run(3_000)
    world.faults = Faults(deaf=frozenset({(0, 1)}))
    world.scribble(10)
    world.run(200_000)
    assert set(world.drops) & {"stalled", "silent", "handshake"}
    world.heal()


def test_fault_15_what_a_long_partition_gathered_is_made_up_for() -> None:
    world = World(5, 3, links=[(0, 1)])
    for _ in range(200):
        for number in range(3):
            world.replicas[number].write(world.tags[0], world.random.randbytes(300))
    for replica in world.replicas:
        world.written += [(world.tags[0], entry) for entry in replica.content[world.tags[0]].arrived]
    world.connect(1, 2)
    world.heal()


def test_fault_17_a_relay_that_replays_and_withholds_changes_nothing() -> None:
    world = World(6, 3, links=[(0, 1), (1, 2)], faults=Faults(drop=0.3, double=0.5, delay_ms=3_000, reorder=True))
    world.scribble(30)
    world.heal()


def test_a_device_that_crashes_in_every_delivery_still_comes_up() -> None:
    world = World(7, 2, faults=Faults(crash=0.5))
    world.scribble(30)
    world.heal()


@pytest.mark.parametrize("seed", range(4))
def test_manifests_and_bodies_survive_the_storm(seed: int) -> None:
    tags = [tag(0), tag(1)]
    old = MemoryReplica(1, tags)
    for _ in range(120):
        old.write(tags[0], old.random.randbytes(300))
    old.prune(tags[0])
    world = World(seed, 3, replicas=[old, MemoryReplica(2, tags), MemoryReplica(3, tags)], faults=STORM)
    world.scribble(20)
    world.heal()
    world.run(60_000)
    shown = [replica.documents(tags[0]) for replica in world.replicas]
    assert all(one == shown[0] for one in shown)
    assert None not in shown[0].values()
    assert len(shown[0]) + len(old.documents(tags[1])) == 140


def test_a_long_quiet_time_costs_only_digests() -> None:
    world = World(8, 3)
    world.scribble(10)
    world.heal()
    before = world.messages
    world.run(100 * CONFIG.digest_interval_ms)
    rounds = 6 * 100
    assert world.messages - before < 1.2 * rounds
