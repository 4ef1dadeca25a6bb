"""Families of real stores in one process, and what passes between them without a network."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path

import pytest

from aico_crdt.companion import KINDS, Store
from aico_crdt.store import StoreReplica, membership
from aico_crdt.sync import Acknowledge, Ingest, IngestBodies, IngestManifest, IngestReport, Report, converge
from aico_crdt.trust import Identity

NAMES = ("laptop", "phone", "tablet")

Family = Callable[[], list[Store]]


@pytest.fixture
def family(fast_path: Path) -> Iterator[Family]:
    """``family()``: three open stores of one family that know of one another; the same keys, incarnations and names
    in every run."""
    with ExitStack() as stack:

        def make() -> list[Store]:
            draw = random.Random(1).randbytes
            identities = [Identity.from_seed(bytes([number]) * 32) for number in (1, 2, 3)]
            paths = [fast_path / name for name in NAMES]
            membership.found(paths[0], identities[0], KINDS, name=NAMES[0], random=draw)
            stores = [stack.enter_context(Store.open(paths[0], identities[0]))]
            for name, path, identity in zip(NAMES[1:], paths[1:], identities[1:], strict=True):
                raw = membership.admit(stores[0], identity.device, name=name)
                membership.join(path, identity, KINDS, raw, random=draw)
                stores.append(stack.enter_context(Store.open(path, identity)))
            heal(stores)  # the phone was admitted before the tablet and has not heard of it
            return stores

        yield make


def heal(stores: list[Store]) -> None:
    """Bring every pair together; what the last pair learns from one another reaches the first in a second round."""
    for _ in range(2):
        for a, b in combinations(stores, 2):
            assert meet(a, b).equal


def meet(a: Store, b: Store) -> Report:
    """The sync protocol between two stores, back to back."""
    return converge(StoreReplica(a), StoreReplica(b), carrying_out(a, b.device), carrying_out(b, a.device), a.now_ms())


def carrying_out(
    store: Store, peer: bytes
) -> Callable[[Ingest | IngestManifest | IngestBodies | Acknowledge], IngestReport | None]:
    """What carries out on `store` the effects of its session with `peer`."""
    replica = StoreReplica(store)

    def carry_out(effect: Ingest | IngestManifest | IngestBodies | Acknowledge) -> IngestReport | None:
        if isinstance(effect, Acknowledge):
            replica.acknowledged(peer, effect.tag, effect.heads, effect.erased)
            return None
        if isinstance(effect, Ingest):
            report = replica.ingest(effect.tag, effect.runs, peer)
        elif isinstance(effect, IngestManifest):
            report = replica.ingest_manifest(effect.tag, effect.raw, peer)
        else:
            report = replica.ingest_bodies(effect.tag, effect.bodies, peer, effect.heads)
        assert (report.held, report.rejected) == (0, 0)
        return report

    return carry_out
