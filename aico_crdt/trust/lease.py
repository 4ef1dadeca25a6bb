"""The lease: who may go on writing as one incarnation of this device. Kept *outside* the store.

A store that was restored from a backup, or cloned, would write entries its lost successor has already
written, under the same sequence numbers. It cannot know that from its own content, so a second file in
another place (the user's state directory, say) remembers how far it had come. Opening a store asks
:meth:`Lease.judge`; a reason means that a new incarnation must be drawn before the first write.

The file, 56 bytes, mode 0600, in this machine's byte order, since a lease from another machine is void
anyway::

    0   magic         8   b"aicoleas"
    8   machine      16   BLAKE2b of the operating system's machine id
    24  store path   16   BLAKE2b of the store's resolved path
    40  incarnation   8
    48  counter     u64   own entries committed so far, by any measure that only rises

It is memory-mapped: advancing costs no system call and survives kill -9, because the pages are the kernel's.
After a power loss it may lag behind the store, which is harmless; a counter *ahead* of the store is proof
that the store went back. Advance only after the commit: else a crash in between looks like a roll-back, which
costs a new incarnation and no data.

What it cannot see: a whole virtual machine set back or cloned, lease included. That is found when a peer
holds more of the feed than its writer, or by a fork.
"""

from __future__ import annotations

import errno
import mmap
import os
import platform
import struct
import subprocess
import uuid
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Final

from aico_crdt.errors import Closed, DiskFailure, DiskFull, InvalidValue, MachineError, ReadOnly
from aico_crdt.ids import INCARNATION_BYTES

MACHINE_BYTES: Final = 16
NO_LEASE: Final = "no lease"
OTHER_MACHINE: Final = "other machine"
OTHER_PATH: Final = "other path"
OTHER_INCARNATION: Final = "other incarnation"
ROLLED_BACK: Final = "rolled back"
_MAGIC: Final = b"aicoleas"
_LAYOUT: Final = struct.Struct("=8s16s16s8sQ")
_COUNTER: Final = 6
"""Index of the counter among the file's 64-bit words."""
_FLAGS: Final = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)


class Lease:
    """The lease file at a path, mapped. Threads may share one; every process opens its own."""

    def __init__(self, file: mmap.mmap) -> None:
        """See :meth:`open`."""
        self._file = file
        self._words = memoryview(file).cast("Q")

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Lease:
        """The lease at `path`; an empty one, which judges "no lease", is made if there is none.

        Raises:
            ReadOnly, DiskFull, DiskFailure: the system refuses.
        """
        target = Path(path)
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(target, _FLAGS, 0o600)
            try:
                size = os.fstat(descriptor).st_size
                if size < _LAYOUT.size:
                    # Written, not just made longer: on a full disk a hole would fail when touched (SIGBUS).
                    os.pwrite(descriptor, bytes(_LAYOUT.size - size), size)
                mapped = mmap.mmap(descriptor, _LAYOUT.size)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _translated(error, target) from None
        return cls(mapped)

    @property
    def counter(self) -> int:
        """How far the holder has come."""
        return self._open()[_COUNTER]

    def advance(self, counter: int) -> None:
        """Notes that `counter` is committed. Under 1 µs, no system call; never goes back.

        Two processes that advance at the same instant may leave the smaller number until the next advance.
        """
        words = self._open()
        if counter > words[_COUNTER]:
            words[_COUNTER] = counter  # one aligned 8-byte store: never torn, whenever the process dies

    def judge(self, machine: bytes, path: str | os.PathLike[str], incarnation: bytes, counter: int) -> str | None:
        """Why a new incarnation must be drawn before the first write; None when the holder may go on.

        Args:
            machine: :func:`machine_id`.
            path: the store's.
            incarnation, counter: as the store itself has them.
        """
        self._open()
        magic, its_machine, its_path, its_incarnation, its_counter = _LAYOUT.unpack_from(self._file)
        if magic != _MAGIC:
            return NO_LEASE
        if its_machine != machine:
            return OTHER_MACHINE
        if its_path != _path_hash(path):
            return OTHER_PATH
        if its_incarnation != incarnation:
            return OTHER_INCARNATION
        return ROLLED_BACK if its_counter > counter else None

    def renew(self, machine: bytes, path: str | os.PathLike[str], incarnation: bytes, counter: int) -> None:
        """Makes `incarnation` the holder, at `counter`, durably. Call it once that incarnation is on disk.

        Does no more than advance when it is the holder already: another process of the store may be judging. A
        crash halfway leaves a lease that judges against its holder, never in favour: one more incarnation.
        """
        if len(machine) != MACHINE_BYTES or len(incarnation) != INCARNATION_BYTES:
            raise InvalidValue(f"A machine id has {MACHINE_BYTES} bytes, an incarnation {INCARNATION_BYTES}.")
        if self.judge(machine, path, incarnation, counter) in (None, ROLLED_BACK):
            self.advance(counter)
            return
        self._file[: len(_MAGIC)] = bytes(len(_MAGIC))
        raw = _LAYOUT.pack(_MAGIC, machine, _path_hash(path), incarnation, counter)
        self._file[len(_MAGIC) : len(raw)] = raw[len(_MAGIC) :]
        self._file[: len(_MAGIC)] = _MAGIC
        try:
            self._file.flush()
        except OSError as error:
            raise _translated(error, Path(path)) from None

    def close(self) -> None:
        """Unmaps the file; a second call does nothing."""
        self._words.release()
        self._file.close()

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> memoryview[int]:
        if self._file.closed:
            raise Closed("The lease is closed.")
        return self._words


def machine_id() -> bytes:
    """16 bytes that name this machine without telling anyone its id (as machine-id(5) asks).

    From ``/etc/machine-id`` or its D-Bus twin, the platform UUID on macOS, the MachineGuid on Windows; else
    from the host name and, where there is a real one, the network card's address.
    """
    return blake2b(_machine_name(), digest_size=MACHINE_BYTES, person=b"aico.machine.1").digest()


def place_id(path: str | os.PathLike[str]) -> bytes:
    """16 bytes that name a store's place: this machine, and its resolved path there."""
    return blake2b(machine_id() + _path_hash(path), digest_size=16, person=b"aico.place.1").digest()


def _machine_name() -> bytes:
    for source in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            name = Path(source).read_bytes().strip()
        except OSError:
            continue
        if name and name != b"uninitialized":
            return name
    for line in _ask_system().splitlines():
        if b"IOPlatformUUID" in line or b"MachineGuid" in line:
            return line.strip()
    node = uuid.getnode()
    hardware = b"" if node >> 40 & 1 else node.to_bytes(6, "big")  # the multicast bit marks a made-up number
    return platform.node().encode() + b"\0" + hardware


def _ask_system() -> bytes:
    command = {
        "Darwin": ["/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice"],
        "Windows": ["reg", "query", r"HKLM\SOFTWARE\Microsoft\Cryptography", "/v", "MachineGuid"],
    }.get(platform.system())
    if command is None:
        return b""
    try:
        return subprocess.run(command, capture_output=True, timeout=5, check=True).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return b""


def _path_hash(path: str | os.PathLike[str]) -> bytes:
    resolved = os.fsencode(os.path.realpath(path))
    return blake2b(resolved, digest_size=16, person=b"aico.store.1").digest()


def _translated(error: OSError, path: Path) -> MachineError:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return DiskFull(f"No room for the lease {path}.")
        case errno.EIO:
            return DiskFailure(f"The lease {path} failed: EIO.")
        case _:
            name = errno.errorcode.get(error.errno or 0, "unknown error")
            return ReadOnly(f"The lease {path} cannot be written: {name}.", "Check its directory and who owns it.")
