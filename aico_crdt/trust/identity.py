"""A device's identity: one 32-byte seed, and everything that follows from it.

The seed is an Ed25519 private key (RFC 8032); its public half is the device id. By the birational map to
X25519 (libsodium ``crypto_sign_ed25519_*_to_curve25519``) the same seed also gives the CurveZMQ key pair and
the key that sealed boxes (libsodium ``crypto_box_seal``) are addressed to: a device id is all a peer needs.
Keys for the device's own use are keyed BLAKE2b of the seed, one a purpose. Z85 is ZeroMQ's base-85
(rfc.zeromq.org/spec/32).
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

import nacl.bindings as sodium
import nacl.exceptions

from aico_crdt.errors import InvalidValue, Malformed
from aico_crdt.ids import DEVICE_BYTES

SEED_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
BOX_OVERHEAD: Final = 48
"""Bytes a sealed box is longer than what it holds: an ephemeral public key and a Poly1305 tag."""
_Z85: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


class Identity:
    """The keys of this device. Never prints or pickles its secret. Thread-safe: it never changes."""

    __slots__ = ("_curve_public", "_curve_secret", "_secret", "_seed", "device")

    device: bytes
    """The Ed25519 public key, 32 bytes: the device id."""

    def __init__(self, seed: bytes) -> None:
        """See :meth:`from_seed`."""
        if not isinstance(seed, bytes) or len(seed) != SEED_BYTES:
            raise InvalidValue(f"A seed is {SEED_BYTES} bytes.")
        self._seed = seed
        self.device, self._secret = sodium.crypto_sign_seed_keypair(seed)
        self._curve_secret = sodium.crypto_sign_ed25519_sk_to_curve25519(self._secret)
        self._curve_public = sodium.crypto_sign_ed25519_pk_to_curve25519(self.device)

    @classmethod
    def from_seed(cls, seed: bytes) -> Identity:
        """The identity of `seed`, 32 bytes of a cryptographic random source.

        Raises:
            InvalidValue: not 32 bytes.
        """
        return cls(seed)

    def __repr__(self) -> str:
        return f"Identity({self.device.hex()})"

    def __reduce__(self) -> str:
        raise InvalidValue("An identity is not pickled.", "Pass the path of its key file instead.")

    @property
    def curve_public_z85(self) -> str:
        """The CurveZMQ public key, 40 characters; equal to ``curve_key(self.device)``."""
        return z85(self._curve_public)

    @property
    def curve_secret_z85(self) -> str:
        """The CurveZMQ secret key, 40 characters."""
        return z85(self._curve_secret)

    def sign(self, message: bytes) -> bytes:
        """The Ed25519 signature of `message`, 64 bytes. The caller's message starts with its own domain."""
        signed: bytes = sodium.crypto_sign(message, self._secret)
        return signed[:SIGNATURE_BYTES]

    def unseal(self, sealed_box: bytes) -> bytes:
        """What :func:`seal_to` sealed to this device.

        Raises:
            Malformed: sealed to another device, or damaged.
        """
        if len(sealed_box) < BOX_OVERHEAD:
            raise Malformed(f"A sealed box has at least {BOX_OVERHEAD} bytes, not {len(sealed_box)}.")
        try:
            plain: bytes = sodium.crypto_box_seal_open(sealed_box, self._curve_public, self._curve_secret)
        except nacl.exceptions.CryptoError:
            what = "The sealed box was damaged, or sealed to another device."
            raise Malformed(what, "Have it sealed to this device again.") from None
        return plain

    def derive(self, purpose: str) -> bytes:
        """A 32-byte key for one `purpose` of this device alone (such as ``"storage"``)."""
        return blake2b(purpose.encode(), digest_size=32, key=self._seed, person=b"aico.derive.1").digest()


def verify(device: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is the Ed25519 signature of `message` by `device`; False for wrong lengths too."""
    if len(device) != DEVICE_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        sodium.crypto_sign_open(signature + message, device)
    except nacl.exceptions.BadSignatureError:
        return False
    return True


def seal_to(device: bytes, plain: bytes) -> bytes:
    """`plain` so that only `device` can read it, 48 bytes longer. A box names no sender.

    Raises:
        Malformed: `device` is no Ed25519 public key.
    """
    sealed: bytes = sodium.crypto_box_seal(plain, _curve_public(device))
    return sealed


def curve_key(device: bytes) -> str:
    """The CurveZMQ public key of `device`, 40 characters of Z85.

    Raises:
        Malformed: `device` is no Ed25519 public key.
    """
    return z85(_curve_public(device))


def z85(raw: bytes) -> str:
    """`raw` (a multiple of 4 bytes) in ZeroMQ's base-85."""
    if len(raw) % 4:
        raise InvalidValue("Z85 takes a multiple of 4 bytes.")
    characters = []
    for start in range(0, len(raw), 4):
        value = int.from_bytes(raw[start : start + 4], "big")
        characters += [_Z85[value // power % 85] for power in (85**4, 85**3, 85**2, 85, 1)]
    return "".join(characters)


def _curve_public(device: bytes) -> bytes:
    if len(device) != DEVICE_BYTES:
        raise Malformed(f"A device id has {DEVICE_BYTES} bytes, not {len(device)}.")
    try:
        public: bytes = sodium.crypto_sign_ed25519_pk_to_curve25519(device)
    except nacl.exceptions.CryptoError:
        raise Malformed("The device id is no Ed25519 public key.") from None
    return public
