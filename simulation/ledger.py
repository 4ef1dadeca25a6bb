"""What was acknowledged to somebody, and what has superseded it since. Knows nothing of entries, feeds or causes.

Every value written is unlike every other. With each the ledger notes which values its writer was looking at: those it
supersedes. At the end each acknowledged value must still be read, or one that supersedes it, or its document's life
was ended by an acknowledged forget. So a system that keeps nothing fails here, however equal its replicas are.

What a device lost with its disk, or wrote after it was revoked, binds nobody: `binds` says for each note whether it
still does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from simulation.finding import Finding

Sort = Literal["set", "add", "discard", "move", "type", "strike", "forget"]


class Place(NamedTuple):
    """A document as a user knows it."""

    kind: str
    id: str


@dataclass(slots=True)
class Note:
    """One deed that was asked for; `answered` once it is acknowledged. `device`, `tag` (its collection) and `hashes`
    (of entries) are for `binds` alone."""

    device: int
    place: Place
    life: int
    sort: Sort
    field: str = ""
    value: Any = None
    sees: frozenset[str] = frozenset()
    hashes: frozenset[str] = frozenset()
    answered: bool = False
    tag: bytes = b""


@dataclass(slots=True)
class Shown:
    """What a reader of a healed store sees of one document."""

    life: int
    values: Mapping[str, frozenset[str]]
    tags: frozenset[str]
    count: int
    text: str


@dataclass(slots=True)
class Ledger:
    notes: list[Note] = field(default_factory=list)

    def asked(self, notes: Iterable[Note], hashes: Mapping[bytes, frozenset[str]] | None = None) -> None:
        """Somebody asked for this. It may have happened, whether an answer follows or not."""
        for note in notes:
            note.hashes = (hashes or {}).get(note.tag, frozenset())
            self.notes.append(note)

    def answered(self, notes: Iterable[Note]) -> None:
        """And was told that it is done."""
        for note in notes:
            note.answered = True

    def check(self, shown: Mapping[Place, Shown], binds: Callable[[Note], bool]) -> None:
        """Hold the notes against what is shown.

        Raises:
            Finding: a write was lost, or something forgotten is back.
        """
        by_place: dict[Place, list[Note]] = defaultdict(list)
        for note in self.notes:
            by_place[note.place].append(note)
        for place, notes in by_place.items():
            _check_place(place, notes, shown.get(place), binds)


def _check_place(place: Place, notes: list[Note], shown: Shown | None, binds: Callable[[Note], bool]) -> None:
    dead = max((note.life for note in notes if note.sort == "forget" and binds(note)), default=0)
    maybe_dead = max((note.life for note in notes if note.sort == "forget"), default=0)
    if shown is not None and shown.life <= dead:
        raise Finding("forgotten and back", f"{place.kind} {place.id}, life {shown.life}")
    lives = {note.life for note in notes if note.life > dead}
    for life in lives:
        here = [note for note in notes if note.life == life and note.sort != "forget"]
        if shown is None or shown.life != life:
            newer = shown is not None and shown.life > life
            if life > maybe_dead and not newer and any(binds(note) for note in here):
                raise Finding("an acknowledged document is gone", f"{place.kind} {place.id}, life {life}")
            continue
        _check_values(place, [note for note in here if note.sort == "set"], shown, binds)
        _check_tags(place, here, shown, binds)
        _check_count(place, [note for note in here if note.sort == "move"], shown, binds)
        _check_text(place, here, shown, binds)


def _check_values(place: Place, notes: list[Note], shown: Shown, binds: Callable[[Note], bool]) -> None:
    after: dict[str, list[Note]] = defaultdict(list)
    for note in notes:
        for seen in note.sees:
            after[seen].append(note)

    def stands(note: Note) -> bool:
        todo, met = [note], set()
        while todo:
            each = todo.pop()
            if each.value in shown.values.get(each.field, ()):
                return True
            if each.value not in met:
                met.add(each.value)
                todo += after[each.value]
        return False

    for note in notes:
        if binds(note) and not stands(note):
            raise Finding("an acknowledged write is lost", f"{note.field} = {note.value} of {place.kind} {place.id}")
    written = {note.value for note in notes}
    for name, values in shown.values.items():
        for value in values - written:
            raise Finding("shows what nobody wrote", f"{name} = {value} of {place.kind} {place.id}")


def _check_tags(place: Place, notes: list[Note], shown: Shown, binds: Callable[[Note], bool]) -> None:
    added = {note.value for note in notes if note.sort == "add"}
    kept = {note.value for note in notes if note.sort == "add" and binds(note)}
    discarded = {note.value for note in notes if note.sort == "discard"}
    for tag in sorted(kept - discarded - shown.tags):
        raise Finding("an acknowledged tag is lost", f"{tag} of {place.kind} {place.id}")
    for tag in sorted(shown.tags - added):
        raise Finding("shows what nobody wrote", f"tag {tag} of {place.kind} {place.id}")


def _check_count(place: Place, notes: list[Note], shown: Shown, binds: Callable[[Note], bool]) -> None:
    """Exact where every movement binds, else within what the others may have added."""
    sure = sum(note.value for note in notes if binds(note))
    doubtful = [note.value for note in notes if not binds(note)]
    least = sure + sum(value for value in doubtful if value < 0)
    most = sure + sum(value for value in doubtful if value > 0)
    if not least <= shown.count <= most:
        detail = f"{shown.count} where {least} to {most} is due, {place.kind} {place.id}"
        raise Finding("a counter lost or invented a movement", detail)


def _check_text(place: Place, notes: list[Note], shown: Shown, binds: Callable[[Note], bool]) -> None:
    typed = [note for note in notes if note.sort == "type"]
    struck = set(_characters(note for note in notes if note.sort == "strike"))
    if len(set(shown.text)) != len(shown.text):
        raise Finding("text shows a character twice", f"{place.kind} {place.id}")
    for note in typed:
        if binds(note) and any(character not in shown.text for character in set(note.value) - struck):
            raise Finding("acknowledged text is lost", f"{place.kind} {place.id}")
        order = [shown.text.index(character) for character in note.value if character in shown.text]
        if order != sorted(order):
            raise Finding("text typed at once is out of order", f"{place.kind} {place.id}")
    for character in sorted(set(shown.text) - set(_characters(typed))):
        raise Finding("shows what nobody wrote", f"a character {ord(character):x} of {place.kind} {place.id}")
    sure = set(_characters(note for note in notes if note.sort == "strike" and binds(note)))
    if sure & set(shown.text):
        raise Finding("struck text is back", f"{place.kind} {place.id}")


def _characters(notes: Iterable[Note]) -> Iterable[str]:
    return (character for note in notes for character in note.value)
