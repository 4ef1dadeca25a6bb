"""Several processes and threads of one device at one store; processes that die."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aico_crdt.errors import ForkedProcess
from aico_crdt.feed import GENESIS, decode_header
from aico_crdt.store import DocumentStore, layout
from aico_crdt.store.verify import verify
from tests.store.conftest import CONFIG, identity_of, plain_kinds, view

pytestmark = pytest.mark.processes
PROGRAM = Path(__file__).with_name("processes.py")
KILLS = 20


class Child:
    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def rest(self) -> list[str]:
        assert self.process.stdout is not None
        return [line.strip() for line in self.process.stdout if line.endswith("\n")]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def child() -> Iterator[Any]:
    """``child(work, directory, …)`` starts a process; all are killed at the end."""
    started: list[Child] = []

    def start(*arguments: object) -> Child:
        started.append(Child(*arguments))
        return started[-1]

    yield start
    for each in started:
        each.end()


def check_chains(store: DocumentStore) -> int:
    """Every feed is one unbroken chain from its beginning. Returns how many feeds there are."""
    feeds = 0
    with store.reading() as (_, records):
        for key, _ in records.scan(b"G"):
            feeds += 1
            previous = GENESIS
            entries = records.scan(b"E" + key[1:])
            for seq, (_, value) in enumerate(entries, 1):
                header = decode_header(value[72:])
                assert (header.seq, header.prev) == (seq, previous)
                previous = header.hash
    return feeds


@pytest.mark.slow
def test_fault_11_eight_processes_of_one_device_write_at_once(family: Any, child: Any) -> None:
    (store,) = family(1)
    store.create("memory", {"content": "at first"}, id="shared")
    count = 100
    children = [child("write", store.path.parent, f"p{n}", count) for n in range(8)]
    for each in children:
        assert each.line() == "ready"
    for each in children:
        each.go()
    for each in children:
        assert each.line() == "done"
        assert each.process.wait(60) == 0
    rows = view(store)
    assert set(rows) == {"shared", *(f"p{n}-{k}" for n in range(8) for k in range(count))}
    life, shared, conflicts = rows["shared"]
    assert (life, conflicts) == (1, {})
    assert {name: shared[name] for name in (f"p{n}" for n in range(8))} == {f"p{n}": count - 1 for n in range(8)}
    assert check_chains(store) == 2  # the directory's and this one's: one incarnation wrote it all
    tag = store.directory.find("own", "memory").tag
    ((device, incarnation, seq, _),) = store.heads()[tag]
    assert (device, incarnation, seq) == (store.device, store.incarnation, 8 * count + 1)


@pytest.mark.slow
def test_fault_01_kill_9_at_a_random_instant_loses_no_acknowledged_write(family: Any, child: Any) -> None:
    (store,) = family(1)
    directory = store.path.parent
    store.close()
    instants = random.Random(1)
    wrote: set[str] = set()
    forgot: set[str] = set()
    for attempt in range(KILLS):
        each = child("acknowledge", directory, f"k{attempt}")
        first = each.line()
        time.sleep(instants.random() * 0.05)
        each.process.kill()
        for line in [first, *each.rest()]:
            word, _, document = line.partition(" ")
            (wrote if word == "wrote" else forgot).add(document)
        each.end()
        if attempt % 5 == 4:
            with family.open(directory / "store0", 0) as store:
                rows = view(store)
                assert wrote - forgot - started_to_forget(rows, wrote) <= set(rows)
                assert not forgot & set(rows)
                check_chains(store)
                assert verify(store).clean
    assert len(wrote) > KILLS * 3


def started_to_forget(rows: Any, wrote: set[str]) -> set[str]:
    """The one document a process may have been forgetting, not yet told, when it was killed."""
    last: dict[str, int] = {}
    for document in wrote:
        name, _, n = document.partition("-")
        last[name] = max(last.get(name, 0), int(n))
    return {f"{name}-{n - shift}" for name, n in last.items() for shift in (0, 1)} - set(rows)


def test_a_watcher_in_another_process_hears_within_a_second(family: Any, child: Any) -> None:
    (store,) = family(1)
    store.create("memory", {"content": "before"}, id="before")
    cursor = store.counters().change
    watcher = child("watch", store.path.parent, cursor)
    assert watcher.line() == "ready"
    for n in range(3):
        begun = time.monotonic()
        store.create("memory", {"content": n}, id=f"m{n}")
        assert watcher.line() == f"born m{n}"
        assert time.monotonic() - begun < 1.0
    store.forget("memory", "m0")
    assert watcher.line() == "forgotten m0"


def test_a_store_is_not_used_across_fork(family: Any) -> None:
    (store,) = family(1)
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:  # pragma: no cover - the child
        told = b"nothing"
        try:
            store.create("memory", {"content": "forked"})
        except ForkedProcess as error:
            told = error.code.encode()
        except BaseException as error:  # noqa: BLE001
            told = repr(error).encode()
        os.write(writing, told)
        os._exit(0)
    os.close(writing)
    os.waitpid(process, 0)
    assert os.read(reading, 100) == b"forked-process"
    os.close(reading)
    assert store.read("memory", store.create("memory", {"content": "parent"})) is not None


def test_threads_share_one_store(family: Any) -> None:
    (store,) = family(1)
    store.create("memory", {"content": 0, "count": 0}, id="shared")
    failures: list[BaseException] = []

    def work(name: int) -> None:
        try:
            for n in range(25):
                with store.transaction() as transaction:
                    transaction.create("memory", {"content": n}, id=f"t{name}-{n}")
                    transaction.increment("memory", "shared", "total")
                assert store.get("memory", f"t{name}-{n}")["content"] == n
                store.query("memory", "time", limit=5)
        except BaseException as error:  # noqa: BLE001  # told below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(view(store)) == 201
    with store.transaction() as transaction:
        assert transaction.read("memory", "shared")["total"] == 200
    assert check_chains(store) == 2


def test_reading_does_not_wait_for_a_write_that_is_under_way(family: Any) -> None:
    (store,) = family(1)
    store.create("memory", {"content": "old"}, id="d")
    seen: list[Any] = []
    with store.transaction() as transaction:
        transaction.edit("memory", "d", {"content": "new"})
        reader = threading.Thread(target=lambda: seen.append(store.get("memory", "d")["content"]), daemon=True)
        reader.start()
        reader.join(2)
        assert seen == ["old"]
    assert store.get("memory", "d")["content"] == "new"


def test_two_stores_of_one_path_in_one_process_see_each_other(family: Any) -> None:
    (store,) = family(1)
    second = DocumentStore.open(
        store.path, identity_of(0), plain_kinds(), config=CONFIG, lease=store.path.with_name("store0.lease")
    )
    document = store.create("memory", {"content": "one"})
    second.edit("memory", document, {"content": "two"})
    assert store.get("memory", document)["content"] == "two"
    assert second.incarnation == store.incarnation
    second.close()
    store.edit("memory", document, {"content": "three"})
    assert store.get("memory", document)["content"] == "three"


def test_layout_has_one_feed_for_a_device(family: Any) -> None:
    (store,) = family(1)
    store.create("memory", {"content": 1})
    collection = store.directory.find("own", "memory")
    with store.reading() as (_, records):
        assert len(list(records.scan(layout.feed_prefix(collection.number)))) == 1
