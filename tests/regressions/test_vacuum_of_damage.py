"""A vacuum of a store with damaged pages would write anew what can still be reached, and destroy the rest."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from aico_crdt.errors import Damaged
from aico_crdt.store.vacuum import vacuum

PAGE = 4096
LEAF = 2


def test_a_page_that_lost_a_record_is_told_and_nothing_is_replaced(family: Any) -> None:
    (store,) = family(1)
    with store.transaction() as transaction:
        for number in range(200):
            transaction.create("memory", {"content": "x" * 300, "t": number}, id=f"m{number}")
    path = store.path
    store.close()
    data = bytearray((path / "data.mdb").read_bytes())
    for page in range(2, len(data) // PAGE):
        flags, lower = struct.unpack_from("<HH", data, page * PAGE + 10)
        if flags == LEAF and lower > 24:
            struct.pack_into("<H", data, page * PAGE + 12, lower - 2)  # one record less in every leaf
    (path / "data.mdb").write_bytes(data)
    with pytest.raises(Damaged):
        vacuum(path)
    assert (path / "data.mdb").read_bytes() == data
    assert not (path / "vacuum").exists()
