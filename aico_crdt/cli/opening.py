"""Where a device's store, key and lease are, and opening them together.

The key is the device's, so its file is named by the device: ``keys/<first 32 hex digits of the device id>.key``. The
store's label names its device in clear; so the key of any store, a restored one too, is found without being told.
A key that was made before there was a store (`aico-crdt id`, to be admitted) is noted in ``keys/next-<store path>``
until that store exists. The lease is ``leases/<store id>.lease``, never inside the store.

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

import contextlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Final

import platformdirs

from aico_crdt import config, logs
from aico_crdt.errors import InvalidValue, WrongKey

if TYPE_CHECKING:
    from aico_crdt.companion.store import Store
    from aico_crdt.trust import Identity

PROGRAM: Final = "aico-crdt"
ENV_HOME: Final = "AICO_CRDT_HOME"
ENV_STORE: Final = "AICO_CRDT_STORE"
ENV_KEY: Final = "AICO_CRDT_KEY_FILE"
ENV_CONFIG: Final = "AICO_CRDT_CONFIG"
ENV_LOG: Final = "AICO_CRDT_LOG_FILE"


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


@dataclass
class App:
    """What one invocation was told, from global options and the environment. `kept` is said when it is interrupted."""

    store: Path | None = None
    key: Path | None = None
    config_path: Path | None = None
    log_file: Path | None = None
    verbosity: int = 0
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    kept: str = "Every write that was reported is kept."

    @property
    def home(self) -> Home:
        return Home.of(self.environment)

    @property
    def store_path(self) -> Path:
        return (self.store or self.home.store).absolute()

    def begin(self) -> None:
        """Set up logging, once everything on the command line is known."""
        logs.configure(self.verbosity, self.log_file)

    def config(self) -> config.Config:
        return config.load(self.config_path or self.home.config, self.environment)

    @contextmanager
    def open(self, path: Path | None = None, key: Path | None = None) -> Iterator[Store]:
        """The store of this invocation, or another one at `path` with the key file `key`.

        Raises:
            NoStore, WrongKey, LooseKeyFile and what :meth:`Store.open` raises.
        """
        from aico_crdt.companion.store import Store
        from aico_crdt.store.environment import read_label

        directory = self.store_path if path is None else path.absolute()
        label = read_label(directory)
        identity = self.identity(directory, label.device, self.key if path is None else key)
        lease = self.home.lease_of(label.store)
        if directory in lease.parents:
            raise InvalidValue("The lease would lie inside the store.", f"Set {ENV_HOME} to a directory outside of it.")
        with Store.open(directory, identity, config=self.config(), lease=lease) as store:
            yield store

    def identity(self, directory: Path, device: bytes, key: Path | None) -> Identity:
        """The identity of the store (or backup) of `device` at `directory`, from `key` or its own place.

        Raises:
            WrongKey: it is not there, or another device's. LooseKeyFile: others can read it.
        """
        from aico_crdt.trust import Identity
        from aico_crdt.trust.keyfile import KeyFile

        file = KeyFile(key or self.home.key_of(device))
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

    # Keys before there is a store

    def prepared(self) -> Identity | None:
        """The identity made for a store that is not there yet, None when there is none."""
        from aico_crdt.trust import Identity
        from aico_crdt.trust.keyfile import KeyFile

        path = self.key or self._next_key()
        return Identity.from_seed(KeyFile(path).read()) if path is not None and KeyFile(path).exists() else None

    def prepare(self) -> tuple[Identity, Path, bool]:
        """As :meth:`prepared`, made if there is none: the identity, its key file, whether that is new."""
        from aico_crdt.trust import Identity
        from aico_crdt.trust.keyfile import KeyFile

        found = self.prepared()
        if found is not None:
            return found, self.key or self.home.key_of(found.device), False
        seed = os.urandom(32)
        made = Identity.from_seed(seed)
        path = self.key or self.home.key_of(made.device)
        KeyFile(path).create(seed)
        if self.key is None:
            write_private(self.home.next_of(self.store_path), made.device.hex().encode() + b"\n")
        return made, path, True

    def settle(self) -> None:
        """The prepared key belongs to a store now."""
        discard(self.home.next_of(self.store_path))

    def _next_key(self) -> Path | None:
        try:
            device = bytes.fromhex(self.home.next_of(self.store_path).read_text(encoding="ascii").strip())
        except (FileNotFoundError, ValueError):
            return None
        return self.home.key_of(device)


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600, whole or not at all.

    Raises:
        OSError: the system refuses; whatever was at `path` is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        discard(temporary)
        raise


def discard(path: Path) -> None:
    """Remove a file that this invocation made and does not need."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
