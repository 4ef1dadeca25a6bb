"""What the author of an entry may do: one table, drawn here.

======================  ====  =======  =====  =====
operation               full  limited  relay  guest
======================  ====  =======  =====  =====
update                  yes   yes      no     no
forget                  yes   own      no     no
statement:found         yes   no       no     no
statement:admit         yes   no       no     no
statement:revoke        yes   no       no     no
manifest                yes   no       no     no
======================  ====  =======  =====  =====

*own*: only of documents it created itself. Everything is within what the device can read: without the key of
a space nothing can be written there, so spaces need no column. Statements and manifests concern the directory
and whole collections, so the kind makes no difference yet; it is an argument because sharing policies will
ask it.

An operation that is not in the table is nobody's right. Whether it is *unknown*, and so held for a later
release rather than refused, is asked first with :data:`OPERATIONS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_YES: Final = "yes"
_OWN: Final = "own"
_TABLE: Final[Mapping[str, Mapping[str, str]]] = {
    "update": {"full": _YES, "limited": _YES},
    "forget": {"full": _YES, "limited": _OWN},
    "statement:found": {"full": _YES},
    "statement:admit": {"full": _YES},
    "statement:revoke": {"full": _YES},
    "manifest": {"full": _YES},
}

OPERATIONS: Final = frozenset(_TABLE)
"""The operations this release knows."""


def may(operation: str, kind: str, trust: str | None, *, is_creator: bool) -> bool:
    """Whether a device may carry out `operation` on a document of `kind`.

    Args:
        operation: one of :data:`OPERATIONS`; anything else is refused.
        kind: the kind of the document or collection.
        trust: the device's, while the entry is in force; None for no member: refused.
        is_creator: whether it created the document.
    """
    right = _TABLE.get(operation, {}).get(trust or "")
    return right == _YES or (right == _OWN and is_creator)
