"""Trust: who a device is, whom it belongs to, who reads what and who may do what.

==========================================  ==================================================================
:mod:`~aico_crdt.trust.identity`            one seed: signatures, CURVE keys, sealed boxes, keys for own use
:mod:`~aico_crdt.trust.statement`           found, admit, revoke, as bytes
:mod:`~aico_crdt.trust.family`              membership: the fold over all statements
:mod:`~aico_crdt.trust.space`               audiences and their keys
:mod:`~aico_crdt.trust.authority`           what an author may do: one table
:mod:`~aico_crdt.trust.lease`               may this store go on writing as itself? (I/O)
:mod:`~aico_crdt.trust.keyfile`             where the seed is kept (I/O)
==========================================  ==================================================================

What is pure is named here; the two that touch the disk are imported from their own modules. Pairing, sharing
policies, key rotation and keyrings have their place in this package.
"""

from __future__ import annotations

from aico_crdt.trust.authority import OPERATIONS, may
from aico_crdt.trust.family import Family, Member, Record, fold
from aico_crdt.trust.identity import Identity, curve_key, seal_to, verify
from aico_crdt.trust.space import (
    SPACES,
    Space,
    key_id,
    local_space,
    may_read,
    new_space,
    open_space,
    seal_space,
    seal_spaces,
)
from aico_crdt.trust.statement import (
    TRUSTS,
    Admit,
    Found,
    Revoke,
    SealedKey,
    Statement,
    Unknown,
    decode_statement,
    encode_statement,
    family_id,
)

__all__ = [
    "Identity",
    "verify",
    "seal_to",
    "curve_key",
    "Statement",
    "Found",
    "Admit",
    "Revoke",
    "Unknown",
    "SealedKey",
    "TRUSTS",
    "encode_statement",
    "decode_statement",
    "family_id",
    "Record",
    "Family",
    "Member",
    "fold",
    "SPACES",
    "Space",
    "key_id",
    "new_space",
    "local_space",
    "may_read",
    "seal_space",
    "seal_spaces",
    "open_space",
    "OPERATIONS",
    "may",
]
