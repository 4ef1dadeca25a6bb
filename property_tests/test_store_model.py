"""Real stores against the executable model: the same entries, in any order, must come to the same thing.

A handful of stores write, part, forget, bear again, revoke, restart, lose and repeat deliveries; their clocks disagree.
Every entry is told to the model as a plain tuple, from what the test asked for and not from what the store made of it.
Then heads, what waits, tombstones and every open version of every field must agree, in the middle and at the end.

The seed is in the test's name. ``AICO_SOAK=1`` runs for minutes instead of seconds.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import msgpack
import pytest

from aico_crdt.errors import AicoError
from aico_crdt.feed import Entry as WireEntry
from aico_crdt.feed import decode_entry, encode_entry, open_item
from aico_crdt.store import DocumentStore, StoreReplica, membership
from aico_crdt.store.holds import unseal_hold
from aico_crdt.trust import Admit, Found, Revoke, decode_statement
from property_tests.model import (
    DIRECTORY,
    Entry,
    Replica,
    applied,
    family,
    forgotten,
    held,
    read_entry,
    rejected,
    shows,
)
from tests.store.conftest import START_MS, Clock, Families, plain_kinds

SOAK: Final = bool(os.environ.get("AICO_SOAK"))
SEEDS: Final = range(200) if SOAK else (*range(5), 27, 42, 97)
STEPS: Final = 400 if SOAK else 90
SKEWS_MS: Final = (0, 90_000, -3_600_000, 10 * 365 * 86_400_000)
"""A little ahead, an hour behind, ten years ahead."""
KINDS: Final = ("memory", "fact")


class History:
    """The stores, and beside each the set of entries it has received, as the model reads them."""

    def __init__(self, root: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.families = Families(root, plain_kinds(), Clock(), self.random.randbytes)
        self.clocks = [Clock(START_MS + skew) for skew in SKEWS_MS]
        self.told: dict[bytes, Entry] = {}
        self.simple: set[str] = set()
        self.wire: dict[bytes, WireEntry] = {}
        self.received: dict[bytes, set[Entry]] = defaultdict(set)
        self.revoked: set[bytes] = set()
        self.ids: list[str] = []
        self.delivered = 0
        self.was_held = 0
        self.families.clock = self.clocks[0]
        self.stores = self.families(1)
        for place in range(1, len(self.clocks)):
            self.families.clock = self.clocks[place]
            self.stores.append(self.families.join(self.stores[0], place))
        for store in self.stores:
            for entry in self.entries(store):
                self.receive(store, entry, ())
        for store in self.stores[1:]:
            # Known to one another: an author still unknown waits here, where the model may have it by grace already.
            self.bring_up(self.stores[0], store)

    # Telling the model

    def entries(self, store: DocumentStore, device: bytes | None = None) -> list[WireEntry]:
        found = []
        source = StoreReplica(store)
        for tag in store.directory.collections:
            heads = [head for head in source.heads(tag) if device in (None, head.device)]
            runs, _ = source.read_entries(tag, [(h.device, h.incarnation, h.floor) for h in heads], 1 << 30)
            found += [decode_entry(raw) for run in runs for raw in run]
        return found

    def receive(self, store: DocumentStore, entry: WireEntry, written: tuple[Any, ...]) -> None:
        header = entry.header
        told = self.told.get(header.hash)
        if told is None:
            self.wire[header.hash] = entry
            directory = store.directory.directory.tag
            told = self.told[header.hash] = read_entry(
                (
                    DIRECTORY if header.tag == directory else header.tag,
                    header.device, header.incarnation, header.seq, header.hash, header.prev,
                    tuple(header.deps), header.hlc,
                    self.statements(store, entry) if header.tag == directory else written,
                )
            )  # fmt: skip
            if len(written) == 1:
                self.simple.add(told.hash)
        self.received[store.device].add(told)

    def statements(self, store: DocumentStore, entry: WireEntry) -> tuple[Any, ...]:
        space = store.directory.spaces[DIRECTORY]
        found: list[Any] = []
        for index, sealed in enumerate(entry.items):
            assert isinstance(sealed, bytes)
            match decode_statement(open_item(entry.header, index, sealed, space.key).payload):
                case Found():
                    found.append(("found",))
                case Admit(device=device, trust=trust):
                    found.append(("admit", device, trust))
                case Revoke(device=device, heads=heads):
                    named = [(DIRECTORY if t == store.directory.directory.tag else t, i, s) for t, i, s in heads]
                    found.append(("revoke", device, tuple(named)))
        return tuple(found)

    def wrote(self, store: DocumentStore, written: dict[bytes, list[Any]]) -> None:
        """What `store` has just written itself: `written` by collection tag; nothing for witnesses."""
        known = {entry.hash for entry in self.received[store.device]}
        for entry in self.entries(store, store.device):
            if entry.header.hash.hex() not in known:
                self.receive(store, entry, tuple(written.get(entry.header.tag, ())))

    # Steps

    def step(self) -> None:
        store = self.random.choice(self.stores)
        try:
            self.random.choices([self.write, self.forget, self.deliver, self.restart, self.revoke], [40, 6, 50, 2, 4])[
                0
            ](store)
        except AicoError as error:
            if error.code not in ("not-found", "invalid-value", "forbidden"):
                raise
            self.wrote(store, {})

    def write(self, store: DocumentStore) -> None:
        written: dict[bytes, list[Any]] = defaultdict(list)
        with store.transaction() as transaction:
            touched: set[str] = set()
            for _ in range(self.random.choice((1, 1, 1, 3))):
                kind, document = self.place()
                if document in touched:
                    continue
                touched.add(document)
                row = transaction.read(kind, document)
                fields = self.fields()
                if row is None:
                    space = self.random.choice(("own", "family")) if kind == "memory" else "own"
                    if kind == "memory":
                        document = f"m{len(self.ids)}"
                        self.ids.append(document)
                    fields = {"a": 0, "b": 0, **fields}
                    transaction.create(kind, fields, id=document, space=space)
                    row = transaction.read(kind, document)
                    assert row is not None
                else:
                    transaction.edit(kind, document, fields)
                collection = store.directory.find(row.space, kind)
                assert collection is not None
                slots = tuple((name, canonical(value)) for name, value in fields.items())
                written[collection.tag].append(("write", document, row.life, slots))
        self.wrote(store, written)

    def place(self) -> tuple[str, str]:
        if self.random.random() < 0.4:
            return "fact", f"f{self.random.randrange(3)}"
        return "memory", self.random.choice([*self.ids[-8:], "new"])

    def fields(self) -> dict[str, Any]:
        return {name: self.random.randrange(100) for name in self.random.sample("ab", self.random.randrange(1, 3))}

    def forget(self, store: DocumentStore) -> None:
        kind, document = self.place()
        row = store.get(kind, document)
        collection = store.directory.find(row.space, kind)
        assert collection is not None
        store.forget(kind, document, now=self.random.random() < 0.5)
        self.wrote(store, {collection.tag: [("forget", document, row.life)]})

    def deliver(self, giver: DocumentStore) -> None:
        """Some of what the giver has, one by one in any order, twice or never."""
        taker = self.random.choice([store for store in self.stores if store is not giver])
        tags = StoreReplica(giver).collections(taker.device)
        chosen = [entry for entry in self.entries(giver) if entry.header.tag in tags]
        lacking = [e for e in chosen if self.told[e.header.hash] not in self.received[taker.device]]
        pool = lacking if lacking and self.random.random() < 0.8 else chosen
        for entry in self.random.sample(pool, min(len(pool), self.random.randrange(1, 9))):
            self.hand(giver, taker, [entry])

    def hand(self, giver: DocumentStore, taker: DocumentStore, entries: list[WireEntry]) -> None:
        tag = entries[0].header.tag
        outcome = StoreReplica(taker).deliver(tag, [[encode_entry(entry)] for entry in entries], giver.device)
        assert not outcome.refusals, outcome.refusals
        self.delivered += len(entries)
        self.was_held += outcome.held
        for entry in entries:
            self.receive(taker, entry, ())
        self.wrote(taker, {})

    def restart(self, store: DocumentStore) -> None:
        place = self.stores.index(store)
        self.families.clock = self.clocks[place]
        self.clocks[place].ms += self.random.choice((0, 1000, 90_000_000))
        self.stores[place] = self.families.reopen(store)
        self.stores[place].erase_due()

    def revoke(self, store: DocumentStore) -> None:
        if self.revoked or len(self.told) < 25:
            return
        victim = self.random.choice([each for each in self.stores[1:] if each is not store])
        membership.revoke(store, victim.device)
        self.revoked.add(victim.device)
        self.wrote(store, {})

    def heal(self) -> None:
        """Everyone hears everything that anyone still connected has, however long it takes."""
        live = [store for store in self.stores if store.device not in self.revoked]
        before: list[Any] = []
        while (now := [heads_told(store) for store in live]) != before:
            before = now
            for giver in live:
                for taker in live:
                    if giver is not taker:
                        self.bring_up(giver, taker)
        for store in live:
            # What a revoked device bore and destroyed beyond its revocation head, nobody else ever had.
            left = {place.device for tag in store.directory.collections for place in StoreReplica(store).gaps(tag)}
            assert left <= set(self.revoked)
            if not left:
                self.compare(store, final=True)
        assert len({store.content_hash() for store in live}) == 1

    def bring_up(self, giver: DocumentStore, taker: DocumentStore) -> None:
        """All that lies above the taker's heads, as the giver has it now (erased items in place of what is dead)."""
        for tag in StoreReplica(giver).collections(taker.device):
            have = {(head.device, head.incarnation): head.seq for head in StoreReplica(taker).heads(tag)}
            for gap in StoreReplica(taker).gaps(tag):  # as a session does
                have[gap.device, gap.incarnation] = min(have[gap.device, gap.incarnation], gap.seq - 1)
            new = [
                entry
                for entry in self.entries(giver)
                if entry.header.tag == tag
                and entry.header.seq > have.get((entry.header.device, entry.header.incarnation), 0)
            ]
            if new:
                self.hand(giver, taker, new)

    # Comparing

    def compare(self, store: DocumentStore, *, final: bool = False) -> None:
        received = frozenset(self.received[store.device])
        assert not rejected(received)
        if self.gaps(store):
            return  # an item came erased before the forget that explains it: only what comes next can tell
        heads = {
            (DIRECTORY if tag == store.directory.directory.tag else tag.hex(), device.hex(), incarnation.hex()): seq
            for tag, feeds in store.heads().items()
            for device, incarnation, seq, _ in feeds
        }
        expected: dict[tuple[str, str, str], int] = {}
        for entry in applied(received):
            expected[tuple(entry.feed)] = max(entry.seq, expected.get(tuple(entry.feed), 0))
        if not final and family(received).limits and heads != expected:
            # An endorsed entry speaks for all before it in its feed, which the store sees by its number at once and
            # the model only once the entries between have come.
            assert all(heads.get(feed, 0) >= seq for feed, seq in expected.items())
            return
        assert heads == expected
        assert self.waiting(store) == {entry.hash for entry in held(received)}
        model = Replica(received)
        self.compare_tombstones(store, forgotten(model))
        rows: dict[tuple[str, str], Any] = {}
        for kind in KINDS:
            for row in store.rows(kind):
                collection = store.directory.find(row.space, kind)
                assert collection is not None
                rows[collection.tag.hex(), row.id] = row
        shown = shows(model)
        assert set(rows) == set(shown)
        for key, document in shown.items():
            row = rows[key]
            assert row.life == document.life, key
            versions: dict[str, set[tuple[int, str]]] = defaultdict(set)
            for slot in document.slots:
                versions[slot.field].add((slot.hlc, slot.value))
            assert set(row.fields) == set(versions), key
            for name, open_versions in versions.items():
                values = [version.value for version in row.conflicts.get(name, ())] or [row.fields[name]]
                assert {canonical(value) for value in values} == {value for _, value in open_versions}, (key, name)
                if all(slot.entry in self.simple for slot in document.slots):
                    newest = max(hlc for hlc, _ in open_versions)
                    assert (newest, canonical(row.fields[name])) in open_versions, (key, name)

    def compare_tombstones(self, store: DocumentStore, dead: dict[tuple[str, str], int]) -> None:
        expected = {}
        for (tag, document), life in dead.items():
            collection = store.directory.collections[bytes.fromhex(tag)]
            key = store.directory.spaces[collection.space].document_key(collection.kind, document)
            expected[collection.number, key] = life
        with store.reading() as (_, records):
            found = {
                (int.from_bytes(key[1:3], "big"), key[3:]): msgpack.unpackb(value)[0]
                for key, value in records.scan(b"T")
            }
        assert found == expected

    def gaps(self, store: DocumentStore) -> int:
        with store.reading() as (_, records):
            return sum(1 for _ in records.scan(b"N"))

    def waiting(self, store: DocumentStore) -> set[str]:
        with store.reading() as (core, records):
            return {
                msgpack.unpackb(unseal_hold(core, records, key, value))[1].hex()
                for key, value in records.scan(b"H")
            }


def heads_told(store: DocumentStore) -> Any:
    """What a session would say: a feed ends before the first item whose erasure nothing explains yet."""
    return [StoreReplica(store).heads(tag) for tag in store.directory.collections]


def canonical(value: Any) -> str:
    return repr(value)


@pytest.mark.parametrize("seed", SEEDS)
def test_fault_14_stores_agree_with_the_model(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=fast, prefix="aico-") as directory:
        monkeypatch.setattr(os, "urandom", random.Random(~seed).randbytes)  # hashes decide ties
        history = History(Path(directory), seed)
        try:
            for step in range(STEPS):
                history.step()
                if step % 15 == 14:
                    history.compare(history.random.choice(history.stores))
            history.heal()
            assert len(history.told) > STEPS // 4
            assert history.delivered > STEPS // 4
            assert history.was_held
        finally:
            history.families.close()
