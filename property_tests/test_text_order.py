"""A text reads the same on every replica that has the same updates, whatever its members did to its order.

Some updates are typed by honest editors that had seen a part of the history. The others put characters between any
two elements at all, in the wrong order or with others between. Each replica takes them in an order of its own that
respects only what the walker demands: a writer's own order, and that what an update names is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st
from pycrdt import Doc, Text

from aico_crdt import ids
from aico_crdt.crdt import Document, foreign
from aico_crdt.crdt.lib0 import write_varuint
from aico_crdt.crdt.walker import read_update
from aico_crdt.errors import NotYet, PeerError

AUTHORS: Final = [
    (ids.client_id(bytes([n]) * 32, b"12345678"), ids.writer(bytes([n]) * 32, b"12345678")) for n in range(5)
]
READER: Final = AUTHORS[4]
STEPS: Final = 7
ORDERS: Final = 4
_STRING, _LEFT, _RIGHT = 4, 0x80, 0x40

Unit = tuple[int, int]
"""Client and clock of one character."""


@dataclass(frozen=True)
class Step:
    author: int
    update: bytes
    honest: bool


class History:
    """Updates in an order in which all of them are accepted."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.steps: list[Step] = []
        self.eldest: list[Unit] = []
        self.clocks = dict.fromkeys((client for client, _ in AUTHORS), 0)
        self.whole = Document.new(*READER)
        while len(self.steps) < STEPS:
            author = rng.randrange(4)
            honest = not self.steps or rng.random() < 0.3
            step = Step(author, self.typed(author) if honest else self.forged(author), honest)
            if take(self.whole, step):
                self.steps.append(step)
                for client, (_, end) in read_update(step.update).inserted.items():
                    self.clocks[client] = end
                    self.eldest = self.eldest or [(client, clock) for clock in range(end)]
            else:
                self.whole = read(self.steps)

    def typed(self, author: int) -> bytes:
        """What an honest editor types that has seen the own updates and some of the others."""
        seen = [step for step in self.steps if step.author == author or self.rng.random() < 0.6]
        document = Document.new(*AUTHORS[author])
        for step in seen:
            before = document.encoding()
            if not take(document, step):  # it builds on what this editor has not seen
                document = Document.take(before, *AUTHORS[author])
        for _ in range(1 if self.steps else 3):
            index = self.rng.randint(0, len(document.text()))
            document.insert_text(index, "".join(self.rng.choice("abcdefgh") for _ in range(self.rng.randint(1, 3))))
        if self.rng.random() < 0.3:
            document.delete_text(self.rng.randrange(len(document.text())), 1)
        update = document.take_update()
        assert update is not None
        return update

    def forged(self, author: int) -> bytes:
        """Insertions between any two units that exist, and deletes of any."""
        client = AUTHORS[author][0]
        clock = self.clocks[client]
        structs = []
        for _ in range(self.rng.randint(1, 3)):
            info, places = _STRING, b""
            for flag in (_LEFT, _RIGHT):
                unit = self.unit({**self.clocks, client: clock})
                if unit is not None:
                    info |= flag
                    places += write_varuint(unit[0]) + write_varuint(unit[1])
            letters = "".join(self.rng.choice("STUVWXYZ") for _ in range(self.rng.randint(1, 3)))
            structs.append(bytes([info]) + (places or b"\1\1t") + write_varuint(len(letters)) + letters.encode())
            clock += len(letters)
        deletes = b"\0"
        unit = self.unit(self.clocks)
        if unit is not None and self.rng.random() < 0.4:
            deletes = b"\1" + write_varuint(unit[0]) + b"\1" + write_varuint(unit[1]) + b"\1"
        head = b"\1" + bytes([len(structs)]) + write_varuint(client) + write_varuint(self.clocks[client])
        return head + b"".join(structs) + deletes

    def unit(self, clocks: dict[int, int]) -> Unit | None:
        """Any that exists, the eldest rather; or none."""
        units = [(client, clock) for client, end in clocks.items() for clock in range(end)]
        eldest = [unit for unit in self.eldest if unit in units]
        return self.rng.choice([None, self.rng.choice([None, *units]), *eldest])

    def shuffled(self) -> list[Step]:
        """Another order in which each update is accepted as soon as it comes."""
        left, out, document = list(self.steps), [], Document.new(*READER)
        while left:
            ready = []
            for place, step in enumerate(left):
                if any(other.author == step.author for other in left[:place]):
                    continue
                try:
                    foreign.look(step.update, *AUTHORS[step.author])
                    probe = Document.take(document.encoding(), *READER)
                    foreign.merge(probe, step.update, *AUTHORS[step.author])
                    ready.append(place)
                except NotYet:
                    continue
            step = left.pop(self.rng.choice(ready))
            assert take(document, step)
            out.append(step)
        return out


def take(document: Document, step: Step) -> bool:
    try:
        foreign.merge(document, step.update, *AUTHORS[step.author])
    except PeerError:
        return False
    return True


def read(steps: list[Step], rng: Random | None = None) -> Document:
    """A reader's document after `steps`, saved and loaded now and then where there is an `rng`."""
    document = Document.new(*READER)
    for step in steps:
        assert take(document, step)
        if rng is not None and rng.random() < 0.3:
            document.text()
        if rng is not None and rng.random() < 0.3:
            document = Document.load(document.state(), *READER)
    return document


@given(st.integers(0, 1 << 64))
def test_a_text_is_a_function_of_its_updates(seed: int) -> None:
    rng = Random(seed)
    history = History(rng)
    first = read(history.steps)
    for _ in range(ORDERS):
        steps = history.shuffled()
        other = read(steps, rng)
        assert other.text() == first.text()
        assert other.state() == first.state()
        body = Document.take(read(steps).encoding(), *READER)
        assert body.text() == first.text()
        assert Document.load(other.state(), *READER).text() == first.text()


@given(st.integers(0, 1 << 64))
def test_what_is_typed_into_a_hostile_text_is_read_alike(seed: int) -> None:
    """Its editor and those it sends the update to, whatever came in between."""
    rng = Random(seed)
    history = History(rng)
    editor = Document.load(read(history.shuffled()).state(), *READER)
    for _ in range(3):
        for _ in range(2):
            before, index, letters = editor.text(), rng.randint(0, len(editor.text())), rng.choice(["é", "xyz", "𝄞"])
            editor.insert_text(index, letters)
            assert sorted(editor.text()) == sorted(before + letters)
        update = editor.take_update()
        assert update is not None
        history.steps.append(Step(4, update, True))
    other = Document.new(*AUTHORS[0])
    for step in history.shuffled():
        assert take(other, step)
    assert other.text() == editor.text()
    assert other.state() == editor.state()


def test_the_histories_are_hostile_enough() -> None:
    """Most of them read differently by order of arrival where nothing makes them equal."""
    parted = 0
    for seed in range(60):
        history = History(Random(seed))
        texts = set()
        for _ in range(ORDERS):
            document: Doc[Any] = Doc()
            for step in history.shuffled():
                document.apply_update(step.update)
            texts.add(str(document.get("t", type=Text)))
        parted += len(texts) > 1
    assert parted > 5
