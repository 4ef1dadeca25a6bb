"""Real typing through real stores: who typed what, having seen what, until the text reads as it did in the end.

Traces of josephg/editing-traces. Everybody types on a store of their own; entries pass between stores exactly when
somebody had seen them. A run of keystrokes between two such moments is one transaction. The traces hold ASCII only, so
their positions are code points whichever unit was meant.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import pytest

from aico_crdt.companion import Store
from aico_crdt.store import StoreReplica, Transaction
from aico_crdt.store.verify import verify
from tests.main_job.conftest import Family

ID = "the-text"
MAX_KEYSTROKES = 64
"""Keystrokes of a transaction, one commit and one entry."""
DELIVERED_AT_ONCE = 256
KEYSTROKES = None if os.environ.get("AICO_SOAK") else 20_000
"""How much of the long single-user trace is typed (all of it takes a minute)."""

Patch = tuple[int, int, str]


def read(file: Path) -> dict[str, Any]:
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        trace: dict[str, Any] = json.load(stream)
    return trace


@dataclass(frozen=True)
class Sent:
    """One entry: its bytes, by which typist, and which keystrokes (places in the trace) are in it."""

    raw: bytes
    typist: int
    keystrokes: tuple[int, ...]


class Typist:
    """Somebody who types on a store of their own."""

    def __init__(self, place: int, store: Store) -> None:
        self.place = place
        self.store = store
        self.replica = StoreReplica(store)
        self.known: set[int] = set()
        self.sent: list[Sent] = []
        self._typed: list[tuple[int, Sequence[Patch]]] = []

    @property
    def tag(self) -> bytes:
        collection = self.store.directory.find("own", "memory")
        assert collection is not None
        return collection.tag

    def begin(self) -> Sent:
        """Bear the document that everybody types into."""
        self.store.memories.add("a text", id=ID)
        return self._send(())

    def type(self, number: int, patches: Sequence[Patch]) -> None:
        self._typed.append((number, patches))
        self.known.add(number)
        if len(self._typed) == MAX_KEYSTROKES:
            self.commit()

    def commit(self) -> None:
        """What was typed since the last time becomes one entry."""
        if not self._typed:
            return
        with self.store.transaction() as transaction:
            for _, patches in self._typed:
                for patch in patches:
                    perform(transaction, *patch)
        self._send(tuple(number for number, _ in self._typed))
        self._typed.clear()

    def _send(self, keystrokes: tuple[int, ...]) -> Sent:
        (head,) = [h for h in self.replica.heads(self.tag) if h.device == self.store.device]
        runs, _ = self.replica.read_entries(self.tag, [(head.device, head.incarnation, head.seq)], 1)
        ((raw,),) = runs
        self.sent.append(Sent(raw, self.place, keystrokes))
        return self.sent[-1]

    def receive(self, entries: Iterable[Sent]) -> None:
        """Take entries in the order given; every one of them can be applied at once."""
        for typist, run in groupby(entries, lambda sent: sent.typist):
            some = list(run)
            outcome = self.replica.deliver(self.tag, [[sent.raw for sent in some]], bytes([typist]) * 32)
            assert (outcome.applied, outcome.held, outcome.rejected) == (len(some), 0, 0)
            for sent in some:
                self.known.update(sent.keystrokes)

    def text(self) -> str:
        return self.store.text("memory", ID)


def perform(transaction: Transaction, position: int, deleted: int, inserted: str) -> None:
    transaction.insert_text("memory", ID, position + deleted, inserted)
    if deleted:
        transaction.delete_text("memory", ID, position, deleted)


def in_order_of_clients(stores: list[Store]) -> list[Store]:
    """Text inserted at one place by several at once is ordered by Yjs client ids, and the traces by who came first."""
    return sorted(stores, key=lambda store: store.core.client)


class Replay:
    """A trace, keystroke by keystroke in the file's order, in which causes stand before their effects."""

    def __init__(self, keystrokes: list[dict[str, Any]], typists: list[Typist]) -> None:
        self._keystrokes = keystrokes
        self._typists = typists
        self._seen_by_others = {
            parent for one in keystrokes for parent in one["parents"] if keystrokes[parent]["agent"] != one["agent"]
        }

    def run(self) -> None:
        for number, one in enumerate(self._keystrokes):
            typist = self._typists[one["agent"]]
            missing = self._missing(typist, one["parents"])
            if missing:
                typist.commit()
                typist.receive(self._entries_with(missing))
            typist.type(number, one["patches"])
            if number in self._seen_by_others:
                typist.commit()
        for typist in self._typists:
            typist.commit()

    def _missing(self, typist: Typist, parents: list[int]) -> set[int]:
        """What `typist` had seen by then and has not received: the causal past of its next keystroke."""
        missing: set[int] = set()
        waiting = list(parents)
        while waiting:
            number = waiting.pop()
            if number not in typist.known and number not in missing:
                missing.add(number)
                waiting += self._keystrokes[number]["parents"]
        return missing

    def _entries_with(self, numbers: set[int]) -> list[Sent]:
        """The entries that hold these keystrokes and, as was cut where others looked, no other ones."""
        found = []
        for typist in self._typists:
            for sent in reversed(typist.sent):
                if not sent.keystrokes or sent.keystrokes[-1] < min(numbers):
                    break
                if numbers.issuperset(sent.keystrokes):
                    found.append(sent)
        assert sum(len(sent.keystrokes) for sent in found) == len(numbers)
        return sorted(found, key=lambda sent: sent.keystrokes)

    def deliver_everything(self, to: Typist) -> None:
        """What `to` lacks, in an order that respects causes."""
        everything = (sent for typist in self._typists for sent in typist.sent if sent.keystrokes)
        lacking = iter(
            sorted((one for one in everything if one.keystrokes[0] not in to.known), key=lambda sent: sent.keystrokes)
        )
        while some := list(islice(lacking, DELIVERED_AT_ONCE)):
            to.receive(some)


@pytest.mark.parametrize(("name", "people"), [("friendsforever", 2), ("clownschool", 3)])
def test_typing_at_once_on_several_stores_ends_as_recorded(
    name: str, people: int, family: Family, shared_data: Callable[[str], Path]
) -> None:
    trace = read(shared_data(f"{name}.json.gz"))
    assert trace["endContent"].isascii()
    assert {one["agent"] for one in trace["txns"]} == set(range(people))
    typists = [Typist(place, store) for place, store in enumerate(in_order_of_clients(family()))]
    birth = typists[0].begin()
    for typist in typists[1:]:
        typist.receive([birth])
    replay = Replay(trace["txns"], typists)
    replay.run()
    for typist in typists:
        replay.deliver_everything(typist)
    assert [typist.text() == trace["endContent"] for typist in typists] == [True] * 3
    assert len({typist.store.content_hash() for typist in typists}) == 1
    assert verify(typists[-1].store, refold=True).clean


def test_a_paper_typed_on_one_store_reads_the_same_on_another(
    family: Family, shared_data: Callable[[str], Path]
) -> None:
    trace = read(shared_data("automerge-paper.json.gz"))
    writer, reader, _ = [Typist(place, store) for place, store in enumerate(family())]
    writer.begin()
    text: list[str] = []
    for number, one in enumerate(trace["txns"][:KEYSTROKES]):
        for position, deleted, inserted in one["patches"]:
            text[position : position + deleted] = inserted
        writer.type(number, one["patches"])
        reader.receive(writer.sent)
        writer.sent.clear()
    writer.commit()
    reader.receive(writer.sent)
    assert writer.text() == "".join(text)
    assert reader.text() == "".join(text)
    assert KEYSTROKES is not None or "".join(text) == trace["endContent"]
    assert writer.store.content_hash() == reader.store.content_hash()
    assert verify(reader.store, refold=True).clean
