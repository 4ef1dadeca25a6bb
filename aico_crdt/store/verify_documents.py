"""Verify, second half: documents, their states, rows, index keys, tombstones and owed erasures."""

from __future__ import annotations

from aico_crdt.crdt import Document
from aico_crdt.errors import Damaged
from aico_crdt.store import forget, layout, refold, rows, states
from aico_crdt.store.kind import Row
from aico_crdt.store.records import Collection, DocumentRecord, FeedRecord, unpack
from aico_crdt.store.verify_report import Scope


def check_documents(scope: Scope) -> None:
    report = scope.report
    slots: set[int] = set()
    indexed = stubs = 0
    ended = False
    forked = _forked(scope)
    for count, (key, value) in enumerate(scope.records.scan(b"D")):
        scope.step("documents", count)
        report.count("documents")
        where = key[1:].hex()
        with report.guard("document", where):
            record = DocumentRecord.unpack(value)
            collection = scope.collections.get(int.from_bytes(key[1:3], "big"))
            if collection is None:
                continue  # of a kind this program does not know
            if record.slot in slots or not 0 < record.slot <= scope.counters.slot:
                report.add("key", where, "A life key is used twice or was never given out.")
            slots.add(record.slot)
            if not record.whole and record.state not in (layout.STUB, layout.HIDDEN):
                raise Damaged("A document is in no known state.")
            dead = forget.tombstone(scope.records, collection, key[3:])
            if record.state == layout.HIDDEN:
                report.count("forgotten")
                if dead is None or dead[0] < record.life:
                    raise Damaged("A hidden life has no tombstone.")
                continue
            if (0 if dead is None else dead[0]) != record.life - 1:
                raise Damaged("A living document does not follow its last tombstone.")
            if record.state == layout.STUB:
                stubs += 1
                if scope.records.get(layout.wanted(collection.number, record.stamp, key[3:])) is None:
                    raise Damaged("The body of a stub is not asked for.")
            try:
                indexed += _check_row(scope, collection, key[3:], record)
                if record.whole:
                    _check_whole(scope, collection, key[3:], record, forked=collection.number in forked)
            except Damaged:
                if not scope.records.ended_since(collection.number, key[3:], record.slot):
                    raise
                ended = True
    _orphans(scope, slots)
    _indexes(scope, None if ended else indexed, stubs)
    _operations(scope)
    _owed(scope, slots)


def _forked(scope: Scope) -> set[int]:
    found = set()
    for key, value in scope.records.scan(b"F"):
        if FeedRecord.unpack(value).fork:
            found.add(int.from_bytes(key[1:3], "big"))
    return found


def _check_row(scope: Scope, collection: Collection, key: bytes, record: DocumentRecord) -> int:
    """The row opens and is found under exactly its index keys; how many."""
    core = scope.core
    row = rows.read(core, scope.records, collection, key)
    if row is None or row.stub:
        if record.whole:
            raise Damaged("A document's row is missing.")
        return 0
    if core.directory.spaces[collection.space].document_key(collection.kind, row.id) != key:
        raise Damaged("A row lies under another document's key.")
    keys = rows.index_keys(core, collection, key, row.fields, row.born)
    for index in keys:
        if scope.records.get(index) is None:
            scope.report.add("index", index.hex(), "A row is missing from an index.")
    return len(keys)


def _check_whole(scope: Scope, collection: Collection, key: bytes, record: DocumentRecord, *, forked: bool) -> None:
    core = scope.core
    kind = core.kinds[collection.kind]
    state = states.read(core, scope.records, record)
    document = Document.load(state, core.client, core.writer, derived=kind.derived)
    if document.content_hash(kind.version) != record.state_hash:
        raise Damaged("A document's state is not the one its record names.")
    stamp = max((slot.hlc for slot in document.slots()), default=record.stamp)
    if stamp != record.stamp:
        raise Damaged("A document's newest stamp is not the one its record names.")
    row = rows.read(core, scope.records, collection, key)
    assert row is not None
    folded = rows.fold(kind, row.id, document)
    if rows.pack_row(row.id, folded, rows.born(document.slots())) != _packed(row):
        raise Damaged("A document's row is not what its state folds to.")
    operations = next(scope.records.scan_raw(layout.document(b"O", collection.number, key)), None)
    if record.base == layout.BASE_IS_STATE and operations is not None:
        raise Damaged("A document's base is said to be its state, but entries follow it.")
    refold.base(core, scope.records, record)
    if scope.refold:
        again, document_id, lost = refold.refold(core, scope.records, collection, key, record)
        scope.report.count("refolded")
        if again.content_hash(kind.version) != record.state_hash or (lost and not forked):
            raise Damaged("A document's state is not what its entries fold to.")
        if document_id and document_id != row.id:
            raise Damaged("A document's entries name another document.")


def _packed(row: Row) -> bytes:
    from aico_crdt.store.kind import Folded

    return rows.pack_row(row.id, Folded(row.fields, row.conflicts), row.born)


def _orphans(scope: Scope, slots: set[int]) -> None:
    """Nothing is left of lives that are not here."""
    for letter in (b"S", b"R", b"B", b"C"):
        for key, _ in scope.records.scan_raw(letter):
            if int.from_bytes(key[1:9], "big") not in slots:
                scope.report.add("document", key[1:].hex(), "Something is left of a document that is not here.")


def _indexes(scope: Scope, indexed: int | None, stubs: int) -> None:
    """As many as rows give. None: a row was forgotten while all were looked at, and cannot be asked any more."""
    present = 0
    for key, _ in scope.records.scan_raw(b"X"):
        present += int.from_bytes(key[1:3], "big") in scope.collections
    scope.report.count("index entries", present)
    if indexed is not None and present != indexed:
        scope.report.add("index", "X", f"Rows give {indexed} index entries; {present} are there.")
    wanted = 0
    for key, _ in scope.records.scan_raw(b"Y"):
        wanted += int.from_bytes(key[1:3], "big") in scope.collections
    scope.report.count("stubs", stubs)
    if wanted != stubs:
        scope.report.add("document", "Y", f"{wanted} bodies are asked for; there are {stubs} stubs.")


def _operations(scope: Scope) -> None:
    """What documents are made of is there."""
    for key, value in scope.records.scan(b"O"):
        where = key[1:].hex()
        with scope.report.guard("document", where):
            feed_number, seq, index = unpack(layout.ITEM_AT, value, "operation")
            document = scope.records.get(b"D" + key[1:19])
            item = scope.records.get(layout.item(feed_number, seq, index))
            if document is None or item is None:
                raise Damaged("A document is made of an item that is not here, or an item of no document.")
            if int.from_bytes(item[:8], "big") != DocumentRecord.unpack(document).slot:
                raise Damaged("An item is sealed under another life than its document's.")
            entry = scope.records.get(layout.entry(feed_number, seq))
            if entry is None or entry[:8] != key[19:27]:
                raise Damaged("An item of a document did not arrive when its record says.")


def _owed(scope: Scope, slots: set[int]) -> None:
    """Erasures that are owed name lives that are dead, and every hidden life is owed."""
    owed: set[bytes] = set()
    for key, value in scope.records.scan(b"U"):
        with scope.report.guard("key", key.hex()):
            slot, _, _ = unpack(forget.OWED, value, "erasure")
            number, document, life = int.from_bytes(key[9:11], "big"), key[11:27], int.from_bytes(key[27:], "big")
            scope.report.count("owed")
            if not 0 < slot <= scope.counters.slot:
                raise Damaged("An erasure names a life key that was never given out.")
            collection = scope.collections.get(number)
            if collection is None:
                continue
            dead = forget.tombstone(scope.records, collection, document)
            if dead is None or dead[0] < life:
                raise Damaged("An erasure is owed for a life that was not forgotten.")
            stored = scope.records.get(layout.document(b"D", number, document))
            if stored is not None:
                record = DocumentRecord.unpack(stored)
                if record.slot == slot and record.state != layout.HIDDEN:
                    raise Damaged("The key of a living document is to be destroyed.")
                if record.slot == slot:
                    owed.add(key[9:27])
    for key, value in scope.records.scan(b"D"):
        with scope.report.guard("key", key.hex()):
            if DocumentRecord.unpack(value).state == layout.HIDDEN and key[1:] not in owed:
                raise Damaged("A forgotten life is not going to be erased.")
