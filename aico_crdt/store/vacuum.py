"""Vacuum: the data file written anew without its free pages, so that the directory shrinks and old bytes are gone.

LMDB never gives pages back: it uses them again, and until then they hold what was written last, as do the gaps in
live pages, which LMDB's own compacting copy takes along. So every record is put into a new file, synced before it
takes the place of the old one: a crash at any point leaves one or the other. It needs the store to itself: a process
that has the old file open would go on writing to it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import lmdb

from aico_crdt.config import Config
from aico_crdt.errors import Damaged, DiskFull, StoreInUse
from aico_crdt.store import pages
from aico_crdt.store.environment import Environment, read_label, sync_directory, translate, translate_os
from aico_crdt.store.pages import DATA_FILE, check_header

LOCK_FILE: Final = "lock.mdb"
COPY_DIRECTORY: Final = "vacuum"
BATCH_RECORDS: Final = 10_000
"""Records of one commit to the new file: some megabytes in memory."""

Progress = Callable[[str, int, int], None]


class Vacuumed(NamedTuple):
    """Bytes of the data file before and after."""

    before: int
    after: int


def vacuum(directory: Path, *, config: Config | None = None, progress: Progress | None = None) -> Vacuumed:
    """Write the data file of a store that nobody has open anew.

    Raises:
        StoreInUse: this or another process has it open. DiskFull: no room for the copy. Nothing was changed.
        Damaged: pages of it are. Nothing was changed.
        NoStore, ReadOnly: see each.
    """
    directory = directory.absolute()
    read_label(directory)
    check_header(directory)
    data, copy = directory / DATA_FILE, directory / COPY_DIRECTORY
    try:
        with alone(directory):
            if pages.check(directory):  # what cannot be reached any more would be gone for good
                raise Damaged("Pages of the data file are damaged; it was not written anew.")
            before = data.stat().st_size
            shutil.rmtree(copy, ignore_errors=True)  # of a vacuum that was cut short
            copy.mkdir(mode=0o700)
            try:
                _refuse_without_room(directory, before)
                _write(directory, copy, config or Config(), progress)
                os.replace(copy / DATA_FILE, data)
                sync_directory(directory)
            finally:
                shutil.rmtree(copy, ignore_errors=True)
            return Vacuumed(before, data.stat().st_size)
    except OSError as error:
        raise translate_os(error, directory) from error


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Hold what LMDB takes, shared, on the first byte of its lock file for as long as an environment is open: who
    opens the store meanwhile waits, before it looks at the data file."""
    with Environment.kept_closed(directory):
        descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
            except (BlockingIOError, PermissionError):
                raise StoreInUse(f"The store at {directory} is open in another process.") from None
            yield
        finally:
            os.close(descriptor)


def _refuse_without_room(directory: Path, size: int) -> None:
    space = os.statvfs(directory)
    if space.f_bavail * space.f_frsize < size:
        raise DiskFull(f"The copy needs up to {size >> 20} MiB beside the store at {directory}.")


def _write(directory: Path, copy: Path, config: Config, progress: Progress | None) -> None:
    """Every record in key order into a new file, synced. Pages of it are full, and hold nothing else."""
    try:
        # Without locks, since nobody else may open it now; LMDB's own would drop ours with its descriptor.
        old = lmdb.open(str(directory), map_size=config.map_size_bytes, readonly=True, lock=False, create=False)
        with contextlib.closing(old):
            new = lmdb.open(str(copy), map_size=config.map_size_bytes, mode=0o600, lock=False, sync=False)
            with contextlib.closing(new), old.begin() as transaction:
                total, done = int(old.stat()["entries"]), 0
                records = iter(transaction.cursor())
                while batch := list(islice(records, BATCH_RECORDS)):
                    with new.begin(write=True) as writing, writing.cursor() as cursor:
                        cursor.putmulti(batch, append=True)
                    done += len(batch)
                    if progress is not None:
                        progress("records", done, total)
                new.sync(True)
    except lmdb.Error as error:
        raise translate(error) from error
