"""What is acknowledged here must be acceptable everywhere: a feed never stops at an entry of an honest device."""

from __future__ import annotations

from typing import Any

import pytest

from aico_crdt.errors import InvalidValue
from tests.store.conftest import exchange, send


def after(a: Any, b: Any) -> None:
    [outcome] = [report for report in send(a, b) if report.rejected] or [None]
    a.create("memory", {"content": "after"}, id="after")
    exchange(a, b)
    assert b.read("memory", "after") is not None, outcome


def test_many_elements_in_one_transaction(family: Any) -> None:
    a, b = family(2)
    a.create("memory", {"content": "one"}, id="m")
    with pytest.raises(InvalidValue, match="too many places"), a.transaction() as transaction:
        transaction.add("memory", "m", "tags", [str(number) for number in range(17_000)])
    after(a, b)


def test_a_failing_writer_does_not_fail_its_group(family: Any) -> None:
    [a] = family(1)
    a.create("memory", {"content": "one"}, id="m")

    def many(transaction: Any) -> None:
        transaction.add("memory", "m", "tags", [str(number) for number in range(17_000)])

    def fails(transaction: Any) -> None:
        transaction.edit("memory", "m", {"content": "no"})
        raise ValueError

    def small(transaction: Any) -> str:
        return str(transaction.create("memory", {"content": "small"}))

    results = a.group([many, fails, small])
    assert isinstance(results[2], str)


def test_a_group_of_writers_that_each_fit(family: Any) -> None:
    [a] = family(1)
    results = a.group([lambda t: t.create("memory", {"content": "x" * 250_000})] * 300)
    assert [result for result in results if isinstance(result, Exception)] == []
