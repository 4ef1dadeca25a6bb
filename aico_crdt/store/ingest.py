"""Receipt: what comes from elsewhere, checked in a fixed order before anything is stored.

Size, depth and quota caps (in the decoders) → author known → signature and chain → in force → dependencies → may this
author do this → key → the walker → apply. Each entry ends in one of three ways: applied; held, because something it
needs is not known *yet*; or rejected, kept as evidence. All runs of one call commit together, synced, before the
report is returned.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Final

from aico_crdt import ids
from aico_crdt.config import Config
from aico_crdt.errors import (
    BadSignature,
    BrokenChain,
    InvalidValue,
    Malformed,
    NotAllowed,
    NotYet,
    PeerError,
    WrongFamily,
)
from aico_crdt.feed import (
    Entry,
    Erased,
    Head,
    Header,
    Operation,
    Run,
    check_items,
    decode_entry,
    decode_header,
    encode_entry,
    item_mark,
    missing,
    open_item,
    verify_entry,
    verify_run,
)
from aico_crdt.feed.exchange import HeldHead
from aico_crdt.feed.header import NO_MARK
from aico_crdt.store import forget, layout, receipts, statements
from aico_crdt.store.branches import Branches
from aico_crdt.store.forks import is_met, is_void
from aico_crdt.store.holds import Holds
from aico_crdt.store.opened import OpenDocument
from aico_crdt.store.outcome import Outcome
from aico_crdt.store.records import Collection
from aico_crdt.store.transaction import FORGET, STATEMENT, UPDATE
from aico_crdt.store.workspace import Workspace
from aico_crdt.trust import Found, Space, decode_statement, family_id, may

MAX_EVIDENCE: Final = 1000
"""Rejected entries kept to show; the oldest go first."""
MAX_EVIDENCE_BYTES: Final = 64 << 10
"""Of a larger entry the signed header is kept, which names what it held by hash: 64 MB of evidence at most."""


class Intake:
    """Applies deliveries inside one write transaction. `source` is the peer that handed them over; what an entry of a
    `doubted` device builds on tells of one of its copies only."""

    def __init__(
        self, workspace: Workspace, config: Config, source: bytes, doubted: Set[bytes] = frozenset()
    ) -> None:
        self._doubted = doubted
        self._workspace = workspace
        self._config = config
        self._source = source
        self._holds = Holds(workspace, config)
        self._identities: dict[tuple[bytes, bytes], tuple[int, str]] = {}
        self._heard: receipts.Heard = {}
        self.report = Outcome()
        self._branches = Branches(workspace, config, self._holds, self.report, self.evidence)

    def take(self, collection: Collection, runs: Sequence[Run]) -> None:
        for run in runs:
            self._run(collection, run.entries)
        self._retry()

    def look_again(self) -> None:
        """Judge all that waits anew."""
        self._holds.wake_all()
        self._retry()

    def moved(self, collection: Collection) -> None:
        """A manifest has moved `collection` on: judge anew what waits there."""
        self._holds.moved(collection)
        self._retry()

    def came(self, collection: Collection, keys: Sequence[bytes]) -> None:
        """The bodies of these documents have come: what waited for them goes on."""
        for key in keys:
            self._holds.came(self._workspace.open_key(collection, key))
        self._workspace.settle()
        self._retry()

    def finish(self) -> Outcome:
        """Note what the entries prove of their authors; the workspace's own flush comes after."""
        receipts.note_dependencies(self._workspace, self._heard)
        self.report.testify = self._branches.testimony()
        return self.report

    # A run

    def _run(self, collection: Collection, entries: tuple[Entry, ...]) -> None:
        workspace, report = self._workspace, self.report
        directory = workspace.core.directory
        header = entries[0].header
        report.named.add((header.device, header.incarnation))
        if header.tag != collection.tag or any(entry.header.feed != header.feed for entry in entries):
            self._reject(entries[0], BrokenChain("A run mixes feeds or names another collection."))
            return
        if any(entry.header.family != directory.family.id for entry in entries):
            self._reject(entries[0], WrongFamily("An entry belongs to another family.", "Nothing to do here."))
            return
        if not directory.family.was_member(header.device) and not self._founds(collection, entries[0]):
            self._hold_all(collection, entries, NotYet("author", "The author of an entry is not known here yet."))
            return
        workspace.heads(collection)
        feed = workspace.feed(collection, header.device, header.incarnation)
        fresh = list(entries)
        while fresh and fresh[0].header.seq <= feed.seq:
            first = fresh.pop(0)
            if self._known(collection, feed.number, first):
                report.duplicates += 1
                self._fill(collection, feed.number, first)
            elif self._branches.is_lost(collection, first) or not self._fork(collection, first):
                self._branches.keep(collection, [first, *fresh])
                return
            else:
                fresh.insert(0, first)
                feed = workspace.feed(collection, header.device, header.incarnation)
        if not fresh:
            return
        if self._branches.is_lost(collection, fresh[0]):
            self._branches.keep(collection, fresh)
            return
        gap = fresh[0].header.seq > feed.seq + 1
        try:
            verify_run(fresh, None if gap else feed.hash)
        except BrokenChain as error:
            self._broken(collection, fresh[0], feed.floor, error)
            return
        except PeerError as error:
            # Find the longest beginning that stands on its own signature.
            good = self._proven_prefix(fresh, None if gap else feed.hash)
            if not good:
                self._reject(fresh[0], error)
                return
            fresh = good
        for place, entry in enumerate(fresh):
            if not self._entry(collection, entry):
                self._hold_all(
                    collection, fresh[place + 1 :], NotYet("predecessor", "An entry waits for its predecessor.")
                )
                return

    def _founds(self, collection: Collection, entry: Entry) -> bool:
        """Whether this is the entry that founds this family, and no member is known yet."""
        core = self._workspace.core
        family, key = core.directory.family, core.directory.spaces[collection.space].keys.get(entry.header.key_id)
        if family.members or collection != core.directory.directory or key is None:
            return False
        for index, sealed in enumerate(entry.items):
            operation = open_item(entry.header, index, sealed, key) if isinstance(sealed, bytes) else None
            if operation is not None and operation.name == STATEMENT:
                statement = decode_statement(operation.payload)
                if isinstance(statement, Found) and family_id(entry.header.device, statement.nonce) == family.id:
                    return True
        return False

    def _known(self, collection: Collection, feed_number: int, entry: Entry) -> bool:
        """Whether this very entry is here, or so old that it was pruned."""
        stored = self._workspace.records.get(layout.entry(feed_number, entry.header.seq))
        return stored is None or decode_header(stored[72:]).hash == entry.header.hash

    def _proven_prefix(self, entries: list[Entry], head: bytes | None) -> list[Entry]:
        for end in range(len(entries) - 1, 0, -1):
            try:
                verify_run(entries[:end], head)
            except PeerError:
                continue
            return entries[:end]
        return []

    def _broken(self, collection: Collection, entry: Entry, floor: int, error: BrokenChain) -> None:
        """A chain that does not continue ours: forged, or the other branch of a fork whose beginning we lack."""
        try:
            verify_entry(entry)
        except PeerError as worse:
            self._reject(entry, worse)
            return
        self.report.refusals.append(error)
        self.report.ask.append((entry.header.device, entry.header.incarnation, floor))

    # One entry

    def _entry(self, collection: Collection, entry: Entry) -> bool:
        """Apply, hold or reject one proven entry. True when it was applied."""
        try:
            self._check_force(collection, entry.header)
            self._apply(collection, entry)
        except NotYet as reason:
            self._workspace.revert()
            self._hold(collection, entry, reason)
            return False
        except PeerError as error:
            self._workspace.revert()
            self._reject(entry, error)
            return False
        return True

    def _check_force(self, collection: Collection, header: Header) -> None:
        workspace = self._workspace
        family = workspace.core.directory.family
        feed = workspace.feed(collection, header.device, header.incarnation)
        limit = family.limit(header.device, collection.tag, header.incarnation) if family.members else None
        if limit is not None and header.seq > max(limit, feed.endorsed):
            raise NotYet("force", "An entry lies beyond its author's revocation.")
        unmet = self._unmet(collection, header)
        for dep in header.deps:
            self._endorse(collection, dep)
        if feed.seq < header.seq - 1:
            raise NotYet("predecessor", "An entry waits for its predecessor.")
        if unmet:
            head = unmet[0]
            what = "An entry waits for one that it depends on."
            raise NotYet("dependency", what, thing=head.device + head.incarnation, upto=head.seq)

    def _unmet(self, collection: Collection, header: Header) -> list[Head]:
        """The dependencies of an entry that are neither in force here nor known to be void."""
        workspace = self._workspace
        heads = workspace.heads(collection)
        unmet = []
        for dep in header.deps:
            writer = (dep.device, dep.incarnation)
            here = heads.get(writer)
            if here != dep:
                feed = None if here is None else workspace.feed(collection, *writer)
                if not is_met(workspace.records, feed, dep):
                    unmet.append(dep)
        return unmet

    def _endorse(self, collection: Collection, dep: Head) -> None:
        """An entry in force depends on `dep`, so that is in force whatever became of its author."""
        workspace = self._workspace
        if workspace.core.directory.family.limit(dep.device, collection.tag, dep.incarnation) is None:
            return
        if is_void(workspace.records, dep.hash):
            return  # it speaks for a branch that is not in force, and not for the other
        feed = workspace.feed(collection, dep.device, dep.incarnation)
        if dep.seq > feed.endorsed:
            feed.endorsed = dep.seq
            workspace.feed_changed(collection, dep.device, dep.incarnation)
            self._holds.wake_force()

    def _apply(self, collection: Collection, entry: Entry) -> None:
        workspace, core, header = self._workspace, self._workspace.core, entry.header
        space = core.directory.spaces[collection.space]
        key = space.keys.get(header.key_id)
        if key is None:
            raise NotYet("key", "The key an entry is sealed under is not here yet.")
        member = core.directory.family.members.get(header.device)
        trust = "full" if member is None else member.trust  # None: it founds the family, see _founds
        client, writer = self._identity(header)
        kept: list[tuple[int, OpenDocument]] = []
        graves: list[tuple[int, bytes, int]] = []
        gaps: list[tuple[int, bytes, int]] = []
        plain: list[int] = []
        burials: list[tuple[OpenDocument, Operation]] = []
        stated = False
        for index, sealed in enumerate(entry.items):
            if not isinstance(sealed, bytes):
                document_key, life = self._check_erased(space, header, index, sealed)
                graves.append((index, document_key, life))
                if not life or life > workspace.open_key(collection, document_key).dead:
                    gaps.append((index, document_key, life))
                continue
            operation = open_item(header, index, sealed, key)
            if operation.name == UPDATE:
                if operation.life < 1:
                    raise Malformed("An item names a life that no document has.")
                opened = workspace.open(collection, _public_id(operation))
                if self._mark(space, header, index, opened.key, operation.life) != header.items[index].mark:
                    raise NotAllowed("An item's mark names another document than the item.")
                self._authorise(UPDATE, collection, trust, is_creator=False)
                if workspace.merge(opened, operation.life, operation.payload, header, client, writer):
                    kept.append((index, opened))
                else:
                    graves.append((index, opened.key, operation.life))
            elif operation.name == FORGET:
                opened = workspace.open(collection, _public_id(operation))
                if operation.life > opened.dead + 1:
                    what = "A forget names a life that has not begun."
                    raise NotYet("life", what, thing=opened.key, upto=operation.life - 1)
                if forget.counts(workspace, opened, operation.life, header.device, trust, self._source):
                    burials.append((opened, operation))
                plain.append(index)
            elif operation.name == STATEMENT:
                if collection != core.directory.directory:
                    raise NotAllowed("A trust statement lies outside the directory.")
                decode_statement(operation.payload)
                stated = True
                plain.append(index)
            else:
                raise NotYet("operation", "An entry holds an operation this release does not know.")
        feed, at = workspace.append(collection, entry)
        for index, opened in kept:
            assert opened.record is not None
            sealed = entry.items[index]
            assert isinstance(sealed, bytes)
            slot = opened.record.slot
            workspace.keep_item(feed.number, feed.seq, index, slot, sealed, workspace.life_key(opened))
            opened.operations.append((feed.number, feed.seq, index, at))
        for index in plain:
            sealed = entry.items[index]
            assert isinstance(sealed, bytes)
            workspace.keep_item(feed.number, feed.seq, index, 0, sealed)
        for index, document_key, life in graves:
            if life:
                workspace.bury_item(feed.number, feed.seq, index, document_key, life)
        for index, document_key, life in gaps:
            workspace.open_gap((feed.number, feed.seq, index), collection, document_key, life)
        for named in header.erase if workspace.gaps else ():
            their = workspace.feed(collection, named.device, named.incarnation)
            closed = workspace.close_gap(layout.gap(their.number, named.seq, named.index))
            if closed is not None:
                self._holds.explained(collection, closed)
        for _, opened in kept:
            self._holds.wrote(opened, client)
        for opened, operation in burials:
            undo_ms = self._config.undo_window_s * 1000
            forget.bury(workspace, opened, operation, header.hlc, undo_ms, (feed.number, feed.seq))
            self._holds.ended(opened)
        workspace.observe(header.hlc)
        workspace.settle()
        self.report.applied += 1
        self.report.heads.setdefault(collection.tag, []).append(header.head)
        if header.device == core.identity.device and header.incarnation == core.incarnation:
            self.report.own_feed = True
        for dep in header.deps:
            # What a device builds on, it holds: it had applied that before it signed this.
            if is_void(workspace.records, dep.hash):
                self._branches.carried(dep)
                continue
            if header.device in self._doubted:
                continue
            place = (header.device, collection, dep.device, dep.incarnation)
            if place not in self._heard or self._heard[place].seq < dep.seq:
                self._heard[place] = HeldHead(*dep, lacking=dep.seq if header.lacks else 0)
        self._holds.applied(collection, header)
        if stated:
            if statements.reload(workspace):
                self.report.revoked = True
                self._holds.wake_all()
            self._holds.wake_members()

    def _check_erased(self, space: Space, header: Header, index: int, erased: Erased | None) -> tuple[bytes, int]:
        """(document key, life) an erased item belonged to, zeros where the giver could not tell.

        Raises:
            Malformed: it cannot have belonged there, or is of a kind that is never erased.
        """
        mark = header.items[index].mark
        if mark == NO_MARK:
            raise Malformed("An item that belongs to no document came erased.")
        if erased is None:
            return bytes(ids.DOCUMENT_KEY_BYTES), 0
        if self._mark(space, header, index, *erased) != mark:
            raise Malformed("An erased item did not belong to the document it is said to have belonged to.")
        return erased

    @staticmethod
    def _mark(space: Space, header: Header, index: int, document_key: bytes, life: int) -> bytes:
        return item_mark(space.tag_key, document_key, life, header.device, header.incarnation, header.seq, index)

    def _fill(self, collection: Collection, feed_number: int, entry: Entry) -> None:
        """A second copy of an applied entry may hold an item that came erased the first time."""
        workspace, core, header = self._workspace, self._workspace.core, entry.header
        gaps = [
            index for index in range(len(entry.items)) if layout.gap(feed_number, header.seq, index) in workspace.gaps
        ]
        key = core.directory.spaces[collection.space].keys.get(header.key_id)
        stored = workspace.records.get(layout.entry(feed_number, header.seq))
        if not gaps or key is None or stored is None:
            return
        client, writer = self._identity(header)
        for index in gaps:
            sealed = entry.items[index]
            place = layout.gap(feed_number, header.seq, index)
            gap = workspace.gaps[place]
            if not isinstance(sealed, bytes):
                continue
            try:
                check_items(entry)
                operation = open_item(header, index, sealed, key)
                opened = workspace.open(collection, _public_id(operation))
                mark = self._mark(core.directory.spaces[collection.space], header, index, opened.key, operation.life)
                if operation.name != UPDATE or mark != header.items[index].mark:
                    raise NotAllowed("An item's mark names another document than the item.")
                workspace.close_gap(place)
                kept = workspace.merge(
                    opened, operation.life, operation.payload, header, client, writer, filling=True
                )
            except PeerError:
                workspace.revert()
                workspace.open_gap((feed_number, header.seq, index), collection, *gap[1:])
                continue
            if kept and opened.record is not None:
                workspace.keep_item(feed_number, header.seq, index, opened.record.slot, sealed)
                opened.operations.append((feed_number, header.seq, index, int.from_bytes(stored[:8], "big")))
            workspace.settle()
            self._holds.came(opened)

    def _authorise(self, operation: str, collection: Collection, trust: str, *, is_creator: bool) -> None:
        if not may(operation, collection.kind, trust, is_creator=is_creator):
            raise NotAllowed(f"A {trust} device may not {operation} there.")

    def _identity(self, header: Header) -> tuple[int, str]:
        name = (header.device, header.incarnation)
        found = self._identities.get(name)
        if found is None:
            found = self._identities[name] = (ids.client_id(*name), ids.writer(*name))
        return found

    # Holding and rejecting

    def _hold(self, collection: Collection, entry: Entry, reason: NotYet) -> None:
        self._holds.add(collection, entry, reason, self._source)
        self.report.held += 1
        if reason.missing in ("predecessor", "dependency"):
            heads = self._workspace.heads(collection)
            for head in missing(entry.header, heads):
                known = heads.get((head.device, head.incarnation))
                self.report.ask.append((head.device, head.incarnation, (known.seq if known else 0) + 1))
            for dep in self._unmet(collection, entry.header):
                feed = self._workspace.feed(collection, dep.device, dep.incarnation)
                if feed.seq >= dep.seq:  # another branch: its beginning is needed, which comes with its heir as well
                    self.report.ask.append((dep.device, dep.incarnation, feed.floor))
                if feed.seq >= dep.seq or feed.fork:
                    self.report.ask.append((entry.header.device, entry.header.incarnation, entry.header.seq))

    def _hold_all(self, collection: Collection, entries: Sequence[Entry], reason: NotYet) -> None:
        for entry in entries:
            self._hold(collection, entry, reason)

    def _reject(self, entry: Entry, error: PeerError) -> None:
        """Keep a rejected entry as evidence and count it; nothing else changes."""
        self.report.rejected += 1
        self.report.refusals.append(error)
        raw = encode_entry(entry)
        if len(raw) > MAX_EVIDENCE_BYTES:
            raw = encode_entry(Entry(entry.header, entry.signature, (None,) * len(entry.items)))
        self.evidence("rejected", raw, error.code)

    def evidence(self, what: str, raw: bytes, detail: str) -> None:
        workspace = self._workspace
        workspace.counters.evidence += 1
        number = workspace.counters.evidence
        if len(raw) <= 2 * MAX_EVIDENCE_BYTES:  # a proof of a fork is two headers
            workspace.records.put_packed(layout.evidence(number), [what, detail, self._source, workspace.now_ms, raw])
        if number > MAX_EVIDENCE:
            workspace.records.delete(layout.evidence(number - MAX_EVIDENCE))

    def _retry(self) -> None:
        """Look again at what was waiting for what has come; each success may free more."""
        while ready := self._holds.ready():
            for collection, raw in ready:
                before = self.report.applied
                self._run(collection, (decode_entry(raw),))
                if self.report.applied > before:
                    self.report.held = max(0, self.report.held - 1)

    # Forks

    def _fork(self, collection: Collection, entry: Entry) -> bool:
        """Two entries for one place. True when the new one is in force, the old branch having been voided."""
        workspace, header = self._workspace, entry.header
        feed = workspace.feed(collection, header.device, header.incarnation)
        try:
            verify_entry(entry)
        except (BadSignature, Malformed) as error:
            self._reject(entry, error)
            return False
        stored = workspace.records.get(layout.entry(feed.number, header.seq))
        assert stored is not None
        ours = decode_header(stored[72:])
        if header.prev != ours.prev:
            # The branches part earlier: only the two entries there tell which is in force.
            self._broken(collection, entry, feed.floor, BrokenChain("An entry continues another branch of its feed."))
            return False
        return self._branches.meet(collection, entry, Entry(ours, stored[8:72], (None,) * len(ours.items)))

    def withdraw(self, collection: Collection, incarnation: bytes) -> None:
        """Take out of force, to be written again, what this device wrote as `incarnation` and nobody else holds."""
        workspace = self._workspace
        feed = workspace.feed(collection, workspace.core.identity.device, incarnation)
        known = receipts.held_elsewhere(workspace.records, workspace.core.identity.device, feed.number)
        stored = workspace.records.get(layout.entry(feed.number, max(known + 1, feed.floor)))
        if stored is not None:
            self._branches.void(collection, decode_header(stored[72:]), own=True, alone=True)


def _public_id(operation: Operation) -> str:
    """The id of the document an operation is about.

    Raises:
        Malformed: it is none.
    """
    try:
        return ids.check_public_id(operation.document)
    except InvalidValue:
        raise Malformed("An operation names its document by something that is no id.") from None
