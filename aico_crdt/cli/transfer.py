"""Export to and import from files people can read: JSON lines of our own, ChatGPT's conversations.json.

An export holds what a person put in: conversations, messages, memories, recorded emotions. Not in it: the family's
directory, and what must never leave the device, unless that is asked for. An import reads and checks the whole file
before the first write; a record that is here, or was forgotten here, is passed over and counted, so importing twice
changes nothing.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import click

from aico_crdt import ids
from aico_crdt.cli import naming, output
from aico_crdt.cli.command import InputFile, as_json, command
from aico_crdt.cli.opening import App, check_target, private_file
from aico_crdt.companion import fields, imports
from aico_crdt.companion.emotions import KIND as EMOTION
from aico_crdt.companion.store import Store
from aico_crdt.errors import InvalidValue, Malformed
from aico_crdt.store import Row, Transaction, layout
from aico_crdt.store.directory import DIRECTORY, LOCAL
from aico_crdt.store.forget import tombstone
from aico_crdt.store.records import DocumentRecord

BATCH: Final = 500
"""Records a transaction: one sync for many, and an interruption loses little."""
MAX_CHATGPT_BYTES: Final = 1 << 30
HEAD_BYTES: Final = 64 << 10
KINDS: Final = ("conversation", "message", "memory", "emotion")
_KNOWN: Final[Mapping[str, tuple[str, str, Mapping[str, fields.Field]]]] = {
    "conversation": ("conversation", "conversation", fields.CONVERSATION),
    "message": ("conversation", "message", fields.MESSAGE),
    "memory": ("memory", "memory", fields.MEMORY),
    "emotion": (EMOTION, "reading", fields.READING),
}
"""Record kind → the store's kind, its name in errors, its fields."""


# Export


@command("export", short_help="Write what is stored as JSON lines.")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS), help="Only these; may be repeated.")
@click.option("--include-local", is_flag=True, help="Also what never leaves this device by itself.")
@click.option("--force", is_flag=True, help="Overwrite the file if there is one.")
def export(app: App, file: Path | None, kinds: tuple[str, ...], include_local: bool, force: bool) -> None:
    """Write what is stored as JSON lines, to FILE or stdout. In clear: keep it as you would a diary.

    Of a field in conflict the value that readers see is written.
    """
    app.kept = "No file was written."
    if file is not None:
        check_target(file)
    if file is not None and file.exists() and not force:
        raise InvalidValue(f"There already is a file {file}.", "Name another, or add --force.")
    with app.look() as store:
        wanted = kinds or KINDS
        total = sum(1 for _ in _exported(store, wanted, include_local))
        if file is None:
            _write_export(sys.stdout, store, wanted, include_local, total)
            return
        with private_file(file, "w") as stream:
            written = _write_export(stream, store, wanted, include_local, total)
    counts = output.counts(written)
    output.say(f"Wrote {output.plural(total, 'record')} to {file}{f' ({counts})' if counts else ''}.")


def _write_export(stream: IO[str], store: Store, kinds: Sequence[str], include_local: bool, total: int) -> Counter[str]:
    written: Counter[str] = Counter()
    header = {"format": imports.FORMAT, "version": imports.VERSION, "created_at": output.when(store.now_ms())}
    stream.write(_line({**header, "records": total}) + "\n")
    with output.progress("Exporting", total) as told:
        for record in _exported(store, kinds, include_local):
            if written.total() == total:
                break  # written while we read: the header has promised what there was
            line = _line(record)
            if len(line.encode()) > imports.MAX_LINE_BYTES:
                raise InvalidValue(
                    f"The {record['kind']} {record.get('id')} is longer than a line of an export may be.",
                    "Leave its kind out with --kind, or copy the store with `aico-crdt backup`.",
                )
            stream.write(line + "\n")
            written[record["kind"]] += 1
            told(written.total(), total)
    if written.total() < total:
        raise InvalidValue("Records were forgotten while they were exported.", "Export again.")
    return written


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"))


def _exported(store: Store, kinds: Sequence[str], include_local: bool) -> Iterator[dict[str, Any]]:
    """The records, whatever a line refers to above it."""
    for kind in KINDS:
        if kind not in kinds:
            continue
        rows = store.rows(_KNOWN[kind][0])
        for row in rows:
            if row.stub or (row.space == LOCAL and not include_local):
                continue
            if record_kind(row) == kind:
                yield _to_record(store, kind, row)


def record_kind(row: Row) -> str | None:
    """The kind of record a row is exported as; None for what is none (a register, a device's profile)."""
    if row.kind == "conversation":
        return "message" if "role" in row.fields else "conversation"
    if row.kind == EMOTION:
        return None if "register" in row.fields else "emotion"  # a register is computed from readings
    return row.kind if row.kind != DIRECTORY else None


def _to_record(store: Store, kind: str, row: Row) -> dict[str, Any]:
    values = dict(row.fields)
    record: dict[str, Any] = {"kind": kind, "id": row.id}
    if kind == "emotion" and "subject" in values:
        record["subject"] = values.pop("subject")
    record["device"] = naming.name_of_writer(store, row.device)
    record["fields"] = values
    return record


# Import


@dataclass(slots=True)
class Tally:
    """What became of an import's records."""

    format: str
    records: int = 0
    imported: Counter[str] = field(default_factory=Counter)
    here: int = 0
    forgotten: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)


@command("import", short_help="Read an export, ours or ChatGPT's.")
@click.argument("file", type=InputFile())
@as_json
def import_(app: App, file: Path, in_json: bool) -> None:
    """Read an export: JSON lines of `aico-crdt export`, or the conversations.json of a ChatGPT export.

    The whole file is checked before anything is written. What is here already is left as it is.
    """
    app.kept = "Nothing was written yet."
    with app.open() as store, naming_file(file):
        source = Source(file, lambda document_id: store.read("conversation", document_id) is not None)
        with output.progress("Checking") as told:
            total = source.check(told)
        tally = Tally(source.format, total)
        with output.progress("Importing", total) as told:
            for batch in source.batches():
                import_batch(store, batch, tally)
                done = tally.imported.total() + tally.here + tally.forgotten
                app.kept = f"{done:,} of {total:,} records are done and kept; import the file again for the rest."
                told(done, total)
        tally.left_out = source.left_out
    if in_json:
        output.dump(
            "import",
            {
                "format": tally.format,
                "records": tally.records,
                "imported": dict(sorted(tally.imported.items())),
                "here_before": tally.here,
                "forgotten_before": tally.forgotten,
                "left_out": dict(tally.left_out),
            },
        )
        return
    counts = output.counts(tally.imported)
    output.say(f"Imported {output.plural(tally.imported.total(), 'record')}{f' ({counts})' if counts else ''}.")
    if tally.here:
        output.say(f"Here before, and left as it is: {output.plural(tally.here, 'record')}.")
    if tally.forgotten:
        output.say(f"Forgotten here, and left so: {output.plural(tally.forgotten, 'record')}.")
    for name, count in tally.left_out.items():
        if count:
            output.say(f"Left out: {count:,} {name.replace('_', ' ')}.")


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """What is wrong with an export is told with the file's name."""
    try:
        yield
    except Malformed as error:
        raise type(error)(f"{path}: {error.what}", error.cure) from error


class Source:
    """A file of records. Our own format is read twice, so its size does not matter; ChatGPT's is one JSON value."""

    def __init__(self, path: Path, has_conversation: Callable[[str], bool]) -> None:
        """`has_conversation` tells which ids a message may name that stand nowhere in the file above it."""
        self._path = path
        self._has_conversation = has_conversation
        self._kept: list[imports.Record] = []
        self.left_out: Mapping[str, int] = {}
        with path.open("rb") as file:
            self.format = imports.detect(file.read(HEAD_BYTES))
        status = path.stat()
        self._read_at = (status.st_mtime_ns, status.st_size)

    def check(self, told: output.Bar) -> int:
        """Read and check every record. Returns how many there are.

        Raises:
            Malformed, TooLarge, UnknownVersion: the first defect, with the place of the record.
        """
        count = 0
        conversations: set[str] = set()
        for number, record in enumerate(self._records(), 1):
            _check(self._has_conversation, number, record, conversations)
            count = number
            if number % BATCH == 0:
                told(number, None)
        return count

    def batches(self) -> Iterator[list[imports.Record]]:
        batch = []
        for record in self._records():
            batch.append(record)
            if len(batch) == BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def _records(self) -> Iterator[imports.Record]:
        if self.format == "chatgpt":
            if not self._kept:
                with self._path.open("rb") as file:
                    self._kept = list(imports.read_chatgpt(file, MAX_CHATGPT_BYTES))
                report = self._kept.pop()
                names = ("other_branches", "hidden", "without_text", "parts")
                self.left_out = {name: report.fields[name] for name in names}
            yield from self._kept
            return
        status = self._path.stat()
        if (status.st_mtime_ns, status.st_size) != self._read_at:
            raise Malformed("It was changed while it was read.", "Import it again.")
        with self._path.open("rb") as file:
            yield from imports.read_jsonl(imports.lines(file))


def _check(
    has_conversation: Callable[[str], bool], number: int, record: imports.Record, conversations: set[str]
) -> None:
    where = f"Record {number}"
    known = _KNOWN.get(record.kind)
    if known is None:
        raise Malformed(f"{where} is of a kind that cannot be imported.", f"Kinds: {', '.join(KINDS)}.")
    try:
        if record.id is not None:
            ids.check_public_id(record.id)
        values, _ = _split(record)
        fields.check(known[1], known[2], values, whole=True)
        if record.kind == "emotion" and not isinstance(record.fields.get("subject"), str):
            raise InvalidValue("A reading names no subject.")
    except InvalidValue as error:
        raise Malformed(f"{where}: {error.what}", error.cure) from None
    if record.kind == "conversation" and record.id is not None:
        conversations.add(record.id)
    if record.kind == "message":
        head = record.fields["conversation_id"]
        if head not in conversations and not has_conversation(head):
            raise Malformed(
                f"{where} is of a conversation that is neither above it nor in the store.",
                "Export its conversation too.",
            )


def _split(record: imports.Record) -> tuple[dict[str, Any], str]:
    """The fields without what is stored in another way: a reading's subject, a mergeable text."""
    values = dict(record.fields)
    if record.kind == "emotion":
        values.pop("subject", None)
    text = values.pop("body", "") if isinstance(values.get("body"), str) else ""
    return values, text


def import_batch(store: Store, batch: Sequence[imports.Record], tally: Tally) -> None:
    """Write checked records with one commit; what is here, or was forgotten here, is passed over. Adds to `tally`."""
    named = [(record, _id_of(store, record)) for record in batch]
    standing = _standing(store, named)
    fresh = []
    for (record, document_id), state in zip(named, standing, strict=True):
        if state == "here":
            tally.here += 1
        elif state == "forgotten":
            tally.forgotten += 1
        else:
            fresh.append((record, document_id))
    if not fresh:
        return
    written: Counter[str] = Counter()
    again = 0
    with store.transaction() as transaction:
        for record, document_id in fresh:
            if transaction.read(_KNOWN[record.kind][0], document_id) is not None:
                again += 1  # twice in one file
                continue
            _import_one(store, transaction, record, document_id)
            written[record.kind] += 1
    tally.imported += written
    tally.here += again


def _standing(store: Store, named: Sequence[tuple[imports.Record, str]]) -> list[str]:
    """For each record ``here``, ``forgotten`` or empty."""
    found = []
    with store.reading() as (core, records):
        for record, document_id in named:
            states = set()
            for collection in core.directory.of_kind(_KNOWN[record.kind][0]):
                key = core.directory.spaces[collection.space].document_key(collection.kind, document_id)
                stored = records.get(layout.document(b"D", collection.number, key))
                if stored is not None and DocumentRecord.unpack(stored).state != layout.HIDDEN:
                    states.add("here")
                elif stored is not None or tombstone(records, collection, key) is not None:
                    states.add("forgotten")
            found.append(min(states, key=("here", "forgotten").index, default=""))
    return found


def _id_of(store: Store, record: imports.Record) -> str:
    """The record's own id; else one derived from all it says, so that it is one when it is imported twice."""
    if record.id is not None:
        return record.id
    content = json.dumps([record.kind, record.device, record.fields], sort_keys=True, ensure_ascii=False)
    return ids.derived_id(store.directory.spaces[store.space_for({})].tag_key, "import", content)


def _import_one(store: Store, transaction: Transaction, record: imports.Record, document_id: str) -> None:
    values, text = _split(record)
    kind, name, known = _KNOWN[record.kind]
    checked = fields.check(name, known, values, whole=True)
    if record.kind == "message":
        head = transaction.read(kind, checked["conversation_id"])
        if head is None:
            raise Malformed("A message's conversation was forgotten meanwhile.", "Import the file again.")
        space = head.space
    elif record.kind == "emotion":
        space = store.space_for({})
        subject = record.fields["subject"]
        _feel(store, transaction, subject, checked)
        checked = {"subject": subject, **checked}
    else:
        space = store.space_for(checked)
    transaction.create(kind, checked, id=document_id, space=space)
    if text:
        transaction.insert_text(kind, document_id, 0, text)


def _feel(store: Store, transaction: Transaction, subject: str, values: Mapping[str, Any]) -> None:
    """Let a reading count in its subject's present state as well, as when it was recorded."""
    store.emotions.record(subject, history=False, within=transaction, **values)


COMMANDS: Final[dict[str, click.Command]] = {"export": export, "import": import_}
