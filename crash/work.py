"""What the processes of one device do while they are killed or their disk fails.

A place is a directory with the device's store, its lease, the store of a peer, and what that peer wrote, as the runs
in which it would send it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from aico_crdt.companion.kinds import KINDS
from aico_crdt.config import Config
from aico_crdt.store import DocumentStore, StoreReplica, membership, prune
from aico_crdt.store.backup import backup
from aico_crdt.store.bundle import write_bundle
from aico_crdt.trust import Identity
from crash.ledger import DID, SHARED, WILL, State, mark
from crash.zygote import tell

CONFIG: Final = Config(map_size_bytes=64 << 20, reserve_bytes=1 << 20)
STORE, PEER, LEASE, SENT, DONE = "store", "peer", "store.lease", "sent.json", "done.json"
SENT_RUNS: Final = 400
DEVICE, OTHER = (Identity.from_seed(bytes([n]) * 32) for n in (1, 2))


def text_of(name: str, size: int = 0) -> str:
    """A value that tells by itself whether it is whole and whose it is."""
    return name + ":" + "".join(random.Random(name).choices("abcdefgh ", k=size or 20))


def make(place: Path, sent: int = SENT_RUNS) -> None:
    """A place with two devices of one family. The store holds the document `shared` without fields."""
    first, second = place / STORE, place / PEER
    membership.found(first, DEVICE, KINDS, name="device", config=CONFIG)
    with opened(place) as store:
        raw = membership.admit(store, OTHER.device, name="peer")
        store.create("memory", {"content": text_of(SHARED)}, id=SHARED)
    membership.join(second, OTHER, KINDS, raw, config=CONFIG)
    told = []
    with DocumentStore.open(second, OTHER, KINDS, config=CONFIG) as peer:
        replica = StoreReplica(peer)
        tag = peer.directory.find("own", "memory").tag  # type: ignore[union-attr]
        for number in range(sent):
            name = f"sent-{number}"
            peer.create("memory", {"content": text_of(name)}, id=name)
        runs, cursor = replica.read_entries(tag, [(peer.device, peer.incarnation, 1)], 1 << 30)
        assert cursor is None
        for number, raw in enumerate(entry for run in runs for entry in run):
            told.append([tag.hex(), raw.hex(), {f"sent-{number}": mark(text_of(f"sent-{number}"))}])
    (place / SENT).write_text(json.dumps(told))
    (place / DONE).mkdir()


def opened(place: Path, *, writable: bool = True) -> DocumentStore:
    return DocumentStore.open(place / STORE, DEVICE, KINDS, config=CONFIG, lease=place / LEASE, writable=writable)


Step = tuple[State, Callable[[], Any]]
"""What it will make of which documents, and the call."""


class Writer:
    """One process's own documents, and the verbs it uses on them in an order that `seed` decides."""

    def __init__(self, store: DocumentStore, name: str, seed: int) -> None:
        self._store = store
        self._name = name
        self._choose = random.Random(seed)
        self._count = 0
        self._mine: list[tuple[str, str]] = []

    def steps(self) -> Iterator[Step]:
        """For ever; each to be carried out before the next is asked for."""
        verbs = [self.message, self.message, self.edit, self.several, self.forget, self.share]
        while True:
            yield self._choose.choice(verbs)()

    def _new(self) -> str:
        self._count += 1
        return f"{self._name}-{self._count}"

    def message(self) -> Step:
        name = self._new()
        text = text_of(name, self._choose.choice([20, 200, 2_000, 9_000]))
        self._mine.append(("conversation", name))
        fields = {"role": "user", "text": text, "conversation_id": "c", "timestamp": self._count}
        return {name: mark(text)}, lambda: self._store.create("conversation", fields, id=name)

    def edit(self) -> Step:
        if not self._mine:
            return self.message()
        kind, name = self._choose.choice(self._mine)
        text = text_of(f"{name} again {self._new()}")
        return {name: mark(text)}, lambda: self._store.edit(
            kind, name, {"text" if kind == "conversation" else "content": text}
        )

    def several(self) -> Step:
        """Five documents of two kinds, and the shared one, in one transaction."""
        texts = {name: text_of(name, 300) for name in (self._new() for _ in range(5))}
        field = self._name.replace("-", "_")
        total = self._count

        def call() -> None:
            with self._store.transaction() as transaction:
                for place, (name, text) in enumerate(texts.items()):
                    if place % 2:
                        transaction.create("memory", {"content": text}, id=name)
                    else:
                        transaction.create("conversation", {"role": "user", "text": text, "timestamp": 1}, id=name)
                transaction.edit("memory", SHARED, {field: total})

        self._mine += [("memory" if place % 2 else "conversation", name) for place, name in enumerate(texts)]
        return {**{name: mark(text) for name, text in texts.items()}, f"{SHARED}.{field}": total}, call

    def share(self) -> Step:
        field = self._name.replace("-", "_")
        self._count += 1
        total = self._count
        return {f"{SHARED}.{field}": total}, lambda: self._store.edit("memory", SHARED, {field: total})

    def forget(self) -> Step:
        if len(self._mine) < 3:
            return self.message()
        kind, name = self._mine.pop(self._choose.randrange(len(self._mine)))
        now = self._choose.random() < 0.5
        return {name: None}, lambda: self._store.forget(kind, name, now=now)


class Keeper:
    """Takes what the peer sent, says that the peer has all, prunes, and makes backups and bundles."""

    def __init__(self, store: DocumentStore, place: Path, name: str, seed: int, start: int) -> None:
        self._store = store
        self._replica = StoreReplica(store)
        self._place = place
        self._name = name
        self._choose = random.Random(seed)
        self._sent = json.loads((place / SENT).read_text())[start:]
        self._count = 0

    def steps(self) -> Iterator[Step]:
        verbs = [self.take, self.take, self.prune, self.back_up, self.bundle]
        while True:
            yield self._choose.choice(verbs)()

    def take(self) -> Step:
        """One to three entries of the peer's, in one delivery. The keeper writes nothing else, so they apply."""
        if not self._sent:
            return self.prune()
        count = self._choose.randint(1, 3)
        few, self._sent = self._sent[:count], self._sent[count:]
        tag = bytes.fromhex(few[0][0])
        effects = {key: value for _, _, made in few for key, value in made.items()}

        def call() -> None:
            report = self._replica.ingest(tag, [[bytes.fromhex(raw) for _, raw, _ in few]], OTHER.device)
            assert report.applied + report.duplicates == len(few), report

        return effects, call

    def prune(self) -> Step:
        def call() -> None:
            for tag in self._replica.collections(OTHER.device):
                heads = [head.held for head in self._replica.heads(tag)]
                self._replica.acknowledged(OTHER.device, tag, heads, self._replica.erased(tag))
            prune.compact(self._store, keep_changes=50)

        return {}, call

    def back_up(self) -> Step:
        self._count += 1
        target = self._place / DONE / f"backup-{self._name}-{self._count}"

        def call() -> None:
            for older in target.parent.glob(f"backup-{self._name}-*"):
                shutil.rmtree(older, ignore_errors=True)
            backup(self._store, target)

        return {}, call

    def bundle(self) -> Step:
        self._count += 1
        target = self._place / DONE / f"bundle-{self._name}-{self._count}"

        def call() -> None:
            write_bundle(self._store, target)
            with suppress(OSError):
                target.unlink()

        return {}, call


def write_for_ever(order: dict[str, Any]) -> None:
    """A process that writes until it is killed, and tells what it will do and what it did."""
    place = Path(order["place"])
    with opened(place) as store:
        if order["role"] == "keeper":
            steps = Keeper(store, place, order["name"], order["seed"], order["start"]).steps()
        else:
            steps = Writer(store, order["name"], order["seed"]).steps()
        for effects, call in steps:
            tell(WILL, effects)
            call()
            tell(DID)
            if os.getppid() == 1:
                return  # nobody is left to kill us
