"""Who belongs, case by case. The general laws are in ``property_tests/test_family.py``."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from random import Random
from time import monotonic

import pytest

from aico_crdt.trust import Admit, Found, Member, Revoke, SealedKey, Unknown, family_id, fold
from tests.trust.history import DIRECTORY, LIFE, NONCE, History, device

MESSAGES = b"conversation-tag"


@pytest.fixture
def history() -> History:
    """The founder a admits b, then c, both full, then the limited d."""
    history = History()
    for name, trust in (("b", "full"), ("c", "full"), ("d", "limited")):
        history.admit("a", name, trust)
    return history


def test_without_its_founding_statement_a_family_is_empty(history: History) -> None:
    family = fold(history.family, history.records[1:])
    assert (family.founder, dict(family.members), family.current()) == (None, {}, [])
    assert not family.may_connect(device("a"))


def test_the_founder_is_full_and_first(history: History) -> None:
    family = history.fold()
    assert family.founder == device("a")
    assert family.current()[0] == Member(device("a"), "a", "full", "desktop", device("a"), 0)
    assert family.limit(device("a"), DIRECTORY, LIFE) is None


def test_a_member_is_what_its_admission_says(history: History) -> None:
    member = history.fold().members[device("d")]
    assert member == Member(device("d"), "d", "limited", "mobile", device("a"), 3)


def test_admissions_go_as_far_as_full_trust_does(history: History) -> None:
    history.admit("b", "e")
    history.admit("e", "f", "relay")
    history.admit("d", "x")  # limited
    history.admit("f", "y")  # a relay
    history.admit("stranger", "z")
    assert history.current() == "a b c d e f"
    assert not history.fold().was_member(device("x"))
    assert history.fold().limit(device("x"), DIRECTORY, LIFE) == 0


def test_fault_40_vouching_is_not_admitting(history: History) -> None:
    """A limited device forwards a "full" grant, and many of them vouch: only a full device's admission counts."""
    for name in ("g", "h", "i"):
        history.admit("a", name, "limited")
    for name in ("d", "g", "h", "i"):
        history.admit(name, "x")
        history.admit(name, name)
    assert history.fold().trust_of(device("x")) is None
    assert history.fold().trust_of(device("d")) == "limited"


def test_a_forged_found_is_ignored(history: History) -> None:
    history.say("x", Found(NONCE, "x", ()))
    history.say("b", Found(b"m" * 16, "b", ()))
    history.admit("x", "y")
    assert history.fold().founder == device("a")
    assert history.current() == "a b c d"


def test_a_found_of_another_family_founds_that_one(history: History) -> None:
    history.say("b", Found(b"m" * 16, "b", ()))
    other = fold(family_id(device("b"), b"m" * 16), history.records)
    assert [member.name for member in other.current()] == ["b"]


def test_statements_of_a_later_release_change_nothing(history: History) -> None:
    before = history.fold()
    history.say("a", Unknown("epoch", b"\x91\xa5epoch"))
    assert history.fold() == before


def test_a_second_admission_by_a_senior_device_promotes_and_never_demotes(history: History) -> None:
    history.admit("b", "d", "full")
    assert history.fold().trust_of(device("d")) == "full"
    history.admit("a", "d", "guest", hlc=0)
    assert history.fold().trust_of(device("d")) == "full"


def test_a_member_collects_the_keys_of_its_admissions(history: History) -> None:
    for trust, box in (("limited", b"1"), ("full", b"2")):
        history.say("b", Admit(device("e"), "e", trust, "mobile", (SealedKey("family", box),)))
    history.records += history.records  # the same records again are the same set
    assert history.fold().members[device("e")].keys == (SealedKey("family", b"2"), SealedKey("family", b"1"))


def test_of_two_devices_with_one_short_name_the_later_is_no_member() -> None:
    first, second = device("b"), device("b")[:9] + bytes(23)
    history = History()
    early = history.say("a", Admit(second, "late", "full", "mobile", ()), hlc=9)
    late = history.say("a", Admit(first, "early", "full", "mobile", ()), hlc=5)
    for order in permutations([history.found, early, late]):
        family = fold(history.family, order)
        assert [member.name for member in family.current()] == ["a", "early"]
        assert not family.was_member(second)


def test_a_device_nobody_may_admit_takes_no_short_name_from_another(history: History) -> None:
    history.admit("b", "e", hlc=9)
    history.say("d", Admit(device("e")[:9] + bytes(23), "imitation", "full", "mobile", ()), hlc=0)
    assert history.current() == "a b c d e"


# Revocation


def test_a_revoked_device_is_no_longer_current_but_was_a_member(history: History) -> None:
    history.revoke("a", "b", (MESSAGES, LIFE, 7), (DIRECTORY, LIFE, 2))
    family = history.fold()
    assert history.current() == "a c d"
    assert (family.trust_of(device("b")), family.may_connect(device("b"))) == (None, False)
    assert family.was_member(device("b"))
    assert family.members[device("b")].trust == "full"


def test_a_revocation_limits_each_feed_at_its_head(history: History) -> None:
    history.revoke("a", "b", (MESSAGES, LIFE, 7))
    family = history.fold()
    assert family.limit(device("b"), MESSAGES, LIFE) == 7
    assert family.limit(device("b"), MESSAGES, b"life-two") == 0
    assert family.limit(device("c"), MESSAGES, LIFE) is None


def test_a_device_revoked_twice_keeps_the_greatest_head_of_each_feed(history: History) -> None:
    history.revoke("a", "b", (MESSAGES, LIFE, 7), (DIRECTORY, LIFE, 1))
    history.revoke("c", "b", (MESSAGES, LIFE, 5), (DIRECTORY, LIFE, 4), after=[history.found])
    limits = history.fold().members[device("b")].limits
    assert limits == {(MESSAGES, LIFE): 7, (DIRECTORY, LIFE): 4}


def test_fault_42_a_stolen_device_cannot_unbind_itself(history: History) -> None:
    """It revokes itself first, with heads beyond all it will ever write."""
    history.revoke("b", "b", (MESSAGES, LIFE, 1 << 60))
    assert history.fold().limit(device("b"), MESSAGES, LIFE) == 1 << 60
    history.revoke("a", "b", (MESSAGES, LIFE, 7))
    assert history.fold().limit(device("b"), MESSAGES, LIFE) == 7


def test_admissions_of_a_revoked_device_count_up_to_what_its_revoker_had_seen(history: History) -> None:
    seen = history.admit("b", "e")
    history.admit("b", "x", after=[seen])
    history.revoke("a", "b", after=[seen])
    assert history.current() == "a c d e"


def test_of_two_revokers_the_one_that_had_seen_more_decides_what_counts(history: History) -> None:
    history.admit("b", "e")
    base = list(history.records)
    seen = history.admit("b", "f", after=base)
    history.revoke("a", "b", after=[seen])
    history.revoke("c", "b", after=base)
    assert history.current() == "a c d e f"


def test_fault_42_back_dated_statements_above_the_revocation_are_ignored(history: History) -> None:
    revocation = history.revoke("a", "b")
    history.admit("b", "x", hlc=0)
    history.revoke("b", "a", hlc=0, after=[history.records[1]])
    history.admit("b", "y", after=[], hlc=0)
    history.say("b", Admit(device("z"), "z", "full", "mobile", ()), after=[], hlc=0, incarnation=b"life-two")
    assert revocation.hlc > 0
    assert history.current() == "a c d"


def test_who_was_admitted_above_a_revocation_has_no_say(history: History) -> None:
    """The thief of b admits x, which revokes everybody: x never belonged."""
    base = list(history.records)
    admission = history.admit("b", "x", after=base)
    for name in "acd":
        history.revoke("x", name, after=[admission])
    history.revoke("a", "b", after=base)
    assert history.current() == "a c d"


def test_revoked_stays_revoked(history: History) -> None:
    history.revoke("a", "b")
    history.admit("a", "b")
    history.admit("c", "b", hlc=0)
    assert history.current() == "a c d"
    history.admit("a", "b with a new key")
    assert history.current() == "a c d b with a new key"


def test_who_is_revoked_before_it_is_admitted_never_enters(history: History) -> None:
    history.revoke("a", "e")
    history.admit("b", "e", after=[history.found])
    assert "e" not in history.current()


def test_only_full_devices_revoke(history: History) -> None:
    history.admit("a", "r", "relay")
    before = history.fold()
    for author in ("d", "r", "stranger"):
        history.revoke(author, "b")
    assert history.fold() == before


def test_the_founder_can_be_revoked_and_what_it_did_stays(history: History) -> None:
    history.revoke("b", "a")
    assert history.current() == "b c d"
    assert history.fold().founder == device("a")
    history.admit("a", "x")
    assert history.current() == "b c d"


def test_a_device_may_retire_itself(history: History) -> None:
    history.revoke("c", "c")
    assert history.current() == "a b d"


def test_readers_are_the_current_members_of_the_audience(history: History) -> None:
    history.admit("a", "r", "relay")
    history.admit("a", "g", "guest")
    history.revoke("a", "c")

    def readers(space: str) -> str:
        return "".join(member.name for member in history.fold().readers(space))

    assert readers("directory") == "abdr"
    assert (readers("own"), readers("family"), readers("work"), readers("local")) == ("ab", "abd", "ab", "")


# Fault 43: two full devices revoke each other


def outcomes(history: History, tries: int = 200) -> set[str]:
    """The members for many orders of the records, with some twice."""
    random, records, found = Random(43), list(history.records), set()
    for _ in range(tries):
        random.shuffle(records)
        family = fold(history.family, records + random.sample(records, len(records) // 2))
        found.add(" ".join(member.name for member in family.current()))
    return found


def test_fault_43_of_two_that_revoke_each_other_at_once_the_senior_stays(history: History) -> None:
    base = list(history.records)
    history.revoke("c", "b", after=base, hlc=0)
    history.revoke("b", "c", after=base, hlc=99)
    assert outcomes(history) == {"a b d"}


def test_fault_43_every_order_of_a_small_family() -> None:
    history = History()
    base = [history.found, history.admit("a", "b")]
    history.revoke("b", "a", after=base, hlc=0)
    history.revoke("a", "b", after=base)
    names = {
        tuple(member.name for member in fold(history.family, order).current())
        for order in permutations(history.records)
    }
    assert names == {("a",)}


def test_fault_43_who_had_seen_its_revocation_comes_too_late(history: History) -> None:
    """Even the senior: what counts is what it knew, not who it is."""
    revocation = history.revoke("c", "b")
    history.revoke("b", "c", after=[revocation], hlc=0)
    assert outcomes(history) == {"a c d"}


def test_fault_43_a_revocation_answered_in_ignorance_of_its_own_end(history: History) -> None:
    """b revokes c; c, not knowing, goes on and revokes d, and a who saw neither revokes b."""
    base = list(history.records)
    history.revoke("a", "b", after=base)
    history.revoke("b", "c", after=base)
    history.revoke("c", "d", after=base)
    assert outcomes(history) == {"a c"}


@pytest.mark.parametrize("length", [3, 4, 5, 8])
def test_fault_43_a_circle_of_revocations_has_one_outcome(length: int) -> None:
    """Each revokes the next at once. By rank: the first counts, so the second does not, so the third does …"""
    history = History()
    ring = [f"m{number}" for number in range(length)]
    for name in ring:
        history.admit("a", name)
    base = list(history.records)
    for name, victim in zip(ring, ring[1:] + ring[:1], strict=True):
        history.revoke(name, victim, after=base)
    gone: set[str] = set()
    for name, victim in zip(ring, ring[1:] + ring[:1], strict=True):
        if name not in gone:
            gone.add(victim)
    assert outcomes(history, 50) == {" ".join(["a", *(name for name in ring if name not in gone)])}


def test_fault_43_statements_of_one_entry_have_no_order_of_their_own(history: History) -> None:
    revocation = history.revoke("b", "c")
    history.records.append(replace(revocation, statement=Admit(device("e"), "e", "full", "mobile", ())))
    assert outcomes(history) == {"a b d e"}


def test_two_sides_of_a_fork_still_have_one_outcome(history: History) -> None:
    """Which side is in force the feed decides; given both, the fold must not hang or waver."""
    one = history.revoke("b", "c")
    other = replace(one, hash=bytes(32), statement=history.revoke("b", "d").statement)
    history.records[-1:] = [other]
    assert outcomes(history) == {"a b"}


def test_a_thousand_revocations_fold_in_time(history: History) -> None:
    """What a hostile full device can write must not take minutes; quadratic would."""
    base = list(history.records)
    template = history.revoke("b", "x", after=base)
    history.records = base + [
        replace(
            template,
            seq=seq,
            hash=device(str(seq)),
            clock={**template.clock, (device("b"), LIFE): seq},
            statement=Revoke(device(f"x{seq}"), ()),
        )
        for seq in range(1, 1001)
    ]
    started = monotonic()
    assert history.current() == "a b c d"
    assert monotonic() - started < 5
