"""Why a document says what it says: who wrote each field, when, on which device, proven how, and who has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from aico_crdt import clock
from aico_crdt.cli import naming, output, reading
from aico_crdt.cli.command import as_json, command
from aico_crdt.cli.opening import App
from aico_crdt.crdt.document import BORN
from aico_crdt.store import DocumentStore


@dataclass(frozen=True, slots=True)
class Cause:
    """One live write behind a field: what it wrote, and whether readers see that."""

    field: str
    value: Any
    seen: bool
    wrote: reading.Wrote


def causes(found: reading.Anatomy) -> list[Cause]:
    """Every live write, field by field in the order of names, newest first.

    A field of the record as born counts until an edit has replaced it.
    """
    fields = found.row.fields
    return [
        Cause(name, value, name not in fields or _shows(fields[name], value, wrote), wrote)
        for name in sorted({name for wrote in found.wrote for name in _names(wrote)} | fields.keys())
        for value, wrote in _writes(found.wrote, name)
    ]


def _names(wrote: reading.Wrote) -> Iterator[str]:
    if wrote.slot.name == BORN:
        yield from wrote.slot.value
    else:
        yield wrote.slot.field


def _writes(wrote: Sequence[reading.Wrote], name: str) -> list[tuple[Any, reading.Wrote]]:
    edits = [one for one in wrote if one.slot.field == name]
    births = [one for one in wrote if one.slot.name == BORN and name in one.slot.value]
    elements = any(one.slot.element is not None for one in edits)
    seen = {writer for one in edits for writer in one.slot.seen or ()}
    replaced = bool(edits) and not elements and any(one.slot.seen is None for one in edits)
    live = [one for one in births if not replaced and (elements or one.slot.writer not in seen)]
    found = [(_element(one), one) for one in edits] + [(one.slot.value[name], one) for one in live]
    return sorted(found, key=lambda item: -item[1].slot.hlc)


def _element(wrote: reading.Wrote) -> Any:
    element = wrote.slot.element
    if element is None:
        return wrote.slot.value
    return f"{'+' if wrote.slot.value else '-'}{element}"


def _shows(value: Any, written: Any, wrote: reading.Wrote) -> bool:
    """Whether what readers see of a field is what this write says."""
    return wrote.slot.element is not None or isinstance(value, list) or value == written


def proof(store: DocumentStore, wrote: reading.Wrote) -> str:
    """What stands behind one write, in words."""
    if wrote.entry is not None and wrote.verdict is not None:
        if wrote.verdict.good:
            return f"signed by {wrote.entry.device_name}, verified now"
        return f"NOT VALID: {wrote.verdict.problem}"
    if wrote.attested_by is not None:
        return f"attested by {naming.name_of(store, wrote.attested_by)}"
    return "its signed entry was pruned; it was verified when it came"


@command("why", short_help="Say who wrote each field, proven how.")
@click.argument("words", nargs=-1, required=True, metavar="[KIND] ID")
@as_json
def why(app: App, words: tuple[str, ...], in_json: bool) -> None:
    """Say of each field who wrote it, when, on which device; check the signature; say who has it.

    A field with several live writes is in conflict; * marks the value that readers see. Exit code 1 if a signature
    does not hold.
    """
    if len(words) > 2:
        raise click.UsageError("Name one document: its id, or its kind and its id.")
    with app.look() as store:
        named = naming.document(store, words[-1], words[0] if len(words) == 2 else None)
        found = reading.anatomy(store, named)
        listed = causes(found)
        if in_json:
            output.dump("why", _to_json(store, found, listed))
        else:
            _show(store, found, listed)
        valid = all(cause.wrote.verdict is None or cause.wrote.verdict.good for cause in listed)
    if not valid:
        raise click.exceptions.Exit(1)


def _show(store: DocumentStore, found: reading.Anatomy, listed: Sequence[Cause]) -> None:
    output.say(f"{naming.kind_of(found.row)} {found.row.id} ({found.row.space}, life {found.row.life})")
    output.say()
    several = {cause.field for cause in listed if cause.field in found.row.conflicts}
    rows = []
    for cause in listed:
        wrote = cause.wrote
        mark = ("* " if cause.seen else "  ") if cause.field in several else ""
        rows.append(
            (
                cause.field,
                mark + output.brief(cause.value, 60),
                naming.name_of_writer(store, wrote.slot.writer),
                output.stamp(wrote.slot.hlc),
                proof(store, wrote),
                wrote.entry.ref if wrote.entry is not None else "",
                _holders(store, wrote),
            )
        )
    output.table(("field", "value", "written by", "at", "proof", "entry", "who has it"), rows)
    for name in sorted(several):
        output.say(f"{name} is in conflict: {len(found.row.conflicts[name])} versions are open.")


def _holders(store: DocumentStore, wrote: reading.Wrote) -> str:
    has = ", ".join(["this device", *(naming.name_of(store, device) for device in wrote.on)])
    lacks = ", ".join(naming.name_of(store, device) for device in wrote.missing)
    return f"{has}; not yet {lacks}" if lacks else has


def _to_json(store: DocumentStore, found: reading.Anatomy, listed: Sequence[Cause]) -> dict[str, Any]:
    return {
        "kind": found.row.kind,
        "id": found.row.id,
        "space": found.row.space,
        "life": found.row.life,
        "fields": found.row.fields,
        "conflicts": sorted(found.row.conflicts),
        "writes": [
            {
                "field": cause.field,
                "value": cause.value,
                "seen": cause.seen,
                "writer": cause.wrote.slot.writer,
                "device_name": naming.name_of_writer(store, cause.wrote.slot.writer),
                "hlc": clock.to_text(cause.wrote.slot.hlc),
                "time_ms": clock.milliseconds(cause.wrote.slot.hlc),
                "entry": None if cause.wrote.entry is None else cause.wrote.entry.ref,
                "verified": None if cause.wrote.verdict is None else cause.wrote.verdict.good,
                "attested_by": cause.wrote.attested_by,
                "on": cause.wrote.on,
                "missing": cause.wrote.missing,
            }
            for cause in listed
        ],
    }


COMMANDS: Final[dict[str, click.Command]] = {"why": why}
