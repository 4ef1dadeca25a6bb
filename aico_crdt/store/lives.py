"""The life keys: a file of fixed 32-byte slots beside LMDB, overwritten in place to erase.

LMDB copies pages on write and leaves stale bytes in free ones, so nothing inside it can be erased. A life's key can:
it is `BLAKE2b(key = storage key, slot bytes ‖ slot number)`, and its slot is overwritten and synced when the life is
erased. Slots are random from the start and synced in chunks before a document uses one, so that few births cost a
second sync. Slot 0 is never given out: it stands for what belongs to no life (statements).

File: 16 bytes magic and version, then slots of 32 bytes.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from hashlib import blake2b
from pathlib import Path
from typing import Final

from aico_crdt.errors import Damaged

MAGIC: Final = b"aico-lives\0\0\0\0\0\1"
SLOT_BYTES: Final = 32
CHUNK_SLOTS: Final = 8192
"""Slots made and synced at once: 256 KiB, so one birth in 8,192 pays for a sync of its own."""


class LifeKeys:
    """Keys of lives, by slot number. Thread-safe; several processes may share the file (growth happens under the
    store's write transaction)."""

    def __init__(self, path: Path, storage_key: bytes, *, create: bool) -> None:
        flags = os.O_RDWR | (os.O_CREAT if create else 0) | os.O_CLOEXEC
        try:
            self._file = os.open(path, flags, 0o600)
        except FileNotFoundError:
            raise Damaged("The life key file is missing.", "Restore it from a backup.") from None
        self._storage_key = storage_key
        self._lock = threading.Lock()
        self._map: mmap.mmap | None = None
        size = os.fstat(self._file).st_size
        if size == 0 and create:
            if os.pwrite(self._file, MAGIC, 0) < len(MAGIC):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file)
        elif os.pread(self._file, len(MAGIC), 0) != MAGIC:
            os.close(self._file)
            raise Damaged(f"{path.name} is not a life key file of this format.", "Restore it from a backup.")
        self._remap()

    def _remap(self) -> None:
        # A retired map is left to the garbage collector: another thread may be reading from it.
        self._map = mmap.mmap(self._file, os.fstat(self._file).st_size, access=mmap.ACCESS_READ)
        self._slots = (len(self._map) - len(MAGIC)) // SLOT_BYTES

    def reserve(self, slot: int) -> None:
        """Make sure that `slot` exists, is random and is on disk. Called inside the store's write transaction, with
        slots that rise by one.

        A chunk is made when its first slot is given out, whatever the file holds there. That may have been left by a
        process that died before its sync, or by a sync that failed, and be gone after a power loss; but nothing that
        was committed uses it yet.
        """
        first = slot == 1 or slot % CHUNK_SLOTS == 0
        if slot < self._slots and not first:
            return
        with self._lock:
            self._remap()
            start = slot // CHUNK_SLOTS * CHUNK_SLOTS if first else self._slots
            end = (slot // CHUNK_SLOTS + 1) * CHUNK_SLOTS
            if start < end:
                self._write(start, os.urandom((end - start) * SLOT_BYTES))
                os.fsync(self._file)
                self._remap()

    def _write(self, slot: int, block: bytes) -> None:
        place = len(MAGIC) + slot * SLOT_BYTES
        written = 0
        while written < len(block):
            written += os.pwrite(self._file, block[written:], place + written)

    def key(self, slot: int) -> bytes:
        """The 32-byte key of the life at `slot`; slot 0 is the store's own key.

        Raises:
            Damaged: the file is shorter than the store believes.
        """
        if slot == 0:
            return self._storage_key
        start = len(MAGIC) + slot * SLOT_BYTES
        mapped = self._map
        if mapped is None or start + SLOT_BYTES > len(mapped):
            with self._lock:
                self._remap()
                mapped = self._map
            if mapped is None or start + SLOT_BYTES > len(mapped):
                raise Damaged("The life key file was cut short.", "Restore it from a backup.")
        material = mapped[start : start + SLOT_BYTES] + slot.to_bytes(8, "big")
        return blake2b(material, digest_size=32, key=self._storage_key, person=b"aico.life.1").digest()

    def destroy(self, slots: list[int]) -> None:
        """Overwrite `slots` with new random bytes and sync: what was sealed under them is gone for good.

        Idempotent; survives a crash at any point because the caller repeats it until it has noted the erasure.
        """
        for slot in slots:
            if slot:
                self._write(slot, os.urandom(SLOT_BYTES))
        os.fsync(self._file)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            self._map = None
