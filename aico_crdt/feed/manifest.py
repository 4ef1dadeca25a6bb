"""Manifests: what a collection holds at some heads, signed by a full-trust device, instead of its whole
history.

    wire = msgpack [body, signature]
    body = msgpack [format, family, tag, device, hlc, heads, documents, tombstones, creators]

The four tables are byte strings of rows of fixed width, integers big-endian, sorted and without repetition:
a million documents decode without a million objects.

    head       device 32 ‖ incarnation 8 ‖ seq u64 ‖ header hash 32 ‖ signature 64               144 bytes
    document   document key 16 ‖ life u64 ‖ state hash 32 ‖ stamp u64 ‖ creator u32               68 bytes
    tombstone  document key 16 ‖ life u64                                                         24 bytes
    creator    device 32                                                                          32 bytes

The signature of a head is its author's, as the entry has it: who signs a manifest answers for the documents, and
cannot say that anybody else wrote what was never written. A document's creator is a row of `creators`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct, error
from typing import Final, NamedTuple, TypeVar, overload

from aico_crdt.clock import MAX_STAMP
from aico_crdt.errors import InvalidValue, Malformed, NotYet, TooLarge
from aico_crdt.feed.entry import SIGNATURE_BYTES, check_signature, verify_head
from aico_crdt.feed.header import MAX_SEQ, Head
from aico_crdt.feed.packing import pack, unpack
from aico_crdt.ids import DEVICE_BYTES, FAMILY_BYTES, HASH_BYTES, TAG_BYTES

FORMAT: Final = 1
MANIFEST_MAX_BYTES: Final = 64 * 1024 * 1024
MAX_DOCUMENTS: Final = 900_000
"""900,000 documents are 61 MB of rows."""
MAX_HEADS: Final = 8192
"""As many as one message of heads names; as many signatures to check, in some half a second."""
SIGNED_AS: Final = b"aico-crdt manifest 1\0"
_FIELDS: Final = 9
_DEPTH: Final = 16
_HEAD: Final = Struct(">32s8sQ32s64s")
_DOCUMENT: Final = Struct(">16sQ32sQI")
_TOMBSTONE: Final = Struct(">16sQ")
_CREATOR: Final = Struct(">32s")


class SignedHead(NamedTuple):
    """The newest entry of a feed by place, header hash (32 bytes) and its author's signature (64 bytes)."""

    device: bytes
    incarnation: bytes
    seq: int
    hash: bytes
    signature: bytes

    @property
    def head(self) -> Head:
        return Head(*self[:4])


class DocumentState(NamedTuple):
    """One living document: its keyed id (16 bytes), its life, the hash of its state (32 bytes), the newest stamp
    in it, by which bodies are fetched newest first, and the device that bore it: its place among the manifest's
    creators."""

    key: bytes
    life: int
    hash: bytes
    stamp: int
    creator: int


class Tombstone(NamedTuple):
    """One ended life of a document."""

    key: bytes
    life: int


class Creator(NamedTuple):
    """A device that bore documents; zeros where who did is not known."""

    device: bytes


_Row = TypeVar("_Row", bound=tuple[object, ...])


class Table(Sequence[_Row]):
    """Rows of fixed width, kept packed and made when looked at."""

    def __init__(self, raw: bytes, layout: Struct, make: Callable[..., _Row]) -> None:
        self.raw = raw
        self._layout = layout
        self._make: Callable[..., _Row] = make

    def __len__(self) -> int:
        return len(self.raw) // self._layout.size

    @overload
    def __getitem__(self, place: int) -> _Row: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[_Row]: ...
    def __getitem__(self, place: int | slice) -> _Row | Sequence[_Row]:
        if isinstance(place, slice):
            return [self[index] for index in range(len(self))[place]]
        return self._make(*self._layout.unpack_from(self.raw, range(len(self))[place] * self._layout.size))

    def __iter__(self) -> Iterator[_Row]:
        return (self._make(*fields) for fields in self._layout.iter_unpack(self.raw))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One decoded manifest. `raw` is the signed body, kept as it was decoded."""

    format: int
    family: bytes
    tag: bytes
    device: bytes
    hlc: int
    heads: Table[SignedHead]
    documents: Table[DocumentState]
    tombstones: Table[Tombstone]
    creators: Table[Creator]
    raw: bytes
    signature: bytes


def write_manifest(
    *,
    family: bytes,
    tag: bytes,
    device: bytes,
    hlc: int,
    heads: Iterable[tuple[bytes, bytes, int, bytes, bytes]],
    documents: Iterable[tuple[bytes, int, bytes, int, bytes]],
    tombstones: Iterable[tuple[bytes, int]],
    sign: Callable[[bytes], bytes],
) -> Manifest:
    """A manifest of collection `tag`, signed by `device`; the rows may come in any order.

    Args:
        documents: (key, life, state hash, stamp, the device that bore it).

    Raises:
        InvalidValue: beyond a cap, a row named twice, or a field no reader would accept.
    """
    named = list(documents)
    creators = sorted({row[4] for row in named})
    places = {creator: place for place, creator in enumerate(creators)}
    raw = pack(
        [
            FORMAT,
            family,
            tag,
            device,
            hlc,
            _pack_rows(_HEAD, heads),
            _pack_rows(_DOCUMENT, ((*row[:4], places[row[4]]) for row in named)),
            _pack_rows(_TOMBSTONE, tombstones),
            _pack_rows(_CREATOR, ((creator,) for creator in creators)),
        ]
    )
    try:
        return _decode_body(raw, sign(SIGNED_AS + _hash(raw)))
    except Malformed as error:
        raise InvalidValue(f"This manifest cannot be written: {error.what}") from None


def encode_manifest(manifest: Manifest) -> bytes:
    """The wire bytes of a manifest."""
    return pack([manifest.raw, manifest.signature])


def decode_manifest(raw: bytes) -> Manifest:
    """Read a manifest; `verify_manifest` says whether its device signed it.

    Raises:
        NotYet: ``format``: written in a later format.
        TooLarge: beyond a cap in bytes or documents.
        Malformed: not a manifest.
    """
    fields = unpack(raw, max_bytes=MANIFEST_MAX_BYTES, max_depth=1, max_elements=3, what="A manifest")
    if type(fields) is not list or len(fields) != 2 or any(type(field) is not bytes for field in fields):
        raise Malformed("A manifest is not a body and a signature.")
    body, signature = fields
    if len(signature) != SIGNATURE_BYTES:
        raise Malformed("A manifest has a signature of the wrong length.")
    return _decode_body(body, signature)


def verify_manifest(manifest: Manifest) -> None:
    """Check that the device it names signed it, and each head the device whose feed it is. Whether those devices may
    is the caller's matter.

    Raises:
        BadSignature: one did not.
    """
    check_signature(manifest.device, SIGNED_AS + _hash(manifest.raw), manifest.signature)
    for row in manifest.heads:
        verify_head(manifest.family, manifest.tag, row.head, row.signature)


def _hash(raw: bytes) -> bytes:
    return blake2b(raw, digest_size=HASH_BYTES, person=b"aico.manifest.1").digest()


def _decode_body(raw: bytes, signature: bytes) -> Manifest:
    fields = unpack(raw, max_bytes=MANIFEST_MAX_BYTES, max_depth=_DEPTH, what="A manifest's body")
    if type(fields) is not list or not fields or type(fields[0]) is not int or fields[0] < FORMAT:
        raise Malformed("A manifest names no format.")
    if fields[0] != FORMAT:
        raise NotYet("format", f"A manifest is in format {fields[0]}.", "Upgrade aico-crdt to read it.")
    if len(fields) < _FIELDS:
        raise Malformed(f"A manifest has {len(fields)} fields; format {FORMAT} has {_FIELDS}.")
    _, family, tag, device, hlc, heads, documents, tombstones, creators, *_ = fields
    for value, length in ((family, FAMILY_BYTES), (tag, TAG_BYTES), (device, DEVICE_BYTES)):
        if type(value) is not bytes or len(value) != length:
            raise Malformed("A manifest has a field of the wrong type or length.")
    if type(hlc) is not int or not 0 <= hlc <= MAX_STAMP:
        raise Malformed("A manifest has no usable stamp.")
    manifest = Manifest(
        FORMAT,
        family,
        tag,
        device,
        hlc,
        _table(heads, _HEAD, SignedHead, 40, MAX_HEADS, "heads"),
        _table(documents, _DOCUMENT, DocumentState, 24, MAX_DOCUMENTS, "documents"),
        _table(tombstones, _TOMBSTONE, Tombstone, 24, MAX_DOCUMENTS, "tombstones"),
        _table(creators, _CREATOR, Creator, DEVICE_BYTES, MAX_HEADS, "creators"),
        raw,
        signature,
    )
    if any(not 0 < head.seq <= MAX_SEQ for head in manifest.heads):
        raise Malformed("A manifest names a head that is no entry.")
    if any(row.creator >= len(manifest.creators) for row in manifest.documents):
        raise Malformed("A manifest has a document whose creator it does not name.")
    return manifest


def _pack_rows(layout: Struct, rows: Iterable[tuple[object, ...]]) -> bytes:
    """Sorted rows one after the other. Struct pads and cuts in silence, so each row is read back."""
    packed = []
    for row in sorted(rows):
        try:
            packed.append(layout.pack(*row))
        except error:
            raise InvalidValue("This manifest cannot be written: a row has a number out of range.") from None
        if layout.unpack(packed[-1]) != tuple(row):
            raise InvalidValue("This manifest cannot be written: a row has a field of the wrong length.")
    return b"".join(packed)


def _table(
    raw: object, layout: Struct, make: Callable[..., _Row], name_bytes: int, most: int, what: str
) -> Table[_Row]:
    """A checked table whose rows ascend by their first `name_bytes` bytes, each named once."""
    width = layout.size
    if type(raw) is not bytes or len(raw) % width:
        raise Malformed(f"A manifest's {what} are not whole rows.")
    if len(raw) // width > most:
        raise TooLarge(f"A manifest has {len(raw) // width} {what}; at most {most} are accepted.")
    last = b""
    for start in range(0, len(raw), width):
        name = raw[start : start + name_bytes]
        if name <= last:
            raise Malformed(f"A manifest's {what} are not sorted, or name one twice.")
        last = name
    return Table(raw, layout, make)
