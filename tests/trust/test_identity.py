"""Golden vectors from RFC 8032 and ZeroMQ's Z85 specification; the curve conversion against its formula."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from hashlib import sha512

import pytest
import zmq
import zmq.utils.z85
from nacl.signing import SigningKey

from aico_crdt.errors import InvalidValue, Malformed
from aico_crdt.trust.identity import BOX_OVERHEAD, Identity, curve_key, seal_to, verify, z85

# RFC 8032, section 7.1, TEST 1 (an empty message) and TEST 2 (one byte).
SEED_1 = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC_1 = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
SIGNATURE_1 = bytes.fromhex(
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
)
SEED_2 = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC_2 = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE_2 = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)
P = 2**255 - 19

ALICE, BOB = Identity.from_seed(SEED_1), Identity.from_seed(SEED_2)


@pytest.mark.parametrize(
    ("seed", "public", "message", "signature"),
    [(SEED_1, PUBLIC_1, b"", SIGNATURE_1), (SEED_2, PUBLIC_2, b"\x72", SIGNATURE_2)],
)
def test_signatures_are_rfc_8032(seed: bytes, public: bytes, message: bytes, signature: bytes) -> None:
    identity = Identity.from_seed(seed)
    assert identity.device == public
    assert identity.sign(message) == signature
    assert verify(public, message, signature)


@pytest.mark.parametrize("position", [0, 31, 32, 63])
def test_a_signature_with_one_bit_wrong_is_none(position: int) -> None:
    wrong = bytearray(ALICE.sign(b"message"))
    wrong[position] ^= 1
    assert not verify(ALICE.device, b"message", bytes(wrong))


def test_verify_is_false_for_whatever_is_no_signature_of_that_device() -> None:
    signature = ALICE.sign(b"message")
    assert verify(ALICE.device, b"message", signature)
    for device, message, signed in [
        (BOB.device, b"message", signature),
        (ALICE.device, b"messagf", signature),
        (ALICE.device, b"message", signature[:63]),
        (ALICE.device, b"message", signature + b"\0"),
        (ALICE.device, b"message", b""),
        (ALICE.device[:31], b"message", signature),
        (b"", b"message", signature),
        (bytes(32), b"message", bytes(64)),  # a key of small order would accept many
    ]:
        assert not verify(device, message, signed)


def test_hazard_19_curve_keys_are_the_converted_signing_keys() -> None:
    for seed in (SEED_1, SEED_2):
        identity = Identity.from_seed(seed)
        scalar = bytearray(sha512(seed).digest()[:32])
        scalar[0] &= 248
        scalar[31] = scalar[31] & 127 | 64
        y = int.from_bytes(identity.device, "little") & (1 << 255) - 1
        u = (1 + y) * pow(1 - y, -1, P) % P
        assert identity.curve_secret_z85 == zmq.utils.z85.encode(bytes(scalar)).decode()
        assert identity.curve_public_z85 == zmq.utils.z85.encode(u.to_bytes(32, "little")).decode()
        assert curve_key(identity.device) == identity.curve_public_z85
        assert zmq.curve_public(identity.curve_secret_z85.encode()).decode() == identity.curve_public_z85
        key = SigningKey(seed).to_curve25519_private_key()
        assert zmq.utils.z85.encode(bytes(key)).decode() == identity.curve_secret_z85


def test_the_golden_curve_keys_of_a_fixed_seed() -> None:
    """Written down, so that no upgrade may change who a device is."""
    identity = Identity.from_seed(bytes(range(32)))
    assert identity.device.hex() == "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"
    assert identity.curve_public_z85 == "m/*$&H^-y+t0OZ/ISr/LFYZlVkyTnmN9xTcTAhI+"
    assert identity.derive("storage").hex() == ("8187d17160d0684e6b654a256ce6673b6bd9dd7ae63cee445254dbea70390d72")


def test_z85_is_zeromqs() -> None:
    assert z85(bytes.fromhex("864fd26fb559f75b")) == "HelloWorld"
    for raw in (b"", bytes(32), b"\xff" * 32, bytes(range(32))):
        assert z85(raw) == zmq.utils.z85.encode(raw).decode()
    with pytest.raises(InvalidValue):
        z85(b"abc")


def test_what_is_sealed_to_a_device_opens_there() -> None:
    box = seal_to(BOB.device, b"space keys")
    assert len(box) == len(b"space keys") + BOX_OVERHEAD
    assert BOB.unseal(box) == b"space keys"
    assert BOB.unseal(seal_to(BOB.device, b"")) == b""


def test_what_is_sealed_twice_differs() -> None:
    assert seal_to(BOB.device, b"x") != seal_to(BOB.device, b"x")


def test_a_box_for_another_device_fails_typed() -> None:
    with pytest.raises(Malformed, match="another device"):
        ALICE.unseal(seal_to(BOB.device, b"space keys"))


@pytest.mark.parametrize(
    "damage",
    [lambda box: box[:-1], lambda box: box + b"\0", lambda box: b"", lambda box: box[:47], lambda box: bytes(60)],
)
def test_a_damaged_box_fails_typed(damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Malformed):
        BOB.unseal(damage(seal_to(BOB.device, b"space keys")))


@pytest.mark.parametrize("device", [b"", bytes(31), bytes(32), b"\xff" * 32, b"\x01" + bytes(31)])
def test_nothing_is_sealed_to_what_is_no_device(device: bytes) -> None:
    for use in (curve_key, lambda device: seal_to(device, b"x")):
        with pytest.raises(Malformed):
            use(device)


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(33), bytearray(32), "x" * 32])
def test_a_seed_is_32_bytes(seed: bytes) -> None:
    with pytest.raises(InvalidValue):
        Identity.from_seed(seed)


def test_each_purpose_has_its_own_key_on_each_device() -> None:
    keys = {identity.derive(purpose) for identity in (ALICE, BOB) for purpose in ("storage", "index", "")}
    assert len(keys) == 6
    assert {len(key) for key in keys} == {32}
    assert SEED_1 not in keys


def test_an_identity_shows_and_hands_out_no_secret() -> None:
    shown = repr(ALICE) + str(ALICE)
    assert SEED_1.hex() not in shown
    assert ALICE.curve_secret_z85 not in shown
    assert PUBLIC_1.hex() in shown
    for carry in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(InvalidValue):
            carry(ALICE)
