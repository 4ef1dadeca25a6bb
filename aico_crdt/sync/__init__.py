"""What replicas say to each other: one session for each peer, without I/O.

==============  ====================================================================
`replica`       what a session asks of the store: the port, and its values
`event`         what happens to a session
`effect`        what a session wants done, in which order
`session`       the conversation: greeting, states, timers
`giving`        its half that answers and pushes
`taking`        its half that asks and hands to the store
`exchange`      what both halves share
`window`        back-pressure in bytes
`message`       the messages as bytes
`local`         two replicas brought together without a network
==============  ====================================================================
"""

from __future__ import annotations

from aico_crdt.sync.effect import (
    Acknowledge,
    Drop,
    Effect,
    Ingest,
    IngestBodies,
    IngestManifest,
    Send,
    Tell,
)
from aico_crdt.sync.event import Arriving, Closed, Committed, Event, Ingested, Opened, Received, Sent, Tick
from aico_crdt.sync.local import Report, Side, converge
from aico_crdt.sync.replica import Body, FeedHead, IngestReport, Place, Replica, Run, digest_of
from aico_crdt.sync.session import Session

__all__ = [
    "Acknowledge",
    "Arriving",
    "Body",
    "Closed",
    "Committed",
    "Drop",
    "Effect",
    "Event",
    "FeedHead",
    "Ingest",
    "IngestBodies",
    "IngestManifest",
    "IngestReport",
    "Ingested",
    "Opened",
    "Place",
    "Received",
    "Replica",
    "Report",
    "Run",
    "Send",
    "Sent",
    "Session",
    "Side",
    "Tell",
    "Tick",
    "converge",
    "digest_of",
]
