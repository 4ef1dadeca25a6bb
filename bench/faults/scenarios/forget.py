"""What was to be forgotten, and comes back with a machine that did not hear of it."""

from __future__ import annotations

from bench.faults.world import World, names


def forget(world: World) -> None:
    """Forgotten on one machine while another is away.

    The other one comes back with its old copy; it was not touched there.
    """
    _forget(world, edits=False)


def forget_and_edit(world: World) -> None:
    """Forgotten on one machine while another, which is away, edits it.

    A person who asked to forget does not want it back because a program elsewhere touched it. Systems in which the
    edit wins are made so on purpose: this row tells which they are.
    """
    _forget(world, edits=True)


def _forget(world: World, *, edits: bool) -> None:
    here, away = world.client(0), world.client(1)
    count = world.size(40, 8)
    for name in names("secret", count):
        here.write(name)
    world.settle()
    world.system.partition([0], [1])
    for name in names("secret", count):
        here.forget(name)
    for name in names("secret", count) if edits else ():
        away.edit(name)
    for client in (here, away):
        for name in names(f"kept{client.machine}", count // 2):
            client.write(name)
