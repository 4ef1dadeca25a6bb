"""Device profiles: what the family's devices say of themselves, in the directory that every member reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aico_crdt.companion import fields
from aico_crdt.companion.conversations import change
from aico_crdt.store import Row, Transaction
from aico_crdt.trust import Member

if TYPE_CHECKING:
    from aico_crdt.companion.store import Store

KIND: Final = "directory"


class Devices:
    """The devices of the family. Thread-safe as the store is."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def describe(self, *, within: Transaction | None = None, **values: Any) -> None:
        """Say something about this device to the family: name, role, capabilities, endpoints.

        Raises:
            InvalidValue: an unknown field or a value out of range.
        """
        checked = fields.check("device", fields.DEVICE, values, whole=False)
        with self._store.joining(within) as transaction:
            own = self._store.device.hex()
            row = transaction.read(KIND, own)
            if row is None:
                present = {name: value for name, value in checked.items() if value is not None}
                transaction.create(KIND, present, id=own, space="directory")
            else:
                change(transaction, KIND, row, checked)

    def profile(self, device: bytes) -> Row | None:
        """What a device says of itself, None when it has not."""
        return self._store.read(KIND, device.hex())

    def members(self) -> list[Member]:
        """Every device that is or was of the family, senior first."""
        return sorted(self._store.directory.family.members.values(), key=lambda member: member.rank)

    def name_of(self, short: str) -> str:
        """The friendly name of the device whose id begins with `short` (12 characters), else `short` itself."""
        from aico_crdt.ids import device_name

        for member in self.members():
            if device_name(member.device) == short[:12]:
                return member.name
        return short[:12]
