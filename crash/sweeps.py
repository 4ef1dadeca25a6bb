"""Fail at, or die at, the k-th step of a piece of work, for all k. Steps are counted by the shim: every write, sync,
truncation, and every name that is made, moved or removed, of the store and of what is written beside it.

The functions run in processes of a :class:`crash.zygote.Zygote` that has the shim loaded, on a copy of a place.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from aico_crdt.companion.kinds import KINDS
from aico_crdt.errors import AicoError, MachineError
from aico_crdt.store import DocumentStore, lives
from aico_crdt.store.repair import repair
from aico_crdt.store.vacuum import vacuum
from aico_crdt.store.verify import verify
from crash import work
from crash.ledger import DID, WILL, Ledger, mark, observe
from crash.shim import Shim
from crash.work import CONFIG, DEVICE, DONE, Keeper, Step, text_of
from crash.zygote import Zygote, tell

Named = tuple[str, Step]


def fill(place: Path) -> None:
    """What the pieces work on: documents that are edited and forgotten, entries that can be pruned."""
    with work.opened(place) as store:
        for n in range(8):
            store.create("memory", {"content": text_of(f"old-{n}", 500)}, id=f"old-{n}")
        store.create("memory", {"content": text_of("long", 9_000)}, id="long")
        store.forget("memory", "old-7")
        Keeper(store, place, "k", 1, 0).prune()[1]()
        for n in range(4):
            store.edit("memory", f"old-{n}", {"content": text_of(f"edited-{n}", 100)})


def writing(store: DocumentStore, place: Path) -> Iterator[Named]:
    """Messages, edits, transactions, forgets, entries of a peer; more life keys than a chunk holds."""
    keeper = Keeper(store, place, "k", 1, 0)

    def say(name: str, size: int) -> Step:
        text = text_of(name, size)
        fields = {"role": "user", "text": text, "timestamp": 1}
        return {name: mark(text)}, lambda: store.create("conversation", fields, id=name)

    def several() -> None:
        with store.transaction() as transaction:
            for n in range(6):
                transaction.create("memory", {"content": f"together {n}"}, id=f"together-{n}")
            transaction.edit("memory", "old-4", {"content": "with others"})

    together = {f"together-{n}": f"together {n}" for n in range(6)}
    yield "message", say("message", 100)
    yield "long message", say("long message", 30_000)
    yield "edit", ({"old-0": "new"}, lambda: store.edit("memory", "old-0", {"content": "new"}))
    yield "several", ({**together, "old-4": "with others"}, several)
    yield "forget", ({"old-1": None}, lambda: store.forget("memory", "old-1"))
    yield "forget now", ({"old-2": None}, lambda: store.forget("memory", "old-2", now=True))
    yield "ingest", keeper.take()
    yield "open again", ({}, lambda: work.opened(place).close())


def upkeep(store: DocumentStore, place: Path) -> Iterator[Named]:
    """Erasing, pruning, trimming the change log, with batches so small that there are several of each."""
    keeper = Keeper(store, place, "k", 1, 0)
    store.forget("memory", "old-3")
    yield "erase", ({}, lambda: store.erase_due(store.now_ms() + 200_000_000))
    yield "prune", keeper.prune()


def copies(store: DocumentStore, place: Path) -> Iterator[Named]:
    """What is written beside the store: a backup, a bundle."""
    keeper = Keeper(store, place, "k", 1, 0)
    yield "backup", keeper.back_up()
    yield "bundle", keeper.bundle()


PIECES: Final[dict[str, Callable[[DocumentStore, Path], Iterator[Named]]]] = {
    "writing": writing,
    "upkeep": upkeep,
    "copies": copies,
}


def _set_up() -> None:
    lives.CHUNK_SLOTS = 4  # type: ignore[misc]  # so that chunks are made in the middle of the work


def fail(order: dict[str, Any]) -> None:
    """Do a piece while its steps fail. Tells: how many steps there were, what was told of each failure, what is wrong.

    Everything goes on in one process, with the store open, as it would in a companion that keeps running.
    """
    _set_up()
    place, shim, faults = Path(order["place"]), Shim(), []
    errors: list[list[str]] = []
    shim.watch(place)
    with work.opened(place) as store:
        ledger = Ledger(observe(store))
        steps = PIECES[order["piece"]](store, place)
        named = next(steps)  # what the piece prepares must not fail
        ledger.done = observe(store)
        shim.fail(order["step"], error=order["error"], forever=order["forever"])
        while True:
            name, (effects, call) = named
            try:
                call()
            except MachineError as error:
                errors.append([name, error.code, str(error)])
                ledger.begun[name] = effects
                observed = observe(store)  # reading goes on, even now
                faults += [f"after a failed {name}: {fault}" for fault in ledger.faults(observed)]
                ledger.settle(name, observed)
            else:
                ledger.done.update(effects)
            try:
                named = next(steps)
            except StopIteration:
                break
        count = shim.off()
        if order["error"] == errno.ENOSPC or not order["forever"]:  # else nothing could be removed either
            faults += _left_behind(place)
        store.create("memory", {"content": "after"}, id="after")
        ledger.done["after"] = "after"
        faults += _sound(store, ledger)
    with work.opened(place) as store:
        faults += _sound(store, ledger)
    tell(count, errors, faults[:5])


def _left_behind(place: Path) -> list[str]:
    """Of a copy that failed nothing is there."""
    return [f"{path.name} was left half made" for path in (place / DONE).iterdir() if path.name.startswith(".")] + [
        f"{path.name} is no backup and was left"
        for path in (place / DONE).glob("backup-*")
        if not (path / "BACKUP").exists()
    ]


def _sound(store: DocumentStore, ledger: Ledger) -> list[str]:
    return ledger.faults(observe(store)) + [
        f"{p.kind} {p.where}: {p.what}" for p in verify(store, refold=True).problems
    ]


def command(order: dict[str, Any]) -> None:
    """Run a command in a home of its own while its steps fail, and again when they do not. Tells: steps, the first
    run's exit code and error, what is wrong."""
    from click.testing import CliRunner

    from aico_crdt.cli.main import cli

    place, shim, faults = Path(order["place"]), Shim(), []
    home = place / "home"
    shim.watch(place)
    variables = {"AICO_CRDT_HOME": str(home), "AICO_CRDT_MAP_SIZE_BYTES": str(CONFIG.map_size_bytes)}

    def run(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli, [word.replace("PLACE", str(place)) for word in words], env=variables)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stderr

    for words in order["before"]:
        assert run(*words)[0] == 0, words
    there = sorted(str(path) for path in place.rglob("*"))
    shim.fail(order["step"], error=order["error"], forever=order["forever"])
    code, error = run(*order["words"])
    count = shim.off()
    if code and order["leaves_nothing"]:
        left = {str(path) for path in place.rglob("*")} - set(there)
        faults += [f"{path} was left" for path in sorted(left) if Path(path).is_file() and "lease" not in path]
    if code:
        again, second = run(*order["words"])
        if again:
            faults.append(f"it does not work afterwards either: {second}")
    for words in order["after"]:
        then, third = run(*words)
        if then:
            faults.append(f"{words[0]} afterwards: {third}")
    tell(count, code, error[-300:], faults[:5])


def shrink(place: Path) -> None:
    vacuum(place / work.STORE, config=CONFIG)


def mend(place: Path) -> None:
    repair(place / work.STORE, DEVICE, KINDS, config=CONFIG)


def die_alone(order: dict[str, Any]) -> None:
    """As :func:`die`, of what needs the store to itself: `shrink` or `mend`."""
    place, shim = Path(order["place"]), Shim()
    shim.watch(place)
    shim.kill(order["step"], order["moment"])
    {"shrink": shrink, "mend": mend}[order["piece"]](place)
    tell("steps", shim.off())


def die(order: dict[str, Any]) -> None:
    """Do a piece and die at one of its steps. Tells what it will do and did, as any worker."""
    _set_up()
    place, shim = Path(order["place"]), Shim()
    shim.watch(place)
    with work.opened(place) as store:
        steps = PIECES[order["piece"]](store, place)
        named: Named | None = next(steps)
        tell("has", observe(store))
        shim.kill(order["step"], order["moment"])
        while named is not None:
            _, (effects, call) = named
            tell(WILL, effects)
            call()
            tell(DID)
            named = next(steps, None)
    tell("steps", shim.off())


def log(order: dict[str, Any]) -> None:
    """Do a piece and log every step; with `fail`, one sync fails. What is acknowledged is written into the log."""
    _set_up()
    place, shim = Path(order["place"]), Shim()
    shim.watch(place)

    def say(*what: Any) -> None:
        shim.note(json.dumps(what))

    with work.opened(place) as store:
        steps = PIECES[order["piece"]](store, place)
        named: Named | None = next(steps)
        has = observe(store)
        shutil.copytree(place / "store", place / "before", ignore=shutil.ignore_patterns("wake", "lock.mdb"))
        shim.log(os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        say("", "has", has)
        if order.get("fail"):
            shim.fail(order["fail"])
        while named is not None:
            name, (effects, call) = named
            say(name, WILL, effects)
            with suppress(AicoError):
                call()
                say(name, DID)
            named = next(steps, None)
        shim.log(-1)
    tell("steps", shim.off())


def sweep(
    zygote: Zygote, function: str, template: Path, scratch: Path, order: dict[str, Any], steps: Sequence[int]
) -> Iterator[tuple[int, Path, list[list[Any]], int]]:
    """(step, place, what was told, exit code) for every step of `steps`, each on a fresh copy of `template`."""
    for step in steps:
        place = scratch / f"{order['piece']}-{step}"
        shutil.copytree(template, place)
        told, code = zygote.run(f"crash.sweeps:{function}", {**order, "place": str(place), "step": step})
        yield step, place, told, code
        shutil.rmtree(place)
