"""Identifiers: how each is made, how long it is, what it proves.

======================  =====  ==========================================================
device                  32 B   Ed25519 public key
incarnation              8 B   random; one life of a device's store
client id               53 b   BLAKE2b(device, incarnation): the Yjs client of that writer
writer                  20 ch  base64url(device[:9]) + base64url(incarnation[:6]); slot keys
collection tag          16 B   keyed hash of a kind under its space's tag key
document key            16 B   keyed hash of (kind, public id) under the same key
ULID                    26 ch  public id of a record that is never deduplicated
derived id              26 ch  keyed hash: public id of records meant to be one
======================  =====  ==========================================================
"""

from __future__ import annotations

import base64
from hashlib import blake2b
from typing import Final

from aico_crdt.errors import InvalidValue

DEVICE_BYTES: Final = 32
INCARNATION_BYTES: Final = 8
TAG_BYTES: Final = 16
DOCUMENT_KEY_BYTES: Final = 16
HASH_BYTES: Final = 32
FAMILY_BYTES: Final = 16
KEY_ID_BYTES: Final = 8
DEVICE_NAME_CHARS: Final = 12
WRITER_CHARS: Final = 20
MAX_ID_CHARS: Final = 128
_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = tuple(a + b for a in _CROCKFORD for b in _CROCKFORD)


def client_id(device: bytes, incarnation: bytes) -> int:
    """The Yjs client id of a writer: 53 bits (all a double holds), never zero."""
    digest = blake2b(device + incarnation, digest_size=8, person=b"aico.client.1").digest()
    return int.from_bytes(digest, "big") >> 11 or 1


def device_name(device: bytes) -> str:
    """First 12 characters of a writer: 72 bits of the device id; short enough for slot keys and for people."""
    return base64.urlsafe_b64encode(device[:9]).decode()


def writer(device: bytes, incarnation: bytes) -> str:
    """The name under which one incarnation writes its slots, 20 characters.

    An incarnation, not a device, owns a slot: a store restored from a backup must not overwrite what its lost
    successor wrote under the same key. `writer[:12]` is :func:`device_name`.
    """
    return device_name(device) + base64.urlsafe_b64encode(incarnation[:6]).decode()


def collection_tag(tag_key: bytes, kind: str) -> bytes:
    """16 bytes that name a collection in clear without saying what it holds."""
    return blake2b(kind.encode(), digest_size=TAG_BYTES, key=tag_key, person=b"aico.collect.1").digest()


def document_key(tag_key: bytes, kind: str, public_id: str) -> bytes:
    """16 bytes that name a document in clear, equal on every device that holds the space's tag key."""
    message = kind.encode() + b"\0" + public_id.encode()
    return blake2b(message, digest_size=DOCUMENT_KEY_BYTES, key=tag_key, person=b"aico.document.1").digest()


def derived_id(tag_key: bytes, *parts: str) -> str:
    """The public id of records that are one when stored twice: 26 characters, equal for equal `parts`."""
    hasher = blake2b(digest_size=16, key=tag_key, person=b"aico.derived.1")
    for part in parts:
        raw = part.encode()
        hasher.update(len(raw).to_bytes(4, "big") + raw)
    return _crockford(int.from_bytes(hasher.digest(), "big"))


def ulid(now_ms: int, random: bytes) -> str:
    """A ULID (github.com/ulid/spec): 48 bits of milliseconds and the 10 bytes of `random`, 26 characters."""
    if len(random) != 10:
        raise InvalidValue("A ULID takes 10 random bytes.")
    return _crockford((now_ms & (1 << 48) - 1) << 80 | int.from_bytes(random, "big"))


def check_public_id(public_id: str) -> str:
    """`public_id` itself, if it can name a document: 1 to 128 characters, encodable, no control characters.

    Raises:
        InvalidValue: otherwise.
    """
    if not isinstance(public_id, str) or not 0 < len(public_id) <= MAX_ID_CHARS:
        raise InvalidValue(f"An id is 1 to {MAX_ID_CHARS} characters of text.")
    if public_id.isascii() and public_id.isprintable():
        return public_id
    if any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for c in public_id):
        raise InvalidValue("An id holds no control characters and no lone surrogates.")
    return public_id


def _crockford(value: int) -> str:
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(120, -1, -10)])
