"""What the disk may hold after a loss of power, at every point of a log of writes."""

from __future__ import annotations

import itertools
import random
import shutil
from pathlib import Path

import pytest

from crash.power import Disk, Event, File, Judge, judge_log, read_log
from crash.zygote import Zygote
from tests.crash.conftest import SEED, SOAK

_places = itertools.count()
pytestmark = [pytest.mark.processes, pytest.mark.slow]


def logged(zygote: Zygote, template: Path, scratch: Path, piece: str, fail: int = 0) -> tuple[list[Event], Path, int]:
    """The log of a piece, with the step `fail` failing; where it was made; how many steps it had."""
    place = scratch / f"logged-{next(_places)}"
    shutil.copytree(template, place)
    log = place / "log"
    told, code = zygote.run("crash.sweeps:log", {"piece": piece, "place": str(place), "log": str(log), "fail": fail})
    assert code == 0
    return read_log(log), place, told[-1][1]


@pytest.mark.parametrize("piece", ["writing", "upkeep"])
def test_fault_05_power_loss_at_any_point(shimmed: Zygote, filled: Path, scratch: Path, piece: str) -> None:
    """Every write acknowledged by then is there, others are whole or absent, the store opens and verifies."""
    events, place, _ = logged(shimmed, filled, scratch, piece)
    disk = Disk(str(place / "store"), place / "before")
    judge = Judge(place, disk.label)
    assert judge_log(events, disk, judge, random.Random(SEED), 3 * SOAK) == []
    assert judge.images > (200 if piece == "writing" else 50)
    assert {event.path.rpartition("/")[2] for event in events if event.kind == "S"} == {"data.mdb", "lives"}
    assert any(event.synced for event in events), "LMDB writes its meta page through a descriptor that syncs"


@pytest.mark.parametrize("piece", ["writing", "upkeep"])
def test_fault_05_and_07_power_loss_after_a_sync_that_failed(
    shimmed: Zygote, filled: Path, scratch: Path, piece: str
) -> None:
    """What a failed sync left unwritten is never written, though later syncs succeed; what a failed write of a meta
    page left may be there, though LMDB took it back."""
    choose = random.Random(SEED)
    events, place, _ = logged(shimmed, filled, scratch, piece)
    steps = [event for event in events if event.kind != "A"]
    failing = [at for at, event in enumerate(steps, 1) if event.kind == "S" or event.synced]
    for fail in choose.sample(failing, 6) if SOAK == 1 else failing:
        events, place, count = logged(shimmed, filled, scratch, piece, fail)
        assert count > 10
        disk = Disk(str(place / "store"), place / "before")
        assert judge_log(events, disk, Judge(place, disk.label), choose, 1) == [], f"step {fail} failed"


def test_losses_are_what_a_disk_may_do() -> None:
    """The model of the disk, by hand: what was synced stays, the rest comes and goes by sectors."""
    file = File(b"a" * 1024)
    file.pending = [(512, b"b" * 1024), (2048, b"c" * 512)]
    assert file.image([(512, b"b" * 1024, {2})]) == b"a" * 1024 + b"b" * 512
    assert file.image([(2048, b"c" * 512, None)]) == b"a" * 1024 + bytes(1024) + b"c" * 512
    assert file.image([(100, b"x", None), (50, None, None)]) == b"a" * 50
    file.settle(only=1)
    assert file.durable == b"a" * 1024 + bytes(1024) + b"c" * 512
    file.settle()
    assert file.durable == b"a" * 512 + b"b" * 1024 + bytes(512) + b"c" * 512
