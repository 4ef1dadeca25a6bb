"""Where a device's store, key, lease and peers are on this machine.

The key is the device's, so its file is named by the device: ``keys/<first 32 hex digits of the device id>.key``. The
store's label names its device in clear; so the key of any store, a restored one too, is found without being told.
A key that was made before there was a store (`aico-crdt id`, to be admitted) is noted in ``keys/next-<store path>``
until that store exists. The lease is ``leases/<store id>.lease``. Neither key nor lease lies inside the store: who
copies the directory gets no key, and a copy that is opened is noticed.

=====================  ==============================================  =======================
`AICO_CRDT_HOME`       not set: platformdirs                           set
=====================  ==============================================  =======================
store                  user_data_dir("aico-crdt")/store                HOME/store
keys                   user_config_dir("aico-crdt")/keys               HOME/keys
leases                 user_state_dir("aico-crdt")/leases              HOME/leases
configuration          user_config_dir("aico-crdt")/config.toml        HOME/config.toml
peers to dial          user_config_dir("aico-crdt")/devices.yaml       HOME/devices.yaml
=====================  ==============================================  =======================
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

import platformdirs

PROGRAM: Final = "aico-crdt"
ENV_HOME: Final = "AICO_CRDT_HOME"


@dataclass(frozen=True, slots=True)
class Home:
    """The directories of one user on this machine, or of one AICO_CRDT_HOME."""

    store: Path
    keys: Path
    leases: Path
    config: Path
    peers: Path

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Home:
        one = environment.get(ENV_HOME)
        if one:
            home = Path(one).absolute()
            return cls(home / "store", home / "keys", home / "leases", home / "config.toml", home / "devices.yaml")
        settings = platformdirs.user_config_path(PROGRAM)
        data, state = platformdirs.user_data_path(PROGRAM), platformdirs.user_state_path(PROGRAM)
        places = (data / "store", settings / "keys", state / "leases", settings / "config.toml")
        return cls(*places, settings / "devices.yaml")

    def key_of(self, device: bytes) -> Path:
        return self.keys / f"{device.hex()[:32]}.key"

    def lease_of(self, store: bytes) -> Path:
        return self.leases / f"{store.hex()}.lease"

    def next_of(self, store: Path) -> Path:
        """The note of a key made before there is a store at `store`."""
        name = blake2b(os.fsencode(os.path.realpath(store)), digest_size=8, person=b"aico.next.1").hexdigest()
        return self.keys / f"next-{name}"
