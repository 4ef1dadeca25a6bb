"""XChaCha20-Poly1305 (RFC 8439, draft-irtf-cfrg-xchacha-03), the one cipher of this project.

A message is sealed a few times for each write, so libsodium is called without the copies and checks of
``nacl.bindings``, which take twice as long as the cipher itself. What those check is fixed here by type and length.
"""

from __future__ import annotations

from typing import Final

from nacl._sodium import ffi, lib  # type: ignore[import-not-found]

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 24
TAG_BYTES: Final = 16

_NULL: Final = ffi.NULL
_new: Final = ffi.from_buffer


def seal(plain: bytes, bound: bytes, nonce: bytes, key: bytes) -> bytes:
    """`plain` sealed, 16 bytes longer; `bound` is authenticated with it.

    Args:
        nonce: 24 bytes never used with `key` before.
        key: 32 bytes.
    """
    if len(nonce) != NONCE_BYTES or len(key) != KEY_BYTES:
        raise ValueError("A nonce has 24 bytes and a key 32.")
    sealed = bytearray(len(plain) + TAG_BYTES)
    lib.crypto_aead_xchacha20poly1305_ietf_encrypt(
        _new(sealed), _NULL, plain, len(plain), bound, len(bound), _NULL, nonce, key
    )
    return bytes(sealed)


def unseal(sealed: bytes, bound: bytes, nonce: bytes, key: bytes) -> bytes | None:
    """Inverse of :func:`seal`; None when bytes, bound, nonce or key are not those it was sealed with."""
    if len(nonce) != NONCE_BYTES or len(key) != KEY_BYTES:
        raise ValueError("A nonce has 24 bytes and a key 32.")
    if len(sealed) < TAG_BYTES:
        return None
    plain = bytearray(len(sealed) - TAG_BYTES)
    wrong: int = lib.crypto_aead_xchacha20poly1305_ietf_decrypt(
        _new(plain), _NULL, _NULL, sealed, len(sealed), bound, len(bound), nonce, key
    )
    return None if wrong else bytes(plain)
