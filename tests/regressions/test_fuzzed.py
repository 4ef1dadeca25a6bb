"""What fuzzing found: input of a hostile member that raised, or left a trace although it was refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest

from aico_crdt import aead
from aico_crdt.errors import Malformed
from aico_crdt.feed import Erased, Operation
from aico_crdt.store import StoreReplica, attested
from aico_crdt.store.bundle import take_bundle, write_bundle
from aico_crdt.store.prune import DAY_MS, prune
from tests.store.conftest import exchange, send
from tests.store.hostile import Hostile, count, essence, give


@pytest.mark.parametrize("verb", ["update", "forget"])
def test_an_operation_on_what_is_no_id_is_rejected(family: Any, verb: str) -> None:
    """It escaped as the caller's mistake, and with it went the whole delivery, again and again."""
    a, b = family(2)
    evil = Hostile(b)
    good = evil.update(evil.birth(), "good")
    before = essence(a)
    bad = Hostile(b, b"another!")
    outcome = give(a, bad.entry(Operation("", 1, verb, bad.birth())))
    assert [type(error) for error in outcome.refusals] == [Malformed]
    assert essence(a) == before
    assert give(a, good).applied == 1


@pytest.mark.parametrize("document", ["", "x" * 129, 5, None])
@pytest.mark.parametrize("trusted", [True, False])
def test_a_body_of_what_is_no_id_is_refused(family: Any, clock: Any, document: Any, trusted: bool) -> None:
    a, b, c = family(3, trusts=["full", "limited"])
    b.create("memory", {"content": "x"}, id="m", space="family")
    exchange(a, b, c)
    for number in range(2):
        b.edit("memory", "m", {"content": f"{number}"})
    clock.ms += 100 * DAY_MS
    prune(b)
    send(b, a, bodies=False)
    where = a.directory.find("family", "memory")
    (key,) = StoreReplica(a).stubs(where.tag, 9)
    space = a.directory.spaces["family"]
    plain = msgpack.packb({} if document is None else [document, b"\0\0"])
    body = space.key_id + bytes(24) + aead.seal(plain, attested._bound(where, key, 1), bytes(24), space.key)
    before = essence(a)
    source = b.device if trusted else c.device
    assert StoreReplica(a).ingest_bodies(where.tag, [(key, 1, body)], source).rejected == 1
    assert essence(a) == before


def test_a_refused_rebirth_leaves_the_forgotten_life_as_it_was(family: Any) -> None:
    """What is hidden may still be wanted until its key is destroyed, and is erased on the note of its owner alone."""
    a, b = family(2)
    a.create("memory", {"content": "x"}, id="m")
    a.edit("memory", "m", {"content": "y"})
    exchange(a, b)
    a.forget("memory", "m")
    evil = Hostile(b)
    before = essence(a)
    entry = evil.entry(
        Operation("m", 2, "update", evil.birth()), Operation("n", 1, "update", b"\0\0 no update"),
    )  # fmt: skip
    assert give(a, entry).rejected == 1
    assert essence(a) == before
    assert give(a, Hostile(b, b"honestly").update(Hostile(b, b"honestly").birth(), "m", life=2)).applied == 1
    assert a.read("memory", "m") is not None
    assert essence(a)[2][b"D"] == before[2][b"D"]


@pytest.mark.parametrize("payload", [b"\x80", b"\x81\x00\xc3", b"\xc0", b"\x90", b"", b"\xc1", b"\x92\x05\x06"])
def test_a_forget_is_one_whatever_it_says(family: Any, payload: bytes) -> None:
    a, b = family(2)
    a.create("memory", {"content": "x"}, id="m")
    exchange(a, b)
    evil = Hostile(b)
    assert give(a, evil.entry(Operation("m", 1, "forget", payload))).applied == 1
    assert a.read("memory", "m") is None


@pytest.mark.parametrize("verb", ["update", "forget"])
def test_what_fills_a_gap_belongs_where_its_mark_says(family: Any, verb: str) -> None:
    """Who gets the whole entry rejects it; who got it erased first must not apply to another document what is in it."""
    a, b, c = family(3)
    evil = Hostile(b)
    where = evil.collection()
    honest = evil.mark(where, Operation("d", 1, "update", b""), 1, 0)
    whole = evil.entry(Operation("e", 1, verb, evil.birth()), marks=[honest])
    key = a.directory.spaces[where.space].document_key(where.kind, "d")
    assert give(a, replace(whole, items=(Erased(key, 1),))).applied == 1
    assert count(a, b"N") == 1
    give(a, whole)
    assert a.read("memory", "e") is None
    assert count(a, b"N") == 1
    if verb == "update":
        assert give(c, whole).rejected == 1


@pytest.mark.parametrize(
    "wrong", [{"lacking": -1}, {"lacking": 1 << 63}, {"seq": -5}, {"floor": 1 << 63}, {"hash": b"short"}, {"seq": 0}]
)
def test_a_bundle_whose_heads_hold_no_numbers_is_refused(
    family: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]
) -> None:
    """It was taken for the most part, and then escaped as an error of `struct`."""
    a, b = family(2)
    b.create("memory", {"content": "x"}, id="m")
    path = tmp_path / "bundle"
    with monkeypatch.context() as lying:
        heads = StoreReplica.heads
        lying.setattr(StoreReplica, "heads", lambda *of: tuple(head._replace(**wrong) for head in heads(*of)))
        write_bundle(b, path)
    before = essence(a)
    with pytest.raises(Malformed):
        take_bundle(a, path)
    assert essence(a) == before
    path.unlink()
    write_bundle(b, path)
    assert take_bundle(a, path).applied > 0
