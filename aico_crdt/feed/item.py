"""A sealed item: one operation on one document, readable only with the space's key.

``sealed = nonce (24) ‖ XChaCha20-Poly1305(plain)``, associated data ``prefix ‖ index``, so that an item
cannot be moved to another entry or place. ``plain`` is one byte (0 raw, 1 zstd) and MessagePack ``[document,
life, name, payload]``. The header holds the hash of the sealed bytes: an item can be erased everywhere while
its feed still verifies.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, NamedTuple

import zstandard

from aico_crdt import aead
from aico_crdt.aead import NONCE_BYTES
from aico_crdt.errors import InvalidValue, Malformed, TooLarge
from aico_crdt.feed.header import ITEM_MAX_BYTES, MARK_BYTES, MAX_LIFE, Header
from aico_crdt.feed.packing import pack, unpack
from aico_crdt.ids import HASH_BYTES, MAX_ID_CHARS

OVERHEAD_BYTES: Final = NONCE_BYTES + 1 + 16
"""Nonce, the byte that tells raw from zstd, and the Poly1305 tag."""
OPERATION_MAX_BYTES: Final = ITEM_MAX_BYTES - OVERHEAD_BYTES
"""The longest encoded operation, compressed or not: it always fits its item."""
COMPRESS_FROM_BYTES: Final = 256
"""Below this zstd rarely saves its own 9 bytes of frame."""
COMPRESS_SAVES: Final = 5
"""Compression is kept when it saves at least one part in five; else opening would cost more than the bytes
are worth."""
MAX_NAME_CHARS: Final = 32
_LEVEL: Final = 3
_DEPTH: Final = 16
_FIELDS: Final = 4
_RAW, _ZSTD = b"\0", b"\1"
_idle: Final[list[zstandard.ZstdCompressor]] = []
_MAX_IDLE: Final = 8


class Operation(NamedTuple):
    """What an item says: do `name` ("update", "forget", "statement" …) with `payload` to one life of a
    document."""

    document: str
    life: int
    name: str
    payload: bytes


def item_hash(sealed: bytes) -> bytes:
    """32 bytes that name a sealed item."""
    return blake2b(sealed, digest_size=HASH_BYTES, person=b"aico.item.1").digest()


def item_mark(
    tag_key: bytes, document_key: bytes, life: int, device: bytes, incarnation: bytes, seq: int, index: int
) -> bytes:
    """16 bytes in clear that bind the item at one place to one life of a document.

    Who holds the tag key can check a claim that an item which is gone belonged to a forgotten life; who does not
    cannot tell which items belong together.
    """
    place = life.to_bytes(8, "big") + seq.to_bytes(8, "big") + index.to_bytes(4, "big")
    message = document_key + device + incarnation + place
    return blake2b(message, digest_size=MARK_BYTES, key=tag_key, person=b"aico.mark.1").digest()


def seal(operation: Operation, *, prefix: bytes, index: int, key: bytes, nonce: bytes) -> bytes:
    """The sealed item at place `index` of the entry whose header begins with `prefix`.

    Args:
        key: 32 bytes, the space's.
        nonce: 24 bytes never used with `key` before.

    Raises:
        InvalidValue: the operation is longer than `OPERATION_MAX_BYTES`, or no reader would accept it.
    """
    _operation(list(operation), InvalidValue)
    packed = pack(operation)
    if len(packed) > OPERATION_MAX_BYTES:
        raise InvalidValue(
            f"An operation is {len(packed)} bytes long; at most {OPERATION_MAX_BYTES} fit one item.",
            "Split the value over several documents.",
        )
    bound = _bound(prefix, index)
    return nonce + aead.seal(_compress(packed), bound, nonce, key)


def open_item(header: Header, index: int, sealed: bytes, key: bytes) -> Operation:
    """What item `index` of an entry says. Call `check_items` first: the key alone does not prove who sealed
    it.

    Raises:
        TooLarge: it unpacks to more than `ITEM_MAX_BYTES`.
        Malformed: not sealed under `key` for this place of this entry, or no operation.
    """
    if len(sealed) <= OVERHEAD_BYTES:
        raise Malformed("An item is too short to hold an operation.")
    plain = aead.unseal(sealed[NONCE_BYTES:], _bound(header.prefix, index), sealed[:NONCE_BYTES], key)
    if plain is None:
        raise Malformed("An item is not sealed under the key its header names.")
    fields = unpack(_decompress(plain), max_bytes=OPERATION_MAX_BYTES, max_depth=_DEPTH, what="An operation")
    return _operation(fields, Malformed)


def _operation(fields: object, error: type[InvalidValue] | type[Malformed]) -> Operation:
    """The operation in `fields`; a later minor format may append more."""
    if type(fields) is not list or len(fields) < _FIELDS:
        raise error("An operation is not a list of document, life, name and payload.")
    document, life, name, payload = fields[:_FIELDS]
    if not (
        type(document) is str
        and len(document) <= MAX_ID_CHARS
        and (document.isprintable() or not any(_hidden(ord(code)) for code in document))
    ):
        raise error("An operation names its document by something that is no id.")
    if not (type(name) is str and 0 < len(name) <= MAX_NAME_CHARS and name.isascii() and name.isprintable()):
        raise error("An operation has no usable name.")
    if type(life) is not int or not 0 <= life <= MAX_LIFE or type(payload) is not bytes:
        raise error("An operation has a life or a payload of the wrong type.")
    return Operation(document, life, name, payload)


def _hidden(code: int) -> bool:
    """A control character or a lone surrogate, which no id holds."""
    return code < 32 or 0xD800 <= code < 0xE000


def _bound(prefix: bytes, index: int) -> bytes:
    return prefix + index.to_bytes(4, "big")


def _compress(packed: bytes) -> bytes:
    if len(packed) >= COMPRESS_FROM_BYTES:
        # A compressor is not thread-safe, and a new one costs as much as its work: whoever needs one borrows it.
        compressor = _idle.pop() if _idle else zstandard.ZstdCompressor(level=_LEVEL)
        frame = compressor.compress(packed)
        if len(_idle) < _MAX_IDLE:
            _idle.append(compressor)
        if len(frame) * COMPRESS_SAVES <= len(packed) * (COMPRESS_SAVES - 1):
            return _ZSTD + frame
    return _RAW + packed


def _decompress(plain: bytes) -> bytes:
    """Undo `_compress`, never making more than `OPERATION_MAX_BYTES`.

    The frame must state its size: python-zstandard then allocates exactly that and fails when the frame holds
    more, whereas `max_output_size` is ignored once a size is stated.
    """
    mark, body = plain[:1], plain[1:]
    if mark == _RAW:
        return body
    if mark != _ZSTD:
        raise Malformed("An item is packed in a way this format does not know.")
    try:
        frame = zstandard.get_frame_parameters(body)
        if frame.content_size == zstandard.CONTENTSIZE_UNKNOWN:
            raise Malformed("A compressed item does not state its size.")
        if frame.content_size > OPERATION_MAX_BYTES or frame.window_size > ITEM_MAX_BYTES:
            raise TooLarge(f"A compressed item unpacks to more than {OPERATION_MAX_BYTES} bytes.")
        if not frame.content_size:
            raise Malformed("A compressed item is empty.")
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=frame.content_size, allow_extra_data=False)
    except zstandard.ZstdError:
        raise Malformed("A compressed item does not unpack.") from None
