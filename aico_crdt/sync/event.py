"""What happens to a session: all of its input. `Session.handle` takes one of these and the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aico_crdt.sync.replica import IngestReport, Run


@dataclass(frozen=True, slots=True)
class Opened:
    """The link to the peer stands, its device key authenticated by the transport."""


@dataclass(frozen=True, slots=True)
class Received:
    """One whole message from the peer."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class Committed:
    """Entries were committed here: written by this device, or applied after they came from somewhere.

    `author` is the device that wrote them, in `incarnation` (empty where it is not known), `source` the name of the
    session that brought them (empty for own ones and where it is not known).
    """

    tag: bytes
    runs: Sequence[Run]
    author: bytes
    incarnation: bytes = b""
    source: bytes = b""


@dataclass(frozen=True, slots=True)
class Ingested:
    """An `Ingest`, `IngestManifest` or `IngestBodies` effect was carried out and is durable."""

    token: int
    report: IngestReport


@dataclass(frozen=True, slots=True)
class Sent:
    """So many bytes have left this machine: a slow link is no dead one."""

    count: int


@dataclass(frozen=True, slots=True)
class Arriving:
    """A part of a message has come that is not whole yet: what is awaited may be behind it, or it."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed. Expected about every second; only timers depend on it."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The link is gone."""


Event = Opened | Received | Committed | Ingested | Sent | Arriving | Tick | Closed
