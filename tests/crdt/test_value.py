"""Plain values: what may be stored, and its one form."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aico_crdt.crdt.document import Document
from aico_crdt.crdt.value import MAX_BYTES, MAX_DEPTH, MAX_INTEGER, canonical, plain
from aico_crdt.errors import InvalidValue

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@given(values)
def test_what_goes_through_yrs_comes_back_as_it_was(value: Any) -> None:
    document = Document.new(1, "w" * 20)
    document.set("field", value, 1)
    copy = Document.load(document.state(), 2, "v" * 20)
    (slot,) = copy.slots()
    assert slot.value == plain(value)
    assert same_types(slot.value, plain(value))
    assert canonical(slot.value) == canonical(value)
    copy.set("field", slot.value, 2)  # what was read can be written again


def same_types(a: Any, b: Any) -> bool:
    if type(a) is list:
        return type(b) is list and all(map(same_types, a, b))
    if type(a) is dict:
        return type(b) is dict and list(a) == list(b) and all(same_types(a[k], b[k]) for k in a)
    return type(a) is type(b)


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (1.0, 1),
        (-0.0, 0),
        (2.0**53, 2.0**53),  # beyond MAX_INTEGER a double stays a double
        (True, True),
        ((1, 2.5), [1, 2.5]),
        (bytearray(b"x"), b"x"),
        ({"b": 1, "a": 2.0}, {"a": 2, "b": 1}),
    ],
)
def test_the_plain_form(value: Any, form: Any) -> None:
    assert plain(value) == form
    assert same_types(plain(value), form)


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        2**53,
        -(2**53),
        2**64,
        "\ud800",
        {"\ud800": 1},
        {1: 2},
        {1, 2},
        object(),
        1j,
        nested(MAX_DEPTH + 1),
        {"a": [math.nan]},
        "x" * MAX_BYTES,
        ["é"] * (MAX_BYTES // 3 + 1),
        [0] * MAX_BYTES,
    ],
    ids=lambda value: repr(value)[:20],
)
def test_fault_values_no_replica_could_store_are_refused(value: Any) -> None:
    with pytest.raises(InvalidValue):
        plain(value)


def test_the_bounds_themselves_are_allowed() -> None:
    for value in (MAX_INTEGER, -MAX_INTEGER, nested(MAX_DEPTH), "x" * (MAX_BYTES - 1)):
        assert plain(value) == value


def test_an_error_never_carries_content() -> None:
    with pytest.raises(InvalidValue) as caught:
        plain({"secret": ["secret\ud800"]})
    assert "secret" not in str(caught.value)


def test_equal_values_share_their_bytes_and_others_do_not() -> None:
    assert canonical({"a": 1, "b": -0.0}) == canonical({"b": 0, "a": 1.0})
    different: list[Any] = [None, False, 0, "", b"", [], {}, "0", True, 1, 1.5, "1", [1]]
    assert len({canonical(value) for value in different}) == len(different)
