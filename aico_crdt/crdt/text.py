"""Mergeable text: from "it reads so now" to the smallest edit of a document's text.

The text is the document's root ``t``, a Yjs sequence (Nicolaescu et al., *Near real-time peer-to-peer shared
editing on extensible data types*, 2016: YATA). Specification (Attiya et al., *Specification and complexity
of collaborative text editing*, 2016, the strong list): what is visible is every character inserted and
not deleted, and one order of all characters agrees with what each editor saw before and after an edit.

All indices are Unicode code points. Keystrokes taken together make one update: take it when typing rests.
"""

from __future__ import annotations

from dataclasses import dataclass

from aico_crdt.crdt.document import Document


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace `deleted` code points from `index` by `inserted`."""

    index: int
    deleted: int
    inserted: str


def difference(before: str, after: str) -> Edit | None:
    """One edit that turns `before` into `after`, without their common beginning and end; None if equal."""
    if before == after:
        return None
    shorter = min(len(before), len(after))
    head = 0
    while head < shorter and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < shorter - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    return Edit(head, len(before) - head - tail, after[head : len(after) - tail])


def perform(document: Document, edit: Edit) -> None:
    """Carry out `edit` on the document's text.

    Raises:
        InvalidValue: the edit lies outside the text, or its text cannot be stored.
    """
    document.insert_text(edit.index + edit.deleted, edit.inserted)
    document.delete_text(edit.index, edit.deleted)


def replay(document: Document, before: str, after: str) -> None:
    """Carry out the edit that once turned `before` into `after`, on a text that `before` has become since.

    Everything it inserted is inserted; of what it deleted, only what nobody has edited since is deleted.
    """
    edit, since = difference(before, after), difference(before, document.text())
    if edit is None:
        return
    if since is None:
        perform(document, edit)
        return
    first, last = since.index, since.index + since.deleted
    shift = len(since.inserted) - since.deleted
    end = edit.index + edit.deleted
    place = end if end <= first else max(end, last) + shift
    document.insert_text(place, edit.inserted)
    right = max(edit.index, last)
    document.delete_text(right + shift if right < end else 0, max(0, end - right))
    document.delete_text(edit.index if edit.index < first else 0, max(0, min(end, first) - edit.index))


def rewrite(document: Document, after: str) -> None:
    """Make the document's text read `after`, keeping what did not change mergeable."""
    edit = difference(document.text(), after)
    if edit is not None:
        perform(document, edit)
