"""Runs: cut by bytes, carried, proven."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from aico_crdt.errors import BrokenChain, Malformed
from aico_crdt.feed import Run, cut, decode_run, encode_entry, encode_run, verify_entry, verify_run
from aico_crdt.feed.run import entry_size


def test_neighbours_of_one_feed_become_one_run(anna: Any, ben: Any) -> None:
    a1, a2, b1, a3, b2, b3 = (who.write(b"x") for who in (anna, anna, ben, anna, ben, ben))
    runs = cut([a1, a2, b1, a3, b2, b3], 1 << 20)
    assert [run.entries for run in runs] == [(a1, a2), (b1,), (a3,), (b2, b3)]
    assert [run.feed.device for run in runs] == [anna.device, ben.device, anna.device, ben.device]


def test_a_gap_begins_a_new_run(anna: Any) -> None:
    one, _, three = (anna.write(b"x") for _ in range(3))
    assert [len(run.entries) for run in cut([one, three], 1 << 20)] == [1, 1]


@pytest.mark.parametrize("room", [0, 1, 500, 1000, 1500, 2000, 10_000])
def test_what_is_cut_is_a_beginning_that_fits_or_one_entry(anna: Any, ben: Any, room: int) -> None:
    entries = [who.write(b"x" * size) for size in (10, 300, 2) for who in (anna, ben)]
    taken = [entry for run in cut(entries, room) for entry in run.entries]
    assert taken == entries[: len(taken)]
    weight = [len(encode_entry(entry)) for entry in entries]
    assert len(taken) == 1 or sum(weight[: len(taken)]) <= room
    slack = 16 * len(entries)
    assert len(taken) == len(entries) or sum(weight[: len(taken) + 1]) > room - slack


def test_nothing_cut_is_nothing() -> None:
    assert cut([], 1000) == []


def test_the_size_is_never_understated_and_near(anna: Any) -> None:
    for payloads in ((), (b"x",), (b"y" * 70_000, b""), (b"z",) * 20):
        entry = anna.write(*payloads)
        size = len(encode_entry(entry))
        assert size <= entry_size(entry) <= size + 16 + 5 * len(payloads)


def test_what_is_encoded_is_decoded(anna: Any, tag: bytes) -> None:
    run = Run(anna.write(b"x").header.feed, tuple(anna.write(b"%d" % place) for place in range(3)))
    again = decode_run(encode_run(run), tag)
    assert again == run
    verify_run(again.entries, None)


def prove(raw: bytes, tag: bytes) -> None:
    verify_run(decode_run(raw, tag).entries, bytes(32))


def test_fault_32_a_run_cut_or_extended_anywhere_is_refused(anna: Any, tag: bytes, cuts: Any, refused: Any) -> None:
    entries = tuple(anna.write(b"%d" % place) for place in range(3))
    raw = encode_run(Run(entries[0].header.feed, entries))
    prove(raw, tag)
    assert all(refused(lambda raw=changed: prove(raw, tag)) for changed in cuts(raw))


def test_fault_32_a_run_with_any_bit_flipped_is_refused(anna: Any, tag: bytes, bit_flips: Any, refused: Any) -> None:
    """Except in the signatures before the last: the chain proves those entries, and alone they are refused."""
    entries = tuple(anna.write(b"%d" % place) for place in range(2))
    raw = encode_run(Run(entries[0].header.feed, entries))
    start = raw.index(entries[0].signature)
    passed = {offset for offset, changed in bit_flips(raw) if not refused(lambda raw=changed: prove(raw, tag))}
    assert passed == set(range(start, start + 64))
    flipped = raw[:start] + bytes([raw[start] ^ 1]) + raw[start + 1 :]
    assert refused(lambda: verify_entry(decode_run(flipped, tag).entries[0]))


def test_a_run_of_another_feed_or_collection_is_refused(anna: Any, ben: Any, tag: bytes) -> None:
    a1, a2, a3 = (anna.write(b"x") for _ in range(3))
    feed = a1.header.feed
    for entries in ((a1, ben.write(b"y")), (a2, a1), (a1, a3), (a1, a1)):
        with pytest.raises(BrokenChain):
            decode_run(encode_run(Run(feed, entries)), tag)
    with pytest.raises(BrokenChain):
        decode_run(encode_run(Run(ben.write(b"x").header.feed, (a1,))), tag)
    with pytest.raises(BrokenChain):
        decode_run(encode_run(Run(feed, (a1, a2))), b"U" * 16)


@pytest.mark.parametrize(
    "value",
    [None, [], [b"D" * 32, b"I" * 8, []], [b"D" * 31, b"I" * 8, [b"x"]], [b"D" * 32, b"I" * 7, [b"x"]],
     [b"D" * 32, b"I" * 8, b"x"], [b"D" * 32, b"I" * 8, ["x"]], [b"D" * 32, b"I" * 8, [b"x"]],
     ["D" * 32, b"I" * 8, [b"x"]]],
)  # fmt: skip
def test_another_shape_is_refused(value: Any, tag: bytes) -> None:
    with pytest.raises(Malformed):
        decode_run(msgpack.packb(value), tag)
