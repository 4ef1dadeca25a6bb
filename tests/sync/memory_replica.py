"""A memory twin of the store: the port that sessions ask, over real signed entries.

Entries are applied causally, held, refused and forked as the receipt rules want it; a "document" is one entry's first
sealed item, so manifests, stubs and bodies can be shown without any document. What is in it counts as durable.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from nacl.signing import SigningKey

from aico_crdt.errors import PeerError
from aico_crdt.feed import (
    GENESIS,
    Entry,
    Head,
    Operation,
    Run,
    cut,
    decode_entry,
    decode_manifest,
    deps_since,
    encode_entry,
    encode_manifest,
    missing,
    verify_entry,
    verify_manifest,
    verify_run,
    winner,
    write_entry,
    write_manifest,
)
from aico_crdt.sync import (
    Acknowledge,
    Body,
    FeedHead,
    Ingest,
    IngestBodies,
    IngestManifest,
    IngestReport,
    Place,
    digest_of,
)

FAMILY, KEY_ID, KEY = b"F" * 16, b"K" * 8, b"k" * 32
Writer = tuple[bytes, bytes]


def tag(number: int) -> bytes:
    return bytes([0xA0 + number]) * 16


def document_of(entry: Entry) -> bytes:
    return blake2b(entry.header.hash, digest_size=16).digest()


@dataclass
class Feed:
    """One chain: entries from `floor`, and the head they end in."""

    floor: int = 1
    seq: int = 0
    hash: bytes = GENESIS
    signature: bytes = bytes(64)
    entries: dict[int, Entry] = field(default_factory=dict)


@dataclass
class Collection:
    feeds: dict[Writer, Feed] = field(default_factory=dict)
    arrived: list[Entry] = field(default_factory=list)
    held: dict[bytes, Entry] = field(default_factory=dict)
    bodies: dict[bytes, bytes | None] = field(default_factory=dict)
    stamps: dict[bytes, int] = field(default_factory=dict)
    erased: tuple[Place, ...] = ()
    last: dict[Writer, Head] = field(default_factory=dict)

    def heads(self) -> dict[Writer, Head]:
        return {name: Head(*name, feed.seq, feed.hash) for name, feed in self.feeds.items() if feed.seq}


class MemoryReplica:
    """One device's store. `seed` makes its key; `shares` says who may have what (default: all, everything)."""

    device_type = "laptop"

    def __init__(
        self,
        seed: int,
        tags: Sequence[bytes] = (tag(0),),
        *,
        family: bytes = FAMILY,
        may_attest: bool = True,
        body_budget: int = 1 << 30,
    ) -> None:
        self.key = SigningKey(bytes([seed]) * 32)
        self.family = family
        self.device = bytes(self.key.verify_key)
        self.incarnation = b"I" * 8
        self.may_attest = may_attest
        self.body_budget = body_budget
        self.tags = list(tags)
        self.shares: Mapping[bytes, Sequence[bytes]] | None = None
        self.random = random.Random(seed)
        self.content = {name: Collection() for name in tags}
        self.notes: dict[tuple[bytes, bytes], dict[Writer, tuple[int, bytes]]] = {}
        self.lacking_notes: dict[tuple[bytes, ...], int] = {}
        self.erased_notes: dict[tuple[bytes, bytes], tuple[Place, ...]] = {}
        self.hlc = 0

    # What a person does

    def write(self, name: bytes, payload: bytes) -> Entry:
        collection = self.content[name]
        own = collection.feeds.setdefault((self.device, self.incarnation), Feed())
        heads = collection.heads()
        self.hlc += 1
        entry = write_entry(
            family=self.family,
            tag=name,
            device=self.device,
            incarnation=self.incarnation,
            seq=own.seq + 1,
            prev=own.hash,
            deps=deps_since(heads, collection.last, (self.device, self.incarnation)),
            hlc=self.hlc,
            key_id=KEY_ID,
            key=KEY,
            erase=(),
            operations=[Operation(f"doc-{self.hlc}", 0, "update", payload)],
            sign=lambda message: self.key.sign(message).signature,
            random=self.random.randbytes,
        )
        collection.last = heads
        self._apply(collection, entry)
        return entry

    def prune(self, name: bytes) -> None:
        """Drop every entry; heads and bodies stay."""
        collection = self.content[name]
        for feed in collection.feeds.values():
            feed.entries.clear()
            feed.floor = feed.seq + 1
        collection.arrived.clear()

    def documents(self, name: bytes) -> dict[bytes, bytes | None]:
        return dict(self.content[name].bodies)

    # Replica

    def collections(self, peer: bytes) -> Sequence[bytes]:
        return [name for name in self.tags if self.may_have(peer, name)]

    def may_have(self, peer: bytes, name: bytes) -> bool:
        return name in self.content and (self.shares is None or name in self.shares.get(peer, ()))

    def digest(self, name: bytes) -> bytes:
        return digest_of(self.heads(name))

    def heads(self, name: bytes) -> tuple[FeedHead, ...]:
        feeds = self.content[name].feeds if name in self.content else {}
        stubs = name in self.content and None in self.content[name].bodies.values()
        return tuple(
            FeedHead(*writer, feed.floor, feed.seq, feed.hash, feed.floor - 1 if stubs else 0)
            for writer, feed in sorted(feeds.items())
            if feed.seq
        )

    def gaps(self, name: bytes) -> Sequence[Place]:
        return ()

    def hash_at(self, name: bytes, place: Place) -> bytes | None:
        feed = self.content[name].feeds.get(place[:2])
        entry = feed.entries.get(place.seq) if feed else None
        return entry.header.hash if entry else None

    def read_entries(
        self, name: bytes, wants: Sequence[Place], max_bytes: int, after: int
    ) -> tuple[list[list[bytes]], int | None]:
        starts = {place[:2]: place.seq for place in wants}
        arrived = self.content[name].arrived
        wanted = [
            (number, entry)
            for number, entry in enumerate(arrived[after:], after + 1)
            if entry.header.seq >= starts.get(entry.header.feed[1:], 1 << 63)
        ]
        runs = cut((entry for _, entry in wanted), max_bytes)
        taken = sum(len(run.entries) for run in runs)
        following = wanted[taken - 1][0] if taken < len(wanted) else None
        return [[encode_entry(entry) for entry in run.entries] for run in runs], following

    def manifest(self, name: bytes) -> bytes | None:
        if not self.may_attest:
            return None
        collection = self.content[name]
        manifest = write_manifest(
            family=self.family,
            tag=name,
            device=self.device,
            hlc=self.hlc,
            heads=[(*name, feed.seq, feed.hash, feed.signature) for name, feed in collection.feeds.items() if feed.seq],
            documents=[(key, 0, key + key, collection.stamps[key], bytes(32)) for key in collection.bodies],
            tombstones=(),
            sign=lambda message: self.key.sign(message).signature,
        )
        return encode_manifest(manifest)

    def bodies(self, name: bytes, keys: Sequence[bytes], max_bytes: int) -> list[Body]:
        found: list[Body] = []
        for key in keys:
            sealed = self.content[name].bodies.get(key)
            if sealed is not None:
                if found and sum(len(body.sealed) for body in found) + len(sealed) > max_bytes:
                    break
                found.append(Body(key, 0, sealed))
        return found

    def wants_manifest(self, name: bytes) -> bool:
        return False

    def stubs(self, name: bytes, limit: int) -> list[bytes]:
        collection = self.content[name]
        stubs = [key for key, body in collection.bodies.items() if body is None]
        return sorted(stubs, key=lambda key: -collection.stamps[key])[:limit]

    def wants_bodies(self, name: bytes) -> int:
        return self.body_budget

    def erased(self, name: bytes) -> Sequence[Place]:
        return self.content[name].erased if name in self.content else ()

    # Effects

    def carry_out(
        self, effect: Ingest | IngestManifest | IngestBodies | Acknowledge, source: bytes
    ) -> IngestReport | None:
        if isinstance(effect, Ingest):
            return self.ingest(effect.tag, effect.runs)
        if isinstance(effect, IngestManifest):
            return self.ingest_manifest(effect.tag, effect.raw)
        if isinstance(effect, IngestBodies):
            return self.ingest_bodies(effect.tag, effect.bodies)
        self.acknowledged(source, effect)
        return None

    def acknowledged(self, peer: bytes, effect: Acknowledge) -> None:
        notes = self.notes.setdefault((peer, effect.tag), {})
        for device, incarnation, seq, digest, lacking in effect.heads:
            notes[device, incarnation] = (seq, digest)
            self.lacking_notes[peer, effect.tag, device, incarnation] = lacking
        named = {head[:2] for head in effect.heads}
        erased = tuple(place for place in effect.erased if place[:2] in named)  # of no known head it says nothing
        if erased:
            self.erased_notes[peer, effect.tag] = erased

    def ingest(self, name: bytes, runs: Sequence[Sequence[bytes]]) -> IngestReport:
        collection = self.content[name]
        counts = {"applied": 0, "held": 0, "rejected": 0, "duplicates": 0}
        asks: list[Place] = []
        named: set[Writer] = set()
        for raws in runs:
            try:
                entries = [decode_entry(raw) for raw in raws]
                verify_run(entries, None)
                if any(entry.header.tag != name or entry.header.family != self.family for entry in entries):
                    raise PeerError("An entry of another collection or family.")
            except PeerError:
                counts["rejected"] += len(raws)
                continue
            for entry in entries:
                named.add(entry.header.feed[1:])
                counts[self._take(collection, entry, asks)] += 1
        counts["applied"] += self._retry(collection, named)
        heads = tuple(head for head in self.heads(name) if head[:2] in named)
        return IngestReport(**counts, heads=heads, ask=tuple(asks))

    def _take(self, collection: Collection, entry: Entry, asks: list[Place]) -> str:
        header = entry.header
        feed = collection.feeds.setdefault(header.feed[1:], Feed())
        if header.seq <= feed.seq:
            known = feed.entries.get(header.seq)
            if known is None or known.header.hash == header.hash:
                return "duplicates"
            verify_entry(entry)
            if winner(known.header.hash, header.hash) == known.header.hash:
                return "rejected"
            self._void(collection, feed, header.seq)
        if header.seq == feed.seq + 1 and header.prev != feed.hash:
            asks.append(Place(*header.feed[1:], feed.floor))
            return "rejected"
        lacking = missing(header, collection.heads())
        if lacking:
            collection.held[header.hash] = entry
            heads = collection.heads()
            for head in lacking:
                own = heads.get(head[:2])
                asks.append(Place(*head[:2], own.seq + 1 if own else 1))
            return "held"
        self._apply(collection, entry)
        return "applied"

    def _retry(self, collection: Collection, named: set[Writer]) -> int:
        applied = 0
        while True:
            heads = collection.heads()
            for key, entry in list(collection.held.items()):
                header = entry.header
                feed = collection.feeds[header.feed[1:]]
                if header.seq <= feed.seq or (header.seq == feed.seq + 1 and header.prev != feed.hash):
                    del collection.held[key]
                elif not missing(header, heads):
                    del collection.held[key]
                    self._apply(collection, entry)
                    named.add(header.feed[1:])
                    applied += 1
                    break
            else:
                return applied

    def _void(self, collection: Collection, feed: Feed, seq: int) -> None:
        lost = [feed.entries.pop(number) for number in range(seq, feed.seq + 1)]
        before = feed.entries.get(seq - 1)
        feed.hash, feed.signature = lost[0].header.prev, before.signature if before else bytes(64)
        feed.seq = seq - 1
        for entry in lost:
            collection.arrived.remove(entry)
            del collection.bodies[document_of(entry)]

    def _apply(self, collection: Collection, entry: Entry) -> None:
        header = entry.header
        feed = collection.feeds.setdefault(header.feed[1:], Feed())
        assert (header.seq, header.prev) == (feed.seq + 1, feed.hash), "causality is broken"
        feed.seq, feed.hash, feed.signature = header.seq, header.hash, entry.signature
        feed.entries[header.seq] = entry
        collection.arrived.append(entry)
        collection.bodies[document_of(entry)] = entry.items[0]
        collection.stamps[document_of(entry)] = header.hlc

    def ingest_manifest(self, name: bytes, raw: bytes) -> IngestReport:
        collection = self.content[name]
        try:
            manifest = decode_manifest(raw)
            verify_manifest(manifest)
            if manifest.tag != name or manifest.family != self.family:
                raise PeerError("A manifest of another collection or family.")
        except PeerError:
            return IngestReport(rejected=1)
        for head in manifest.heads:
            feed = collection.feeds.setdefault(head[:2], Feed())
            if head.seq > feed.seq:
                feed.entries.clear()
                feed.floor, feed.seq, feed.hash, feed.signature = head.seq + 1, head.seq, head.hash, head.signature
        collection.arrived = [
            entry
            for entry in collection.arrived
            if entry.header.seq in collection.feeds[entry.header.feed[1:]].entries
        ]
        for document in manifest.documents:
            collection.bodies.setdefault(document.key, None)
            collection.stamps.setdefault(document.key, document.stamp)
        named: set[Writer] = set()
        applied = self._retry(collection, named)
        return IngestReport(applied=1 + applied, heads=self.heads(name))

    def ingest_bodies(self, name: bytes, bodies: Sequence[Body]) -> IngestReport:
        stubs = self.content[name].bodies
        applied = 0
        for body in bodies:
            if body.key in stubs and stubs[body.key] is None and body.sealed:
                stubs[body.key] = body.sealed
                applied += 1
        return IngestReport(applied=applied, rejected=len(bodies) - applied)


def runs_of(entries: Sequence[Entry]) -> list[list[bytes]]:
    """Entries as a shell hands them to `Committed`."""
    runs: list[Run] = cut(entries, 1 << 40)
    return [[encode_entry(entry) for entry in run.entries] for run in runs]
