"""The family and the spaces as this store knows them: a fold over the statements in its directory collection.

Statements are few and never pruned, so the fold starts from all of them whenever one arrives.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Final

import msgpack

from aico_crdt.store import layout, sealing
from aico_crdt.store.kind import Kind
from aico_crdt.store.records import Collection, Records
from aico_crdt.trust import Family, Identity, Record, Space, fold, may_read

DIRECTORY: Final = "directory"
LOCAL: Final = "local"


@dataclass(frozen=True, slots=True)
class Directory:
    """Who belongs to the family and which collections this device can read. A value: replaced, never changed.

    `spaces` by name; `collections` by tag in sync order (kinds in their order, within one kind the wider audience
    first); `statements` is the counter it was folded at.
    """

    family: Family
    spaces: Mapping[str, Space]
    collections: Mapping[bytes, Collection]
    statements: int

    @property
    def directory(self) -> Collection:
        """The collection that holds statements and device profiles."""
        return next(iter(self.collections.values()))

    def find(self, space: str, kind: str) -> Collection | None:
        for collection in self.collections.values():
            if collection.space == space and collection.kind == kind:
                return collection
        return None

    def of_kind(self, kind: str) -> list[Collection]:
        """Every collection of `kind` that this device can read."""
        return [c for c in self.collections.values() if c.kind == kind]

    def may_have(self, device: bytes, collection: Collection) -> bool:
        """Whether `device` is a current member that may read `collection`."""
        trust = self.family.trust_of(device)
        return trust is not None and collection.space != LOCAL and may_read(collection.space, trust)

    def readers(self, collection: Collection) -> list[bytes]:
        """Current members that may read `collection`, this device included when it is one."""
        return [m.device for m in self.family.current() if self.may_have(m.device, collection)]


def collections_of(
    spaces: Iterable[Space], kinds: Sequence[Kind], numbers: Mapping[bytes, int]
) -> dict[bytes, Collection]:
    """Every (space, kind) with its tag: directory first, then kinds in order; only those in `numbers`."""
    found: dict[bytes, Collection] = {}
    for kind, space in pairs(spaces, kinds):
        tag = space.tag(kind)
        if tag in numbers:
            found[tag] = Collection(numbers[tag], tag, space.name, kind)
    return found


def pairs(spaces: Iterable[Space], kinds: Sequence[Kind]) -> list[tuple[str, Space]]:
    """(kind, space) of every collection: the directory kind lives in the directory space and nothing else does."""
    ordered = sorted(spaces, key=lambda space: _SPACE_ORDER.get(space.name, 3))
    result = [(DIRECTORY, space) for space in ordered if space.name == DIRECTORY]
    for kind in kinds:
        if kind.name != DIRECTORY:
            result += [(kind.name, space) for space in ordered if space.name != DIRECTORY]
    return result


_SPACE_ORDER: Final = {DIRECTORY: 0, "family": 1, "own": 2, LOCAL: 9}


def family_of(family_id: bytes, records: Iterable[Record]) -> Family:
    """The family after `records`; see :func:`aico_crdt.trust.fold`."""
    return fold(family_id, records)


def save_spaces(records: Records, spaces: Iterable[Space], storage_key: bytes) -> None:
    """Keep the keys of every shared space, sealed under the storage key."""
    key = layout.meta("spaces")
    packed = msgpack.packb([[s.name, s.tag_key, s.key, dict(s.keys.items())] for s in spaces if s.name != LOCAL])
    records.put(key, sealing.seal(packed, key, storage_key))


def load_spaces(records: Records, storage_key: bytes) -> list[Space]:
    """Inverse of :func:`save_spaces`; empty before the device belongs to a family."""
    key = layout.meta("spaces")
    stored = records.get(key)
    if stored is None:
        return []
    return [
        Space(name, tag_key, key_now, keys)
        for name, tag_key, key_now, keys in msgpack.unpackb(
            sealing.unseal(stored, key, storage_key), strict_map_key=False
        )
    ]


@lru_cache(maxsize=4096)
def index_hash(secret: bytes, name: str, value: str) -> bytes:
    """8 bytes that stand for (index, value) in clear keys."""
    return blake2b(name.encode() + b"\0" + value.encode(), digest_size=8, key=secret, person=b"aico.index.1").digest()


def storage_keys(identity: Identity) -> tuple[bytes, bytes, bytes]:
    """(storage key, checksum secret, index secret) of a device, all derived from its seed."""
    return identity.derive("storage"), identity.derive("checksum")[:32], identity.derive("index")
