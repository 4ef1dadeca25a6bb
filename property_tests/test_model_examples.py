"""The model's rules one by one, each as the smallest history that shows it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from property_tests.model import (
    DIRECTORY,
    GENESIS,
    Admit,
    Entry,
    Forget,
    Found,
    Operation,
    Replica,
    Revoke,
    Write,
    applied,
    documents,
    family,
    forks,
    held,
    in_force,
    manifest,
    prune,
    read_entry,
    refused,
    rejected,
    shows,
    stubs,
    unwitnessed,
    with_body,
    with_manifest,
)

Key = ("memory", "m")


def after(
    *before: Entry, by: str, do: Sequence[Operation] = (), name: str, where: str = "memory", hlc: int = 1
) -> Entry:
    """An entry of device `by` that stands on `before`; the first of them is its predecessor if `by` wrote it."""
    own = before[0] if before and before[0].device == by else None
    deps = tuple(sorted(entry.head for entry in before if entry is not own))
    seq, prev = (own.seq + 1, own.hash) if own else (1, GENESIS)
    return Entry(where, by, "1", seq, name, prev, deps, hlc, tuple(do))


def say(value: str, life: int = 1) -> list[Operation]:
    return [Write("m", life, (("f", value),))]


def values(*entries: Entry) -> list[str]:
    shown = shows(Replica(frozenset(entries))).get(Key)
    return sorted(slot.value for slot in shown.slots) if shown else []


HOME = after(
    by="a", name="home", where=DIRECTORY, do=[Found(), Admit("b", "full"), Admit("c", "limited"), Admit("r", "full")]
)


def revoke(*before: Entry, by: str, whom: str, name: str, ends: tuple[tuple[str, str, int], ...] = ()) -> Entry:
    return after(*before, by=by, name=name, where=DIRECTORY, do=[Revoke(whom, ends)], hlc=5)


def test_writes_that_knew_nothing_of_each_other_stay_side_by_side_until_one_knows_both() -> None:
    one, two = after(by="a", name="1", do=say("x")), after(by="b", name="2", do=say("y"))
    assert values(HOME, one, two) == ["x", "y"]
    assert values(HOME, one, two, after(one, two, by="a", name="3", do=say("z"))) == ["z"]


def test_an_unknown_author_waits_and_so_does_what_lacks_its_past() -> None:
    stranger = after(by="s", name="1", do=say("x"))
    late = after(after(by="b", name="2"), by="b", name="3")
    received = frozenset({HOME, stranger, late})
    assert held(received) == {stranger, late}
    admission = after(HOME, by="a", name="4", where=DIRECTORY, do=[Admit("s", "full")])
    assert stranger in applied(received | {admission})


def test_a_write_to_a_forgotten_life_never_shows_and_the_next_life_does() -> None:
    born = after(by="a", name="1", do=say("x"))
    gone = after(born, by="a", name="2", do=[Forget("m", 1)])
    late = after(born, by="b", name="3", do=say("y"))
    again = after(gone, by="a", name="4", do=say("z", life=2))
    assert values(HOME, born, gone, late) == []
    assert values(HOME, born, gone, late, again) == ["z"]


def test_at_a_fork_the_smaller_hash_is_in_force_and_a_dependency_on_the_other_is_met() -> None:
    start = after(by="c", name="5")
    won, lost = after(start, by="c", name="1", do=say("x")), after(start, by="c", name="2", do=say("y"))
    chained = after(lost, by="c", name="0", do=say("z"))
    trusting = after(chained, by="b", name="3", do=[Write("m", 1, (("g", "b"),))])
    received = frozenset({HOME, start, won, lost, chained, trusting})
    assert forks(received) == rejected(received) == {lost, chained}
    assert not in_force(received) & forks(received)
    assert values(*received) == ["b", "x"]
    assert held(received - {chained}) == {trusting}, "not known to be void yet"


def test_what_stood_before_a_lost_branch_was_seen_by_who_built_on_it() -> None:
    start = after(by="c", name="5", do=say("before"))
    won, lost = after(start, by="c", name="1"), after(start, by="c", name="2", do=say("lost"))
    trusting = after(lost, by="b", name="3", do=say("b"))
    assert values(HOME, start, won, lost, trusting) == ["b"]


def test_a_life_that_a_lost_branch_ended_stays_ended() -> None:
    born = after(by="a", name="6", do=say("x"))
    start = after(born, by="b", name="5")
    won, lost = after(start, by="b", name="1"), after(start, by="b", name="2", do=[Forget("m", 1)])
    assert values(HOME, born, start, won) == ["x"]
    assert values(HOME, born, start, won, lost) == []


def test_fault_42_above_the_revocation_head_nothing_counts_but_what_one_in_force_stands_on() -> None:
    early = after(by="r", name="1", do=say("x"))
    known = after(early, by="r", name="2", do=say("y"))
    backdated = after(known, by="r", name="3", do=say("z"), hlc=0)
    lost = revoke(HOME, by="a", whom="r", name="4", ends=(("memory", "1", 1),))
    everything = frozenset({HOME, early, known, backdated, lost})
    assert held(everything) == {known, backdated}
    witness = after(known, by="b", name="5")
    assert unwitnessed(applied(everything - {lost, backdated}), everything) == {known}
    assert held(everything | {witness}) == {backdated}
    assert values(*everything, witness) == ["y"]


def test_fault_43_of_two_that_revoke_each_other_unknowingly_the_senior_stays() -> None:
    seen = (DIRECTORY, "1", 0)
    by_junior = revoke(HOME, by="r", whom="b", name="0", ends=(seen,))
    by_senior = revoke(HOME, by="b", whom="r", name="9", ends=(seen,))
    assert family(frozenset({HOME, by_junior, by_senior})).current == {"a", "b", "c"}
    answer = revoke(HOME, by_junior, by="b", whom="r", name="8", ends=((DIRECTORY, "1", 1),))
    assert family(frozenset({HOME, by_junior, answer})).current == {"a", "c", "r"}, "too late: it knew"


def test_fault_40_a_device_admitted_above_its_admitters_head_has_no_say() -> None:
    puppet = after(HOME, by="r", name="1", where=DIRECTORY, do=[Admit("p", "full")])
    attack = revoke(HOME, puppet, by="p", whom="a", name="0")
    defence = revoke(HOME, by="a", whom="r", name="9")
    whose = family(frozenset({HOME, puppet, attack, defence}))
    assert whose.current == {"a", "b", "c"}
    vouched = after(HOME, by="c", name="2", where=DIRECTORY, do=[Admit("q", "full")])
    assert "q" not in family(frozenset({HOME, vouched})).standing
    assert vouched in rejected(frozenset({HOME, vouched}))


def test_statements_get_no_grace() -> None:
    admission = after(HOME, by="r", name="1", where=DIRECTORY, do=[Admit("p", "full")])
    revocation = revoke(HOME, by="a", whom="r", name="2")
    witness = after(admission, by="b", name="3", where=DIRECTORY)
    received = frozenset({HOME, admission, revocation, witness})
    assert admission in applied(received)
    assert "p" not in family(received).members


def test_a_void_statement_does_not_speak() -> None:
    won = after(HOME, by="r", name="1", where=DIRECTORY)
    lost = after(HOME, by="r", name="2", where=DIRECTORY, do=[Admit("p", "full")])
    assert "p" in family(frozenset({HOME, lost})).members
    assert "p" not in family(frozenset({HOME, lost, won})).members


def test_of_a_device_revoked_twice_the_greater_head_counts() -> None:
    one, two = after(by="r", name="1"), after(after(by="r", name="1"), by="r", name="2")
    far = revoke(HOME, by="a", whom="r", name="3", ends=(("memory", "1", 2),))
    near = revoke(HOME, by="b", whom="r", name="4", ends=(("memory", "1", 1),))
    assert {one, two} <= applied(frozenset({HOME, one, two, far, near}))


def test_of_several_admissions_the_strongest_trust_stands() -> None:
    raised = after(HOME, by="b", name="1", where=DIRECTORY, do=[Admit("c", "full")])
    assert family(frozenset({HOME, raised})).members["c"].trust == "full"
    lowered = after(HOME, by="b", name="2", where=DIRECTORY, do=[Admit("r", "guest")])
    assert family(frozenset({HOME, lowered})).members["r"].trust == "full"


def test_what_a_device_says_of_itself_counts_only_until_somebody_else_speaks() -> None:
    backdated = after(by="r", name="1", do=say("x"))
    own = revoke(HOME, by="r", whom="r", name="2", ends=(("memory", "1", 99),))
    others = revoke(HOME, by="a", whom="r", name="3")
    assert backdated in applied(frozenset({HOME, backdated, own}))
    assert backdated in held(frozenset({HOME, backdated, own, others}))


def test_a_limited_device_forgets_what_it_bore_and_nothing_else() -> None:
    own, other = after(by="c", name="1", do=say("x")), after(by="a", name="2", do=say("y"))
    assert not refused(frozenset({HOME, own, after(own, by="c", name="3", do=[Forget("m", 1)])}))
    overreach = after(other, by="c", name="4", do=[Forget("m", 1)])
    chained = after(overreach, by="c", name="5", do=say("z"))
    assert refused(frozenset({HOME, other, overreach, chained})) == {overreach, chained}


def test_a_limited_device_may_still_forget_what_it_bore_below_a_base() -> None:
    born = after(by="c", name="1", do=say("x"))
    edited = after(born, by="a", name="2", do=say("y"))
    replica = prune(Replica(frozenset({HOME, born, edited})), "memory", [born.head, edited.head])
    gone = after(born, edited, by="c", name="3", do=[Forget("m", 1)])
    assert not shows(Replica(replica.received | {gone}, replica.base))


def test_a_manifest_makes_stubs_that_bodies_fill_and_later_entries_edit() -> None:
    born = after(by="a", name="1", do=say("x"))
    laptop, phone = Replica(frozenset({HOME, born})), Replica(frozenset({HOME}))
    phone = with_manifest(phone, manifest(laptop, "a", "memory"))
    assert set(stubs(phone)) == {Key}
    assert shows(phone) == {}
    assert with_body(phone, Key, shows(laptop)[Key]._replace(life=2)) == phone, "not what was attested"
    phone = with_body(phone, Key, shows(laptop)[Key])
    assert shows(phone) == shows(laptop)
    edited = after(born, by="b", name="2", do=say("y"))
    assert shows(Replica(phone.received | {edited}, phone.base)) == shows(Replica(laptop.received | {edited}))


def test_a_manifest_waits_while_what_it_covers_is_not_in_force_here() -> None:
    back = after(by="r", name="1", do=say("x"))
    unaware = Replica(frozenset({HOME, back}))
    aware = Replica(frozenset({HOME, revoke(HOME, by="a", whom="r", name="2")}))
    assert with_manifest(aware, manifest(unaware, "b", "memory")) == aware
    witness = after(back, by="b", name="3")
    told = Replica(unaware.received | aware.received | {witness})
    assert with_manifest(aware, manifest(told, "b", "memory")) != aware


def test_nobody_attests_what_it_may_not_or_does_not_have() -> None:
    laptop = Replica(frozenset({HOME, after(by="a", name="1", do=say("x"))}))
    phone = with_manifest(Replica(frozenset({HOME})), manifest(laptop, "a", "memory"))
    for replica, by, collection in [(laptop, "c", "memory"), (laptop, "a", DIRECTORY), (phone, "b", "memory")]:
        with pytest.raises(ValueError, match="attest"):
            manifest(replica, by, collection)


def test_real_entries_are_read_from_plain_tuples() -> None:
    deps, operations = ((b"\5", b"\6", 7, b"\x08"),), (("write", "m", 1, (("f", "x"),)),)
    plain = (b"\1", b"\2", b"\3", 1, b"\4", bytes(32), deps, 9, operations)
    entry = read_entry(plain)
    assert entry.feed == ("01", "02", "03")
    assert entry.prev == GENESIS
    assert entry.links == frozenset({"08"})
    assert documents(frozenset({entry}))["01", "m"].slots[0].value == "x"
    with pytest.raises(ValueError, match="operation"):
        read_entry((*plain[:-1], (("paint",),)))
    with pytest.raises(ValueError, match="predecessor"):
        read_entry((*plain[:3], 2, *plain[4:]))
