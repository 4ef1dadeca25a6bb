"""Looking into a store: what it holds, decoded, and what became of a write."""

from __future__ import annotations

from typing import Any, Final

import click

from aico_crdt import clock
from aico_crdt.cli import naming, output, reading
from aico_crdt.cli.command import GLOBAL_OPTIONS, Command, as_json, command, global_options
from aico_crdt.cli.opening import App
from aico_crdt.errors import InvalidValue
from aico_crdt.store import DocumentStore, Receipt, forget, layout
from aico_crdt.store.records import FeedRecord, Records

LISTED: Final = 50
"""Documents or entries listed unless --limit says otherwise."""
POLL_S: Final = 5.0
"""`log --follow` looks anew this often even if no ring was heard."""


# status


@command("status", short_help="Say what is stored, or where a document is.")
@click.argument("document", required=False)
@click.option("--wait", is_flag=True, help="Wait until every device that may have the document has it.")
@click.option("--timeout", type=click.FloatRange(0, 86_400), default=30.0, show_default=True, help="Seconds to wait.")
@as_json
def status(app: App, document: str | None, wait: bool, timeout: float, in_json: bool) -> None:
    """Say what the store holds; or, with a document's id, where that document is.

    With --wait, exit code 1 says that it was not everywhere when the time ran out.
    """
    with app.look() as store:
        if document is None:
            if wait:
                raise click.UsageError("--wait needs the id of a document.")
            _store_status(store, in_json)
            return
        named = naming.document(store, document)
        receipt = store.receipt(named.kind, named.id)
        if wait and not receipt.everywhere:
            receipt = store.wait(named.kind, named.id, everywhere=True, timeout_s=timeout)
        _show_receipt(store, receipt, _eraser(store, named) if receipt.forgotten else None, in_json)
    if wait and not receipt.everywhere:
        raise click.exceptions.Exit(1)


def _store_status(store: DocumentStore, in_json: bool) -> None:
    with output.progress("Counting"):
        found = reading.status(store)
    if in_json:
        output.dump("status", found.to_json())
        return
    output.facts(
        [
            ("store", found.path),
            ("format", found.format),
            ("device", f"{found.name} ({found.trust or 'revoked'})  {found.device.hex()}"),
            ("family", found.family.hex()),
            ("incarnation", found.incarnation.hex()),
            ("made", output.when(found.created_ms)),
            ("used", f"{output.size(found.used_bytes)} of {output.size(found.limit_bytes)}"),
            ("content hash", found.content_hash.hex()),
        ]
    )
    output.say()
    rows = [
        (t.name, t.documents, t.messages or "", t.stubs, t.forgotten, t.conflicts, t.feeds, t.entries)
        for t in found.collections
        if t.documents or t.feeds or t.forgotten
    ]
    counted = ("#documents", "#of them messages", "#stubs", "#forgotten", "#in conflict", "#feeds", "#entries")
    output.table(("collection", *counted), rows, empty="Nothing is stored yet.")
    output.say()
    for device in found.devices:
        if not device.this and not device.member.revoked:
            heard = output.when(device.last_heard_ms)
            said = f"last heard {heard}" if heard else "never heard from"
            waiting = output.plural(device.unacknowledged, "entry", "entries")
            output.say(f"{device.member.name}: {waiting} it has not acknowledged; {said}")
    if found.conflicts:
        output.say(f"{output.plural(found.conflicts, 'document')} in conflict; see `aico-crdt inspect conflicts`.")
    if found.held_entries:
        output.say(f"{output.plural(found.held_entries, 'entry', 'entries')} on hold: something they need is not here.")
    if found.owed:
        output.say(f"{output.plural(found.owed, 'forgotten life', 'forgotten lives')} within the undo window.")
    if found.evidence:
        output.say(f"{output.plural(found.evidence, 'piece')} of evidence of forks or rejected entries.")


def _eraser(store: DocumentStore, named: naming.Named) -> tuple[str, int, str | None]:
    """(which device forgot a document, the stamp, where it went)."""
    with store.reading() as (core, records):
        dead = forget.tombstone(records, named.collection, named.key)
        if dead is None:
            return "", 0, None
        name = records.get(layout.feed_name(dead.feed)) if dead.feed else None
        by = naming.name_of(store, name[2:34]) if name is not None else ""
        return by, dead.stamp, forget.moved_to(core, named.collection, named.key, dead)


def _show_receipt(
    store: DocumentStore, receipt: Receipt, eraser: tuple[str, int, str | None] | None, in_json: bool
) -> None:
    def names(devices: tuple[bytes, ...]) -> str:
        return ", ".join(naming.name_of(store, device) for device in devices) or "none"

    if in_json:
        fields: dict[str, Any] = {
            "kind": receipt.kind,
            "id": receipt.id,
            "here": receipt.here,
            "on": receipt.on,
            "missing": receipt.missing,
            "everywhere": receipt.everywhere,
            "forgotten": receipt.forgotten,
            "erased_on": receipt.erased_on,
            "owing": receipt.owing,
            "unconfirmed": receipt.unconfirmed,
        }
        if eraser is not None:
            fields |= {"forgotten_by": eraser[0] or None, "forgotten_hlc": clock.to_text(eraser[1])}
            fields |= {"moved_to": eraser[2]}
        output.dump("receipt", fields)
        return
    row = None if receipt.forgotten else store.read(receipt.kind, receipt.id)
    pairs: list[tuple[str, object]] = [(receipt.kind if row is None else naming.kind_of(row), receipt.id)]
    if eraser is None:
        pairs.append(("here", "on this disk"))
    else:
        by = f" by {eraser[0]}" if eraser[0] else ""
        pairs.append(("forgotten", f"{output.stamp(eraser[1])}{by}"))
        if eraser[2]:
            pairs.append(("moved to", eraser[2]))
        pairs += [("erased on", names(receipt.erased_on)), ("still owed by", names(receipt.owing))]
        if receipt.unconfirmed:
            pairs.append(("unconfirmed", f"{names(receipt.unconfirmed)} (revoked)"))
    pairs += [("on", names(receipt.on)), ("missing", names(receipt.missing))]
    pairs.append(("everywhere", "yes" if receipt.everywhere else "no"))
    output.facts(pairs)


# inspect


@click.group(
    "inspect",
    params=[*global_options(outer=False)],
    epilog=GLOBAL_OPTIONS,
    invoke_without_command=True,
    short_help="Look into the store, decoded.",
)
@as_json
@click.pass_context
def inspect(context: click.Context, in_json: bool) -> None:
    """Look into the store: collections, documents, feeds, entries, conflicts; decoded.

    Without a command: its collections.
    """
    if context.invoked_subcommand is None:
        context.ensure_object(App).begin()
        context.invoke(inspect_store, in_json=in_json)
    elif in_json:
        raise click.UsageError(f"Give --json after {context.invoked_subcommand}.")


@inspect.command("store", cls=Command, short_help="The collections.")
@as_json
@click.pass_obj
def inspect_store(app: App, in_json: bool) -> None:
    """The collections, with their tags and what is on hold or was rejected."""
    with app.look() as store:
        found = reading.status(store)
        evidence = reading.evidence(store)
        names = {one["source"]: naming.name_of(store, one["source"]) for one in evidence}
    if in_json:
        output.dump("store", {**found.to_json(), "evidence_list": evidence})
        return
    rows = [(t.name, t.collection.tag.hex(), t.documents, t.forgotten, t.feeds, t.entries) for t in found.collections]
    output.table(("collection", "tag", "#documents", "#forgotten", "#feeds", "#entries"), rows)
    output.say()
    output.facts([("on hold", found.held_entries), ("evidence", found.evidence), ("owed erasures", found.owed)])
    for one in evidence[:LISTED]:
        output.say(f"{one['what']} ({one['reason']}) from {names[one['source']]} at {output.when(one['time_ms'])}")


@inspect.command("collection", cls=Command, short_help="Feeds and documents of one collection.")
@click.argument("name", metavar="SPACE/KIND")
@click.option("--limit", type=click.IntRange(1, 100_000), default=LISTED, show_default=True)
@as_json
@click.pass_obj
def inspect_collection(app: App, name: str, limit: int, in_json: bool) -> None:
    """The feeds and documents of one collection."""
    with app.look() as store:
        where = naming.collection(store, name)
        with store.reading() as (core, records):
            total = reading.tally(core, records, where)
            feeds = _feeds(store, records, where.number)
        documents = list(reading.documents(store, where, limit))
    if in_json:
        listed = [
            {
                "id": row.id if row is not None else None,
                "life": record.life,
                "state": reading.STATES[record.state],
                "creator": record.creator,
                "hlc": clock.to_text(record.stamp),
                "state_hash": record.state_hash,
                "conflicts": sorted(row.conflicts) if row is not None else [],
            }
            for record, row in documents
        ]
        output.dump("collection", {**total.to_json(), "feed_list": feeds, "document_list": listed})
        return
    output.say(f"{where.space}/{where.kind}  tag {where.tag.hex()}")
    output.say(
        f"{output.plural(total.documents, 'document')}, {total.forgotten:,} forgotten, "
        f"{output.plural(total.entries, 'entry', 'entries')} in {output.plural(total.feeds, 'feed')}"
    )
    output.say()
    output.table(
        ("feed of", "incarnation", "#held from", "#to", "head", "remarks"),
        [
            (f["device_name"], f["incarnation"].hex(), f["floor"], f["seq"], f["hash"].hex()[:16],
             f"forked at {f['fork']}" if f["fork"] else "")
            for f in feeds
        ],
    )  # fmt: skip
    output.say()
    output.table(
        ("document", "#life", "state", "last change", "fields"),
        [
            ("?" if row is None else row.id, record.life, reading.STATES[record.state], output.stamp(record.stamp),
             "" if row is None else ", ".join(sorted(row.fields)) + (" (conflict)" if row.conflicts else ""))
            for record, row in documents
        ],
        empty="No documents.",
    )  # fmt: skip
    if len(documents) < total.documents:
        output.say(f"… and {total.documents - len(documents):,} more; see --limit.")


def _feeds(store: DocumentStore, records: Records, number: int) -> list[dict[str, Any]]:
    found = []
    for key, value in records.scan(layout.feed_prefix(number)):
        feed = FeedRecord.unpack(value)
        if feed.seq:
            found.append(
                {
                    "device": key[3:35],
                    "device_name": naming.name_of(store, key[3:35]),
                    "incarnation": key[35:43],
                    "floor": feed.floor,
                    "seq": feed.seq,
                    "hash": feed.hash,
                    "fork": feed.fork or None,
                }
            )
    return found


@inspect.command("document", cls=Command, short_help="One document taken apart.")
@click.argument("words", nargs=-1, required=True, metavar="[KIND] ID")
@as_json
@click.pass_obj
def inspect_document(app: App, words: tuple[str, ...], in_json: bool) -> None:
    """One document: its fields, live slots, conflicts and the entries it is made of."""
    if len(words) > 2:
        raise click.UsageError("Name one document: its id, or its kind and its id.")
    with app.look() as store:
        named = naming.document(store, words[-1], words[0] if len(words) == 2 else None)
        found = reading.anatomy(store, named)
        if in_json:
            output.dump("document", document_json(store, found))
            return
        row = found.row
        output.facts(
            [
                (naming.kind_of(row), row.id),
                ("space", row.space),
                ("life", row.life),
                ("born on", naming.name_of(store, found.record.creator)),
                ("last change", output.stamp(row.hlc)),
                ("state hash", found.record.state_hash.hex()),
            ]
        )
        output.say()
        output.table(("field", "value"), [(name, output.brief(v, 400)) for name, v in sorted(row.fields.items())])
        if found.text:
            output.say(f"text  {output.plural(len(found.text), 'character')}: {output.brief(found.text, 200)}")
        _show_conflicts(store, row.conflicts)
        output.say()
        output.table(
            ("live slot", "written by", "at", "value", "entry"),
            [
                (w.slot.name, naming.name_of_writer(store, w.slot.writer), output.stamp(w.slot.hlc),
                 output.brief(w.slot.value, 60), w.entry.ref if w.entry is not None else _unproven(store, w))
                for w in found.wrote
            ],
        )  # fmt: skip
        output.say()
        output.table(
            ("made of entry", "written by", "at", "#items"),
            [(e.ref, e.device_name, output.stamp(e.header.hlc), len(e.items)) for e in found.entries],
            empty="None of its entries is held here any more.",
        )


def _unproven(store: DocumentStore, wrote: reading.Wrote) -> str:
    if wrote.attested_by is not None:
        return f"attested by {naming.name_of(store, wrote.attested_by)}"
    return "its signed entry was pruned"


def _show_conflicts(store: DocumentStore, conflicts: Any) -> None:
    for name, versions in sorted(conflicts.items()):
        output.say()
        output.say(f"conflict on {name}:")
        for version in versions:
            who = naming.name_of_writer(store, version.writer)
            output.say(f"  {who} at {output.stamp(version.hlc)}: {output.brief(version.value, 200)}")


def document_json(store: DocumentStore, found: reading.Anatomy) -> dict[str, Any]:
    """A document taken apart, for programs."""
    row = found.row
    return {
        "kind": row.kind,
        "id": row.id,
        "space": row.space,
        "life": row.life,
        "creator": found.record.creator,
        "hlc": clock.to_text(row.hlc),
        "state_hash": found.record.state_hash,
        "fields": row.fields,
        "text": found.text,
        "conflicts": conflicts_json(store, row.conflicts),
        "slots": [
            {
                "name": wrote.slot.name,
                "writer": wrote.slot.writer,
                "device_name": naming.name_of_writer(store, wrote.slot.writer),
                "hlc": clock.to_text(wrote.slot.hlc),
                "value": wrote.slot.value,
                "entry": None if wrote.entry is None else wrote.entry.ref,
                "attested_by": wrote.attested_by,
            }
            for wrote in found.wrote
        ],
        "entries": [entry.to_json() for entry in found.entries],
    }


def conflicts_json(store: DocumentStore, conflicts: Any) -> dict[str, Any]:
    """Field name to its open versions, newest first."""
    return {
        name: [
            {
                "writer": version.writer,
                "device_name": naming.name_of_writer(store, version.writer),
                "hlc": clock.to_text(version.hlc),
                "value": version.value,
            }
            for version in versions
        ]
        for name, versions in conflicts.items()
    }


@inspect.command("conflicts", cls=Command, short_help="Every document in conflict.")
@as_json
@click.pass_obj
def inspect_conflicts(app: App, in_json: bool) -> None:
    """Every document with an open conflict, and its versions."""
    with app.look() as store:
        rows = reading.conflicts(store)
        if in_json:
            listed = [
                {"kind": row.kind, "id": row.id, "conflicts": conflicts_json(store, row.conflicts)} for row in rows
            ]
            output.dump("conflicts", {"documents": listed})
            return
        if not rows:
            output.say("No conflict is open.")
        for row in rows:
            output.say(f"{naming.kind_of(row)} {row.id}")
            for name, versions in sorted(row.conflicts.items()):
                for version in versions:
                    who = naming.name_of_writer(store, version.writer)
                    output.say(f"  {name}, {who} at {output.stamp(version.hlc)}: {output.brief(version.value, 200)}")


@inspect.command("feed", cls=Command, short_help="What one device wrote in one collection.")
@click.argument("name", metavar="SPACE/KIND/DEVICE[/INCARNATION]")
@click.option("--limit", type=click.IntRange(1, 100_000), default=LISTED, show_default=True)
@as_json
@click.pass_obj
def inspect_feed(app: App, name: str, limit: int, in_json: bool) -> None:
    """The entries of one device in one collection, newest first."""
    with app.look() as store:
        place = naming.feed(store, name.split("/"))
        found = reading.feed_entries(store, place, limit)
        feed = place.feed
        if in_json:
            fields = {"device": place.device, "incarnation": place.incarnation, "floor": feed.floor, "seq": feed.seq}
            fields |= {"hash": feed.hash, "space": place.collection.space, "kind": place.collection.kind}
            fields |= {"fork": feed.fork or None}
            output.dump("feed", {**fields, "entries": [entry.to_json() for entry in found]})
            return
        output.facts(
            [
                ("feed", f"{place.collection.space}/{place.collection.kind} of {naming.name_of(store, place.device)}"),
                ("device", place.device.hex()),
                ("incarnation", place.incarnation.hex()),
                ("held", f"{feed.floor} to {feed.seq}" if feed.floor <= feed.seq else f"none; head is {feed.seq}"),
                ("head", feed.hash.hex()),
            ]
        )
        if feed.fork:
            output.say(f"Two branches were seen at entry {feed.fork}: another copy of that store has been writing.")
        output.say()
        output.table(
            ("#seq", "at", "#bytes", "#deps", "#erases", "items"),
            [
                (e.header.seq, output.stamp(e.header.hlc), len(e.header.raw) + sum(i.bytes for i in e.items),
                 len(e.header.deps), len(e.header.erase), _items(e))
                for e in found
            ],
        )  # fmt: skip


def _items(entry: reading.Logged, limit: int = 5) -> str:
    shown = [f"{item.what} {item.document}".strip() for item in entry.items[:limit]]
    if len(entry.items) > limit:
        shown.append(f"and {len(entry.items) - limit:,} more")
    return "; ".join(shown)


@inspect.command("entry", cls=Command, short_help="One entry, its signature checked.")
@click.argument("words", nargs=-1, required=True, metavar="SPACE/KIND/DEVICE/INCARNATION/SEQ")
@as_json
@click.pass_obj
def inspect_entry(app: App, words: tuple[str, ...], in_json: bool) -> None:
    """One entry: its header, its items decoded as far as the keys are here, its signature checked now.

    The name is as `aico-crdt log` prints it; its parts may also be given one by one, the collection by its tag.
    """
    parts = [part for word in words for part in word.split("/")]
    with app.look() as store:
        place = naming.entry(store, parts)
        with store.reading() as (core, records):
            verdict = reading.verify(core, records, place.feed.number, place.seq)
            logged = reading.entry_at(store, core, records, place)
            contents = [
                reading.payload(core, records, place, logged.header, index) for index in range(len(logged.items))
            ]
        header = logged.header
        if in_json:
            fields = logged.to_json()
            for item, content in zip(fields["items"], contents, strict=True):
                item["content"] = content
            fields |= {
                "format": header.format, "family": header.family, "tag": header.tag, "prev": header.prev,
                "deps": [list(dep) for dep in header.deps], "key_id": header.key_id,
                "erase": [list(erase) for erase in header.erase],
                "signature": verdict.entry.signature, "verified": verdict.good, "problem": verdict.problem or None,
            }  # fmt: skip
            output.dump("entry", fields)
        else:
            _show_entry(store, logged, verdict, contents)
    if not verdict.good:
        raise click.exceptions.Exit(1)


def _show_entry(store: DocumentStore, logged: reading.Logged, verdict: reading.Verdict, contents: list[Any]) -> None:
    header = logged.header
    proof = f"verified: signed by {logged.device_name}" if verdict.good else f"NOT VALID: {verdict.problem}"
    output.facts(
        [
            ("entry", logged.ref),
            ("signature", proof),
            ("at", f"{output.stamp(header.hlc)}  ({clock.to_text(header.hlc)})"),
            ("device", header.device.hex()),
            ("incarnation", header.incarnation.hex()),
            ("collection", f"{logged.collection.space}/{logged.collection.kind}  {header.tag.hex()}"),
            ("family", header.family.hex()),
            ("hash", header.hash.hex()),
            ("prev", header.prev.hex() if any(header.prev) else "none: the first of its feed"),
            ("key id", header.key_id.hex()),
            ("format", header.format),
        ]
    )
    for dep in header.deps:
        output.say(f"depends on  {naming.name_of(store, dep.device)}/{dep.incarnation.hex()[:8]}/{dep.seq}")
    for erase in header.erase:
        where = f"{naming.name_of(store, erase.device)}/{erase.incarnation.hex()[:8]}/{erase.seq}"
        output.say(f"erases      {where} item {erase[3]}")
    output.say()
    output.table(
        ("#item", "what", "document", "#life", "#bytes", "content"),
        [
            (index, item.what, item.document, item.life or "", item.bytes, output.brief(content or "", 300))
            for index, (item, content) in enumerate(zip(logged.items, contents, strict=True))
        ],
        empty="No items: it only names what its device had applied.",
    )


# log


@command("log", short_help="List entries, newest first.")
@click.option("--kind", help="Only entries of this kind; `message` for conversations without their heads.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=LISTED, show_default=True, help="Entries at most.")
@click.option("--follow", is_flag=True, help="Go on with entries as they come, oldest first, until interrupted.")
@as_json
def log(app: App, kind: str | None, limit: int, follow: bool, in_json: bool) -> None:
    """List entries in the order in which they arrived here, newest first.

    With --json and --follow, one JSON document a line.
    """
    app.kept = "Nothing was changed."
    with app.look() as store:
        if kind is not None and kind not in (*store.kinds, naming.MESSAGE):
            raise InvalidValue(f"There is no kind {kind!r}.", f"Kinds: {', '.join((*store.kinds, naming.MESSAGE))}.")
        if follow:
            _follow(store, kind, limit, in_json)
            return
        found = reading.log(store, kind, limit)
        if in_json:
            output.dump("log", {"entries": [entry.to_json() for entry in found]})
            return
        output.table(
            ("time", "device", "kind", "what", "entry"),
            [_log_row(entry) for entry in found],
            empty="Nothing was written yet.",
        )


def _log_row(entry: reading.Logged) -> tuple[str, str, str, str, str]:
    kinds = dict.fromkeys(item.kind for item in entry.items) or [entry.collection.kind]
    return output.stamp(entry.header.hlc), entry.device_name, ", ".join(kinds), _items(entry, 3), entry.ref


def _follow(store: DocumentStore, kind: str | None, limit: int, in_json: bool) -> None:
    last = 0
    ear = store.bell.listen()
    try:
        while True:
            found = reading.log(store, kind, limit if not last else 100_000, last)
            for entry in reversed(found):
                if in_json:
                    output.dump_line(entry.to_json())
                else:
                    output.say("  ".join(_log_row(entry)))
                last = max(last, entry.arrival)
            last = max(last, 1)
            ear.wait(POLL_S)
    finally:
        ear.close()


COMMANDS: Final[dict[str, click.Command]] = {"status": status, "inspect": inspect, "log": log}
