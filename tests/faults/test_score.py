"""What counts as lost, resurrected and divergent: histories by hand, with what they come to."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bench.faults.ledger import Fate, Kind, Operation
from bench.faults.score import Score, score
from bench.faults.system import Reading

Given = tuple[Kind, str, str, Fate, Sequence[str] | None]


def history(*given: Given) -> list[Operation]:
    return [
        Operation(number, kind, name, value, fate, None if replaced is None else frozenset(replaced))
        for number, (kind, name, value, fate, replaced) in enumerate(given)
    ]


def wrote(name: str, value: str) -> Given:
    return ("write", name, value, "acknowledged", [])


def edited(name: str, value: str, *replaced: str) -> Given:
    return ("edit", name, value, "acknowledged", replaced)


def maybe_edited(name: str, value: str, *replaced: str, known: bool = True) -> Given:
    return ("edit", name, value, "doubtful", replaced if known else None)


def forgot(name: str, fate: Fate = "acknowledged") -> Given:
    return ("forget", name, "", fate, [])


def lost(given: list[Given], *fresh: Reading) -> tuple[int, int]:
    found = score(history(*given), fresh)
    return found.lost, found.owed


def test_what_can_be_read_is_not_lost() -> None:
    assert lost([wrote("a", "1"), wrote("b", "2")], {"a": ("1",)}) == (1, 2)
    assert lost([wrote("a", "1")], {}, {"a": ("1",)}) == (0, 1)  # on one machine only: divergent, not lost
    assert lost([wrote("a", "1")], {"a": ("7", "1")}) == (0, 1)  # as a conflict


def test_an_edit_takes_the_place_of_what_it_replaced_and_of_nothing_else() -> None:
    known = [wrote("a", "1"), edited("a", "2", "1")]
    assert lost(known, {"a": ("2",)}) == (0, 1)
    assert lost(known, {"a": ("1",)}) == (1, 1)  # an edit undone is an edit lost
    apart = [wrote("a", "1"), edited("a", "2", "1"), edited("a", "3", "1")]
    assert lost(apart, {"a": ("3",)}) == (1, 2)
    assert lost(apart, {"a": ("3", "2")}) == (0, 2)
    assert lost([wrote("a", "1"), edited("a", "2")], {"a": ("2",)}) == (1, 2)


@pytest.mark.parametrize("known", [True, False])
def test_a_doubtful_edit_may_have_happened_or_not(known: bool) -> None:
    given = [wrote("a", "1"), maybe_edited("a", "2", "1", known=known)]
    assert lost(given, {"a": ("1",)}) == (0, 1)
    assert lost(given, {"a": ("2",)}) == (0, 1)
    assert lost(given, {}) == (1, 1)
    assert lost(given, {"a": ("7",)}) == (1, 1)


def test_a_doubtful_edit_replaces_nothing_that_came_after_it() -> None:
    given = [wrote("a", "1"), maybe_edited("a", "2", known=False), edited("a", "3", "1")]
    assert lost(given, {"a": ("2",)}) == (1, 1)
    assert lost(given, {"a": ("3",)}) == (0, 1)


def test_after_a_doubtful_edit_that_was_seen_the_next_one_replaced_both() -> None:
    given = [wrote("a", "1"), maybe_edited("a", "2", known=False), edited("a", "3", "2")]
    assert lost(given, {"a": ("3",)}) == (0, 2)  # the write still stands on its own; 2 had its place
    assert lost(given, {}) == (1, 2)


def test_what_is_doubtful_is_not_owed() -> None:
    assert lost([("write", "a", "1", "doubtful", [])], {}) == (0, 0)


def test_nothing_is_owed_of_a_record_that_somebody_asked_to_forget() -> None:
    assert lost([wrote("a", "1"), forgot("a"), edited("a", "2", "1")], {}) == (0, 0)
    assert lost([wrote("a", "1"), forgot("a", "doubtful")], {}) == (0, 0)


@pytest.mark.parametrize(
    ("fresh", "open_ones", "expected"),
    [
        ([{}], [{}], (0, 1)),
        ([{"a": ("1",)}], [], (1, 1)),
        ([{}, {"a": ("2",)}], [], (1, 1)),
        ([{}], [{"a": ("1",)}], (1, 1)),
    ],
)
def test_what_is_forgotten_is_nowhere(
    fresh: list[Reading], open_ones: list[Reading], expected: tuple[int, int]
) -> None:
    found = score(history(wrote("a", "1"), forgot("a")), fresh, open_ones)
    assert (found.resurrected, found.forgotten) == expected


def test_a_doubtful_forget_may_have_happened_or_not() -> None:
    given = history(wrote("a", "1"), forgot("a", "doubtful"))
    assert score(given, [{"a": ("1",)}]).clean
    assert score(given, [{}]).clean


def test_two_that_do_not_read_alike_are_divergent() -> None:
    given = history(wrote("a", "1"), wrote("b", "2"), wrote("c", "3"))
    one, other = {"a": ("1",), "b": ("2", "x"), "c": ("3", "x", "y")}, {"b": ("x", "2"), "c": ("3", "y", "x")}
    assert score(given, [one, other]) == Score(0, 3, 0, 0, 2, 3)  # a is missing, b begins otherwise, c is the same
    assert score(given, [one], [other]).divergent == 2  # what an open process still shows counts too
    assert score(given, [one, one], [one]).divergent == 0
