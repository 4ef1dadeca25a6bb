"""Audiences and their keys."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from aico_crdt.errors import InvalidValue, Malformed
from aico_crdt.ids import collection_tag, document_key
from aico_crdt.trust import wire
from aico_crdt.trust.identity import Identity, seal_to
from aico_crdt.trust.space import (
    SPACES,
    Space,
    key_id,
    local_space,
    may_read,
    new_space,
    open_space,
    seal_space,
    seal_spaces,
)
from aico_crdt.trust.statement import MAX_BOX_BYTES, TRUSTS, SealedKey

ALICE, BOB = Identity.from_seed(b"a" * 32), Identity.from_seed(b"b" * 32)


def random(seed: int) -> Callable[[int], bytes]:
    return Random(seed).randbytes


READERS = {
    "directory": {"full", "limited", "relay"},
    "own": {"full"},
    "family": {"full", "limited"},
    "local": set(),
    "work": {"full"},
}


def test_who_reads_what() -> None:
    assert set(READERS) == {*SPACES, "work"}
    for space, readers in READERS.items():
        assert {trust for trust in (*TRUSTS, None, "", "FULL", "boss") if may_read(space, trust)} == readers


def test_a_new_space_is_made_of_the_random_bytes_it_is_given() -> None:
    space, again, other = new_space("own", random(1)), new_space("own", random(1)), new_space("own", random(2))
    assert space == again != other
    assert space.tag_key != space.key
    assert space.keys == {space.key_id: space.key}
    assert space.current == space.key_id == key_id(space.key)
    assert len(space.key_id) == 8


def test_tags_and_document_keys_follow_from_the_tag_key() -> None:
    space = new_space("own", random(1))
    assert space.tag("memory") == collection_tag(space.tag_key, "memory")
    assert space.document_key("memory", "id") == document_key(space.tag_key, "memory", "id")
    assert space.tag("memory") != new_space("own", random(2)).tag("memory")


def test_earlier_epochs_stay_readable_and_tags_stay() -> None:
    old = new_space("own", random(1))
    new = Space("own", old.tag_key, bytes(32), old.keys)
    assert new.keys == {old.key_id: old.key, new.key_id: new.key}
    assert new.current != old.current
    assert new.tag("memory") == old.tag("memory")


def test_a_space_shows_no_key() -> None:
    space = new_space("own", random(1))
    assert repr(space) == "Space(name='own')"


@pytest.mark.parametrize("name", ["", "Own", "1st", "-x", "a b", "ä", "x" * 33, "own\n"])
def test_a_name_is_a_word(name: str) -> None:
    with pytest.raises(InvalidValue):
        new_space(name, random(1))


@pytest.mark.parametrize(("tag_key", "key"), [(bytes(31), bytes(32)), (bytes(32), bytes(33))])
def test_keys_are_32_bytes(tag_key: bytes, key: bytes) -> None:
    with pytest.raises(InvalidValue):
        Space("own", tag_key, key)


def test_the_local_space_follows_from_the_seed_and_is_never_shared() -> None:
    assert local_space(ALICE) == local_space(Identity.from_seed(b"a" * 32)) != local_space(BOB)
    assert local_space(ALICE).name == "local"
    with pytest.raises(InvalidValue):
        seal_space(local_space(ALICE), BOB.device)


def test_a_sealed_space_opens_for_its_device_only() -> None:
    space = new_space("family", random(1))
    sealed = seal_space(space, BOB.device)
    assert (sealed.space, len(sealed.box) <= MAX_BOX_BYTES) == ("family", True)
    assert open_space(sealed, BOB) == space
    with pytest.raises(Malformed):
        open_space(sealed, ALICE)


@pytest.mark.parametrize(
    "inner",
    [
        ["own", bytes(32), bytes(32)],
        ["family", bytes(32)],
        ["family", bytes(31), bytes(32)],
        ["family", "x" * 32, bytes(32)],
        ["family", None, None],
        "family",
        None,
        [],
    ],
)
def test_a_box_that_does_not_hold_the_space_it_names_is_malformed(inner: object) -> None:
    with pytest.raises(Malformed):
        open_space(SealedKey("family", seal_to(BOB.device, wire.pack(inner))), BOB)


def test_nobody_hands_out_a_local_space() -> None:
    box = seal_to(BOB.device, wire.pack(["local", bytes(32), bytes(32)]))
    with pytest.raises(Malformed):
        open_space(SealedKey("local", box), BOB)


def test_a_box_of_a_later_form_opens() -> None:
    box = seal_to(BOB.device, wire.pack(["work", b"t" * 32, b"k" * 32, ["epochs"]]))
    assert open_space(SealedKey("work", box), BOB) == Space("work", b"t" * 32, b"k" * 32)


@pytest.mark.parametrize("trust", TRUSTS)
def test_a_newcomer_gets_the_keys_of_what_it_may_read(trust: str) -> None:
    spaces = [new_space(name, random(1)) for name in ("own", "directory", "family", "work")]
    keys = seal_spaces([*spaces, local_space(ALICE)], BOB.device, trust)
    assert [key.space for key in keys] == sorted(name for name, readers in READERS.items() if trust in readers)
    assert all(open_space(key, BOB) in spaces for key in keys)
