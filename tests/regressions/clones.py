"""Two stores that write as one device, and the one whose branch loses the fork."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aico_crdt.feed.exchange import Place
from aico_crdt.store import StoreReplica
from tests.store.conftest import exchange


def forked(
    family: Any,
    root: Path,
    write: Callable[[Any], None],
    *,
    others: int = 1,
    before: Callable[[Any], None] | None = None,
) -> tuple[Any, Any, list[Any]]:
    """(loser, winner, others): `write` is what the loser did as one entry, and the winner bore "other".

    Nothing passed between them since they parted. Which of two hashes is smaller is chance, so this tries again.
    """
    for attempt in range(64):
        a, *rest = family(1 + others)
        a.create("memory", {"content": "one"}, id="m")
        if before is not None:
            before(a)
        exchange(a, *rest)
        a.close()
        copy = root / f"copy{attempt}"
        shutil.copytree(a.path, copy)
        loser, winner = family.open(a.path, 0, lease=False), family.open(copy, 0, lease=False)
        tag = loser.directory.find("own", "memory").tag
        parted = StoreReplica(loser).heads(tag)[0].seq
        write(loser)
        winner.create("memory", {"content": "of the winner"}, id="other")
        place = Place(loser.device, loser.incarnation, parted + 1)
        lost, won = (StoreReplica(store).hash_at(tag, place) for store in (loser, winner))
        if lost is not None and won is not None and lost > won:
            return loser, winner, rest
        for store in (loser, winner, *rest):
            store.close()
    raise AssertionError("64 coins fell alike")


def settle(*stores: Any) -> None:
    """Until everybody has everything, new incarnations' entries included."""
    for _ in range(4):
        exchange(*stores)


def slots_of(store: Any, document: str = "m") -> list[tuple[str, Any]]:
    """(name, value) of every live slot."""
    with store.writing() as workspace:
        opened = workspace.open(store.directory.find("own", "memory"), document)
        return [(slot.name, slot.value) for slot in workspace.load(opened).slots()]
