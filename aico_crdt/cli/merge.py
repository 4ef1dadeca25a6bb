"""Two stores brought together, or compared, without a network; and bundles, which carry one to the other.

`merge` is the sync protocol between two stores on one machine: nothing is believed that would not be believed over
a link. `diff` compares what readers see, document by document.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from aico_crdt.cli import naming, output, reading
from aico_crdt.cli.command import as_json, command
from aico_crdt.cli.inspect import conflicts_json
from aico_crdt.cli.opening import App, check_target
from aico_crdt.errors import InvalidValue, NoStore, WrongFamily, WrongKey
from aico_crdt.store import Commit, DocumentStore, Row, StoreReplica, bundle
from aico_crdt.store.directory import LOCAL
from aico_crdt.sync import Acknowledge, Ingest, IngestBodies, IngestManifest, IngestReport, converge

_PATH: Final = click.Path(path_type=Path)
LISTED: Final = 20


@dataclass(slots=True)
class Side:
    """What one store received: entries by (collection tag, author), counted as they are committed."""

    store: DocumentStore
    came: Counter[tuple[bytes, bytes]] = field(default_factory=Counter)

    def count(self, commit: Commit) -> None:
        for tag, heads in commit.received.items():
            self.came.update((tag, head.device) for head in heads)

    def came_json(self) -> list[dict[str, Any]]:
        collections = self.store.directory.collections
        return [
            {
                "space": collections[tag].space,
                "kind": collections[tag].kind,
                "device": device,
                "device_name": naming.name_of(self.store, device),
                "entries": count,
            }
            for (tag, device), count in sorted(self.came.items())
            if tag in collections
        ]


@contextmanager
def counting(store: DocumentStore) -> Iterator[Side]:
    """Count what the block brings into `store`."""
    side = Side(store)
    stop = store.on_commit(side.count)
    try:
        yield side
    finally:
        stop()


# merge


@command("merge", short_help="Bring two stores together, or a store and a bundle.")
@click.argument("a", type=_PATH)
@click.argument("b", type=_PATH)
@click.option("--key-a", type=_PATH, help="Key file of store A.  [default: found by the store's device]")
@click.option("--key-b", type=_PATH, help="Key file of store B.  [default: found by the store's device]")
@as_json
def merge(app: App, a: Path, b: Path, key_a: Path | None, key_b: Path | None, in_json: bool) -> None:
    """Bring two stores of one family together, or a store and a bundle.

    A is the directory of a store. If B is one too, both end with the same; if B is a bundle (see `aico-crdt bundle`),
    A takes what it holds. What came from where, and which conflicts are open, is printed. Doing it again changes
    nothing; interrupting it loses nothing.
    """
    app.kept = "What had arrived is kept; merge again for the rest."
    if b.is_file():
        _merge_bundle(app, a, b, key_a, in_json)
    else:
        _merge_stores(app, a, b, key_a, key_b, in_json)


def _merge_stores(app: App, a: Path, b: Path, key_a: Path | None, key_b: Path | None, in_json: bool) -> None:
    _refuse_swapped(a, b)
    _refuse_same(a, b)
    with ExitStack() as stack:
        first = _opened(stack, "a", a, app.open(a, key_a))
        second = _opened(stack, "b", b, app.open(b, key_b))
        _refuse_other_family(first, second)
        side_a = stack.enter_context(counting(first))
        side_b = stack.enter_context(counting(second))
        told = stack.enter_context(output.progress("Merging"))
        total = sum(len(heads) for heads in first.heads().values())
        found = converge(
            StoreReplica(first),
            StoreReplica(second),
            lambda effect: _carry_out(first, effect, second.device),
            lambda effect: _carry_out(second, effect, first.device),
            first.now_ms(),
            config=first.config,
            progress=lambda one, other: told(one.applied + other.applied, max(total, one.applied + other.applied)),
        )
        for store in (first, second):
            store.erase_due()  # what the other forgot for good
        hashes = {store: _shared_hash(store, other) for store, other in ((first, second), (second, first))}
        rows = reading.conflicts(first)
        equal = found.equal and hashes[first] == hashes[second]
        report = {
            "equal": equal,
            "a": _side_json(side_a, found.a.received_bytes, found.a.held, found.a.rejected, hashes[first]),
            "b": _side_json(side_b, found.b.received_bytes, found.b.held, found.b.rejected, hashes[second]),
            "rounds": found.rounds,
            "stopped": found.dropped or None,
            "conflicts": [
                {"kind": row.kind, "id": row.id, "conflicts": conflicts_json(first, row.conflicts)} for row in rows
            ],
        }
        if in_json:
            output.dump("merge", report)
        else:
            _show_side(f"{a} received from {b}", side_a, found.a.received_bytes, found.a.held, found.a.rejected)
            _show_side(f"{b} received from {a}", side_b, found.b.received_bytes, found.b.held, found.b.rejected)
            output.facts([("content of A", hashes[first].hex()), ("content of B", hashes[second].hex())])
            output.say("Both hold the same." if equal else f"They still differ. {found.dropped}".strip())
            show_conflicts(first, rows)
    if not equal:
        raise click.exceptions.Exit(1)


def _carry_out(
    store: DocumentStore, effect: Ingest | IngestManifest | IngestBodies | Acknowledge, peer: bytes
) -> IngestReport | None:
    """An effect of the meeting on one of the stores, durable when this returns."""
    replica = StoreReplica(store)
    match effect:
        case Ingest():
            return replica.ingest(effect.tag, effect.runs, peer)
        case IngestManifest():
            return replica.ingest_manifest(effect.tag, effect.raw, peer)
        case IngestBodies():
            return replica.ingest_bodies(effect.tag, effect.bodies, peer, effect.heads)
        case Acknowledge():
            replica.acknowledged(peer, effect.tag, effect.heads, effect.erased)
            return None


def _opened(stack: ExitStack, side: str, path: Path, opening: AbstractContextManager[DocumentStore]) -> DocumentStore:
    """Store A or B; what is wrong with it is told by the side's own options."""
    try:
        return stack.enter_context(opening)
    except NoStore:
        what = "store" if side == "a" else "store or bundle"
        raise NoStore(f"There is no {what} at {path}.", f"Check the path that is named as {side.upper()}.") from None
    except WrongKey as error:
        raise WrongKey(error.what, f"Name the key file of store {side.upper()} with --key-{side}.") from error


def _refuse_swapped(a: Path, b: Path) -> None:
    if a.is_file():
        raise InvalidValue(f"{a} is a file; A is the directory of a store.", f"Name the store first: {b} {a}")


def _refuse_same(a: Path, b: Path) -> None:
    if a.resolve() == b.resolve():
        raise InvalidValue("A and B are the same store.", "Name two.")


def _refuse_other_family(first: DocumentStore, second: DocumentStore) -> None:
    if first.directory.family.id != second.directory.family.id:
        raise WrongFamily(
            f"{second.path} belongs to family {second.directory.family.id.hex()}, {first.path} to "
            f"{first.directory.family.id.hex()}.",
            "Only stores of one family can be brought together; nothing was changed.",
        )


def _shared_hash(store: DocumentStore, other: DocumentStore) -> bytes:
    """The content hash over the spaces that both can read."""
    common = store.directory.spaces.keys() & other.directory.spaces.keys()
    return store.content_hash(spaces=sorted(common - {LOCAL}))


def _side_json(side: Side, received: int, held: int, rejected: int, content: bytes) -> dict[str, Any]:
    return {
        "path": str(side.store.path),
        "device": side.store.device,
        "received_entries": side.came.total(),
        "received_bytes": received,
        "held": held,
        "rejected": rejected,
        "received": side.came_json(),
        "content_hash": content,
    }


def _show_side(title: str, side: Side, received: int, held: int, rejected: int) -> None:
    output.say(f"{title}: {output.plural(side.came.total(), 'entry', 'entries')}, {output.size(received)}")
    rows = [(f"  {one['space']}/{one['kind']}", f"by {one['device_name']}", one["entries"]) for one in side.came_json()]
    if rows:
        output.table(("  collection", "author", "#entries"), rows)
    if held:
        output.say(f"  {held:,} wait for something that is not there yet")
    if rejected:
        output.say(f"  {rejected:,} were rejected; see `aico-crdt inspect store`")
    output.say()


def show_conflicts(store: DocumentStore, rows: list[Row]) -> None:
    """List open conflicts by document and field."""
    if not rows:
        output.say("No conflict is open.")
        return
    output.say(f"{output.plural(len(rows), 'document')} in conflict:")
    for row in rows[:LISTED]:
        for name, versions in sorted(row.conflicts.items()):
            writers = ", ".join(naming.name_of_writer(store, version.writer) for version in versions)
            output.say(f"  {naming.kind_of(row)} {row.id}: {name}, {len(versions)} versions (by {writers})")
    if len(rows) > LISTED:
        output.say(f"  … and {len(rows) - LISTED:,} more; see `aico-crdt inspect conflicts`.")


def _merge_bundle(app: App, a: Path, file: Path, key: Path | None, in_json: bool) -> None:
    _refuse_swapped(a, file)
    with ExitStack() as stack:
        store = _opened(stack, "a", a, app.open(a, key))
        side, told = stack.enter_context(counting(store)), stack.enter_context(output.progress("Merging"))
        taken = bundle.take_bundle(store, file, progress=told)
        store.erase_due()  # what was forgotten for good elsewhere
        rows = reading.conflicts(store)
        content = store.content_hash()
        contents = taken.contents
        behind = [f"{c.space}/{c.kind}" for c in taken.behind]
        if in_json:
            output.dump(
                "merge-bundle",
                {
                    "a": _side_json(side, contents.bytes, taken.held, taken.rejected, content),
                    "bundle": {
                        "path": str(file),
                        "device": contents.device,
                        "device_name": naming.name_of(store, contents.device),
                        "made_ms": contents.made_ms,
                        "entries": contents.entries,
                        "bodies": contents.bodies,
                        "unreadable_collections": contents.skipped,
                    },
                    "applied": taken.applied,
                    "duplicates": taken.duplicates,
                    "bodies": taken.bodies,
                    "bundle_lacks": behind,
                    "conflicts": [
                        {"kind": row.kind, "id": row.id, "conflicts": conflicts_json(store, row.conflicts)}
                        for row in rows
                    ],
                },
            )
            return
        who = naming.name_of(store, contents.device)
        output.say(f"{file} was written by {who} at {output.when(contents.made_ms)}.")
        _show_side(f"{a} received from it", side, contents.bytes, taken.held, taken.rejected)
        if taken.bodies:
            output.say(f"{output.plural(taken.bodies, 'document')} came whole, attested by {who}.")
        if contents.skipped:
            output.say(f"{output.plural(contents.skipped, 'collection')} in it cannot be read by this device.")
        output.facts([("content of A", content.hex())])
        if behind:
            output.say(f"The bundle lacks what A has in {', '.join(behind)}: carry one back with `aico-crdt bundle`.")
        show_conflicts(store, rows)


# bundle


@command("bundle", short_help="Write a file to carry to another device.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@as_json
def write(app: App, file: Path, in_json: bool) -> None:
    """Write what other devices may have into one file, sealed to the family.

    Carry it to another device and run there: aico-crdt merge STORE FILE
    """
    app.kept = "No file was written."
    check_target(file)
    with app.open() as store, output.progress("Bundling") as told:
        contents = bundle.write_bundle(store, file, progress=told)
    if in_json:
        fields = {"path": str(file), "bytes": contents.bytes, "entries": contents.entries, "bodies": contents.bodies}
        output.dump("bundle", {**fields, "collections": contents.collections, "made_ms": contents.made_ms})
        return
    entries = output.plural(contents.entries, "entry", "entries")
    output.say(f"Wrote {entries} of {output.plural(contents.collections, 'collection')} to {file}, "
               f"{output.size(contents.bytes)}, sealed to the family.")  # fmt: skip


# diff


@dataclass(frozen=True, slots=True)
class Difference:
    """One document that is not equal on both sides. `fields` differ, when it is on both; stubs are not compared."""

    kind: str
    id: str
    only: str
    fields: tuple[str, ...] = ()


@command("diff", short_help="Compare two stores, or a store and a bundle.")
@click.argument("a", type=_PATH)
@click.argument("b", type=_PATH)
@click.option("--key-a", type=_PATH, help="Key file of store A.  [default: found by the store's device]")
@click.option("--key-b", type=_PATH, help="Key file of store B.  [default: found by the store's device]")
@as_json
def diff(app: App, a: Path, b: Path, key_a: Path | None, key_b: Path | None, in_json: bool) -> None:
    """Compare two stores of one family, or a store and a bundle, document by document.

    Exit code 0 when they hold the same, 1 when they differ. The local space is not compared.
    """
    app.kept = "Nothing was changed."
    _refuse_swapped(a, b)
    _refuse_same(a, b)
    with ExitStack() as stack:
        first = _opened(stack, "a", a, app.look(a, key_a))
        if b.is_file():
            second: DocumentStore = stack.enter_context(bundle.unbundled(first, b))
        else:
            second = _opened(stack, "b", b, app.look(b, key_b))
        _refuse_other_family(first, second)
        common = sorted((first.directory.spaces.keys() & second.directory.spaces.keys()) - {LOCAL})
        with output.progress("Comparing"):
            found, equal = compare(first, second, common)
        hashes = (first.content_hash(spaces=common), second.content_hash(spaces=common))
    same = not found and hashes[0] == hashes[1]
    if in_json:
        output.dump(
            "diff",
            {
                "same": same,
                "equal_documents": equal,
                "spaces": common,
                "content_hash_a": hashes[0],
                "content_hash_b": hashes[1],
                "only_a": [{"kind": d.kind, "id": d.id} for d in found if d.only == "a"],
                "only_b": [{"kind": d.kind, "id": d.id} for d in found if d.only == "b"],
                "differing": [{"kind": d.kind, "id": d.id, "fields": d.fields} for d in found if not d.only],
            },
        )
    else:
        names = {"a": "only in A", "b": "only in B", "": "differs"}
        rows = [(names[d.only], d.kind, d.id, ", ".join(d.fields)) for d in found]
        if rows:
            output.table(("", "kind", "id", "fields"), rows)
        if same:
            output.say(f"The same. {output.plural(equal, 'document')} compared.")
        else:
            output.say(f"{output.plural(equal, 'document')} equal, {len(found):,} not.")
        output.facts([("content of A", hashes[0].hex()), ("content of B", hashes[1].hex())])
    if not same:
        raise click.exceptions.Exit(1)


def compare(first: DocumentStore, second: DocumentStore, spaces: list[str]) -> tuple[list[Difference], int]:
    """(documents that differ, how many are equal) in the spaces named."""
    found: list[Difference] = []
    equal = 0
    for kind in first.kinds:
        ours = {row.id: row for row in first.rows(kind, spaces=spaces) if not row.stub}
        for row in second.rows(kind, spaces=spaces):
            if row.stub:
                continue
            mine = ours.pop(row.id, None)
            if mine is None:
                found.append(Difference(naming.kind_of(row), row.id, "b"))
                continue
            differing = _differing(mine, row)
            if differing:
                found.append(Difference(naming.kind_of(row), row.id, "", differing))
            else:
                equal += 1
        found += [Difference(naming.kind_of(row), row.id, "a") for row in ours.values()]
    found.sort(key=lambda one: (one.kind, one.id))
    return found, equal


def _differing(one: Row, other: Row) -> tuple[str, ...]:
    names = one.fields.keys() | other.fields.keys() | one.conflicts.keys() | other.conflicts.keys()
    differing = [
        name
        for name in sorted(names)
        if one.fields.get(name) != other.fields.get(name) or one.conflicts.get(name) != other.conflicts.get(name)
    ]
    if one.life != other.life:
        differing.append("(life)")
    return tuple(differing)


COMMANDS: Final[dict[str, click.Command]] = {"merge": merge, "diff": diff, "bundle": write}
