"""Power loss: from a log of writes, the disks that could be left of it, at every point.

What a disk holds after a loss of power: everything up to the last completed sync of a file; of every write after it
the whole, nothing, or some of its 512-byte sectors, in any order. A file made longer may be so or not, whatever of the
new part is there; what is not reads as zeros. Nothing smaller than a sector tears: LMDB relies on it for its meta page,
whose content fits one, as every database does that writes a header in place.

After a *failed* sync the kernel may drop what was not written and call its pages clean ("fsyncgate", 2018): a later
sync that succeeds says nothing of them. Here such writes are lost for good, unless written again.
"""

from __future__ import annotations

import json
import random
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Final

from aico_crdt.companion.kinds import KINDS
from aico_crdt.store.verify import verify_directory
from crash import work
from crash.ledger import Ledger, State, observe
from crash.work import CONFIG, DEVICE

SECTOR: Final = 512
RECORD: Final = struct.Struct("=cbhII4xq")
FILES: Final = ("data.mdb", "lives")


@dataclass(frozen=True, slots=True)
class Event:
    """One step of a log. `kind`: W write, S sync, T truncate, C create, R rename, U remove, D make a directory; small
    where it failed; A what was begun or acknowledged, in `path`. `synced`: written through a descriptor that syncs each
    write."""

    kind: str
    synced: bool
    path: str
    at: int
    data: bytes


def read_log(path: Path) -> list[Event]:
    raw, events, place = path.read_bytes(), [], 0
    while place < len(raw):
        kind, synced, _, length, size, at = RECORD.unpack_from(raw, place)
        place += RECORD.size
        name = raw[place : place + length].decode()
        events.append(Event(kind.decode(), bool(synced), name, at, raw[place + length : place + length + size]))
        place += length + size
    return events


@dataclass(slots=True)
class File:
    """One file: `durable` is on the disk for certain; `pending` may or may not reach it, (offset, data) each, a size
    where data is None."""

    durable: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)

    def settle(self, *, only: int | None = None) -> None:
        """A sync completed: of everything, or of the last write alone."""
        if only is None:
            self.durable = self.image([(at, data, None) for at, data in self.pending])
            self.pending.clear()
        else:
            at, data = self.pending.pop(only)
            self.durable = self.image([(at, data, None)])

    def image(self, writes: list[tuple[int, bytes | None, set[int] | None]]) -> bytes:
        """The file with some writes carried out: (offset, data, which of its sectors; None for all)."""
        made = bytearray(self.durable)
        for at, data, sectors in writes:
            if data is None:
                del made[at:]
                made.extend(bytes(at - len(made)))
                continue
            made.extend(bytes(max(0, at + len(data) - len(made))))
            start = 0
            while start < len(data):
                end = min(len(data), (at + start) // SECTOR * SECTOR + SECTOR - at)
                if sectors is None or (at + start) // SECTOR in sectors:
                    made[at + start : at + end] = data[start:end]
                start = end
        return bytes(made)


class Disk:
    """The files of one store as a log goes on."""

    def __init__(self, root: str, before: Path) -> None:
        self._root = root
        self.files = {name: File((before / name).read_bytes()) for name in FILES}
        self.label = (before / "STORE").read_bytes()

    def apply(self, event: Event) -> bool:
        """True when the event changed what a loss of power might leave."""
        name = event.path.removeprefix(self._root + "/")
        file = self.files.get(name)
        if file is None:
            return False
        if event.kind == "W":
            file.pending.append((event.at, event.data))
            if event.synced:
                file.settle(only=len(file.pending) - 1)
        elif event.kind == "w":
            file.pending.append((event.at, event.data))  # it failed, and yet some of it may be there
        elif event.kind == "T":
            file.pending.append((event.at, None))
        elif event.kind == "S":
            file.settle()
        elif event.kind == "s":
            file.pending.clear()  # the worst a failed sync may do: nobody will ever write these again
        else:
            return False
        return True

    def losses(self, choose: random.Random, count: int) -> Iterator[dict[str, bytes]]:
        """What the power may leave, going off now: nothing of what is pending, all, and `count` parts of it."""
        yield {name: file.durable for name, file in self.files.items()}
        if not any(file.pending for file in self.files.values()):
            return
        for number in range(count + 1):
            whole = number == count
            left = {}
            for name, file in self.files.items():
                picked: list[tuple[int, bytes | None, set[int] | None]] = []
                share = 1.0 if whole else choose.choice([0.1, 0.5, 0.9])
                for at, data in file.pending:
                    if data is None:
                        if whole or choose.random() < share:
                            picked.append((at, None, None))
                        continue
                    sectors = set(range(at // SECTOR, (at + len(data) - 1) // SECTOR + 1))
                    if not whole:
                        if choose.random() < 0.5:  # a write as a whole, or not at all
                            sectors = sectors if choose.random() < share else set()
                        else:
                            sectors = {sector for sector in sorted(sectors) if choose.random() < share}
                    if sectors:
                        picked.append((at, data, sectors))
                if not whole:
                    choose.shuffle(picked)
                left[name] = file.image(picked)
            yield left

    def torn(self, event: Event, choose: random.Random, count: int) -> Iterator[dict[str, bytes]]:
        """What the power may leave, going off in the middle of a write that syncs itself: some of its sectors, and,
        where it lies within one, a beginning of it, which is more than a disk may do."""
        name = event.path.removeprefix(self._root + "/")
        file = self.files[name]
        others = {other: it.durable for other, it in self.files.items()}
        sectors = list(range(event.at // SECTOR, (event.at + len(event.data) - 1) // SECTOR + 1))
        for _ in range(count):
            if len(sectors) > 1:
                part = {sector for sector in sectors if choose.random() < 0.5}
                yield {**others, name: file.image([(event.at, event.data, part)])}
            else:
                cut = choose.randrange(len(event.data))
                yield {**others, name: file.image([(event.at, event.data[:cut], None)])}


class Judge:
    """Opens what is left of a store and says what is wrong with it."""

    def __init__(self, scratch: Path, label: bytes) -> None:
        self._scratch = scratch
        self._label = label
        self._known: dict[bytes, State | list[str]] = {}
        self.images = 0

    def faults(self, image: dict[str, bytes], ledger: Ledger) -> list[str]:
        """It verifies, every document folds from its entries, it opens, and holds what the ledger says."""
        name = blake2b(b"".join(image[file] for file in FILES), digest_size=16).digest()
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = self._look(image)
        return found if isinstance(found, list) else ledger.faults(found)

    def _look(self, image: dict[str, bytes]) -> State | list[str]:
        self.images += 1
        place = self._scratch / "left" / "store"
        if place.exists():
            shutil.rmtree(place)
        (place / "wake").mkdir(parents=True)
        (place / "STORE").write_bytes(self._label)
        for file in FILES:
            (place / file).write_bytes(image[file])
        report = verify_directory(place, DEVICE, KINDS, config=CONFIG, refold=True)
        if not report.clean:
            return [f"{problem.kind} {problem.where}: {problem.what}" for problem in report.problems]
        with work.opened(place.parent) as store:
            return observe(store)


def judge_log(events: list[Event], disk: Disk, judge: Judge, choose: random.Random, parts: int) -> list[str]:
    """Lose the power at every point of a log, in `parts` ways beside the plain ones. What is wrong, by point."""
    ledger, found = Ledger(), []
    for number, event in enumerate(events):
        if event.kind == "A":
            name, *line = json.loads(event.path)
            if line[0] == "has":
                ledger.done = line[1]
            ledger.hear(name, [line])  # what failed stays begun: it may be there or not
        images = list(disk.torn(event, choose, parts)) if event.kind == "W" and event.synced else []
        if disk.apply(event):
            images += disk.losses(choose, parts)
        for image in images:
            found += [f"after step {number} ({event.kind}): {fault}" for fault in judge.faults(image, ledger)]
    return found
