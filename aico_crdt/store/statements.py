"""The directory as a fold over the statements on disk; see :mod:`aico_crdt.store.directory`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from aico_crdt.errors import Damaged, PeerError
from aico_crdt.feed import decode_header, open_item
from aico_crdt.store import layout
from aico_crdt.store.core import Core
from aico_crdt.store.directory import (
    DIRECTORY,
    LOCAL,
    Directory,
    collections_of,
    family_of,
    load_spaces,
    pairs,
    save_spaces,
)
from aico_crdt.store.kind import Kind
from aico_crdt.store.records import Collection, Counters, Records, unpack
from aico_crdt.store.refold import open_stored_item
from aico_crdt.store.workspace import Workspace
from aico_crdt.trust import Identity, Record, Space, decode_statement, local_space, open_space

Writer = tuple[bytes, bytes]


def load(
    records: Records, identity: Identity, kinds: Mapping[str, Kind], storage_key: bytes, family: bytes
) -> Directory:
    """The directory as it stands on disk, without statements: enough to read them. See :func:`reload`."""
    spaces = {space.name: space for space in load_spaces(records, storage_key)}
    spaces[LOCAL] = local_space(identity)
    return _directory(records, list(kinds.values()), spaces, family, (), Counters.load(records).statements)


def _directory(
    records: Records,
    kinds: Sequence[Kind],
    spaces: Mapping[str, Space],
    family: bytes,
    found: Sequence[Record],
    count: int,
) -> Directory:
    numbers = {}
    for kind, space in pairs(spaces.values(), kinds):
        tag = space.tag(kind)
        stored = records.get(layout.collection(tag))
        if stored is not None:
            numbers[tag] = int.from_bytes(stored, "big")
    return Directory(family_of(family, found), spaces, collections_of(spaces.values(), kinds, numbers), count)


def number_collections(
    records: Records, counters: Counters, spaces: Mapping[str, Space], kinds: Sequence[Kind]
) -> None:
    """Give every collection of `spaces` a number, once."""
    for kind, space in pairs(spaces.values(), kinds):
        key = layout.collection(space.tag(kind))
        if records.get(key) is None:
            counters.collection += 1
            records.put(key, layout.COLLECTION.pack(counters.collection))


def read_records(core: Core, records: Records, collection: Collection) -> Iterator[Record]:
    """Every statement of the directory with its causal past, in arrival order (which is causal)."""
    space = core.directory.spaces[DIRECTORY]
    clocks: dict[Writer, dict[int, dict[Writer, int]]] = {}
    for _, place in records.scan(b"A" + layout.COLLECTION.pack(collection.number)):
        feed_number, seq = unpack(layout.AT, place, "arrival")
        stored = records.get(layout.entry(feed_number, seq))
        if stored is None:
            raise Damaged("A directory entry is missing.")
        header = decode_header(stored[72:])
        writer = (header.device, header.incarnation)
        past: dict[Writer, int] = dict(clocks.get(writer, {}).get(seq - 1, {}))
        for dep in header.deps:
            seen = clocks.get((dep.device, dep.incarnation), {}).get(dep.seq, {(dep.device, dep.incarnation): dep.seq})
            for other, upto in seen.items():
                past[other] = max(past.get(other, 0), upto)
        past[writer] = seq
        clocks.setdefault(writer, {})[seq] = past
        for index in range(len(header.items)):
            key = layout.item(feed_number, seq, index)
            kept = records.get(key)
            if kept is None or kept[:8] != bytes(8):
                continue
            item_key = space.keys.get(header.key_id)
            if item_key is None:
                continue
            operation = open_item(header, index, open_stored_item(core, key, kept), item_key)
            if operation.name == "statement":
                yield Record(
                    header.device, header.incarnation, seq, header.hlc, header.hash, past,
                    decode_statement(operation.payload),
                )  # fmt: skip


def reload(workspace: Workspace) -> bool:
    """Fold the directory anew into ``core.directory``. True when a revocation came into force by it.

    New keys for this device are kept, new collections numbered.
    """
    core, records = workspace.core, workspace.records
    before = core.directory
    found = list(read_records(core, records, before.directory))
    family = family_of(before.family.id, found)
    spaces = dict(before.spaces)
    member = family.members.get(core.identity.device)
    for sealed in member.keys if member is not None else ():
        if sealed.space not in spaces:
            try:
                spaces[sealed.space] = open_space(sealed, core.identity)
            except PeerError:
                continue  # a key that is not for us changes nothing
    kinds = list(core.kinds.values())
    if len(spaces) != len(before.spaces):
        save_spaces(records, spaces.values(), core.storage_key)
        number_collections(records, workspace.counters, spaces, kinds)
    workspace.counters.statements += 1
    core.directory = _directory(records, kinds, spaces, before.family.id, found, workspace.counters.statements)
    was = {device for device, member in before.family.members.items() if member.revoked}
    return any(member.revoked and device not in was for device, member in family.members.items())


def refresh(core: Core, records: Records) -> None:
    """Bring ``core.directory`` up to what other processes have committed since; never back to an older snapshot's."""
    count = Counters.load(records).statements
    if count <= core.directory.statements:
        return
    base = load(records, core.identity, core.kinds, core.storage_key, core.directory.family.id)
    found = list(read_records(replace(core, directory=base), records, base.directory))
    core.directory = _directory(records, list(core.kinds.values()), base.spaces, base.family.id, found, count)
