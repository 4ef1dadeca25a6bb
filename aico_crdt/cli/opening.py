"""What one invocation was told, and opening the store, key and lease that belong together (see `aico_crdt.home`)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from aico_crdt import config, logs
from aico_crdt.errors import InvalidValue, NoStore, NotFound
from aico_crdt.home import ENV_HOME, Home

if TYPE_CHECKING:
    from aico_crdt.companion.store import Store
    from aico_crdt.trust import Identity

ENV_STORE: Final = "AICO_CRDT_STORE"
ENV_KEY: Final = "AICO_CRDT_KEY_FILE"
ENV_CONFIG: Final = "AICO_CRDT_CONFIG"
ENV_LOG: Final = "AICO_CRDT_LOG_FILE"
log = logs.logger(__name__)


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
    def open(self, path: Path | None = None, key: Path | None = None, *, writable: bool = True) -> Iterator[Store]:
        """The store of this invocation, or another one at `path` with the key file `key`; to look only unless
        `writable`.

        Raises:
            NoStore, WrongKey, LooseKeyFile and what :meth:`Store.open` raises.
        """
        from aico_crdt.companion.store import Store
        from aico_crdt.store.environment import read_label

        directory = self.store_path if path is None else path.absolute()
        try:
            label = read_label(directory)
        except NoStore as error:
            if path is None and self.prepared() is not None:
                raise NoStore(
                    error.what,
                    "This device has a key and waits to be admitted: run `aico-crdt init --join FILE` with the file "
                    "that `aico-crdt admit` wrote on another device.",
                ) from None
            raise
        identity = self.identity(directory, label.device, self.key if path is None else key)
        lease = self.home.lease_of(label.store)
        if directory in lease.parents:
            raise InvalidValue("The lease would lie inside the store.", f"Set {ENV_HOME} to a directory outside of it.")
        with Store.open(directory, identity, config=self.config(), lease=lease, writable=writable) as store:
            log.info("opened store %s of device %s", label.store.hex(), label.device.hex())
            yield store

    def look(self, path: Path | None = None, key: Path | None = None) -> AbstractContextManager[Store]:
        """As :meth:`open`, for commands that only read: they change nothing, not even that the store was opened."""
        return self.open(path, key, writable=False)

    def identity(self, directory: Path, device: bytes, key: Path | None) -> Identity:
        """The identity of the store at `directory`, from `key` or its own place."""
        from aico_crdt.companion.opening import identity_of

        return identity_of(self.home, directory, device, key)

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
            try:
                write_private(self.home.next_of(self.store_path), made.device.hex().encode() + b"\n")
            except BaseException:
                discard(path)  # nobody would find it again
                raise
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
    """Write a file of mode 0600, whole or not at all. Raises as :func:`private_file`."""
    with private_file(path) as file:
        file.write(content)


@contextmanager
def private_file(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """A file of mode 0600, opened in `mode` (text is UTF-8), which is at `path` once the block ends well.

    Raises:
        OSError: the system refuses, naming `path`; whatever was there is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, mode, encoding=None if "b" in mode else "utf-8") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            discard(temporary)
            raise
    except OSError as error:
        if error.filename == str(temporary):
            error.filename = str(path)
        raise


def check_target(path: Path) -> None:
    """Before a file is made.

    Raises:
        NotFound: its directory is not there.
    """
    directory = path.absolute().parent
    if not directory.is_dir():
        raise NotFound(f"There is no directory {directory} for {path.name}.", f"Make it first: mkdir -p {directory}")


def discard(path: Path) -> None:
    """Remove a file that this invocation made and does not need."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
