"""The file that holds a device's seed: 32 bytes, mode 0600, in a directory nobody else can write.

Everything the device is follows from it, so a file that others can read is refused, with the command that
mends it: mended silently, nobody would learn that the key may have been copied. POSIX modes; where there are
none (Windows) only the content is checked.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from pathlib import Path
from typing import Final

from aico_crdt.errors import (
    DiskFailure,
    DiskFull,
    InvalidValue,
    LooseKeyFile,
    MachineError,
    NoStore,
    ReadOnly,
    StoreExists,
    WrongKey,
)
from aico_crdt.trust.identity import SEED_BYTES

_OTHERS: Final = 0o077
_OTHERS_WRITE: Final = 0o022
_POSIX: Final = os.name == "posix"
# O_NONBLOCK: a named pipe in the file's place must not block the program.
_READ: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)


class KeyFile:
    """The seed at `path`. Holds nothing in memory; every call goes to the file."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"KeyFile({str(self.path)!r})"

    def exists(self) -> bool:
        """Whether there is a file, readable or not."""
        return os.path.lexists(self.path)

    def read(self) -> bytes:
        """The seed.

        Raises:
            NoStore: there is no such file.
            LooseKeyFile: others can read it, own it, or could replace it.
            WrongKey: it does not hold a seed.
            ReadOnly, DiskFailure: the system refuses.
        """
        try:
            descriptor = os.open(self.path, _READ)
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise WrongKey(f"{self.path} is no regular file.", "Name the key file instead.")
                self._check_modes(status)
                seed = os.read(descriptor, SEED_BYTES + 1)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _translated(error, self.path) from None
        if not _is_seed(seed):
            what = f"The key file {self.path} does not hold a key: {SEED_BYTES} bytes, not all zero."
            raise WrongKey(what, "Restore it from your backup; another key does not open this store.")
        return seed

    def create(self, seed: bytes) -> None:
        """Keeps `seed` (32 bytes of a cryptographic source), durably. Makes the 0700 directory if need be.

        Raises:
            StoreExists: there is a file already; it is left as it was.
            LooseKeyFile: others can write to the directory.
            InvalidValue: no seed.
            ReadOnly, DiskFull, DiskFailure: the system refuses; no file is left.
        """
        if not _is_seed(seed):
            raise InvalidValue(f"A seed is {SEED_BYTES} bytes, not all zero.")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_directory()
            descriptor = os.open(self.path, _CREATE, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(seed)
                    file.flush()
                    os.fsync(file.fileno())
                _sync_directory(self.path.parent)
            except OSError:
                self.path.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise _translated(error, self.path) from None

    def _check_modes(self, status: os.stat_result) -> None:
        if not _POSIX:
            return
        quoted = shlex.quote(str(self.path))
        if status.st_mode & _OTHERS:
            raise LooseKeyFile(f"Others can read the key file {self.path}.", f"Run: chmod 600 {quoted}")
        if os.geteuid() not in (0, status.st_uid):
            what = f"The key file {self.path} belongs to another user."
            raise LooseKeyFile(what, f"Run: sudo chown $USER {quoted}")
        self._check_directory()

    def _check_directory(self) -> None:
        """Whoever can write to the directory can put another key in place of this one."""
        mode = self.path.parent.stat().st_mode
        if _POSIX and mode & _OTHERS_WRITE and not mode & stat.S_ISVTX:
            what = f"Others can replace the key file {self.path}."
            raise LooseKeyFile(what, f"Run: chmod 700 {shlex.quote(str(self.path.parent))}")


def _is_seed(seed: bytes) -> bool:
    """All zero is what a file system leaves of a file that was not synced."""
    return len(seed) == SEED_BYTES and any(seed)


def _sync_directory(directory: Path) -> None:
    if not _POSIX:
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _translated(error: OSError, path: Path) -> MachineError:
    """The typed error for what the system said about `path`."""
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            cure = "Run `aico-crdt init` to make one, or restore it from your backup."
            return NoStore(f"There is no key file {path}.", cure)
        case errno.EEXIST:
            return StoreExists(f"There already is a key file {path}.", "Choose another path with --store.")
        case errno.ENOSPC | errno.EDQUOT:
            return DiskFull(f"No room for the key file {path}.")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            what = f"The system denies access to the key file {path}."
            return ReadOnly(what, "Check who owns it and its directory.")
        case _:
            return DiskFailure(f"The key file {path} failed: {_name(error)}.")


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "unknown error")
