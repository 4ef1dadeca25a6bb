"""What every transaction of one open store shares: its identity, its keys, its kinds, its directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aico_crdt import ids
from aico_crdt.store.directory import Directory
from aico_crdt.store.kind import Kind
from aico_crdt.store.lives import LifeKeys
from aico_crdt.trust import Identity


@dataclass(slots=True)
class Core:
    """What every transaction of one open store shares. `directory`, `incarnation` and what follows from them are
    replaced when a statement or a fork changes them."""

    identity: Identity
    lives: LifeKeys
    kinds: Mapping[str, Kind]
    storage_key: bytes
    checksum: bytes
    index_secret: bytes
    directory: Directory
    incarnation: bytes
    client: int = 0
    writer: str = ""
    random: Callable[[int], bytes] = os.urandom
    """Source of nonces and ids; of incarnations too. A test passes its own, so that a history can be replayed."""

    def take_incarnation(self, incarnation: bytes) -> None:
        self.incarnation = incarnation
        self.client = ids.client_id(self.identity.device, incarnation)
        self.writer = ids.writer(self.identity.device, incarnation)
