"""The store of one device: LMDB layout, transactions, life keys, receipt of entries, forgetting, upkeep.

==================  ==========================================================================
`store`             :class:`DocumentStore`: opening, transactions, local verbs
`reader`            its reading verbs: one row, rows by index, all rows
`transaction`       the verbs of one local write
`membership`        found, join, admit, revoke
`replica`           what sessions with peers ask for: heads, runs, receipt
`ingest`            the order of checks for everything that comes from elsewhere
`workspace`         how entries become states, rows, index keys and changes, in one commit
`forget`            tombstones, the undo window, destroying keys
`attested`          manifests, stubs, bodies
`receipts`          where a write is
`refold`            a document computed anew from its base and entries
`layout`            every key and value, drawn
==================  ==========================================================================
"""

from __future__ import annotations

from aico_crdt.store.kind import Folded, IndexKey, Kind, Row, Version
from aico_crdt.store.membership import admit, found, join, revoke
from aico_crdt.store.receipts import Receipt
from aico_crdt.store.replica import StoreReplica
from aico_crdt.store.store import Commit, DocumentStore
from aico_crdt.store.transaction import Place, Transaction
from aico_crdt.store.watch import Change, Watch

__all__ = [
    "Change",
    "Watch",
    "Commit",
    "DocumentStore",
    "Folded",
    "IndexKey",
    "Kind",
    "Place",
    "Receipt",
    "Row",
    "StoreReplica",
    "Transaction",
    "Version",
    "admit",
    "found",
    "join",
    "revoke",
]
