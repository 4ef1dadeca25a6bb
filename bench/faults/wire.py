"""TCP on loopback that can be cut: what lies between two machines whose system speaks TCP itself.

TCP never reorders or doubles what it delivers, so a rough wire cuts connections after some bytes: what was on its way
is gone, and the two begin anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Coroutine
from typing import Any

BYTES_BETWEEN_CUTS = (500, 20_000)
LONGEST_DELAY_S = 0.02


class Wire:
    """A relay from a port of its own to `target` (host and port), which may change and need not exist yet."""

    def __init__(self, wires: Wires) -> None:
        self._wires = wires
        self._writers: set[asyncio.StreamWriter] = set()
        self._up = True
        self._chance: random.Random | None = None
        self.port = 0
        self.target: tuple[str, int] | None = None

    def cut(self) -> None:
        """Ends all connections, and lets none begin."""
        self._up = False
        self._wires.call(self._drop())

    def roughen(self, seed: int) -> None:
        self._up = True
        self._chance = random.Random(seed)
        self._wires.call(self._drop())

    def heal(self) -> None:
        """Connections that are cut in half are not healed: they begin anew."""
        if not self._up or self._chance is not None:
            self._up, self._chance = True, None
            self._wires.call(self._drop())

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _drop(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._up or self.target is None:
            writer.transport.abort()
            return
        try:
            inner_reader, inner_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        both = (writer, inner_writer)
        self._writers.update(both)
        await asyncio.gather(self._copy(reader, inner_writer, both), self._copy(inner_reader, writer, both))

    async def _copy(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, both: tuple[asyncio.StreamWriter, ...]
    ) -> None:
        chance = self._chance
        left = None if chance is None else chance.randint(*BYTES_BETWEEN_CUTS)
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                if left is not None and chance is not None:
                    await asyncio.sleep(chance.random() * LONGEST_DELAY_S)
                    data, left = data[:left], left - len(data)
                sink.write(data)
                await sink.drain()
                if left is not None and left <= 0:
                    break
        for writer in both:
            writer.transport.abort()
            self._writers.discard(writer)


class Wires:
    """The wires of one system, on a loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def new(self) -> Wire:
        wire = Wire(self)
        self.call(wire.listen())
        return wire

    def call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def stop(self) -> None:
        async def end() -> None:
            for task in asyncio.all_tasks():
                if task is not asyncio.current_task():
                    task.cancel()
            await asyncio.sleep(0)

        self.call(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
