"""Keeping a store sound: verify, repair, compact, vacuum, backup, restore."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from aico_crdt.cli import output
from aico_crdt.cli.command import InputFile, as_json, command
from aico_crdt.cli.opening import App
from aico_crdt.companion.kinds import KINDS
from aico_crdt.errors import Damaged
from aico_crdt.store import prune
from aico_crdt.store.backup import backup as take_backup
from aico_crdt.store.backup import read_backup
from aico_crdt.store.backup import restore as restore_backup
from aico_crdt.store.environment import read_label
from aico_crdt.store.membership import MAX_ADMISSION_BYTES
from aico_crdt.store.repair import ASIDE_FILE
from aico_crdt.store.repair import repair as mend
from aico_crdt.store.vacuum import vacuum as write_anew
from aico_crdt.store.verify import Report, verify_directory
from aico_crdt.store.verify import verify as verify_store


@command("verify", short_help="Check every live byte of the store.")
@click.option("--refold", is_flag=True, help="Also fold every document anew and check every signature.")
@as_json
def verify(app: App, refold: bool, in_json: bool) -> None:
    """Check every live byte of the store, and that everything in it agrees. Changes nothing.

    Exit code 1 if something is wrong; every problem is listed.
    """
    app.kept = "Nothing was changed."
    with output.progress("Verifying") as told:
        try:
            with app.look() as store:
                report = verify_store(store, refold=refold, progress=told.step)
        except Damaged:
            # It cannot be opened: look at the files alone.
            directory = app.store_path
            identity = app.identity(directory, read_label(directory).device, app.key)
            report = verify_directory(
                directory, identity, KINDS, config=app.config(), refold=refold, progress=told.step
            )
            if report.clean:
                raise  # what keeps it from being opened is not for verify to excuse
    _show_report(report, in_json)
    if not report.clean:
        raise Damaged(
            f"{output.plural(len(report.problems) + report.more, 'problem')} found in the store at {app.store_path}.",
            "Run `aico-crdt repair`, or restore a backup.",
        )


def _show_report(report: Report, in_json: bool) -> None:
    if in_json:
        problems = [{"kind": p.kind, "where": p.where, "what": p.what} for p in report.problems]
        output.dump(
            "verify", {"sound": report.clean, "counts": report.counts, "problems": problems, "more": report.more}
        )
        return
    output.facts(sorted((name, f"{count:,}") for name, count in report.counts.items()))
    if report.clean:
        output.say("Sound: every live byte is what was written, and everything agrees.")
    for problem in report.problems:
        output.say(f"{problem.kind} {problem.where}: {problem.what}")
    if report.more:
        output.say(f"… and {report.more:,} more.")


@command("repair", short_help="Mend a damaged data file.")
@click.option(
    "--admission", type=InputFile(), metavar="ADMISSION",
    help="Take the family's statements from this admission, which `aico-crdt admit` on another device wrote anew.",
)  # fmt: skip
@as_json
def repair(app: App, admission: Path | None, in_json: bool) -> None:
    """Mend a damaged data file: set aside what is damaged, make anew what follows from the rest, ask for the rest.

    What cannot be made anew is fetched by the next sync with a device that holds it; of a whole document that was lost
    only a full-trust device can tell. Nobody may have the store open meanwhile. The damaged file is kept beside the new
    one, as data.damaged, until it is removed or another repair takes its place.
    """
    app.kept = "Nothing was changed."
    directory = app.store_path
    identity = app.identity(directory, read_label(directory).device, app.key)
    raw = None
    if admission is not None:
        with admission.open("rb") as stream:
            raw = stream.read(MAX_ADMISSION_BYTES + 1)
    with output.progress("Repairing") as told:
        done = mend(directory, identity, KINDS, admission=raw, config=app.config(), progress=told.step)
    if in_json:
        aside = str(directory / ASIDE_FILE) if done.changed else None
        output.dump("repair", {"places": done.places, "done": done.counts, "aside": aside})
        return
    if not done.changed:
        output.say("Sound: there is nothing to mend.")
        return
    output.facts([("places where records were lost", f"{done.places:,}")])
    output.facts(sorted((name, f"{count:,}") for name, count in done.counts.items()))
    output.say(f"The store is sound. The damaged file is {directory / ASIDE_FILE}. Sync to fetch what is missing.")


@command("compact", short_help="Drop what nobody needs any more.")
@as_json
def compact(app: App, in_json: bool) -> None:
    """Destroy the keys of what was forgotten long enough ago, and drop what no device needs any more.

    Entries go when every device that may read them holds them, or was silent for the setting keep_days. With an entry
    goes its signature: `aico-crdt why` then still names writer and time, but has nothing to check any more. The file
    does not shrink; its free pages are used again. `aico-crdt vacuum` shrinks it.
    """
    app.kept = "What was done is complete; compact again for the rest."
    with app.open() as store, output.progress("Compacting") as told:
        done = prune.compact(store, progress=told.step)
    if in_json:
        output.dump(
            "compact",
            {
                "entries": done.entries,
                "documents": done.documents,
                "erased": done.erased,
                "changes": done.changes,
                "holds": done.holds,
                "used_bytes_before": done.before,
                "used_bytes": done.after,
            },
        )
        return
    output.facts(
        [
            ("entries dropped", f"{done.entries:,}"),
            ("documents folded", f"{done.documents:,}"),
            ("lives erased", f"{done.erased:,}"),
            ("changes dropped", f"{done.changes:,}"),
            ("holds expired", f"{done.holds:,}"),
            ("used", f"{output.size(done.before)} before, {output.size(done.after)} now"),
        ]
    )


@command("vacuum", short_help="Write the data file anew, as small as it can be.")
@as_json
def vacuum(app: App, in_json: bool) -> None:
    """Write the data file anew without its free pages: the directory shrinks, and the bytes of what is gone with it.

    Compact first. Nobody may have the store open meanwhile, and there must be room for a second file.
    """
    app.kept = "Nothing was changed."
    with output.progress("Writing anew") as told:
        done = write_anew(app.store_path, config=app.config(), progress=told.step)
    if in_json:
        output.dump("vacuum", {"bytes_before": done.before, "bytes": done.after})
        return
    output.facts([("file", f"{output.size(done.before)} before, {output.size(done.after)} now")])


@command("backup", short_help="Copy the store while it is used.")
@click.argument("directory", type=click.Path(path_type=Path))
@as_json
def backup(app: App, directory: Path, in_json: bool) -> None:
    """Copy the store into a new or empty directory while it goes on being used.

    The copy is sealed as the store is: to restore it, the key file is needed as well, which is not in it.
    """
    app.kept = "No backup was made."
    with app.open() as store:
        with output.progress("Copying") as told:
            made = take_backup(store, directory, progress=told.step)
        key = app.key or app.home.key_of(store.device)
    if in_json:
        fields = {"path": str(directory), "store": made.store, "device": made.device, "taken_ms": made.taken_ms}
        output.dump("backup", {**fields, "key_file": str(key)})
        return
    output.say(f"Copied the store to {directory}. To restore it, the key {key} is needed too: keep a copy elsewhere.")


@command("restore", short_help="Make the store anew from a backup.")
@click.argument("source", metavar="BACKUP", type=click.Path(path_type=Path))
@as_json
def restore(app: App, source: Path, in_json: bool) -> None:
    """Make the store anew from a backup, at the default place or the one that --store names.

    The backup is checked first. The restored store writes as a new incarnation, so the one it replaces, or any other
    copy, cannot get in its way; what came after the backup is fetched from the other devices at the next sync.
    """
    app.kept = "No store was made."
    found = read_backup(source)
    identity = app.identity(source, bytes.fromhex(found.device), app.key)
    target = app.store_path
    with output.progress("Restoring") as told:
        made = restore_backup(source, target, identity, KINDS, config=app.config(), progress=told.step)
    with app.open() as store:
        incarnation = store.incarnation
    if in_json:
        fields = {"path": str(target), "store": made.store, "device": made.device, "taken_ms": made.taken_ms}
        output.dump("restore", {**fields, "incarnation": incarnation})
        return
    output.say(f"Restored the store of {output.when(made.taken_ms)} to {target}. Sync to fetch what came after it.")


COMMANDS: Final[dict[str, click.Command]] = {
    "verify": verify,
    "repair": repair,
    "compact": compact,
    "vacuum": vacuum,
    "backup": backup,
    "restore": restore,
}
