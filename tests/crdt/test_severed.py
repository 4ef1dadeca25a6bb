"""What was typed upon characters that are void, made to fit a text that never had them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pycrdt import Doc, Text

from aico_crdt.crdt.severed import Displaced, severed
from aico_crdt.crdt.walker import read_update
from aico_crdt.errors import Malformed

LOST = 7
AUTHOR = 9


def text_of(doc: Any) -> Any:
    return doc.get("t", type=Text)


def typed(doc: Any, change: Callable[[Any], object]) -> bytes:
    """The update of one change."""
    found: list[bytes] = []
    subscription = doc.observe(lambda event: found.append(event.update))
    with doc.transaction():
        change(text_of(doc))
    doc.unobserve(subscription)
    return found[-1]


def upon(content: str) -> tuple[Any, Any]:
    """(the author's document, one that shares the first three characters only): both begin with `content`."""
    lost: Any = Doc(client_id=LOST)
    text_of(lost).insert(0, content[:3])
    kept: Any = Doc(client_id=1)
    kept.apply_update(lost.get_update())
    text_of(lost).insert(3, content[3:])
    author: Any = Doc(client_id=AUTHOR)
    author.apply_update(lost.get_update())
    return author, kept


def test_what_names_nothing_lost_stays_as_it_is() -> None:
    author, _ = upon("abcdef")
    update = typed(author, lambda text: text.insert(1, "x"))
    displaced = Displaced()
    assert severed(update, {LOST: 3}, displaced) == update
    assert not displaced


def test_text_beside_lost_text_is_kept_whole_and_in_order() -> None:
    author, kept = upon("abcdef")
    displaced = Displaced()
    for place, word in ((6, "x😀"), (11, "y"), (7, "z")):  # indices are bytes
        kept.apply_update(severed(typed(author, lambda t, p=place, w=word: t.insert(p, w)), {LOST: 3}, displaced))
    assert str(text_of(author)) == "abcdefxz😀y"
    told = str(text_of(kept))
    assert [character for character in told if character not in "abc"] == [
        character for character in str(text_of(author)) if character not in "abcdef"
    ]
    assert [character for character in told if character in "abc"] == list("abc")
    assert (AUTHOR, 0) in displaced
    assert (AUTHOR, 99) not in displaced


def test_deletes_of_lost_text_are_cut_out_and_others_kept() -> None:
    author, _ = upon("abcdef")

    def change(text: Any) -> None:
        del text[2:5]

    assert read_update(severed(typed(author, change), {LOST: 3}, Displaced())).deleted == ((LOST, 2, 1),)


def test_the_clocks_of_what_is_displaced_stay() -> None:
    author, _ = upon("abcdef")
    update = typed(author, lambda text: text.insert(4, "wörd"))
    after = read_update(severed(update, {LOST: 3}, Displaced()))
    assert after.inserted == read_update(update).inserted
    assert not after.inherits


def test_a_broken_update_is_refused() -> None:
    author, _ = upon("abcdef")
    update = typed(author, lambda text: text.insert(4, "x"))
    for end in range(len(update)):
        with pytest.raises(Malformed):
            severed(update[:end], {LOST: 3}, Displaced())
