"""What a session wants done: all of its output, to be carried out in the order given.

**Durable before told.** An acknowledgement is sent only in answer to `Ingested`, and the shell raises that only after
the commit is on disk. A shell that dies between the two loses nothing: the peer, unacknowledged, sends again.

``Ingest``, ``IngestManifest`` and ``IngestBodies`` come one at a time: the next follows the `Ingested` with the token
of the last. All other effects are answered by nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from aico_crdt.sync.replica import Body, HeldHead, Place, Run

Lane = Literal["control", "data"]
"""Order holds within a lane. ``control`` may overtake ``data``."""


@dataclass(frozen=True, slots=True)
class Send:
    """Give these bytes to the link."""

    raw: bytes
    lane: Lane


@dataclass(frozen=True, slots=True)
class Ingest:
    """Apply, hold or reject these entries; commit; then raise `Ingested`."""

    token: int
    tag: bytes
    runs: Sequence[Run]


@dataclass(frozen=True, slots=True)
class IngestManifest:
    """Take or refuse this manifest; commit; then raise `Ingested`."""

    token: int
    tag: bytes
    raw: bytes


@dataclass(frozen=True, slots=True)
class IngestBodies:
    """Fill stubs with these bodies, where they are what was attested; commit; then raise `Ingested`. `heads` is how far
    the peer had applied each feed when it read them."""

    token: int
    tag: bytes
    bodies: Sequence[Body]
    heads: Sequence[Place] = ()


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Note that the peer says it holds these heads durably, and has carried out forgets that far."""

    tag: bytes
    heads: Sequence[HeldHead]
    erased: Sequence[Place]


@dataclass(frozen=True, slots=True)
class Drop:
    """Close the link, after what was to be sent before. The session is over. `code` as in `message.Bye`."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Tell:
    """Something for logs and metrics; ids, words and counts only.

    ============  ===================================================================
    ``open``      handshake done: `format`, `device_type`, `incarnation`
    ``ignored``   a message that means nothing here: `type`
    ``unasked``   a delivery nobody asked for, or of a collection the peer may not have: `tag`
    ``own-feed``  the peer holds more of, or another, feed of this very incarnation: the store was rolled back or
                  copied: `tag`, `seq`
    ``fork``      a feed differs at one place, the peer's branch is asked for: `tag`, `device`, `incarnation`, `seq`
    ``skipped``   a push that found no room, digests will repair it: `tag`
    ``too-many``  more of something than a message holds: `what`, `tag`
    ============  ===================================================================
    """

    kind: str
    detail: Mapping[str, object] = field(default_factory=dict)


Delivery = Ingest | IngestManifest | IngestBodies
Effect = Send | Delivery | Acknowledge | Drop | Tell
