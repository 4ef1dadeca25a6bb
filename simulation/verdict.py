"""What must hold once everybody agrees. Each check is of one promise, and none trusts another."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import msgpack

from aico_crdt.companion.kinds import READING
from aico_crdt.store import DocumentStore
from aico_crdt.store.directory import LOCAL
from aico_crdt.store.holds import unseal_hold
from aico_crdt.store.prune import compact
from aico_crdt.store.verify import verify
from property_tests.model import DIRECTORY, Entry, Replica, applied, forgotten, forks, held, shows
from property_tests.model.entry import Feed
from simulation.device import CONFIG, Device
from simulation.finding import Finding
from simulation.healing import live
from simulation.kinds import RECALLS, TAGS
from simulation.ledger import Note, Place, Shown
from simulation.oracle import reads
from simulation.workload import REGISTERS, seen

if TYPE_CHECKING:
    from simulation.world import World

KINDS: Final = ("conversation", "memory", "emotion")
SPACES: Final = ("own", "family")
BORN_WITH: Final = (*REGISTERS, "conversation_id", "role", "text", "timestamp")


def judge(world: World) -> None:
    """Every check, on every device that belongs.

    Raises:
        Finding: the first that fails.
    """
    devices = live(world)
    entries = frozenset(
        world.oracle.told[own_hash] for device in devices for own_hash in device.held.received
    )
    for device in devices:
        same_as(world, devices[0], device)
        nothing_waits(device, world, entries)
    force = applied(entries)
    void = forks(entries)
    acknowledged(world, devices, force, void)
    for device in devices:
        heads_as_modelled(device, force)
        if not world.oracle.guessed:
            rows_as_modelled(device, entries)
    for device in devices:
        report = verify(device.store)
        if not report.clean:
            raise Finding("verify finds damage", f"{device}: {report.problems[0].what}")


# Equality


def same_as(world: World, one: Device, other: Device) -> None:
    """Byte-equal content in every space that both read, and equal rows."""
    readable = one.store.directory.spaces.keys() & other.store.directory.spaces.keys()
    spaces = [space for space in SPACES if space in readable]
    for space in spaces:
        if one.store.content_hash(spaces=[space]) != other.store.content_hash(spaces=[space]):
            raise Finding("content differs", f"{one} and {other} in {space}")
        for kind in KINDS:
            a, b = (_rows(device.store, kind, space) for device in (one, other))
            if a != b:
                raise Finding("rows differ", f"{one} and {other} in {space}/{kind}")


def _rows(store: DocumentStore, kind: str, space: str) -> dict[str, Any]:
    return {
        row.id: (row.life, row.fields, row.conflicts, row.hlc, row.stub) for row in store.rows(kind, spaces=[space])
    }


# What waits


def nothing_waits(device: Device, world: World, entries: frozenset[Entry]) -> None:
    """What still waits here, the model holds as well; and it goes when its time is over."""
    there = waiting(device.store)
    due = {entry.hash for entry in held(entries)}
    for own_hash in sorted(there - due - world.hostile):
        entry = world.oracle.told.get(own_hash)
        raise Finding("an entry waits for nothing", f"{device}, seq {entry.seq if entry else '?'}")
    if len(there) > CONFIG.hold_entries:
        raise Finding("more waits than may", f"{device}")
    if there:
        device.offset_ms += 2 * (CONFIG.hold_age_s + 1) * 1000  # it may have begun under a clock that was ahead
        compact(device.store)
        if waiting(device.store):
            raise Finding("what waits never expires", f"{device}")


def waiting(store: DocumentStore) -> set[str]:
    with store.reading() as (core, records):
        return {
            msgpack.unpackb(unseal_hold(core, records, key, value))[1].hex() for key, value in records.scan(b"H")
        }


# What was acknowledged


def acknowledged(
    world: World, devices: list[Device], force: frozenset[Entry], void: frozenset[Entry]
) -> None:
    """Hold the ledger against what a full device shows, and a limited one in what it may read."""
    content = frozenset().union(*(device.held.content for device in devices))
    told = {entry.hash for entry in force | void} & content
    doubtful = {d.number for d in world.devices if d.set_back or d.revoked or d not in devices}

    def binds(note: Note) -> bool:
        return note.answered and (note.device not in doubtful or bool(note.hashes & told))

    full = next(device for device in devices if device.trust == "full")
    world.ledger.check(shown(full), binds)


def shown(device: Device) -> dict[Place, Shown]:
    found = {}
    for kind in KINDS:
        for row in device.store.rows(kind):
            values: dict[str, frozenset[str]] = {name: seen(row, name) for name in BORN_WITH if name in row.fields}
            if kind == "emotion":
                values[READING] = frozenset(repr(value) for _, _, value in row.get("readings", ()))
            found[Place(kind, row.id)] = Shown(
                row.life, values, frozenset(row.get(TAGS, ())), row.get(RECALLS, 0), row.get("body", "")
            )
    return found


# The model


def heads_as_modelled(device: Device, force: frozenset[Entry]) -> None:
    """Exactly what the model has in force is in force here."""
    collections = device.store.directory.collections
    directory = device.store.directory.directory.tag
    visible = {
        DIRECTORY if tag == directory else tag.hex() for tag in collections if collections[tag].space != LOCAL
    }
    expected: dict[Feed, int] = {}
    for entry in force:
        if entry.collection in visible:
            expected[entry.feed] = max(entry.seq, expected.get(entry.feed, 0))
    found = {
        Feed(DIRECTORY if tag == directory else tag.hex(), author.hex(), incarnation.hex()): seq
        for tag, feeds in device.store.heads().items()
        for author, incarnation, seq, _ in feeds
        if collections[tag].space != LOCAL
    }
    for feed in sorted(expected.keys() | found.keys()):
        if expected.get(feed, 0) != found.get(feed, 0):
            detail = f"{device}: {found.get(feed, 0)} of a feed, {expected.get(feed, 0)} by the model"
            raise Finding("another set of entries is in force than in the model", detail)


def rows_as_modelled(device: Device, entries: frozenset[Entry]) -> None:
    """Rows, lives and tombstones are what the model makes of all entries."""
    store = device.store
    model = Replica(entries)
    expected = {
        (collection, document): (found.life, reads(found)) for (collection, document), found in shows(model).items()
    }
    there: dict[tuple[str, str], tuple[int, dict[str, Any]]] = {}
    for kind in KINDS:
        for row in store.rows(kind):
            collection = store.directory.find(row.space, kind)
            assert collection is not None
            values: dict[str, Any] = {name: set(seen(row, name)) for name in BORN_WITH if name in row.fields}
            if row.get(TAGS):
                values[TAGS] = set(row[TAGS])
            if row.get(RECALLS):
                values[RECALLS] = row[RECALLS]
            if row.get("body"):
                values["text"] = set(row["body"])
            for writer, _, value in row.get("readings", ()):
                values.setdefault(READING, {})[writer] = {repr(value)}
            there[collection.tag.hex(), row.id] = (row.life, values)
    readable = {tag.hex() for tag in store.directory.collections}
    for key in sorted(there.keys() | {key for key in expected if key[0] in readable}):
        if there.get(key) != expected.get(key):
            raise Finding("a row is not what the model makes of its entries", _difference(device, key, there, expected))
    _tombstones(device, forgotten(model), readable)


def _difference(device: Device, key: tuple[str, str], there: Any, expected: Any) -> str:
    here, due = there.get(key), expected.get(key)
    if here is None or due is None or here[0] != due[0]:
        return f"{device}: {key[1]} is {here and here[0]}, life {due and due[0]} by the model"
    names = [name for name in sorted({*here[1], *due[1]}) if here[1].get(name) != due[1].get(name)]
    return f"{device}: {key[1]}, {names[0]}: {here[1].get(names[0])}, {due[1].get(names[0])} by the model"


def _tombstones(device: Device, dead: dict[tuple[str, str], int], readable: set[str]) -> None:
    store = device.store
    expected: dict[int, dict[bytes, int]] = defaultdict(dict)
    for (tag, document), life in dead.items():
        if tag in readable:
            collection = store.directory.collections[bytes.fromhex(tag)]
            key = store.directory.spaces[collection.space].document_key(collection.kind, document)
            expected[collection.number][key] = life
    with store.reading() as (_, records):
        found: dict[int, dict[bytes, int]] = defaultdict(dict)
        for key, value in records.scan(b"T"):
            found[int.from_bytes(key[1:3], "big")][key[3:]] = msgpack.unpackb(value)[0]
    if found != expected:
        raise Finding("other tombstones than the model has", f"{device}")


