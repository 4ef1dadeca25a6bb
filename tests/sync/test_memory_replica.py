"""The memory twin is accepted by the kit that stores are measured with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from aico_crdt.sync import Acknowledge, Ingest, IngestBodies, IngestManifest, IngestReport
from tests.sync.acceptance import ReplicaAcceptance, Subject
from tests.sync.memory_replica import MemoryReplica, tag


@dataclass
class Twin:
    replica: MemoryReplica

    @property
    def tags(self) -> Sequence[bytes]:
        return self.replica.tags

    def write(self, name: bytes) -> None:
        self.replica.write(name, b"x" * 100)

    def carry_out(
        self, effect: Ingest | IngestManifest | IngestBodies | Acknowledge, source: bytes
    ) -> IngestReport | None:
        return self.replica.carry_out(effect, source)

    def content(self, name: bytes) -> object:
        return self.replica.documents(name)

    def prune(self, name: bytes) -> bool:
        self.replica.prune(name)
        return True

    def reopen(self) -> None:
        """What is in it is durable."""


class TestMemoryReplica(ReplicaAcceptance):
    @pytest.fixture
    def family(self) -> Sequence[Subject]:
        members = [MemoryReplica(seed, (tag(0), tag(1))) for seed in (1, 2, 3)]
        for member in members:
            member.shares = {other.device: member.tags for other in members}
        return [Twin(member) for member in members]
