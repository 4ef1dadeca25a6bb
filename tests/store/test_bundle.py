"""Bundles byte by byte: what is refused, and that a refusal changes nothing; and what was pruned still comes."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aico_crdt.errors import BadSignature, DiskFull, InvalidValue, Malformed, NotYet, UnknownVersion, WrongFamily
from aico_crdt.store import DocumentStore, StoreReplica, bundle, layout
from aico_crdt.store.records import FeedRecord

Send = Callable[..., Any]


@pytest.fixture
def written(family: Any, tmp_path: Path) -> tuple[DocumentStore, DocumentStore, Path]:
    """A store with some documents, one that lacks them, and the bundle between them."""
    giver, taker = family(2)
    for number in range(5):
        giver.create("memory", {"t": number, "text": "x" * 100}, id=f"m{number}")
    path = tmp_path / "bundle"
    bundle.write_bundle(giver, path)
    return giver, taker, path


def refused(taker: DocumentStore, path: Path, *kinds: type[Exception]) -> Exception:
    before = taker.heads(), taker.content_hash(), taker.counters()
    for attempt in (bundle.check_bundle, bundle.take_bundle):
        with pytest.raises(kinds) as caught:
            attempt(taker, path)
    assert (taker.heads(), taker.content_hash(), taker.counters()) == before
    return caught.value


def test_the_clear_part_is_as_drawn(written: tuple[DocumentStore, DocumentStore, Path]) -> None:
    giver, _, path = written
    raw = path.read_bytes()
    assert raw[:16] == b"aico-crdt bundle"
    assert raw[16:18] == b"\0\1"
    assert raw[18:34] == giver.directory.family.id
    assert raw[34:42] == giver.directory.spaces["directory"].key_id
    position, frames = 66, 0
    while position < len(raw):
        position += 4 + int.from_bytes(raw[position : position + 4], "big")
        frames += 1
    assert position == len(raw)
    assert frames == 6  # bundle, two collections of heads and runs, end


def test_every_cut_is_refused(written: tuple[DocumentStore, DocumentStore, Path]) -> None:
    _, taker, path = written
    raw = path.read_bytes()
    ends = {0, 1, 15, 16, 17, 41, 42, 65, 66, 67, len(raw) - 1} | set(range(70, len(raw), 97))
    for end in sorted(ends):
        path.write_bytes(raw[:end])
        assert "bundle" in str(refused(taker, path, Malformed))


def test_trailing_bytes_are_refused(written: tuple[DocumentStore, DocumentStore, Path]) -> None:
    _, taker, path = written
    path.write_bytes(path.read_bytes() + b"\0")
    refused(taker, path, Malformed)


def test_every_flipped_bit_is_refused(written: tuple[DocumentStore, DocumentStore, Path]) -> None:
    _, taker, path = written
    raw = path.read_bytes()
    choose = random.Random(7)
    places = [*range(66), *choose.sample(range(66, len(raw)), 60)]
    for place in places:
        flipped = bytearray(raw)
        flipped[place] ^= 1 << choose.randrange(8)
        path.write_bytes(flipped)
        expected = {0: Malformed, 1: UnknownVersion, 2: WrongFamily, 3: NotYet}
        part = 0 if place < 16 or place >= 42 else 1 if place < 18 else 2 if place < 34 else 3
        refused(taker, path, expected[part])


def test_two_frames_exchanged_are_refused(written: tuple[DocumentStore, DocumentStore, Path]) -> None:
    _, taker, path = written
    raw = path.read_bytes()
    first = 66 + 4 + int.from_bytes(raw[66:70], "big")
    second = first + 4 + int.from_bytes(raw[first : first + 4], "big")
    path.write_bytes(raw[:66] + raw[first:second] + raw[66:first] + raw[second:])
    refused(taker, path, Malformed)


def test_a_frame_may_not_claim_more_than_there_is(written: tuple[DocumentStore, DocumentStore, Path]) -> None:
    _, taker, path = written
    raw = bytearray(path.read_bytes())
    raw[66:70] = b"\xff\xff\xff\xff"
    path.write_bytes(raw)
    refused(taker, path, Malformed)


def test_another_family_s_is_refused(written: tuple[DocumentStore, DocumentStore, Path], family: Any) -> None:
    (other,) = family(1)
    refused(other, written[2], WrongFamily)


def test_it_is_signed_by_its_writer(
    written: tuple[DocumentStore, DocumentStore, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    giver, taker, path = written
    path.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(type(giver.identity), "sign", lambda self, message: bytes(64))
        bundle.write_bundle(giver, path)
    refused(taker, path, BadSignature)


def test_taking_it_again_applies_nothing(written: tuple[DocumentStore, DocumentStore, Path]) -> None:
    giver, taker, path = written
    first = bundle.take_bundle(taker, path)
    assert first.applied == 5
    assert taker.content_hash() == giver.content_hash()
    heads, changes = taker.heads(), taker.counters().change
    again = bundle.take_bundle(taker, path)
    assert (again.applied, again.rejected, again.held, again.bodies) == (0, 0, 0, 0)
    assert (taker.heads(), taker.counters().change) == (heads, changes)


def test_what_it_says_is_held_counts_as_acknowledged(written: tuple[DocumentStore, DocumentStore, Path]) -> None:
    giver, taker, path = written
    bundle.take_bundle(taker, path)
    assert taker.receipt("memory", "m0").on == (giver.device,)


def test_entries_of_several_authors_come_in_an_order_that_applies(family: Any, send: Send, tmp_path: Path) -> None:
    a, b, c = family(3)
    a.create("memory", {"t": 1}, id="m1")
    send(a, b)
    b.edit("memory", "m1", {"t": 2})
    bundle.write_bundle(b, tmp_path / "b")
    taken = bundle.take_bundle(c, tmp_path / "b")
    assert taken.applied == 2
    assert c.content_hash() == b.content_hash()


def test_a_failed_write_leaves_no_file(
    written: tuple[DocumentStore, DocumentStore, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    giver, _, path = written
    content = path.read_bytes()
    with pytest.raises(InvalidValue):
        bundle.write_bundle(giver, path)
    assert path.read_bytes() == content

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    place = tmp_path / "empty"
    place.mkdir()
    with pytest.raises(DiskFull):
        bundle.write_bundle(giver, place / "b")
    assert list(place.iterdir()) == []


def test_what_was_pruned_comes_by_manifest_and_bodies(
    written: tuple[DocumentStore, DocumentStore, Path], family: Any, send: Send, tmp_path: Path
) -> None:
    from aico_crdt.store.prune import prune

    giver, taker, path = written
    send(giver, taker)
    newcomer = family.join(giver, 2)
    send(giver, taker)
    # The newcomer has been silent for longer than anything is kept for.
    family.clock.ms += 200 * 86_400_000
    send(giver, taker)
    prune(giver)
    collection = giver.directory.find("own", "memory")
    assert collection is not None
    with giver.reading() as (_, records):
        floors = [FeedRecord.unpack(v).floor for _, v in records.scan(layout.feed_prefix(collection.number))]
    assert max(floors) > 1, "nothing was pruned: the test would test nothing"
    giver.create("memory", {"t": 9}, id="m9")
    path.unlink()
    bundle.write_bundle(giver, path)
    taken = bundle.take_bundle(newcomer, path)
    assert taken.bodies == 6
    assert taken.rejected == 0
    assert newcomer.content_hash() == giver.content_hash()
    assert not StoreReplica(newcomer).stubs(collection.tag, 10)
    assert newcomer.get("memory", "m3")["t"] == 3
    again = bundle.take_bundle(newcomer, path)
    assert (again.applied, again.bodies) == (0, 0)


def test_unbundled_is_the_bundle_alone_and_leaves_nothing(
    written: tuple[DocumentStore, DocumentStore, Path],
) -> None:
    giver, taker, path = written
    taker.create("memory", {"t": 77}, id="only-here")
    before = taker.heads(), sorted(taker.path.parent.iterdir())
    with bundle.unbundled(taker, path) as apart:
        assert {row.id for row in apart.rows("memory")} == {f"m{number}" for number in range(5)}
        assert apart.content_hash() == giver.content_hash()
    assert (taker.heads(), sorted(taker.path.parent.iterdir())) == before


def test_the_copy_of_a_bundle_is_the_bundle(written: tuple[DocumentStore, DocumentStore, Path], tmp_path: Path) -> None:
    shutil.copy(written[2], tmp_path / "copy")
    assert bundle.is_bundle(tmp_path / "copy")
    assert bundle.check_bundle(written[1], tmp_path / "copy").entries == 7
