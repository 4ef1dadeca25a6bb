"""The one door through which foreign Yjs bytes reach a document: walker, ownership of slots, Yrs, in this order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aico_crdt.crdt.document import Document, Slot
from aico_crdt.crdt.walker import ANY, STRING, AllKnown, Walked, intrudes, pairs_of, walk
from aico_crdt.errors import NotAllowed

_DELETED: Final = 1
_ROOTS: Final = frozenset({"r", "t"})
_CONTENTS: Final = frozenset({_DELETED, STRING, ANY})


def merge(document: Document, update: bytes, client: int, writer: str, *, overlap: bool = False) -> None:
    """Merge `update`, written by `client` under the name `writer`, into `document`.

    Args:
        overlap: the document was brought up by an attested body and may know some of this already.

    Raises:
        Malformed, NotAllowed: never valid. NotYet: it continues or deletes something not known here.
        After any of them the document may be half changed and must be loaded again.
    """
    known = document.state_vector()
    walked = _look(update, known, client, writer, overlap=overlap)
    if walked.is_fields:
        document.apply(update, walked.after(known))
        return
    others = [slot for slot in document.slots() if slot.writer != writer]
    if walked.cuts and not walked.cuts.isdisjoint(pairs_of(document.encoding())):
        raise NotAllowed("An update cuts a character of the text in two.")
    document.apply(update, walked.after(known))
    if walked.inherits and intrudes(document.added(known)):
        raise NotAllowed("An update places something among another writer's values.")
    if "r" in walked.roots or others:
        kept = [slot for slot in document.slots() if slot.writer != writer]
        if not set(_identities(kept)) <= set(_identities(others)):
            raise NotAllowed("An update writes under another writer's name.")


def look(update: bytes, client: int, writer: str) -> None:
    """Check of `update` what can be told without its document: its shape, its author, its keys.

    Raises:
        Malformed, NotAllowed: never valid, whatever the document holds.
    """
    _look(update, AllKnown(), client, writer, overlap=True)


def _look(update: bytes, known: Mapping[int, int], client: int, writer: str, *, overlap: bool) -> Walked:
    walked = walk(update, known, client, overlap=overlap)
    own = "@" + writer
    if not walked.roots <= _ROOTS or not all(key.endswith(own) for key in walked.keys):
        raise NotAllowed("An update writes under another writer's name or outside a document's roots.")
    if not walked.is_fields and (walked.nested or not walked.contents <= _CONTENTS):
        raise NotAllowed("An update puts something other than plain values and text into a document.")
    return walked


def _identities(slots: list[Slot]) -> list[tuple[str, str, int]]:
    return [(slot.name, slot.writer, slot.hlc) for slot in slots]
