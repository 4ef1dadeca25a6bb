"""The reader of LMDB pages, against LMDB itself: it accepts what LMDB wrote and sees every flip that matters."""

from __future__ import annotations

import random
from pathlib import Path

import lmdb
import pytest

from aico_crdt.errors import Damaged
from aico_crdt.store import pages

PAGE = 4096


def churn(directory: Path, rounds: int, seed: int) -> lmdb.Environment:
    """An environment with deletions, long values and free pages; left open."""
    pick = random.Random(seed)
    environment = lmdb.open(str(directory), map_size=1 << 26, sync=False)
    keys: set[bytes] = set()
    for _ in range(rounds):
        with environment.begin(write=True) as transaction:
            for _ in range(pick.randrange(1, 60)):
                key = pick.randbytes(pick.choice([3, 20, 43]))
                keys.add(key)
                transaction.put(key, pick.randbytes(pick.choice([8, 100, 300, 3000, 9000])))
            for key in pick.sample(sorted(keys), min(len(keys), pick.randrange(60))):
                transaction.delete(key)
                keys.discard(key)
    return environment


def shape(transaction: lmdb.Transaction) -> list[tuple[bytes, int]]:
    """Every key and the length of its value: what the tree says, the values' own bytes left out."""
    return [(key, len(value)) for key, value in transaction.cursor()]


def test_what_lmdb_wrote_is_sound_after_every_commit(tmp_path: Path) -> None:
    pick = random.Random(1)
    with lmdb.open(str(tmp_path), map_size=1 << 26, sync=False) as environment:
        assert pages.check(tmp_path) == []
        for _ in range(60):
            with environment.begin(write=True) as transaction:
                for _ in range(pick.randrange(40)):
                    transaction.put(pick.randbytes(2), pick.randbytes(pick.choice([10, 500, 9000])))
                for _ in range(pick.randrange(40)):
                    transaction.delete(pick.randbytes(2))
            assert pages.check(tmp_path) == []
            pages.check_header(tmp_path)


def test_a_snapshot_is_checked_while_a_writer_goes_on(tmp_path: Path) -> None:
    with churn(tmp_path, 20, 2) as environment, environment.begin() as reader:
        number = reader.id()
        with environment.begin(write=True) as transaction:
            transaction.put(b"more", bytes(9000))
        assert pages.check(tmp_path, number) == []
        with environment.begin(write=True) as transaction:
            transaction.put(b"and more", bytes(9000))
        with pytest.raises(pages.Overtaken):
            pages.check(tmp_path, number)


def test_every_flip_in_a_header_of_a_live_page_is_told_or_harmless(tmp_path: Path) -> None:
    churn(tmp_path, 2, 3).close()
    path = tmp_path / "data.mdb"
    whole = path.read_bytes()
    with lmdb.open(str(tmp_path), readonly=True, lock=False) as environment, environment.begin() as transaction:
        original = shape(transaction)
    pick = random.Random(4)
    told = 0
    for page in range(len(whole) // PAGE):
        for offset in range(16) if page > 1 else range(152):
            data = bytearray(whole)
            data[page * PAGE + offset] ^= 1 << pick.randrange(8)
            path.write_bytes(data)
            if pages.check(tmp_path):
                told += 1
                continue
            with lmdb.open(str(tmp_path), readonly=True, lock=False) as environment, environment.begin() as transaction:
                assert shape(transaction) == original, f"page {page}, byte {offset}"
    assert told > 150


def flipped(path: Path, whole: bytes, place: int, mask: int) -> list[str]:
    """What is told of the file with one byte changed."""
    data = bytearray(whole)
    data[place] ^= mask
    path.write_bytes(data)
    faults = pages.check(path.parent)
    path.write_bytes(whole)
    return faults


def test_every_bit_of_what_lmdb_steers_by_is_told(tmp_path: Path) -> None:
    churn(tmp_path, 9, 7).close()
    path = tmp_path / "data.mdb"
    whole = path.read_bytes()
    metas = pages.read_metas(whole)
    newest = max((0, 1), key=lambda number: metas[number].transaction)
    meta = newest * PAGE
    root = metas[newest].main.root * PAGE
    assert metas[newest].main.depth > 1
    leaf = int.from_bytes(whole[root + int.from_bytes(whole[root + 16 : root + 18], "little") :][:6], "little")
    free = metas[newest].free.root * PAGE
    first_list = free + int.from_bytes(whole[free + 16 : free + 18], "little") + 8 + 8
    places = {
        "the newest commit's number": range(meta + 144, meta + 152),
        "the last page": range(meta + 136, meta + 144),
        "the root": range(meta + 128, meta + 136),
        "flags of a branch": range(root + 10, root + 12),
        "flags of a leaf": range(leaf * PAGE + 10, leaf * PAGE + 12),
        "the length of a list of free pages": range(first_list, first_list + 8),
        "a free page": range(first_list + 8, first_list + 16),
    }
    for name, span in places.items():
        for place in span:
            for bit in range(8):
                assert flipped(path, whole, place, 1 << bit), f"{name}: byte {place - span.start}, bit {bit}"
    other = 1 - newest
    assert metas[other].transaction == metas[newest].transaction - 1


def test_a_live_page_in_the_list_of_free_ones_is_told(tmp_path: Path) -> None:
    churn(tmp_path, 9, 7).close()
    path = tmp_path / "data.mdb"
    data = bytearray(path.read_bytes())
    meta = max(pages.read_metas(bytes(data)), key=lambda one: one.transaction)
    free = meta.free.root * PAGE
    first = free + int.from_bytes(data[free + 16 : free + 18], "little") + 8 + 8 + 8
    data[first : first + 8] = meta.main.root.to_bytes(8, "little")
    path.write_bytes(data)
    assert pages.check(tmp_path)


@pytest.mark.parametrize("size", [0, 1, 15, 4095, 4096, 8192])
def test_a_file_cut_short_is_refused_before_lmdb_opens_it(tmp_path: Path, size: int) -> None:
    churn(tmp_path, 5, 5).close()
    with open(tmp_path / "data.mdb", "r+b") as file:
        file.truncate(size)
    with pytest.raises(Damaged, match="data file"):
        pages.check_header(tmp_path)


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(random.Random(6).randbytes(40_000))
    with pytest.raises(Damaged, match="not an LMDB file"):
        pages.check_header(tmp_path)
    (tmp_path / "data.mdb").unlink()
    with pytest.raises(Damaged, match="missing"):
        pages.check_header(tmp_path)
