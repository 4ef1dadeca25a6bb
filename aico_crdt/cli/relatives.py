"""The family's devices as one of them sees the others: who they are, when they were heard, what they lack.

Everything here reads one snapshot and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aico_crdt.cli import naming
from aico_crdt.store import DocumentStore, layout, rows
from aico_crdt.store.core import Core
from aico_crdt.store.receipts import held, last_heard_ms
from aico_crdt.store.records import Collection, FeedRecord, Records
from aico_crdt.trust import Member


@dataclass(frozen=True, slots=True)
class Device:
    """One member and what is known of it. `unacknowledged`: entries held here that it has not said it holds."""

    member: Member
    this: bool
    admitted_by: str
    last_heard_ms: int
    unacknowledged: int
    profile: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        member = self.member
        return {
            "device": member.device,
            "name": member.name,
            "trust": member.trust,
            "device_type": member.device_type,
            "current": not member.revoked,
            "this": self.this,
            "admitted_by": member.admitted_by,
            "last_heard_ms": self.last_heard_ms or None,
            "unacknowledged": self.unacknowledged,
            "profile": dict(self.profile),
        }


def devices(store: DocumentStore) -> list[Device]:
    """Every device that is or was of the family, senior first."""
    with store.reading() as (core, records):
        family = core.directory.family
        found = []
        for member in sorted(family.members.values(), key=lambda member: member.rank):
            heard = last_heard_ms(records, member.device)
            behind = 0
            if member.device != store.device and not member.revoked:
                behind = sum(_behind(records, c, member.device) for c in _shared(core, member.device))
            found.append(
                Device(
                    member,
                    member.device == store.device,
                    naming.name_of(store, member.admitted_by),
                    heard,
                    behind,
                    _profile(core, records, member.device),
                )
            )
    return found


def _shared(core: Core, device: bytes) -> list[Collection]:
    return [c for c in core.directory.collections.values() if core.directory.may_have(device, c)]


def _behind(records: Records, collection: Collection, device: bytes) -> int:
    """Entries of one collection held here that `device` has not acknowledged; its own need no word of it."""
    lacking = 0
    for key, value in records.scan(layout.feed_prefix(collection.number)):
        feed = FeedRecord.unpack(value)
        if key[3:35] != device:
            lacking += max(0, feed.seq - held(records, device, feed.number).seq)
    return lacking


def _profile(core: Core, records: Records, device: bytes) -> Mapping[str, Any]:
    collection = core.directory.directory
    key = core.directory.spaces[collection.space].document_key(collection.kind, device.hex())
    row = rows.read(core, records, collection, key)
    return {} if row is None else row.fields
