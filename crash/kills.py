"""kill -9 at random instants while several processes of one device write; after each the store is judged.

One process of several is killed while the others stand still, or all at once. What they told before is what must be
there. A new one takes the place of each, on the same store, until the round is over and the store is made anew.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aico_crdt.companion.kinds import KINDS
from aico_crdt.store.backup import restore
from aico_crdt.store.verify import verify
from crash import work
from crash.ledger import Ledger, observe
from crash.work import CONFIG, DEVICE, DONE
from crash.zygote import Worker, Zygote

WRITERS: Final = 3
LONGEST_S: Final = 0.05
"""A random part of this passes before each kill: some tens of commits of all processes together."""
TURN_OF_ALL: Final = 4
"""Every so many kills all processes die at one instant."""


@dataclass(slots=True)
class Tally:
    """What a number of rounds came to."""

    kills: int = 0
    acknowledged: int = 0
    in_the_middle: int = 0
    checks: int = 0
    restored: int = 0
    faults: list[str] = field(default_factory=list)


class Round:
    """One store, written by several processes that are killed one after another."""

    def __init__(self, zygote: Zygote, template: Path, place: Path, seed: int, tally: Tally) -> None:
        self._zygote = zygote
        self._choose = random.Random(seed)
        self._place = place
        self._tally = tally
        self._ledger = Ledger()
        self._workers: dict[str, Worker] = {}
        self._started = 0
        shutil.copytree(template, place)
        with work.opened(place) as store:  # as what lies elsewhere it takes a new incarnation, once
            known = {head[:2] for heads in store.heads().values() for head in heads}
            self._writers = known | {(store.device, store.incarnation)}

    def run(self, kills: int) -> None:
        """Until so many processes were killed. What is wrong is added to the tally."""
        self._start("keeper")
        for _ in range(WRITERS):
            self._start("writer")
        until = self._tally.kills + kills
        turn = 0
        while self._tally.kills < until and not self._tally.faults:
            turn += 1
            ends = time.monotonic() + self._choose.random() * LONGEST_S
            while (left := ends - time.monotonic()) > 0:
                time.sleep(min(left, 0.005))
                self._hear()
            if turn % TURN_OF_ALL:
                self._kill(self._choose.choice(sorted(self._workers)))
                self._judge(alone=False)
            else:
                for name in sorted(self._workers):
                    self._workers[name].signal(signal.SIGKILL)
                for name in sorted(self._workers):
                    self._kill(name)
                self._judge(alone=True)
            self._refill()
        for name in sorted(self._workers):
            self._kill(name, counted=False)
        self._judge(alone=True)
        self._tally.acknowledged += self._ledger.acknowledged
        shutil.rmtree(self._place)

    def _start(self, role: str) -> None:
        self._started += 1
        name = f"{role}{self._started}"
        sent = [key for key in self._ledger.done if key.startswith("sent-")]
        order = {
            "place": str(self._place), "role": role, "name": name,
            "seed": self._choose.getrandbits(32), "start": len(sent),
        }  # fmt: skip
        self._workers[name] = self._zygote.fork("crash.work:write_for_ever", order)

    def _refill(self) -> None:
        if not any(name.startswith("keeper") for name in self._workers):
            self._start("keeper")
        while len(self._workers) < WRITERS + 1:
            self._start("writer")

    def _hear(self) -> None:
        for name, worker in self._workers.items():
            while worker.hear():
                pass
            self._take(name, worker)

    def _take(self, name: str, worker: Worker) -> None:
        self._ledger.hear(name, worker.lines)
        worker.lines.clear()

    def _kill(self, name: str, *, counted: bool = True) -> None:
        worker = self._workers.pop(name)
        code = worker.end()
        self._take(name, worker)
        if code != -signal.SIGKILL:
            self._tally.faults.append(f"{name} ended by itself, with code {code}")
        if counted:
            self._tally.kills += 1
            self._tally.in_the_middle += name in self._ledger.begun

    def _judge(self, *, alone: bool) -> None:
        """The store opens, verifies, and holds what was acknowledged, while others stand still."""
        for worker in self._workers.values():
            worker.signal(signal.SIGSTOP)
        self._hear()
        tally = self._tally
        # While others are stopped in the middle of a write, nobody can write; looking waits for nobody.
        with work.opened(self._place, writable=alone) as store:
            tally.checks += 1
            report = verify(store, refold=alone)
            tally.faults += [f"{p.kind} {p.where}: {p.what}" for p in report.problems]
            observed = observe(store)
            tally.faults += self._ledger.faults(observed)
            writers = {head[:2] for heads in store.heads().values() for head in heads}
            if not {writer for writer in writers if writer[0] == store.device} <= self._writers:
                tally.faults.append("a kill cost an incarnation")
        for name in [name for name in self._ledger.begun if name not in self._workers]:
            self._ledger.settle(name, observed)
        if alone:
            self._judge_backups()
        for worker in self._workers.values():
            worker.signal(signal.SIGCONT)
        self._hear()

    def _judge_backups(self) -> None:
        """What looks like a backup is one: it restores and verifies. What was cut off does not look like one."""
        for made in sorted((self._place / DONE).glob("backup-*")):
            if (made / "BACKUP").exists():
                target = self._place / "restored"
                restore(made, target, DEVICE, KINDS, config=CONFIG)
                shutil.rmtree(target)
                self._tally.restored += 1
            shutil.rmtree(made)
