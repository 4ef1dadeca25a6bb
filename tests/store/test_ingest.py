"""Receipt of entries: what is applied, what waits and for what, what is refused and leaves everything as it was."""

from __future__ import annotations

import dataclasses
import shutil
import tracemalloc
from typing import Any

import msgpack
import pytest
import zstandard

from aico_crdt import aead, ids
from aico_crdt import clock as hlc
from aico_crdt.config import Config
from aico_crdt.crdt import Document
from aico_crdt.feed import Entry, Head, Operation, encode_entry
from aico_crdt.store import StoreReplica, membership
from aico_crdt.store.ingest import MAX_EVIDENCE
from aico_crdt.trust import Found, Revoke, encode_statement
from tests.store.conftest import CONFIG, START_MS, exchange, identity_of, send, view
from tests.store.hostile import Hostile, count, essence, give, heads_of

POISON_PILL = bytes.fromhex("01021b9ff6e5edbec60700270101020400d29ff6e5edbec60700066e657374656400")
NEVER_SEEN = 77


def varuint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def deep_any(depth: int) -> bytes:
    """An update that sets one key to lists within lists."""
    return b"\x75\x01" * depth + b"\x7e"


def field(client: int, key: str, content: bytes, *, clock: int = 0) -> bytes:
    raw = key.encode()
    struct = b"\x28\x01\x01r" + varuint(len(raw)) + raw + b"\x01" + content
    return b"\x01\x01" + varuint(client) + varuint(clock) + struct + b"\x00"


# Refused for good


def refused(taker: Any, entry: Entry, code: str, **named: Any) -> None:
    before, evidence = essence(taker), count(taker, b"V")
    outcome = give(taker, entry, **named)
    assert [refusal.code for refusal in outcome.refusals] == [code]
    assert (outcome.applied, outcome.held, outcome.rejected) == (0, 0, 1)
    assert essence(taker) == before
    assert count(taker, b"V") == evidence + 1


def test_another_familys_entry_is_refused(family: Any) -> None:
    a, b = family(2)
    evil = Hostile(b)
    refused(a, evil.update(evil.birth(), family=bytes(16)), "wrong-family")


def test_another_familys_entry_in_the_middle_of_a_run_is_refused(family: Any) -> None:
    a, b = family(2)
    evil = Hostile(b)
    first = evil.update(evil.birth())
    second = evil.update(evil.birth(), "e", family=bytes(16))
    before = essence(a)
    outcome = StoreReplica(a).deliver(first.header.tag, [[encode_entry(first), encode_entry(second)]], b.device)
    assert outcome.applied == 0
    assert essence(a) == before


def test_an_entry_of_another_collection_is_refused(family: Any) -> None:
    a, b = family(2)
    evil = Hostile(b)
    refused(a, evil.update(evil.birth()), "broken-chain", tag=evil.collection("own", "fact").tag)


def test_a_bad_signature_is_refused(family: Any) -> None:
    a, b = family(2)
    evil = Hostile(b)
    entry = evil.update(evil.birth())
    signature = bytes([entry.signature[0] ^ 1]) + entry.signature[1:]
    refused(a, dataclasses.replace(entry, signature=signature), "bad-signature")


def test_fault_23_an_entry_in_another_members_name_is_refused(family: Any) -> None:
    a, b, c = family(3)
    evil = Hostile(b)
    forged = evil.update(evil.birth(), device=c.device)
    refused(a, forged, "bad-signature")
    assert not StoreReplica(a).ingest(forged.header.tag, [[encode_entry(forged)]], b.device).applied


def test_fault_23_structs_and_names_of_another_writer_are_refused(family: Any) -> None:
    a, b, c = family(3)
    evil = Hostile(b)
    theirs = Document.new(ids.client_id(c.device, c.incarnation), c.writer)
    theirs.bear({"content": "forged"}, evil.stamp)
    refused(a, evil.update(theirs.take_update() or b"", advance=False), "not-allowed")
    own_client = Document.new(evil.client, c.writer)
    own_client.bear({"content": "forged"}, evil.stamp)
    refused(a, evil.update(own_client.take_update() or b"", advance=False), "not-allowed")


def test_a_chain_that_does_not_continue_ours_is_asked_for_and_changes_nothing(family: Any) -> None:
    a, b = family(2)
    evil = Hostile(b)
    give(a, evil.update(evil.birth()))
    before = essence(a)
    outcome = give(a, evil.update(evil.birth(), "e", prev=b"\x07" * 32))
    assert [refusal.code for refusal in outcome.refusals] == ["broken-chain"]
    assert outcome.ask == [(b.device, evil.incarnation, 1)]
    assert essence(a) == before


def test_a_tampered_item_is_refused(family: Any) -> None:
    a, b = family(2)
    evil = Hostile(b)
    entry = evil.update(evil.birth())
    (sealed,) = entry.items
    assert isinstance(sealed, bytes)
    flipped = sealed[:-1] + bytes([sealed[-1] ^ 1])
    refused(a, dataclasses.replace(entry, items=(flipped,)), "malformed")


def test_an_item_sealed_under_another_key_is_refused(family: Any) -> None:
    a, b = family(2)
    evil = Hostile(b)
    refused(a, evil.update(evil.birth(), key=bytes(32)), "malformed")


def test_bytes_that_are_no_entry_are_counted_and_change_nothing(family: Any) -> None:
    a, b = family(2)
    before = essence(a)
    tag = a.directory.find("own", "memory").tag
    for raw in (b"", b"\xc1", b"\x93\x01\x02\x03", msgpack.packb([b"x", bytes(64), []]), b"\x00" * 100_000):
        assert StoreReplica(a).deliver(tag, [[raw]], b.device).rejected == 1
    assert essence(a) == before


def test_fault_32_a_frame_cut_or_extended_anywhere_changes_nothing(family: Any) -> None:
    a, b = family(2)
    evil = Hostile(b)
    entry = evil.update(evil.birth())
    raw = encode_entry(entry)
    before, target = essence(a), StoreReplica(a)
    broken = [raw[:end] for end in range(0, len(raw), 3)] + [raw + raw[:more] for more in range(1, 40)]
    outcome = target.deliver(entry.header.tag, [[each] for each in broken], b.device)
    assert (outcome.applied, outcome.held, outcome.rejected) == (0, 0, len(broken))
    assert essence(a) == before
    assert give(a, entry).applied == 1


def test_a_statement_outside_the_directory_is_refused(family: Any) -> None:
    a, b = family(2)
    evil = Hostile(b)
    payload = encode_statement(Revoke(a.device, ()))
    refused(a, evil.entry(Operation("", 0, "statement", payload)), "not-allowed")
    assert a.directory.family.trust_of(a.device) == "full"


def test_a_member_cannot_found_the_family_again(family: Any) -> None:
    a, b = family(2)
    evil = Hostile(b)
    payload = encode_statement(Found(bytes(16), "mine", (), "desktop"))
    give(a, evil.entry(Operation("", 0, "statement", payload), collection=evil.collection("directory", "directory")))
    assert a.directory.family.founder == a.device
    assert a.directory.family.members[b.device].admitted_by == a.device


def test_a_limited_device_does_not_forget_what_others_created(family: Any) -> None:
    a, b, c = family(3, trusts=["full", "limited"])
    kept = a.create("memory", {"content": "ours"}, space="family")
    exchange(a, b, c)
    evil = Hostile(c)
    where = evil.collection("family")
    forget = Operation(kept, 1, "forget", msgpack.packb([None, True]))
    entry = evil.entry(forget, collection=where, deps=heads_of(c, where))
    refused(a, entry, "not-allowed")
    refused(b, entry, "not-allowed")
    assert kept in view(a)


def test_a_limited_device_does_not_forget_what_has_not_arrived_yet(family: Any) -> None:
    """Without the birth in the forget's past its author cannot have made it: no replica may believe it."""
    a, b, c = family(3, trusts=["full", "limited"])
    kept = a.create("memory", {"content": "ours"}, space="family")
    evil = Hostile(c)
    entry = evil.entry(Operation(kept, 1, "forget", msgpack.packb([None, True])), collection=evil.collection("family"))
    assert give(b, entry).applied == 0
    send(a, b)
    assert kept in view(b)
    give(b, entry)
    assert kept in view(b)


def test_a_limited_device_forgets_what_it_bore_at_the_same_time_as_another(family: Any) -> None:
    """Both bore it; whose entry came first must not matter."""
    a, b, c = family(3, trusts=["full", "limited"])
    a.create("fact", {"content": "tea"}, id="same", space="family")
    c.create("fact", {"content": "tea"}, id="same", space="family")
    exchange(a, b, c)
    c.forget("fact", "same")
    exchange(a, b, c)
    assert view(a, "fact") == view(b, "fact") == view(c, "fact") == {}
    c.create("memory", {"content": "later"}, id="later", space="family")
    exchange(a, b, c)
    assert "later" in view(a)
    assert "later" in view(b)


@pytest.mark.parametrize("kind", ["memory", "fact"])
def test_a_limited_device_forgot_what_it_bore_before_a_newcomer_came(family: Any, kind: str) -> None:
    """Its birth comes erased, so that nothing but the forget itself tells who bore it."""
    a, c = family(2, trusts=["limited"])
    c.create(kind, {"content": "tea"}, id="x", space="family")
    exchange(a, c)
    c.forget(kind, "x", now=True)
    exchange(a, c)
    a.erase_due()
    a.create(kind, {"content": "again"}, id="x", space="family")
    d = family.join(a, 2)
    exchange(a, d)
    assert view(d, kind) == view(a, kind) != {}
    assert not StoreReplica(d).gaps(d.directory.find("family", kind).tag)


def test_a_limited_device_forgot_what_another_bore_as_well_and_its_own_birth_comes_erased(family: Any) -> None:
    a, b, c = family(3, trusts=["full", "limited"])
    b.create("fact", {"content": "tea"}, id="same", space="family")
    c.create("fact", {"content": "tea"}, id="same", space="family")
    send(c, a)
    c.forget("fact", "same", now=True)
    send(c, a)
    a.erase_due()
    send(c, b)  # a limited device's word that it was its own does not end what another wrote
    assert view(b, "fact")
    exchange(a, b)
    assert view(a, "fact") == view(b, "fact") == {}
    exchange(a, b, c)
    assert a.content_hash() == b.content_hash()
    assert a.heads() == b.heads()


def test_a_limited_device_cannot_write_where_it_has_no_key(family: Any) -> None:
    a, _b, c = family(3, trusts=["full", "limited"])
    evil = Hostile(c)
    own = a.directory.find("own", "memory")
    key = a.directory.spaces["own"]
    assert c.directory.find("own", "memory") is None
    entry = evil.update(b"", advance=False, collection=evil.collection("family"), tag=own.tag, key_id=key.key_id)
    before = essence(a)
    assert give(a, entry, tag=own.tag).applied == 0
    assert essence(a) == before


def test_an_update_of_a_life_out_of_turn_waits_until_the_one_before_is_dead(family: Any) -> None:
    """A replica that already knows the forget applies it; so one that does not yet must wait, not refuse."""
    a, b, c = family(3)
    a.create("memory", {"content": "first life"}, id="d")
    exchange(a, b, c)
    evil = Hostile(b)
    second = evil.update(evil.birth({"content": "second life"}), "d", life=2)
    a.forget("memory", "d")
    assert give(a, second).applied == 1
    assert give(c, second).held == 1
    send(a, c)
    assert view(c) == view(a)
    assert view(c)["d"][0] == 2
    assert c.content_hash() == a.content_hash()


def test_an_item_under_a_wrong_mark_is_refused(family: Any) -> None:
    a, b = family(2)
    evil = Hostile(b)
    refused(a, evil.update(evil.birth(), marks=[b"\x01" * 16]), "not-allowed")


# Hostile updates


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda evil: b"\x01\x01" + varuint(NEVER_SEEN) + b"\x00\x00\x05\x00", "not-allowed"),
        (lambda evil: POISON_PILL, None),
        (lambda evil: field(evil.client, f"f@{evil.writer}", deep_any(20_000)), None),
        (lambda evil: field(evil.client, f"f@{evil.writer}", deep_any(200)), None),
        (lambda evil: b"\x80\x80\x80\x80\x01", None),
        (lambda evil: b"\x01" + varuint(1 << 28) + varuint(evil.client) + b"\x00", None),
        (lambda evil: b"\x00\x01" + varuint(evil.client) + varuint(1 << 28), None),
        (lambda evil: field(evil.client, f"f@{evil.writer}", b"\x75" + varuint(1 << 28)), None),
        (lambda evil: b"", None),
        (lambda evil: evil.birth() + b"\x00", None),
    ],
    ids=[
        "fault_21_gc_over_another_client",
        "fault_29_poison_pill",
        "fault_27_20000_levels",
        "fault_27_200_levels",
        "fault_28_count_in_five_bytes",
        "fault_28_count_of_clients",
        "fault_28_count_of_deletes",
        "fault_28_count_of_a_list",
        "nothing",
        "a byte too many",
    ],
)
def test_a_hostile_update_is_refused_and_changes_nothing(make: Any, code: str | None, family: Any) -> None:
    a, b = family(2)
    a.create("memory", {"content": "ours"}, id="d0")
    evil = Hostile(b)
    entry = evil.update(make(evil), advance=False)
    before = essence(a)
    tracemalloc.start()
    outcome = give(a, entry)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (outcome.applied, outcome.held, outcome.rejected) == (0, 0, 1)
    if code is not None:
        assert outcome.refusals[0].code == code
    assert essence(a) == before
    assert peak < 1 << 20
    exchange(a, b)
    assert view(a) == view(b)


def test_fault_22_deletes_beyond_known_clocks_wait_and_later_writes_survive(family: Any) -> None:
    a, b = family(2)
    document = a.create("memory", {"content": "ours"})
    exchange(a, b)
    evil = Hostile(b)
    client = ids.client_id(a.device, a.incarnation)
    future = b"\x00\x01" + varuint(client) + b"\x01" + varuint(1) + varuint(20)
    before = essence(a)
    outcome = give(a, evil.update(future, document))
    assert (outcome.applied, outcome.held) == (0, 1)
    assert essence(a) == before
    a.edit("memory", document, {"content": "edited"})
    assert a.get("memory", document)["content"] == "edited"


def test_fault_30_a_decompression_bomb_stops_at_the_cap(family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A well-signed item whose sealed plain text says it is 256 MiB, compressed to some kilobytes."""
    from aico_crdt.feed import entry as entry_module

    a, b = family(2)
    evil = Hostile(b)
    bomb = b"\1" + zstandard.ZstdCompressor(level=1).compress(bytes(256 << 20))
    assert len(bomb) < 64 << 10

    def seal(operation: Any, *, prefix: bytes, index: int, key: bytes, nonce: bytes) -> bytes:
        return nonce + aead.seal(bomb, prefix + index.to_bytes(4, "big"), nonce, key)

    with monkeypatch.context() as patched:
        patched.setattr(entry_module, "seal", seal)
        entry = evil.update(b"")
    before = essence(a)
    tracemalloc.start()
    outcome = give(a, entry)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert outcome.rejected == 1
    assert outcome.refusals[0].code == "too-large"
    assert peak < 8 << 20
    assert essence(a) == before


def test_fault_31_deep_and_huge_msgpack_is_a_typed_refusal(family: Any) -> None:
    a, b = family(2)
    before = essence(a)
    tag = a.directory.find("own", "memory").tag
    for raw in (b"\x91" * 100_000, b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x93" + b"\xdf\xff\xff\xff\xff"):
        tracemalloc.start()
        outcome = StoreReplica(a).deliver(tag, [[raw]], b.device)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert outcome.rejected == 1
        assert peak < 1 << 20
    assert essence(a) == before


# Held until what is missing has come


def test_an_unknown_authors_entry_waits_for_its_admission(family: Any) -> None:
    a, b = family(2)
    c = family.join(a, 2)
    written = c.create("memory", {"content": "new here"})
    tag = c.directory.find("own", "memory").tag
    runs, _ = StoreReplica(c).read_entries(tag, [(c.device, c.incarnation, 1)], 1 << 20)
    assert StoreReplica(b).deliver(tag, runs, c.device).held == 1
    assert written not in view(b)
    send(a, b)
    assert written in view(b)
    assert count(b, b"H") == 0


def test_an_entry_waits_for_its_predecessor(family: Any) -> None:
    a, b = family(2)
    evil = Hostile(b)
    entries = [evil.update(evil.birth(), f"d{n}") for n in range(4)]
    for entry in reversed(entries[1:]):
        outcome = give(a, entry)
        assert outcome.held == 1
        assert (b.device, evil.incarnation, 1) in outcome.ask
    assert give(a, entries[0]).applied == 4
    assert len(view(a)) == 4
    assert count(a, b"H") == 0


def test_an_entry_waits_for_what_it_depends_on(family: Any) -> None:
    a, b, c = family(3)
    first = Hostile(b)
    base = first.update(first.birth({"content": "first"}))
    second = Hostile(c)
    later = second.update(second.birth(), "e", deps=[base.header.head])
    assert give(a, later).held == 1
    assert give(a, base).applied == 2
    assert count(a, b"H") == 0


def test_an_entry_waits_for_its_key(family: Any) -> None:
    a, b = family(2)
    evil = Hostile(b)
    outcome = give(a, evil.update(evil.birth(), key_id=b"\x09" * 8))
    assert outcome.held == 1
    assert count(a, b"H") == 1


def test_an_unknown_operation_waits_for_a_later_release(family: Any) -> None:
    a, b = family(2)
    evil = Hostile(b)
    assert give(a, evil.entry(Operation("d", 1, "rotate", b"\x01"))).held == 1
    assert view(a) == {}


def test_an_entry_beyond_its_authors_revocation_waits(family: Any) -> None:
    a, b, c = family(3)
    evil = Hostile(b)
    before = evil.update(evil.birth())
    assert give(a, before).applied == 1
    membership.revoke(a, b.device)
    after = evil.update(evil.birth(), "late")
    assert give(a, after).held == 1
    assert "late" not in view(a)
    send(a, c)
    assert give(c, after).held == 1
    assert view(a) == view(c)


def test_what_waits_survives_closing_and_opening(family: Any) -> None:
    a, b = family(2)
    evil = Hostile(b)
    first, second = evil.update(evil.birth()), evil.update(evil.birth(), "e")
    give(a, second)
    a = family.reopen(a)
    assert give(a, first).applied == 2
    assert len(view(a)) == 2


def test_a_held_entry_that_turns_out_to_be_a_fork_is_proven(family: Any) -> None:
    a, b, c = family(3)
    evil = Hostile(b)
    other = Hostile(c)
    lacking = other.update(other.birth(), "lacking")
    entries = [evil.update(evil.birth(), f"d{n}") for n in range(3)]
    evil.last[entries[0].header.tag] = entries[1].header.head
    branch = evil.update(evil.birth(), "branch", deps=[lacking.header.head])
    assert give(a, *entries[:2], branch).held == 1
    assert give(a, entries[2]).applied == 1
    outcome = give(a, lacking)
    assert outcome.forks == [(b.device, evil.incarnation, 3)]
    assert count(a, b"V") == 1
    winner = min((entries[2], branch), key=lambda entry: entry.header.hash)
    assert winner.header.head in heads_of(a, evil.collection())


def test_fault_26_a_dependency_that_never_comes_is_capped_in_bytes_and_age(family: Any, clock: Any) -> None:
    config = Config(map_size_bytes=CONFIG.map_size_bytes, hold_bytes=4 << 20, hold_author_percent=25, hold_age_s=60)
    a, b = family(2, configs=[config])
    evil = Hostile(b)
    evil.update(evil.birth())  # never delivered
    payload = evil.birth({"content": "z" * 100_000})
    for n in range(20):
        give(a, evil.update(payload[:-1] + bytes([n]), f"d{n}", random=lambda count, n=n: bytes([n]) * count))
    with a.reading() as (_, records):
        held = sum(len(value) for _, value in records.scan(b"H"))
    assert 0 < held <= 1 << 20
    clock.ms += 61_000
    outcome = give(a, evil.update(payload, "last"))
    assert count(a, b"H") == 1  # the old are gone; only the new one waits
    assert outcome.ask == [(b.device, evil.incarnation, 1)]


# Forks


def test_fault_25_two_entries_for_one_place_are_kept_as_proof_and_others_go_on(family: Any) -> None:
    a, b, c = family(3)
    evil = Hostile(b)
    base = evil.update(evil.birth(), "base")
    one = evil.update(evil.birth({"content": "one"}), "fork", advance=False)
    two = evil.update(evil.birth({"content": "two"}), "fork", advance=False, random=lambda n: b"\x02" * n)
    give(a, base, one)
    give(c, base, two)
    forked = [give(a, two), give(c, one)]
    assert [outcome.forks for outcome in forked] == [[(b.device, evil.incarnation, 2)]] * 2
    assert count(a, b"V") == count(c, b"V") == 1
    winner = min((one, two), key=lambda entry: entry.header.hash)
    assert view(a) == view(c)
    assert view(a)["fork"][1]["content"] == ("one" if winner is one else "two")
    assert a.content_hash() == c.content_hash()
    written = a.create("memory", {"content": "goes on"})
    exchange(a, c)
    assert written in view(c)


def test_the_middle_of_another_branch_never_breaks_the_chain_here(family: Any) -> None:
    """Its beginning decides; what comes after it alone proves nothing about who wins."""
    for attempt in range(6):
        a, b = family(2)
        evil = Hostile(b)
        base = evil.update(evil.birth(), "base")
        ours = [evil.update(evil.birth(), f"o{n}") for n in range(2)]
        evil.last[base.header.tag] = base.header.head
        theirs = [evil.update(evil.birth({"content": str(attempt)}), f"t{n}") for n in range(2)]
        give(a, base, *ours)
        outcome = give(a, theirs[1])
        assert outcome.applied == 0
        assert heads_of(a, evil.collection())[-1:] != [theirs[1].header.head]
        assert set(view(a)) == {"base", "o0", "o1"}
        give(a, *theirs)
        best = min((ours, theirs), key=lambda branch: branch[0].header.hash)
        assert best[1].header.head in heads_of(a, evil.collection())


def test_fault_24_two_devices_with_one_incarnation_part_and_lose_nothing(family: Any) -> None:
    """A copied directory writes on as the same device. Whichever branch loses is written again."""
    for _ in range(6):
        a, b = family(2)
        for n in range(3):
            b.create("memory", {"content": n}, id=f"shared{n}")
        send(b, a)
        twin = copied(family, b)
        assert twin.incarnation == b.incarnation
        for name, store in (("b", b), ("twin", twin)):
            with store.transaction() as t:
                t.create("memory", {"content": name}, id=f"of-{name}")
                t.edit("memory", "shared0", {"content": name})
                t.add("memory", "of-" + name, "tags", ["x", "y"])
                t.put_slot("fact", "register", "reading", name)
            store.forget("memory", "shared1" if name == "b" else "shared2")
        send(b, a)
        for giver, taker in ((a, twin), (twin, a), (a, b)) * 3:
            send_all(giver, taker)
        exchange(a, b, twin)
        assert b.incarnation != twin.incarnation
        assert view(a) == view(b) == view(twin)
        assert view(a, "fact") == view(b, "fact") == view(twin, "fact")
        assert a.content_hash() == b.content_hash() == twin.content_hash()
        assert set(view(a)) == {"shared0", "of-b", "of-twin"}
        assert a.get("memory", "shared0")["content"] in ("b", "twin")
        assert count(twin, b"V") + count(b, b"V") >= 1


def test_fault_24_what_a_lost_branch_said_of_the_family_is_said_again(family: Any) -> None:
    for _ in range(4):
        a, b = family(2)
        twin = copied(family, b)
        new = {"b": identity_of(7).device, "twin": identity_of(8).device}
        for name, store in (("b", b), ("twin", twin)):
            membership.admit(store, new[name], name=name)
        send(b, a)
        for giver, taker in ((a, twin), (twin, a), (a, b)) * 3:
            send_all(giver, taker)
        exchange(a, b, twin)
        assert b.incarnation != twin.incarnation
        for store in (a, b, twin):
            assert set(new.values()) < set(store.directory.family.members)


def copied(family: Any, store: Any) -> Any:
    """A second store made by copying the directory while it is closed; `store` is opened again."""
    path = store.path
    twin = path.with_name("twin")
    shutil.copytree(path, twin)
    return family.open(twin, 1, lease=False)


def send_all(giver: Any, taker: Any) -> None:
    """Every entry from the first one on, as a session does whose peer's head has another hash."""
    source, target = StoreReplica(giver), StoreReplica(taker)
    for tag in source.collections(taker.device):
        wants = [(head.device, head.incarnation, 1) for head in source.heads(tag)]
        runs, _ = source.read_entries(tag, wants, 1 << 30)
        target.deliver(tag, runs, giver.device)


# What is kept of it, and what it costs


def test_evidence_is_kept_and_bounded(family: Any) -> None:
    a, b = family(2)
    evil = Hostile(b)
    entries = []
    for n in range(MAX_EVIDENCE + 20):
        entries.append(evil.update(b"\x05", f"d{n}", advance=False, sign=lambda message: bytes(64)))
    for start in range(0, len(entries), 200):
        give(a, *entries[start : start + 200])
    assert count(a, b"V") == MAX_EVIDENCE
    with a.reading() as (_, records):
        newest = list(records.scan(b"V"))[-1][0]
        what, code, source, _, raw = records.get_packed(newest)
    assert (what, code, source) == ("rejected", "bad-signature", b.device)
    assert raw == encode_entry(entries[-1])


def test_evidence_of_large_entries_stays_small(family: Any) -> None:
    a, b = family(2)
    evil = Hostile(b)
    entry = evil.update(b"\x05" + bytes(200_000), sign=lambda message: bytes(64), random=lambda n: b"\x01" * n)
    large = dataclasses.replace(entry, items=(b"\x33" * 900_000,))
    give(a, entry)
    give(a, large)
    with a.reading() as (_, records):
        assert all(len(value) < 100_000 for _, value in records.scan(b"V"))


def test_fault_04_what_is_sent_again_changes_nothing(family: Any) -> None:
    a, b = family(2)
    a.create("memory", {"content": "once"}, id="d")
    a.edit("memory", "d", {"content": "twice"})
    send(a, b)
    before, heads = essence(b), b.heads()
    source, target = StoreReplica(a), StoreReplica(b)
    for tag in source.collections(b.device):
        wants = [(head.device, head.incarnation, 1) for head in source.heads(tag)]
        runs, _ = source.read_entries(tag, wants, 1 << 20)
        outcome = target.deliver(tag, runs, a.device)
        assert (outcome.applied, outcome.held, outcome.rejected) == (0, 0, 0)
    assert essence(b) == before
    assert b.heads() == heads


# Clocks


def test_fault_18_a_peer_ten_years_ahead_is_kept_and_does_not_drag_the_clock(family: Any, clock: Any) -> None:
    a, b = family(2)
    evil = Hostile(b)
    ahead = START_MS + 10 * 365 * 86_400_000
    evil.stamp = hlc.stamp(ahead)
    assert give(a, evil.update(evil.birth({"content": "future"}))).applied == 1
    row = a.get("memory", "d")
    assert hlc.milliseconds(row.hlc) == ahead
    a.create("memory", {"content": "now"}, id="mine")
    assert hlc.milliseconds(a.get("memory", "mine").hlc) <= clock.ms + hlc.DRIFT_MS


def test_how_far_the_clock_follows_is_a_setting(family: Any, clock: Any) -> None:
    a, b = family(2, configs=[dataclasses.replace(CONFIG, drift_ms=60_000)])
    evil = Hostile(b)
    evil.stamp = hlc.stamp(START_MS + 10 * 365 * 86_400_000)
    assert give(a, evil.update(evil.birth({"content": "future"}))).applied == 1
    a.create("memory", {"content": "now"}, id="mine")
    assert clock.ms < hlc.milliseconds(a.get("memory", "mine").hlc) <= clock.ms + 60_000


def test_fault_19_own_stamps_rise_when_the_clock_jumps_back(family: Any, clock: Any) -> None:
    (a,) = family(1)
    a.create("memory", {"content": 0}, id="d")
    stamps = [a.get("memory", "d").hlc]
    for n, jump in enumerate((-1000, -86_400_000, -(1 << 40), 5), 1):
        clock.ms += jump
        a.edit("memory", "d", {"content": n})
        stamps.append(a.get("memory", "d").hlc)
    assert stamps == sorted(set(stamps))
    assert a.get("memory", "d")["content"] == 4


@pytest.mark.parametrize("ms", [0, 1, (1 << 31) * 1000 - 1, (1 << 31) * 1000, (1 << 32) * 1000, (1 << 48) - 1000])
def test_fault_20_1970_2038_and_2106_are_ordinary(ms: int, family: Any, clock: Any) -> None:
    a, b = family(2)
    clock.ms = ms
    made = a.create("memory", {"content": "then", "t": ms})
    a.edit("memory", made, {"content": "later"})
    a.forget("memory", a.create("memory", {"content": "gone"}))
    exchange(a, b)
    assert view(a) == view(b)
    assert b.query("memory", "time", first=ms, last=ms)[0].id == made
    assert a.erase_due() == 0  # the undo window holds, whatever the year
    clock.ms += 86_400_001
    assert a.erase_due() == 1


def test_heads_of_a_refused_entry_are_not_told(family: Any) -> None:
    a, b = family(2)
    evil = Hostile(b)
    entry = evil.update(b"\x01\x02\x03")
    report = StoreReplica(a).ingest(entry.header.tag, [[encode_entry(entry)]], b.device)
    assert report.rejected == 1
    assert report.heads == ()
    assert Head(b.device, evil.incarnation, 1, entry.header.hash) not in heads_of(a, evil.collection())


def test_what_waits_for_its_author_goes_on_when_that_is_admitted_here(family: Any) -> None:
    a, b = family(2)
    c = family.join(b, 2)
    written = c.create("memory", {"content": "new here"})
    tag = c.directory.find("own", "memory").tag
    runs, _ = StoreReplica(c).read_entries(tag, [(c.device, c.incarnation, 1)], 1 << 20)
    assert StoreReplica(a).deliver(tag, runs, c.device).held == 1
    membership.admit(a, c.device, name="device 2")
    assert written in view(a)


def test_what_speaks_for_a_revoked_devices_entry_is_looked_at_again(family: Any) -> None:
    """B's entry stands on one of C that A lacks; A revokes C; what B had applied must come into force here too."""
    a, b, c = family(3)
    evil = Hostile(c)
    first, second = evil.update(evil.birth()), evil.update(evil.birth(), "e")
    later = Hostile(b)
    give(a, first)
    on_second = later.update(later.birth(), "of-b", deps=[second.header.head])
    assert give(a, on_second).held == 1
    membership.revoke(a, c.device)
    assert give(a, second).applied == 2
    assert {"d", "e", "of-b"} <= set(view(a))


def test_the_same_when_the_revocation_comes_from_another_device(family: Any) -> None:
    a, b, c, d = family(4)
    exchange(a, b, c, d)
    evil = Hostile(c)
    first, second = evil.update(evil.birth()), evil.update(evil.birth(), "e")
    later = Hostile(b)
    give(a, first)
    give(d, first)
    assert give(a, later.update(later.birth(), "of-b", deps=[second.header.head])).held == 1
    membership.revoke(d, c.device)
    send(d, a)
    assert give(a, second).applied == 2
    assert {"d", "e", "of-b"} <= set(view(a))
