"""Clocks that are wrong by years."""

from __future__ import annotations

from bench.faults.system import DoesNotApply
from bench.faults.world import World, names

TEN_YEARS_MS = 10 * 365 * 86_400_000


def clock(world: World) -> None:
    """A clock ten years ahead, then right again, then ten years behind.

    After each change both machines edit the same records one after the other, each having read what the other wrote:
    the later edit must be what both read, whatever the clocks said.
    """
    if not world.system.talks:
        raise DoesNotApply("files carry the kernel's time, which is right")
    right, wrong = world.client(0), world.client(1)
    shared = names("shared", world.size(20, 5))
    for name in shared:
        right.write(name)
    world.settle()
    for era, skew_ms in enumerate((TEN_YEARS_MS, 0, -TEN_YEARS_MS)):
        world.restart(wrong, skew_ms=skew_ms)
        for turn, client in enumerate((wrong, right, wrong)):
            for name in shared:
                client.edit(name)
            for name in names(f"era{era}-{turn}", world.size(10, 3)):
                client.write(name)
            world.settle()
