"""One device of `aico-crdt demo`: a process of its own that does what the demo asks of it.

Runs as ``python -m aico_crdt.cli.demo_device HOME``. Each line of stdin is a JSON list ``[verb, {arguments}]``, each is
answered by one JSON line on stdout: ``{"done": …}``, or ``{"error": [what, cure]}`` for an error of ours. It ends when
stdin does. Its store, key, lease, ``config.toml`` and ``devices.yaml`` lie in HOME, where the other commands find them
with ``AICO_CRDT_HOME=HOME``.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import yaml

from aico_crdt import clock, logs
from aico_crdt.cli import naming, reading, transfer
from aico_crdt.cli.opening import App, write_private
from aico_crdt.companion.imports import Record
from aico_crdt.companion.kinds import KINDS
from aico_crdt.companion.store import Store
from aico_crdt.errors import AicoError, NotFound, Unreachable
from aico_crdt.home import ENV_HOME
from aico_crdt.mesh import Node, load_peers
from aico_crdt.store import membership
from aico_crdt.store.directory import LOCAL
from aico_crdt.store.verify import verify

# Three devices on one machine: any free port, and dialing again at once when the "network" is back.
SETTINGS: Final = "port = 0\ndigest_interval_ms = 1000\nredial_min_ms = 50\nredial_max_ms = 500\n"
LINK_TIMEOUT_S: Final = 20.0
POLL_S: Final = 0.01


class Device:
    """Its verbs are what the demo may ask: every method without an underscore.

    What concerns the links runs on the event loop, all else in a thread: the store may make it wait.
    """

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700, parents=True)
        (home / "config.toml").write_text(SETTINGS, encoding="utf-8")
        self._app = App(environment={ENV_HOME: str(home)})
        self._stack = ExitStack()
        self._opened: Store | None = None
        self._node: Node | None = None

    @property
    def _store(self) -> Store:
        if self._opened is None:
            self._opened = self._stack.enter_context(self._app.open())
        return self._opened

    async def _end(self) -> None:
        if self._node is not None:
            await self._node.stop()
        self._stack.close()

    # The family

    def identity(self) -> str:
        """The device id, of the key made for the store that is not there yet."""
        return self._app.prepare()[0].device.hex()

    def found(self, name: str, device_type: str) -> str:
        identity = self._app.prepare()[0]
        membership.found(
            self._app.store_path, identity, KINDS, name=name, device_type=device_type, config=self._app.config()
        )
        self._app.settle()
        return self._store.directory.family.id.hex()

    def admit(self, device: str, name: str, device_type: str, file: str) -> None:
        raw = membership.admit(self._store, bytes.fromhex(device), name=name, device_type=device_type)
        write_private(Path(file), raw)

    def join(self, file: str) -> str:
        identity = self._app.prepare()[0]
        membership.join(self._app.store_path, identity, KINDS, Path(file).read_bytes(), config=self._app.config())
        self._app.settle()
        return self._store.directory.family.id.hex()

    # The links

    async def link(self, peers: Sequence[Mapping[str, Any]]) -> str:
        """Listen, and dial `peers` by way of devices.yaml. Returns where it listens."""
        self._app.home.peers.write_text(yaml.safe_dump(list(peers), sort_keys=False), encoding="utf-8")
        node = Node(self._store, self._store.config, load_peers(self._app.home.peers))
        await node.start()
        self._node = node
        return node.endpoint

    async def linked(self, count: int) -> None:
        """Wait until `count` devices talk with this one."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LINK_TIMEOUT_S
        while sum(peer["session"] == "open" for peer in self._peers()) < count:
            if loop.time() > deadline:
                reasons = "; ".join(f"{peer['name']}: {peer['last_reason'] or 'no answer'}" for peer in self._peers())
                raise Unreachable(f"No links after {LINK_TIMEOUT_S:g} s. {reasons}")
            await asyncio.sleep(POLL_S)

    async def cut(self) -> None:
        """No way in or out any more."""
        if self._node is not None:
            await self._node.stop()
        self._node = None

    async def received_bytes(self) -> int:
        """Bytes of frames that came over the present links."""
        return sum(peer["bytes_in"] for peer in self._peers())

    def _peers(self) -> list[dict[str, Any]]:
        peers: list[dict[str, Any]] = [] if self._node is None else self._node.status()["peers"]
        return peers

    # Writing

    def load(self, records: Sequence[Sequence[Any]]) -> int:
        """Write records of an export with one commit. Returns how many."""
        tally = transfer.Tally("jsonl")
        transfer.import_batch(self._store, [Record(*one) for one in records], tally)
        return tally.imported.total()

    def write(self, writes: Sequence[tuple[str, dict[str, Any]]]) -> list[int]:
        """Carry out the writes of a story, each a commit of its own. Returns how long each took (microseconds)."""
        return [self._write(verb, arguments) for verb, arguments in writes]

    def _write(self, verb: str, arguments: dict[str, Any]) -> int:
        store = self._store
        verbs: dict[str, Callable[..., object]] = {
            "remember": store.memories.add,
            "start": store.conversations.start,
            "say": store.conversations.say,
            "edit": store.memories.edit,
            "feel": store.emotions.record,
            "forget": store.memories.forget,
        }
        began = time.monotonic_ns()
        verbs[verb](**arguments)
        return (time.monotonic_ns() - began) // 1000

    def erase(self) -> int:
        """Destroy the keys of what was forgotten. Returns how many."""
        return self._store.erase_due()

    # Looking

    def heads(self) -> str:
        """A hash over how far every shared feed has come: equal where everybody has everything."""
        collections = self._store.directory.collections
        hasher = blake2b(digest_size=16)
        for tag, heads in sorted(self._store.heads().items()):
            if collections[tag].space != LOCAL:
                for head in sorted(heads):
                    hasher.update(repr((tag, head)).encode())
        return hasher.hexdigest()

    def count(self) -> dict[str, Any]:
        """What is here, by kind of record, and how much of it stays here."""
        store = self._store
        shared: Counter[str] = Counter()
        local: Counter[str] = Counter()
        for kind in store.kinds:
            for row in store.rows(kind):
                record = transfer.record_kind(row)
                if record is not None and not row.stub:
                    (local if row.space == LOCAL else shared)[record] += 1
        status = reading.status(store)
        return {
            "shared": dict(sorted(shared.items())),
            "local": dict(sorted(local.items())),
            "content_hash": store.content_hash().hex(),
            "waiting": status.held_entries,
            "rejected": status.evidence,
            "stored_bytes": status.used_bytes,
        }

    def conflicts(self) -> list[dict[str, Any]]:
        """Every field with more than one live version, except where it is nobody else's."""
        store = self._store
        return [
            {
                "kind": row.kind,
                "id": row.id,
                "field": field,
                "seen": row.fields.get(field),
                "versions": [
                    {
                        "device": naming.name_of_writer(store, version.writer),
                        "time_ms": clock.milliseconds(version.hlc),
                        "value": version.value,
                    }
                    for version in versions
                ],
            }
            for row in reading.conflicts(store)
            if row.space != LOCAL
            for field, versions in sorted(row.conflicts.items())
        ]

    def feeling(self, subject: str, as_of_ms: int) -> dict[str, Any]:
        state = self._store.emotions.state(subject, as_of_ms=as_of_ms)
        devices = [naming.name_of_writer(self._store, device) for device in state.contributing_devices]
        return {**asdict(state), "contributing_devices": sorted(devices), "exact": asdict(state.exact)}

    def receipt(self, kind: str, id: str) -> dict[str, Any]:
        found = self._store.receipt(kind, id)
        fields = asdict(found)
        for name in ("on", "missing", "erased_on", "owing", "unconfirmed"):
            fields[name] = sorted(naming.name_of(self._store, device) for device in fields[name])
        return {**fields, "everywhere": found.everywhere}

    def verify(self) -> list[str]:
        """What is wrong with the store: every live byte, every signature, every document folded anew."""
        report = verify(self._store, refold=True)
        return [f"{problem.where}: {problem.what}" for problem in report.problems]


async def _answer(device: Device, line: bytes) -> dict[str, Any]:
    verb, arguments = json.loads(line)
    if verb.startswith("_") or not hasattr(device, verb):
        raise NotFound(f"A device of the demo does not {verb!r}.")
    try:
        method = getattr(device, verb)
        if asyncio.iscoroutinefunction(method):
            return {"done": await method(**arguments)}
        return {"done": await asyncio.to_thread(method, **arguments)}
    except AicoError as error:
        return {"error": [error.what, error.cure]}


async def _serve(device: Device) -> None:
    try:
        while line := await asyncio.to_thread(sys.stdin.buffer.readline):
            answer = await _answer(device, line)
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    finally:
        await device._end()


def main() -> None:
    """What the process does, from its first line to the end of stdin."""
    logs.configure(0)
    asyncio.run(_serve(Device(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()
