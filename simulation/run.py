"""Running seeds: one, many, or one with fewer and fewer steps until nothing can be left out."""

from __future__ import annotations

import os
import tempfile
import traceback
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from simulation.finding import Finding
from simulation.healing import heal
from simulation.verdict import judge
from simulation.world import World

STEPS: Final = 500
DEVICES: Final = 5


@dataclass(slots=True)
class Result:
    """How one seed ended. `check` is empty when every promise was kept."""

    seed: int
    steps: int
    check: str = ""
    detail: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    trace: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = f"{self.check}: {self.detail}" if self.check else "kept every promise"
        return f"seed {self.seed}: {told}\n  replay: {replay(self.seed, self.steps)}"


def replay(seed: int, steps: int) -> str:
    """The command that runs that seed again."""
    return f"python -m simulation --seed {seed} --steps {steps} --trace"


def run(
    seed: int,
    *,
    steps: int = STEPS,
    devices: int = DEVICES,
    only: Sequence[int] | None = None,
    without: Collection[str] = (),
    mixed: bool = False,
) -> Result:
    """Live through one seed, heal, and judge.

    Args:
        only: the steps to take, of ``range(steps)``; all by default.
        without: faults that do not happen, by the names in :mod:`simulation.faults`.
        mixed: let come together what is known not to be survived together.
    """
    fast = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
    with (
        tempfile.TemporaryDirectory(dir=fast, prefix="aico-sim-") as root,
        World(seed, Path(root), devices=devices, without=without, mixed=mixed) as world,
    ):
        result = Result(seed, steps, counts=world.counts, trace=world.trace)
        try:
            for number in range(steps) if only is None else only:
                world.step(number)
            heal(world)
            judge(world)
        except Finding as finding:
            result.check, result.detail = finding.check, finding.detail
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  # told with its seed; a Rust panic is no Exception
            result.check = "an unexpected error"
            result.detail = "".join(traceback.format_exception(error)[-3:])
        return result


def shrink(
    result: Result, *, devices: int = DEVICES, without: Collection[str] = (), tries: int = 200
) -> list[int]:
    """A small set of steps under which the same check still fails (ddmin; Zeller and Hildebrandt, 2002)."""
    kept = list(range(result.steps))
    size = len(kept) // 2
    while size and tries:
        start = 0
        while start < len(kept) and tries:
            tries -= 1
            fewer = kept[:start] + kept[start + size :]
            again = run(result.seed, steps=result.steps, devices=devices, only=fewer, without=without)
            if again.check == result.check:
                kept = fewer
            else:
                start += size
        size //= 2
    return kept
