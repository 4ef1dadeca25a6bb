"""Backup and restore: a consistent, checked copy of a store, and a store made from one.

A backup is a directory, mode 0700: `data.mdb` (a compacted copy of one snapshot), `lives`, and `BACKUP`, clear JSON
written last that names what it is a copy of and the hash of both. It has no `STORE`, so nobody opens it by mistake
and writes on as the device it was taken of. Everything in it is sealed as in the store: without the device's key it
cannot be read. What was forgotten after it was taken is still in it.

A restored store takes a new incarnation before its first write, because the store it was taken of may have gone on.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from aico_crdt.config import Config
from aico_crdt.errors import Damaged, InvalidValue, NewerFormat, NoStore, StoreExists, WrongKey
from aico_crdt.store import layout, pages
from aico_crdt.store.directory import storage_keys
from aico_crdt.store.environment import Environment, Label, sync_directory, translate_os, write_durably
from aico_crdt.store.kind import Kind
from aico_crdt.store.lives import MAGIC, SLOT_BYTES
from aico_crdt.store.records import Counters, Records
from aico_crdt.store.store import LIVES_FILE, DocumentStore
from aico_crdt.store.verify import verify_directory
from aico_crdt.trust import Identity

BACKUP_FILE: Final = "BACKUP"
VERSION: Final = 1
_CHUNK: Final = 1 << 20
_RETAKE: Final = "Take another backup, or restore an older one."

Progress = Callable[[str, int, int], None]
"""Called with what is being done, bytes done and bytes there are."""


@dataclass(frozen=True, slots=True)
class Backup:
    """What `BACKUP` says. Hashes are BLAKE2b-256 in hexadecimal; `commits` and `change` are the store's counters."""

    version: int
    format: int
    store: str
    device: str
    created_ms: int
    taken_ms: int
    commits: int
    change: int
    data: str
    lives: str


def backup(store: DocumentStore, target: str | os.PathLike[str], *, progress: Progress | None = None) -> Backup:
    """Copy an open store into the new or empty directory `target`, while others go on reading and writing.

    Raises:
        StoreExists: `target` is not empty. InvalidValue: it lies inside the store.
        DiskFull, ReadOnly, DiskFailure: it cannot be written; what was made is removed.
    """
    return take(store.environment, store.label, store.identity, Path(target), store.now_ms(), progress)


def take(
    environment: Environment,
    label: Label,
    identity: Identity,
    target: Path,
    taken_ms: int,
    progress: Progress | None = None,
) -> Backup:
    """As :func:`backup`, of an environment."""
    source = environment.directory
    target = target.absolute()
    if source == target or source in target.parents:
        raise InvalidValue("A backup must lie outside the store.", "Choose another place for it.")
    with _new_directory(target):
        # Life keys first: what is forgotten and erased while data is copied is on the list of keys to destroy in
        # that copy. Keys made meanwhile are appended afterwards; nobody can have erased one that early.
        shutil.copyfile(source / LIVES_FILE, target / LIVES_FILE)
        os.chmod(target / LIVES_FILE, 0o600)
        environment.copy(target)
        counters, inside = _counters(target, identity)
        _append_keys(source / LIVES_FILE, target / LIVES_FILE, counters.slot)
        if faults := pages.check(target):
            raise Damaged(f"The copy is damaged: {faults[0]}", "Run `aico-crdt verify`.")
        made = Backup(
            VERSION,
            inside,
            label.store.hex(),
            label.device.hex(),
            label.created_ms,
            taken_ms,
            counters.commits,
            counters.change,
            _hash(target / pages.DATA_FILE, progress),
            _hash(target / LIVES_FILE, progress),
        )
        for name in (pages.DATA_FILE, LIVES_FILE):
            _sync(target / name)
        (target / "lock.mdb").unlink(missing_ok=True)
        write_durably(target / BACKUP_FILE, json.dumps(asdict(made)).encode() + b"\n", os.O_EXCL)
        sync_directory(target)
    return made


def read_backup(path: str | os.PathLike[str]) -> Backup:
    """What the backup at `path` says of itself.

    Raises:
        NoStore: there is none. NewerFormat: taken by a newer release. Damaged: it cannot be read.
    """
    place = Path(path) / BACKUP_FILE
    try:
        raw = place.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise NoStore(f"There is no backup at {path}.", "Name a directory that `aico-crdt backup` made.") from None
    except OSError as error:
        raise translate_os(error, place) from error
    try:
        fields: dict[str, Any] = json.loads(raw)
        if not isinstance(fields, dict) or type(fields.get("version")) is not int:
            raise ValueError
        if fields["version"] > VERSION or (type(fields["format"]) is int and fields["format"] > layout.FORMAT):
            raise NewerFormat(f"The backup at {path} was taken by a newer release.")
        found = Backup(**{name: fields[name] for name in Backup.__slots__})
        for name, kind in Backup.__annotations__.items():
            if type(getattr(found, name)).__name__ != kind:
                raise ValueError
        if len(bytes.fromhex(found.store)) != 16 or len(bytes.fromhex(found.device)) != 32:
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Damaged(f"The file {place} cannot be read.", _RETAKE) from None
    return found


def restore(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    identity: Identity,
    kinds: Sequence[Kind],
    *,
    config: Config | None = None,
    allow_network_fs: bool = False,
    progress: Progress | None = None,
) -> Backup:
    """Make a store at `path` from the backup at `source`. Its next opening takes a new incarnation.

    The store appears whole or not at all: it is made and verified beside `path` and then renamed.

    Raises:
        StoreExists: something is at `path`. WrongKey: the backup is another device's.
        NoStore, NewerFormat, Damaged: the backup is none, too new or does not verify.
        DiskFull, ReadOnly, DiskFailure: `path` cannot be written; what was made is removed.
    """
    found = read_backup(source)
    if bytes.fromhex(found.device) != identity.device:
        raise WrongKey("The key given is not that of the device this is a backup of.", "Name its own key with --key.")
    target = Path(path).absolute()
    if target.is_dir() and not any(target.iterdir()):
        target.rmdir()
    if target.exists():
        raise StoreExists(
            f"There already is something at {target}.",
            "Move it aside first, damaged or not; or restore to another path with --store.",
        )
    making = target.with_name(target.name + ".restoring")
    if making.exists():
        shutil.rmtree(making)  # left behind by a restore that was killed
    with _new_directory(making):
        for name, digest in ((LIVES_FILE, found.lives), (pages.DATA_FILE, found.data)):
            _copy(Path(source) / name, making / name)
            if _hash(making / name, progress) != digest:
                raise Damaged(f"The file {name} of the backup was changed since it was taken.", _RETAKE)
        (making / "wake").mkdir(mode=0o700)
        Label(found.format, bytes.fromhex(found.store), identity.device, found.created_ms).write(making)
        if found.format == layout.FORMAT:
            report = verify_directory(making, identity, kinds, config=config, allow_network_fs=allow_network_fs)
            if not report.clean:
                raise Damaged(f"The backup does not verify: {report.problems[0].what}", _RETAKE)
        _mark_restored(making, identity, config or Config(), allow_network_fs=allow_network_fs)
        sync_directory(making)
        try:
            os.rename(making, target)
        except OSError as error:
            raise translate_os(error, target) from error
        sync_directory(target.parent)
    return found


def _mark_restored(directory: Path, identity: Identity, config: Config, *, allow_network_fs: bool) -> None:
    environment = Environment.acquire(directory, config, allow_network_fs=allow_network_fs)
    try:
        with environment.write(reserve=True) as transaction:
            records = Records(transaction, storage_keys(identity)[1])
            records.put(layout.meta("restored"), b"\1")
            records.delete(layout.meta("fresh"))
    finally:
        environment.release()


@contextmanager
def _new_directory(path: Path) -> Iterator[None]:
    """A new directory of mode 0700, removed again when the block raises; errors of the system are typed."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise StoreExists(f"{path} is not empty.", "Name a new or empty directory.")
        os.chmod(path, 0o700)
    except FileExistsError:
        raise StoreExists(f"{path} is a file.", "Name a new or empty directory.") from None
    except OSError as error:
        raise translate_os(error, path) from error
    try:
        yield
    except BaseException as error:
        shutil.rmtree(path, ignore_errors=True)
        if isinstance(error, OSError):
            raise translate_os(error, path) from error
        raise


def _counters(target: Path, identity: Identity) -> tuple[Counters, int]:
    """The counters and the format inside a copied data file."""
    environment = Environment.acquire(target, Config(map_size_bytes=_room(target)), allow_network_fs=True)
    try:
        with environment.read() as transaction:
            records = Records(transaction, storage_keys(identity)[1])
            stored = records.get(layout.meta("format"))
            return Counters.load(records), int.from_bytes(stored or b"", "big")
    finally:
        environment.release()


def _room(target: Path) -> int:
    return max((target / pages.DATA_FILE).stat().st_size * 2, 64 << 20)


def _append_keys(source: Path, target: Path, slot: int) -> None:
    with open(source, "rb") as live, open(target, "r+b") as copy:
        size = copy.seek(0, os.SEEK_END)
        if size < len(MAGIC) + (slot + 1) * SLOT_BYTES:
            live.seek(size)
            copy.write(live.read())
            copy.flush()


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
        os.chmod(target, 0o600)
        _sync(target)
    except FileNotFoundError:
        raise Damaged(f"The file {source.name} of the backup is missing.", _RETAKE) from None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _hash(path: Path, progress: Progress | None) -> str:
    hasher = blake2b(digest_size=32, person=b"aico.backup.1")
    total, done = path.stat().st_size, 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
            done += len(chunk)
            if progress is not None:
                progress(path.name, done, total)
    return hasher.hexdigest()


__all__ = ["Backup", "backup", "read_backup", "restore", "take"]
