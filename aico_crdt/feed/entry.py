"""Entries: one atomic change each, signed by its device and chained to the entry before it.

A header signed in clear, and one sealed item per document touched. The signature covers the header alone and
the header names each item by hash, so items can be missing (erased) and the feed still verifies. It covers the
header by its place and its hash, so (place, hash, signature) proves how far a feed goes to who has no header of it. A
run of consecutive entries is proven by the signature of its last header plus the chain of hashes: one signature
check for the whole run.

    Wire: msgpack [header raw, signature, [sealed item | [document key, life] | nil …]]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from aico_crdt.aead import NONCE_BYTES
from aico_crdt.errors import BadSignature, BrokenChain, InvalidValue, Malformed, TooLarge
from aico_crdt.feed.header import (
    ENTRY_MAX_BYTES,
    FORMAT,
    GENESIS,
    HEADER_MAX_BYTES,
    ITEM_MAX_BYTES,
    MAX_DEPS,
    MAX_ERASE,
    MAX_ITEMS,
    MAX_LIFE,
    MAX_SEQ,
    NO_MARK,
    Erase,
    FeedId,
    Head,
    Header,
    ItemRef,
    decode_header,
    encode_header,
    encode_prefix,
    make_header,
)
from aico_crdt.feed.item import Operation, item_hash, open_item, seal
from aico_crdt.feed.packing import pack, unpack
from aico_crdt.ids import DOCUMENT_KEY_BYTES

__all__ = [
    "ENTRY_MAX_BYTES",
    "FORMAT",
    "GENESIS",
    "HEADER_MAX_BYTES",
    "ITEM_MAX_BYTES",
    "MAX_DEPS",
    "MAX_ERASE",
    "MAX_ITEMS",
    "MAX_SEQ",
    "SIGNATURE_BYTES",
    "Entry",
    "Erase",
    "Erased",
    "FeedId",
    "Head",
    "Header",
    "ItemRef",
    "Operation",
    "check_items",
    "check_signature",
    "decode_entry",
    "decode_header",
    "encode_entry",
    "open_item",
    "verify_entry",
    "verify_head",
    "verify_run",
    "write_entry",
]

SIGNATURE_BYTES: Final = 64
_SIGNED_AS: Final = b"aico-crdt entry 1\0"
"""What stands before the header hash in the signed message, so that no signature made elsewhere fits an
entry."""


class Erased(NamedTuple):
    """In place of an item that is gone: the life of the document it belonged to, as its mark proves."""

    document_key: bytes
    life: int


Item = bytes | Erased | None
"""A sealed item; or what is left of it. None is what a relay leaves that cannot tell which document it was of."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A header, its Ed25519 signature (64 bytes) and its items in order."""

    header: Header
    signature: bytes
    items: tuple[Item, ...]


def write_entry(
    *,
    family: bytes,
    tag: bytes,
    device: bytes,
    incarnation: bytes,
    seq: int,
    prev: bytes,
    deps: Sequence[Head],
    hlc: int,
    key_id: bytes,
    key: bytes,
    erase: Sequence[Erase],
    operations: Sequence[Operation],
    marks: Sequence[bytes] = (),
    lacks: bool = False,
    sign: Callable[[bytes], bytes],
    random: Callable[[int], bytes],
) -> Entry:
    """The next entry of this device's feed: sealed, chained and signed.

    Args:
        prev: hash of entry ``seq - 1``, `GENESIS` for the first.
        deps: the heads this write builds on, see `causality.deps_since`.
        key_id: 8 bytes that name `key` (32 bytes).
        marks: `item_mark` of each operation; none for those that belong to no document.
        lacks: not all is here that `deps` stand for, see `Header`.
        sign: message → Ed25519 signature by `device`.
        random: count → that many fresh random bytes; asked once.

    Raises:
        InvalidValue: beyond a cap, or a field no reader would accept.
    """
    prefix = encode_prefix(
        family=family,
        tag=tag,
        device=device,
        incarnation=incarnation,
        seq=seq,
        prev=prev,
        deps=deps,
        hlc=hlc,
        key_id=key_id,
        erase=erase,
        lacks=lacks,
    )
    nonces = random(NONCE_BYTES * len(operations))
    items = tuple(
        seal(
            operation,
            prefix=prefix,
            index=index,
            key=key,
            nonce=nonces[index * NONCE_BYTES : (index + 1) * NONCE_BYTES],
        )
        for index, operation in enumerate(operations)
    )
    if marks and len(marks) != len(items):
        raise InvalidValue("An entry needs one mark for each operation, or none.")
    named = marks or [NO_MARK] * len(items)
    refs = [ItemRef(item_hash(sealed), len(sealed), mark) for sealed, mark in zip(items, named, strict=True)]
    raw = encode_header(prefix, refs)
    try:
        # A writer is held to what every reader checks.
        if deps or erase or lacks:
            header = decode_header(raw)
        else:
            header = make_header(family, tag, device, incarnation, seq, prev, hlc, key_id, refs, raw, prefix)
        _check_size(header)
    except Malformed as error:
        raise InvalidValue(f"This entry cannot be written: {error.what}", "Split the change.") from None
    return Entry(header, sign(_signed(family, tag, header.head)), items)


def encode_entry(entry: Entry) -> bytes:
    """The wire bytes, also what the store keeps."""
    return pack([entry.header.raw, entry.signature, entry.items])


def decode_entry(raw: bytes) -> Entry:
    """Read one entry. Proves nothing yet: see `check_items`, `verify_entry` and `verify_run`.

    Raises:
        NotYet: ``format``: written in a later format.
        TooLarge: beyond a cap in bytes, items, dependencies or erasures.
        Malformed: not an entry.
    """
    fields = unpack(raw, max_bytes=ENTRY_MAX_BYTES, max_depth=3, max_elements=3 * MAX_ITEMS + 4, what="An entry")
    if type(fields) is not list or len(fields) != 3:
        raise Malformed("An entry is not a list of header, signature and items.")
    header_raw, signature, items = fields
    if type(header_raw) is not bytes or type(signature) is not bytes or len(signature) != SIGNATURE_BYTES:
        raise Malformed("An entry has no header or no signature.")
    if type(items) is not list:
        raise Malformed("An entry's items are not a list.")
    header = decode_header(header_raw)
    if len(items) != len(header.items):
        raise Malformed(f"An entry carries {len(items)} items; its header names {len(header.items)}.")
    _check_size(header)
    return Entry(header, signature, tuple([item if type(item) is bytes else _erased(item) for item in items]))


def _erased(item: object) -> Erased | None:
    if item is None:
        return None
    if type(item) is list and len(item) == 2:
        key, life = item
        if type(key) is bytes and len(key) == DOCUMENT_KEY_BYTES and type(life) is int and 0 < life <= MAX_LIFE:
            return Erased(key, life)
    raise Malformed("An entry's items are neither bytes nor erased.")


def check_items(entry: Entry) -> None:
    """Every item that is present is the one the header names.

    Raises:
        Malformed: one is not, in hash or size.
    """
    for sealed, named in zip(entry.items, entry.header.items, strict=True):
        if type(sealed) is bytes and (len(sealed) != named.size or item_hash(sealed) != named.hash):
            raise Malformed("An item is not the one its header names.")


def check_signature(device: bytes, message: bytes, signature: bytes) -> None:
    """`signature` is Ed25519 by `device` (its public key, 32 bytes) over `message`.

    Raises:
        BadSignature: it is not.
    """
    try:
        crypto_sign_open(signature + message, device)
    except BadSignatureError:
        raise BadSignature("A signature is not by the device it names.") from None


def verify_head(family: bytes, tag: bytes, head: Head, signature: bytes) -> None:
    """Prove that the device of `head` signed an entry of that hash for that place of its feed in `tag`.

    Raises:
        BadSignature: it did not.
    """
    check_signature(head.device, _signed(family, tag, head), signature)


def _signed(family: bytes, tag: bytes, head: Head) -> bytes:
    """What the signature of an entry covers; the device is the key that signs."""
    return _SIGNED_AS + family + tag + head.incarnation + head.seq.to_bytes(8, "big") + head.hash


def verify_entry(entry: Entry) -> None:
    """Prove one entry alone: its device signed this header, and the items are those the header names.

    Raises:
        Malformed: an item is not the one its header names.
        BadSignature: not signed by its device.
    """
    check_items(entry)
    verify_head(entry.header.family, entry.header.tag, entry.header.head, entry.signature)


def verify_run(entries: Sequence[Entry], head: bytes | None) -> None:
    """Prove consecutive entries of one feed by their chain and the signature of the last.

    Args:
        head: header hash of the entry before the first, `GENESIS` before seq 1; ``None`` = not known here,
            and the
            caller answers for where the run begins.

    Raises:
        BrokenChain: not consecutive, not one feed, or it does not continue `head`.
        BadSignature: the last entry is not signed by its device.
        Malformed: no entry at all, or an item is not the one its header names.
    """
    if not entries:
        raise Malformed("A run holds no entry.")
    first = entries[0].header
    if head is not None and first.prev != head:
        raise BrokenChain(f"A run that begins at {first.seq} does not continue the feed known here.")
    for before, entry in pairwise(entries):
        earlier, header = before.header, entry.header
        if (
            header.prev != earlier.hash
            or header.seq != earlier.seq + 1
            or header.device != earlier.device
            or header.incarnation != earlier.incarnation
            or header.tag != earlier.tag
            or header.family != earlier.family
        ):
            raise BrokenChain(f"The entry after {earlier.seq} in a run does not continue it.")
        check_items(before)
    verify_entry(entries[-1])


def _check_size(header: Header) -> None:
    """The whole entry fits its cap even with every item present, so what is valid erased is valid whole."""
    total = len(header.raw) + SIGNATURE_BYTES + 16 + sum(item.size + 5 for item in header.items)
    if total > ENTRY_MAX_BYTES:
        raise TooLarge(f"An entry is {total} bytes long; at most {ENTRY_MAX_BYTES} are accepted.")
