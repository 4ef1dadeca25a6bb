"""The model against itself and against two independent tellings of what must be so.

A few stores of one family write, part, revoke, get cloned, prune and take manifests in any order Hypothesis can think
of. The machine keeps two records beside the model, made from what each author really had applied and not from
what its entries' headers say: `seen`, from which documents are told a second time; and who was ever revoked or
cloned, from which it is told which writes everybody must show in the end.

AICO_SOAK=1 runs it for minutes instead of seconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random
from typing import Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from property_tests.model import (
    DIRECTORY,
    GENESIS,
    NO_BASE,
    Admit,
    Base,
    Document,
    Entry,
    Forget,
    Found,
    Head,
    Operation,
    Replica,
    Revoke,
    Slot,
    Write,
    applied,
    body,
    cut_of,
    family,
    forgotten,
    forks,
    heads,
    held,
    in_force,
    limit,
    manifest,
    prune,
    refused,
    rejected,
    shows,
    sound,
    stubs,
    tips,
    unwitnessed,
    with_body,
    with_manifest,
)
from property_tests.model.documents import tombstones
from property_tests.model.entry import Feed, hashes

SOAK: Final = bool(os.environ.get("AICO_SOAK"))
TRUST: Final = {"a": "full", "b": "full", "c": "limited", "r": "full"}
SKEW: Final = {"a": 0, "b": 7, "c": -9, "r": 100}
"""How far each device's clock is off: stamps must decide nothing but ties."""
CLONE: Final = "x"
COLLECTIONS: Final = ("memory", "emotion")
DOCUMENTS: Final = ("m", "n")
MAX_REVOCATIONS: Final = 2
"""More would leave a family in which nothing is in force and nothing is tested."""


@dataclass
class Store:
    """One replica as it lives: what it holds, and where its own feeds stand."""

    device: str
    incarnation: str
    replica: Replica = field(default_factory=Replica)
    floor: Base = NO_BASE
    last: dict[str, Entry] = field(default_factory=dict)
    last_heads: dict[str, frozenset[Head]] = field(default_factory=dict)
    written: list[Entry] = field(default_factory=list)
    replaced: set[str] = field(default_factory=set)

    @property
    def received(self) -> frozenset[Entry]:
        return self.replica.received

    @property
    def is_member(self) -> bool:
        return self.device in family(self.received).current


stores = st.sampled_from([*TRUST, CLONE])
devices = st.sampled_from([*TRUST])
collections = st.sampled_from(COLLECTIONS)
fields = st.sets(st.sampled_from(["f", "g"]), min_size=1)
randoms = st.randoms(use_true_random=False)


class Family(RuleBasedStateMachine):
    """Devices of one family; store `x` is a clone of another one's store, made in the middle of its life."""

    def __init__(self) -> None:
        super().__init__()
        self.stores = {name: Store(name, "1") for name in TRUST}
        self.pool: dict[str, Entry] = {}
        self.seen: dict[str, frozenset[str]] = {}
        self.births: dict[tuple[str, str, int], set[str]] = {}
        self.revoked: set[str] = set()
        self.cloned: set[str] = set()
        self.changed: set[str] = set()
        self.checked: dict[str, frozenset[str]] = {}

    def store(self, name: str) -> Store:
        """The store of that name; as long as there is no clone, the one it may be made of."""
        return self.stores.get(name) or self.stores["c"]

    # writing

    def write(
        self, store: Store, collection: str, operations: Iterable[Operation], basis: Iterable[Entry] | None = None
    ) -> Entry:
        """One entry of `store`, as feed/ makes it: deps are the heads that changed since its last."""
        basis = frozenset(e for e in basis or applied(store.received) if e.collection == collection)
        own = Feed(collection, store.device, store.incarnation)
        last = store.last.get(collection)
        now = frozenset(h for h in heads(basis, collection) if (h.device, h.incarnation) != own[1:])
        deps = tuple(sorted(now - store.last_heads.get(collection, frozenset())))
        hlc = 1000 + len(self.pool) + SKEW[store.device]
        seq, prev = (last.seq + 1, last.hash) if last else (1, GENESIS)
        content = (*own, seq, prev, deps, hlc, tuple(operations), len(self.pool))
        name = blake2b(repr(content).encode(), digest_size=5).hexdigest()
        entry = Entry(*own, seq, name, prev, deps, hlc, content[-2])
        store.last[collection], store.last_heads[collection] = entry, now
        store.written.append(entry)
        self.pool[name] = entry
        self.seen[name] = hashes(basis) | ({prev} | self.seen[prev] if last else frozenset())
        self.receive(store, [entry])
        return entry

    def receive(self, store: Store, entries: Iterable[Entry]) -> None:
        """One transaction that brings `entries`, some of them perhaps not for the first time."""
        known, before = hashes(store.received), store.replica
        new = {entry for entry in entries if entry.hash not in known}
        if new:
            store.replica = Replica(store.received | new, before.base)
            self.settle(store, before)

    def settle(self, store: Store, before: Replica) -> None:
        """What a replica does in the transaction in which it learns something."""
        self.changed.update(name for name, other in self.stores.items() if other is store)
        void = hashes(forks(store.received))
        own = {e for e in store.received if (e.device, e.incarnation) == (store.device, store.incarnation)}
        if hashes(own) - hashes(store.written) or void & hashes(own):  # somebody else writes my feed, or did
            store.incarnation = f"{store.incarnation}{len(self.pool)}"
            store.last, store.last_heads = {}, {}
        lost = unwitnessed(applied(before.received), store.received)
        if lost and store.is_member:
            whole = (hashes(applied(before.received)) | hashes(applied(store.received))) - void
            basis = [entry for entry in store.received if entry.hash in whole]
            for collection in sorted({entry.collection for entry in lost}):
                self.write(store, collection, (), basis)
        if store.is_member:
            shrunk = hashes(applied(before.received)) - hashes(applied(store.received)) - void
            assert not shrunk, f"un-applied: {sorted(shrunk)}"
        if not sound(store.replica):
            self.ask_again(store)
        for entry in [e for e in store.written if e.hash in void and e.hash not in store.replaced]:
            store.replaced.add(entry.hash)
            self.write_again(store, entry)

    def write_again(self, store: Store, lost: Entry) -> None:
        """The clone that lost writes its branch again; a forget or statement is the owner's to repeat."""
        for operation in lost.operations:
            key = lost.collection, getattr(operation, "document", "")
            if isinstance(operation, Write) and key not in stubs(store.replica):
                life = self.life(store, key)
                self.note_birth(store, key, life)
                self.write(store, lost.collection, [Write(operation.document, life, operation.slots)])

    def ask_again(self, store: Store) -> None:
        """A base that is not sound: back to what was pruned when all had applied it, and to the entries above."""
        store.replica = Replica(
            frozenset(e if e.hash in store.floor.cut else self.pool[e.hash] for e in store.received), store.floor
        )
        assert sound(store.replica) or not store.is_member, "a fork below what everybody had applied"

    def life(self, store: Store, key: tuple[str, str]) -> int:
        """The life a write of `store` goes to: the one shown, or the next."""
        shown = shows(store.replica).get(key)
        return shown.life if shown else forgotten(store.replica).get(key, 0) + 1

    def note_birth(self, store: Store, key: tuple[str, str], life: int) -> None:
        shown = shows(store.replica).get(key)
        if shown is None or shown.life != life:
            self.births.setdefault((*key, life), set()).add(store.device)

    # rules: the life of a family

    @initialize(known=st.sets(st.sampled_from(["b", "c", "r"]), min_size=2))
    def found(self, known: set[str]) -> None:
        operations: list[Operation] = [Found(), *(Admit(device, TRUST[device]) for device in sorted(known))]
        founding = self.write(self.stores["a"], DIRECTORY, operations)
        for device in known:
            self.receive(self.stores[device], [founding])

    @rule(name=stores, collection=collections, document=st.sampled_from(DOCUMENTS), names=fields)
    def edit(self, name: str, collection: str, document: str, names: set[str]) -> None:
        """Birth, edit or rebirth, whichever it is for this store."""
        store, key = self.store(name), (collection, document)
        if key in stubs(store.replica):
            return
        life = self.life(store, key)
        self.note_birth(store, key, life)
        slots = tuple((each, f"{name}{len(self.pool)}") for each in sorted(names))
        self.write(store, collection, [Write(document, life, slots)])

    @rule(name=stores, collection=collections, document=st.sampled_from(DOCUMENTS))
    def forget(self, name: str, collection: str, document: str) -> None:
        store, key = self.store(name), (collection, document)
        if key in stubs(store.replica) or key not in shows(store.replica):
            return
        life = shows(store.replica)[key].life
        if TRUST[store.device] != "full" and self.births.get((*key, life)) != {store.device}:
            return
        self.write(store, collection, [Forget(document, life)])

    @rule(name=stores, device=devices)
    def admit(self, name: str, device: str) -> None:
        store = self.store(name)
        if store.is_member and TRUST[store.device] == "full" and device != store.device:
            self.write(store, DIRECTORY, [Admit(device, TRUST[device])])

    @precondition(lambda self: len(self.revoked) < MAX_REVOCATIONS)
    @rule(name=stores, device=devices)
    def revoke(self, name: str, device: str) -> None:
        store = self.store(name)
        if not store.is_member or TRUST[store.device] != "full" or device == store.device:
            return
        ends = sorted(
            (feed.collection, feed.incarnation, entry.seq)
            for feed, entry in tips(applied(store.received)).items()
            if feed.device == device
        )
        self.revoked.add(device)
        self.write(store, DIRECTORY, [Revoke(device, tuple(ends))])

    @precondition(lambda self: CLONE not in self.stores)
    @rule(device=st.sampled_from(["c", "r"]))
    def clone(self, device: str) -> None:
        """Two stores go on writing one feed."""
        other = self.stores[device]
        self.cloned.add(device)
        self.changed.add(CLONE)
        self.stores[CLONE] = Store(
            device, other.incarnation, other.replica, other.floor, dict(other.last), dict(other.last_heads),
            list(other.written), set(other.replaced),
        )  # fmt: skip

    @rule(name=stores, random=randoms)
    def deliver_one(self, name: str, random: Random) -> None:
        """Any entry of anybody, early or twice."""
        store = self.store(name)
        self.receive(store, [random.choice(list(self.pool.values()))])

    @rule(name=stores, to=stores, random=randoms)
    def gossip(self, name: str, to: str, random: Random) -> None:
        """All one store can still give to another, shuffled and cut in three."""
        store, other = self.store(name), self.store(to)
        if store is other:
            return
        entries = sorted(hashes(store.received) - store.replica.base.cut)
        random.shuffle(entries)
        for part in range(3):
            self.receive(other, [self.pool[h] for h in entries[part::3]])

    @rule(name=stores, to=stores, collection=collections, bodies=st.booleans())
    def bring(self, name: str, to: str, collection: str, bodies: bool) -> None:
        """A manifest, and perhaps the bodies."""
        store, other = self.store(name), self.store(to)
        if store is other:
            return
        if not store.is_member or TRUST[store.device] != "full" or not sound(store.replica):
            return
        if any(key[0] == collection for key in stubs(store.replica)):
            return
        before = other.replica
        other.replica = with_manifest(other.replica, manifest(store.replica, store.device, collection))
        self.settle(other, before)
        if bodies:
            self.fetch(name, to)

    @rule(name=stores, to=stores)
    def fetch(self, name: str, to: str) -> None:
        store, other = self.store(name), self.store(to)
        for key in stubs(other.replica):
            found = body(store.replica, key, cut_of(other.replica, key[0]))
            if found is not None:
                other.replica = with_body(other.replica, key, found)
                self.changed.add(to if to in self.stores else "c")

    @rule(name=stores, collection=collections)
    def prune(self, name: str, collection: str) -> None:
        store = self.store(name)
        everywhere = frozenset.intersection(*(hashes(applied(s.received)) for s in self.stores.values()))
        common = [self.pool[h] for h in everywhere if self.pool[h].collection == collection]
        if any(key[0] == collection for key in stubs(store.replica)):
            return
        if not cut_of(store.replica, collection) <= hashes(common):
            return
        before = shows(store.replica)
        store.replica = prune(store.replica, collection, heads(common, collection))
        if store.replica.base.cut <= everywhere:
            store.floor = store.replica.base
        assert shows(store.replica) == before
        self.changed.update(other for other, its in self.stores.items() if its is store)

    # what must hold after every step

    @invariant()
    def stores_hold(self) -> None:
        for name in sorted(self.changed):
            self.check_receipt(self.stores[name])
            if sound(self.stores[name].replica):
                self.check_documents(self.stores[name])
        self.changed.clear()

    def check_receipt(self, store: Store) -> None:
        received, done = store.received, applied(store.received)
        parts = [done, held(received), rejected(received)]
        assert sum(map(len, parts)) == len(received) == len(hashes(received))
        assert frozenset().union(*parts) == received
        void = hashes(forks(received))
        assert not void & hashes(done)
        assert all(entry.links <= hashes(done) | void for entry in done), "applied without what it stands on"
        assert done <= in_force(received)
        whose = family(received)
        right = {e.hash for e in received - rejected(received) if (end := limit(whose, e.feed)) is None or e.seq <= end}
        graced = set(right).union(*(self.seen[own_hash] for own_hash in right))
        assert hashes(done) <= graced, "applied and not in force"

    def check_documents(self, store: Store) -> None:
        """Shown is: what the author's own eyes say was overwritten; the same with a base as without."""
        entries = frozenset(self.pool[h] for h in hashes(store.received))
        assert hashes(applied(entries)) == hashes(applied(store.received))
        void = forks(entries) - refused(entries)
        told, shown, wanted = self.tell(applied(entries), void), shows(store.replica), stubs(store.replica)
        assert repr(shows(Replica(entries))) == repr(told)
        # A manifest brings what a lost branch forgot, and not the branch.
        heard = void | {e for e in forks(frozenset(self.pool.values())) if self.forgot(e, store.replica.base)}
        told = self.tell(applied(entries), heard)
        assert repr(shown) == repr({key: told[key] for key in told if key not in wanted})
        assert set(wanted) <= set(told), "a stub of what is forgotten"
        assert forgotten(store.replica) == tombstones(heard, forgotten(Replica(entries)))

    @staticmethod
    def forgot(entry: Entry, base: Base) -> bool:
        """Whether `base` has taken in all that `entry` forgot, if anything."""
        ended = tombstones([entry])
        return bool(ended) and all(base.dead.get(key, 0) >= life for key, life in ended.items())

    def tell(self, entries: frozenset[Entry], void: frozenset[Entry]) -> dict[tuple[str, str], Document]:
        """The documents, told by what each author had applied when it wrote; a life that `void` ended stays ended."""
        dead: dict[tuple[str, str], int] = {}
        slots: dict[tuple[str, str, int, str], dict[str, Slot]] = {}
        for e in entries | void:
            for operation in e.operations:
                if isinstance(operation, Forget):
                    key = e.collection, operation.document
                    dead[key] = max(dead.get(key, 0), operation.life)
                if isinstance(operation, Write) and e not in void:
                    for name, value in operation.slots:
                        where = (e.collection, operation.document, operation.life, name)
                        slot = Slot(name, e.device, e.incarnation, e.hlc, value, e.hash)
                        slots.setdefault(where, {})[e.hash] = slot
        told: dict[tuple[str, str], Document] = {}
        for (collection, document, life, _), by_entry in sorted(slots.items()):
            key = collection, document
            if life > dead.get(key, 0):
                live = [s for h, s in by_entry.items() if not any(h in self.seen[other] for other in by_entry)]
                kept = told[key].slots if key in told and told[key].life == life else ()
                told[key] = Document(life, tuple(sorted((*kept, *live))))
        return told

    # what must hold in the end

    def teardown(self) -> None:
        if not self.pool:
            return
        self.heal()
        self.stores_hold()
        received = {frozenset(hashes(store.received)) for store in self.stores.values()}
        assert received == {frozenset(self.pool)}
        views = {repr(shows(store.replica)) for store in self.stores.values()}
        assert len(views) == 1, "stores that hold the same show different documents"
        safe = self.safe()
        done, shown = hashes(applied(self.stores["a"].received)), shows(self.stores["a"].replica)
        for entry in self.pool.values():
            if entry.device in safe:
                assert entry.hash in done, "a good device's entry is not applied"
                for slot in self.must_show(entry):
                    assert any(slot in document.slots for document in shown.values()), f"lost: {slot}"

    def heal(self) -> None:
        """Everything to everybody, until nobody has anything to add."""
        for _ in range(50):
            size = len(self.pool)
            for store in self.stores.values():
                self.receive(store, list(self.pool.values()))
            if len(self.pool) == size:
                break
        else:
            raise AssertionError("witnesses without end")
        for to, store in self.stores.items():
            for name in self.stores:
                self.fetch(name, to)
            if stubs(store.replica):  # those who could tell have pruned past it
                self.ask_again(store)
                self.changed.add(to)
            assert sound(store.replica)
            assert not stubs(store.replica)

    def safe(self) -> set[str]:
        """Devices nobody ever revoked or cloned, admitted by such."""
        good = {"a"} - self.revoked - self.cloned
        for _ in TRUST:
            good |= {
                operation.device
                for entry in self.pool.values()
                for operation in entry.operations
                if entry.device in good and isinstance(operation, Admit)
            } - self.revoked - self.cloned
        return good

    def must_show(self, entry: Entry) -> list[Slot]:
        """What `entry` wrote and nobody, in force or not, overwrote knowingly or forgot."""
        slots = []
        for operation in entry.operations:
            if isinstance(operation, Write):
                for name, value in operation.slots:
                    rivals = [
                        (other, rival)
                        for other in self.pool.values()
                        if other.collection == entry.collection
                        for rival in other.operations
                        if getattr(rival, "document", None) == operation.document
                    ]
                    if not any(
                        (isinstance(rival, Forget) and rival.life >= operation.life)
                        or (isinstance(rival, Write) and rival.life > operation.life)
                        or (
                            isinstance(rival, Write)
                            and entry.hash in self.seen[other.hash]
                            and name in dict(rival.slots)
                        )
                        for other, rival in rivals
                    ):
                        slots.append(Slot(name, entry.device, entry.incarnation, entry.hlc, value, entry.hash))
        return slots


Family.TestCase.settings = settings(
    max_examples=5000 if SOAK else 200,
    stateful_step_count=150 if SOAK else 80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
TestFamily = Family.TestCase
