"""Measured facts about PyNaCl (1.6) that identity, entries and sealing are built around."""

from __future__ import annotations

from collections.abc import Callable

import nacl.bindings
import nacl.exceptions
import nacl.public
import nacl.signing
import pytest

SEED = bytes(range(32))
KEY, NONCE = bytes(32), bytes(24)
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493  # of Ed25519, RFC 8032


def seal(message: bytes, data: bytes) -> bytes:
    return nacl.bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(message, data, NONCE, KEY)


def open_sealed(sealed: bytes, data: bytes, key: bytes = KEY) -> bytes:
    return nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, data, NONCE, key)


def test_hazard_19_converted_halves_belong_together() -> None:
    """19. Converting the secret and converting the public key give one X25519 pair."""
    signing = nacl.signing.SigningKey(SEED)
    secret = signing.to_curve25519_private_key()
    public = signing.verify_key.to_curve25519_public_key()
    assert bytes(secret.public_key) == bytes(public)
    sealed = nacl.public.SealedBox(public).encrypt(b"for this device")
    assert nacl.public.SealedBox(secret).decrypt(sealed) == b"for this device"


@pytest.mark.parametrize("point", [bytes(32), b"\x01" + bytes(31), b"\xff" * 32])
def test_hazard_19_a_public_key_of_small_order_does_not_convert(point: bytes) -> None:
    """19. Points of small order or off the curve make a ``VerifyKey``, but their conversion raises."""
    key = nacl.signing.VerifyKey(point)
    with pytest.raises(nacl.exceptions.CryptoError):
        key.to_curve25519_public_key()


def test_hazard_26_signing_is_deterministic() -> None:
    """26. Ed25519: the same key and message give the same 64 bytes, on every device."""
    signature = nacl.signing.SigningKey(SEED).sign(b"message").signature
    assert signature == nacl.signing.SigningKey(SEED).sign(b"message").signature
    assert len(signature) == 64


@pytest.mark.parametrize("change", ["message", "signature", "shorter", "empty", "malleated"])
def test_hazard_26_verify_refuses_every_other_signature(change: str) -> None:
    """26. Also one of the wrong length, and one whose scalar has the group order added (malleability)."""
    signing = nacl.signing.SigningKey(SEED)
    signature = signing.sign(b"message").signature
    scalar = int.from_bytes(signature[32:], "little") + GROUP_ORDER
    message, forged = {
        "message": (b"massage", signature),
        "signature": (b"message", bytes([signature[0] ^ 1]) + signature[1:]),
        "shorter": (b"message", signature[:-1]),
        "empty": (b"message", b""),
        "malleated": (b"message", signature[:32] + scalar.to_bytes(32, "little")),
    }[change]
    assert signing.verify_key.verify(b"message", signature) == b"message"
    with pytest.raises(nacl.exceptions.CryptoError):
        signing.verify_key.verify(message, forged)


def test_hazard_26_a_signature_under_a_small_order_key_is_refused() -> None:
    """26. The neutral point as key would verify anything; libsodium refuses it."""
    neutral = nacl.signing.VerifyKey(b"\x01" + bytes(31))
    with pytest.raises(nacl.exceptions.BadSignatureError):
        neutral.verify(b"message", b"\x01" + bytes(63))


def test_hazard_26_aead_binds_key_and_associated_data() -> None:
    """26. XChaCha20-Poly1305: 16 bytes longer; other data, another key or a changed byte does not open."""
    sealed = seal(b"message", b"header")
    assert len(sealed) == len(b"message") + 16
    assert open_sealed(sealed, b"header") == b"message"
    attempts: list[Callable[[], bytes]] = [
        lambda: open_sealed(sealed, b"hEader"),
        lambda: open_sealed(sealed, b"header", b"\x01" * 32),
        lambda: open_sealed(sealed[:-1], b"header"),
        lambda: open_sealed(bytes([sealed[0] ^ 1]) + sealed[1:], b"header"),
    ]
    for attempt in attempts:
        with pytest.raises(nacl.exceptions.CryptoError):
            attempt()


@pytest.mark.parametrize("length", [0, 1, 15])
def test_hazard_26_opening_fewer_bytes_than_a_tag_raises_no_crypto_error(length: int) -> None:
    """26. Below 16 bytes the binding raises a plain ``ValueError``: check the length first."""
    with pytest.raises(ValueError, match="negative") as raised:
        open_sealed(bytes(length), b"header")
    assert not isinstance(raised.value, nacl.exceptions.CryptoError)
