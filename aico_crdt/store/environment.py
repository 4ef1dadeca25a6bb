"""The LMDB environment of one store directory: opening it safely, transactions, and typed errors.

A directory holds `STORE` (clear JSON: format, store id, device id), `data.mdb`, `lock.mdb`, `lives` and `wake/`. The
format is read from `STORE` before LMDB touches anything, so an older program leaves a newer store untouched.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import lmdb

from aico_crdt.config import Config
from aico_crdt.errors import (
    AicoError,
    Closed,
    Damaged,
    DiskFailure,
    DiskFull,
    ForkedProcess,
    InvalidValue,
    MapFull,
    NetworkFilesystem,
    NewerFormat,
    NoStore,
    ReadOnly,
    StoreExists,
    StoreInUse,
)
from aico_crdt.store import layout, pages

STORE_FILE: Final = "STORE"
FULL_BYTES: Final = 1 << 20
"""A file system with less than this free counts as full when a write to it fails."""
REVIVE_S: Final = 5.0
"""How long the transactions of other threads may take to end before a database that failed is opened anew."""
NETWORK_FILESYSTEMS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs", "fuse.glusterfs", "ncpfs"}
)


@dataclass(frozen=True, slots=True)
class Label:
    """What `STORE` says: read before, and independently of, the database."""

    format: int
    store: bytes
    device: bytes
    created_ms: int

    def write(self, directory: Path) -> None:
        text = json.dumps(
            {
                "format": self.format,
                "store": self.store.hex(),
                "device": self.device.hex(),
                "created_ms": self.created_ms,
                "note": "aico-crdt store; see docs/format.md",
            }
        )
        temporary = directory / (STORE_FILE + ".new")
        write_durably(temporary, text.encode() + b"\n", os.O_TRUNC)
        os.replace(temporary, directory / STORE_FILE)
        sync_directory(directory)


def write_durably(path: Path, content: bytes, flags: int) -> None:
    """Make the file `path`, mode 0600, and sync it; its name is the caller's to sync. `flags` beside O_CREAT."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o600)
    try:
        written = 0
        while written < len(content):  # a disk that fills up takes what still fits
            written += os.write(descriptor, content[written:])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(directory: Path) -> None:
    """Make names created or renamed in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_label(directory: Path) -> Label:
    """The label of the store at `directory`.

    Raises:
        NoStore: nothing there, or something that is no store.
        NewerFormat: written by a newer release.
        Damaged: the label cannot be read.
    """
    try:
        raw = (directory / STORE_FILE).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise NoStore(f"There is no store at {directory}.") from None
    except PermissionError:
        raise ReadOnly(f"The store at {directory} cannot be read.", "Run as its owner.") from None
    except OSError as error:
        raise translate_os(error, directory) from error
    try:
        fields: dict[str, Any] = json.loads(raw)
        label = Label(
            int(fields["format"]),
            bytes.fromhex(fields["store"]),
            bytes.fromhex(fields["device"]),
            int(fields["created_ms"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Damaged(f"The label {directory / STORE_FILE} cannot be read.", "Restore it from a backup.") from error
    if label.format > layout.FORMAT:
        raise NewerFormat(
            f"The store at {directory} has format {label.format}; this release reads up to {layout.FORMAT}."
        )
    if label.format < 1 or len(label.store) != 16 or len(label.device) != 32:
        raise Damaged(f"The label {directory / STORE_FILE} is not one.", "Restore it from a backup.")
    return label


def filesystem_of(path: Path) -> str:
    """The type of the file system that holds `path`, from /proc/mounts; empty when unknown."""
    try:
        mounts = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return ""
    resolved = str(path.resolve())
    best, kind = "", ""
    for line in mounts:
        parts = line.split()
        if len(parts) < 3:
            continue
        point = parts[1].replace("\\040", " ")
        inside = resolved == point or resolved.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, parts[2]
    return kind


def refuse_network_filesystem(path: Path, *, kind: str | None = None) -> None:
    """Raises :class:`NetworkFilesystem` where LMDB's locks and memory map are unsafe."""
    found = filesystem_of(path) if kind is None else kind
    if found in NETWORK_FILESYSTEMS:
        raise NetworkFilesystem(f"{path} is on a network file system ({found}).")


def translate(error: lmdb.Error) -> AicoError:
    """The typed error for one of LMDB's."""
    text = str(error)
    if isinstance(error, lmdb.MapFullError):
        return MapFull("The store's size limit is used up.")
    if isinstance(error, lmdb.DiskError) or "No space left" in text:
        return DiskFull("The disk is full.")
    if isinstance(error, lmdb.ReadonlyError) or "Permission denied" in text or "Read-only" in text:
        return ReadOnly("The store cannot be written.", "Check the owner and mode of its directory.")
    if isinstance(error, (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.VersionMismatchError)):
        return Damaged("The data file is damaged or not an LMDB file.")
    if isinstance(error, lmdb.PanicError):
        return DiskFailure("The database stopped after a failed write.", "Close the store and open it again.")
    if isinstance(error, lmdb.ReadersFullError):
        return DiskFailure("Too many readers at once.", "Close readers that are no longer used.")
    return DiskFailure(f"The database failed ({type(error).__name__}).")


def translate_os(error: OSError, path: Path) -> AicoError:
    """The typed error for one of the operating system's."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"No room left for {path}.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ReadOnly(f"{path} cannot be written.", "Check the owner and mode of its directory.")
    if error.errno == errno.ENOTDIR:
        return InvalidValue(f"{path} is not a directory.", "Choose another path with --store.")
    if error.errno == errno.ENOENT:
        return InvalidValue(f"{path} cannot be made: its directory is not there.", "Choose another path.")
    return DiskFailure(f"{path}: {os.strerror(error.errno or errno.EIO)}.")


class Environment:
    """One open LMDB environment. Thread-safe; typed :class:`ForkedProcess` when used across ``os.fork()``.

    LMDB allows one open environment per file and process, so stores of one path share it, counted.
    """

    _open: Final[dict[tuple[int, int], Environment]] = {}
    _shut: Final[set[tuple[int, int]]] = set()
    _guard: Final = threading.Lock()

    def __init__(self, directory: Path, environment: lmdb.Environment, config: Config) -> None:
        self.directory = directory
        self._environment = environment
        self._database = environment.open_db(None)
        self._process = os.getpid()
        self._uses = 1
        self.map_size = config.map_size_bytes
        self._reserve_bytes = config.reserve_bytes
        self.write_lock = threading.RLock()
        self._writing = False
        self._config = config
        self._transactions: list[None] = []  # one for each that is open; append and pop are atomic
        self._dead = False  # LMDB panicked, and could not be opened anew since
        self._doubtful = False  # it did, and its meta pages were not written anew since
        self._revival = threading.RLock()

    @classmethod
    def create(cls, directory: Path, label: Label) -> None:
        """Make an empty store directory, mode 0700.

        Raises:
            StoreExists: one is already there. ReadOnly, DiskFull, DiskFailure: it cannot be made; nothing is left.
        """
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if (directory / STORE_FILE).exists() or (directory / "data.mdb").exists():
                raise StoreExists(f"There already is a store at {directory}.")
            if any(directory.iterdir()):
                raise StoreExists(f"{directory} is not empty.")
            try:
                os.chmod(directory, 0o700)
                (directory / "wake").mkdir(mode=0o700)
                label.write(directory)
                sync_directory(directory.parent)
            except BaseException:
                shutil.rmtree(directory, ignore_errors=True)
                raise
        except OSError as error:
            raise translate_os(error, directory) from error

    @classmethod
    def acquire(
        cls, directory: Path, config: Config, *, allow_network_fs: bool = False, create: bool = False
    ) -> Environment:
        """The environment in `directory`, with the limits of the first who opens it.

        Args:
            create: make the data file; else one must be there.

        Raises:
            NetworkFilesystem, ReadOnly, Damaged: see each.
        """
        if not allow_network_fs:
            refuse_network_filesystem(directory)
        status = os.stat(directory)
        identity = (status.st_dev, status.st_ino)
        with cls._guard:
            if identity in cls._shut:
                raise StoreInUse(f"The store at {directory} is being written anew by this process.")
            found = cls._open.get(identity)
            if found is not None and found._process == os.getpid():
                found._uses += 1
                return found
            if not os.access(directory, os.W_OK):
                raise ReadOnly(
                    f"The store at {directory} cannot be written.", "Check the owner and mode of its directory."
                )
            if not create:
                pages.check_header(directory)
            try:
                opened = _open_lmdb(directory, config)
            except lmdb.Error as error:
                raise translate(error) from error
            environment = cls(directory, opened, config)
            cls._open[identity] = environment
            environment._identity = identity
            return environment

    @classmethod
    @contextmanager
    def kept_closed(cls, directory: Path) -> Iterator[None]:
        """Nobody in this process has the store open, nor opens it inside the block. Raises StoreInUse."""
        status = os.stat(directory)
        identity = (status.st_dev, status.st_ino)
        with cls._guard:
            found = cls._open.get(identity)
            if identity in cls._shut or (found is not None and found._process == os.getpid()):
                raise StoreInUse(f"The store at {directory} is open in this process.")
            cls._shut.add(identity)
        try:
            yield
        finally:
            with cls._guard:
                cls._shut.discard(identity)

    _identity: tuple[int, int] = (0, 0)

    def release(self) -> None:
        with self._guard:
            self._uses -= 1
            if self._uses == 0:
                if self._open.get(self._identity) is self:
                    del self._open[self._identity]
                if self._process == os.getpid():
                    self._environment.close()

    def _check(self) -> None:
        if os.getpid() != self._process:
            raise ForkedProcess("This store was opened before the process forked.")
        if self._uses <= 0:
            raise Closed("The store is closed.")

    @contextmanager
    def read(self) -> Iterator[lmdb.Transaction]:
        """A read transaction: a snapshot, closed at the end of the block."""
        self._check()
        transaction = self._begin(write=False)
        try:
            yield transaction
        except lmdb.Error as error:
            raise translate(error) from error
        finally:
            transaction.abort()
            self._transactions.pop()

    @contextmanager
    def write(self, *, reserve: bool = False) -> Iterator[lmdb.Transaction]:
        """The write transaction: one at a time over all processes; committed and synced at the end of the block,
        aborted on any exception.

        `reserve` lets it use the pages kept for forgetting.
        """
        self._check()
        with self.write_lock:
            if self._writing:
                raise InvalidValue(
                    "This thread is in the middle of a transaction of this store.",
                    "Use that transaction's verbs, or end it first.",
                )
            transaction = self._begin(write=True)
            self._writing = True
            failed = None
            try:
                yield transaction
                if not reserve:
                    self._refuse_reserve(transaction)
                transaction.commit()
            except lmdb.Error as error:
                transaction.abort()
                failed = error
            except BaseException:
                transaction.abort()
                raise
            finally:
                self._writing = False
                self._transactions.pop()
            if failed is not None:
                self._attend()
                raise self._translate_write(failed) from failed

    def _attend(self) -> None:
        """After a failed commit, should LMDB have panicked: do what the disk allows at once, for others go on."""
        with contextlib.suppress(AicoError):
            with self.read():
                pass
            if self._doubtful:
                self._begin(write=True).abort()
                self._transactions.pop()

    def _begin(self, *, write: bool) -> lmdb.Transaction:
        """A transaction, noted in `_transactions`. The caller takes the note away when it has ended."""
        while True:
            self._transactions.append(None)
            if not self._dead:
                try:
                    transaction = self._environment.begin(write=write)
                    if write and self._doubtful:
                        self._write_metas(transaction)
                    return transaction
                except lmdb.PanicError:
                    self._dead = True
                except lmdb.Error as error:
                    self._transactions.pop()
                    raise translate(error) from error
                except BaseException:
                    self._transactions.pop()
                    raise
            self._transactions.pop()
            self._revive()

    def _revive(self) -> None:
        """Open the environment anew after the write of a meta page failed; LMDB then refuses all, reading included.

        Raises:
            DiskFailure, DiskFull: it cannot be done now; it is tried again by the next transaction.
        """
        with self._revival:
            if not self._dead:
                return
            self._check()
            ends = time.monotonic() + REVIVE_S
            while self._transactions:
                if time.monotonic() > ends:
                    raise DiskFailure("The database stopped after a failed write.", "End what still reads from it.")
                time.sleep(0.001)
            self._environment.close()
            try:
                self._environment = _open_lmdb(self.directory, self._config)
            except lmdb.Error as error:
                raise translate(error) from error
            except OSError as error:
                raise translate_os(error, self.directory) from error
            self._database = self._environment.open_db(None)
            self._doubtful, self._dead = True, False

    def _write_metas(self, transaction: lmdb.Transaction) -> None:
        """Write both meta pages once more as they are, and sync them, before anybody of this process goes on writing.

        When the write of a meta page fails, LMDB puts back its old content, and nothing was acknowledged. But the new
        content may be on the disk, and the next commit overwrites pages to which that leads, as they are free again.

        Raises:
            DiskFailure, DiskFull: it cannot be done; the transaction, which keeps others from writing, is aborted.
        """
        page_bytes = int(transaction.stat(self._database)["psize"])
        try:
            descriptor = os.open(self.directory / pages.DATA_FILE, os.O_RDWR | os.O_CLOEXEC)
            try:
                raw = os.pread(descriptor, 2 * page_bytes, 0)
                if os.pwrite(descriptor, raw, 0) != 2 * page_bytes:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except BaseException as error:
            transaction.abort()
            if isinstance(error, OSError):
                raise translate_os(error, self.directory) from error
            raise
        self._doubtful = False

    def _translate_write(self, error: lmdb.Error) -> AicoError:
        """As :func:`translate`. LMDB reports a write cut short by a full disk as EIO, so the free space decides."""
        told = translate(error)
        if isinstance(told, DiskFailure):
            with contextlib.suppress(OSError):
                space = os.statvfs(self.directory)
                if space.f_bavail * space.f_frsize < FULL_BYTES:
                    return DiskFull("The disk is full.")
        return told

    def _refuse_reserve(self, transaction: lmdb.Transaction) -> None:
        if self.used_bytes(transaction) > self.map_size - self._reserve_bytes:
            raise MapFull("The store's size limit is used up.")

    def used_bytes(self, transaction: lmdb.Transaction) -> int:
        """Bytes of live pages as `transaction` sees them: all records are in one database, so one figure tells."""
        statistics = transaction.stat(self._database)
        pages = statistics["branch_pages"] + statistics["leaf_pages"] + statistics["overflow_pages"]
        return int(pages) * int(statistics["psize"])

    def copy(self, directory: Path) -> None:
        """A compacted copy into an existing empty directory; readers and writers go on meanwhile."""
        self._check()
        with self.read():  # so that it is alive, and stays open
            try:
                self._environment.copy(str(directory), compact=True)
                os.chmod(directory / "data.mdb", 0o600)  # LMDB makes it readable by others
            except lmdb.Error as error:
                raise translate(error) from error

    def info(self) -> dict[str, int]:
        self._check()
        figures: dict[str, Any] = {**self._environment.info(), **self._environment.stat()}
        return {name: int(value) for name, value in figures.items() if isinstance(value, int)}

    def clear_stale_readers(self) -> int:
        self._check()
        return int(self._environment.reader_check())


def _open_lmdb(directory: Path, config: Config) -> lmdb.Environment:
    opened = lmdb.open(
        str(directory),
        map_size=config.map_size_bytes,
        subdir=True,
        mode=0o600,
        max_readers=config.max_readers,
        max_dbs=0,
        readahead=False,
        meminit=True,
    )
    opened.reader_check()
    return opened


def now_ms() -> int:
    """Physical time in Unix milliseconds: the default clock of a store; tests pass their own."""
    return time.time_ns() // 1_000_000
