"""Fail, or die, at every step of a piece of work."""

from __future__ import annotations

import errno
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from aico_crdt.store import layout, prune
from aico_crdt.store.records import DocumentRecord
from aico_crdt.store.verify import verify
from crash import sweeps, work
from crash.ledger import Ledger, observe
from crash.shim import AFTER, BEFORE, HALF
from crash.zygote import Zygote
from tests.crash.conftest import SOAK

pytestmark = [pytest.mark.processes, pytest.mark.slow]
FAULTS = {"EIO once": (errno.EIO, False), "EIO from then on": (errno.EIO, True), "ENOSPC": (errno.ENOSPC, True)}
MANY = 10_000


def failing(
    zygote: Zygote, template: Path, scratch: Path, function: str, order: dict[str, Any], fault: str
) -> list[list[Any]]:
    """What a piece told, for every step that may fail, until it has fewer."""
    error, forever = FAULTS[fault]
    place = scratch / f"failing-{order['piece']}-{fault.replace(' ', '-')}"
    place.mkdir()
    order = {**order, "error": error, "forever": forever}
    results = []
    for step, _, told, code in sweeps.sweep(zygote, function, template, place, order, range(1, MANY)):
        assert code == 0, f"step {step} of {order['piece']}: not a typed error, or reading failed"
        assert told[-1][-1] == [], f"step {step} of {order['piece']}"
        results.append(told[-1])
        if told[-1][0] < step:
            return results
    raise AssertionError("it never ended")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("piece", sweeps.PIECES)
def test_fault_07_every_step_that_fails_is_told_and_nothing_is_lost(
    shimmed: Zygote, filled: Path, scratch: Path, piece: str, fault: str
) -> None:
    """Typed error, no acknowledgement; reading goes on while the disk fails, writing as soon as it does not."""
    results = failing(shimmed, filled, scratch, "fail", {"piece": piece}, fault)
    assert len(results) > 20
    *failed, whole = results
    assert whole[1] == []
    # A lost ring or a clean-up that failed is nobody's error; everything else is told.
    assert sum(not errors for _, errors, _ in failed) <= len(failed) // 4
    assert {code for _, errors, _ in failed for _, code, _ in errors} <= {"disk-failure", "disk-full"}


COMMANDS: dict[str, dict[str, Any]] = {
    "init": {"before": [], "words": ["init", "--name", "a"], "after": [["status"]], "leaves_nothing": True},
    "export": {
        "before": [["init", "--name", "a"]],
        "words": ["export", "PLACE/out.jsonl"],
        "after": [],
        "leaves_nothing": True,
    },
    "bundle": {
        "before": [["init", "--name", "a"]],
        "words": ["bundle", "PLACE/out.bundle"],
        "after": [["verify"]],
        "leaves_nothing": True,
    },
}


@pytest.mark.parametrize("fault", ["EIO once", "ENOSPC"])
@pytest.mark.parametrize("name", COMMANDS)
def test_fault_07_a_command_whose_files_fail_leaves_none(shimmed: Zygote, scratch: Path, name: str, fault: str) -> None:
    """Key, lease, store, export, bundle: told, nothing left half made, and the same command works afterwards."""
    empty = scratch / "empty"
    empty.mkdir(exist_ok=True)
    results = failing(shimmed, empty, scratch, "command", {"piece": name, **COMMANDS[name]}, fault)
    assert len(results) > 3
    assert results[-1][1] == 0
    for _, code, error, _ in results[:-1]:
        assert code in (0, 1)
        assert code == 0 or "Error: " in error


def dying(zygote: Zygote, template: Path, scratch: Path, piece: str, moment: int) -> int:
    """Die at every step of a piece; after each the store is whole, writes on, and does the piece to its end."""
    place = scratch / f"dying-{piece}-{moment}"
    place.mkdir()
    order = {"piece": piece, "moment": moment}
    for step, left, told, code in sweeps.sweep(zygote, "die", template, place, order, range(1, MANY)):
        ledger = Ledger(told[0][1])
        ledger.hear("it", told[1:])
        with work.opened(left) as store:
            observed = observe(store)
            assert ledger.faults(observed) == [], f"step {step}"
            assert verify(store, refold=True).problems == [], f"step {step}"
            for row in store.query("conversation", "message", limit=100):  # rows and indexes are of one commit
                assert observed[row.id] is not None
            assert len(store.query("conversation", "message", limit=100)) == sum(
                row.fields.get("role") is not None for row in store.rows("conversation")
            )
            store.create("memory", {"content": "after"}, id="after")
            store.erase_due(store.now_ms() + 200_000_000)
            prune.compact(store)
            assert verify(store, refold=True).problems == []
        if code == 0:
            return step
        assert code == -signal.SIGKILL
    raise AssertionError("it never ended")


@pytest.mark.parametrize("moment", [BEFORE, HALF])
def test_fault_03_kill_at_every_step_of_erasing_and_pruning(
    shimmed: Zygote, filled: Path, scratch: Path, moment: int
) -> None:
    assert dying(shimmed, filled, scratch, "upkeep", moment) > 20


@pytest.mark.parametrize("moment", [HALF] if SOAK == 1 else [BEFORE, HALF, AFTER])
def test_fault_02_kill_at_every_step_of_a_write(shimmed: Zygote, filled: Path, scratch: Path, moment: int) -> None:
    """Rows and the indexes under which they are found move in the commit that writes the entry: no kill can come
    between them, and what is found by index is what is there."""
    assert dying(shimmed, filled, scratch, "writing", moment) > 80


def broken(place: Path) -> None:
    """Damage a row of the store at `place` that can be folded anew."""
    data = place / work.STORE / "data.mdb"
    with work.opened(place) as store, store.reading() as (_, records):
        found = store.locate(records, "memory", "old-0")
        assert found is not None
        record = records.get(layout.document(b"D", found[0].number, found[1]))
        assert record is not None
        ((_, value),) = records.scan_raw(layout.life(b"R", DocumentRecord.unpack(record).slot))
    raw = bytearray(data.read_bytes())
    at = raw.find(value)
    while at >= 0:  # stale pages may hold it as well
        raw[at + len(value) - 1] ^= 1
        at = raw.find(value, at + 1)
    data.write_bytes(raw)


@pytest.mark.parametrize("piece", ["shrink", "mend"])
@pytest.mark.parametrize("moment", [BEFORE, HALF])
def test_fault_03_kill_at_every_step_of_vacuum_and_repair(
    shimmed: Zygote, filled: Path, scratch: Path, piece: str, moment: int
) -> None:
    """The old file or the new one; and what was cut short can be done once more."""
    place = scratch / f"alone-{piece}-{moment}"
    shutil.copytree(filled, place / "template")
    with work.opened(place / "template") as store:
        before = observe(store)
    if piece == "mend":
        broken(place / "template")
    order = {"piece": piece, "moment": moment}
    for step, left, _, code in sweeps.sweep(shimmed, "die_alone", place / "template", place, order, range(1, MANY)):
        {"shrink": sweeps.shrink, "mend": sweeps.mend}[piece](left)
        with work.opened(left) as store:
            assert observe(store) == before, f"step {step}"
            assert verify(store, refold=True).problems == [], f"step {step}"
        names = {path.name for path in (left / work.STORE).iterdir()}
        assert names <= {"STORE", "data.mdb", "lives", "lock.mdb", "wake", "data.damaged"}, f"step {step}"
        if code == 0:
            assert step > 10
            return
    raise AssertionError("it never ended")
