"""Fuzz targets with a store: what a hostile member signs and seals, of which nothing refused may leave a trace."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from os import W_OK, access
from pathlib import Path
from typing import Any, Final

import msgpack
from nacl.bindings import (
    crypto_secretstream_xchacha20poly1305_init_push,
    crypto_secretstream_xchacha20poly1305_push,
    crypto_secretstream_xchacha20poly1305_state,
    crypto_secretstream_xchacha20poly1305_TAG_FINAL,
    crypto_secretstream_xchacha20poly1305_TAG_MESSAGE,
)

from aico_crdt import aead, ids
from aico_crdt.crdt import Document
from aico_crdt.crdt.lib0 import read_varuint, write_varuint
from aico_crdt.errors import AicoError, PeerError
from aico_crdt.feed import GENESIS, Entry, Operation, decode_header, encode_entry, item_mark
from aico_crdt.feed.entry import NO_MARK, _signed
from aico_crdt.feed.header import ItemRef, encode_header, encode_prefix
from aico_crdt.feed.item import item_hash
from aico_crdt.feed.manifest import SIGNED_AS, _hash, decode_manifest
from aico_crdt.feed.packing import pack
from aico_crdt.store import DocumentStore, StoreReplica, attested, bundle
from aico_crdt.store.prune import DAY_MS, prune
from aico_crdt.store.records import Collection
from aico_crdt.store.verify import verify
from aico_crdt.trust import encode_statement
from aico_crdt.trust.statement import Admit, Revoke
from property_tests.fuzz.decoders import REFUSED, TAKEN, Opening, Target, demand
from tests.store.conftest import START_MS, Clock, Families, exchange, plain_kinds, send
from tests.store.hostile import essence

_LAST: Final = crypto_secretstream_xchacha20poly1305_TAG_FINAL
_FRAME: Final = crypto_secretstream_xchacha20poly1305_TAG_MESSAGE
CHANGES: Final = 40
"""Inputs that may change the store before it is looked over and begins anew."""
_CLIENT: Final = b"\xf1\xf2\xf3\xf4\xf5\xf6\xf7\x0f"
"""In seeds, the Yjs client of whoever signs: a varuint of eight bytes, as most clients'."""
_WRITER: Final = b"FUZZFUZZFUZZFUZZFUZZ"
_STAMP: Final = START_MS << 20


class House:
    """A taker, and a member that may do as it likes.

    The taker is Anne's device; Ben's signs. What a run is to find at its beginning is kept as a copy of the taker's
    store, and `look` says whether an input that was refused has left a trace.
    """

    def __init__(self, root: Path) -> None:
        self.clock = Clock()
        self.families = Families(root, plain_kinds(), self.clock, random.Random(0).randbytes)  # seeds of any run fit
        self.anne, self.ben, self.carol = self.families(3, trusts=["full", "limited"])
        self.anne.create("memory", {"content": "one", "tag": "x"}, id="m", space="family")
        self.anne.create("fact", {"content": "fact"}, id="f")
        self.anne.create("memory", {"content": "gone"}, id="g")
        exchange(self.anne, self.ben, self.carol)
        with self.ben.transaction() as tx:
            tx.insert_text("memory", "m", 0, "hello 😀")
        self.ben.edit("memory", "m", {"content": "two"})
        exchange(self.anne, self.ben, self.carol)
        self.anne.forget("memory", "g")
        self.root = root
        self.device = self.ben.device
        self.sign = self.ben.identity.sign
        self._number = 0
        self._copies = 0
        self._changes = 0
        self.keep()

    def keep(self) -> None:
        """Anne's store as it is now is what runs begin with."""
        self._path = self.anne.path
        self.anne.close()
        self.anne = self._open()
        self._before = essence(self.anne)

    def _open(self) -> DocumentStore:
        self._copies += 1
        place = self.root / f"anne{self._copies}"
        shutil.copytree(self._path, place, copy_function=_copy, ignore=shutil.ignore_patterns("wake"))
        return self.families.open(place, 0, lease=False)

    def begin_anew(self) -> None:
        report = verify(self.anne, refold=True)
        demand(not report.problems, f"verify: {[problem.what for problem in report.problems]}")
        path = self.anne.path
        self.anne.close()
        shutil.rmtree(path)
        self.anne = self._open()
        self._before = essence(self.anne)
        self._changes = 0

    def look(self, verdict: str) -> str:
        """`verdict`, after a look at what it did to the store."""
        before, self._before = self._before, essence(self.anne)
        if verdict is not TAKEN:
            demand(self._before == before, f"what was {verdict} has changed the store")
        elif self._before != before:
            self._changes += 1
            if self._changes >= CHANGES:
                self.begin_anew()
        return verdict

    def incarnation(self) -> bytes:
        """Another one of Ben's, whose client has as many bytes as its place in the seeds."""
        while True:
            self._number += 1
            incarnation = self._number.to_bytes(8, "big")
            if ids.client_id(self.device, incarnation) >> 49:
                return incarnation

    def named(self, data: bytes, incarnation: bytes) -> bytes:
        """`data` with the names of that incarnation where the seeds leave place for them."""
        client = write_varuint(ids.client_id(self.device, incarnation))
        return data.replace(_CLIENT, client).replace(_WRITER, ids.writer(self.device, incarnation).encode())

    def collection(self, number: int) -> Collection:
        spaces = (("own", "memory"), ("family", "memory"), ("own", "fact"), ("directory", "directory"))
        found = self.anne.directory.find(*spaces[number % len(spaces)])
        assert found is not None
        return found

    def prefix(self, where: Collection, incarnation: bytes) -> bytes:
        space = self.anne.directory.spaces[where.space]
        return encode_prefix(
            family=self.anne.directory.family.id, tag=where.tag, device=self.device, incarnation=incarnation, seq=1,
            prev=GENESIS, deps=[], hlc=_STAMP, key_id=space.key_id, erase=[],
        )  # fmt: skip

    def signed(self, where: Collection, prefix: bytes, plains: Sequence[bytes], *, marks: bool) -> Entry:
        """An entry of Ben's with that prefix, whose items are these bytes, sealed."""
        space = self.anne.directory.spaces[where.space]
        items, refs = [], []
        for index, plain in enumerate(plains):
            nonce = index.to_bytes(24, "big")
            sealed = nonce + aead.seal(plain, prefix + index.to_bytes(4, "big"), nonce, space.key)
            mark = _mark(space, where, plain, self.device, prefix, index) if marks else NO_MARK
            items.append(sealed)
            refs.append(ItemRef(item_hash(sealed), len(sealed), mark))
        header = decode_header(encode_header(prefix, refs))
        return Entry(header, self.sign(_signed(header.family, header.tag, header.head)), tuple(items))

    def give(self, where: Collection, raw: bytes) -> str:
        report = StoreReplica(self.anne).deliver(where.tag, [[raw]], self.device)
        if report.applied or report.forks:
            return self.look(TAKEN)
        return self.look("held" if report.held else REFUSED)


def _copy(source: str, target: str) -> None:
    """A copy that leaves holes where there are holes: a store's file is as large as its map."""
    with open(source, "rb") as read, open(target, "wb") as write:
        while chunk := read.read(1 << 16):
            if chunk.count(0) == len(chunk):
                write.seek(len(chunk), 1)
            else:
                write.write(chunk)
        write.truncate()
    shutil.copymode(source, target)


def _mark(space: Any, where: Collection, plain: bytes, device: bytes, prefix: bytes, index: int) -> bytes:
    """The right mark of an item that is an update, as far as it can be told."""
    try:
        document, life, name, _ = msgpack.unpackb(plain[1:])
        incarnation, seq = msgpack.unpackb(prefix)[4:6]
        if name == "update":
            key = space.document_key(where.kind, document)
            return bytes(item_mark(space.tag_key, key, life, device, incarnation, seq, index))
    except (ValueError, TypeError, AttributeError, OverflowError, AicoError, msgpack.UnpackException):
        pass
    return bytes(NO_MARK)


@contextmanager
def house() -> Iterator[House]:
    fast = "/dev/shm" if access("/dev/shm", W_OK) else None
    with tempfile.TemporaryDirectory(dir=fast, prefix="aico-fuzz-") as directory:
        made = House(Path(directory))
        try:
            yield made
        finally:
            made.families.close()


def _operations() -> list[tuple[int, list[Operation]]]:
    """(collection, what an honest member might say there), under the names the seeds leave place for."""
    client, _ = read_varuint(_CLIENT, 0)

    def wrote(*acts: Callable[[Document], None]) -> bytes:
        document = Document.new(client, _WRITER.decode())
        for act in acts:
            act(document)
        update = document.take_update()
        assert update is not None
        return update

    born = wrote(lambda d: d.bear({"content": "new", "t": 5}, _STAMP))
    texted = wrote(lambda d: d.bear({}, _STAMP), lambda d: d.insert_text(0, "typed 😀"), lambda d: d.delete_text(1, 2))
    edited = wrote(lambda d: d.set("content", "three", _STAMP))
    added = wrote(lambda d: d.add("tags", "y", _STAMP), lambda d: d.increment("n", 3, _STAMP))
    phone = Admit(b"p" * 32, "phone", "limited", "phone", ())
    return [
        (0, [Operation("n", 1, "update", born)]),
        (0, [Operation("n", 1, "update", texted), Operation("o", 1, "update", born)]),
        (1, [Operation("m", 1, "update", edited)]),
        (1, [Operation("m", 1, "update", added), Operation("m", 1, "update", edited)]),
        (1, [Operation("m", 1, "forget", pack([None, False])), Operation("m", 2, "update", born)]),
        (0, [Operation("g", 1, "forget", pack(["moved", True])), Operation("g", 2, "update", born)]),
        (2, [Operation("f", 1, "update", born)]),
        (3, [Operation("", 0, "statement", encode_statement(phone))]),
        (3, [Operation("", 0, "statement", encode_statement(Revoke(b"p" * 32, ())))]),
        (0, [Operation("n", 1, "rotate", b"later")]),
    ]


def _plain(operation: Operation) -> bytes:
    return b"\0" + pack(operation)


def items() -> Opening:
    """``[collection + 4 if unmarked, sealed bytes …]``: entries whose items hold anything at all."""
    return _target(_items)


def _items(home: House) -> Target:
    seeds = [pack([where, *map(_plain, said)]) for where, said in _operations()]

    def run(data: bytes) -> str:
        value = _list(data)
        if not value or type(value[0]) is not int:
            return REFUSED
        where = home.collection(value[0] % 4)
        incarnation = home.incarnation()
        plains = [home.named(plain, incarnation) for plain in value[1:9] if isinstance(plain, bytes)]
        try:
            entry = home.signed(where, home.prefix(where, incarnation), plains, marks=value[0] % 8 < 4)
        except PeerError:
            return REFUSED
        return home.give(where, encode_entry(entry))

    return Target(seeds, run, values=True)


def headers() -> Opening:
    """``[collection, prefix]``: entries whose header says anything at all, well signed."""
    return _target(_headers)


def _headers(home: House) -> Target:
    operations = _operations()
    incarnation = home.incarnation()
    seeds = [pack([n, home.prefix(home.collection(where), incarnation)]) for n, (where, _) in enumerate(operations)]

    def run(data: bytes) -> str:
        value = _list(data)
        if len(value) < 2 or type(value[0]) is not int or not isinstance(value[1], bytes):
            return REFUSED
        number, said = operations[value[0] % len(operations)]
        fresh = home.incarnation()
        plains = [home.named(_plain(operation), fresh) for operation in said]
        try:
            entry = home.signed(home.collection(number), value[1].replace(incarnation, fresh), plains, marks=True)
        except PeerError:
            return REFUSED
        return home.give(home.collection(number), encode_entry(entry))

    return Target(seeds, run, values=True)


def wires() -> Opening:
    """Entries damaged on the way, after they were signed."""
    return _target(_wires)


def _wires(home: House) -> Target:
    seeds = []
    for number, said in _operations():
        incarnation, where = home.incarnation(), home.collection(number)
        plains = [home.named(_plain(operation), incarnation) for operation in said]
        seeds.append(encode_entry(home.signed(where, home.prefix(where, incarnation), plains, marks=True)))

    def run(data: bytes) -> str:
        if data in seeds:
            return TAKEN  # once applied it stays, and hides what would come of others
        return home.give(home.collection(len(data)), data)

    return Target(seeds, run, values=True)


def manifests() -> Opening:
    """A manifest's body, signed by a device that may."""
    return _target(_manifests)


def _manifests(home: House) -> Target:
    home.ben.create("memory", {"content": "news"}, id="new")
    home.ben.forget("memory", "new")
    home.ben.create("memory", {"content": "newer"}, id="newer")
    seeds = []
    for number in range(3):
        raw = StoreReplica(home.ben).manifest(home.collection(number).tag)
        assert raw is not None
        seeds.append(pack([number, decode_manifest(raw).raw]))

    def run(data: bytes) -> str:
        value = _list(data)
        if len(value) < 2 or type(value[0]) is not int or not isinstance(value[1], bytes):
            return REFUSED
        wire = pack([value[1], home.sign(SIGNED_AS + _hash(value[1]))])
        report = StoreReplica(home.anne).ingest_manifest(home.collection(value[0]).tag, wire, home.device)
        return home.look(TAKEN if report.applied else REFUSED)

    return Target(seeds, run, values=True)


def bodies() -> Opening:
    """``[trusted, body]``: what a peer that knows the space's key seals as the body of a stub."""
    return _target(_bodies)


def _bodies(home: House) -> Target:
    where = home.collection(1)
    for at in range(4):
        home.ben.edit("memory", "m", {"content": f"later {at}"})
    home.clock.ms += 100 * DAY_MS
    prune(home.ben)
    send(home.ben, home.anne, bodies=False)
    home.keep()
    replica = StoreReplica(home.anne)
    (key,) = replica.stubs(where.tag, 9)
    space = home.anne.directory.spaces[where.space]
    ((_, life, sealed),) = StoreReplica(home.ben).bodies(where.tag, [key], 1 << 20)
    bound = attested._bound(where, key, life)
    plain = aead.unseal(sealed[32:], bound, sealed[8:32], space.key)
    assert plain is not None
    seeds = [pack([0, plain]), pack([1, plain])]

    def run(data: bytes) -> str:
        value = _list(data)
        if len(value) < 2 or type(value[0]) is not int or not isinstance(value[1], bytes):
            return REFUSED
        body = space.key_id + bytes(24) + aead.seal(value[1], bound, bytes(24), space.key)
        source = home.device if value[0] & 1 else home.carol.device
        report = StoreReplica(home.anne).ingest_bodies(where.tag, [(key, life, body)], source)
        verdict = home.look(TAKEN if report.applied else REFUSED)
        if verdict is TAKEN:
            home.begin_anew()
        return verdict

    return Target(seeds, run, values=True)


def bundles() -> Opening:
    """A bundle's frames but the last, sealed and signed by a member."""
    return _target(_bundles)


def _bundles(home: House) -> Target:
    path = home.root / "bundle"
    home.ben.create("memory", {"content": "carried"}, id="carried")
    bundle.write_bundle(home.ben, path)
    with path.open("rb") as file:
        frames = [plain for plain, _ in bundle._frames(home.anne, file)][:-1]
    seeds = [pack(frames), pack(frames[:1]), pack([frames[0], frames[-1]])]

    def run(data: bytes) -> str:
        value = [frame for frame in _list(data) if isinstance(frame, bytes)]
        hasher = blake2b(digest_size=32)
        for frame in value:
            hasher.update(len(frame).to_bytes(4, "big") + frame)
        value.append(pack(["end", home.sign(bundle._SIGNED_AS + hasher.digest())]))
        path.write_bytes(_sealed(home, value))
        return _take(home, path)

    return Target(seeds, run, values=True)


def _sealed(home: House, frames: Sequence[bytes]) -> bytes:
    space = home.anne.directory.spaces["directory"]
    clear = bundle._CLEAR.pack(bundle.MAGIC, bundle.VERSION, home.anne.directory.family.id, space.key_id)
    state = crypto_secretstream_xchacha20poly1305_state()
    clear += crypto_secretstream_xchacha20poly1305_init_push(state, bundle._key(space.key))
    out, bound = [clear], clear
    for place, frame in enumerate(frames):
        final = place == len(frames) - 1
        mark = _LAST if final else _FRAME
        sealed = crypto_secretstream_xchacha20poly1305_push(state, frame, bound or None, mark)
        bound = b""
        out.append(len(sealed).to_bytes(4, "big") + sealed)
    return b"".join(out)


def _take(home: House, path: Path) -> str:
    try:
        bundle.take_bundle(home.anne, path)
    except AicoError:
        return home.look(REFUSED)
    return home.look(TAKEN)


def bundle_files() -> Opening:
    """A bundle's file, damaged."""
    return _target(_bundle_files)


def _bundle_files(home: House) -> Target:
    path = home.root / "bundle"
    bundle.write_bundle(home.ben, path)
    seed = path.read_bytes()

    def run(data: bytes) -> str:
        path.write_bytes(data)
        return _take(home, path)

    return Target([seed], run)


def _list(data: bytes) -> list[Any]:
    try:
        value = msgpack.unpackb(data, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException):
        return []
    return value if isinstance(value, list) else []


def _target(make: Callable[[House], Target]) -> Opening:
    @contextmanager
    def opening() -> Iterator[Target]:
        with house() as home:
            target = make(home)
            yield target
            home.begin_anew()

    return opening()


TARGETS: Final[dict[str, Callable[[], Opening]]] = {
    "store-items": items,
    "store-headers": headers,
    "store-wires": wires,
    "store-manifests": manifests,
    "store-bodies": bodies,
    "bundles": bundles,
    "bundle-files": bundle_files,
}
