"""A device in a process of its own: ``python -m bench.device STORE NUMBER``.

Told what to do by lines of JSON, ``{"do": verb, …}``, and answers each with one; the verbs are the methods of
:class:`Running` whose names do not begin with an underscore. Times are monotonic seconds, which all processes of a
machine share.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aico_crdt.companion import Store
from aico_crdt.mesh import Instance, Node, Peer
from aico_crdt.store import Commit
from bench import data, stores

LINK_S = 120
"""Until a link and what follows from it must be done."""

Heads = dict[str, int]
"""Seq of the newest entry, by tag, device and incarnation in hex, joined by spaces."""


class TimedNode(Node):
    """Notes when a link to somebody was authenticated, and when its session first waited for nothing."""

    up_at = 0.0
    open_at = 0.0

    def on_up(self, peer: Instance) -> None:
        self.up_at = time.monotonic()
        super().on_up(peer)

    def _step(self, talk: Any, event: Any) -> None:
        super()._step(talk, event)
        if not self.open_at and talk.session.state == "open" and talk.session.is_quiet:
            self.open_at = time.monotonic()


class Running:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._node: TimedNode | None = None
        self._written: list[tuple[int, float]] = []
        self._received: list[tuple[int, float]] = []
        self._waiting: Callable[[], None] = lambda: None
        store.on_commit(self._note)

    def _note(self, commit: Commit) -> None:
        """Called first after every commit: what it holds is on the disk now."""
        now = time.monotonic()
        self._written += [(place.seq, now) for place in commit.own]
        self._received += [(head.seq, now) for heads in commit.received.values() for head in heads]
        if commit.received:
            self._waiting()

    async def serve(self) -> dict[str, str]:
        """Listen. Returns where."""
        self._node = TimedNode(self._store)
        await self._node.start()
        return {"endpoint": self._node.endpoint}

    async def heads(self) -> Heads:
        return {
            f"{tag.hex()} {device.hex()} {incarnation.hex()}": seq
            for tag, heads in self._store.heads().items()
            if self._store.directory.collections[tag].space != "local"
            for device, incarnation, seq, _ in heads
        }

    async def link(self, device: str, endpoint: str, heads: Heads) -> dict[str, float]:
        """Dial, and wait until all of `heads` is here and nothing is under way.

        Returns:
            handshake_ms from dialing to an authenticated link; settled_ms from there until everything is on this
            disk; bytes both ways, when both sides are quiet.
        """
        loop = asyncio.get_running_loop()
        there = asyncio.Event()
        done_at = 0.0

        def look() -> None:
            nonlocal done_at
            here = self._store.heads()
            now = time.monotonic()
            have = {
                f"{tag.hex()} {device.hex()} {incarnation.hex()}": seq
                for tag, found in here.items()
                for device, incarnation, seq, _ in found
            }
            if not done_at and all(have.get(feed, 0) >= seq for feed, seq in heads.items()):
                done_at = now
                loop.call_soon_threadsafe(there.set)

        look()
        already = bool(done_at)
        self._waiting = look
        begin = time.monotonic()
        node = self._node = TimedNode(self._store, peers=[Peer(bytes.fromhex(device), endpoints=(endpoint,))])
        await node.start()
        async with asyncio.timeout(LINK_S):
            await there.wait()
            while not node.open_at:
                await asyncio.sleep(0.001)
            await node.quiet(LINK_S)
        self._waiting = lambda: None
        await asyncio.sleep(0.1)  # the last acknowledgement of the other side
        status = node.status()["peers"][0]
        settled = node.open_at if already else done_at
        return {
            "handshake_ms": (node.up_at - begin) * 1e3,
            "settled_ms": (settled - node.up_at) * 1e3,
            "bytes": status["bytes_in"] + status["bytes_out"],
        }

    async def unlink(self) -> dict[str, str]:
        if self._node is not None:
            await self._node.stop()
        return {}

    async def change(self, first: int, count: int) -> dict[str, str]:
        """Edit so many memories, an entry each."""

        def edit() -> None:
            for number in range(first, first + count):
                self._store.memories.edit(data.memory_id(number), user_note=f"changed at {time.monotonic()}")

        await asyncio.to_thread(edit)
        return {}

    async def say(self, conversation: str, count: int, gap_ms: float) -> list[tuple[int, float]]:
        """Write messages with pauses. Returns seq and time of each commit."""

        def write() -> None:
            for number in range(count):
                self._store.conversations.say(conversation, **data.message(number))
                time.sleep(gap_ms / 1000)

        self._written.clear()
        await asyncio.to_thread(write)
        return self._written

    async def received(self) -> list[tuple[int, float]]:
        """Seq and time of everything that came since this was last asked."""
        found, self._received = self._received, []
        return found

    async def memory(self) -> dict[str, int]:
        """Bytes of memory this process had at most, and has now without the pages of files.

        Not `ru_maxrss` where it can be helped: on Linux that begins with what the parent had.
        """
        status = Path(f"/proc/{os.getpid()}/status")
        if not status.is_file():
            return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "anonymous": 0}
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return {
            "peak": int(fields["VmHWM"].split()[0]) * 1024,
            "anonymous": int(fields["RssAnon"].split()[0]) * 1024,
        }


async def run(store: Store) -> None:
    running = Running(store)
    loop = asyncio.get_running_loop()
    print(json.dumps({"device": store.device.hex()}), flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        verb = command.pop("do")
        if verb.startswith("_"):
            raise ValueError(f"no verb {verb}")
        print(json.dumps(await getattr(running, verb)(**command)), flush=True)
    await running.unlink()


def main() -> None:
    with stores.open_store(Path(sys.argv[1]), int(sys.argv[2])) as store:
        asyncio.run(run(store))


if __name__ == "__main__":
    main()
