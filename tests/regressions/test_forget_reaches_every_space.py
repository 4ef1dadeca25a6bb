"""What was forgotten does not answer under the same kind and id from another space."""

from __future__ import annotations

from typing import Any

import pytest

from aico_crdt.errors import Forbidden, NotFound
from tests.store.conftest import exchange


def born_twice(a: Any, b: Any) -> None:
    a.create("memory", {"content": "secret"}, id="m", space="own" if a.directory.find("own", "memory") else "local")
    b.create("memory", {"content": "secret"}, id="m", space="family")
    exchange(a, b)


def test_a_document_born_in_two_spaces_is_forgotten_in_both(family: Any) -> None:
    a, b = family(2)
    born_twice(a, b)
    a.forget("memory", "m", now=True)
    assert a.read("memory", "m") is None
    exchange(a, b)
    assert b.read("memory", "m") is None
    with pytest.raises(NotFound):
        b.forget("memory", "m")


def test_it_is_forgotten_in_all_of_them_or_in_none(family: Any) -> None:
    a, b = family(2, trusts=["limited"])
    born_twice(b, a)
    with pytest.raises(Forbidden):
        b.forget("memory", "m")
    spaces = []
    for space in ("local", "family"):
        opened = b.directory.find(space, "memory")
        with b.writing() as workspace:
            spaces.append(workspace.open(opened, "m").alive)
    assert spaces == [True, True]
