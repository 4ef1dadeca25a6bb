"""One device's store: local verbs over one LMDB environment.

Thread-safe: any thread may call any method; writes queue behind one another, over all processes of the device. Every
write is on disk when its call returns. Not usable across ``os.fork()``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from aico_crdt import ids
from aico_crdt.config import DAY_S, Config
from aico_crdt.errors import AicoError, Closed, Damaged, InvalidValue, MapFull, ReadOnly, WrongKey
from aico_crdt.logs import logger
from aico_crdt.store import forget, holds, layout, migrate, receipts, statements
from aico_crdt.store.core import Core
from aico_crdt.store.directory import DIRECTORY, Directory, storage_keys
from aico_crdt.store.environment import Environment, Label, now_ms, read_label, translate_os
from aico_crdt.store.forget import Owed
from aico_crdt.store.kind import Kind, Row
from aico_crdt.store.lives import LifeKeys
from aico_crdt.store.opened import Known
from aico_crdt.store.reader import Reader
from aico_crdt.store.receipts import Receipt
from aico_crdt.store.records import Counters, Records
from aico_crdt.store.transaction import GROUP_BYTES, Place, Transaction
from aico_crdt.store.wake import Bell
from aico_crdt.store.watch import Watch
from aico_crdt.store.workspace import Workspace
from aico_crdt.trust import Identity
from aico_crdt.trust.lease import NO_LEASE, Lease, machine_id, place_id

LIVES_FILE: Final = "lives"
_log = logger(__name__)

Notice = Callable[["Commit"], None]


class Commit:
    """What one commit did: places of own entries, heads of received ones by collection tag, whether the family
    changed, and the change number it reached."""

    __slots__ = ("change", "family_changed", "own", "received", "source")

    def __init__(
        self,
        change: int,
        own: Sequence[Place] = (),
        received: Mapping[bytes, Sequence[Any]] | None = None,
        source: bytes | None = None,
        family_changed: bool = False,
    ) -> None:
        self.change = change
        self.own = tuple(own)
        self.received = dict(received or {})
        self.source = source
        self.family_changed = family_changed


class DocumentStore(Reader):
    """The store of one device. Use :meth:`open`, or make one with :func:`aico_crdt.store.membership.found`."""

    def __init__(
        self,
        directory: Path,
        environment: Environment,
        label: Label,
        core: Core,
        lease: Lease | None,
        config: Config,
        clock_ms: Callable[[], int],
    ) -> None:
        self.path = directory
        self.config = config
        self.label = label
        self._environment = environment
        self._core = core
        self._lease = lease
        self._clock_ms = clock_ms
        self._closed = False
        self._core_lock = threading.RLock()
        self._notices: list[Notice] = []
        self._bell = Bell(directory / "wake")

    # Opening and closing

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        identity: Identity,
        kinds: Sequence[Kind],
        *,
        config: Config | None = None,
        lease: str | os.PathLike[str] | None = None,
        writable: bool = True,
        allow_network_fs: bool = False,
        clock_ms: Callable[[], int] = now_ms,
        random: Callable[[int], bytes] = os.urandom,
    ) -> Self:
        """Open the store at `path` with its device's identity.

        Args:
            kinds: what its documents are, in sync order.
            lease: where the lease file is kept; must lie outside `path`. None for a store whose copy is never made.
            writable: False to look only: nothing is written, not even that it was opened.

        Raises:
            NoStore, NewerFormat, Damaged, WrongKey, ReadOnly, NetworkFilesystem: see each.
        """
        directory = Path(path).absolute()
        settings = config or Config()
        label = read_label(directory)
        if label.device != identity.device:
            raise WrongKey(
                f"The key given is not that of the store at {directory}.",
                "Name its own key with --key, or another store.",
            )
        if lease is not None and directory in Path(lease).absolute().parents:
            raise InvalidValue("The lease must lie outside the store.", "Choose another place for it.")
        environment = Environment.acquire(directory, settings, allow_network_fs=allow_network_fs)
        try:
            storage_key, checksum, index_secret = storage_keys(identity)
            by_name = {kind.name: kind for kind in kinds}
            if DIRECTORY not in by_name:
                raise InvalidValue("A store needs a kind named 'directory'.")
            if migrate.needed(label, environment, identity):
                label, _ = migrate.migrate(label, environment, identity, clock_ms())
            lives = LifeKeys(directory / LIVES_FILE, storage_key, create=False)
            with environment.read() as transaction:
                records = Records(transaction, checksum)
                family = records.get(layout.meta("family"))
                incarnation = records.get(layout.meta("incarnation"))
                if family is None or incarnation is None:
                    raise Damaged("The store was not completely made.", "Remove its directory and run init again.")
                found = statements.load(records, identity, by_name, storage_key, family)
                core = Core(identity, lives, by_name, storage_key, checksum, index_secret, found, incarnation)
                core.take_incarnation(incarnation)
                core.random = random
                if found.collections:
                    statements.refresh(_stale(core), records)
            opened_lease = Lease.open(lease) if lease is not None and writable else None
            store = cls(directory, environment, label, core, opened_lease, settings, clock_ms)
        except OSError as error:
            environment.release()
            raise translate_os(error, directory) from error
        except BaseException:
            environment.release()
            raise
        store._writable = writable
        if writable:
            store._begin_incarnation()
        return store

    _writable = True

    def _begin_incarnation(self) -> None:
        """Draw a new incarnation when the store may have been copied or rolled back."""
        with self._write() as workspace:
            numbered = len(workspace.core.directory.collections)
            statements.number_collections(
                workspace.records,
                workspace.counters,
                workspace.core.directory.spaces,
                list(workspace.core.kinds.values()),
            )
            restored = workspace.records.get(layout.meta("restored")) is not None
            reason = "restored" if restored else None
            if reason is None and self._lease is not None:
                reason = self._lease.judge(
                    machine_id(), self.path, workspace.core.incarnation, workspace.counters.commits
                )
            # The place where it was made, which has no lease yet. A copy made before the first opening lies elsewhere.
            fresh = workspace.records.get(layout.meta("fresh"))
            if reason is not None and not (reason == NO_LEASE and fresh == place_id(self.path)):
                self._renew_incarnation(workspace, copied=False)
                _log.warning("new incarnation: %s", reason.replace(" ", "-"))
            if restored:
                workspace.records.delete(layout.meta("restored"))
            if fresh is not None:
                workspace.records.delete(layout.meta("fresh"))
            if not numbered:
                workspace.counters.statements += 1
            if self._lease is not None:
                # Under the writer lock: a second opener must not judge in between. At what is committed, not at what
                # is about to be: a lease ahead of its store, left by a crash before the commit, proves a roll-back.
                self._lease.renew(machine_id(), self.path, workspace.core.incarnation, workspace.counters.commits)
        with self._read() as records:
            statements.refresh(_stale(self._core), records)

    _commits = 0
    _known: Known | None = None
    """What the last transaction of this store left; used by the one that follows, under the core's lock."""

    def _renew_incarnation(self, workspace: Workspace, *, copied: bool) -> None:
        """Write on as a new incarnation; `copied`: the old one wrote here while another copy of the store may have."""
        if copied:
            workspace.records.put(layout.meta(f"copied {workspace.core.incarnation.hex()}"), b"\1")
        incarnation = workspace.core.random(ids.INCARNATION_BYTES)
        workspace.records.put(layout.meta("incarnation"), incarnation)
        workspace.core.take_incarnation(incarnation)

    @staticmethod
    def was_copied(workspace: Workspace, incarnation: bytes) -> bool:
        """Whether this store wrote as `incarnation` while another copy of it may have."""
        return workspace.records.get(layout.meta(f"copied {incarnation.hex()}")) is not None

    def renew_incarnation(self) -> None:
        """Write on as a new incarnation: another copy of this store may be writing as the present one."""
        with self._write() as workspace:
            self._renew_incarnation(workspace, copied=True)
        if self._lease is not None:
            self._lease.renew(machine_id(), self.path, self._core.incarnation, self._commits)

    def close(self) -> None:
        """Release the environment; a second call does nothing. Watchers of this store end."""
        if self._closed:
            return
        self._closed = True
        self._bell.close()
        if self._lease is not None:
            self._lease.close()
        self._environment.release()
        self._core.lives.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What it is

    @property
    def device(self) -> bytes:
        return self._core.identity.device

    @property
    def identity(self) -> Identity:
        return self._core.identity

    @property
    def incarnation(self) -> bytes:
        return self._core.incarnation

    @property
    def writer(self) -> str:
        """The 20-character name under which this incarnation writes its slots."""
        return self._core.writer

    @property
    def directory(self) -> Directory:
        """The family and the collections, as of the last transaction of this process."""
        return self._core.directory

    @property
    def kinds(self) -> Mapping[str, Kind]:
        return self._core.kinds

    @property
    def bell(self) -> Bell:
        """Rings on every commit of any process of this device."""
        return self._bell

    @property
    def core(self) -> Core:
        """What the parts of this package share."""
        return self._core

    def watch(
        self, kind: str | None = None, filter: Callable[[Row], bool] | None = None, *, cursor: int | None = None
    ) -> Watch:
        """A stream of changes; see :class:`aico_crdt.store.watch.Watch`. From now on unless a cursor is given."""
        return Watch(self, kind, filter, cursor=cursor)

    def receipt(self, kind: str, document_id: str) -> Receipt:
        """Where a write is; see :class:`aico_crdt.store.receipts.Receipt`."""
        return receipts.receipt(self, kind, document_id)

    def wait(
        self, kind: str, document_id: str, *, everywhere: bool = False, on: int = 1, timeout_s: float = 30.0
    ) -> Receipt:
        """Wait until a write is on `on` other devices, or `everywhere`; the receipt as it is in the end."""
        return receipts.wait(self, kind, document_id, everywhere=everywhere, on=on, timeout_s=timeout_s)

    def now_ms(self) -> int:
        return self._clock_ms()

    # Transactions

    @contextmanager
    def _read(self) -> Iterator[Records]:
        if self._closed:
            raise Closed("The store is closed.")
        with self._environment.read() as transaction:
            records = Records(transaction, self._core.checksum, self._environment.read)
            if Counters.load(records).statements > self._core.directory.statements:
                with self._core_lock:  # held by a writer of this process for as long as it writes
                    statements.refresh(self._core, records)
            yield records

    @contextmanager
    def reading(self) -> Iterator[tuple[Core, Records]]:
        """A snapshot for the parts of this package: the core and checked records."""
        with self._read() as records:
            yield self._core, records

    @contextmanager
    def _write(self, *, reserve: bool = False) -> Iterator[Workspace]:
        """A workspace, flushed and committed with a sync at the end of the block, or taken back as a whole."""
        if self._closed:
            raise Closed("The store is closed.")
        if not self._writable:
            raise ReadOnly("The store was opened to look only.", "Open it with writable=True.")
        with self._core_lock:
            before = (self._core.directory, self._core.incarnation)
            try:
                with self._environment.write(reserve=reserve) as transaction:
                    records = Records(transaction, self._core.checksum)
                    packed = records.get(layout.meta("counters"))
                    counters = Counters.unpack(packed)
                    if counters.statements > self._core.directory.statements:
                        statements.refresh(self._core, records)
                    known, self._known = self._known, None
                    if known is None or known.counters != packed:
                        known = None
                        incarnation = records.get(layout.meta("incarnation"))
                        if incarnation is not None and incarnation != self._core.incarnation:
                            self._core.take_incarnation(incarnation)
                    workspace = Workspace(self._core, records, self._clock_ms(), self.config.drift_ms, counters, known)
                    yield workspace
                    workspace.flush()
                    commits = workspace.counters.commits
                self._known = workspace.known
            except BaseException as error:
                self._core.directory = before[0]
                self._core.take_incarnation(before[1])
                if isinstance(error, OSError) and not isinstance(error, AicoError):
                    raise translate_os(error, self.path) from error
                raise
            self._commits = commits
            if self._lease is not None:
                self._lease.advance(commits)

    @contextmanager
    def writing(self, *, reserve: bool = False) -> Iterator[Workspace]:
        """A write transaction for the parts of this package."""
        with self._write(reserve=reserve) as workspace:
            yield workspace

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Several verbs, one commit: on disk when the block ends, taken back as a whole when it raises."""
        with self._write() as workspace:
            transaction = Transaction(workspace, self.config)
            try:
                yield transaction
                transaction.finish()
            finally:
                transaction.end()
            change = workspace.counters.change
        self.announce(Commit(change, own=transaction.places))

    def group(self, writers: Sequence[Callable[[Transaction], Any]]) -> list[Any]:
        """Carry out several independent writers with one commit: one sync, one entry per collection.

        Returns:
            what each returned, or the exception it raised; whoever raised changed nothing. Where a large group takes
            several commits and one fails, its writers and those after them are given its error.
        """
        results: list[Any] = []
        while (done := len(results)) < len(writers):
            try:
                results += self._group(writers[done:])
            except Exception as error:
                if not done:
                    raise
                results += [error] * (len(writers) - done)
        return results

    def _group(self, writers: Sequence[Callable[[Transaction], Any]]) -> list[Any]:
        """One commit of :meth:`group`: the results of as many `writers` as fit it."""
        results: list[Any] = []
        with self._write() as workspace:
            transaction = Transaction(workspace, self.config)
            for writer in writers:
                try:
                    result = writer(transaction)
                    transaction.checkpoint()
                except Exception as error:  # noqa: BLE001  # handed to its own writer, not swallowed
                    transaction.rollback()
                    result = error
                results.append(result)
                if transaction.settled_bytes >= GROUP_BYTES:
                    break
            transaction.finish()
            change = workspace.counters.change
        if transaction.places:
            self.announce(Commit(change, own=transaction.places))
        return results

    def announce(self, commit: Commit) -> None:
        """Tell this process's listeners and ring for the other processes. Called after every commit."""
        self._bell.ring()
        for notice in list(self._notices):
            notice(commit)

    def on_commit(self, notice: Notice) -> Callable[[], None]:
        """Call `notice` after every commit of this process, in the committing thread. Returns the way to stop it."""
        self._notices.append(notice)
        return lambda: self._notices.remove(notice) if notice in self._notices else None

    # Single verbs

    def create(self, kind: str, fields: Mapping[str, Any], *, id: str | None = None, space: str = "own") -> str:
        """One :meth:`Transaction.create` in a transaction of its own."""
        with self.transaction() as transaction:
            return transaction.create(kind, fields, id=id, space=space)

    def edit(self, kind: str, document_id: str, fields: Mapping[str, Any]) -> None:
        """One :meth:`Transaction.edit` in a transaction of its own."""
        with self.transaction() as transaction:
            transaction.edit(kind, document_id, fields)

    def forget(self, kind: str, document_id: str, *, now: bool = False) -> None:
        """Forget one document; works when the map is full. With `now` its key is destroyed before this returns."""
        self.forget_all([(kind, document_id)], now=now)

    def forget_all(self, documents: Sequence[tuple[str, str]], *, now: bool = False) -> None:
        """Forget several documents with one commit; otherwise as :meth:`forget`."""
        with self._write(reserve=True) as workspace:
            transaction = Transaction(workspace, self.config)
            for kind, document_id in documents:
                transaction.forget(kind, document_id, now=now)
            transaction.finish()
            change = workspace.counters.change
        self.announce(Commit(change, own=transaction.places))
        if now:
            self.erase_due()

    # Upkeep

    def erase_due(self, at_ms: int | None = None) -> int:
        """Destroy the keys of forgotten lives whose undo window has passed. Returns how many.

        Works when the map is full. May be interrupted anywhere and called again.
        """
        with self._read() as records:
            now = self._clock_ms() if at_ms is None else at_ms
            owed = forget.due(records, now, max(self.config.undo_window_s, DAY_S) * 1000)
            waits = records.get(layout.meta("holds")) is not None
        if not owed:
            return 0
        if waits:
            owed += self._renew_hold_key()
        try:
            self._core.lives.destroy([slot for _, _, _, _, slot in owed])
        except OSError as error:
            raise translate_os(error, self.path) from error
        with self._write(reserve=True) as workspace:
            numbers = {c.number: c for c in workspace.core.directory.collections.values()}
            forget.settle_erasures(workspace, owed, numbers)
            change = workspace.counters.change
        self.announce(Commit(change))
        return sum(1 for _, number, *_ in owed if number)

    def _renew_hold_key(self) -> list[Owed]:
        """What is owed by it; see :func:`aico_crdt.store.holds.renew_key`."""
        try:
            with self._write(reserve=True) as workspace:
                holds.renew_key(workspace)
        except MapFull:
            with self._write(reserve=True) as workspace:
                holds.renew_key(workspace, drop=True)
        with self._read() as records:
            return [owed for owed in forget.due(records, 0, 0) if not owed[1]]

    def used_bytes(self) -> int:
        """Bytes of live pages."""
        with self._environment.read() as transaction:
            return self._environment.used_bytes(transaction)

    @property
    def environment(self) -> Environment:
        return self._environment


def _stale(core: Core) -> Core:
    """`core`, made to read the directory anew at the next refresh."""
    found = core.directory
    core.directory = Directory(found.family, found.spaces, found.collections, -1)
    return core
