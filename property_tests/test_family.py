"""The fold of trust statements against its specification, written a second time as recursive definitions.

Histories are what devices could really have said: each writes knowing its own past and what others had when it last
heard of them. Stamps are arbitrary (a clock may be wrong or lie), and so are authors: revoked, limited, never admitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from aico_crdt.ids import device_name
from aico_crdt.trust import Admit, Family, Found, Record, Revoke, family_id, fold
from property_tests import model
from tests.trust.history import LIFE, NONCE, History, device

NAMES = "abcdefg"
TRUST = dict(zip(NAMES, ["full", "full", "full", "full", "limited", "full", "relay"], strict=True))
"""One trust a device; that several admissions may differ has its own tests."""
FEED = b"conversation-tag"

Step = tuple[str, str, str, int, int, int]
"""author, what it does, to whom, how many statements ago it last heard of the others, stamp, head."""


def invent(seed: int) -> list[Step]:
    """A script in which much happens: lists drawn element by element mostly end before anyone is revoked."""
    random = Random(seed)
    admitters = random.choice(["a", "ab", "abc"])
    script = [
        (random.choice(admitters[: index + 1]), "admit", name, 0, random.randint(0, 9), 0)
        for index, name in enumerate(NAMES[1 : random.randint(3, 7)])
    ]
    for _ in range(random.randint(0, 14)):
        action = random.choice(["admit", "revoke", "revoke"])
        author, other = random.choice(NAMES), random.choice(NAMES)
        script.append((author, action, other, random.randint(0, 8), random.randint(0, 9), random.randint(0, 9)))
    return script


steps = st.integers(0, 2**32).map(invent)


def play(script: Sequence[Step], trusts: Sequence[str] = ()) -> History:
    """The history of `script`. `trusts` overrides what the n-th admission grants."""
    history = History()
    for number, (author, action, other, behind, hlc, head) in enumerate(script):
        heard = history.records[: max(1, len(history.records) - behind)]
        if action == "admit":
            trust = trusts[number % len(trusts)] if trusts else TRUST[other]
            history.admit(author, other, trust, after=heard, hlc=hlc)
        elif action == "revoke":
            history.revoke(author, other, (FEED, LIFE, head), after=heard, hlc=hlc)
    return history


# The specification, recursive and slow: no sets that grow, no heaps, no levels.


@dataclass(frozen=True)
class Specification:
    """What the statements mean, by the rules at the top of ``aico_crdt/trust/family.py``."""

    history: History

    @property
    def admissions(self) -> list[tuple[Record, Admit]]:
        return [(r, r.statement) for r in self.history.records if isinstance(r.statement, Admit)]

    def above(self, record: Record, counted: tuple[Record, ...]) -> bool:
        """Whether no counted revoker of its author had seen it, though there is one."""
        against = [r for r in counted if isinstance(r.statement, Revoke) and r.statement.device == record.device]
        return bool(against) and not any(r.saw(record) for r in against)

    def full(self, who: bytes, counted: tuple[Record, ...], without: frozenset[bytes] = frozenset()) -> bool:
        """Whether a chain of full admissions, none above, leads from the founder to `who`."""
        return who == device("a") or any(
            admit.device == who
            and admit.trust == "full"
            and record.device not in without | {who}
            and not self.above(record, counted)
            and self.full(record.device, counted, without | {who})
            for record, admit in self.admissions
        )

    def depth(self, who: bytes, without: frozenset[bytes] = frozenset()) -> int | None:
        """The length of the shortest chain of *full* admissions to `who`, revocations left aside."""
        if who == device("a"):
            return 0
        ways = [
            self.depth(record.device, without | {who})
            for record, admit in self.admissions
            if admit.device == who and admit.trust == "full" and record.device not in without | {who}
        ]
        return min((way + 1 for way in ways if way is not None), default=None)

    def rank(self, who: bytes) -> tuple[int, int, bytes] | None:
        if who == device("a"):
            return 0, 0, who
        ways = []
        for record, admit in self.admissions:
            depth = self.depth(record.device)
            if admit.device == who and depth is not None:
                ways.append((depth + 1, record.hlc, who))
        return min(ways, default=None)

    def counted(self) -> tuple[Record, ...]:
        """The revocations that count: of those whose causes are done, always the senior author's."""

        def after(counted: tuple[Record, ...], left: list[Record]) -> tuple[Record, ...]:
            if not left:
                return counted
            free = [r for r in left if not any(r.saw(other) for other in left if other is not r)]
            first = min(free, key=lambda r: (ranks[r.device], r.hlc, r.hash))
            counts = self.full(first.device, counted) and not self.above(first, counted)
            return after((*counted, first) if counts else counted, [r for r in left if r is not first])

        ranks = {device(name): rank for name in NAMES if (rank := self.rank(device(name)))}
        revocations = [r for r in self.history.records if isinstance(r.statement, Revoke)]
        return after((), [r for r in revocations if r.device in ranks])

    def members(self) -> dict[bytes, tuple[bool, int | None]]:
        """Of each that is or was a member: whether it is revoked, and its limit in FEED."""
        counted = self.counted()
        found: dict[bytes, tuple[bool, int | None]] = {}
        for who in map(device, NAMES):
            belongs = who == device("a") or any(
                admit.device == who and not self.above(record, counted) and self.full(record.device, counted)
                for record, admit in self.admissions
            )
            if belongs:
                against = [
                    (r.device, r.statement)
                    for r in counted
                    if isinstance(r.statement, Revoke) and r.statement.device == who
                ]
                others = [revoke for author, revoke in against if author != who]
                heads = [head[2] for revoke in others or [s for _, s in against] for head in revoke.heads]
                found[who] = (bool(against), max(heads) if against else None)
        return found


def seen(family: Family) -> dict[bytes, tuple[bool, int | None]]:
    return {who: (m.revoked, family.limit(who, FEED, LIFE)) for who, m in family.members.items()}


@given(steps)
def test_the_fold_is_its_specification(script: list[Step]) -> None:
    history = play(script)
    assert seen(history.fold()) == Specification(history).members()


@given(steps, st.lists(st.sampled_from(["full", "limited", "guest"]), min_size=1, max_size=9))
def test_so_it_is_when_admissions_of_one_device_differ(script: list[Step], trusts: list[str]) -> None:
    history = play(script, trusts)
    assert seen(history.fold()) == Specification(history).members()


@given(steps, st.randoms(use_true_random=False))
def test_only_the_set_of_statements_matters(script: list[Step], random: Random) -> None:
    history = play(script)
    family = history.fold()
    records = history.records + random.sample(history.records, random.randint(0, len(history.records)))
    random.shuffle(records)
    again = fold(history.family, records)
    assert again == family
    assert again.current() == family.current()


@given(steps)
def test_ranks_are_one_line_from_the_founder(script: list[Step]) -> None:
    family = play(script).fold()
    ranks = [member.rank for member in family.members.values()]
    assert len(set(ranks)) == len(ranks)
    assert family.members[device("a")].rank == 0
    assert len({device_name(each) for each in family.members}) == len(family.members)


@given(steps)
def test_who_is_revoked_by_a_revocation_that_counts_is_not_current(script: list[Step]) -> None:
    history = play(script)
    family = history.fold()
    for record in Specification(history).counted():
        assert isinstance(record.statement, Revoke)
        assert not family.may_connect(record.statement.device)
    assert all(not member.limits for member in family.current())


@given(steps)
def test_admissions_never_cost_a_member_its_place(script: list[Step]) -> None:
    """With nobody revoked, membership and trust only grow with the set, whoever admits whom again as what."""
    script = [step for step in script if step[1] != "revoke"]
    history = play(script, ["full", "limited", "relay"])
    strength = {"guest": 0, "relay": 1, "limited": 2, "full": 3}
    for size in range(1, len(history.records)):
        before, after = (fold(history.family, history.records[:end]) for end in (size, size + 1))
        for member in before.current():
            assert strength[after.trust_of(member.device) or "guest"] >= strength[member.trust]
            assert after.may_connect(member.device)


@given(steps, st.sampled_from(NAMES), st.integers(0, 9))
def test_a_newcomer_changes_nothing_for_others(script: list[Step], author: str, hlc: int) -> None:
    """Whatever was revoked: the admission of a device that nobody spoke of adds that device or nothing."""
    history = play(script)
    before = seen(history.fold())
    history.admit(author, "newcomer", after=[], hlc=hlc)
    after = seen(history.fold())
    after.pop(device("newcomer"), None)
    assert after == before


@given(steps, st.sampled_from(NAMES))
def test_a_revocation_that_knows_everything_takes_its_victim_and_nobody_else(script: list[Step], victim: str) -> None:
    """If its author still belongs. Of a victim revoked before, more may be known now: that can only add members."""
    history = play(script)
    before = history.fold()
    history.revoke("a", victim)
    after = history.fold()
    gone = {m.device for m in before.current()} - {m.device for m in after.current()}
    come = {m.device for m in after.current()} - {m.device for m in before.current()}
    if not before.may_connect(device("a")):
        assert seen(after) == seen(before)
    elif before.may_connect(device(victim)):
        assert (gone, come) == ({device(victim)}, set())
    else:
        assert not gone
        assert device(victim) not in come


@settings(max_examples=50)
@given(steps)
def test_the_executable_model_agrees(script: list[Step]) -> None:
    """The store's oracle tells membership a third time, from whole entries and the heads that revokers declare."""
    history = History()
    for author, action, other, behind, hlc, _ in script:
        heard = history.records[: max(1, len(history.records) - behind)]
        if action == "admit":
            history.admit(author, other, TRUST[other], after=heard, hlc=hlc)
        elif action == "revoke" and author != other:
            record = history.revoke(author, other, after=heard, hlc=hlc)
            head = record.clock.get((device(other), LIFE), 0)
            history.records[-1] = _with_head(record, head)
    told = model.family(frozenset(_entry(history, record) for record in history.records))
    family = history.fold()
    assert {bytes.fromhex(each) for each in told.members} == set(family.members)
    assert {bytes.fromhex(each) for each in told.current} == {member.device for member in family.current()}
    assert {bytes.fromhex(each): place.trust for each, place in told.members.items()} == {
        each: member.trust for each, member in family.members.items()
    }


def _with_head(record: Record, head: int) -> Record:
    assert isinstance(record.statement, Revoke)
    statement = Revoke(record.statement.device, ((FEED, LIFE, head),) if head else ())
    return Record(*(record.device, record.incarnation, record.seq, record.hlc, record.hash, record.clock), statement)


def _entry(history: History, record: Record) -> model.Entry:
    """The record as the model reads entries; its deps are all it had seen of other feeds."""
    feeds = {(r.device, r.incarnation, r.seq): r for r in history.records}
    before = feeds.get((record.device, record.incarnation, record.seq - 1))
    deps = [
        (feed[0].hex(), feed[1].hex(), seq, feeds[(*feed, seq)].hash.hex())
        for feed, seq in sorted(record.clock.items())
        if feed != (record.device, record.incarnation)
    ]
    said: tuple[object, ...]
    match record.statement:
        case Found():
            said = ("found",)
        case Admit(who, _, trust):
            said = ("admit", who.hex(), trust)
        case Revoke(who, heads):
            said = ("revoke", who.hex(), tuple(("directory", life.hex(), seq) for _, life, seq in heads))
        case _:
            raise AssertionError(record)
    return model.read_entry(
        (
            "directory",
            record.device.hex(),
            record.incarnation.hex(),
            record.seq,
            record.hash.hex(),
            before.hash.hex() if before else model.GENESIS,
            tuple(deps),
            record.hlc,
            (said,),
        )
    )


def test_the_family_id_binds_founder_and_nonce() -> None:
    ids = {family_id(device(name), nonce) for name in "ab" for nonce in (NONCE, bytes(16))}
    assert len(ids) == 4
