"""Sealing at rest: XChaCha20-Poly1305 (RFC 8439, draft-irtf-cfrg-xchacha) with a random 24-byte nonce in front.

The associated data is the record's LMDB key, so a sealed value moved to another key does not open.
"""

from __future__ import annotations

import os
from typing import Final

from aico_crdt import aead
from aico_crdt.aead import NONCE_BYTES
from aico_crdt.errors import Damaged

OVERHEAD: Final = NONCE_BYTES + aead.TAG_BYTES


def seal(value: bytes, place: bytes, key: bytes) -> bytes:
    """`value` sealed for the record at `place` under a 32-byte `key`."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + aead.seal(value, place, nonce, key)


def unseal(sealed: bytes, place: bytes, key: bytes) -> bytes:
    """Inverse of :func:`seal`.

    Raises:
        Damaged: the bytes, the place or the key are not those it was sealed with.
    """
    if len(sealed) < OVERHEAD:
        raise Damaged(f"A sealed record under {place[:1].decode('latin-1')!r} is cut short.")
    value = aead.unseal(sealed[NONCE_BYTES:], place, sealed[:NONCE_BYTES], key)
    if value is None:
        raise Damaged(f"A sealed record under {place[:1].decode('latin-1')!r} does not open.")
    return value
