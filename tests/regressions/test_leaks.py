"""Nothing of what a store holds can be read in its files without the key."""

from __future__ import annotations

from typing import Any


def test_where_a_document_moved_to_is_sealed(family: Any) -> None:
    [a] = family(1)
    a.create("memory", {"content": "one"}, id="m")
    with a.transaction() as transaction:
        transaction.forget("memory", "m", moved_to="a-telling-name")
    a.close()
    assert b"a-telling-name" not in (a.path / "data.mdb").read_bytes()
