"""Bundles: what a store holds as one file, sealed to the family, to be carried on a stick.

It holds everything that other devices may have: entries as their authors sealed and signed them, and where entries
were pruned the manifest and the bodies. Whoever takes it checks all of that again; the device that wrote it is not
trusted with more than a peer on a link. Items and bodies stay sealed under the keys of their spaces, so a limited
device that takes a bundle learns no more from it than from a link.

::

    magic 16 · version u16 · family 16 · key id 8 · stream header 24         in clear
    length u32 · sealed frame                                                as often as needed

Byte order is big-endian. The frames are one libsodium secretstream (XChaCha20-Poly1305) under a key derived from the
directory space's key, which `key id` names; the clear part is associated data of the first, and only the last carries
the final tag, so that a file that was cut, changed, or put together from two does not open. Each is msgpack::

    ["bundle", device, incarnation, made_ms]                                 first
    ["heads", tag, [[device, incarnation, floor, seq, hash] …], [[device, incarnation, seq] …]]
    ["manifest", tag, manifest]                                              only where something was pruned
    ["runs", tag, [[entry …] …]]
    ["bodies", tag, [[document key, life, body] …]]                          only where something was pruned
    ["end", signature]                                                       last

collection by collection in sync order. The signature is the writing device's Ed25519 over the BLAKE2b of all frames
before it; by it the heads are that device's own word, and count as its acknowledgement.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, Final

from nacl.bindings import (
    crypto_secretstream_xchacha20poly1305_ABYTES,
    crypto_secretstream_xchacha20poly1305_init_pull,
    crypto_secretstream_xchacha20poly1305_init_push,
    crypto_secretstream_xchacha20poly1305_pull,
    crypto_secretstream_xchacha20poly1305_push,
    crypto_secretstream_xchacha20poly1305_state,
    crypto_secretstream_xchacha20poly1305_TAG_FINAL,
    crypto_secretstream_xchacha20poly1305_TAG_MESSAGE,
)
from nacl.exceptions import CryptoError

from aico_crdt import ids
from aico_crdt.errors import BadSignature, InvalidValue, Malformed, NotYet, TooLarge, UnknownVersion, WrongFamily
from aico_crdt.feed.entry import MAX_SEQ
from aico_crdt.feed.exchange import FeedHead
from aico_crdt.feed.packing import pack, unpack
from aico_crdt.store import layout
from aico_crdt.store.directory import DIRECTORY, LOCAL
from aico_crdt.store.environment import sync_directory, translate_os
from aico_crdt.store.membership import _make
from aico_crdt.store.records import Collection, DocumentRecord
from aico_crdt.store.replica import StoreReplica
from aico_crdt.store.store import DocumentStore
from aico_crdt.trust import Space, verify

MAGIC: Final = b"aico-crdt bundle"
VERSION: Final = 1
FRAME_BYTES: Final = 1 << 20
"""Entries and bodies in one frame; each frame taken is one commit."""
MAX_FRAME_BYTES: Final = 72 << 20
"""A manifest of a million documents is the largest there is."""
MAX_FRAME_ELEMENTS: Final = 2_000_000
_CLEAR: Final = struct.Struct(">16sH16s8s")
_LENGTH: Final = struct.Struct(">I")
_STREAM_HEADER_BYTES: Final = 24
_SIGNED_AS: Final = b"aico-crdt bundle 1\0"
_TRY_AGAIN: Final = "Copy the file again, or have it written anew with `aico-crdt bundle`."

Progress = Callable[[int, int], None]
"""Told how many bytes of how many are done."""


@dataclass(slots=True)
class Contents:
    """What a bundle holds, in figures. `device` wrote it; `skipped` collections this device cannot read."""

    device: bytes = b""
    incarnation: bytes = b""
    made_ms: int = 0
    bytes: int = 0
    entries: int = 0
    bodies: int = 0
    collections: int = 0
    skipped: int = 0


@dataclass(slots=True)
class Taken:
    """What became of a bundle: entries by fate, bodies that made stubs whole."""

    contents: Contents
    applied: int = 0
    held: int = 0
    rejected: int = 0
    duplicates: int = 0
    bodies: int = 0
    behind: list[Collection] = field(default_factory=list)
    """Collections in which this store holds something that the bundle lacks."""


def write_bundle(store: DocumentStore, path: Path, *, progress: Progress | None = None) -> Contents:
    """Write what `store` holds for others to `path`, mode 0600, whole or not at all.

    Raises:
        InvalidValue: there already is such a file.
        DiskFull, ReadOnly, DiskFailure: the system refuses; nothing is left.
    """
    if path.exists():
        raise InvalidValue(f"There already is a file {path}.", "Name another, or remove it.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                contents = _Writer(store, file, progress).write()
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_directory(path.parent.absolute())
        except BaseException:
            for left in (temporary, path):  # the latter, when all but its name was made durable
                with contextlib.suppress(OSError):
                    left.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise translate_os(error, path) from error
    return contents


class _Writer:
    def __init__(self, store: DocumentStore, file: BinaryIO, progress: Progress | None) -> None:
        self._store = store
        self._replica = StoreReplica(store)
        self._file = file
        self._progress = progress
        self._contents = Contents(store.device, store.incarnation, store.now_ms())
        self._hash = blake2b(digest_size=32)
        space = store.directory.spaces[DIRECTORY]
        self._state = crypto_secretstream_xchacha20poly1305_state()
        header = crypto_secretstream_xchacha20poly1305_init_push(self._state, _key(space.key))
        self._bound: bytes | None = _CLEAR.pack(MAGIC, VERSION, store.directory.family.id, space.key_id) + header
        file.write(self._bound)
        self._contents.bytes = len(self._bound)

    def write(self) -> Contents:
        contents = self._contents
        self._frame(["bundle", contents.device, contents.incarnation, contents.made_ms])
        shared = [c for c in self._store.directory.collections.values() if c.space != LOCAL]
        for done, collection in enumerate(shared):
            if self._progress is not None:
                self._progress(done, len(shared))
            heads = self._replica.heads(collection.tag)
            if heads:
                contents.collections += 1
                self._collection(collection, heads)
        self._frame(["end", self._store.identity.sign(_SIGNED_AS + self._hash.digest())], final=True)
        return contents

    def _collection(self, collection: Collection, heads: Sequence[FeedHead]) -> None:
        tag = collection.tag
        self._frame(["heads", tag, [list(h) for h in heads], [list(place) for place in self._replica.erased(tag)]])
        pruned = any(head.floor > 1 for head in heads)
        if pruned:
            manifest = self._replica.manifest(tag)
            if manifest is None:
                pruned = False  # this device's word does not count: take it for what it has
            else:
                self._frame(["manifest", tag, manifest])
        wants = [(head.device, head.incarnation, 1) for head in heads]
        cursor: int | None = 0
        while cursor is not None:
            runs, cursor = self._replica.read_entries(tag, wants, FRAME_BYTES, cursor)
            if runs:
                self._contents.entries += sum(len(run) for run in runs)
                self._frame(["runs", tag, [list(run) for run in runs]])
        if pruned:
            for bodies in self._bodies(collection):
                self._contents.bodies += len(bodies)
                self._frame(["bodies", tag, [list(body) for body in bodies]])

    def _bodies(self, collection: Collection) -> Iterator[Sequence[tuple[bytes, int, bytes]]]:
        with self._store.reading() as (_, records):
            keys = [
                key[3:]
                for key, value in records.scan(b"D" + layout.COLLECTION.pack(collection.number))
                if DocumentRecord.unpack(value).whole
            ]
        while keys:
            bodies = self._replica.bodies(collection.tag, keys[:1000], FRAME_BYTES)
            if not bodies:
                del keys[:1000]
                continue
            yield bodies
            last = bodies[-1][0]
            del keys[: keys.index(last) + 1]

    def _frame(self, value: list[Any], *, final: bool = False) -> None:
        plain = pack(value)
        self._hash.update(_LENGTH.pack(len(plain)) + plain)
        tag = crypto_secretstream_xchacha20poly1305_TAG_FINAL if final else (
            crypto_secretstream_xchacha20poly1305_TAG_MESSAGE
        )  # fmt: skip
        sealed = crypto_secretstream_xchacha20poly1305_push(self._state, plain, self._bound, tag)
        self._bound = None
        self._file.write(_LENGTH.pack(len(sealed)) + sealed)
        self._contents.bytes += _LENGTH.size + len(sealed)


def is_bundle(path: Path) -> bool:
    """Whether a file begins as a bundle does."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def check_bundle(store: DocumentStore, path: Path) -> Contents:
    """Read a whole bundle and check that it is one of this family, complete and unchanged. Changes nothing.

    Raises:
        Malformed: not a bundle, cut short or changed. UnknownVersion: of another release.
        WrongFamily: another family's. NotYet: sealed under a key that is not here.
        BadSignature: not written by the device it names.
    """
    contents = Contents(bytes=path.stat().st_size)
    hasher = blake2b(digest_size=32)
    digest = b""
    known = store.directory.collections
    with path.open("rb") as file:
        for place, (plain, final) in enumerate(_frames(store, file)):
            value = _decode(plain)
            if (value[0] == "bundle") != (place == 0) or (value[0] == "end") != final:
                raise Malformed("The frames of this bundle are out of order.", _TRY_AGAIN)
            if final:
                digest = hasher.digest()
                if not verify(contents.device, _SIGNED_AS + digest, value[1]):
                    raise BadSignature("This bundle is not signed by the device it names.", _TRY_AGAIN)
            hasher.update(_LENGTH.pack(len(plain)) + plain)
            match value[0]:
                case "bundle":
                    contents.device, contents.incarnation, contents.made_ms = value[1:4]
                case "heads":
                    contents.collections += 1
                    contents.skipped += value[1] not in known
                case "runs":
                    contents.entries += sum(len(run) for run in value[2])
                case "bodies":
                    contents.bodies += len(value[2])
    if not digest:
        raise Malformed("This bundle is cut short.", _TRY_AGAIN)
    return contents


def take_bundle(store: DocumentStore, path: Path, *, progress: Progress | None = None) -> Taken:
    """Take what a bundle holds, as from a peer. The whole file is checked first; taking it again changes nothing.

    Raises:
        as :func:`check_bundle`, before anything is changed.
    """
    taken = Taken(check_bundle(store, path))
    source = taken.contents.device
    replica = StoreReplica(store)
    said: dict[bytes, tuple[list[FeedHead], list[tuple[bytes, bytes, int]]]] = {}
    laggards: set[bytes] = set()
    with path.open("rb") as file:
        for plain, _ in _frames(store, file):
            value = _decode(plain)
            if progress is not None:
                progress(file.tell(), taken.contents.bytes)
            tag = value[1]
            if value[0] in ("bundle", "end") or tag not in store.directory.collections:
                continue
            if value[0] == "heads":
                said[tag] = ([FeedHead(*head[:6]) for head in value[2]], [tuple(place) for place in value[3]])
                if _lacks_pruned(replica, tag, said[tag][0]):
                    laggards.add(tag)
            elif value[0] == "manifest" and tag in laggards:
                taken.rejected += replica.ingest_manifest(tag, value[2], source).rejected
            elif value[0] == "runs":
                report = replica.ingest(tag, value[2], source)
                taken.applied += report.applied
                taken.held += report.held
                taken.rejected += report.rejected
                taken.duplicates += report.duplicates
            elif value[0] == "bodies":
                wanted = set(replica.stubs(tag, MAX_FRAME_ELEMENTS))
                bodies = [(key, life, body) for key, life, body in value[2] if key in wanted]
                if bodies:
                    taken.bodies += replica.ingest_bodies(tag, bodies, source).applied
    if store.directory.family.trust_of(source) is not None and source != store.device:
        for tag, (heads, erased) in said.items():
            replica.acknowledged(source, tag, [head.held for head in heads], erased)
    taken.behind = [
        collection
        for tag, collection in store.directory.collections.items()
        if collection.space != LOCAL and _holds_more(replica, tag, said.get(tag, ([], []))[0])
    ]
    return taken


def _lacks_pruned(replica: StoreReplica, tag: bytes, heads: Sequence[FeedHead]) -> bool:
    """Whether entries are missing here that the bundle no longer holds."""
    mine = {(head.device, head.incarnation): head.seq for head in replica.heads(tag)}
    return any(mine.get((head.device, head.incarnation), 0) + 1 < head.floor for head in heads)


def _holds_more(replica: StoreReplica, tag: bytes, heads: Sequence[FeedHead]) -> bool:
    theirs = {(head.device, head.incarnation): head.seq for head in heads}
    return any(head.seq > theirs.get((head.device, head.incarnation), 0) for head in replica.heads(tag))


@contextmanager
def unbundled(store: DocumentStore, path: Path) -> Iterator[DocumentStore]:
    """What a bundle holds, as a store of its own beside `store`, removed at the end of the block.

    It has the identity of `store` and another incarnation, and nothing is ever said in its name.

    Raises:
        as :func:`check_bundle`.
    """
    check_bundle(store, path)
    place = Path(tempfile.mkdtemp(prefix=".aico-crdt-", dir=store.path.parent))
    kinds = list(store.kinds.values())
    try:
        spaces = [space for space in store.directory.spaces.values() if space.name != LOCAL]
        family = store.directory.family.id
        _make(place / "store", store.identity, kinds, family, spaces, store.config, store.now_ms, os.urandom)
        with DocumentStore.open(place / "store", store.identity, kinds, config=store.config) as apart:
            take_bundle(apart, path)
            yield apart
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _key(space_key: bytes) -> bytes:
    return blake2b(digest_size=32, key=space_key, person=b"aico.bundle.1").digest()


def _frames(store: DocumentStore, file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """(plain frame, whether it is the last) of a bundle of this family."""
    clear = file.read(_CLEAR.size + _STREAM_HEADER_BYTES)
    if clear[: len(MAGIC)] != MAGIC:
        raise Malformed("This is not a bundle.", "Use a file that `aico-crdt bundle` wrote.")
    if len(clear) < _CLEAR.size + _STREAM_HEADER_BYTES:
        raise Malformed("This bundle is cut short.", _TRY_AGAIN)
    _, version, family, key_id = _CLEAR.unpack_from(clear)
    if version != VERSION:
        raise UnknownVersion(f"This bundle has version {version}; this release reads {VERSION}.")
    if family != store.directory.family.id:
        raise WrongFamily(
            f"This bundle is of family {family.hex()}, this store of {store.directory.family.id.hex()}.",
            "Use a bundle that one of this family's devices wrote.",
        )
    space: Space = store.directory.spaces[DIRECTORY]
    if key_id not in space.keys:
        raise NotYet("key", "This bundle is sealed under a key that is not here.", "Sync with its device first.")
    state = crypto_secretstream_xchacha20poly1305_state()
    crypto_secretstream_xchacha20poly1305_init_pull(state, clear[_CLEAR.size :], _key(space.keys[key_id]))
    bound: bytes | None = clear
    while True:
        sealed = _read_frame(file)
        try:
            plain, tag = crypto_secretstream_xchacha20poly1305_pull(state, sealed, bound)
        except (CryptoError, ValueError):
            raise Malformed("This bundle was changed after it was written, or is damaged.", _TRY_AGAIN) from None
        bound = None
        final = tag == crypto_secretstream_xchacha20poly1305_TAG_FINAL
        yield plain, final
        if final:
            break
    if file.read(1):
        raise Malformed("This bundle has trailing bytes.", _TRY_AGAIN)


def _read_frame(file: BinaryIO) -> bytes:
    head = file.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise Malformed("This bundle is cut short.", _TRY_AGAIN)
    (length,) = _LENGTH.unpack(head)
    if length > MAX_FRAME_BYTES:
        raise TooLarge(f"A frame of this bundle claims {length} bytes; at most {MAX_FRAME_BYTES}.", _TRY_AGAIN)
    if length < crypto_secretstream_xchacha20poly1305_ABYTES:
        raise Malformed("A frame of this bundle is too short.", _TRY_AGAIN)
    sealed = file.read(length)
    if len(sealed) < length:
        raise Malformed("This bundle is cut short.", _TRY_AGAIN)
    return sealed


_SHAPES: Final[dict[str, Callable[[list[Any]], bool]]] = {
    "bundle": lambda v: _is_writer(v[1], v[2]) and _is_number(v[3], 0),
    "heads": lambda v: all(_is_head(h) for h in v[2]) and all(_is_place(p) for p in v[3]),
    "manifest": lambda v: isinstance(v[2], bytes),
    "runs": lambda v: all(run and all(isinstance(raw, bytes) for raw in run) for run in v[2]),
    "bodies": lambda v: all(_is_body(*body) for body in v[2]),
    "end": lambda v: isinstance(v[1], bytes),
}


def _decode(plain: bytes) -> list[Any]:
    """One frame, its shape checked. Longer arrays are of a later minor form: what is beyond is passed over."""
    value = unpack(
        plain, max_bytes=MAX_FRAME_BYTES, max_depth=3, max_elements=MAX_FRAME_ELEMENTS, what="A frame of a bundle"
    )
    try:
        name = value[0]
        tagged = name in ("bundle", "end") or (isinstance(value[1], bytes) and len(value[1]) == ids.TAG_BYTES)
        if name in _SHAPES and tagged and _SHAPES[name](value):
            return list(value)
    except (TypeError, IndexError, KeyError, ValueError):
        pass
    raise Malformed("A frame of this bundle is not of its form.", _TRY_AGAIN)


def _is_writer(device: Any, incarnation: Any) -> bool:
    return (
        isinstance(device, bytes) and len(device) == ids.DEVICE_BYTES
        and isinstance(incarnation, bytes) and len(incarnation) == ids.INCARNATION_BYTES
    )  # fmt: skip


def _is_head(head: list[Any]) -> bool:
    device, incarnation, floor, seq, digest, lacking, *_ = head
    numbers = _is_number(floor, 1) and _is_number(seq, 1) and _is_number(lacking, 0)
    return _is_writer(device, incarnation) and numbers and isinstance(digest, bytes) and len(digest) == ids.HASH_BYTES


def _is_place(place: list[Any]) -> bool:
    device, incarnation, seq = place
    return _is_writer(device, incarnation) and _is_number(seq, 1)


def _is_number(value: Any, least: int) -> bool:
    return type(value) is int and least <= value <= MAX_SEQ


def _is_body(key: Any, life: Any, body: Any) -> bool:
    return isinstance(key, bytes) and len(key) == ids.DOCUMENT_KEY_BYTES and type(life) is int and type(body) is bytes
