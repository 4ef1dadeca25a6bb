"""The key file: private or refused."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
from pathlib import Path

import pytest

from aico_crdt.errors import InvalidValue, LooseKeyFile, NoStore, ReadOnly, StoreExists, WrongKey
from aico_crdt.trust.keyfile import KeyFile

SEED = bytes(range(32))


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    file = KeyFile(tmp_path / "home of keys" / "device.key")
    file.create(SEED)
    return file


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_created_reads_back(file: KeyFile) -> None:
    assert file.exists()
    assert file.read() == SEED
    assert file.path.read_bytes() == SEED


def test_it_is_0600_in_a_0700_directory_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        file = KeyFile(tmp_path / "new" / "device.key")
        file.create(SEED)
    finally:
        os.umask(before)
    assert (mode(file.path), mode(file.path.parent)) == (0o600, 0o700)


@pytest.mark.parametrize("loose", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o777])
def test_fault_45_a_key_file_others_can_read_is_refused_with_the_command_that_mends_it(
    file: KeyFile, loose: int
) -> None:
    file.path.chmod(loose)
    with pytest.raises(LooseKeyFile) as caught:
        file.read()
    assert mode(file.path) == loose, "nothing is mended in silence"
    assert SEED.hex() not in str(caught.value)
    command = caught.value.cure.removeprefix("Run: ")
    assert shlex.split(command) == ["chmod", "600", str(file.path)]
    subprocess.run(command, shell=True, check=True)
    assert file.read() == SEED


@pytest.mark.parametrize("loose", [0o770, 0o702, 0o777])
def test_fault_45_a_directory_others_can_write_is_refused_too(file: KeyFile, loose: int) -> None:
    file.path.parent.chmod(loose)
    with pytest.raises(LooseKeyFile) as caught:
        file.read()
    with pytest.raises(LooseKeyFile):
        KeyFile(file.path.parent / "second.key").create(SEED)
    subprocess.run(caught.value.cure.removeprefix("Run: "), shell=True, check=True)
    assert file.read() == SEED


def test_a_directory_others_can_only_look_into_will_do(file: KeyFile) -> None:
    file.path.parent.chmod(0o755)
    assert file.read() == SEED


@pytest.mark.parametrize("content", [b"", SEED[:31], SEED + b"\n", SEED.hex().encode(), bytes(32), bytes(1 << 20)])
def test_wrong_content_is_a_wrong_key(file: KeyFile, content: bytes) -> None:
    file.path.write_bytes(content)
    with pytest.raises(WrongKey) as caught:
        file.read()
    assert SEED.hex() not in str(caught.value)


def test_a_missing_key_file_names_the_cure(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "none" / "device.key")
    assert not file.exists()
    with pytest.raises(NoStore, match="init"):
        file.read()
    assert not (tmp_path / "none").exists(), "reading makes nothing"


def test_an_existing_key_is_never_replaced(file: KeyFile) -> None:
    with pytest.raises(StoreExists):
        file.create(bytes(reversed(SEED)))
    assert file.read() == SEED


def test_not_even_through_a_link(file: KeyFile) -> None:
    target = file.path.parent / "target"
    link = KeyFile(file.path.parent / "link")
    link.path.symlink_to(target)
    with pytest.raises(StoreExists):
        link.create(SEED)
    assert not target.exists()


@pytest.mark.parametrize("seed", [b"", SEED[:31], SEED + b"\0", bytes(32)])
def test_what_is_no_seed_is_not_kept(tmp_path: Path, seed: bytes) -> None:
    file = KeyFile(tmp_path / "device.key")
    with pytest.raises(InvalidValue):
        file.create(seed)
    assert not file.exists()


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "directory").mkdir(0o700)
    for name in ("pipe", "directory"):
        with pytest.raises(WrongKey):
            KeyFile(tmp_path / name).read()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_is_read_only(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ReadOnly):
        KeyFile(tmp_path / "device.key").create(SEED)


def test_a_failing_disk_leaves_no_half_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    file = KeyFile(tmp_path / "device.key")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(Exception, match="No room") as caught:
        file.create(SEED)
    assert caught.typename == "DiskFull"
    assert not file.exists()


def test_nothing_shows_the_seed(file: KeyFile) -> None:
    assert SEED.hex() not in repr(file)
