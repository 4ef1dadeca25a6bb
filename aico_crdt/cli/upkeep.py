"""Keeping a store sound: verify, compact, backup, restore."""

from __future__ import annotations

from typing import Final

import click

from aico_crdt.cli import output
from aico_crdt.cli.command import as_json, command
from aico_crdt.cli.opening import App
from aico_crdt.companion.kinds import KINDS
from aico_crdt.errors import Damaged
from aico_crdt.store.environment import read_label
from aico_crdt.store.verify import Report, verify_directory
from aico_crdt.store.verify import verify as verify_store


@command("verify")
@click.option("--refold", is_flag=True, help="Also fold every document anew and check every signature.")
@as_json
def verify(app: App, refold: bool, in_json: bool) -> None:
    """Check every live byte of the store, and that everything in it agrees. Changes nothing.

    Exit code 1 if something is wrong; every problem is listed.
    """
    app.kept = "Nothing was changed."
    with output.progress("Verifying") as told:
        try:
            with app.open() as store:
                report = verify_store(store, refold=refold, progress=told.step)
        except Damaged:
            # It cannot be opened: look at the files alone.
            directory = app.store_path
            identity = app.identity(directory, read_label(directory), app.key)
            report = verify_directory(
                directory, identity, KINDS, config=app.config(), refold=refold, progress=told.step
            )
            if report.clean:
                raise  # what keeps it from being opened is not for verify to excuse
    _show_report(report, in_json)
    if not report.clean:
        raise Damaged(
            f"{output.plural(len(report.problems) + report.more, 'problem')} found in the store at {app.store_path}.",
            "Restore a backup, or make the store anew and sync it with a device that holds the same.",
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


COMMANDS: Final[dict[str, click.Command]] = {"verify": verify}
