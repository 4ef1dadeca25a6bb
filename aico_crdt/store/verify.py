"""Verify: is every live byte of a store what it was when it was written, and does everything agree?

In layers, each of which needs only those before it: the label and the life key file; the pages of the data file,
read without LMDB so that damage there is told and not run into; the checksum of every record; then, kind by kind of
record, what the records say of one another; at last documents folded anew. Nothing is changed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from aico_crdt.config import Config
from aico_crdt.errors import Damaged
from aico_crdt.store import layout, lives, pages, statements
from aico_crdt.store.core import Core
from aico_crdt.store.directory import storage_keys
from aico_crdt.store.environment import Environment, read_label
from aico_crdt.store.kind import Kind
from aico_crdt.store.lives import LifeKeys
from aico_crdt.store.records import Records
from aico_crdt.store.store import LIVES_FILE, DocumentStore
from aico_crdt.store.verify_documents import check_documents
from aico_crdt.store.verify_feeds import check_feeds
from aico_crdt.store.verify_report import Problem, Progress, Report, Scope
from aico_crdt.trust import Identity

__all__ = ["Problem", "Progress", "Report", "verify", "verify_directory"]

KEY_BYTES: Final = {
    b"K": 17, b"F": 43, b"G": 5, b"E": 13, b"I": 15, b"A": 11, b"D": 19, b"S": 9, b"R": 9, b"B": 9, b"C": 13, b"O": 29,
    b"T": 19, b"U": 31, b"X": 43, b"L": 9, b"H": 9, b"P": 37, b"V": 9, b"N": 15, b"Y": 27,
    b"Q": 33,
}  # fmt: skip
"""Length of every kind of key; names under M differ."""


def verify(store: DocumentStore, *, refold: bool = False, progress: Progress | None = None) -> Report:
    """Every damaged live byte and every disagreement of an open store, over one snapshot; others go on writing.

    Args:
        refold: also fold every document anew from its base and entries, and verify every signature, not one a run.
    """
    while True:
        with suppress(pages.Overtaken):
            return _verify(store, refold, progress)


def _verify(store: DocumentStore, refold: bool, progress: Progress | None) -> Report:
    report = Report()
    with report.guard("file", str(store.path)):
        read_label(store.path)
    with report.guard("pages", pages.DATA_FILE), store.environment.read() as transaction:
        for fault in pages.check(store.path, transaction.id()):
            report.add("pages", pages.DATA_FILE, fault)
        if report.clean:
            _verify_snapshot(
                report,
                Records(transaction, store.core.checksum, store.environment.read),
                store.identity,
                list(store.kinds.values()),
                store.path,
                refold,
                progress,
            )
    return report


def verify_directory(
    path: str | os.PathLike[str],
    identity: Identity,
    kinds: Sequence[Kind],
    *,
    config: Config | None = None,
    refold: bool = False,
    progress: Progress | None = None,
    allow_network_fs: bool = False,
) -> Report:
    """As :func:`verify`, of a store that is not open and perhaps cannot be opened. Writes nothing to it.

    Pages are checked first, while nobody else should write; where they are damaged, LMDB is not let near them.
    """
    directory = Path(path).absolute()
    report = Report()
    with report.guard("file", str(directory)):
        label = read_label(directory)
        if label.device != identity.device:
            raise Damaged("The label names another device than the key does.")
    with report.guard("pages", pages.DATA_FILE):
        pages.check_header(directory)
        for fault in pages.check(directory):
            report.add("pages", pages.DATA_FILE, fault)
    if not report.clean:
        return report
    with report.guard("file", pages.DATA_FILE):
        environment = Environment.acquire(directory, config or Config(), allow_network_fs=allow_network_fs)
        try:
            with environment.read() as transaction:
                records = Records(transaction, storage_keys(identity)[1], environment.read)
                _verify_snapshot(report, records, identity, kinds, directory, refold, progress)
        finally:
            environment.release()
    return report


def _verify_snapshot(
    report: Report,
    records: Records,
    identity: Identity,
    kinds: Sequence[Kind],
    directory: Path,
    refold: bool,
    progress: Progress | None,
) -> None:
    storage_key, checksum, index_secret = storage_keys(identity)
    _check_records(report, records, checksum, progress)
    if not report.clean:
        return  # what follows would only repeat, in other words, which records are damaged
    with report.guard("file", LIVES_FILE):
        keys = LifeKeys(directory / LIVES_FILE, storage_key, create=False)
        try:
            with report.guard("family", "directory"):
                core = core_of(records, identity, kinds, storage_key, checksum, index_secret, keys)
                scope = Scope(core, records, report, refold=refold, progress=progress)
                _check_lives(scope, directory / LIVES_FILE)
                _check_meta(scope)
                check_feeds(scope)
                check_documents(scope)
        finally:
            keys.close()


def _check_records(report: Report, records: Records, checksum: bytes, progress: Progress | None) -> None:
    """Every record: a key of a known form, a value that matches its checksum."""
    for number, (key, stored) in enumerate(records.scan_raw(b"")):
        letter = key[:1]
        where = key[:40].hex()
        report.count("records")
        if letter != b"M" and KEY_BYTES.get(letter) != len(key):
            report.add("record", where, "No record has a key of this form.")
        try:
            layout.open_value(key, stored, checksum)
        except Damaged as error:
            report.add("record", where, error.what)
        if progress is not None and number % 1024 == 0:
            progress("records", number, 0)


def core_of(
    records: Records,
    identity: Identity,
    kinds: Sequence[Kind],
    storage_key: bytes,
    checksum: bytes,
    index_secret: bytes,
    keys: LifeKeys,
) -> Core:
    """What a transaction of this store would share, made without opening it for writing.

    Raises:
        Damaged: the family, its keys or the directory's entries are.
    """
    by_name = {kind.name: kind for kind in kinds}
    family, incarnation = records.get(layout.meta("family")), records.get(layout.meta("incarnation"))
    if family is None or incarnation is None:
        raise Damaged("The store was not completely made.")
    found = statements.load(records, identity, by_name, storage_key, family)
    core = Core(identity, keys, by_name, storage_key, checksum, index_secret, found, incarnation)
    core.take_incarnation(incarnation)
    core.directory = replace(found, statements=-1)  # so that the statements are folded
    statements.refresh(core, records)
    return core


def _check_lives(scope: Scope, path: Path) -> None:
    size = path.stat().st_size - len(lives.MAGIC)
    slots = size // lives.SLOT_BYTES
    if 0 < scope.counters.slot >= slots:  # what lies beyond may be the rest of a write that was cut off
        scope.report.add("key", LIVES_FILE, f"The life key file holds {slots} keys; the store uses more.")


def _check_meta(scope: Scope) -> None:
    records, report, directory = scope.records, scope.report, scope.core.directory
    stored = records.get(layout.meta("format"))
    if stored != layout.U64.pack(layout.FORMAT):
        report.add("record", "format", "The data file names another format than its label.")
    if len(scope.core.incarnation) != 8 or len(directory.family.id) != 16:
        report.add("record", "incarnation", "The names of the family or of the incarnation are no such names.")
    if not directory.collections:
        report.add("family", "directory", "The keys of the directory are missing.")
    elif not directory.family.was_member(scope.core.identity.device) and directory.family.members:
        report.add("family", "members", "This device is no member of the family that its directory describes.")
    seen: set[int] = set()
    for key, value in records.scan(b"K"):
        number = int.from_bytes(value, "big")
        report.count("collections")
        if len(value) != 2 or number in seen or not 0 < number <= scope.counters.collection:
            report.add("record", key[1:].hex(), "A collection's number is used twice or was never given out.")
        seen.add(number)
    for tag, collection in directory.collections.items():
        if collection.number not in seen:
            report.add("record", tag.hex(), "A collection has no number.")
