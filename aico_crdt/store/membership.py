"""Founding a family, joining one, admitting and revoking devices.

An admission is a file for one device: the directory's entries so far, and the keys of the spaces it may read in a
sealed box that only it can open. Pairing over the air will carry the same.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgpack

from aico_crdt import ids
from aico_crdt.config import Config
from aico_crdt.errors import InvalidValue, Malformed, NotFound, UnknownVersion, WrongFamily, WrongKey
from aico_crdt.feed import Entry, Erased, Operation, Run, decode_entry, encode_entry, open_item
from aico_crdt.feed.packing import unpack as strict_unpack
from aico_crdt.store import layout, statements
from aico_crdt.store.core import Core
from aico_crdt.store.directory import DIRECTORY, LOCAL, save_spaces, storage_keys
from aico_crdt.store.environment import Environment, Label, now_ms, sync_directory, translate_os
from aico_crdt.store.kind import Kind
from aico_crdt.store.lives import LifeKeys
from aico_crdt.store.records import Counters, Records
from aico_crdt.store.replica import StoreReplica, read_wire_entry
from aico_crdt.store.store import LIVES_FILE, Commit, DocumentStore
from aico_crdt.store.transaction import STATEMENT, UPDATE, Transaction
from aico_crdt.trust import (
    TRUSTS,
    Admit,
    Found,
    Identity,
    Revoke,
    Space,
    encode_statement,
    family_id,
    local_space,
    new_space,
    open_space,
    seal_spaces,
)
from aico_crdt.trust.lease import place_id
from aico_crdt.trust.statement import SealedKey

ADMISSION: Final = "aico-crdt/admission"
VERSION: Final = 1
MAX_ADMISSION_BYTES: Final = 64 << 20
ADMISSION_ITEMS_BYTES: Final = 4 << 20
"""Items of documents that an admission carries along. What is beyond comes by the first sync: a device needs the
statements to know its family, and any member can make the directory's documents large."""
FIRST_SPACES: Final = (DIRECTORY, "own", "family")


def found(
    path: str | os.PathLike[str],
    identity: Identity,
    kinds: Sequence[Kind],
    *,
    name: str,
    device_type: str = "desktop",
    config: Config | None = None,
    clock_ms: Callable[[], int] = now_ms,
    random: Callable[[int], bytes] = os.urandom,
) -> None:
    """Make a store whose device founds a new family.

    Raises:
        StoreExists, ReadOnly, DiskFull, DiskFailure: nothing was left behind.
    """
    nonce = random(16)
    spaces = [new_space(space, random) for space in FIRST_SPACES]
    family = family_id(identity.device, nonce)
    statement = Found(nonce, name, seal_spaces(spaces, identity.device, "full"), device_type)
    payload = encode_statement(statement)
    _make(path, identity, kinds, family, spaces, config, clock_ms, random)
    with (
        _removed_unless_made(path),
        DocumentStore.open(path, identity, kinds, config=config, clock_ms=clock_ms, random=random) as store,
    ):
        with store.writing() as workspace:
            transaction = Transaction(workspace, store.config)
            transaction.append(workspace.core.directory.directory, Operation("", 0, STATEMENT, payload))
            transaction.finish()
            statements.reload(workspace)
        with store.writing() as workspace:
            workspace.records.put(layout.meta("fresh"), place_id(store.path))


@contextmanager
def _removed_unless_made(path: str | os.PathLike[str]) -> Iterator[None]:
    """A store that this call began to make is removed again when the block raises."""
    try:
        yield
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def _make(
    path: str | os.PathLike[str],
    identity: Identity,
    kinds: Sequence[Kind],
    family: bytes,
    spaces: Sequence[Space],
    config: Config | None,
    clock_ms: Callable[[], int],
    random: Callable[[int], bytes],
) -> None:
    """An empty store of one family, ready to be opened; nothing is left when it cannot be made."""
    directory = Path(path).absolute()
    Environment.create(directory, Label(layout.FORMAT, random(16), identity.device, clock_ms()))
    storage_key, checksum, _ = storage_keys(identity)
    with _removed_unless_made(directory):
        environment = Environment.acquire(directory, config or Config(), allow_network_fs=True, create=True)
        try:
            LifeKeys(directory / LIVES_FILE, storage_key, create=True).close()
            with environment.write() as transaction:
                records = Records(transaction, checksum)
                counters = Counters()
                every = {space.name: space for space in [*spaces, local_space(identity)]}
                records.put(layout.meta("format"), layout.U64.pack(layout.FORMAT))
                records.put(layout.meta("family"), family)
                records.put(layout.meta("incarnation"), random(ids.INCARNATION_BYTES))
                records.put(layout.meta("fresh"), place_id(directory))
                save_spaces(records, spaces, storage_key)
                statements.number_collections(records, counters, every, kinds)
                counters.statements = 1
                counters.save(records)
            sync_directory(directory)
        except OSError as error:
            raise translate_os(error, directory) from error
        finally:
            environment.release()


def admit(store: DocumentStore, device: bytes, *, name: str, trust: str = "full", device_type: str = "mobile") -> bytes:
    """Admit `device` and return its admission, the file it joins with.

    Raises:
        Forbidden: this device may not admit. InvalidValue: a device id or name of the wrong form, or a member already.
    """
    if trust not in TRUSTS:
        raise InvalidValue(f"There is no trust level {trust!r}.", f"Levels: {', '.join(TRUSTS)}.")
    if len(device) != ids.DEVICE_BYTES:
        raise InvalidValue("A device id is 64 hexadecimal digits.", "Run `aico-crdt id` on that device.")
    with store.writing() as workspace:
        family = workspace.core.directory.family
        member = family.members.get(device)
        if member is not None and member.revoked:
            raise InvalidValue("That device was revoked.", "Give it a new key (a new store) and admit that.")
        if member is not None and TRUSTS.index(trust) > TRUSTS.index(member.trust):
            raise InvalidValue(f"That device is {member.trust} already; admitting cannot lower it.", "Revoke it.")
        if member is None or member.trust != trust:
            short = ids.device_name(device)
            if any(ids.device_name(other) == short for other in family.members if other != device):
                raise InvalidValue("That device's id begins like another's.", "Give it a new key.")
            spaces = [space for space in workspace.core.directory.spaces.values() if space.name != LOCAL]
            keys = seal_spaces(spaces, device, trust)
            transaction = Transaction(workspace, store.config)
            transaction.statement(encode_statement(Admit(device, name, trust, device_type, keys)), "statement:admit")
            transaction.finish()
            statements.reload(workspace)
            places = transaction.places
        else:
            places = []
        change = workspace.counters.change
    store.announce(Commit(change, own=places, family_changed=True))
    StoreReplica(store).look_again()
    return admission(store, device)


def admission(store: DocumentStore, device: bytes) -> bytes:
    """The admission of a current member: what it needs to join."""
    with store.reading() as (core, records):
        member = core.directory.family.members.get(device)
        if member is None or member.revoked:
            raise NotFound("That device is not a member of the family.", "Admit it first.")
        spaces = [space for space in core.directory.spaces.values() if space.name != LOCAL]
        keys = seal_spaces(spaces, device, member.trust)
        collection = core.directory.directory
        entries = []
        room = ADMISSION_ITEMS_BYTES
        for _, place in records.scan(b"A" + layout.COLLECTION.pack(collection.number)):
            feed_number, seq = layout.AT.unpack(place)
            entry = read_wire_entry(core, records, feed_number, seq)
            room -= sum(len(item) for item in entry.items if isinstance(item, bytes))
            entries.append(encode_entry(entry if room >= 0 else _without_documents(core, entry)))
        packed: bytes = msgpack.packb(
            [ADMISSION, VERSION, core.directory.family.id, device, core.identity.device, keys, entries]
        )
    return packed


def _without_documents(core: Core, entry: Entry) -> Entry:
    """`entry` with its items of documents taken out, as if they were erased: whoever takes it asks for them."""
    space = core.directory.spaces[DIRECTORY]
    key = space.keys[entry.header.key_id]
    items = list(entry.items)
    for index, item in enumerate(entry.items):
        operation = open_item(entry.header, index, item, key) if isinstance(item, bytes) else None
        if operation is not None and operation.name == UPDATE:
            items[index] = Erased(space.document_key(DIRECTORY, operation.document), operation.life)
    return replace(entry, items=tuple(items))


@dataclass(frozen=True, slots=True)
class Admission:
    """A decoded admission; its entries prove themselves when they are taken."""

    family: bytes
    device: bytes
    admitter: bytes
    keys: tuple[SealedKey, ...]
    entries: tuple[bytes, ...]


def decode_admission(raw: bytes) -> Admission:
    """Raises Malformed, TooLarge or UnknownVersion for what is no admission of this version."""
    fields = strict_unpack(raw, max_bytes=MAX_ADMISSION_BYTES, max_depth=4, what="An admission")
    if not isinstance(fields, list) or len(fields) < 2 or fields[0] != ADMISSION:
        raise Malformed("This is not an admission.", "Use the file that `aico-crdt admit` wrote.")
    if fields[1] != VERSION:
        raise UnknownVersion("This admission has another version.")
    try:
        _, _, family, device, admitter, keys, entries, *_ = fields
        sealed = tuple(SealedKey(str(space), bytes(box)) for space, box in keys)
        return Admission(bytes(family), bytes(device), bytes(admitter), sealed, tuple(bytes(e) for e in entries))
    except (ValueError, TypeError) as error:
        raise Malformed("This admission is damaged.", "Copy it again, or have it written anew.") from error


def join(
    path: str | os.PathLike[str],
    identity: Identity,
    kinds: Sequence[Kind],
    raw: bytes,
    *,
    config: Config | None = None,
    clock_ms: Callable[[], int] = now_ms,
    random: Callable[[int], bytes] = os.urandom,
) -> None:
    """Make a store that belongs to the family of an admission.

    Raises:
        WrongKey: the admission is for another device. Malformed, UnknownVersion: it is none.
        WrongFamily: its entries do not prove what it says.
    """
    offered = decode_admission(raw)
    if offered.device != identity.device:
        raise WrongKey("This admission is for another device.", "Ask for one made with this device's id.")
    spaces = [open_space(sealed, identity) for sealed in offered.keys]
    if DIRECTORY not in {space.name for space in spaces}:
        raise Malformed("This admission lacks the keys of the directory.", "Have it written anew.")
    tag = next(space for space in spaces if space.name == DIRECTORY).tag(DIRECTORY)
    headers = [decode_entry(entry).header for entry in offered.entries]
    if any(header.tag != tag or header.family != offered.family for header in headers):
        raise WrongFamily("The entries of this admission are of another family.", "Have it written anew.")
    _make(path, identity, kinds, offered.family, spaces, config, clock_ms, random)
    with (
        _removed_unless_made(path),
        DocumentStore.open(path, identity, kinds, config=config, clock_ms=clock_ms, random=random) as store,
    ):
        take_statements(store, offered)
        with store.writing() as workspace:
            workspace.records.put(layout.meta("fresh"), place_id(store.path))


def take_statements(store: DocumentStore, offered: Admission) -> None:
    """Take the directory's entries of an admission into a store that has none.

    Raises:
        WrongFamily: they do not prove that this device was admitted.
    """
    entries = [decode_entry(entry) for entry in offered.entries]
    runs = [Run(entry.header.feed, (entry,)) for entry in entries]
    StoreReplica(store).ingest_runs(store.directory.directory.tag, runs, offered.admitter)
    if not store.directory.family.may_connect(store.device):
        raise WrongFamily("This admission does not prove an admission.", "Have it written anew.")


def revoke(store: DocumentStore, device: bytes) -> None:
    """End a device's membership, and the force of whatever it writes beyond what has been applied here.

    Raises:
        Forbidden: this device may not revoke. NotFound: no current member.
    """
    with store.writing() as workspace:
        family = workspace.core.directory.family
        if family.trust_of(device) is None:
            raise NotFound("That device is not a current member of the family.", "See `aico-crdt devices`.")
        heads = []
        for collection in workspace.core.directory.collections.values():
            if collection.space == LOCAL:
                continue
            for writer, head in workspace.heads(collection).items():
                if writer[0] == device:
                    heads.append((collection.tag, writer[1], head.seq))
        transaction = Transaction(workspace, store.config)
        transaction.statement(encode_statement(Revoke(device, tuple(heads))), "statement:revoke")
        transaction.finish()
        statements.reload(workspace)
        change = workspace.counters.change
    store.announce(Commit(change, own=transaction.places, family_changed=True))
    StoreReplica(store).look_again()
