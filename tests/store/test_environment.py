"""A bad place, a bad file, no room: typed errors that say what to do, nothing acknowledged, nothing lost."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from aico_crdt.config import Config
from aico_crdt.errors import (
    AicoError,
    Closed,
    Damaged,
    DiskFailure,
    DiskFull,
    ForkedProcess,
    InvalidValue,
    MachineError,
    MapFull,
    NetworkFilesystem,
    NoStore,
    ReadOnly,
    StoreExists,
    WrongKey,
)
from aico_crdt.store import DocumentStore, environment, lives, membership
from aico_crdt.store.verify import verify
from tests.store.conftest import CONFIG, Families, identity_of, send, view
from tests.store.test_prune import fill, noise_of

SMALL = Config(map_size_bytes=16 << 20, reserve_bytes=4 << 20)


def told(error: AicoError) -> None:
    """An error names its cause and its cure."""
    assert isinstance(error, MachineError)
    assert error.what
    assert error.cure


def bear(store: DocumentStore, count: int, name: str, size: int = 10) -> None:
    """Write `count` documents in one transaction."""
    with store.transaction() as tx:
        for number in range(count):
            tx.create("memory", {"content": noise_of(size, number)}, id=f"{name}{number}")


# The map is full


def test_fault_08_a_full_map_reads_forgets_and_is_cured(family: Any) -> None:
    [a] = family(1, config=SMALL)
    count = fill(a)
    assert count > 20
    assert len(view(a)) == count
    with pytest.raises(MapFull) as caught:
        a.create("memory", {"content": noise_of(75_000, 1)})
    told(caught.value)
    assert len(view(a)) == count
    assert verify(a).problems == []
    for number in range(10):
        a.forget("memory", f"fill{number}", now=number % 2 == 0)
    a.erase_due(a.now_ms() + 86_400_001)
    assert a.read("memory", "fill0") is None
    assert a.get("memory", "fill10")["t"] == 10
    a.create("memory", {"content": "room again"}, id="again")
    assert verify(a, refold=True).problems == []
    fill(a, "more")
    a = family.reopen(a, config=Config(map_size_bytes=32 << 20, reserve_bytes=4 << 20))
    a.create("memory", {"content": noise_of(75_000, 2)}, id="after")
    assert a.get("memory", "again")["content"] == "room again"
    assert verify(a, refold=True).problems == []


def test_fault_08_everything_can_be_forgotten_when_the_map_is_full(family: Any) -> None:
    [a] = family(1, config=SMALL)
    count = fill(a)
    small = fill_small(a)
    assert a.used_bytes() <= SMALL.map_size_bytes - SMALL.reserve_bytes
    for number in range(small):
        a.forget("memory", f"small{number}", now=True)
    for number in range(count):
        a.forget("memory", f"fill{number}", now=True)
    assert view(a) == {}
    assert a.used_bytes() < 8 << 20
    assert fill_more(a) >= 1
    assert verify(a, refold=True).problems == []


def fill_small(store: DocumentStore) -> int:
    """Fill to the brim with small documents; how many."""
    for number in range(10_000):
        try:
            store.create("memory", {"content": noise_of(500, number)}, id=f"small{number}")
        except MapFull:
            return number
    raise AssertionError("the map never filled")


def fill_more(store: DocumentStore) -> int:
    """How many further documents fit, up to five."""
    for number in range(5):
        try:
            store.create("memory", {"content": noise_of(75_000, number)}, id=f"more{number}")
        except MapFull:
            return number
    return 5


def test_fault_08_a_transaction_too_large_for_the_map_leaves_nothing(family: Any) -> None:
    [a] = family(1, config=SMALL)
    with pytest.raises(MapFull):
        bear(a, 200, "m", 75_000)
    assert view(a) == {}
    a.create("memory", {"content": "small"})
    assert verify(a).problems == []


def test_fault_08_a_full_replica_takes_nothing_but_keeps_what_it_has(family: Any) -> None:
    a, b = family(2, configs=[CONFIG, SMALL])
    b.create("memory", {"content": "mine"}, id="b0")
    for number in range(80):
        a.create("memory", {"content": noise_of(75_000, number)}, id=f"m{number}")
    heads = b.heads()
    with pytest.raises(MapFull):
        send(a, b)
    assert b.get("memory", "b0")["content"] == "mine"
    assert b.heads() == heads or len(view(b)) > 1
    assert verify(b).problems == []


# No room on the disk: a limit on file sizes gives EFBIG where a full disk gives ENOSPC, so both are told alike


CHILD = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from aico_crdt.errors import AicoError
from tests.store.conftest import CONFIG, Families, plain_kinds, Clock, identity_of, view
from tests.store.test_prune import noise_of
from aico_crdt.store import DocumentStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = DocumentStore.open({path!r}, identity_of(0), plain_kinds(), config=CONFIG)
size = (Path({path!r}) / "data.mdb").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + {room}, size + {room}))
done = 0
try:
    while True:
        store.create("memory", {{"content": noise_of(20_000, done)}}, id=f"n{{done}}")
        done += 1
except AicoError as error:
    assert len(view(store)) == done, "an unacknowledged write can be read, or an acknowledged one cannot"
    print(done, type(error).__name__, "|", error)
"""


@pytest.mark.processes
@pytest.mark.parametrize("room", [0, 50_000, 120_000, 121_000, 300_000])
def test_fault_07_no_room_is_told_and_acknowledged_writes_stay(family: Any, room: int) -> None:
    [a] = family(1)
    a.create("memory", {"content": "kept"}, id="kept")
    a.forget("memory", "kept")
    a.close()
    script = CHILD.format(root=str(Path(__file__).resolve().parents[2]), path=str(a.path), room=room)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    count, name = done.stdout.split()[:2]
    assert name in ("DiskFull", "DiskFailure")
    again = family.open(a.path, 0)
    assert len(view(again)) == int(count)
    assert verify(again, refold=True).problems == []
    again.create("memory", {"content": "room again"})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_fault_07_a_disk_that_is_really_full(small_disk: Path, kinds: Any, clock: Any) -> None:
    families = Families(small_disk, kinds, clock)
    try:
        [a] = families(1)
        written = 0
        try:
            while True:
                a.create("memory", {"content": noise_of(20_000, written)}, id=f"n{written}")
                written += 1
        except DiskFull as error:
            told(error)
        assert written > 5
        assert len(view(a)) == written
        assert verify(a, refold=True).problems == []
        for number in range(5):  # pages freed before may take one more
            with suppress(DiskFull):
                a.create("memory", {"content": noise_of(20_000, number)})
                written += 1
        a = families.reopen(a)
        assert len(view(a)) == written
        subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
        a.create("memory", {"content": "room again"}, id="again")
        assert len(view(a)) == written + 1
        assert verify(a, refold=True).problems == []
    finally:
        families.close()


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EIO, DiskFailure), (errno.EROFS, ReadOnly)],
)
def test_fault_07_no_life_key_can_be_made(family: Any, monkeypatch: Any, number: int, kind: type[AicoError]) -> None:
    """Every write that fails, first and later ones: typed, taken back as a whole, and the next one works."""
    monkeypatch.setattr(lives, "CHUNK_SLOTS", 2)
    [a] = family(1)
    a.create("memory", {"content": "x"})
    before, content, heads = view(a), a.content_hash(), a.heads()
    real = os.pwrite
    for failing in range(3):
        calls = 0

        def pwrite(*args: Any, at: int = failing) -> int:
            nonlocal calls
            calls += 1
            if calls > at % 2:
                raise OSError(number, os.strerror(number))
            return real(*args)

        monkeypatch.setattr(os, "pwrite", pwrite)
        with pytest.raises(kind) as caught:
            bear(a, 6, f"y{failing}")
        told(caught.value)
        monkeypatch.setattr(os, "pwrite", real)
        assert (view(a), a.content_hash(), a.heads()) == (before, content, heads)
    a.create("memory", {"content": "z"}, id="z")
    assert verify(a, refold=True).problems == []


def test_fault_07_a_key_that_cannot_be_destroyed_stays_owed(family: Any, monkeypatch: Any) -> None:
    [a] = family(1)
    a.create("memory", {"content": "x"}, id="m")

    def fails(*args: Any) -> int:
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(os, "pwrite", fails)
    with pytest.raises(DiskFailure):
        a.forget("memory", "m", now=True)
    monkeypatch.undo()
    assert a.read("memory", "m") is None
    assert a.erase_due() == 1
    assert a.erase_due() == 0
    assert verify(a).problems == []


# A bad place


def test_a_missing_store_is_told_and_nothing_is_made(family: Any, tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path, Path(__file__)):
        with pytest.raises(NoStore) as caught:
            DocumentStore.open(path, identity_of(0), family.kinds)
        told(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_store_is_not_made_where_something_is(family: Any, tmp_path: Path) -> None:
    (tmp_path / "photo").write_text("mine")
    with pytest.raises(StoreExists):
        membership.found(tmp_path, identity_of(0), family.kinds, name="a", config=CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["photo"]
    [a] = family(1)
    with pytest.raises(StoreExists):
        membership.found(a.path, identity_of(0), family.kinds, name="a", config=CONFIG)
    a.create("memory", {"content": "x"})
    with pytest.raises(MachineError):
        membership.found(tmp_path / "photo", identity_of(0), family.kinds, name="a", config=CONFIG)
    assert (tmp_path / "photo").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_directory_is_told(family: Any) -> None:
    [a] = family(1)
    a.close()
    a.path.chmod(0o500)
    try:
        with pytest.raises(ReadOnly) as caught:
            family.open(a.path, 0)
        told(caught.value)
    finally:
        a.path.chmod(0o700)


def test_a_directory_that_cannot_be_written_is_told_before_anything_is_opened(family: Any, monkeypatch: Any) -> None:
    """As the system says of a read-only mount; works for root too."""
    [a] = family(1)
    a.close()
    before = (a.path / "data.mdb").read_bytes()
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(ReadOnly) as caught:
        family.open(a.path, 0)
    told(caught.value)
    assert (a.path / "data.mdb").read_bytes() == before


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "9p", "fuse.sshfs"])
def test_fault_12_a_network_file_system_is_refused_unless_allowed(family: Any, monkeypatch: Any, kind: str) -> None:
    [a] = family(1)
    a.create("memory", {"content": "x"}, id="m")
    a.close()
    before = (a.path / "data.mdb").read_bytes()
    monkeypatch.setattr(environment, "filesystem_of", lambda path: kind)
    with pytest.raises(NetworkFilesystem, match=kind) as caught:
        family.open(a.path, 0)
    told(caught.value)
    assert (a.path / "data.mdb").read_bytes() == before
    with DocumentStore.open(a.path, identity_of(0), family.kinds, config=CONFIG, allow_network_fs=True) as store:
        assert store.get("memory", "m")["content"] == "x"


def test_fault_12_the_type_of_a_file_system_is_read_from_the_mounts(tmp_path: Path) -> None:
    assert environment.filesystem_of(tmp_path)
    assert environment.filesystem_of(Path("/proc/self")) == "proc"


# A bad file


def closed(family: Families) -> Path:
    [a] = family(1)
    a.create("memory", {"content": "x"}, id="m")
    a.close()
    return a.path


@pytest.mark.parametrize("size", [0, 1, 100, 4096, 8191, 12_288])
def test_a_data_file_cut_short_is_refused_unchanged(family: Any, size: int) -> None:
    path = closed(family)
    os.truncate(path / "data.mdb", size)
    before = (path / "data.mdb").read_bytes()
    with pytest.raises(Damaged) as caught:
        family.open(path, 0)
    told(caught.value)
    assert (path / "data.mdb").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0" * 4096, b"\0" * 65_536])
def test_a_foreign_data_file_is_refused_unchanged(family: Any, content: bytes) -> None:
    path = closed(family)
    (path / "data.mdb").write_bytes(content)
    with pytest.raises(Damaged) as caught:
        family.open(path, 0)
    told(caught.value)
    assert (path / "data.mdb").read_bytes() == content
    (path / "data.mdb").unlink()
    with pytest.raises(Damaged):
        family.open(path, 0)
    assert not (path / "data.mdb").exists()


@pytest.mark.parametrize("size", [0, 10, 16, 48])
def test_a_life_key_file_cut_short_is_told(family: Any, size: int) -> None:
    path = closed(family)
    os.truncate(path / "lives", size)
    with pytest.raises(Damaged) as caught, family.open(path, 0) as store:
        store.get("memory", "m")
    told(caught.value)


def test_a_missing_life_key_file_is_told(family: Any) -> None:
    path = closed(family)
    (path / "lives").unlink()
    with pytest.raises(Damaged) as caught:
        family.open(path, 0)
    told(caught.value)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "nonsense", '{"format": "x"}', '{"format": 0}', "[" * 10_000])
def test_a_damaged_label_is_told(family: Any, text: str) -> None:
    path = closed(family)
    good = json.loads((path / "STORE").read_text())
    (path / "STORE").write_text(text if text != '{"format": 0}' else json.dumps(good | {"format": 0}))
    with pytest.raises(Damaged) as caught:
        family.open(path, 0)
    told(caught.value)


def test_the_wrong_key_changes_nothing(family: Any) -> None:
    path = closed(family)
    before = (path / "data.mdb").read_bytes()
    with pytest.raises(WrongKey) as caught:
        family.open(path, 1)
    told(caught.value)
    label = json.loads((path / "STORE").read_text()) | {"device": identity_of(1).device.hex()}
    (path / "STORE").write_text(json.dumps(label))
    with pytest.raises((Damaged, WrongKey)):
        family.open(path, 1)  # another's label does not help
    assert (path / "data.mdb").read_bytes() == before


def test_files_are_private(family: Any) -> None:
    [a] = family(1)
    a.create("memory", {"content": "x"})
    assert stat.S_IMODE(a.path.stat().st_mode) == 0o700
    for path in a.path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path.name


def test_the_lease_must_lie_outside(family: Any) -> None:
    path = closed(family)
    with pytest.raises(InvalidValue):
        family.open(path, 0, lease=path / "lease")


# A bad moment


def test_a_closed_store_says_so(family: Any) -> None:
    [a] = family(1)
    a.close()
    a.close()
    with pytest.raises(Closed):
        a.create("memory", {"content": "x"})
    with pytest.raises(Closed):
        a.read("memory", "m")


@pytest.mark.processes
def test_a_forked_process_is_told_and_the_parent_goes_on(family: Any) -> None:
    [a] = family(1)
    a.create("memory", {"content": "x"}, id="m")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            a.get("memory", "m")
        except ForkedProcess:
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    a.create("memory", {"content": "y"})
    assert verify(a).problems == []


def test_one_process_may_open_a_store_twice(family: Any) -> None:
    [a] = family(1)
    with family.open(a.path, 0) as again:
        again.create("memory", {"content": "x"}, id="m")
        assert a.get("memory", "m")["content"] == "x"
    a.edit("memory", "m", {"content": "y"})
    assert verify(a).problems == []
