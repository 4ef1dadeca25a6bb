"""The executable model: what a replica must believe, as pure functions over sets of entries.

It is the specification in code, written for reading beside ``docs/architecture.md``, and the oracle that the
store's tests and the simulator compare with. It imports nothing of what it judges, knows no bytes, disks,
keys or Yjs, and takes no care of speed. Read in this order:

=================  ======================================================================================
``entry``          the abstract entry and its operations
``causality``      causal past, closed sets, forks and what they make void
``membership``     the family as a fold of statements; revocations that meet; how far a device's word counts
``receipt``        in force, refused; each received entry is applied, held or rejected; witnesses
``documents``      registers by observed remove, lives, tombstones
``replica``        pruning, manifests, stubs and bodies: a base under the entries
=================  ======================================================================================

The verdict on an entry depends on the whole *set* received, never on the order in which it came.

Feeding real entries in
-----------------------
Turn every entry into a plain tuple and give it to :func:`read_entry`, which checks the shape::

    (collection, device, incarnation, seq, hash, prev, deps, hlc, operations)
        deps        ((device, incarnation, seq, hash), ...)
        operations  (("write", document, life, ((field, value), ...)),      birth or edit
                     ("forget", document, life),
                     ("found",), ("admit", device, trust),
                     ("revoke", device, ((collection, incarnation, seq), ...)))

- ``bytes`` become hex, which keeps their order (it decides forks and ties); 32 zero bytes as ``prev`` become
  GENESIS.
- ``collection`` is the tag, but the collection of trust statements must be called ``"directory"``, in
  ``revoke`` too.
- A birth is spread into its fields, an edit names the one it writes; a value is its canonical text.
  An erased item is left out: what it wrote is of a dead life.
- Give a "found" only if (author, nonce) hashes to the family's id. Device names are taken to be distinct.
- Entries that fail their signature or chain never get here; an entry held for its key, kind or operation
  does.

Then ``shows(Replica(frozenset(entries)))`` is what the replica's rows must decode to, and :func:`applied`,
:func:`held`, :func:`rejected` say what it must have done with each entry. A pruned or manifest-brought store
is compared with the model of *all* entries it stands for: ``shows`` of both must be equal once no stub is
left.
"""

from property_tests.model.causality import causal_past, closed, forks, heads, tips
from property_tests.model.documents import Document, Slot, documents, tombstones
from property_tests.model.entry import (
    DIRECTORY,
    GENESIS,
    Admit,
    Entry,
    Forget,
    Found,
    Head,
    Operation,
    Revoke,
    Write,
    read_entry,
)
from property_tests.model.membership import Family, family, limit
from property_tests.model.receipt import applied, held, in_force, refused, rejected, unwitnessed
from property_tests.model.replica import (
    NO_BASE,
    Base,
    Manifest,
    Replica,
    body,
    cut_of,
    forgotten,
    manifest,
    prune,
    shows,
    sound,
    stubs,
    with_body,
    with_manifest,
)

__all__ = [
    "DIRECTORY", "GENESIS", "Entry", "Head", "Operation", "Write", "Forget", "Found", "Admit", "Revoke", "read_entry",
    "causal_past", "closed", "forks", "heads", "tips",
    "Family", "family", "limit",
    "in_force", "refused", "applied", "held", "rejected", "unwitnessed",
    "Slot", "Document", "documents", "tombstones",
    "Base", "NO_BASE", "Replica", "Manifest", "shows", "stubs", "forgotten", "sound", "cut_of", "prune",
    "manifest", "with_manifest", "body", "with_body",
]  # fmt: skip
