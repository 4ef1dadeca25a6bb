"""The mesh: links between devices over CurveZMQ, and the node that lets replicas talk through them.

==========================================  ==================================================================
:mod:`~aico_crdt.mesh.frame`                bytes of a frame; messages from frames (pure)
:mod:`~aico_crdt.mesh.outbox`               what waits to leave, by lane (pure)
:mod:`~aico_crdt.mesh.channel`              one connection as a state machine: credit, heartbeats (pure)
:mod:`~aico_crdt.mesh.backoff`              the waits between dials (pure)
:mod:`~aico_crdt.mesh.sockets`              ZeroMQ sockets on an asyncio loop
:mod:`~aico_crdt.mesh.zap`                  who may connect
:mod:`~aico_crdt.mesh.server`               the way in
:mod:`~aico_crdt.mesh.client`               the way out
:mod:`~aico_crdt.mesh.peers`                ``devices.yaml``
:mod:`~aico_crdt.mesh.handler`              what the links tell, and of whom
:mod:`~aico_crdt.mesh.links`                whole messages between devices, whoever dialed
:mod:`~aico_crdt.mesh.news`                 what was committed since the last look
:mod:`~aico_crdt.mesh.copies`               what the copies of one device said they hold
:mod:`~aico_crdt.mesh.node`                 sessions on links, their effects on the store
==========================================  ==================================================================
"""

from __future__ import annotations

from aico_crdt.mesh.frame import Lane
from aico_crdt.mesh.handler import Handler, Instance
from aico_crdt.mesh.links import Links
from aico_crdt.mesh.node import Node
from aico_crdt.mesh.peers import Peer, device_from_text, load_peers, parse_peers
from aico_crdt.mesh.remote import LinkStatus

__all__ = [
    "Node",
    "Links",
    "Handler",
    "Instance",
    "LinkStatus",
    "Lane",
    "Peer",
    "load_peers",
    "parse_peers",
    "device_from_text",
]
