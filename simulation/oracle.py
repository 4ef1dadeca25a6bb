"""Every entry as the executable model reads it, from what the workload asked for and not from what the store made.

The model knows registers. What else there is becomes registers of its own here, by the definition of each type:

==========  ================================  ===================================================
type        field in the model                what is there
==========  ================================  ===================================================
register    its name                          every live value
set         ``tags+ELEMENT``: in or out       an element with a live "in" (add wins)
counter     ``recalls#N``, one a movement     the sum of all
text        ``text/CHARACTER``: in or out     a character without a live "out" (a deletion wins)
slots       ``reading@WRITER``                each writer's own
==========  ================================  ===================================================
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from aico_crdt.feed import Entry as WireEntry
from aico_crdt.feed import open_item
from aico_crdt.store import DocumentStore
from aico_crdt.store.directory import DIRECTORY as DIRECTORY_SPACE
from aico_crdt.trust import Admit, Found, Revoke, decode_statement
from property_tests.model import DIRECTORY, Entry, read_entry
from property_tests.model.documents import Document

IN: Final = "in"
OUT: Final = "out"
Operation = tuple[Any, ...]
Written = Mapping[bytes, Sequence[Operation]]
"""By collection tag: operations as :func:`property_tests.model.read_entry` takes them."""


class Oracle:
    """All entries that were ever written, by hash."""

    def __init__(self) -> None:
        self.told: dict[str, Entry] = {}
        self.guessed = False
        """Whether some entry was told without what it wrote: a store wrote something again by itself."""

    def tell(self, store: DocumentStore, entry: WireEntry, written: Sequence[Operation] | None) -> Entry:
        """The entry, told once. `written` is None where nobody asked for it."""
        header = entry.header
        known = self.told.get(header.hash.hex())
        if known is not None:
            return known
        directory = store.directory.directory.tag
        operations = list(written or ())
        if header.tag == directory:
            operations += _statements(store, entry, directory)
        elif written is None and entry.items:
            self.guessed = True
        told = read_entry(
            (
                DIRECTORY if header.tag == directory else header.tag,
                header.device, header.incarnation, header.seq, header.hash, header.prev,
                tuple(header.deps), header.hlc, tuple(operations),
            )
        )  # fmt: skip
        self.told[told.hash] = told
        return told

    def chain(self, head: str) -> Iterator[Entry]:
        """The entry of that hash and all before it in its feed."""
        while head:
            entry = self.told[head]
            yield entry
            head = entry.prev


def _statements(store: DocumentStore, entry: WireEntry, directory: bytes) -> list[Operation]:
    found: list[Operation] = []
    space = store.directory.spaces[DIRECTORY_SPACE]
    for index, sealed in enumerate(entry.items):
        assert isinstance(sealed, bytes)
        operation = open_item(entry.header, index, sealed, space.key)
        if operation.name != "statement":
            continue
        match decode_statement(operation.payload):
            case Found():
                found.append(("found",))
            case Admit(device=device, trust=trust):
                found.append(("admit", device, trust))
            case Revoke(device=device, heads=heads):
                named = [(DIRECTORY if tag == directory else tag, life, seq) for tag, life, seq in heads]
                found.append(("revoke", device, tuple(named)))
    return found


def reads(document: Document) -> dict[str, Any]:
    """What a document of the model comes to: registers as the set of their live values, all else as one value."""
    live: dict[str, set[str]] = defaultdict(set)
    for slot in document.slots:
        live[slot.field].add(slot.value)
    found: dict[str, Any] = {}
    for field, values in sorted(live.items()):
        if "+" in field:
            name, _, element = field.partition("+")
            if IN in values:
                found.setdefault(name, set()).add(element)
        elif "#" in field:
            name = field.partition("#")[0]
            found[name] = found.get(name, 0) + sum(int(value) for value in values)
        elif "/" in field:
            if values == {IN}:
                name, _, character = field.partition("/")
                found.setdefault(name, set()).add(character)
        elif "@" in field:
            name, _, writer = field.partition("@")
            found.setdefault(name, {})[writer] = values
        else:
            found[field] = values
    return {name: value for name, value in found.items() if value}
