"""A device that was never met counts as holding a write once an entry it signed builds on that write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from aico_crdt.feed.exchange import Place
from aico_crdt.store import StoreReplica
from tests.regressions.clones import forked


def test_what_a_signed_entry_depends_on_its_author_holds(family: Any, send: Callable[..., Any]) -> None:
    here, relay, far = family(3)
    memory = here.create("memory", {"c": 1})
    send(here, relay)
    send(relay, far)
    assert far.device not in here.receipt("memory", memory).on  # nobody has said so to us yet

    far.create("memory", {"c": 2})
    send(far, relay)
    send(relay, here)

    assert far.device in here.receipt("memory", memory).on
    assert here.receipt("memory", memory).everywhere


def test_an_entry_that_does_not_build_on_a_write_proves_nothing_of_it(family: Any, send: Callable[..., Any]) -> None:
    here, relay, far = family(3)
    far.create("memory", {"c": 2})  # before it could have heard of ours
    memory = here.create("memory", {"c": 1})
    send(far, relay)
    send(relay, here)
    assert here.receipt("memory", memory).on == ()
    assert not here.receipt("memory", memory).everywhere


def test_its_author_holds_an_entry(family: Any, send: Callable[..., Any]) -> None:
    """It commits before it sends, so what came from it is on its disk, whoever brought it."""
    here, relay, far = family(3)
    memory = far.create("memory", {"c": 1})
    send(far, relay)
    send(relay, here)
    assert set(here.receipt("memory", memory).on) >= {far.device}


def test_who_built_on_the_lost_branch_does_not_hold_the_one_in_force(
    family: Any, send: Callable[..., Any], tmp_path: Path
) -> None:
    """Although both branches, and what was built on the lost one, come in one delivery."""
    loser, winner, [far, here] = forked(family, tmp_path, lambda a: a.edit("memory", "m", {"content": 1}), others=2)
    send(loser, far)
    far.create("memory", {"content": 2})
    tag = here.directory.find("own", "memory").tag
    places = [Place(far.device, far.incarnation, 1), Place(loser.device, loser.incarnation, 2)]
    built, won = (StoreReplica(store).read_entries(tag, places, 1 << 20)[0] for store in (far, winner))
    report = StoreReplica(here).deliver(tag, [*built, *won], winner.device)
    assert not report.rejected
    assert here.receipt("memory", "other").on == (winner.device,)
