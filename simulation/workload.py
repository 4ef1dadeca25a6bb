"""What is written: what a family and its companion do all day, each deed told to the oracle and to the ledger.

A deed reads before it writes, inside its transaction, as an app does: what it read is what it supersedes.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, Final

from aico_crdt.companion.kinds import READING
from aico_crdt.crdt import Reading
from aico_crdt.errors import Forbidden, InvalidValue, NotFound
from aico_crdt.store import DocumentStore, Row, Transaction
from simulation.device import Device
from simulation.finding import Crash
from simulation.kinds import RECALLS, TAGS
from simulation.ledger import Ledger, Note, Place, Sort
from simulation.oracle import IN, OUT, Operation

HOT: Final = 6
"""Memories that everybody edits."""
SUBJECTS: Final = ("ann", "bob")
WORDS: Final = ("red", "green", "blue", "round", "loud", "soft", "old", "new", "far", "near")
REGISTERS: Final = ("content", "user_note", "category")


class Deed:
    """One transaction: what it does to the store, and what it is to be told as."""

    def __init__(self, workload: Workload, device: Device, chance: random.Random) -> None:
        self.workload = workload
        self.device = device
        self.chance = chance
        self.written: dict[bytes, list[Operation]] = defaultdict(list)
        self.notes: list[Note] = []
        self.deeds: list[str] = []
        self._touched: set[Place] = set()

    def write(self, tag: bytes, place: Place, life: int, slots: dict[str, str]) -> None:
        self.written[tag].append(("write", place.id, life, tuple(slots.items())))

    def note(
        self, place: Place, life: int, tag: bytes, sort: Sort, field: str = "", value: Any = None,
        sees: frozenset[str] = frozenset(),
    ) -> None:  # fmt: skip
        self.notes.append(Note(self.device.number, place, life, sort, field, value, sees, tag=tag))

    def token(self) -> str:
        self.workload.tokens += 1
        return f"{self.device.number}.{self.workload.tokens}"

    def done(self, what: str) -> None:
        self.deeds.append(what)

    def once(self, place: Place) -> bool:
        """Whether this transaction has not touched that document yet."""
        fresh = place not in self._touched
        self._touched.add(place)
        return fresh


class Workload:
    """Chooses and carries out deeds. `tokens` makes every value unlike every other."""

    def __init__(self, ledger: Ledger, counts: Counter[str]) -> None:
        self.ledger = ledger
        self.counts = counts
        self.tokens = 0
        self.characters = 0
        self.births = HOT
        self.messages: list[Place] = []
        self.forgotten: set[Place] = set()

    def run(self, device: Device, chance: random.Random) -> str:
        """One deed of `device`; what it was, or which error it met. Acknowledged when this returns."""
        store = chance.choice(device.stores)
        deed = Deed(self, device, chance)
        device.intent = deed.written
        try:
            (self._forget if chance.random() < 0.09 else self._transaction)(store, deed)
        except (NotFound, InvalidValue, Forbidden) as error:
            device.intent = None
            return error.code
        except Crash:
            self.ledger.asked(deed.notes)
            raise
        hashes = device.note_own(deed.written)
        device.intent = None
        self.ledger.asked(deed.notes, hashes)
        device.before_answer()
        self.ledger.answered(deed.notes)
        self.counts.update(deed.deeds)
        if device.shell is not None:
            device.shell.announce()
        return ", ".join(deed.deeds) or "nothing"

    # Writing

    def _transaction(self, store: DocumentStore, deed: Deed) -> None:
        count = deed.chance.choice((1, 1, 1, 1, 2, 3))
        deeds = deed.chance.choices(_DEEDS, _WEIGHTS, k=count)
        with store.transaction() as transaction:
            for each in deeds:
                each(self, transaction, deed)
        if count > 1 and len(deed.deeds) > 1:
            deed.done("several at once")

    def _space(self, deed: Deed, number: int) -> str:
        return "family" if deed.device.trust == "limited" or number % 2 else "own"

    def _memory(self, deed: Deed) -> Place:
        numbers = [*range(HOT), *range(max(HOT, self.births - 4), self.births)]
        if deed.device.trust == "limited":
            numbers = [number for number in numbers if number % 2]
        return Place("memory", f"m{deed.chance.choice(numbers)}")

    def message(self, transaction: Transaction, deed: Deed) -> None:
        space = self._space(deed, deed.chance.randrange(2))
        values = {"conversation_id": "c1", "role": "user", "text": deed.token()}
        fields = {**values, "timestamp": deed.device.physical_ms}
        made = transaction.create("conversation", fields, space=space)
        place = Place("conversation", made)
        self._born(transaction, deed, place, fields, space)
        self.messages.append(place)
        deed.done("message")

    def memory(self, transaction: Transaction, deed: Deed) -> None:
        """A new memory, or one of the hot ones: borne where it does not live, else edited."""
        if deed.chance.random() < 0.3:
            number, self.births = self.births, self.births + 1
            if deed.device.trust == "limited" and number % 2 == 0:
                number, self.births = self.births, self.births + 1
            place = Place("memory", f"m{number}")
        else:
            place = self._memory(deed)
        row = transaction.read(*place)
        if row is not None:
            self.edit(transaction, deed)
            return
        if not deed.once(place):
            return
        space = self._space(deed, int(place.id[1:]))
        fields = {name: deed.token() for name in REGISTERS[:2]}
        transaction.create("memory", fields, id=place.id, space=space)
        self._born(transaction, deed, place, fields, space)
        deed.done("born again" if place in self.forgotten else "memory")

    def _born(
        self, transaction: Transaction, deed: Deed, place: Place, fields: dict[str, Any], space: str
    ) -> None:
        collection = deed.device.store.directory.find(space, place.kind)
        row = transaction.read(*place)
        assert collection is not None
        assert row is not None
        deed.write(collection.tag, place, row.life, {name: repr(value) for name, value in fields.items()})
        for name, value in fields.items():
            deed.note(place, row.life, collection.tag, "set", name, repr(value))

    def _present(self, transaction: Transaction, deed: Deed) -> tuple[Place, Row, bytes] | None:
        """A memory that lives here as a whole, not touched by this transaction before."""
        place = self._memory(deed)
        row = transaction.read(*place)
        if row is None or row.stub or not deed.once(place):
            return None
        collection = deed.device.store.directory.find(row.space, place.kind)
        assert collection is not None
        return place, row, collection.tag

    def edit(self, transaction: Transaction, deed: Deed) -> None:
        found = self._present(transaction, deed)
        if found is None:
            return
        place, row, tag = found
        fields = {name: deed.token() for name in deed.chance.sample(REGISTERS, deed.chance.choice((1, 1, 2)))}
        for name, value in fields.items():
            sees = seen(row, name)
            deed.note(place, row.life, tag, "set", name, repr(value), sees)
            if len(sees) > 1:
                deed.done("conflict seen")
        transaction.edit(place.kind, place.id, fields)
        deed.write(tag, place, row.life, {name: repr(value) for name, value in fields.items()})
        deed.done("edit")

    def tag(self, transaction: Transaction, deed: Deed) -> None:
        found = self._present(transaction, deed)
        if found is None:
            return
        place, row, tag = found
        present = list(row.get(TAGS, ()))
        discards = bool(present) and deed.chance.random() < 0.4
        word = deed.chance.choice(present if discards else WORDS)
        if discards:
            transaction.discard(place.kind, place.id, TAGS, [word])
        else:
            transaction.add(place.kind, place.id, TAGS, [word])
        deed.write(tag, place, row.life, {f"{TAGS}+{word}": OUT if discards else IN})
        sort: Sort = "discard" if discards else "add"
        deed.note(place, row.life, tag, sort, TAGS, word)
        deed.done("tag discarded" if discards else "tag added")

    def count(self, transaction: Transaction, deed: Deed) -> None:
        found = self._present(transaction, deed)
        if found is None:
            return
        place, row, tag = found
        amount = deed.chance.choice((1, 1, 2, 5, -1))
        transaction.increment(place.kind, place.id, RECALLS, amount)
        deed.write(tag, place, row.life, {f"{RECALLS}#{deed.token()}": str(amount)})
        deed.note(place, row.life, tag, "move", RECALLS, amount)
        deed.done("counter moved")

    def text(self, transaction: Transaction, deed: Deed) -> None:
        found = self._present(transaction, deed)
        if found is None:
            return
        place, row, tag = found
        now = transaction.text(place.kind, place.id)
        if now and deed.chance.random() < 0.3:
            first = deed.chance.randrange(len(now))
            gone = now[first : first + deed.chance.randrange(1, 5)]
            transaction.delete_text(place.kind, place.id, first, len(gone))
            deed.write(tag, place, row.life, {f"text/{character}": OUT for character in gone})
            deed.note(place, row.life, tag, "strike", "text", gone)
            deed.done("text deleted")
            return
        typed = "".join(self._character() for _ in range(deed.chance.randrange(1, 6)))
        transaction.insert_text(place.kind, place.id, deed.chance.randrange(len(now) + 1), typed)
        deed.write(tag, place, row.life, {f"text/{character}": IN for character in typed})
        deed.note(place, row.life, tag, "type", "text", typed)
        deed.done("text typed")

    def _character(self) -> str:
        """One that was never typed before; every other one takes two UTF-16 units."""
        self.characters += 1
        half, odd = divmod(self.characters, 2)
        return chr(0xE000 + half if odd else 0xF0000 + half)

    def feel(self, transaction: Transaction, deed: Deed) -> None:
        """A reading in this writer's own slot of a register."""
        space = self._space(deed, deed.chance.randrange(2))
        place = Place("emotion", f"{deed.chance.choice(SUBJECTS)}-{space}")
        if not deed.once(place):
            return
        row = transaction.read(*place, space=space)
        if row is not None and row.stub:
            return
        writer = deed.device.store.writer
        own = {repr(value) for name, _, value in (row.get("readings", ()) if row else ()) if name == writer}
        self.tokens += 1
        reading = Reading(
            writer[:12], deed.device.physical_ms, self.tokens, deed.chance.randrange(1_000_000), None, 500_000,
            700_000, 1_800_000, "calm",
        ).to_value()  # fmt: skip
        transaction.put_slot(place.kind, place.id, READING, reading, space=space)
        row = transaction.read(*place, space=space)
        collection = deed.device.store.directory.find(space, place.kind)
        assert row is not None
        assert collection is not None
        value = next(repr(each) for name, _, each in row.get("readings", ()) if name == writer)
        deed.write(collection.tag, place, row.life, {f"{READING}@{writer}": value})
        deed.note(place, row.life, collection.tag, "set", READING, value, frozenset(own))
        deed.done("feeling")

    # Forgetting

    def _forget(self, store: DocumentStore, deed: Deed) -> None:
        old = bool(self.messages) and deed.chance.random() < 0.3
        place = deed.chance.choice(self.messages) if old else self._memory(deed)
        row = store.get(*place)
        collection = store.directory.find(row.space, place.kind)
        assert collection is not None
        deed.written[collection.tag].append(("forget", place.id, row.life))
        deed.note(place, row.life, collection.tag, "forget")
        now = deed.chance.random() < 0.4
        deed.done("forget for good" if now else "forget")
        store.forget(*place, now=now)
        self.forgotten.add(place)


def seen(row: Row, name: str) -> frozenset[str]:
    """The values of a register that a reader is shown."""
    if name in row.conflicts:
        return frozenset(repr(version.value) for version in row.conflicts[name])
    return frozenset({repr(row.fields[name])}) if name in row.fields else frozenset()


_DEEDS: Final[tuple[Callable[[Workload, Transaction, Deed], None], ...]] = (
    Workload.message, Workload.memory, Workload.edit, Workload.tag, Workload.count, Workload.text, Workload.feel,
)  # fmt: skip
_WEIGHTS: Final = (18, 22, 26, 14, 8, 10, 8)

