"""Random causal histories over real documents, and the law every data type is held to.

Two to four replicas write, deliver (any prefix of what the other lacks, in its arrival order, so causality
holds and partitions happen by themselves), deliver again what is long known, restart from saved bytes, and
take new incarnations. The law compares each replica with a specification: a predicate over the operations it
knows, each with its causal past. Replicas are never only compared with each other, which dropping everything
would satisfy: :func:`score` says how often a broken replica passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from hypothesis import strategies as st

from aico_crdt.crdt.document import Document
from aico_crdt.crdt.walker import walk

histories = st.randoms(use_true_random=False)
"""Hypothesis draws every choice of a history, so a failure shrinks."""
MAX_STEPS = 20
MAX_BATCH = 3


@dataclass(frozen=True)
class Operation:
    """One operation: who did what, when, and the numbers of the operations its author knew."""

    writer: str
    action: Any
    hlc: int
    past: frozenset[int]


Operations = Mapping[int, Operation]


@dataclass(frozen=True)
class Kind:
    """A data type under test.

    Attributes:
        invent: draws an action that makes sense on a document; gets a number no other action gets.
        perform: carries an action out.
        read: what the type's reader sees, as canonical bytes.
        holds: whether the specification allows those bytes, given all operations known.
        birth: the first action, known everywhere before anything else, if the type wants one.
        derived: whether documents may be born more than once.
    """

    invent: Callable[[Random, Document, int], Any]
    perform: Callable[[Document, Any, int], None]
    read: Callable[[Document], bytes]
    holds: Callable[[Operations, bytes], bool]
    birth: Any = None
    derived: bool = False


@dataclass(frozen=True)
class Update:
    client: int
    data: bytes
    operations: tuple[int, ...]


class Replica:
    """A document with what its feeds hold: updates in arrival order."""

    def __init__(self, kind: Kind, place: int) -> None:
        self.kind = kind
        self.place = place
        self.life = -1
        self.saved: bytes | None = None
        self.log: list[Update] = []
        self.known: set[int] = set()
        self.hlc = 0
        self.reincarnate()

    def reincarnate(self) -> None:
        """Go on as another writer of the same device, on the state there is."""
        self.life += 1
        self.client = 1 + self.place * 1000 + self.life
        self.writer = f"device{self.place:06}" + f"life{self.life:04}"
        self.restart()

    def restart(self) -> None:
        state = b"\0\0" if self.saved is None else self.saved
        self.document = Document.load(state, self.client, self.writer, derived=self.kind.derived)

    def save(self) -> None:
        self.saved = self.document.state()

    def write(self, operations: dict[int, Operation], actions: Callable[[int], Any], count: int) -> None:
        """Do `count` actions as one update."""
        numbers = []
        for _ in range(count):
            number = len(operations)
            action = actions(number)
            if action is None:
                continue
            self.hlc += 1  # equal stamps on different replicas are wanted
            operations[number] = Operation(self.writer, action, self.hlc, frozenset(self.known))
            self.perform(action)
            self.known.add(number)
            numbers.append(number)
        data = self.document.take_update()
        self.save()
        if numbers:
            self.log.append(Update(self.client, data or b"\0\0", tuple(numbers)))

    def perform(self, action: Any) -> None:
        self.kind.perform(self.document, action, self.hlc)

    def receive(self, update: Update, operations: Operations) -> None:
        self.merge(update)
        self.save()
        self.log.append(update)
        self.known.update(update.operations)
        self.hlc = max([self.hlc, *(operations[number].hlc for number in update.operations)])

    def merge(self, update: Update, overlap: bool = False) -> None:
        known = self.document.state_vector()
        walked = walk(update.data, known, update.client, overlap=overlap)
        self.document.apply(update.data, walked.after(known))

    def lacks(self, other: Replica) -> list[Update]:
        return [update for update in other.log if not self.known.issuperset(update.operations)]


class DropsEverything(Replica):
    """Keeps nothing and acknowledges everything; any law it satisfies is worth nothing."""

    def perform(self, action: Any) -> None:
        pass

    def merge(self, update: Update, overlap: bool = False) -> None:
        pass


class DropsWhatOthersWrite(Replica):
    def merge(self, update: Update, overlap: bool = False) -> None:
        pass


@dataclass
class World:
    """One history as it ran."""

    kind: Kind
    replicas: Sequence[Replica]
    operations: dict[int, Operation]

    def law(self) -> bool:
        """Each replica shows what the specification allows for the operations it knows."""
        return all(self.kind.holds(self.known_to(r), self.kind.read(r.document)) for r in self.replicas)

    def known_to(self, replica: Replica) -> Operations:
        return {number: self.operations[number] for number in sorted(replica.known)}

    def heal(self) -> None:
        """Everything reaches everyone."""
        for to in self.replicas:
            for other in self.replicas:
                for update in to.lacks(other):
                    to.receive(update, self.operations)

    def converged(self) -> bool:
        """All replicas read the same bytes and have the same content, after a restart as well."""
        reads = {self.kind.read(r.document) for r in self.replicas}
        hashes = {r.document.content_hash(1) for r in self.replicas}
        for replica in self.replicas:
            replica.restart()
        reads |= {self.kind.read(r.document) for r in self.replicas}
        hashes |= {r.document.content_hash(1) for r in self.replicas}
        return len(reads) == len(hashes) == 1


def run(kind: Kind, rng: Random, make: type[Replica] = Replica, least: int = 1) -> World:
    """One random history of `least` to MAX_STEPS steps, not yet healed."""
    replicas = [make(kind, place) for place in range(rng.randint(2, 4))]
    world = World(kind, replicas, {})
    if kind.birth is not None:
        replicas[0].write(world.operations, lambda _: kind.birth, 1)
        world.heal()
    for _ in range(rng.randint(least, MAX_STEPS)):
        _step(world, rng)
    return world


def check(kind: Kind, rng: Random) -> None:
    """The law before healing, healing, the law and convergence after it."""
    world = run(kind, rng)
    assert world.law()
    world.heal()
    assert world.law()
    assert world.converged()


def score(kind: Kind, make: type[Replica], histories: int = 60) -> float:
    """The share of long random histories whose end satisfies the law although `make` is the replica."""
    passed = 0
    for seed in range(histories):
        world = run(kind, Random(seed), make, MAX_STEPS)
        world.heal()
        passed += world.law()
    return passed / histories


def _step(world: World, rng: Random) -> None:
    replica = rng.choice(world.replicas)
    what = rng.choice(("write", "write", "write", "deliver", "deliver", "again", "restart", "reincarnate"))
    if what == "write":
        document = replica.document
        invent = world.kind.invent
        replica.write(world.operations, lambda n: invent(rng, document, n), rng.randint(1, MAX_BATCH))
    elif what == "deliver":
        missing = replica.lacks(rng.choice(world.replicas))
        for update in missing[: rng.randint(0, len(missing))]:
            replica.receive(update, world.operations)
    elif what == "again" and replica.log:
        replica.merge(rng.choice(replica.log), overlap=True)
    elif what == "restart":
        replica.restart()
    elif what == "reincarnate":
        replica.reincarnate()
