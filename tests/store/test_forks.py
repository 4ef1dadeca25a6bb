"""Clones of a device write on, others build on either branch, a clone may be gone for ever: all replicas end alike,
what a device that is still there was told is kept is there, and what it was told is forgotten is not.

``AICO_SOAK=1`` runs more of these histories.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import defaultdict
from contextlib import suppress
from typing import Any, Final

import msgpack
import pytest

from aico_crdt.errors import Forbidden, InvalidValue, NotFound
from aico_crdt.feed import decode_entry
from aico_crdt.feed.exchange import Place
from aico_crdt.store import StoreReplica, forks, layout
from aico_crdt.store.verify import verify
from tests.regressions.clones import forked, settle, slots_of
from tests.store.conftest import exchange, send, view

SOAK: Final = bool(os.environ.get("AICO_SOAK"))
SEEDS: Final = range(500) if SOAK else (*range(24), 87, 255)
STEPS: Final = 70
GONE: Final = object()
"""In place of a device that is not asked any more."""


class History:
    """Clones of one device, and others; and beside them what each was told.

    Every value, tag, character and document is written once, so that the end shows what became of it.
    """

    def __init__(self, family: Any, seed: int) -> None:
        family.random = random.Random(seed + 1000).randbytes  # nonces too, and so hashes: who wins can be replayed
        self.chance = random.Random(seed)
        self.clock = family.clock
        limited = self.chance.random() < 0.3
        self.space = "family" if limited else "own"
        stores = family(4, trusts=["full", "limited" if limited else "full", "full"])
        for document in ("m0", "m1"):
            stores[0].create("memory", {"content": "one"}, id=document, space=self.space)
        with stores[0].transaction() as transaction:
            transaction.insert_text("memory", "m0", 0, "abc")
        exchange(*stores)
        place = self.chance.choice((0, 0, 1))
        original = stores.pop(place)
        original.close()
        paths = [original.path]
        for number in range(self.chance.choice((1, 1, 1, 2))):
            paths.append(original.path.with_name(f"copy{number}"))
            shutil.copytree(original.path, paths[-1])
        self.clones = [family.open(path, place, lease=False) for path in paths]
        self.stores = [*self.clones, *stores]
        self.leaves = self.chance.randrange(15, STEPS) if self.chance.random() < 0.4 else -1
        self.gone: set[Any] = set()
        self.values: dict[int, tuple[Any, str, int]] = {}
        self.tags: dict[int, tuple[Any, str, int]] = {}
        self.letters: dict[str, tuple[Any, str, int]] = {}
        self.born: dict[str, Any] = {}
        self.forgotten: list[tuple[Any, str]] = []
        self.replaced: defaultdict[str, set[Any]] = defaultdict(set)

    def run(self) -> None:
        for step in range(STEPS):
            if step == self.leaves:
                self.gone.add(self.stores.pop(self.chance.randrange(len(self.clones))))
            store, document = self.chance.choice(self.stores), f"m{self.chance.randrange(3)}"
            with suppress(NotFound, InvalidValue, Forbidden):
                self.step(step, store, document)
        for _ in range(4):
            exchange(*self.stores)

    def step(self, step: int, store: Any, document: str) -> None:
        chance, mine = self.chance, (store, document, self.life(store, document))
        match chance.randrange(15):
            case 0:
                store.create("memory", {"content": step}, id=document, space=self.space)
            case 1:
                seen = self.shown(store, document)
                store.edit("memory", document, {"content": step})
                self.replaced[document] |= seen
                self.values[step] = mine
            case 2:
                with store.transaction() as transaction:
                    transaction.add("memory", document, "tags", [f"t{step}"])
                self.tags[step] = mine
            case 3 if theirs := [tag for tag, (_, where, _) in self.tags.items() if where == document]:
                tag = chance.choice(theirs)
                with store.transaction() as transaction:
                    transaction.discard("memory", document, "tags", [f"t{tag}"])
                self.tags[tag] = (GONE, "", 0)
            case 4:
                with store.transaction() as transaction:
                    transaction.increment("memory", document, "n", 1)
            case 5 | 6 as wide:
                place = chance.randrange(len(store.text("memory", document)) + 1)
                letter = chr((0x1F600 if wide == 6 else 0x4E00) + step)
                with store.transaction() as transaction:
                    transaction.insert_text("memory", document, place, letter * chance.randrange(1, 3))
                self.letters[letter] = mine
            case 7 if text := store.text("memory", document):
                place, length = chance.randrange(len(text)), chance.randrange(1, 3)
                with store.transaction() as transaction:
                    transaction.delete_text("memory", document, place, min(length, len(text) - place))
                for letter in text[place : place + length]:
                    self.letters[letter] = (GONE, "", 0)
            case 8:
                store.create("memory", {"content": step}, id=f"u{step}", space=self.space)
                self.born[f"u{step}"] = store
            case 9:
                theirs = [name for name in self.born if store.read("memory", name)]
                if self.may_forget_any(store):
                    theirs.append(document)
                name = chance.choice(theirs or ["none"])
                store.forget("memory", name, now=chance.random() < 0.3)
                if name in self.born:
                    self.born[name] = GONE
                    self.forgotten.append((store, name))
            case 10:
                self.clock.ms += chance.choice((1000, 86_400_000))
                store.erase_due()
            case _:
                taker = chance.choice([other for other in self.stores if other is not store])
                for report in send(store, taker, max_bytes=chance.choice((600, 1 << 20))):
                    assert not report.rejected

    @staticmethod
    def may_forget_any(store: Any) -> bool:
        """A limited device forgets what it bore; when several bear one id, each believes whom it heard first."""
        return store.directory.family.trust_of(store.device) == "full"

    def check(self) -> None:
        first, *others = self.stores
        for other in others:
            assert other.heads() == first.heads()
            assert view(other) == view(first)
            assert tombstones(other, self.space) == tombstones(first, self.space)
        for store in self.stores:
            assert not [problem.what for problem in verify(store, refold=True).problems]
        if self.space == "own":
            assert len({store.content_hash() for store in self.stores}) == 1
        for value, (store, document, life) in self.values.items():
            if self.counts(store, document, life) and value not in self.replaced[document]:
                assert value in self.shown(first, document)
        for tag, (store, document, life) in self.tags.items():
            if self.counts(store, document, life):
                assert f"tags/t{tag}" in names(first, document, self.space)
        for letter, (store, document, life) in self.letters.items():
            if self.counts(store, document, life):
                assert letter in first.text("memory", document)
        for document, store in self.born.items():
            assert store in (GONE, *self.gone) or first.read("memory", document) is not None
        for store, document in self.forgotten:
            assert store in self.gone or first.read("memory", document) is None

    def counts(self, store: Any, document: str, life: int) -> bool:
        """Whether what `store` wrote is to be found: it is still there, and so is what it wrote to."""
        return store not in (GONE, *self.gone) and self.life(self.stores[0], document) == life

    @staticmethod
    def life(store: Any, document: str) -> int:
        row = store.read("memory", document)
        return 0 if row is None else row.life

    @staticmethod
    def shown(store: Any, document: str) -> set[Any]:
        row = store.get("memory", document)
        return {row.fields.get("content")} | {version.value for version in row.conflicts.get("content", ())}


def names(store: Any, document: str, space: str) -> set[str]:
    """The names of all live slots."""
    with store.writing() as workspace:
        return {
            slot.name
            for slot in workspace.load(workspace.open(store.directory.find(space, "memory"), document)).slots()
        }


def tombstones(store: Any, space: str) -> dict[bytes, int]:
    """The greatest dead life of every memory that was forgotten."""
    prefix = b"T" + layout.COLLECTION.pack(store.directory.find(space, "memory").number)
    with store.reading() as (_, records):
        return {key[3:]: msgpack.unpackb(value)[0] for key, value in records.scan(prefix)}


@pytest.mark.parametrize("seed", SEEDS)
def test_fault_13_clones_and_others_converge_and_lose_nothing(family: Any, seed: int) -> None:
    history = History(family, seed)
    history.run()
    history.check()


def test_text_typed_on_a_lost_branch_is_displaced_alike(family: Any, tmp_path: Any) -> None:
    def write(text: str) -> Any:
        def change(store: Any) -> None:
            with store.transaction() as transaction:
                transaction.insert_text("memory", "m", len(store.text("memory", "m")), text)

        return change

    loser, winner, [b, c] = forked(family, tmp_path, write("lost"), others=2, before=write("old "))
    send(loser, b)
    write(" kept")(b)
    write("!")(b)
    loser.close()  # and is never seen again
    settle(winner, b, c)
    texts = {store.text("memory", "m") for store in (winner, b, c)}
    assert texts in ({"old  kept!"}, {" kept!old "})  # as if typed into an empty text


def test_what_was_built_on_a_lost_branch_brings_the_branch(family: Any, tmp_path: Any) -> None:
    def write(store: Any) -> None:
        for value in range(5):
            store.edit("memory", "m", {"content": value})

    loser, winner, [b, c, d] = forked(family, tmp_path, write, others=3)
    send(loser, b)
    b.edit("memory", "m", {"content": "by b"})
    send(winner, b)
    send(winner, c)
    loser.close()
    for report in send(b, c, max_bytes=700):  # the lost branch does not fit one delivery
        assert not report.rejected
    assert c.heads() == b.heads()
    assert c.read("memory", "m").fields["content"] == "by b"
    tag = c.directory.find("own", "memory").tag
    runs, _ = StoreReplica(c).read_entries(tag, [Place(b.device, b.incarnation, 1)], 1 << 20)
    lost = [decode_entry(raw) for run in runs for raw in run][:5]
    assert all(entry.header.device == b"".join([loser.device]) and not any(entry.items) for entry in lost)
    send(c, d)  # who never met either clone
    assert d.heads() == c.heads()
    with d.reading() as (_, records):
        assert all(forks.is_void(records, entry.header.hash) for entry in lost)


def test_what_was_built_on_a_branch_that_is_not_known_waits(family: Any, tmp_path: Any) -> None:
    loser, winner, [b, c] = forked(
        family, tmp_path, lambda store: store.edit("memory", "m", {"content": "by loser"}), others=2
    )
    send(loser, b)
    b.edit("memory", "m", {"content": "by b"})
    winner.edit("memory", "m", {"content": "by winner"})
    send(winner, c)
    tag = c.directory.find("own", "memory").tag
    runs, _ = StoreReplica(b).read_entries(tag, [Place(b.device, b.incarnation, 1)], 1 << 20)
    alone = [raw for run in runs for raw in run if decode_entry(raw).header.device == b.device]
    assert StoreReplica(c).deliver(tag, [alone], b.device).held == len(alone)
    send(b, c)
    assert History.shown(c, "m") == {"by b", "by winner"}


def test_a_forget_that_only_a_limited_device_saw_reaches_all(family: Any, tmp_path: Any) -> None:
    a, b, c = family(3, trusts=["limited", "full"])
    a.create("memory", {"content": "of all"}, id="shared", space="family")
    exchange(a, b, c)
    a.close()
    copy = tmp_path / "copy"
    shutil.copytree(a.path, copy)
    stores = [family.open(a.path, 0, lease=False), family.open(copy, 0, lease=False)]
    tag = c.directory.find("family", "memory").tag
    for store in stores:
        store.forget("memory", "shared") if store is stores[0] else store.edit("memory", "shared", {"content": "more"})
    forgot, edited = (StoreReplica(store).heads(tag)[0].hash for store in stores)
    send(stores[0], b)
    stores[0].close()
    settle(stores[1], b, c)
    assert [store.read("memory", "shared") for store in (stores[1], b, c)] == [None] * 3
    assert forgot != edited


def test_the_lost_branch_is_kept_up_to_a_bound(family: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "MAX_VOID", 3)

    def write(store: Any) -> None:
        for value in range(5):
            store.edit("memory", "m", {"content": value})

    loser, winner, [b] = forked(family, tmp_path, write)
    settle(loser, winner, b)
    with b.reading() as (_, records):
        assert sum(1 for _ in records.scan(b"Q")) == 3
    assert ("content", 4) in slots_of(b)
