"""Registers: which values are live, and how each resolver settles them."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from aico_crdt.crdt.document import Slot
from aico_crdt.crdt.register import (
    Field,
    Fold,
    Register,
    Resolver,
    device_first,
    last_writer,
    merge_by,
    record,
    register,
    tier_first,
)
from aico_crdt.errors import InvalidValue

LAPTOP, PHONE, TABLET = "laptop______", "phone_______", "tablet______"


def writer(device: str, life: int = 1) -> str:
    return f"{device}life{life:04}"


def born(device: str, hlc: int, **fields: Any) -> Slot:
    return Slot("*", writer(device), hlc, fields, None)


def edit(device: str, hlc: int, value: Any, seen: tuple[str, ...] | None = None, life: int = 1) -> Slot:
    return Slot("text", writer(device, life), hlc, value, seen)


def read(slots: list[Slot], fold: Fold) -> Field:
    """The field `text`, the same whatever the order of the slots."""
    results = [record(order, {"text": fold})["text"] for order in permutations(slots)]
    assert all(result == results[0] for result in results)
    return results[0]


def shown(slots: list[Slot], resolver: Resolver = last_writer) -> Any:
    return read(slots, register(resolver)).value


def test_an_unedited_record_reads_as_it_was_born() -> None:
    fields = record([born(LAPTOP, 1, text="a", note="b")])
    assert {name: field.value for name, field in fields.items()} == {"note": "b", "text": "a"}
    assert list(fields) == ["note", "text"]
    assert fields["text"].winner is not None
    assert fields["text"].winner.born
    assert fields["text"].conflict == ()


def test_an_edit_replaces_the_birth_even_with_an_older_stamp() -> None:
    assert shown([born(LAPTOP, 9, text="a"), edit(PHONE, 1, "b")]) == "b"


def test_concurrent_edits_are_a_conflict_newest_first() -> None:
    field = read([edit(LAPTOP, 1, "a"), edit(PHONE, 2, "b"), edit(TABLET, 2, "c")], register())
    assert [candidate.value for candidate in field.conflict] == ["c", "b", "a"]
    assert field.value == "c"
    assert field.winner == field.conflict[0]


def test_equal_values_are_no_conflict() -> None:
    field = read([edit(LAPTOP, 1, {"x": [1]}), edit(PHONE, 2, {"x": [1]})], register())
    assert field.conflict == ()
    assert field.winner is not None
    assert field.winner.writer == writer(PHONE)
    three = read([edit(LAPTOP, 1, "a"), edit(PHONE, 2, "a"), edit(TABLET, 3, "b")], register())
    assert [(c.value, c.hlc) for c in three.conflict] == [("b", 3), ("a", 2)]


def test_a_birth_that_no_edit_saw_stays_live() -> None:
    births = [born(LAPTOP, 1, text="a"), born(PHONE, 2, text="b")]
    saw_one = edit(LAPTOP, 3, "c", (writer(LAPTOP),))
    saw_both = edit(LAPTOP, 3, "c", (writer(LAPTOP), writer(PHONE)))
    assert [c.value for c in Register.of("text", [*births, saw_one]).candidates] == ["b", "c"]
    assert [c.value for c in Register.of("text", [*births, saw_both]).candidates] == ["c"]
    assert [c.value for c in Register.of("text", births).candidates] == ["a", "b"]


def test_what_was_never_written_is_absent() -> None:
    slots = [born(LAPTOP, 1, note="n")]
    assert "text" not in record(slots)
    assert Register.of("text", slots).resolve() is None


CONFLICT = [born(PHONE, 1), edit(LAPTOP, 2, "a"), edit(PHONE, 3, "b"), edit(TABLET, 4, "c")]
TIERS = {LAPTOP: "desktop", PHONE: "mobile", TABLET: "mobile"}


@pytest.mark.parametrize(
    ("resolver", "value"),
    [
        (last_writer, "c"),
        (device_first(LAPTOP), "a"),
        (device_first(), "b"),  # where it was born
        (device_first("unknown_____"), "c"),
        (tier_first(["desktop", "mobile"], TIERS.get), "a"),
        (tier_first(["mobile", "desktop"], TIERS.get), "c"),
        (tier_first(["server"], TIERS.get), "c"),
        (merge_by(" ".join), "a b c"),
    ],
)
def test_each_resolver(resolver: Resolver, value: str) -> None:
    assert shown(CONFLICT, resolver) == value


def test_a_merge_is_only_a_proposal() -> None:
    field = read(CONFLICT, register(merge_by(max)))
    assert field.value == "c"
    assert field.winner is not None
    computed = read(CONFLICT, register(merge_by(" ".join)))
    assert computed.winner is None
    assert len(computed.conflict) == 3
    with pytest.raises(InvalidValue):
        read(CONFLICT, register(merge_by(lambda values: float("nan"))))


def test_a_resolver_is_not_asked_without_a_conflict() -> None:
    def refuse(values: list[Any]) -> Any:
        raise AssertionError

    assert shown([edit(LAPTOP, 1, "a"), edit(PHONE, 2, "a")], merge_by(refuse)) == "a"
    assert shown([edit(LAPTOP, 1, "a")], merge_by(refuse)) == "a"


def test_two_lives_of_one_device_may_conflict() -> None:
    field = read([edit(LAPTOP, 1, "a", life=1), edit(LAPTOP, 1, "b", life=2)], register(device_first(LAPTOP)))
    assert field.value == "b"
    assert {candidate.device for candidate in field.conflict} == {LAPTOP}
