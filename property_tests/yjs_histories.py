"""Random Yjs histories: several clients edit every shared type and exchange what they have, in causal order.

Formats and non-ASCII text are not mixed: Yrs 0.28 counts byte offsets wrongly there and cuts characters in two; its
own encoding of such a document loses clocks (the walker refuses it).
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

from pycrdt import Array, Doc, Map, Text, XmlElement, XmlFragment, XmlText

ASCII = ("a", "b", "hello ")
WIDE = ("a", "é", "€", "😀", "𝄞z", "hello ")
NUMBERS = (0.0, 1.0, -1.0, 63.0, 64.0, -64.0, 127.0, 8192.0, 2.0**31, 2.0**53 - 1, 1 - 2.0**53, 1.5, 0.1, 1e300)


class Step(NamedTuple):
    """One update: the encoded state it was made on, its bytes, its author (None: someone's whole difference)."""

    before: bytes
    update: bytes
    author: int | None


class Roots(NamedTuple):
    fields: Map[Any]
    text: Text
    items: Array[Any]
    tree: XmlFragment


def roots(doc: Doc[Any]) -> Roots:
    return Roots(
        doc.get("m", type=Map), doc.get("t", type=Text), doc.get("a", type=Array), doc.get("x", type=XmlFragment)
    )


def content(doc: Doc[Any]) -> str:
    """All that a reader sees, in one comparable string."""
    fields, text, items, tree = roots(doc)
    seen = sorted((key, _seen(value)) for key, value in fields.items())
    return repr((seen, _plain(text.diff()), [_seen(item) for item in items], str(tree)))


def _seen(value: Any) -> str:
    if isinstance(value, Map | Array):
        value = value.to_py()
    return repr(_plain(value)) if isinstance(value, dict | list | float) else str(value)


def _plain(value: Any) -> Any:
    """`value` with its dicts in order: Yrs keeps them in hash maps."""
    if isinstance(value, dict):
        return sorted((key, _plain(item)) for key, item in value.items())
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def history(seed: int, writers: int = 3, steps: int = 12) -> list[Step]:
    """Every update of one random history, and what replicas handed each other; the last is a whole state."""
    rng = random.Random(seed)
    editor = _Editor(rng, WIDE if seed % 2 else ASCII, formats=seed % 2 == 0)
    docs: list[Doc[Any]] = []
    for writer in range(writers):
        doc: Doc[Any] = Doc(client_id=rng.choice([writer + 1, rng.getrandbits(53) | 1]))
        roots(doc)
        docs.append(doc)
    out: list[Step] = []
    for _ in range(steps):
        doc = rng.choice(docs)
        before = doc.get_update()
        for update in _updates(doc, editor):
            out.append(Step(before, update, doc.client_id))
        other = rng.choice(docs)
        if other is not doc and rng.random() < 0.4:
            before, difference = other.get_update(), doc.get_update(other.get_state())
            other.apply_update(difference)
            out.append(Step(before, difference, None))
    return [*out, Step(b"\0\0", rng.choice(docs).get_update(), None)]


def _updates(doc: Doc[Any], editor: _Editor) -> list[bytes]:
    seen: list[bytes] = []
    subscription = doc.observe(lambda event: seen.append(event.update))
    with doc.transaction():
        editor.edit(doc, editor.rng.choice((1, 1, 2, 4)))
    doc.unobserve(subscription)
    return seen


class _Editor:
    def __init__(self, rng: random.Random, alphabet: tuple[str, ...], *, formats: bool) -> None:
        self.rng = rng
        self.alphabet = alphabet
        self.formats = formats

    def edit(self, doc: Doc[Any], times: int) -> None:
        everything = (
            *(self.set_field, self.set_field, self.drop_field),
            *(self.write, self.write, self.erase, self.embellish),
            *(self.insert, self.remove, self.nest, self.edit_nested, self.edit_tree),
        )
        for _ in range(times):
            self.rng.choice(everything)(roots(doc), doc.client_id)

    def word(self) -> str:
        return "".join(self.rng.choice(self.alphabet) for _ in range(self.rng.randrange(1, 4)))

    def value(self, depth: int = 0) -> Any:
        kind = self.rng.randrange(9 if depth < 3 else 7)
        if kind < 2:
            return self.rng.choice((None, True, False))
        if kind < 4:
            return self.rng.choice(NUMBERS)
        if kind == 4:
            return self.rng.randbytes(self.rng.randrange(6))
        if kind < 7:
            return self.word()
        if kind == 7:
            return [self.value(depth + 1) for _ in range(self.rng.randrange(3))]
        return {f"{self.word()}{n}": self.value(depth + 1) for n in range(self.rng.randrange(3))}

    def set_field(self, here: Roots, client: int) -> None:
        here.fields[f"{self.rng.choice('fgh')}@{client % 97}"] = [float(self.rng.randrange(1000)), self.value()]

    def drop_field(self, here: Roots, client: int) -> None:
        if keys := sorted(here.fields.keys()):
            del here.fields[self.rng.choice(keys)]

    def write(self, here: Roots, client: int) -> None:
        text = str(here.text)
        here.text.insert(len(text[: self.rng.randrange(len(text) + 1)].encode()), self.word())

    def erase(self, here: Roots, client: int) -> None:
        text = str(here.text)
        if not text:
            return
        first = self.rng.randrange(len(text))
        if text.isascii():
            del here.text[first : min(first + self.rng.randrange(1, 4), len(text))]
        elif self.rng.random() < 0.3:
            here.text.clear()

    def insert(self, here: Roots, client: int) -> None:
        here.items.insert(self.rng.randrange(len(here.items) + 1), self.value())

    def remove(self, here: Roots, client: int) -> None:
        if len(here.items):
            del here.items[self.rng.randrange(len(here.items))]

    def nest(self, here: Roots, client: int) -> None:
        made = (Map({"q": 1.0}), Text("nest"), Array([1.0, Map({"z": Array([2.0])})]))
        here.items.append(self.rng.choice(made))

    def edit_nested(self, here: Roots, client: int) -> None:
        for item in here.items:
            if isinstance(item, Map):
                item[self.rng.choice("qrs")] = self.value()
            elif isinstance(item, Array):
                item.append(self.value())
            elif isinstance(item, Text):
                item.insert(0, self.word())

    def edit_tree(self, here: Roots, client: int) -> None:
        children = here.tree.children
        if len(children) and self.rng.random() < 0.5:
            del children[self.rng.randrange(len(children))]
        else:
            children.append(XmlElement("p", {"id": self.word()}, [XmlText(self.word())]))

    def embellish(self, here: Roots, client: int) -> None:
        length = len(str(here.text))
        if self.formats and length:
            bold = self.rng.choice((True, None, {"q": [1, "x"]}))
            here.text.format(0, self.rng.randrange(1, length + 1), {"bold": bold})
            here.text.insert_embed(0, {"img": self.word()})
