"""One simulated device: its store, its processes, its clock, its deaths, and what it holds durably.

What it holds is noted from what passed over the wire and was committed, never read back from the store: the store is
held against it.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from aico_crdt import clock
from aico_crdt.config import Config
from aico_crdt.errors import PeerError
from aico_crdt.feed import decode_entry
from aico_crdt.feed.exchange import IngestReport
from aico_crdt.feed.exchange import Place as FeedPlace
from aico_crdt.feed.manifest import decode_manifest
from aico_crdt.store import DocumentStore, StoreReplica
from aico_crdt.store.directory import LOCAL
from aico_crdt.sync.effect import Delivery, Ingest, IngestManifest
from aico_crdt.trust import Identity
from property_tests.model import Entry
from simulation.finding import Crash, Finding
from simulation.kinds import KINDS
from simulation.network import of_a_later_release, of_an_unknown_type
from simulation.oracle import Oracle, Written
from simulation.shell import Shell, Talk

CONFIG: Final = Config(
    map_size_bytes=64 << 20, window_bytes=256 << 10, chunk_bytes=16 << 10, digest_interval_ms=20_000
)


@dataclass(slots=True)
class Held:
    """What is durable on a device: it goes back with its disk.

    Attributes:
        received: every entry that came, was written, or is covered by a manifest, by hash.
        content: those that came or were written, with all they say, and were applied.
        offered: those that came and were not applied yet.
        applied: those that are in force here.
        bounds: below which stamp the device may not write any more, having applied an entry: the entry's, or what the
            local clock was ready to follow.
        own: the newest own entry noted, by collection tag and incarnation.
    """

    received: set[str] = field(default_factory=set)
    content: set[str] = field(default_factory=set)
    offered: set[str] = field(default_factory=set)
    applied: set[str] = field(default_factory=set)
    bounds: dict[str, int] = field(default_factory=dict)
    own: dict[tuple[bytes, bytes], int] = field(default_factory=dict)

    def copy(self) -> Held:
        return Held(
            set(self.received), set(self.content), set(self.offered), set(self.applied), dict(self.bounds),
            dict(self.own),
        )  # fmt: skip


class Surroundings(Protocol):
    """What a device knows of its world."""

    counts: Counter[str]
    oracle: Oracle

    @property
    def now_ms(self) -> int: ...

    def random_bytes(self, count: int) -> bytes: ...

    def carry(self, source: Device, talk: Talk, raw: bytes) -> None:
        """Put a message on its way."""

    def hang_up(self, link: int, reason: str) -> None:
        """Close a link at both ends, soon."""

    def recheck(self, device: Device) -> None:
        """Close the links that `device` may not keep."""

    def chance(self, of: float) -> bool: ...


class Device:
    """A device of the family. `number` names it; clones share an identity and not a number."""

    def __init__(
        self, world: Surroundings, number: int, identity: Identity, path: Path, lease: Path | None, trust: str
    ) -> None:
        self.world = world
        self.number = number
        self.identity = identity
        self.path = path
        self.lease = lease
        self.trust = trust
        self.offset_ms = 0
        self.formats: Sequence[int] = (1,)
        self.later = False
        self.frugal = False
        self.revoked = False
        self.set_back = False
        self.held = Held()
        self.snapshot: tuple[Path, Held] | None = None
        self.backup: tuple[Path, Held] | None = None
        self.stores: list[DocumentStore] = []
        self.shell: Shell | None = None
        self.fuse: int | None = None
        self.answer_fuse = False
        self.intent: Written | None = None
        self.ticked_ms = 0
        self.down_until_ms = 0

    def __repr__(self) -> str:
        return f"device {self.number}"

    # Time, chance, death

    def clock_ms(self) -> int:
        self._burn()
        return self.physical_ms

    @property
    def physical_ms(self) -> int:
        return max(0, self.world.now_ms + self.offset_ms)

    def random(self, count: int) -> bytes:
        self._burn()
        return self.world.random_bytes(count)

    def _burn(self) -> None:
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse <= 0:
                raise Crash

    @property
    def up(self) -> bool:
        return bool(self.stores)

    @property
    def store(self) -> DocumentStore:
        return self.stores[0]

    def start(self) -> None:
        """The first process opens the store; its shell has no links yet."""
        self.fuse, self.answer_fuse = None, False
        self.stores = [self._open()]
        self.shell = Shell(
            self.store, CONFIG, self.world.random_bytes, lambda: self.world.now_ms, self, self.formats
        )
        self.shell.replica.frugal = self.frugal
        self.note_own()
        self.intent = None

    def another_process(self) -> None:
        self.stores.append(self._open())

    def _open(self) -> DocumentStore:
        return DocumentStore.open(
            self.path, self.identity, KINDS, config=CONFIG, lease=self.lease, clock_ms=self.clock_ms,
            random=self.random, allow_network_fs=True,
        )  # fmt: skip

    def stop(self) -> None:
        """All processes are gone, as by kill -9: an LMDB transaction under way was never there."""
        for store in self.stores:
            store.close()
        self.stores, self.shell, self.fuse, self.answer_fuse = [], None, None, False

    # Links

    def knows(self, other: Device) -> bool:
        """Whether that is a member, as far as is known here."""
        return self.store.directory.family.may_connect(other.identity.device)

    def open_link(self, link: int, peer: bytes) -> None:
        assert self.shell is not None
        self.shell.open(link, peer)

    def close_link(self, link: int) -> None:
        assert self.shell is not None
        self.shell.close(link)

    def receive(self, link: int, raw: bytes) -> None:
        assert self.shell is not None
        self.shell.receive(link, raw)

    def tick(self) -> None:
        assert self.shell is not None
        self.shell.tick()
        self.note_own({})

    # The disk

    def take_snapshot(self, place: Path) -> None:
        if self.snapshot is not None:
            shutil.rmtree(self.snapshot[0])
        shutil.copytree(self.path, place, ignore=shutil.ignore_patterns("wake"))
        self.snapshot = (place, self.held.copy())

    def go_back(self) -> None:
        """The disk is as it was at the last snapshot. The device must be down."""
        assert self.snapshot is not None
        place, held = self.snapshot
        shutil.rmtree(self.path)
        shutil.copytree(place, self.path)
        (self.path / "wake").mkdir()
        self.went_back(held)

    def went_back(self, held: Held) -> None:
        """What is durable here is what was then."""
        self.held, self.set_back, self.intent = held.copy(), True, None

    # What is durable

    def note_own(self, written: Written | None = None) -> dict[bytes, frozenset[str]]:
        """Tell the oracle what this device has written since the last look; by tag, hashes of what was asked for."""
        store, held, oracle = self.store, self.held, self.world.oracle
        replica = StoreReplica(store)
        written = written if written is not None else self.intent
        mine: dict[bytes, frozenset[str]] = {}
        for tag, heads in store.heads().items():
            for device, incarnation, seq, _ in heads:
                place = (tag, incarnation)
                if device != store.device or held.own.get(place, 0) >= seq:
                    continue
                if store.directory.collections[tag].space == LOCAL:
                    continue
                start = held.own.get(place, 0) + 1
                runs, _ = replica.read_entries(tag, [FeedPlace(device, incarnation, start)], 1 << 30)
                for run in runs:
                    for raw in run:
                        entry = decode_entry(raw)
                        if entry.header.hash.hex() in oracle.told:
                            continue  # written before the disk went back, or by a clone: it has come from a peer
                        asked = written.get(tag) if written is not None and entry.items else ()
                        told = oracle.tell(store, entry, asked if written is not None else None)
                        self._check_stamp(told)
                        held.received.add(told.hash)
                        held.content.add(told.hash)
                        held.applied.add(told.hash)
                        held.bounds[told.hash] = told.hlc
                        if asked:
                            mine[tag] = mine.get(tag, frozenset()) | {told.hash}
                held.own[place] = seq
        return mine

    def _check_stamp(self, entry: Entry) -> None:
        """A stamp is above all its author had applied, as far as its clock was ready to follow."""
        for link in entry.links:
            if entry.hlc <= self.held.bounds.get(link, -1):
                raise Finding("a stamp below what its author had seen", f"{self}, seq {entry.seq}")

    def took(self, raws: Sequence[bytes]) -> None:
        """Entries came and the commit is done. Where the store says it stands now, it must be able to."""
        self.note_own({})  # first what it wrote itself in answer: a witness, a lost branch again
        for raw in raws:
            try:
                told = self.world.oracle.told.get(decode_entry(raw).header.hash.hex())
            except PeerError:
                continue
            if told is not None:
                self.held.received.add(told.hash)
                self.held.offered |= {told.hash} - self.held.applied
        self.advance()

    def advance(self) -> None:
        """Note what is applied by where the heads stand now."""
        held, oracle = self.held, self.world.oracle
        fresh: list[Entry] = []
        for head in [head for heads in self.store.heads().values() for _, _, _, head in heads]:
            if head.hex() not in oracle.told:
                raise Finding("a head that nobody wrote", f"{self}")
            for entry in oracle.chain(head.hex()):
                if entry.hash in held.applied:
                    break
                if entry.hash not in held.received:
                    raise Finding("a head moved over an entry that never came", f"{self}, seq {entry.seq}")
                fresh.append(entry)
        now = {entry.hash for entry in fresh} | held.applied
        ceiling = clock.stamp(self.physical_ms + CONFIG.drift_ms)
        for entry in fresh:
            for link in sorted(entry.links - now):
                if not self._void(oracle.told[link]):
                    raise Finding("applied without what it stands on", f"{self}, seq {entry.seq}")
            held.bounds[entry.hash] = min(entry.hlc, ceiling)
        held.content |= held.offered & now
        held.offered -= now
        held.applied = now

    def _void(self, entry: Entry) -> bool:
        """Whether another entry stands in force at that place."""
        told = self.world.oracle.told
        return any(told[h].feed == entry.feed and told[h].seq == entry.seq for h in self.held.applied)

    # shell.Watcher

    def send(self, talk: Talk, raw: bytes) -> None:
        if self.later:
            if self.world.chance(0.05):
                self.world.carry(self, talk, of_an_unknown_type())
            raw = of_a_later_release(raw)
            self.world.counts["later release"] += 1
        self.world.carry(self, talk, raw)

    def drop(self, talk: Talk, code: str) -> None:
        if code == "version":
            self.world.counts["version refused"] += 1
        self.world.hang_up(talk.link, code)

    def family_changed(self) -> None:
        self.world.recheck(self)

    def before_answer(self) -> None:
        if self.answer_fuse:
            self.world.counts["crash before the answer"] += 1
            raise Crash

    def told(self, kind: str) -> None:
        self.world.counts[f"session: {kind}"] += 1

    def ingested(self, effect: Delivery, report: IngestReport) -> None:
        if isinstance(effect, Ingest):
            self.took([raw for run in effect.runs for raw in run])
        elif isinstance(effect, IngestManifest) and report.applied:
            self.note_own({})
            self.world.counts["manifest taken"] += 1
            for head in decode_manifest(effect.raw).heads:
                for entry in self.world.oracle.chain(head.hash.hex()):
                    if entry.hash not in self.held.received or entry.hash not in self.held.applied:
                        self.held.received.add(entry.hash)
                        self.held.applied.add(entry.hash)
                    else:
                        break
            self.advance()
            assert self.shell is not None
            self.world.counts["stub seen"] += bool(self.shell.replica.stubs(effect.tag, 1))
