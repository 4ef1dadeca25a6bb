"""Of a group of several commits, or whose writers fail in unusual ways, each hears what became of its own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aico_crdt.companion import AsyncStore
from aico_crdt.config import Config
from aico_crdt.errors import MapFull
from aico_crdt.store import store as store_module
from aico_crdt.store.verify import verify
from tests.companion.conftest import companions, store

__all__ = ["companions", "store"]

LONG = "It was a bright cold day in April. " * 3000


def test_what_an_earlier_commit_of_a_group_wrote_is_not_said_to_have_failed(
    family: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "GROUP_BYTES", 1 << 20)
    (store,) = family(1, config=Config(map_size_bytes=24 << 20))

    def writer(number: int) -> Any:
        def write(transaction: Any) -> int:
            transaction.create("memory", {"t": number}, id=f"m{number}")
            transaction.insert_text("memory", f"m{number}", 0, LONG)
            return number

        return write

    results = store.group([writer(number) for number in range(200)])
    written = [number for number in range(200) if store.read("memory", f"m{number}") is not None]
    assert 0 < len(written) < 200
    assert [result for result in results if isinstance(result, int)] == written
    assert all(isinstance(result, MapFull) for result in results[len(written) :])
    assert len(results) == 200
    assert verify(store).clean


class _Panic(BaseException):
    """As the one that a panic in Rust raises."""


@pytest.mark.parametrize("error", [StopIteration, _Panic, asyncio.CancelledError])
async def test_an_unusual_exception_harms_no_other_writer(store: Any, error: type[BaseException]) -> None:
    def fails(transaction: Any) -> None:
        transaction.create("memory", {"content": "x"}, id="lost")
        raise error

    def writer(number: int) -> Any:
        return lambda transaction: transaction.create("memory", {"content": "x"}, id=f"m{number}")

    aio = AsyncStore(store)
    jobs = [aio.write(job) for job in (writer(1), fails, writer(2))]
    first, failed, last = await asyncio.wait_for(asyncio.gather(*jobs, return_exceptions=True), 5)
    await aio.close()
    assert (first, last) == ("m1", "m2")
    assert isinstance(failed, RuntimeError if error is StopIteration else error)
    assert {row.id for row in store.rows("memory")} == {"m1", "m2"}
