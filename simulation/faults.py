"""What befalls devices and links, one at a time. Each returns what happened, for the trace."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from aico_crdt.feed.exchange import Place as FeedPlace
from aico_crdt.store import StoreReplica, backup, membership
from aico_crdt.store.prune import compact
from simulation.device import CONFIG, Device
from simulation.hostile import attack
from simulation.kinds import KINDS
from simulation.network import STORMS

if TYPE_CHECKING:
    from simulation.world import World

YEAR_MS: Final = 365 * 86_400_000


def act(world: World, chance: random.Random) -> str:
    """Do one thing."""
    (action,) = chance.choices(_ACTIONS, _WEIGHTS)
    if action.__name__ in world.without:
        return f"no {action.__name__}: left out"
    if not world.mixed and action in (_APART if world.disks_go_back else _DISKS):
        return f"no {action.__name__}: not in this family"
    return action(world, chance)


def _one(world: World, chance: random.Random) -> Device | None:
    """A device that is up."""
    up = [device for device in world.devices if device.up]
    return chance.choice(up) if up else None


def _down(world: World, device: Device) -> None:
    """Take a device down at once, to do something to its disk."""
    if device.up:
        world.kill(device)


# What happens most


def write(world: World, chance: random.Random) -> str:
    device = _one(world, chance)
    if device is None:
        return "nobody is up"
    done: list[str] = []
    world.on(device, lambda: done.append(world.workload.run(device, chance)))
    return f"{device} {done[0] if done else 'dies writing'}"


def wait(world: World, chance: random.Random) -> str:
    ms = chance.choice((1_000, 3_000, 20_000, 40_000))
    world.advance(ms)
    return f"{ms} ms pass"


# The network


def storm(world: World, chance: random.Random) -> str:
    world.network.weather = chance.choice(STORMS)
    return f"{world.network.weather}"


def partition(world: World, chance: random.Random) -> str:
    numbers = [device.number for device in world.devices]
    chance.shuffle(numbers)
    cut = chance.randrange(1, len(numbers))
    one, other = numbers[:cut], numbers[cut:]
    world.network.blocked = {pair for a in one for b in other for pair in ((a, b), (b, a))}
    return f"{sorted(one)} and {sorted(other)} are parted"


def one_way(world: World, chance: random.Random) -> str:
    one, other = chance.sample(range(len(world.devices)), 2)
    world.network.blocked.add((one, other))
    return f"nothing goes from {one} to {other}"


def calm(world: World, chance: random.Random) -> str:
    world.network.blocked.clear()
    return "no more partitions"


# Processes


def crash(world: World, chance: random.Random) -> str:
    device = _one(world, chance)
    if device is None:
        return "nobody is up"
    if chance.random() < 0.4:
        world.counts["crash between steps"] += 1
        world.kill(device)
        return f"{device} dies"
    if chance.random() < 0.3:
        device.answer_fuse = True
        return f"{device} will die before its next answer"
    device.fuse = chance.randrange(1, 25)
    return f"{device} will die soon"


def second_process(world: World, chance: random.Random) -> str:
    device = _one(world, chance)
    if device is None or len(device.stores) > 2:
        return "no further process"
    world.on(device, device.another_process)
    world.counts["second process"] += 1
    return f"{device} runs {len(device.stores)} processes"


def release(world: World, chance: random.Random) -> str:
    """Another release of the program is installed: it may speak a later format only."""
    device = chance.choice(world.devices)
    device.formats = chance.choice(((1,), (1, 2), (2,), (2,)))
    device.later = max(device.formats) > 1
    _down(world, device)
    return f"{device} now speaks {device.formats}"


# Disks


def snapshot(world: World, chance: random.Random) -> str:
    device = _one(world, chance)
    if device is None:
        return "nobody is up"
    device.take_snapshot(world.scratch("snapshot"))
    return f"the disk of {device} is as safe as now"


def set_back(world: World, chance: random.Random) -> str:
    found = [device for device in world.devices if device.snapshot is not None and not device.revoked]
    if not found:
        return "no snapshot to go back to"
    device = chance.choice(found)
    _down(world, device)
    device.go_back()
    world.counts["set back to a snapshot"] += 1
    return f"{device} loses what its disk had not kept"


def take_backup(world: World, chance: random.Random) -> str:
    device = _one(world, chance)
    if device is None:
        return "nobody is up"
    place = world.scratch("backup")
    world.on(device, partial(backup.backup, device.store, place))
    if (place / backup.BACKUP_FILE).exists():
        device.backup = (place, device.held.copy())
    return f"{device} is backed up"


def restore(world: World, chance: random.Random) -> str:
    found = [device for device in world.devices if device.backup is not None and not device.revoked]
    if not found:
        return "no backup to restore"
    device = chance.choice(found)
    _down(world, device)
    assert device.backup is not None
    place, held = device.backup
    device.path.rename(world.scratch("old"))
    backup.restore(place, device.path, device.identity, KINDS, config=CONFIG, allow_network_fs=True)
    device.went_back(held)
    world.counts["restored from a backup"] += 1
    return f"{device} is restored from its backup"


def prune(world: World, chance: random.Random) -> str:
    device = _one(world, chance)
    if device is None:
        return "nobody is up"
    done: list[int] = []
    world.on(device, lambda: done.append(compact(device.store, keep_changes=50).entries))
    world.counts["pruned"] += bool(done and done[0])
    return f"{device} prunes {done[0] if done else 'and dies'}"


# Clocks


def clock_ahead(world: World, chance: random.Random) -> str:
    device = chance.choice(world.devices)
    ms = chance.choice((10_000, 240_000, 3_600_000, 86_400_000))
    device.offset_ms += ms
    world.counts["clock ahead"] += 1
    return f"the clock of {device} goes {ms} ms ahead"


def ten_years(world: World, chance: random.Random) -> str:
    device = chance.choice(world.devices)
    if device.offset_ms > YEAR_MS:
        device.offset_ms = 0
        world.counts["clock jumped back"] += 1
        return f"the clock of {device} is mended"
    device.offset_ms += 10 * YEAR_MS
    world.counts["clock ten years ahead"] += 1
    return f"the clock of {device} goes ten years ahead"


def clock_back(world: World, chance: random.Random) -> str:
    device = chance.choice(world.devices)
    ms = chance.choice((5_000, 600_000, 86_400_000, 3 * YEAR_MS))
    device.offset_ms -= ms
    world.counts["clock jumped back"] += 1
    return f"the clock of {device} jumps back by {ms} ms"


def silence(world: World, chance: random.Random) -> str:
    ms = chance.choice((3_600_000, 26 * 3_600_000, 31 * 86_400_000, 95 * 86_400_000))
    world.advance(ms)
    world.counts["long silence"] += 1
    return f"{ms // 3_600_000} hours pass"


# The family


def admit(world: World, chance: random.Random) -> str:
    if len(world.devices) > 5:
        return "the family is large enough"
    admitter = _one(world, chance)
    if admitter is None or admitter.trust != "full" or admitter.fuse is not None or admitter.revoked:
        return "nobody admits"
    if admitter.store.directory.family.trust_of(admitter.identity.device) != "full":
        return "nobody admits"
    device = world.admit(admitter, chance.choice(("full", "full", "limited")), started=True)
    for other in world.devices[:-1]:
        world.connect(device, other)
    world.admitters.add(admitter)
    world.counts["device admitted"] += 1
    return f"{admitter} admits {device}"


def revoke(world: World, chance: random.Random) -> str:
    """Once in the life of a family, and never one of the last two full devices, nor one that has admitted."""
    if any(device.revoked for device in world.devices):
        return "one revocation is enough"
    full = [device for device in world.devices if device.trust == "full"]
    victims = [d for d in world.devices[1:] if (len(full) > 2 or d.trust != "full") and d not in world.admitters]
    if not victims:
        return "nobody can be spared"
    victim = chance.choice(victims)
    revokers = [d for d in full if d.up and d is not victim and d.fuse is None and d.knows(victim) and d.knows(d)]
    if not revokers:
        return "nobody revokes"
    revoker = chance.choice(revokers)
    membership.revoke(revoker.store, victim.identity.device)
    victim.revoked = True
    revoker.note_own({})
    assert revoker.shell is not None
    revoker.shell.announce()
    world.counts["device revoked"] += 1
    return f"{revoker} revokes {victim}"


def smuggle(world: World, chance: random.Random) -> str:
    """Entries of a revoked device come by another way than a link, as on a stick."""
    found = [device for device in world.devices if device.revoked and device.up]
    takers = [device for device in world.devices if not device.revoked and device.up]
    if not found or not takers:
        return "nothing to smuggle"
    device, taker = found[0], chance.choice(takers)
    source = StoreReplica(device.store)
    handed = 0

    def take(tag: bytes, raws: list[bytes]) -> None:
        StoreReplica(taker.store).ingest(tag, [[raw] for raw in raws], device.identity.device)
        taker.took(raws)

    for tag in source.collections(device.identity.device):
        if not StoreReplica(taker.store).may_have(taker.identity.device, tag) or not taker.up:
            continue
        wants = [FeedPlace(h.device, h.incarnation, h.floor) for h in source.heads(tag)]
        mine = [want for want in wants if want.device == device.identity.device]
        runs, _ = source.read_entries(tag, mine, 1 << 20)
        raws = [raw for run in runs for raw in run][-8:]
        if raws:
            handed += len(raws)
            world.on(taker, partial(take, tag, raws))
        if not taker.up:
            break
    beyond = handed and not taker.knows(device) if taker.up else False
    world.counts["entries smuggled past a revocation"] += bool(beyond)
    return f"{handed} entries of {device} come to {taker} on a stick"


def hostile(world: World, chance: random.Random) -> str:
    """A member that writes what it likes."""
    taker = _one(world, chance)
    if taker is None:
        return "nobody is up"
    done: list[str] = []
    world.on(taker, lambda: done.append(attack(world, taker, chance)))
    return done[0] if done else f"{taker} dies of an attack"


_TABLE: Final[tuple[tuple[Callable[[World, random.Random], str], float], ...]] = (
    (write, 56),
    (wait, 14),
    (storm, 3),
    (partition, 2.5),
    (one_way, 1.5),
    (calm, 3),
    (crash, 3),
    (second_process, 1),
    (release, 0.8),
    (snapshot, 1),
    (set_back, 0.7),
    (take_backup, 0.5),
    (restore, 0.5),
    (prune, 3),
    (clock_ahead, 0.8),
    (ten_years, 0.5),
    (clock_back, 0.8),
    (silence, 0.7),
    (admit, 0.6),
    (revoke, 0.6),
    (smuggle, 1.5),
    (hostile, 0.8),
)
_DISKS: Final = (set_back, restore)
_APART: Final = (ten_years, silence, revoke, smuggle)
"""What does not come together with disks that go back, unless the world is `mixed`: see "known to be open" in
docs/simulation.md."""
_ACTIONS: Final = [action for action, _ in _TABLE]
_WEIGHTS: Final = [weight for _, weight in _TABLE]

