"""Devices with fixed seeds that write feeds, and the door every foreign byte must pass."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from nacl.signing import SigningKey

from aico_crdt.errors import PeerError
from aico_crdt.feed import GENESIS, Entry, Erase, Erased, Head, Header, Operation, item_mark, write_entry

FAMILY, TAG, KEY_ID, KEY = b"F" * 16, b"T" * 16, b"K" * 8, b"k" * 32
TAG_KEY = b"t" * 32


def document_key(place: int) -> bytes:
    """The document that the item at `place` of every entry belongs to."""
    return bytes([place & 255]) * 16


@dataclass
class Author:
    """One incarnation of a device, writing one feed with reproducible keys and nonces."""

    seed: int
    incarnation: bytes = b"I" * 8
    seq: int = 0
    prev: bytes = GENESIS
    signing_key: SigningKey = field(init=False)
    device: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.signing_key = SigningKey(bytes([self.seed]) * 32)
        self.device = bytes(self.signing_key.verify_key)
        self.random = random.Random(self.seed)

    def sign(self, message: bytes) -> bytes:
        return self.signing_key.sign(message).signature

    def write(
        self,
        *payloads: bytes,
        deps: Sequence[Head] = (),
        erase: Sequence[Erase] = (),
        hlc: int = 1 << 40,
        name: str = "update",
    ) -> Entry:
        """The next entry, with one operation a payload, each marked as of life 1 of the document of its place."""
        seq = self.seq + 1
        entry = write_entry(
            family=FAMILY,
            tag=TAG,
            device=self.device,
            incarnation=self.incarnation,
            seq=seq,
            prev=self.prev,
            deps=deps,
            hlc=hlc,
            key_id=KEY_ID,
            key=KEY,
            erase=erase,
            operations=[Operation(f"doc-{place}", 1, name, payload) for place, payload in enumerate(payloads)],
            marks=[
                item_mark(TAG_KEY, document_key(place), 1, self.device, self.incarnation, seq, place)
                for place in range(len(payloads))
            ],
            sign=self.sign,
            random=self.random.randbytes,
        )
        self.seq, self.prev = seq, entry.header.hash
        return entry


@pytest.fixture
def author() -> Callable[..., Author]:
    return Author


@pytest.fixture
def anna() -> Author:
    return Author(1)


@pytest.fixture
def ben() -> Author:
    return Author(2)


@pytest.fixture
def key() -> bytes:
    return KEY


@pytest.fixture
def tag() -> bytes:
    return TAG


@pytest.fixture
def mark_of() -> Callable[[Header, int, Erased], bytes]:
    """The mark that the item at a place of an entry bears if it was of that life of that document."""

    def mark(header: Header, index: int, erased: Erased) -> bytes:
        return item_mark(TAG_KEY, *erased, header.device, header.incarnation, header.seq, index)

    return mark


@pytest.fixture
def bit_flips() -> Callable[[bytes], Iterator[tuple[int, bytes]]]:
    """Every way to flip one bit: (offset of the byte, flipped bytes)."""

    def flips(raw: bytes) -> Iterator[tuple[int, bytes]]:
        for offset in range(len(raw)):
            for bit in range(8):
                flipped = bytearray(raw)
                flipped[offset] ^= 1 << bit
                yield offset, bytes(flipped)

    return flips


@pytest.fixture
def cuts() -> Callable[[bytes], Iterator[bytes]]:
    """Every truncation of `raw`, and extensions that tempt a decoder: nil, an empty list, itself, a lead byte."""

    def cut(raw: bytes) -> Iterator[bytes]:
        yield from (raw[:length] for length in range(len(raw)))
        yield from (raw + more for more in (b"\xc0", b"\x90", b"\0", b"\xc4", b"\xdd\xff\xff\xff\xff", raw))

    return cut


@pytest.fixture
def refused() -> Callable[[Callable[[], object]], bool]:
    """Whether a call ends in a `PeerError`. Any other exception passes through and fails the test."""

    def is_refused(call: Callable[[], object]) -> bool:
        try:
            call()
        except PeerError as error:
            return error.blame == "peer" and bool(error.what)
        return False

    return is_refused
