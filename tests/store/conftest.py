"""Small families of stores on disk, and what passes between two of them without a network.

``family(3)`` is three open stores, the first of which founded the family; ``sync(a, b)`` brings two up to each
other's entries, manifests and bodies, through nothing but :class:`StoreReplica`, and exchanges receipts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from aico_crdt.config import Config
from aico_crdt.crdt import Slot, record
from aico_crdt.feed.exchange import Place
from aico_crdt.store import DocumentStore, Folded, IndexKey, Kind, StoreReplica, Version, membership
from aico_crdt.store.outcome import Outcome
from aico_crdt.trust import Identity

START_MS = 1_800_000_000_000
CONFIG = Config(map_size_bytes=256 << 20)


class PlainKind:
    """Fields by last writer; found by ``time`` (field t) and by ``tag`` (field tag)."""

    version = 1

    def __init__(self, name: str, *, derived: bool = False) -> None:
        self.name = name
        self.derived = derived

    def fold(self, document: str, slots: Sequence[Slot], text: str) -> Folded:
        fields = record(slots)
        values = {name: field.value for name, field in fields.items()}
        if text:
            values["text"] = text
        conflicts = {
            name: tuple(Version(c.writer, c.hlc, c.value) for c in field.conflict)
            for name, field in fields.items()
            if field.conflict
        }
        return Folded(values, conflicts)

    def index(self, fields: Mapping[str, Any]) -> Iterable[IndexKey]:
        yield IndexKey("time", "", int(fields.get("t", 0)))
        if "tag" in fields:
            yield IndexKey("tag", str(fields["tag"]), int(fields.get("t", 0)))


class Clock:
    """Physical time that a test moves: ``clock.ms += 1000``. Every reading is one millisecond later."""

    def __init__(self, ms: int = START_MS) -> None:
        self.ms = ms

    def __call__(self) -> int:
        self.ms += 1
        return self.ms


def identity_of(place: int) -> Identity:
    return Identity.from_seed(bytes([place + 1]) * 32)


def plain_kinds() -> list[Kind]:
    return [PlainKind("directory"), PlainKind("memory"), PlainKind("fact", derived=True)]


@pytest.fixture
def kinds() -> list[Kind]:
    return plain_kinds()


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Families:
    """Makes, opens and at the end closes stores under one directory."""

    def __init__(
        self, root: Path, kinds: list[Kind], clock: Clock, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        self.root = root
        self.random = random
        self.kinds = kinds
        self.clock = clock
        self.config = CONFIG
        self._opened: list[DocumentStore] = []
        self._made = 0

    def __call__(
        self,
        count: int,
        *,
        trusts: Sequence[str] = (),
        config: Config | None = None,
        configs: Sequence[Config | None] = (),
        joined: bool = True,
    ) -> list[DocumentStore]:
        """`count` stores of one family that know of one another; `trusts` of all but the first (default full)."""
        place, self._made = self._made, self._made + 1
        root = self.root / f"family{place}"
        root.mkdir()
        first = root / "store0"
        settings = [configs[i] if i < len(configs) else config for i in range(count)]
        membership.found(
            first,
            identity_of(0),
            self.kinds,
            name="device 0",
            config=settings[0] or CONFIG,
            clock_ms=self.clock,
            random=self.random,
        )
        stores = [self.open(first, 0, config=settings[0])]
        for index in range(1, count):
            trust = trusts[index - 1] if index <= len(trusts) else "full"
            stores.append(self.join(stores[0], index, trust=trust, config=settings[index]))
        if joined:
            for store in stores[1:]:
                send(stores[0], store)
        return stores

    def join(
        self, admitter: DocumentStore, index: int, *, trust: str = "full", config: Config | None = None
    ) -> DocumentStore:
        """One more store, admitted by `admitter`."""
        identity = identity_of(index)
        raw = membership.admit(admitter, identity.device, name=f"device {index}", trust=trust)
        path = admitter.path.parent / f"store{index}"
        settings = config or CONFIG
        membership.join(path, identity, self.kinds, raw, config=settings, clock_ms=self.clock, random=self.random)
        return self.open(path, index, config=config)

    def open(
        self,
        path: Path,
        index: int,
        *,
        config: Config | None = None,
        lease: bool | Path = True,
        kinds: list[Kind] | None = None,
    ) -> DocumentStore:
        """Open the store of device `index`; its lease lies beside it unless told otherwise."""
        place = path.with_name(path.name + ".lease") if lease is True else lease
        store = DocumentStore.open(
            path,
            identity_of(index),
            kinds or self.kinds,
            config=config or CONFIG,
            lease=place or None,
            clock_ms=self.clock,
            random=self.random,
        )
        self._opened.append(store)
        return store

    def reopen(self, store: DocumentStore, *, config: Config | None = None) -> DocumentStore:
        """Close `store` and open it again as the same device."""
        index = next(i for i in range(256) if identity_of(i).device == store.device)
        store.close()
        return self.open(store.path, index, config=config or store.config)

    def close(self) -> None:
        for store in self._opened:
            store.close()


@pytest.fixture
def family(fast_path: Path, kinds: list[Kind], clock: Clock) -> Iterator[Families]:
    families = Families(fast_path, kinds, clock)
    yield families
    families.close()


def send(giver: DocumentStore, taker: DocumentStore, *, bodies: bool = True, max_bytes: int = 1 << 30) -> list[Outcome]:
    """What `taker` lacks of `giver`, collection by collection, and the taker's receipt back. One report each.

    Where the giver no longer holds the entries, a manifest goes first and, with `bodies`, every body it leaves open.
    """
    source, target = StoreReplica(giver), StoreReplica(taker)
    reports = []
    for tag in source.collections(taker.device):
        if not target.may_have(taker.device, tag):
            continue
        have = {(h.device, h.incarnation): h.seq for h in target.heads(tag)}
        gone = [h for h in source.heads(tag) if h.floor > h.seq]  # and of another branch, as a session asks for it
        parted = any(target.hash_at(tag, Place(h.device, h.incarnation, h.seq)) not in (None, h.hash) for h in gone)
        lacks = any(h.floor > have.get((h.device, h.incarnation), 0) + 1 <= h.seq for h in source.heads(tag))
        if parted or lacks or target.wants_manifest(tag):
            raw = source.manifest(tag)
            assert raw is not None, "the giver may not sign manifests"
            target.ingest_manifest(tag, raw, giver.device)
            have = {(h.device, h.incarnation): h.seq for h in target.heads(tag)}
        for head in source.heads(tag):
            here = target.hash_at(tag, Place(head.device, head.incarnation, head.seq))
            if here is not None and here != head.hash:  # a fork: its beginning lies somewhere below
                have[head.device, head.incarnation] = 0
        for gap in target.gaps(tag):
            have[gap.device, gap.incarnation] = min(have[gap.device, gap.incarnation], gap.seq - 1)
        wants = [(h.device, h.incarnation, have.get((h.device, h.incarnation), 0) + 1) for h in source.heads(tag)]
        cursor: int | None = 0
        while cursor is not None:
            runs, cursor = source.read_entries(tag, wants, max_bytes, cursor)
            if runs:
                reports.append(target.deliver(tag, runs, giver.device))
                if (
                    reports[-1].ask
                    and cursor is None
                    and any(seq <= have.get((d, i), 0) for d, i, seq in reports[-1].ask)
                ):
                    for device, incarnation, seq in reports[-1].ask:
                        have[device, incarnation] = min(seq - 1, have.get((device, incarnation), seq))
                    wants, cursor = [*reports[-1].ask], 0
        while bodies and (wanted := target.stubs(tag, 1000)):
            held = [(head.device, head.incarnation, head.seq) for head in source.heads(tag)]
            if not target.ingest_bodies(tag, source.bodies(tag, wanted, 1 << 22), giver.device, held).applied:
                break
        heads = [head.held for head in target.heads(tag)]
        source.acknowledged(taker.device, tag, heads, target.erased(tag))
    return reports


@pytest.fixture(name="send")
def send_fixture() -> Callable[..., list[Outcome]]:
    return send


def exchange(*stores: DocumentStore, rounds: int = 8, bodies: bool = True) -> None:
    """Every pair both ways, until nobody has anything new (new own entries included) or `rounds` are over."""
    before: list[dict[bytes, Any]] = []
    for _ in range(rounds):
        for giver in stores:
            for taker in stores:
                if giver is not taker:
                    send(giver, taker, bodies=bodies)
        now = [store.heads() for store in stores]
        if now == before:
            return
        before = now


@pytest.fixture
def sync() -> Callable[..., None]:
    """``sync(a, b, …)``: see :func:`exchange`."""
    return exchange


def view(store: DocumentStore, kind: str = "memory") -> dict[str, tuple[int, dict[str, Any], dict[str, Any]]]:
    """Every row of `kind` by id: (life, fields, conflicts)."""
    return {row.id: (row.life, row.fields, row.conflicts) for row in store.rows(kind)}


@pytest.fixture(name="view")
def view_fixture() -> Callable[..., dict[str, Any]]:
    return view
