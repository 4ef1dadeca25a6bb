"""Two replicas brought together without a network."""

from __future__ import annotations

import pytest

from aico_crdt.errors import DiskFull
from aico_crdt.sync import Acknowledge, FeedHead, Ingest, IngestReport, Report, Side, converge
from tests.sync.memory_replica import MemoryReplica, tag

T0, T1 = tag(0), tag(1)


def merge(a: MemoryReplica, b: MemoryReplica) -> Report:
    return converge(a, b, lambda effect: a.carry_out(effect, b.device), lambda effect: b.carry_out(effect, a.device), 0)


def test_both_end_equal_and_the_report_says_what_came_from_where() -> None:
    a, b = MemoryReplica(1, (T0, T1)), MemoryReplica(2, (T0, T1))
    for _ in range(7):
        a.write(T0, b"x")
    for _ in range(3):
        b.write(T1, b"y")
    report = merge(a, b)
    assert report.equal
    assert (report.a.applied, report.b.applied) == (3, 7)
    assert (report.a.by_collection, report.b.by_collection) == ({T1: 3}, {T0: 7})
    assert a.documents(T0) == b.documents(T0)
    assert a.documents(T1) == b.documents(T1)
    assert report.b.received_bytes > 7 * 100


def test_merging_again_moves_nothing_and_takes_no_time() -> None:
    a, b = MemoryReplica(1), MemoryReplica(2)
    a.write(T0, b"x")
    merge(a, b)
    again = merge(a, b)
    assert (again.equal, again.a.applied, again.b.applied) == (True, 0, 0)
    assert again.a.messages < 6


def test_another_family_is_refused_and_nothing_changes() -> None:
    a, b = MemoryReplica(1), MemoryReplica(2, family=b"G" * 16)
    a.write(T0, b"x")
    report = merge(a, b)
    assert "family" in report.dropped
    assert not report.equal
    assert not b.heads(T0)


def test_what_one_side_refuses_is_reported_and_ends() -> None:
    a, b = MemoryReplica(1, (T0, T1)), MemoryReplica(2, (T0, T1))
    a.write(T0, b"x")
    a.write(T1, b"x")

    def refuse(effect: object) -> IngestReport | None:
        if isinstance(effect, Acknowledge):
            return None
        if isinstance(effect, Ingest) and effect.tag == T0:
            return IngestReport(rejected=sum(len(run) for run in effect.runs))
        return b.carry_out(effect, a.device)  # type: ignore[arg-type]

    report = converge(a, b, lambda effect: a.carry_out(effect, b.device), refuse, 0)
    assert report.different == (T0,)
    assert report.b.by_collection == {T0: 0, T1: 1}
    assert 0 < report.b.rejected < 10, "asked for a few times at most"
    assert report.dropped == ""


def test_collections_that_one_lacks_are_no_difference() -> None:
    a, b = MemoryReplica(1, (T0, T1)), MemoryReplica(2, (T0,))
    a.write(T1, b"x")
    a.write(T0, b"x")
    assert merge(a, b).equal


def test_a_full_disk_passes_through_and_the_rest_is_made_up_for_later() -> None:
    a, b = MemoryReplica(1, (T0, T1)), MemoryReplica(2, (T0, T1))
    for _ in range(5):
        a.write(T0, b"x")
        a.write(T1, b"x")

    def fail(effect: object) -> IngestReport | None:
        if isinstance(effect, Ingest) and effect.tag == T1:
            raise DiskFull("The disk is full.")
        return b.carry_out(effect, a.device)  # type: ignore[arg-type]

    with pytest.raises(DiskFull):
        converge(a, b, lambda effect: a.carry_out(effect, b.device), fail, 0)
    assert b.heads(T0)
    assert not b.heads(T1)
    assert merge(a, b).equal


def test_talk_without_end_is_ended() -> None:
    a, b = MemoryReplica(1), MemoryReplica(2)
    a.write(T0, b"x")
    b.write(T0, b"y")
    for replica in (a, b):
        replica.digest = lambda name, replica=replica: replica.random.randbytes(16)  # type: ignore[method-assign,misc]
        replica.heads = lambda name, replica=replica: (  # type: ignore[method-assign,misc]
            FeedHead(replica.device, replica.random.randbytes(8), 1, 1, replica.random.randbytes(32)),
        )
    assert "without end" in merge(a, b).dropped


def test_progress_is_told_as_it_happens() -> None:
    a, b = MemoryReplica(1), MemoryReplica(2)
    for _ in range(400):
        a.write(T0, a.random.randbytes(3000))
    seen: list[int] = []

    def progress(one: Side, other: Side) -> None:
        seen.append(other.applied)

    report = converge(
        a,
        b,
        lambda effect: a.carry_out(effect, b.device),
        lambda effect: b.carry_out(effect, a.device),
        0,
        progress=progress,
    )
    assert report.equal
    assert seen == sorted(seen)
    assert len(set(seen)) > 4
    assert seen[-1] == 400


def test_stubs_are_filled_in_one_merge() -> None:
    a, b = MemoryReplica(1), MemoryReplica(2)
    for _ in range(1200):
        a.write(T0, b"x")
    a.prune(T0)
    assert merge(a, b).equal
    assert b.documents(T0) == a.documents(T0)
    assert None not in b.documents(T0).values()
