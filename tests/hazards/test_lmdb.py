"""Measured facts about LMDB (py-lmdb 3.0, engine 0.9.36) that the store is built around."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import lmdb
import pytest

Environment = Any
VALUE_BYTES = 1000


class Isolated(Protocol):
    """The fixture of this folder's ``conftest.py``."""

    def __call__(self, code: str, *args: str, memory_bytes: int = ...) -> Any: ...


@pytest.fixture
def env(tmp_path: Path) -> Iterator[Environment]:
    environment: Environment = lmdb.open(str(tmp_path / "store"), map_size=8 << 20)
    yield environment
    environment.close()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Environment]:
    environment: Environment = lmdb.open(str(tmp_path / "small"), map_size=256 << 10)
    yield environment
    environment.close()


def put(env: Environment, key: bytes, value: bytes) -> None:
    with env.begin(write=True) as txn:
        txn.put(key, value)


def fill(env: Environment) -> int:
    """Commit values one by one until the map is full; how many were acknowledged."""
    count = 0
    try:
        while True:
            put(env, b"%06d" % count, b"v" * VALUE_BYTES)
            count += 1
    except lmdb.MapFullError:
        return count


def entries(env: Environment) -> int:
    with env.begin() as txn:
        return int(txn.stat()["entries"])


# 12: what a commit keeps, and what a delete does not remove

COMMIT_AND_TELL = """
import sys
import lmdb
env = lmdb.open(sys.argv[1], map_size=1 << 20)
n = 0
while True:
    with env.begin(write=True) as txn:
        txn.put(b"%08d" % n, b"v" * 100)
    print(n, flush=True)
    n += 1
"""


@pytest.mark.processes
def test_hazard_12_kill_9_loses_no_acknowledged_write(tmp_path: Path) -> None:
    """12. Whatever a killed process said it had committed is there when the next one opens the store."""
    acknowledged = -1
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", COMMIT_AND_TELL, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(20)]
        writer.send_signal(signal.SIGKILL)
        told += [int(line) for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        writer.wait(10)
        writer.stdout.close()
        acknowledged = max(acknowledged, *told)
    env: Environment = lmdb.open(str(tmp_path), map_size=1 << 20)
    with env.begin() as txn:
        assert all(txn.get(b"%08d" % n) for n in range(acknowledged + 1))
    env.close()


def secret(n: int) -> bytes:
    return b"secret-%04d-" % n


def copies_of(numbers: range, path: Path) -> int:
    """How many of these values' marks the file still holds."""
    data = path.read_bytes()
    return sum(secret(n) in data for n in numbers)


def test_hazard_12_deleted_values_stay_in_the_data_file_until_a_compacting_copy(
    env: Environment, tmp_path: Path
) -> None:
    """12. Some deleted values survive deletion, 300 more commits and a plain copy; not a compacting copy."""
    data = Path(env.path()) / "data.mdb"
    for n in range(400):
        put(env, b"key%04d" % n, secret(n) + b"x" * 80)
    deleted = range(0, 400, 8)
    for n in deleted:
        with env.begin(write=True) as txn:
            assert txn.delete(b"key%04d" % n)
    assert copies_of(deleted, data) > 0
    for n in range(300):
        put(env, b"other", b"%d" % n)
    assert copies_of(deleted, data) > 0

    plain, compact = tmp_path / "plain", tmp_path / "compact"
    plain.mkdir()
    compact.mkdir()
    env.copy(str(plain))
    env.copy(str(compact), compact=True)
    assert copies_of(deleted, plain / "data.mdb") > 0
    assert copies_of(deleted, compact / "data.mdb") == 0


def test_hazard_12_a_flipped_byte_in_a_value_is_read_back_without_a_word(tmp_path: Path) -> None:
    """12. LMDB keeps no checksums: damage inside a live value is returned as data."""
    path = tmp_path / "store"
    env: Environment = lmdb.open(str(path), map_size=1 << 20)
    put(env, b"k", b"precious value")
    env.close()
    data = (path / "data.mdb").read_bytes()
    assert data.count(b"precious value") == 1
    (path / "data.mdb").write_bytes(data.replace(b"precious", b"precioux"))
    env = lmdb.open(str(path), map_size=1 << 20)
    with env.begin() as txn:
        assert txn.get(b"k") == b"precioux value"
    env.close()


# 13: the environment


def test_hazard_13_the_defaults_are_the_safe_ones(env: Environment) -> None:
    """13. ``sync`` and ``metasync`` are on, ``writemap`` and ``map_async`` off, locks on."""
    flags = env.flags()
    assert {name: flags[name] for name in ("sync", "metasync", "writemap", "map_async", "lock")} == {
        "sync": True,
        "metasync": True,
        "writemap": False,
        "map_async": False,
        "lock": True,
    }


def test_hazard_13_default_file_modes_are_world_readable(tmp_path: Path) -> None:
    """13. Under the usual umask the directory is 0755 and the files 0644; ``mode`` does not reach a copy."""
    before = os.umask(0o022)
    try:
        env: Environment = lmdb.open(str(tmp_path / "default"), map_size=1 << 20)
        closed: Environment = lmdb.open(str(tmp_path / "closed"), map_size=1 << 20, mode=0o600)
        (tmp_path / "copy").mkdir()
        closed.copy(str(tmp_path / "copy"))
    finally:
        os.umask(before)

    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert mode(tmp_path / "default") == 0o755
    assert {mode(tmp_path / "default" / name) for name in ("data.mdb", "lock.mdb")} == {0o644}
    assert {mode(tmp_path / "closed" / name) for name in ("data.mdb", "lock.mdb")} == {0o600}
    assert mode(tmp_path / "copy" / "data.mdb") & 0o044  # a copy of a closed store is open
    env.close()
    closed.close()


def test_hazard_13_a_large_map_is_sparse(tmp_path: Path) -> None:
    """13. A map of 1 TiB takes no room until it is used."""
    env: Environment = lmdb.open(str(tmp_path / "sparse"), map_size=1 << 40)
    put(env, b"k", b"v")
    assert (tmp_path / "sparse" / "data.mdb").stat().st_size < 1 << 20
    env.close()


def test_hazard_13_a_full_map_raises_and_everything_acknowledged_is_readable(small: Environment) -> None:
    """13. ``MapFullError`` comes from the put or the commit; what was committed before it stays."""
    count = fill(small)
    assert entries(small) == count > 0
    with small.begin() as txn:
        assert all(txn.get(b"%06d" % n) == b"v" * VALUE_BYTES for n in range(count))


def test_hazard_13_a_full_map_refuses_deletes_too(small: Environment) -> None:
    """13. A delete copies pages: on a map filled to the brim it fails before anything is freed."""
    count = fill(small)

    def delete_one_by_one() -> None:
        for n in range(count):
            with small.begin(write=True) as txn:
                txn.delete(b"%06d" % n)

    with pytest.raises(lmdb.MapFullError):
        delete_one_by_one()
    assert entries(small) > count - 10


def test_hazard_13_a_transaction_that_hit_the_limit_is_dead(small: Environment) -> None:
    """13. After ``MapFullError`` neither a put nor the commit of that transaction works; nothing is kept."""
    txn: Any = small.begin(write=True)
    txn.put(b"first", b"v")
    with pytest.raises(lmdb.MapFullError):
        txn.put(b"huge", b"v" * (512 << 10))
    with pytest.raises(lmdb.BadTxnError):
        txn.put(b"second", b"v")
    with pytest.raises(lmdb.BadTxnError):
        txn.commit()
    assert entries(small) == 0


def test_hazard_13_raising_the_map_size_cures_a_full_map(small: Environment) -> None:
    """13. ``set_mapsize`` (or opening with a larger one) lets writes and deletes go on."""
    count = fill(small)
    small.set_mapsize(1 << 20)
    put(small, b"after", b"v")
    with small.begin(write=True) as txn:
        assert txn.delete(b"%06d" % 0)
    assert entries(small) == count


def rewrite(env: Environment, rounds: int) -> int:
    """Rewrite fifty values per commit; the pages the file uses afterwards."""
    for n in range(rounds):
        with env.begin(write=True) as txn:
            for key in range(50):
                txn.put(b"%04d" % key, b"%04d" % n * 50)
    return int(env.info()["last_pgno"])


def test_hazard_13_a_long_reader_grows_the_file(env: Environment) -> None:
    """13. While a reader holds a snapshot, no page freed after it is used again."""
    rewrite(env, 10)
    before = rewrite(env, 30)
    assert rewrite(env, 30) <= before + 5  # without a reader: steady
    with env.begin() as snapshot:
        assert snapshot.get(b"0000")
        assert rewrite(env, 30) > before + 100


HOLD_A_READER = """
import os
import sys
import lmdb
env = lmdb.open(sys.argv[1], map_size=8 << 20)
txn = env.begin()
txn.get(b"k")
print("reading", flush=True)
os._exit(1)
"""


@pytest.mark.processes
def test_hazard_13_reader_check_frees_the_slot_of_a_dead_reader(env: Environment, isolated: Isolated) -> None:
    """13. A process that died while reading keeps its slot until somebody calls ``reader_check``."""
    put(env, b"k", b"v")
    assert isolated(HOLD_A_READER, env.path()).lines == ["reading"]
    assert "no active readers" not in env.readers()
    assert env.reader_check() == 1
    assert "no active readers" in env.readers()
    assert env.reader_check() == 0


def test_hazard_13_an_environment_opens_once_a_process(env: Environment) -> None:
    """13. The same directory cannot be opened a second time in one process; the binding refuses."""
    with pytest.raises(lmdb.Error, match="already open"):
        lmdb.open(env.path())


FORK = """
import os
import sys
import lmdb
env = lmdb.open(sys.argv[1], map_size=1 << 20)
with env.begin(write=True) as txn:
    txn.put(b"k", b"v")
child = os.fork()
if child == 0:
    try:
        with env.begin() as txn:
            print("child read", txn.get(b"k"), flush=True)
    except lmdb.Error as error:
        print("child refused", type(error).__name__, flush=True)
    os._exit(0)
os.waitpid(child, 0)
with env.begin() as txn:
    print("parent", txn.get(b"k"), flush=True)
"""


@pytest.mark.processes
def test_hazard_13_nothing_stops_a_forked_child_from_using_the_environment(tmp_path: Path, isolated: Isolated) -> None:
    """13. The binding lets a child read through an inherited environment: refusing is up to us."""
    assert isolated(FORK, str(tmp_path)).lines == ["child read b'v'", "parent b'v'"]


def _write_many(path: str, name: str, count: int) -> None:
    env: Environment = lmdb.open(path, map_size=8 << 20)
    for n in range(count):
        put(env, f"{name}{n}".encode(), b"v")
    env.close()


@pytest.mark.processes
def test_hazard_13_writers_of_many_processes_wait_for_each_other(tmp_path: Path) -> None:
    """13. One writer at a time, by a lock shared between processes: nobody fails, nothing is lost."""
    spawn = multiprocessing.get_context("fork")
    writers = [spawn.Process(target=_write_many, args=(str(tmp_path), name, 50)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(20)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    env: Environment = lmdb.open(str(tmp_path), map_size=8 << 20)
    assert entries(env) == 150
    env.close()


def test_hazard_13_keys_are_limited_to_511_bytes(env: Environment) -> None:
    """13. A longer key is refused."""
    assert env.max_key_size() == 511
    put(env, b"k" * 511, b"v")
    with pytest.raises(lmdb.BadValsizeError):
        put(env, b"k" * 512, b"v")


def test_hazard_13_there_is_no_encryption_api() -> None:
    """13. The engine's encryption errors have names here, but nothing takes a key: sealing is ours."""
    named = {name for name in [*dir(lmdb.Environment), *dir(lmdb)] if "crypt" in name.lower()}
    assert {name for name in named if not issubclass(getattr(lmdb, name, object), Exception)} == set()
