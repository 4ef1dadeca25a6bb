"""Migration: bringing a store of an older format up to this release's, with a backup taken first.

The format stands in the label (`STORE`), read before LMDB touches anything, and in the data file. The label is
raised first: from then on an older program leaves the store alone, and a crash before the data follows is made good
at the next opening, which finds the data behind its label.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from aico_crdt.errors import Damaged, NewerFormat
from aico_crdt.logs import logger
from aico_crdt.store import layout
from aico_crdt.store.directory import storage_keys
from aico_crdt.store.environment import Environment, Label
from aico_crdt.store.records import Records
from aico_crdt.trust import Identity

_log = logger(__name__)

Migration = Callable[[Records, Identity], None]
"""Changes every record of one format into the next one's, within one transaction."""

MIGRATIONS: Final[dict[int, Migration]] = {}
"""By the format they start from. Format 1 is the first that was released."""


def needed(label: Label, environment: Environment, identity: Identity) -> bool:
    """Whether the store is behind this release.

    Raises:
        NewerFormat: the data file is ahead of its label and of this release.
    """
    inside = _inside(environment, identity)
    if inside > layout.FORMAT:
        raise NewerFormat(f"The data file has format {inside}; this release reads up to {layout.FORMAT}.")
    return min(label.format, inside) < layout.FORMAT


def migrate(label: Label, environment: Environment, identity: Identity, now_ms: int) -> tuple[Label, Path | None]:
    """Bring the store to the present format. Returns its new label and where the backup lies.

    Raises:
        DiskFull, ReadOnly and others: no backup could be taken; nothing was changed.
    """
    from aico_crdt.store.backup import take  # it opens stores, which migrates them

    inside = _inside(environment, identity)
    if any(step not in MIGRATIONS for step in range(inside, layout.FORMAT)):
        raise Damaged(f"No migration leads from format {inside} to {layout.FORMAT}.", "Restore a backup.")
    kept: Path | None = None
    if label.format < layout.FORMAT:
        kept = _free_name(environment.directory, inside)
        take(environment, label, identity, kept, now_ms)
        label = replace(label, format=layout.FORMAT)
        label.write(environment.directory)
    with environment.write(reserve=True) as transaction:
        records = Records(transaction, storage_keys(identity)[1])
        for step in range(_format(records), layout.FORMAT):
            MIGRATIONS[step](records, identity)
        records.put(layout.meta("format"), layout.U64.pack(layout.FORMAT))
    _log.info("migrated from format %d to %d", inside, layout.FORMAT)
    return label, kept


def _inside(environment: Environment, identity: Identity) -> int:
    with environment.read() as transaction:
        return _format(Records(transaction, storage_keys(identity)[1]))


def _format(records: Records) -> int:
    stored = records.get(layout.meta("format"))
    if stored is None or len(stored) != 8:
        raise Damaged("The store was not completely made.", "Remove its directory and run init again.")
    return int.from_bytes(stored, "big")


def _free_name(directory: Path, version: int) -> Path:
    """A name beside the store that nothing has: an earlier attempt's backup is older than what came after it."""
    for attempt in range(1, 1000):
        suffix = "" if attempt == 1 else f"-{attempt}"
        path = directory.with_name(f"{directory.name}.before-format-{version + 1}{suffix}")
        if not path.exists():
            return path
    raise Damaged("There are a thousand backups of this store.", "Remove some of them.")
