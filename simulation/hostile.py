"""A member that writes what it likes: entries well signed, which no honest device may apply.

Each comes in a feed of its own (a fresh incarnation of some member), so that nobody's honest feed is harmed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from aico_crdt import clock, ids
from aico_crdt.crdt import Document
from aico_crdt.feed import Entry, Operation, encode_entry, item_mark, write_entry
from aico_crdt.store import StoreReplica
from simulation.device import Device
from simulation.finding import Finding

if TYPE_CHECKING:
    from simulation.world import World

_GENESIS: Final = bytes(32)


def attack(world: World, taker: Device, chance: random.Random) -> str:
    """Hand `taker` an entry that must not change what it shows.

    Raises:
        Finding: it did.
    """
    family = taker.store.directory.family
    authors = [d for d in world.devices if family.may_connect(d.identity.device)]
    if not authors:
        return "nobody attacks"
    author, victim = chance.choice(authors), chance.choice(world.devices)
    name, make = chance.choice(_ATTACKS)
    entry = make(world, taker, author, victim, chance)
    world.hostile.add(entry.header.hash.hex())
    before = taker.store.content_hash()
    outcome = StoreReplica(taker.store).deliver(entry.header.tag, [[encode_entry(entry)]], author.identity.device)
    if outcome.applied or taker.store.content_hash() != before:
        raise Finding("a hostile entry was applied", f"{name}, by {taker}")
    taker.note_own({})
    world.counts["hostile entries"] += 1
    return f"{taker} is attacked ({name}) and stands"


def _entry(
    world: World, taker: Device, author: Device, document: str, payload: bytes, incarnation: bytes,
    *, mark: bytes | None = None,
) -> Entry:  # fmt: skip
    directory = taker.store.directory
    collection = directory.find("family", "memory")
    assert collection is not None
    space = directory.spaces["family"]
    device = author.identity.device
    key = space.document_key(collection.kind, document)
    right = item_mark(space.tag_key, key, 1, device, incarnation, 1, 0)
    return write_entry(
        family=directory.family.id, tag=collection.tag, device=device, incarnation=incarnation, seq=1,
        prev=_GENESIS, deps=(), hlc=clock.stamp(world.now_ms), key_id=space.key_id, key=space.key, erase=(),
        operations=[Operation(document, 1, "update", payload)], marks=[mark or right], sign=author.identity.sign,
        random=world.random_bytes,
    )  # fmt: skip


def _update(device: bytes, incarnation: bytes, world: World) -> bytes:
    """What bears a memory, as that writer."""
    document = Document.new(ids.client_id(device, incarnation), ids.writer(device, incarnation), derived=True)
    document.bear({"content": "an attack"}, clock.stamp(world.now_ms))
    update = document.take_update()
    assert update is not None
    return update


def _foreign_client(world: World, taker: Device, author: Device, victim: Device, chance: random.Random) -> Entry:
    """Operations under the client id of another device's present incarnation."""
    life = victim.store.incarnation if victim.up else b"victim!!"
    payload = _update(victim.identity.device, life, world)
    # Of a dead life nothing is looked at, so nothing is refused: a document that lives, or one that never was.
    rows = [row.id for row in taker.store.rows("memory", spaces=["family"]) if row.life == 1 and not row.stub]
    return _entry(world, taker, author, chance.choice([*rows, "x"]), payload, world.random_bytes(8))


def _garbage(world: World, taker: Device, author: Device, victim: Device, chance: random.Random) -> Entry:
    """An update cut short, or with bytes behind its end."""
    incarnation = world.random_bytes(8)
    payload = _update(author.identity.device, incarnation, world)
    payload = payload[: -chance.randrange(1, 5)] if chance.random() < 0.5 else payload + b"\0"
    return _entry(world, taker, author, f"x{world.random.randrange(1 << 30)}", payload, incarnation)


def _other_mark(world: World, taker: Device, author: Device, victim: Device, chance: random.Random) -> Entry:
    """An item whose mark names another document."""
    incarnation = world.random_bytes(8)
    payload = _update(author.identity.device, incarnation, world)
    return _entry(world, taker, author, f"x{world.random.randrange(1 << 30)}", payload, incarnation, mark=b"\7" * 16)


def _other_signature(world: World, taker: Device, author: Device, victim: Device, chance: random.Random) -> Entry:
    """Bytes that the author never signed."""
    incarnation = world.random_bytes(8)
    payload = _update(author.identity.device, incarnation, world)
    entry = _entry(world, taker, author, f"x{world.random.randrange(1 << 30)}", payload, incarnation)
    return replace(entry, signature=bytes(64))


_ATTACKS: Final[tuple[tuple[str, Callable[[World, Device, Device, Device, random.Random], Entry]], ...]] = (
    ("a foreign client id", _foreign_client),
    ("a broken update", _garbage),
    ("another document's mark", _other_mark),
    ("a forged signature", _other_signature),
)
