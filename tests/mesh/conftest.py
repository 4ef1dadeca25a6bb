"""Links with real sockets on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from tests.mesh.support import Device


@pytest.fixture
async def mesh() -> AsyncIterator[Callable[..., Device]]:
    """Makes devices of one family; the links of all are stopped in the end."""
    members: set[bytes] = set()
    async with AsyncExitStack() as stack:

        def make(number: int, family: set[bytes] | None = None, **settings: object) -> Device:
            device = Device(number, members if family is None else family, **settings)

            async def stop() -> None:
                if hasattr(device, "links"):
                    await device.links.stop()

            stack.push_async_callback(stop)
            return device

        yield make
