"""The authority table, compared with the one that is drawn, cell by cell."""

from __future__ import annotations

import re
from itertools import product

import pytest

from aico_crdt.trust import authority
from aico_crdt.trust.authority import OPERATIONS, may
from aico_crdt.trust.statement import TRUSTS


def drawn() -> dict[tuple[str, str], str]:
    assert authority.__doc__
    rows = [
        line.split() for line in authority.__doc__.splitlines() if re.match(r"[a-z:]+  +\w+  +\w+  +\w+  +\w+$", line)
    ]
    head, *body = rows
    return {(row[0], trust): right for row in body for trust, right in zip(head[1:], row[1:], strict=True)}


def test_the_drawing_is_the_whole_table() -> None:
    assert {operation for operation, _ in drawn()} == OPERATIONS
    assert {trust for _, trust in drawn()} == set(TRUSTS)


@pytest.mark.parametrize("is_creator", [False, True])
def test_every_cell_is_as_drawn(is_creator: bool) -> None:
    for (operation, trust), right in drawn().items():
        expected = {"yes": True, "own": is_creator, "no": False}[right]
        assert may(operation, "memory", trust, is_creator=is_creator) == expected, (operation, trust)


def test_the_rules_in_words() -> None:
    statements = {operation for operation in OPERATIONS if operation.startswith("statement:")}
    assert statements == {"statement:found", "statement:admit", "statement:revoke"}
    for operation, is_creator in product(OPERATIONS, (False, True)):
        assert may(operation, "memory", "full", is_creator=is_creator)
        for trust in ("relay", "guest", None, "", "boss"):
            assert not may(operation, "memory", trust, is_creator=is_creator)
    assert may("update", "memory", "limited", is_creator=False)
    assert may("forget", "memory", "limited", is_creator=True)
    assert not may("forget", "memory", "limited", is_creator=False)
    for operation in statements | {"manifest"}:
        assert not may(operation, "directory", "limited", is_creator=True)


def test_what_is_not_in_the_table_is_nobodys_right() -> None:
    for operation in ("", "statement", "statement:epoch", "UPDATE", "prune"):
        assert not may(operation, "memory", "full", is_creator=True)
