"""Where a device's store, key and lease are, and opening a store without naming each.

The key is the device's, so its file is named by the device: ``keys/<first 32 hex digits of the device id>.key``. The
store's label names its device in clear; so the key of any store, a restored one too, is found without being told.
The lease is ``leases/<store id>.lease``. Neither lies inside the store: who copies the directory gets no key, and a
copy that is opened is noticed.

=====================  ==============================================  =======================
`AICO_CRDT_HOME`       not set: platformdirs                           set
=====================  ==============================================  =======================
store                  user_data_dir("aico-crdt")/store                HOME/store
keys                   user_config_dir("aico-crdt")/keys               HOME/keys
leases                 user_state_dir("aico-crdt")/leases              HOME/leases
configuration          user_config_dir("aico-crdt")/config.toml        HOME/config.toml
=====================  ==============================================  =======================
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs

from aico_crdt.companion.kinds import KINDS
from aico_crdt.companion.store import Store
from aico_crdt.config import Config, load
from aico_crdt.errors import NoStore, WrongKey
from aico_crdt.store import found
from aico_crdt.store.environment import Label, now_ms, read_label
from aico_crdt.trust import Identity
from aico_crdt.trust.keyfile import KeyFile

PROGRAM: Final = "aico-crdt"
ENV_HOME: Final = "AICO_CRDT_HOME"


@dataclass(frozen=True, slots=True)
class Home:
    """The directories of one user on this machine, or of one AICO_CRDT_HOME."""

    store: Path
    keys: Path
    leases: Path
    config: Path

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Home:
        one = environment.get(ENV_HOME)
        if one:
            home = Path(one).absolute()
            return cls(home / "store", home / "keys", home / "leases", home / "config.toml")
        settings = platformdirs.user_config_path(PROGRAM)
        data, state = platformdirs.user_data_path(PROGRAM), platformdirs.user_state_path(PROGRAM)
        return cls(data / "store", settings / "keys", state / "leases", settings / "config.toml")

    def key_of(self, device: bytes) -> Path:
        return self.keys / f"{device.hex()[:32]}.key"

    def lease_of(self, store: bytes) -> Path:
        return self.leases / f"{store.hex()}.lease"

    def identity(self, directory: Path, label: Label, key: Path | None = None) -> Identity:
        """The identity of the store at `directory`, from the key file `key` or from its own place.

        Raises:
            WrongKey: there is none, or it is another device's. LooseKeyFile: others can read it.
        """
        file = KeyFile(key or self.key_of(label.device))
        if not file.exists():
            raise WrongKey(
                f"The key of the store at {directory} is not here: there is no {file.path}.",
                "Name its file with --key, or restore it from your backup of the key.",
            )
        identity = Identity.from_seed(file.read())
        if identity.device != label.device:
            raise WrongKey(
                f"{file.path} is not the key of the store at {directory}.",
                f"Name the key of device {label.device.hex()[:12]}… with --key, or another store with --store.",
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
        path: its directory; by default the user's own, see the table of this module.
        create: found a new family with this device when there is no store yet.
        name: this device's name in a new family; the host's by default.
        key: the device's key file, when it is not in its usual place.
        config: limits; by default the configuration file and the environment.

    Raises:
        NoStore: there is none and `create` is not set.
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
        seed = os.urandom(32)
        identity = Identity.from_seed(seed)
        KeyFile(key or home.key_of(identity.device)).create(seed)
        device_name = name or platform.node() or "device"
        found(directory, identity, KINDS, name=device_name[:64], config=settings, clock_ms=clock_ms)
        label = read_label(directory)
    identity = home.identity(directory, label, None if key is None else Path(key))
    return Store.open(directory, identity, config=settings, lease=home.lease_of(label.store), clock_ms=clock_ms)
