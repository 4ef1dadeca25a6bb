"""Two handles of one store and a peer, in any order: what one transaction leaves to the next must never show.

Neither handle shares what it knows with the other, as two processes would. After every few steps a third one, opened
afresh, must read what they read, and the store must verify; at the end the peer must have come to the same.

The seed is in the test's name. ``AICO_SOAK=1`` runs for minutes instead of seconds.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from aico_crdt.errors import InvalidValue, NotFound
from aico_crdt.store.prune import compact
from aico_crdt.store.vacuum import vacuum
from aico_crdt.store.verify import verify
from tests.store.conftest import exchange, send

SOAK: Final = bool(os.environ.get("AICO_SOAK"))
SEEDS: Final = range(200 if SOAK else 4)
STEPS: Final = 250 if SOAK else 60
LONG: Final = "It was a bright cold day in April, and the clocks were striking. " * 300
KINDS: Final = ("memory", "fact")


class _Fails(Exception):
    pass


def seen(store: Any, kind: str) -> dict[tuple[str, str], Any]:
    """Every row by space and id; one id may have been borne in two spaces at once."""
    return {(row.space, row.id): row for row in store.rows(kind)}


def said(store: Any, kind: str) -> dict[tuple[str, str], Any]:
    """As :func:`seen`, without who bore it: of an id given by hand to two births, each side names its own."""
    return {place: replace(row, device="") for place, row in seen(store, kind).items()}


class Trio:
    def __init__(self, family: Any, root: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.family, self.root = family, root
        one, self.peer = family(2)
        self.handles = [one, family.open(one.path, 0)]
        self.made = 0

    def place(self) -> tuple[str, str]:
        if self.random.random() < 0.4:
            return "fact", f"f{self.random.randrange(3)}"
        return "memory", f"m{self.random.randrange(4)}"

    def verb(self, transaction: Any) -> None:
        """One verb; what cannot be done with the document as it is, is not."""
        kind, document = self.place()
        row = transaction.read(kind, document)
        if row is None:
            t, tag = self.random.randrange(9), self.random.choice("xyz")
            fields: dict[str, Any] = {"t": t, "tag": tag, "a": [1, {"b": None}]}
            fields = {name: fields[name] for name in self.random.sample(list(fields), self.random.randrange(4))}
            transaction.create(kind, fields, id=document, space=self.random.choice(("own", "family")))
        elif row.stub:
            return
        else:
            self.change(transaction, kind, document)

    def change(self, transaction: Any, kind: str, document: str) -> None:
        match self.random.randrange(6):
            case 0:
                transaction.edit(kind, document, {"tag": self.random.choice("xyz"), "t": self.random.randrange(9)})
            case 1:
                text = transaction.text(kind, document)
                transaction.insert_text(kind, document, self.random.randrange(len(text) + 1), LONG)
            case 2 | 3:
                text = transaction.text(kind, document)
                transaction.insert_text(
                    kind, document, self.random.randrange(len(text) + 1), self.random.choice("abcé")
                )
            case 4:
                text = transaction.text(kind, document)
                if text:
                    at = self.random.randrange(len(text))
                    transaction.delete_text(kind, document, at, self.random.choice((1, len(text) - at)))
            case 5:
                if self.random.random() < 0.4:
                    transaction.forget(kind, document, now=self.random.random() < 0.5)

    def someone(self) -> Any:
        return self.random.choice([*self.handles, self.handles[0], self.peer])

    def write(self) -> None:
        store = self.someone()
        fails = self.random.random() < 0.15
        try:
            with store.transaction() as transaction:
                for _ in range(self.random.choice((1, 1, 2, 4))):
                    self.verb(transaction)
                if fails:
                    raise _Fails
        except (InvalidValue, NotFound, _Fails):
            pass

    def group(self) -> None:
        def job(transaction: Any) -> None:
            self.verb(transaction)
            if self.random.random() < 0.3:
                raise _Fails

        for result in self.someone().group([job] * self.random.randrange(1, 6)):
            assert result is None or isinstance(result, InvalidValue | NotFound | _Fails), result

    def sync(self) -> None:
        handle = self.random.choice(self.handles)
        if self.random.random() < 0.5:
            send(handle, self.peer)
        else:
            send(self.peer, handle)

    def erase(self) -> None:
        self.someone().erase_due(self.family.clock.ms + (1 << 40) * self.random.randrange(2))

    def compact(self) -> None:
        compact(self.someone())

    def renew(self) -> None:
        self.random.choice(self.handles).renew_incarnation()

    def reopen(self) -> None:
        place = self.random.randrange(2)
        self.handles[place] = self.family.reopen(self.handles[place])

    def vacuum(self) -> None:
        for handle in self.handles:
            handle.close()
        vacuum(self.handles[0].path)
        self.handles = [self.family.open(handle.path, 0) for handle in self.handles]

    def check(self) -> None:
        """What a fresh handle reads, everybody reads, and it is what everything folds to."""
        fresh = self.family.open(self.handles[0].path, 0)
        for kind in KINDS:
            expected = seen(fresh, kind)
            for handle in self.handles:
                assert seen(handle, kind) == expected
                with handle.transaction() as transaction:
                    for (space, document), row in expected.items():
                        assert transaction.read(kind, document, space=space) == row
                        first = fresh.read(kind, document)
                        assert transaction.read(kind, document) == first
                        if not first.stub:
                            assert transaction.text(kind, document) == first.fields.get("text", "")
        for store in (fresh, self.peer):
            report = verify(store, refold=True)
            assert report.clean, report.problems
        fresh.close()

    def run(self) -> None:
        steps: list[tuple[int, Callable[[], None]]] = [
            (50, self.write), (15, self.group), (14, self.sync), (4, self.erase), (4, self.compact), (2, self.renew),
            (3, self.reopen), (1, self.vacuum), (5, self.check),
        ]  # fmt: skip
        for _ in range(STEPS):
            self.random.choices([step for _, step in steps], [weight for weight, _ in steps])[0]()
        exchange(self.handles[0], self.peer)
        self.check()
        for kind in KINDS:
            assert said(self.handles[0], kind) == said(self.peer, kind)
        assert self.handles[1].content_hash() == self.peer.content_hash()


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_old_is_ever_known(family: Any, fast_path: Path, seed: int) -> None:
    Trio(family, fast_path, seed).run()
