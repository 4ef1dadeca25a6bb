"""The store a companion app embeds: :class:`DocumentStore` with the companion's own verbs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

from aico_crdt.companion import labels
from aico_crdt.companion.conversations import Conversations
from aico_crdt.companion.devices import Devices
from aico_crdt.companion.emotions import Emotions
from aico_crdt.companion.kinds import KINDS
from aico_crdt.companion.memories import Memories
from aico_crdt.config import Config
from aico_crdt.ids import device_name
from aico_crdt.store import DocumentStore, Transaction
from aico_crdt.store.environment import now_ms
from aico_crdt.store.kind import Kind
from aico_crdt.trust import Identity
from aico_crdt.trust.space import FAMILY, OWN


class Store(DocumentStore):
    """Conversations, memories, emotions and devices of one person, on this device.

    Thread-safe; every write is on disk when its call returns; several processes may have it open at once.
    """

    conversations: Conversations
    memories: Memories
    emotions: Emotions
    devices: Devices

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.conversations = Conversations(self)
        self.memories = Memories(self)
        self.emotions = Emotions(self)
        self.devices = Devices(self)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        identity: Identity,
        kinds: Sequence[Kind] = KINDS,
        *,
        config: Config | None = None,
        lease: str | os.PathLike[str] | None = None,
        writable: bool = True,
        allow_network_fs: bool = False,
        clock_ms: Callable[[], int] = now_ms,
        random: Callable[[int], bytes] = os.urandom,
    ) -> Self:
        """See :meth:`DocumentStore.open`; the kinds are the companion's unless an app brings more."""
        return super().open(
            path,
            identity,
            kinds,
            config=config,
            lease=lease,
            writable=writable,
            allow_network_fs=allow_network_fs,
            clock_ms=clock_ms,
            random=random,
        )

    @property
    def device_label(self) -> str:
        """The name under which this device was admitted, else the first 12 characters of its id."""
        member = self.directory.family.members.get(self.device)
        return member.name if member is not None else device_name(self.device)

    def space_for(self, fields: Mapping[str, Any]) -> str:
        """The space a record with these labels is born in here.

        A limited device cannot read the owner's own space; what it would put there goes to the family's.
        """
        space = labels.space_for(fields)
        return FAMILY if space == OWN and OWN not in self.directory.spaces else space

    @contextmanager
    def joining(self, transaction: Transaction | None) -> Iterator[Transaction]:
        """The caller's transaction, or one of its own."""
        if transaction is not None:
            yield transaction
            return
        with self.transaction() as own:
            yield own
