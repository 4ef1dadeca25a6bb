"""Carries out operations and faults on a system, and records what was acknowledged."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from bench.faults.ledger import Kind, Ledger
from bench.faults.score import Score, score
from bench.faults.system import Gone, Process, Reading, Refused, System

POLL_S = 0.3
STILL_S = 8.0
"""Machines that do not read alike and have not changed for so long will stay as they are: longer than any of the
systems waits before it dials again, as they are configured here."""
SETTLE_S = 60.0
MAX_TRIES = 5
"""How often in a row a program is started that the system does not let in."""


class Client:
    """A program on a machine. When its process died it is started again at the next operation.

    Not thread-safe, but its process may be killed from another thread.
    """

    def __init__(self, world: World, machine: int) -> None:
        self._world = world
        self.machine = machine
        self.process: Process | None = None
        self.error = ""
        self._turned_away = 0
        self.start()

    def start(self) -> bool:
        """A process, unless one is running. A system that does not let it in is asked anew, but not for ever."""
        if self.process is None and self._turned_away < MAX_TRIES:
            try:
                self.process = self._world.system.open(self.machine)
                self._turned_away = 0
            except (Refused, Gone) as error:
                self.error = str(error)
                self._turned_away += 1
        return self.process is not None

    def write(self, name: str) -> None:
        self._do("write", name)

    def edit(self, name: str) -> None:
        self._do("edit", name)

    def forget(self, name: str) -> None:
        self._do("forget", name)

    def read_all(self) -> Reading | None:
        """None when the data cannot be opened or read; the reason becomes a note."""
        for _ in range(2):  # the process may have been killed since its last operation
            if self.start():
                assert self.process is not None
                try:
                    return self.process.read_all()
                except (Refused, Gone) as error:
                    self.error = str(error)
                    self.close()
        self._world.note(f"cannot be read: {self.error}")
        return None

    def kill(self) -> None:
        """By SIGKILL, whatever it is doing."""
        process = self.process
        if process is not None:
            process.kill()

    def close(self) -> None:
        if self.process is not None:
            self.process.close()
            self.process = None

    def _do(self, kind: Kind, name: str) -> None:
        ledger = self._world.ledger
        if not self.start():
            ledger.refuse(self.error)
            return
        assert self.process is not None
        value = ledger.new_value(name)
        try:
            if kind == "write":
                self.process.write(name, value)
                ledger.record(kind, name, value, "acknowledged")
            elif kind == "edit":
                replaced = frozenset(self.process.edit(name, value))
                ledger.record(kind, name, value, "acknowledged", replaced)
            else:
                self.process.forget(name)
                ledger.record(kind, name, "", "acknowledged")
        except Refused as refused:
            ledger.refuse(str(refused))
        except Gone:
            ledger.record(kind, name, value, "doubtful", None if kind == "edit" else frozenset())
            self.process = None


class World:
    """One scenario on one system.

    Attributes:
        rng: the scenario's own chance: the same for every system.
        notes: what happened besides, in words, without repetition.
    """

    def __init__(self, system: System, seed: str, *, quick: bool = False) -> None:
        self.system = system
        self.rng = random.Random(seed)
        self.quick = quick
        self.ledger = Ledger()
        self.notes: list[str] = []
        self._clients: list[Client] = []
        self._machines = 0

    def size(self, whole: int, quick: int) -> int:
        return quick if self.quick else whole

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    # What scenarios do

    def start(self, machines: int) -> None:
        self.system.start(machines)
        self._machines = machines

    def client(self, machine: int) -> Client:
        self._clients.append(Client(self, machine))
        return self._clients[-1]

    def restart(self, client: Client, *, skew_ms: int = 0) -> None:
        """End its process, and start another by a clock that is so far ahead."""
        client.close()
        self.system.skew(client.machine, skew_ms)
        client.start()

    def clone(self, client: Client) -> Client:
        """Copy its machine, which is off meanwhile; a client on the copy."""
        client.close()
        machine = self.system.clone(client.machine)
        self._machines += 1
        client.start()
        return self.client(machine)

    def at_once(self, works: Iterable[Callable[[], None]]) -> None:
        """All at the same time, to their ends."""
        waiting = list(works)
        with ThreadPoolExecutor(len(waiting)) as pool:
            for future in [pool.submit(work) for work in waiting]:
                future.result()

    def settle(self, away: Client | None = None) -> None:
        """All links good; until all read the same, or nothing has changed for a while. One may be away meanwhile."""
        if away is not None:
            away.close()
        self.system.heal()
        clients = [client for client in self._clients if client is not away and client.start()]
        deadline, still = time.monotonic() + SETTLE_S, time.monotonic() + STILL_S
        before: list[Reading | None] = []
        alike = 0
        while time.monotonic() < min(deadline, still):
            now = [client.read_all() for client in clients]
            alike = alike + 1 if all(reading is not None and reading == now[0] for reading in now) else 0
            if alike == 2:
                return
            if now != before:
                before, still = now, time.monotonic() + STILL_S
            time.sleep(POLL_S)

    # How it ends

    def judge(self) -> Score:
        """Settle, read by all that are open, start all anew, read again; then count."""
        self.settle()
        open_ones = [client.read_all() or {} for client in self._clients if client.process is not None]
        self.stop_clients()
        fresh: list[Reading] = []
        for machine in range(self._machines):
            reader = Client(self, machine)
            fresh.append(reader.read_all() or {})
            reader.close()
        return score(self.ledger.operations, fresh, open_ones)

    def stop_clients(self) -> None:
        for client in self._clients:
            client.close()


def names(prefix: str, count: int) -> Sequence[str]:
    return [f"{prefix}-{number:04}" for number in range(count)]
