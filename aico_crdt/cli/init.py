"""Making a store: founding a family, or joining one; and the identity a device is admitted by."""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from aico_crdt.cli import output
from aico_crdt.cli.command import InputFile, as_json, command
from aico_crdt.cli.opening import App, discard
from aico_crdt.errors import InvalidValue, NoStore, StoreExists, WrongKey

DEVICE_TYPES: Final = ("desktop", "mobile", "server")
MAX_ADMISSION_BYTES: Final = 16 << 20
KEEP_THE_KEY: Final = "Keep a copy of the key file in a safe place: without it nobody can open this store."


@command("init", short_help="Make this device's store.")
@click.option("--name", help="What the family calls this device.  [default: its host name]")
@click.option("--type", "device_type", type=click.Choice(DEVICE_TYPES), default=None, help="What it is.")
@click.option(
    "--join", type=InputFile(), metavar="ADMISSION",
    help="Join the family of this admission, made by `aico-crdt admit` on one of its devices.",
)  # fmt: skip
@click.option("--identity-only", is_flag=True, help="Make only the key to be admitted by, as `aico-crdt id` does.")
def init(app: App, name: str | None, device_type: str | None, join: Path | None, identity_only: bool) -> None:
    """Make this device's store: the first of a family, or one more of it.

    \b
    laptop$ aico-crdt init
    phone$  aico-crdt id                       prints the phone's device id
    laptop$ aico-crdt admit DEVICE_ID --name phone
    phone$  aico-crdt init --join phone.admission
    """
    _refuse_present(app.store_path)
    if join is not None and (name or device_type):
        raise click.UsageError("With --join, name and type are those of the admission.")
    if identity_only:
        if join is not None:
            raise click.UsageError("Choose one of --join and --identity-only.")
        show_identity(app, in_json=False)
    elif join is not None:
        _join(app, join)
    else:
        _found(app, name or host_name(), device_type or "desktop")


def _found(app: App, name: str, device_type: str) -> None:
    from aico_crdt.companion.kinds import KINDS
    from aico_crdt.store import membership

    settings = app.config()
    identity, key, fresh = app.prepare()
    with _unmade(app.store_path, key if fresh else None, app):
        membership.found(app.store_path, identity, KINDS, name=name, device_type=device_type, config=settings)
        app.settle()
        _report(app, key, f"founded its family as {name!r}")


def _join(app: App, file: Path) -> None:
    from aico_crdt.companion.kinds import KINDS
    from aico_crdt.store import membership
    from aico_crdt.trust import Identity
    from aico_crdt.trust.keyfile import KeyFile

    with file.open("rb") as stream:
        raw = stream.read(MAX_ADMISSION_BYTES + 1)
    offered = membership.decode_admission(raw)
    key = app.key or app.home.key_of(offered.device)
    if not KeyFile(key).exists():
        raise WrongKey(
            f"This admission is for device {offered.device.hex()}, whose key is not here.",
            "Run `aico-crdt id` on this device and have the id that it prints admitted.",
        )
    identity = Identity.from_seed(KeyFile(key).read())
    with _unmade(app.store_path, None, app):
        membership.join(app.store_path, identity, KINDS, raw, config=app.config())
        app.settle()
        _report(app, key, f"joined the family; it was admitted by {offered.admitter.hex()[:12]}…")


def _refuse_present(path: Path) -> None:
    """Before any key is made."""
    if (path / "STORE").exists() or (path / "data.mdb").exists():
        raise StoreExists(f"There already is a store at {path}.")
    if path.exists() and not path.is_dir():
        raise InvalidValue(f"{path} is not a directory.", "Choose another path with --store.")
    if path.is_dir() and any(path.iterdir()):
        raise StoreExists(f"{path} is not empty.")


@contextmanager
def _unmade(path: Path, key: Path | None, app: App) -> Iterator[None]:
    """If the block fails, nothing is left of the store, nor of a key that was made for it."""
    before = path.exists()
    try:
        yield
    except BaseException:
        if before:
            for left in path.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        else:
            shutil.rmtree(path, ignore_errors=True)
        if key is not None:
            discard(key)
            app.settle()
        raise


def _report(app: App, key: Path, what: str) -> None:
    with app.open() as store:
        output.say(f"Made the store at {app.store_path}. It {what}.")
        output.facts([("device", store.device.hex()), ("family", store.directory.family.id.hex()), ("key file", key)])
    output.say(KEEP_THE_KEY)


@command("id", short_help="Print this device's id and keys.")
@as_json
def identity(app: App, in_json: bool) -> None:
    """Print this device's id and keys; make its key if there is no store yet.

    The id is what `aico-crdt admit` on another device takes.
    """
    show_identity(app, in_json=in_json)


def show_identity(app: App, *, in_json: bool) -> None:
    from aico_crdt.store.environment import read_label

    try:
        label = read_label(app.store_path)
    except NoStore:
        found, key, fresh = app.prepare()
        family = None
        if fresh and not in_json:
            output.note(f"Made this device's key, {key}. {KEEP_THE_KEY}")
    else:
        with app.open() as store:
            found, family = store.identity, store.directory.family.id
        key = app.key or app.home.key_of(label.device)
    if in_json:
        output.dump(
            "id",
            {"device": found.device, "curve_public": found.curve_public_z85, "family": family, "key_file": str(key)},
        )
        return
    output.facts(
        [
            ("device", found.device.hex()),
            ("curve key", found.curve_public_z85),
            ("family", family.hex() if family else "none yet: found one with `aico-crdt init`, or be admitted"),
        ]
    )


def host_name() -> str:
    """This machine's name as a device name."""
    name = re.sub(r"[^\w.-]+", "-", platform.node().split(".")[0]).strip("-")[:64]
    return name or "device"


COMMANDS: Final = {"init": init, "id": identity}
