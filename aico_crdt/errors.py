"""Every error this library raises, as one tree.

::

    AicoError
    ├── CallerError            the call is wrong; nothing changed
    │   ├── InvalidValue           a value no replica could store (NaN, 2**64, unknown field …)
    │   ├── NotFound               no such document, conversation, device, entry
    │   ├── Forbidden              this device may not do that to this kind
    │   ├── Closed                 the object was closed, or its transaction has ended
    │   └── ForkedProcess          opened before os.fork() and used after it
    ├── MachineError           this machine or its files; nothing changed
    │   ├── NoStore                there is no store at that path yet
    │   ├── StoreExists            there already is one
    │   ├── DiskFull               the file system has no room
    │   ├── MapFull                the store's configured size is used up
    │   ├── DiskFailure            the device failed to read or write (EIO)
    │   ├── ReadOnly               the directory or file cannot be written, or must not be
    │   ├── LooseKeyFile           others can read the key file
    │   ├── WrongKey               the key does not open this store
    │   ├── NetworkFilesystem      LMDB is unsafe there
    │   ├── Damaged                bytes on disk do not verify
    │   └── NewerFormat            written by a newer release of this library
    └── PeerError              bytes that came from elsewhere; nothing changed
        ├── Malformed              cannot be what it claims to be; never will be
        │   ├── TooLarge               beyond a stated cap in bytes, count or depth
        │   └── UnknownVersion         of a protocol, frame, bundle or export this release does not speak
        ├── Refused                well formed, but never acceptable
        │   ├── WrongFamily            another owner's device or data
        │   ├── BadSignature           not signed by whom it names
        │   ├── BrokenChain            does not continue the feed it claims to continue
        │   └── NotAllowed             its author may not do this
        ├── NotYet                 may become valid: hold it and ask again (see ``missing``)
        └── Unreachable            no such peer answers, or the handshake failed

``blame`` is ``"caller"``, ``"machine"`` or ``"peer"``; ``code`` is the stable machine word (the class name in
kebab-case), ``cure`` the sentence that says what to do. Two rules: a Rust panic from pycrdt is a ``BaseException``
and is translated in :mod:`aico_crdt.crdt.document` only; and an error never carries content, only ids and counts.
"""

from __future__ import annotations

import re
from typing import ClassVar


def _kebab(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


class AicoError(Exception):
    """Base of every error of this library.

    Args:
        what: one sentence: what happened.
        cure: one sentence: what to do about it. Falls back to the class's own.
    """

    blame: ClassVar[str] = "caller"
    code: ClassVar[str] = "aico-error"
    default_cure: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.code = _kebab(cls.__name__)

    def __init__(self, what: str, cure: str = "") -> None:
        self.what = what
        self.cure = cure or self.default_cure
        super().__init__(f"{what} {self.cure}".strip())


class CallerError(AicoError):
    """The call is wrong; nothing changed."""


class InvalidValue(CallerError):
    """A value that no replica could store or that the kind does not know."""


class NotFound(CallerError):
    """No such document, conversation, device or entry here."""


class Forbidden(CallerError):
    """This device may not do that; the authority table says who may."""


class Closed(CallerError):
    """The store, session or transaction has been closed."""

    default_cure = "Open it again."


class ForkedProcess(CallerError):
    """Opened before ``os.fork()``; LMDB must not be used across it."""

    default_cure = "Open the store in the child process instead of inheriting it."


class MachineError(AicoError):
    """This machine, its disk or its files."""

    blame = "machine"


class NoStore(MachineError):
    """There is no store at that path."""

    default_cure = "Run `aico-crdt init` to make one, or name another with --store."


class StoreExists(MachineError):
    """A store is already there."""

    default_cure = "Choose another path with --store."


class StoreInUse(MachineError):
    """The store must be closed for this, and somebody has it open."""

    default_cure = "Stop what uses it (an app, `aico-crdt serve`) and try again."


class DiskFull(MachineError):
    """ENOSPC: the file system has no room; nothing was acknowledged."""

    default_cure = "Free some space and try again; earlier data is readable."


class MapFull(MachineError):
    """The store's configured size is used up; reading and forgetting still work."""

    default_cure = "Raise `map_size` in the configuration, or forget something."


class DiskFailure(MachineError):
    """EIO: the device failed; nothing was acknowledged."""

    default_cure = "Check the disk; `aico-crdt verify` tells what is damaged."


class ReadOnly(MachineError):
    """The path cannot be written, or must not be."""


class LooseKeyFile(MachineError):
    """The key file can be read by others."""


class WrongKey(MachineError):
    """The key does not open this store."""


class NetworkFilesystem(MachineError):
    """LMDB's locks and memory map are unsafe on network file systems."""

    default_cure = "Keep the store on a local disk, or pass allow_network_fs=True if you are sure."


class Damaged(MachineError):
    """Bytes on disk do not verify."""

    default_cure = "Run `aico-crdt repair`: what is damaged is made or fetched anew; or restore a backup."


class NewerFormat(MachineError):
    """Written by a newer release; the files were left untouched."""

    default_cure = "Upgrade aico-crdt on this device."


class PeerError(AicoError):
    """Bytes that came from elsewhere; nothing changed here."""

    blame = "peer"


class Malformed(PeerError):
    """Cannot be what it claims to be, and never will be."""


class TooLarge(Malformed):
    """Beyond a stated cap in bytes, count or depth."""


class UnknownVersion(Malformed):
    """A version this release does not speak."""

    default_cure = "Upgrade the older of the two."


class Refused(PeerError):
    """Well formed, but never acceptable here."""


class WrongFamily(Refused):
    """Belongs to another owner's family."""


class BadSignature(Refused):
    """Not signed by the device it names."""


class BrokenChain(Refused):
    """Does not continue the feed it claims to continue."""


class NotAllowed(Refused):
    """Its author may not do this to this kind."""


class NotYet(PeerError):
    """May become valid later; hold it.

    ``missing`` is one word for what it waits for: ``author``, ``key``, ``predecessor``, ``dependency``, ``kind``,
    ``operation``, ``format``, ``force``; of a document: ``clock`` (an operation of one client), ``life`` (the end of an
    earlier life), ``body`` (what of it is not here), ``branch`` (of a forked feed). ``thing`` names which one, where
    the entry's header does not, and ``upto`` how far it must have come.
    """

    def __init__(self, missing: str, what: str, cure: str = "", *, thing: bytes = b"", upto: int = 0) -> None:
        super().__init__(what, cure)
        self.missing = missing
        self.thing = thing
        self.upto = upto


class Unreachable(PeerError):
    """No such peer answers, or the handshake failed."""
