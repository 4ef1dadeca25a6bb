"""The family's devices: admitting, revoking, listing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import click

from aico_crdt.cli import naming, output, relatives
from aico_crdt.cli.command import as_json, command
from aico_crdt.cli.init import DEVICE_TYPES
from aico_crdt.cli.opening import App, check_target, write_private
from aico_crdt.errors import InvalidValue
from aico_crdt.store import DocumentStore, membership

TRUSTS: Final = ("full", "limited", "relay")
_DEVICE: Final = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


@command("admit", short_help="Admit a device to the family.")
@click.argument("device_id")
@click.option("--name", required=True, help="What the family calls the device.")
@click.option("--trust", type=click.Choice(TRUSTS), default="full", show_default=True, help="What it may read and do.")
@click.option("--type", "device_type", type=click.Choice(DEVICE_TYPES), default="mobile", show_default=True)
@click.option("--output", "file", type=click.Path(path_type=Path, dir_okay=False), help="[default: NAME.admission]")
@click.option("--force", is_flag=True, help="Overwrite the file if there is one.")
def admit(app: App, device_id: str, name: str, trust: str, device_type: str, file: Path | None, force: bool) -> None:
    """Admit a device to the family and write its admission: the file it joins with.

    DEVICE_ID is what `aico-crdt id` prints there. The file is of use to that device only.
    """
    if not _DEVICE.fullmatch(device_id):
        raise InvalidValue("A device id is 64 hexadecimal digits.", "Run `aico-crdt id` on that device.")
    device = bytes.fromhex(device_id)
    target = file or Path(re.sub(r"[^\w.-]+", "-", name).strip("-.") + ".admission")
    check_target(target)
    if target.exists() and not force:
        raise InvalidValue(f"There already is a file {target}.", "Name another with --output, or add --force.")
    with app.open() as store:
        if device == store.device:
            own = store.directory.family.members[device]
            output.say(f"This is that device: {own.name} ({own.trust}), a member already. Nothing was changed.")
            return
        before = store.directory.family.members.get(device)
        _refuse_second(store, device, name)
        raw = membership.admit(store, device, name=name, trust=trust, device_type=device_type)
    try:
        write_private(target, raw)
    except OSError as error:
        raise InvalidValue(
            f"{name} is admitted, but its admission could not be written to {target}: {error.strerror}.",
            "Run the same command with another --output: it writes the admission again and changes nothing.",
        ) from error
    if before is not None and before.trust == trust:
        output.say(f"{before.name} ({trust}) is a member already; nothing was changed. Its admission is in {target}.")
        return
    output.say(f"Admitted {name} ({trust}). Carry {target} to it and run there: aico-crdt init --join {target.name}")


def _refuse_second(store: DocumentStore, device: bytes, name: str) -> None:
    """A name is for people to tell devices apart."""
    for member in store.directory.family.current():
        if member.name == name and member.device != device:
            raise InvalidValue(f"There already is a device named {name!r}.", "Choose another name.")


@command("revoke", short_help="End a device's membership.")
@click.argument("device")
@click.option("--yes", is_flag=True, help="Do not ask.")
def revoke(app: App, device: str, yes: bool) -> None:
    """End a device's membership: its name, its id or the beginning of it.

    What it wrote until now stays; what it writes from now on counts nowhere. It keeps what it holds.
    """
    with app.open() as store:
        member = naming.device(store, device)
        own = " That is this device itself." if member.device == store.device else ""
        question = f"Revoke {member.name} ({member.device.hex()[:16]}…)? It can come back only with a new key.{own}"
        if not yes and not _agreed(question):
            output.note("Nothing was changed.")
            raise click.exceptions.Exit(1)
        membership.revoke(store, member.device)
    output.say(f"Revoked {member.name}. The other devices learn of it when they next sync.")


def _agreed(question: str) -> bool:
    """What is answered.

    Raises:
        InvalidValue: nothing is.
    """
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)  # the question's line goes on
        raise InvalidValue("Nothing was changed: there was no answer.", "Use --yes where nobody can answer.") from None


@command("devices", short_help="List the family's devices.")
@as_json
def devices(app: App, in_json: bool) -> None:
    """List the family's devices, current and revoked."""
    with app.look() as store:
        found = relatives.devices(store)
    if in_json:
        output.dump("devices", {"devices": [device.to_json() for device in found]})
        return
    rows = []
    for one in found:
        state = "revoked" if one.member.revoked else "this device" if one.this else "current"
        profile = ", ".join(f"{name} {output.brief(value, 40)}" for name, value in sorted(one.profile.items()))
        heard = "" if one.this else output.when(one.last_heard_ms) or "never"
        member = one.member
        rows.append(
            (member.name, member.device.hex()[:16], member.trust, member.device_type, state, one.admitted_by, heard,
             profile)
        )  # fmt: skip
    output.table(("name", "id", "trust", "type", "state", "admitted by", "last heard", "says of itself"), rows)


COMMANDS: Final = {"admit": admit, "revoke": revoke, "devices": devices}
