"""The lease: a store that went back, moved or was copied is told so; the counter outlives any process."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from timeit import timeit

import pytest

from aico_crdt.errors import Closed, InvalidValue, ReadOnly
from aico_crdt.trust.lease import Lease, machine_id

HERE, ELSEWHERE = b"m" * 16, b"e" * 16
LIFE, NEXT_LIFE = b"life-one", b"life-two"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "lease"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def held(path: Path, store: Path) -> Lease:
    lease = Lease.open(path)
    lease.renew(HERE, store, LIFE, 10)
    return lease


def test_the_holder_may_go_on(held: Lease, store: Path) -> None:
    assert held.judge(HERE, store, LIFE, 10) is None
    held.advance(11)
    assert held.judge(HERE, store, LIFE, 11) is None


def test_fault_13_every_reason_for_a_new_incarnation(held: Lease, store: Path, tmp_path: Path) -> None:
    held.advance(12)
    assert held.judge(HERE, store, LIFE, 11) == "rolled back"
    assert held.judge(HERE, store, NEXT_LIFE, 12) == "other incarnation"
    assert held.judge(HERE, tmp_path / "copy", LIFE, 12) == "other path"
    assert held.judge(ELSEWHERE, store, LIFE, 12) == "other machine"
    assert held.judge(ELSEWHERE, tmp_path / "copy", NEXT_LIFE, 0) == "other machine"


def test_fault_13_a_missing_lease_is_a_reason(path: Path, store: Path) -> None:
    with Lease.open(path) as lease:
        assert lease.judge(HERE, store, LIFE, 0) == "no lease"


def test_fault_13_a_restored_backup_is_seen(held: Lease, path: Path, store: Path) -> None:
    """The store is set back to counter 10; its lease, elsewhere, is not."""
    held.advance(500)
    held.close()
    with Lease.open(path) as lease:
        assert lease.judge(HERE, store, LIFE, 10) == "rolled back"
        lease.renew(HERE, store, NEXT_LIFE, 10)
        assert lease.judge(HERE, store, NEXT_LIFE, 10) is None
        assert lease.judge(HERE, store, LIFE, 500) == "other incarnation"


def test_a_store_ahead_of_its_lease_may_go_on(held: Lease, store: Path) -> None:
    """After a crash between commit and advance, or a power loss that took the lease's last pages."""
    assert held.judge(HERE, store, LIFE, 1000) is None


def test_a_path_is_the_place_and_not_its_spelling(held: Lease, store: Path, tmp_path: Path) -> None:
    store.mkdir()
    (tmp_path / "link").symlink_to(store)
    assert held.judge(HERE, str(store), LIFE, 10) is None
    assert held.judge(HERE, f"{store}/../store/", LIFE, 10) is None
    assert held.judge(HERE, tmp_path / "link", LIFE, 10) is None


def test_the_counter_never_goes_back(held: Lease) -> None:
    held.advance(20)
    held.advance(15)
    assert held.counter == 20


def test_renewing_what_one_holds_takes_nothing_back(held: Lease, path: Path, store: Path) -> None:
    """A second process that opens the store must not undo what the first has noted."""
    held.advance(20)
    with Lease.open(path) as other:
        other.renew(HERE, store, LIFE, 12)
    assert held.counter == 20
    held.renew(HERE, store, NEXT_LIFE, 12)
    assert held.counter == 12


def test_the_counter_holds_64_bits(held: Lease, path: Path) -> None:
    held.advance(2**64 - 1)
    held.close()
    with Lease.open(path) as lease:
        assert lease.counter == 2**64 - 1


def test_two_processes_share_one_lease(held: Lease, path: Path) -> None:
    with Lease.open(path) as other:
        other.advance(33)
        assert held.counter == 33


@pytest.mark.parametrize("content", [b"", b"aicoleas", b"x" * 20, b"x" * 56, b"\0" * 4096])
def test_a_damaged_lease_counts_as_none(path: Path, store: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with Lease.open(path) as lease:
        assert lease.judge(HERE, store, LIFE, 0) in ("no lease", "other machine")
        assert lease.judge(bytes(16), store, bytes(8), 0) is not None
        lease.renew(HERE, store, LIFE, 3)
        assert lease.judge(HERE, store, LIFE, 3) is None


def test_a_copied_lease_does_not_carry_the_right_along(held: Lease, path: Path, store: Path, tmp_path: Path) -> None:
    held.close()
    shutil.copy(path, tmp_path / "copied")
    with Lease.open(tmp_path / "copied") as lease:
        assert lease.judge(ELSEWHERE, store, LIFE, 10) == "other machine"
        assert lease.judge(HERE, tmp_path / "clone", LIFE, 10) == "other path"


def test_only_the_owner_reads_it(held: Lease, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.stat().st_size == 56
    assert held.counter == 10


def test_after_closing_it_says_so(held: Lease, store: Path) -> None:
    held.close()
    held.close()
    for use in (lambda: held.advance(1), lambda: held.counter, lambda: held.judge(HERE, store, LIFE, 1)):
        with pytest.raises(Closed):
            use()


def test_bad_names_change_nothing(held: Lease, store: Path) -> None:
    with pytest.raises(InvalidValue):
        held.renew(b"short", store, LIFE, 99)
    with pytest.raises(InvalidValue):
        held.renew(HERE, store, b"short", 99)
    assert held.judge(HERE, store, LIFE, 10) is None


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for place in (tmp_path, tmp_path / "link", tmp_path / "elsewhere" / "lease"):
        with pytest.raises(ReadOnly):
            Lease.open(place)


WRITER = """
import itertools, sys
from aico_crdt.trust.lease import Lease
lease = Lease.open(sys.argv[1])
for number in itertools.count(11):
    lease.advance(number)
    print(number, flush=True)
"""


@pytest.mark.processes
def test_the_counter_survives_kill_9(held: Lease, path: Path, store: Path) -> None:
    held.close()
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        told = [int(process.stdout.readline()) for _ in range(200)]
        os.kill(process.pid, signal.SIGKILL)
        told += [int(line) for line in process.stdout.read().split("\n")[:-1]]
    with Lease.open(path) as lease:
        assert told[-1] <= lease.counter <= told[-1] + 1
        assert lease.judge(HERE, store, LIFE, told[-1] - 1) == "rolled back"


def test_advancing_costs_next_to_nothing(held: Lease) -> None:
    """Measured under 1 µs; ten times that would still be a tenth of a signature."""
    numbers = iter(range(11, 10**9))
    assert min(timeit(lambda: held.advance(next(numbers)), number=10_000) for _ in range(3)) / 10_000 < 10e-6


def test_the_machine_id_is_stable_and_16_bytes() -> None:
    assert machine_id() == machine_id()
    assert len(machine_id()) == 16


def test_the_machine_id_does_not_give_away_the_systems() -> None:
    source = Path("/etc/machine-id")
    if not source.is_file():
        pytest.skip("no /etc/machine-id here")
    assert machine_id().hex() not in source.read_text()
    assert source.read_bytes().strip() not in machine_id()
