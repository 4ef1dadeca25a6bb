"""What every replica must do to stand behind a session: a kit that comes with the port.

A store is accepted by a test class of a few lines::

    class TestLmdbReplica(ReplicaAcceptance):
        @pytest.fixture
        def family(self, tmp_path): ...    # three `Subject`s that trust each other fully and share `tags`
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import pytest

from aico_crdt.config import Config
from aico_crdt.sync import (
    Acknowledge,
    Ingest,
    IngestBodies,
    IngestManifest,
    IngestReport,
    Place,
    Replica,
    Report,
    converge,
    digest_of,
)

CONFIG = Config(window_bytes=64 * 1024, chunk_bytes=4096)
NOWHERE = b"\xff" * 16


class Subject(Protocol):
    """One device under test, from outside."""

    @property
    def replica(self) -> Replica: ...

    @property
    def tags(self) -> Sequence[bytes]:
        """At least two collections that all subjects share and that `write` can write to."""

    def write(self, tag: bytes) -> None:
        """One own entry of some 100 bytes, which depends on all that is applied here."""

    def carry_out(
        self, effect: Ingest | IngestManifest | IngestBodies | Acknowledge, source: bytes
    ) -> IngestReport | None:
        """Do what a session wants done; durable on return."""

    def content(self, tag: bytes) -> object:
        """What the collection shows, equal on replicas that hold the same."""

    def prune(self, tag: bytes) -> bool:
        """Drop all entries of a collection, keeping what they made. False where that is not possible."""

    def reopen(self) -> None:
        """Close and open it again; all that is durable is still there."""


def meet(a: Subject, b: Subject) -> Report:
    """Bring two subjects together."""
    return converge(
        a.replica,
        b.replica,
        lambda effect: a.carry_out(effect, b.replica.device),
        lambda effect: b.carry_out(effect, a.replica.device),
        0,
        config=CONFIG,
    )


def entries_of(replica: Replica, tag: bytes, max_bytes: int = 1 << 20) -> list[bytes]:
    """Every entry, in order of arrival, read in pieces."""
    wants = [Place(head.device, head.incarnation, head.floor) for head in replica.heads(tag)]
    found: list[bytes] = []
    after: int | None = 0
    while after is not None:
        runs, after = replica.read_entries(tag, wants, max_bytes, after)
        found += [raw for run in runs for raw in run]
    return found


class ReplicaAcceptance:
    @pytest.fixture
    def family(self) -> Sequence[Subject]:
        raise NotImplementedError("Three subjects of one family, with nothing but what makes them one.")

    # Questions

    def test_a_digest_is_of_the_heads_and_changes_with_them(self, family: Sequence[Subject]) -> None:
        subject, _, _ = family
        replica, tag = subject.replica, subject.tags[0]
        before = replica.digest(tag)
        assert before == digest_of(replica.heads(tag))
        subject.write(tag)
        assert replica.digest(tag) == digest_of(replica.heads(tag)) != before

    def test_heads_count_entries_and_are_sorted(self, family: Sequence[Subject]) -> None:
        subject, other, _ = family
        replica, tag = subject.replica, subject.tags[0]
        for _ in range(3):
            subject.write(tag)
            other.write(tag)
        meet(subject, other)
        heads = list(replica.heads(tag))
        assert heads == sorted(heads)
        own = {head.device: head for head in heads}[replica.device]
        assert own.floor == 1
        assert own.seq >= 3
        assert (own.device, own.incarnation) == (replica.device, replica.incarnation)

    def test_a_hash_is_that_of_the_entry_at_its_place(self, family: Sequence[Subject]) -> None:
        subject, _, _ = family
        replica, tag = subject.replica, subject.tags[0]
        subject.write(tag)
        subject.write(tag)
        head = next(head for head in replica.heads(tag) if head.device == replica.device)
        assert replica.hash_at(tag, Place(*head[:2], head.seq)) == head.hash
        earlier = replica.hash_at(tag, Place(*head[:2], head.seq - 1))
        assert earlier not in (None, head.hash)
        assert replica.hash_at(tag, Place(*head[:2], head.seq + 1)) is None
        assert replica.hash_at(tag, Place(b"?" * 32, b"?" * 8, 1)) is None

    def test_a_collection_that_is_not_there_is_empty(self, family: Sequence[Subject]) -> None:
        replica = family[0].replica
        peer = family[1].replica.device
        assert tuple(replica.heads(NOWHERE)) == ()
        assert replica.digest(NOWHERE) == digest_of(())
        assert replica.may_have(peer, NOWHERE) is False
        assert NOWHERE not in replica.collections(peer)

    def test_a_stranger_may_have_nothing(self, family: Sequence[Subject]) -> None:
        replica = family[0].replica
        assert not set(family[0].tags) & set(replica.collections(b"?" * 32))
        assert not any(replica.may_have(b"?" * 32, tag) for tag in family[0].tags)

    def test_what_is_shared_is_listed_even_when_empty(self, family: Sequence[Subject]) -> None:
        a, b, _ = family
        assert set(a.tags) <= set(a.replica.collections(b.replica.device))
        assert all(a.replica.may_have(b.replica.device, tag) for tag in a.tags)

    # Reading

    @pytest.mark.parametrize("max_bytes", [1, 700, 1 << 20])
    def test_reading_in_pieces_gives_every_entry_once_in_causal_order(
        self, family: Sequence[Subject], max_bytes: int
    ) -> None:
        a, b, _ = family
        tag = a.tags[0]
        for _ in range(4):
            a.write(tag)
            b.write(tag)
            meet(a, b)
        whole = entries_of(a.replica, tag)
        assert entries_of(a.replica, tag, max_bytes) == whole
        assert len(set(whole)) == len(whole) == sum(head.seq for head in a.replica.heads(tag))

    def test_reading_begins_where_it_is_wanted_and_names_only_wanted_feeds(self, family: Sequence[Subject]) -> None:
        a, b, _ = family
        tag = a.tags[0]
        for _ in range(3):
            a.write(tag)
            b.write(tag)
        meet(a, b)
        head = next(head for head in a.replica.heads(tag) if head.device == b.replica.device)
        runs, after = a.replica.read_entries(tag, [Place(*head[:2], head.seq)], 1 << 20, 0)
        assert after is None
        assert [len(run) for run in runs] == [1]
        assert a.replica.read_entries(tag, [Place(*head[:2], head.seq + 1)], 1 << 20, 0) == ([], None)

    # Taking

    def test_two_that_meet_hold_the_same_and_all_of_it(self, family: Sequence[Subject]) -> None:
        a, b, _ = family
        for number in range(20):
            (a if number % 3 else b).write(a.tags[number % 2])
        report = meet(a, b)
        assert report.equal
        assert (report.a.rejected, report.b.rejected, report.a.held, report.b.held) == (0, 0, 0, 0)
        for tag in a.tags:
            assert a.replica.heads(tag) == b.replica.heads(tag)
            assert a.content(tag) == b.content(tag)

    def test_meeting_again_moves_nothing(self, family: Sequence[Subject]) -> None:
        a, b, _ = family
        a.write(a.tags[0])
        meet(a, b)
        again = meet(a, b)
        assert again.equal
        assert again.a.applied == again.b.applied == again.a.duplicates == again.b.duplicates == 0
        assert again.a.received_bytes < 4096

    def test_what_was_taken_is_durable(self, family: Sequence[Subject]) -> None:
        a, b, _ = family
        a.write(a.tags[0])
        meet(a, b)
        heads = tuple(b.replica.heads(a.tags[0]))
        b.reopen()
        assert tuple(b.replica.heads(a.tags[0])) == heads

    def test_entries_pass_through_a_third(self, family: Sequence[Subject]) -> None:
        a, b, c = family
        a.write(a.tags[0])
        c.write(a.tags[0])
        assert meet(a, b).equal
        assert meet(b, c).equal
        assert meet(b, a).equal
        assert a.content(a.tags[0]) == c.content(a.tags[0])

    def test_fault_04_taking_twice_changes_nothing_and_names_the_heads_again(self, family: Sequence[Subject]) -> None:
        a, b, _ = family
        tag = a.tags[0]
        a.write(tag)
        meet(a, b)
        before = (tuple(b.replica.heads(tag)), b.content(tag))
        entry = entries_of(a.replica, tag)[-1]
        report = b.carry_out(Ingest(1, tag, [[entry]]), a.replica.device)
        assert report is not None
        assert (report.applied, report.duplicates) == (0, 1)
        assert (tuple(b.replica.heads(tag)), b.content(tag)) == before
        assert len(report.heads) == 1
        assert report.heads[0] in before[0]

    def test_fault_14_backwards_is_held_asked_for_and_in_the_end_applied(self, family: Sequence[Subject]) -> None:
        a, b, _ = family
        tag = a.tags[0]
        for _ in range(4):
            a.write(tag)
        own = [place for place in a.replica.heads(tag) if place.device == a.replica.device]
        runs, _ = a.replica.read_entries(tag, [Place(*own[0][:2], 1)], 1 << 20, 0)
        mine = [raw for run in runs for raw in run]
        first = b.carry_out(Ingest(1, tag, [[mine[-1]]]), a.replica.device)
        assert first is not None
        assert (first.applied, first.held) == (0, 1)
        assert [place[:2] for place in first.ask] == [own[0][:2]]
        for token, raw in enumerate(reversed(mine[:-1]), 2):
            b.carry_out(Ingest(token, tag, [[raw]]), a.replica.device)
        assert meet(a, b).equal
        assert a.content(tag) == b.content(tag)

    def test_fault_32_damaged_entries_are_rejected_and_change_nothing(self, family: Sequence[Subject]) -> None:
        a, b, _ = family
        tag = a.tags[0]
        a.write(tag)
        entry = entries_of(a.replica, tag)[-1]
        before = (tuple(b.replica.heads(tag)), b.content(tag))
        bad = [entry[:end] for end in range(1, len(entry), 7)] + [entry + b"\0", b"\xc0"]
        bad += [entry[:place] + bytes([entry[place] ^ 1]) + entry[place + 1 :] for place in range(0, len(entry), 11)]
        for token, raw in enumerate(bad, 1):
            report = b.carry_out(Ingest(token, tag, [[raw]]), a.replica.device)
            assert report is not None
            assert report.applied == 0
        assert (tuple(b.replica.heads(tag)), b.content(tag)) == before

    # Manifests

    def test_a_newcomer_comes_up_by_manifest_when_history_is_gone(self, family: Sequence[Subject]) -> None:
        a, b, c = family
        tag = a.tags[0]
        for _ in range(5):
            a.write(tag)
            b.write(tag)
        meet(a, b)
        if not a.prune(tag):
            pytest.skip("this replica cannot prune on request")
        a.write(tag)
        assert meet(a, c).equal
        assert a.content(tag) == c.content(tag)
        c.write(tag)
        assert meet(a, c).equal
        assert meet(b, c).equal
        assert a.replica.digest(tag) != b.replica.digest(tag) or a.content(tag) == b.content(tag)

    def test_heads_without_bodies_are_lacking(self, family: Sequence[Subject]) -> None:
        a, b, _ = family
        tag = a.tags[0]
        for _ in range(3):
            a.write(tag)
        if not a.prune(tag) or (raw := a.replica.manifest(tag)) is None:
            pytest.skip("this replica cannot prune on request, or attests nothing")
        assert {head.lacking for head in a.replica.heads(tag)} == {0}
        b.carry_out(IngestManifest(1, tag, raw), a.replica.device)
        assert [(head.seq, head.lacking) for head in b.replica.heads(tag)] == [(3, 3)]
        bodies = list(a.replica.bodies(tag, b.replica.stubs(tag, 10), 1 << 20))
        b.carry_out(IngestBodies(2, tag, bodies), a.replica.device)
        assert [(head.seq, head.lacking) for head in b.replica.heads(tag)] == [(3, 0)]

    def test_a_damaged_manifest_changes_nothing(self, family: Sequence[Subject]) -> None:
        a, b, _ = family
        tag = a.tags[0]
        a.write(tag)
        raw = a.replica.manifest(tag)
        if raw is None:
            pytest.skip("this replica attests nothing")
        before = (tuple(b.replica.heads(tag)), b.content(tag), list(b.replica.stubs(tag, 10)))
        for place in range(0, len(raw), 5):
            bad = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
            b.carry_out(IngestManifest(place + 1, tag, bad), a.replica.device)
        assert (tuple(b.replica.heads(tag)), b.content(tag), list(b.replica.stubs(tag, 10))) == before
