"""Opening a store without naming its key and lease: what an app embeds."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path

from aico_crdt.companion.kinds import KINDS
from aico_crdt.companion.store import Store
from aico_crdt.config import Config, load
from aico_crdt.errors import InvalidValue, NoStore, WrongKey
from aico_crdt.home import Home
from aico_crdt.store import found
from aico_crdt.store.environment import now_ms, read_label
from aico_crdt.trust import Identity
from aico_crdt.trust.keyfile import KeyFile


def identity_of(home: Home, directory: Path, device: bytes, key: Path | None = None) -> Identity:
    """The identity of the store at `directory`, from the key file `key` or from its own place.

    Raises:
        WrongKey: there is none, or it is another device's. LooseKeyFile: others can read it.
    """
    file = KeyFile(key or home.key_of(device))
    if not file.exists():
        raise WrongKey(
            f"The key of the store at {directory} is not here: there is no {file.path}.",
            "Name its file with --key, or restore it from your backup of the key.",
        )
    identity = Identity.from_seed(file.read())
    if identity.device != device:
        raise WrongKey(
            f"{file.path} is not the key of the store at {directory}.",
            f"Name the key of device {device.hex()[:12]}… with --key, or another store with --store.",
        )
    return identity


def open_store(
    path: str | os.PathLike[str] | None = None,
    *,
    create: bool = False,
    name: str = "",
    key: str | os.PathLike[str] | None = None,
    config: Config | None = None,
    clock_ms: Callable[[], int] = now_ms,
) -> Store:
    """Open a companion's store; what an app embeds.

    Args:
        path: its directory; by default the user's own, see :mod:`aico_crdt.home`.
        create: found a new family with this device when there is no store yet.
        name: this device's name in a new family; the host's by default.
        key: the device's key file, when it is not in its usual place.
        config: limits; by default the configuration file and the environment.

    Raises:
        NoStore: there is none and `create` is not set.
        InvalidValue: there is none, but a key waits for it to join a family (`aico-crdt id` made it).
        WrongKey, LooseKeyFile, NewerFormat, Damaged, ReadOnly: see each.
    """
    home = Home.of(os.environ)
    directory = home.store if path is None else Path(path).absolute()
    settings = config or load(home.config, os.environ)
    try:
        label = read_label(directory)
    except NoStore:
        if not create:
            raise
        if key is None and os.path.lexists(home.next_of(directory)):
            raise InvalidValue(
                f"A key was made for a store at {directory} that is to join a family.",
                "Run `aico-crdt init --join ADMISSION`, or `aico-crdt init` to found a family with that key.",
            ) from None
        seed = os.urandom(32)
        identity = Identity.from_seed(seed)
        KeyFile(key or home.key_of(identity.device)).create(seed)
        device_name = name or platform.node() or "device"
        found(directory, identity, KINDS, name=device_name[:64], config=settings, clock_ms=clock_ms)
        label = read_label(directory)
    identity = identity_of(home, directory, label.device, None if key is None else Path(key))
    return Store.open(directory, identity, config=settings, lease=home.lease_of(label.store), clock_ms=clock_ms)
