"""Repair: what is damaged is set aside, and what cannot be computed anew is asked for again by the next sync.

The data file is read page by page, without LMDB, and every record that is whole is put into a new file. What was lost
leaves holes there, which are closed by what the rest says (:mod:`aico_crdt.store.repair_feeds`,
:mod:`aico_crdt.store.repair_documents`): a row follows from its state, a state from its entries, a lost entry is
treated as pruned, a lost item is a gap that any peer may fill, a document that cannot be folded any more is a stub
whose body is fetched. Where it is not known what was lost, the next manifest of a full-trust device says.

Only when the new file verifies does it take the place of the old one, which is kept beside it. The store goes on as a
new incarnation: of what it had written last it may know less than its peers.

What cannot be mended is told, and nothing is changed: without the statements of the family, or the keys of its
spaces, nobody could say whom to trust.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aico_crdt.config import Config
from aico_crdt.errors import Damaged, WrongFamily, WrongKey
from aico_crdt.store import layout, pages, repair_documents, repair_feeds
from aico_crdt.store.directory import DIRECTORY, load_spaces, save_spaces, storage_keys
from aico_crdt.store.environment import Environment, now_ms, read_label, sync_directory, translate_os
from aico_crdt.store.kind import Kind
from aico_crdt.store.lives import LifeKeys
from aico_crdt.store.membership import Admission, decode_admission, take_statements
from aico_crdt.store.pages import DATA_FILE, Range
from aico_crdt.store.records import Counters, Records
from aico_crdt.store.store import LIVES_FILE, DocumentStore
from aico_crdt.store.vacuum import alone
from aico_crdt.store.verify import KEY_BYTES, core_of, verify_directory
from aico_crdt.store.workspace import Workspace
from aico_crdt.trust import Identity, Space, local_space, open_space

COPY_DIRECTORY: Final = "repair"
ASIDE_FILE: Final = "data.damaged"
BEYOND: Final = "Repair with an admission that another device writes anew (`aico-crdt admit`), or restore a backup."
_BATCH: Final = 10_000

Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class Lost:
    """What was not to be read: ranges of keys between records that were."""

    ranges: list[Range] = field(default_factory=list)

    def has(self, key: bytes) -> bool:
        """Whether a record at `key` may have been there."""
        return any(after < key and (before is None or key < before) for after, before in self.ranges)

    def any(self, prefix: bytes) -> bool:
        """Whether a record whose key begins with `prefix` may have been lost."""
        end = prefix + b"\xff" * 64
        return any(after < end and (before is None or prefix < before) for after, before in self.ranges)


@dataclass(slots=True)
class Repaired:
    """What :func:`repair` did: whether anything, places where records were lost, and what became of it, by name."""

    changed: bool = False
    places: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, what: str, number: int = 1) -> None:
        if number:
            self.counts[what] = self.counts.get(what, 0) + number


def repair(
    path: str | os.PathLike[str],
    identity: Identity,
    kinds: Sequence[Kind],
    *,
    admission: bytes | None = None,
    config: Config | None = None,
    clock_ms: Callable[[], int] = now_ms,
    random: Callable[[int], bytes] = os.urandom,
    progress: Progress | None = None,
) -> Repaired:
    """Mend the damaged data file of a store that nobody has open. A sound one is left as it is.

    Args:
        admission: of this device, written anew by another one: the family's statements, and the keys of its spaces as
            far as they are lost, are taken from it.

    Raises:
        Damaged: it is beyond repair, with the first thing that is wrong. StoreInUse, WrongKey, NoStore, DiskFull,
            DiskFailure: see each; Malformed, UnknownVersion, WrongFamily: the admission. Nothing was changed.
    """
    directory = Path(path).absolute()
    if read_label(directory).device != identity.device:
        raise WrongKey(f"The key given is not that of the store at {directory}.", "Name its own key with --key.")
    offered = None if admission is None else decode_admission(admission)
    if offered is not None and offered.device != identity.device:
        raise WrongKey("This admission is for another device.", "Ask for one made with this device's id.")
    copy, settings = directory / COPY_DIRECTORY, config or Config()
    done = Repaired()
    if verify_directory(directory, identity, kinds, config=config, refold=True, progress=progress).clean:
        if copy.exists():  # of a repair that was cut short after its file had taken its place
            with alone(directory):
                shutil.rmtree(copy, ignore_errors=True)
        return done
    try:
        with alone(directory):
            shutil.rmtree(copy, ignore_errors=True)  # of a repair that was cut short
            copy.mkdir(mode=0o700)
            try:
                _mend(directory, copy, identity, kinds, offered, settings, clock_ms(), random, done, progress)
                aside = directory / ASIDE_FILE
                aside.unlink(missing_ok=True)
                try:
                    os.link(directory / DATA_FILE, aside)
                except OSError:  # a file system without links
                    shutil.copyfile(directory / DATA_FILE, aside)
                os.chmod(aside, 0o600)
                os.replace(copy / DATA_FILE, directory / DATA_FILE)
                sync_directory(directory)
                done.changed = True
            finally:
                shutil.rmtree(copy, ignore_errors=True)
    except OSError as error:
        raise translate_os(error, directory) from error
    return done


def _mend(
    directory: Path,
    copy: Path,
    identity: Identity,
    kinds: Sequence[Kind],
    offered: Admission | None,
    config: Config,
    at_ms: int,
    random: Callable[[int], bytes],
    done: Repaired,
    progress: Progress | None,
) -> None:
    """The new file in `copy`, verified and synced."""
    storage_key, checksum, index_secret = storage_keys(identity)
    lost = Lost()
    for name in ("STORE", LIVES_FILE):
        os.symlink(directory / name, copy / name)
    environment = Environment.acquire(copy, config, allow_network_fs=True, create=True)
    try:
        with environment.write(reserve=True) as transaction:
            for count, (key, stored) in enumerate(_salvaged(directory, checksum, lost)):
                transaction.put(key, stored, append=True)
                if progress is not None and count % _BATCH == 0:
                    progress("records", count, 0)
            done.places = len(lost.ranges)
            records = Records(transaction, checksum)
            keys = LifeKeys(directory / LIVES_FILE, storage_key, create=False)
            try:
                spaces = _spaces(records, storage_key, identity, offered)
                counters = _counters(records)
                feeds = repair_feeds.Feeds(records, counters, lost, done, [*spaces, local_space(identity)], kinds)
                _name(records, feeds, offered, random)
                feeds.mend(anew=offered is not None)
                core = core_of(records, identity, kinds, storage_key, checksum, index_secret, keys)
                workspace = Workspace(core, records, at_ms, config.drift_ms, counters, None)
                repair_documents.Documents(workspace, lost, done, feeds).mend()
                records.put(layout.meta("restored"), b"\1")  # the next opening takes a new incarnation
                records.delete(layout.meta("fresh"))
                counters.statements += 1
                workspace.flush()
            finally:
                keys.close()
    finally:
        environment.release()
    if offered is not None:
        with DocumentStore.open(copy, identity, kinds, config=config, allow_network_fs=True, random=random) as store:
            take_statements(store, offered)
    report = verify_directory(
        copy, identity, kinds, config=config, allow_network_fs=True, refold=True, progress=progress
    )
    if not report.clean:
        raise Damaged(f"The store cannot be mended: {report.problems[0].what}", BEYOND)


def _salvaged(directory: Path, checksum: bytes, lost: Lost) -> Iterator[tuple[bytes, bytes]]:
    """Every whole record of the newest snapshot that can be followed at all: what an older one has more of is old."""

    def sound(key: bytes, stored: bytes) -> bool:
        return _sound(key, stored, checksum)

    with open(directory / DATA_FILE, "rb") as file:
        metas = pages.read_sound_metas(file.read(2 << 16))
    ranked = []
    for place, meta in enumerate(metas):
        ranges: list[Range] = []
        commits = -1  # it cannot be followed, or not as far as there
        for key, stored in pages.salvage(directory, meta, sound, ranges):
            if key == layout.meta("counters"):
                commits = int.from_bytes(stored[:8], "big")
        ranked.append(((commits, -place), place))
    if not ranked:
        raise Damaged("Neither meta page of the data file can be read.", BEYOND)
    yield from pages.salvage(directory, metas[max(ranked)[1]], sound, lost.ranges)


def _sound(key: bytes, stored: bytes, checksum: bytes) -> bool:
    if not key or (key[:1] != b"M" and KEY_BYTES.get(key[:1]) != len(key)):
        return False
    try:
        layout.open_value(key, stored, checksum)
    except Damaged:
        return False
    return True


def _counters(records: Records) -> Counters:
    """The counters, raised to what is in use: those of the snapshot may be lost."""
    counters = Counters.load(records)
    for key, value in records.scan(b""):
        letter, number = key[:1], int.from_bytes(key[1:9], "big")
        if letter in b"SRBC":
            counters.slot = max(counters.slot, number)
        elif (letter == b"I" and value[:8] != layout.GRAVE) or letter == b"U":
            counters.slot = max(counters.slot, int.from_bytes(value[:8], "big"))
        elif letter == b"D":
            counters.slot = max(counters.slot, int.from_bytes(value[4:12], "big"))
            counters.stamp = max(counters.stamp, int.from_bytes(value[-8:], "big"))
        elif letter == b"E":
            counters.feed = max(counters.feed, int.from_bytes(key[1:5], "big"))
            counters.arrival = max(counters.arrival, int.from_bytes(value[:8], "big"))
        elif letter == b"G":
            counters.feed = max(counters.feed, int.from_bytes(key[1:5], "big"))
        elif letter == b"K":
            counters.collection = max(counters.collection, int.from_bytes(value, "big"))
        elif letter == b"L":
            counters.change = max(counters.change, number)
        elif letter == b"H":
            counters.hold = max(counters.hold, number)
        elif letter == b"V":
            counters.evidence = max(counters.evidence, number)
    holds = records.get(layout.meta("holds"))
    counters.slot = max(counters.slot, 0 if holds is None else int.from_bytes(holds, "big"))
    return counters


def _spaces(records: Records, storage_key: bytes, identity: Identity, offered: Admission | None) -> list[Space]:
    """The shared spaces, with those whose keys only an admission brings."""
    spaces = {space.name: space for space in load_spaces(records, storage_key)}
    for sealed in offered.keys if offered is not None else ():
        if sealed.space not in spaces:
            spaces[sealed.space] = open_space(sealed, identity)
    if DIRECTORY not in spaces:
        raise Damaged("The keys of the family's spaces are lost.", BEYOND)
    save_spaces(records, spaces.values(), storage_key)
    return list(spaces.values())


def _name(
    records: Records, feeds: repair_feeds.Feeds, offered: Admission | None, random: Callable[[int], bytes]
) -> None:
    """The records that say whose store it is."""
    records.put(layout.meta("format"), layout.U64.pack(layout.FORMAT))
    family = records.get(layout.meta("family")) or feeds.family() or (offered.family if offered is not None else None)
    if family is None:
        raise Damaged("It is not known any more which family the store belongs to.", BEYOND)
    if offered is not None and offered.family != family:
        raise WrongFamily("This admission is to another family.", "Ask a device of this store's own family for one.")
    records.put(layout.meta("family"), family)
    if records.get(layout.meta("incarnation")) is None:
        records.put(layout.meta("incarnation"), random(8))
