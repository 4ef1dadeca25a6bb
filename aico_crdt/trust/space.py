"""Spaces: audiences, each with the keys that make it one.

======================  ==================  ========================================================
space                   read by             holds
======================  ==================  ========================================================
``directory``           full limited relay  keys, trust statements, device profiles, endpoints
``own``                 full                what is the owner's alone (the default)
``family``              full limited        what the family shares
``local``               no other device     what never leaves the device; keys derived from its seed
``[a-z][a-z0-9-]{0,31}``  full              named audiences, such as ``work``
======================  ==================  ========================================================

A space has a *tag key*, which names its collections and documents in clear without saying what they are, and
a *key*, under which items are sealed. Tags stay the same for as long as the space does, keys may change:
`keys` holds every epoch's key by its id, `key` is the one to write under. (Rotation comes later; each space
has one epoch so far.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from types import MappingProxyType
from typing import Final

from aico_crdt import ids
from aico_crdt.errors import InvalidValue, Malformed
from aico_crdt.trust import wire
from aico_crdt.trust.identity import Identity, seal_to
from aico_crdt.trust.statement import SealedKey

DIRECTORY: Final = "directory"
OWN: Final = "own"
FAMILY: Final = "family"
LOCAL: Final = "local"
SPACES: Final = (DIRECTORY, OWN, FAMILY, LOCAL)
KEY_BYTES: Final = 32
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
_READERS: Final[Mapping[str, frozenset[str]]] = {
    DIRECTORY: frozenset({"full", "limited", "relay"}),
    OWN: frozenset({"full"}),
    FAMILY: frozenset({"full", "limited"}),
    LOCAL: frozenset(),
}
_NAMED_READERS: Final = frozenset({"full"})


def may_read(space: str, trust: str | None) -> bool:
    """Whether another device of `trust` (None: no member) is in the audience of `space`."""
    return trust in _READERS.get(space, _NAMED_READERS)


def key_id(key: bytes) -> bytes:
    """8 bytes that name an item key in clear."""
    return blake2b(key, digest_size=ids.KEY_ID_BYTES, person=b"aico.keyid.1").digest()


@dataclass(frozen=True, slots=True)
class Space:
    """A space this device can read. Its representation shows no key.

    Args:
        name: one of :data:`SPACES`, or ``[a-z][a-z0-9-]{0,31}``.
        tag_key: 32 bytes; names collections and documents.
        key: 32 bytes; the current epoch's.
        keys: earlier epochs' keys by id; `key` is added to them.

    Raises:
        InvalidValue: a name or key of the wrong form.
    """

    name: str
    tag_key: bytes = field(repr=False)
    key: bytes = field(repr=False)
    keys: Mapping[bytes, bytes] = field(default_factory=dict, repr=False, hash=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise InvalidValue("A space's name is a lower-case letter and up to 31 letters, digits and '-'.")
        if len(self.tag_key) != KEY_BYTES or len(self.key) != KEY_BYTES:
            raise InvalidValue(f"The keys of a space have {KEY_BYTES} bytes.")
        object.__setattr__(self, "keys", MappingProxyType({**self.keys, key_id(self.key): self.key}))

    @property
    def key_id(self) -> bytes:
        """The id of the key to write under."""
        return key_id(self.key)

    @property
    def current(self) -> bytes:
        """The same: the key id of the epoch in force."""
        return key_id(self.key)

    def tag(self, kind: str) -> bytes:
        """The 16-byte tag of this space's collection of `kind`."""
        return ids.collection_tag(self.tag_key, kind)

    def document_key(self, kind: str, public_id: str) -> bytes:
        """The 16-byte key of document `public_id` of `kind`."""
        return ids.document_key(self.tag_key, kind, public_id)


def new_space(name: str, random: Callable[[int], bytes]) -> Space:
    """A space with fresh keys from `random`, a cryptographic source (``os.urandom``)."""
    return Space(name, random(KEY_BYTES), random(KEY_BYTES))


def local_space(identity: Identity) -> Space:
    """This device's ``local`` space: from its seed, so nothing has to be kept, and it is not shared."""
    return Space(LOCAL, identity.derive("space local tags"), identity.derive("space local key"))


def seal_space(space: Space, device: bytes) -> SealedKey:
    """The keys of `space` for `device` alone, as an admission carries them.

    Raises:
        InvalidValue: `space` is ``local``.
        Malformed: `device` is no Ed25519 public key.
    """
    if space.name == LOCAL:
        raise InvalidValue("The local space is never shared.")
    return SealedKey(space.name, seal_to(device, wire.pack([space.name, space.tag_key, space.key])))


def seal_spaces(spaces: Iterable[Space], device: bytes, trust: str) -> tuple[SealedKey, ...]:
    """The keys of those of `spaces` that a device of `trust` may read, for `device` alone, by name."""
    readable = [space for space in spaces if may_read(space.name, trust)]
    return tuple(seal_space(space, device) for space in sorted(readable, key=lambda space: space.name))


def open_space(sealed: SealedKey, identity: Identity) -> Space:
    """The space whose keys were sealed to this device.

    Raises:
        Malformed: sealed to another device, damaged, or it holds another space than it names.
    """
    value = wire.unpack(identity.unseal(sealed.box), max_bytes=1024)
    if not isinstance(value, tuple) or len(value) < 3 or value[0] != sealed.space or sealed.space == LOCAL:
        raise Malformed("The sealed key does not hold the space it names.")
    _, tag_key, key = value[:3]
    if not isinstance(tag_key, bytes) or not isinstance(key, bytes):
        raise Malformed("The sealed key does not hold the keys of a space.")
    try:
        return Space(sealed.space, tag_key, key)
    except InvalidValue as error:
        raise Malformed(error.what) from None
