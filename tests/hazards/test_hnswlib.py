"""Measured facts about hnswlib (0.8) that the vector index is built around."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any, Protocol

import pytest

hnswlib: Any = pytest.importorskip("hnswlib", reason="hnswlib is not installed (extra: hnsw)")
np: Any = pytest.importorskip("numpy", reason="numpy is not installed (extra: hnsw)")

DIMENSION, ITEMS = 8, 50
# Offsets in a saved index (hnswlib 0.8, saveIndex): a header of 96 bytes, then the records of level 0.
ENTRY_POINT, FIRST_RECORD_LINK_COUNT, FIRST_RECORD_LINK = 52, 96, 100


class Isolated(Protocol):
    """The fixture of this folder's ``conftest.py``."""

    def __call__(self, code: str, *args: str, memory_bytes: int = ...) -> Any: ...


def vectors() -> Any:
    return np.random.default_rng(1).standard_normal((ITEMS, DIMENSION)).astype("float32")


def empty() -> Any:
    index = hnswlib.Index("cosine", DIMENSION)
    index.init_index(100, M=16, ef_construction=50, random_seed=1)
    return index


def filled() -> Any:
    index = empty()
    index.add_items(vectors(), range(ITEMS), num_threads=1)
    return index


LOAD_AND_ASK = """
import sys
import hnswlib
import numpy as np
index = hnswlib.Index("cosine", 8)
index.load_index(sys.argv[1])
print("loaded", flush=True)
index.knn_query(np.ones((1, 8), "float32"), k=5, num_threads=1)
print("answered", flush=True)
"""


@pytest.mark.processes
def test_hazard_20_a_sound_index_file_answers(tmp_path: Path, isolated: Isolated) -> None:
    """20. The same child as in the next test, with the file as it was written."""
    filled().save_index(str(tmp_path / "index"))
    assert isolated(LOAD_AND_ASK, str(tmp_path / "index")).lines == ["loaded", "answered"]


@pytest.mark.processes
@pytest.mark.parametrize("offset", [ENTRY_POINT, FIRST_RECORD_LINK_COUNT, FIRST_RECORD_LINK])
def test_hazard_20_a_crafted_index_file_crashes_the_process(tmp_path: Path, isolated: Isolated, offset: int) -> None:
    """20. Four changed bytes (an id or a count out of range) load without a word; the first query crashes."""
    path = tmp_path / "index"
    filled().save_index(str(path))
    data = bytearray(path.read_bytes())
    data[offset : offset + 4] = struct.pack("<I", 0x7FFFFFFF if offset != FIRST_RECORD_LINK_COUNT else 0xFFFF)
    path.write_bytes(data)
    outcome = isolated(LOAD_AND_ASK, str(path))
    assert outcome.lines == ["loaded"]
    assert outcome.crashed


def test_hazard_20_a_file_of_another_distance_loads_without_a_word(tmp_path: Path) -> None:
    """20. The file does not say which distance it was built for."""
    filled().save_index(str(tmp_path / "index"))
    other = hnswlib.Index("l2", DIMENSION)
    other.load_index(str(tmp_path / "index"))
    assert other.get_current_count() == ITEMS


def test_hazard_20_nan_is_accepted() -> None:
    """20. A vector of NaN is added, and comes up among the answers."""
    index = filled()
    index.add_items(np.full((1, DIMENSION), np.nan, "float32"), [99])
    assert 99 in index.get_ids_list()


def test_hazard_20_deleting_only_marks(tmp_path: Path) -> None:
    """20. A deleted item is not found, but stays counted, and its vector is in the file that is saved."""
    index, gone = filled(), vectors()[3]
    index.mark_deleted(3)
    labels, _ = index.knn_query(gone.reshape(1, -1), k=1, num_threads=1)
    assert labels[0][0] != 3
    assert index.get_current_count() == ITEMS
    index.save_index(str(tmp_path / "index"))
    # cosine stores vectors normalised, by the sum in the order of the C++ loop: compare numbers, not bytes
    stored = np.frombuffer((tmp_path / "index").read_bytes()[96:], "float32")
    wanted = gone / np.linalg.norm(gone)
    windows = np.lib.stride_tricks.sliding_window_view(stored, DIMENSION)
    assert np.isclose(windows, wanted, atol=1e-6).all(axis=1).any()


def test_hazard_20_an_index_loads_from_a_memory_file() -> None:
    """20. ``load_index`` wants a path; ``/proc/self/fd/N`` of a memfd is one: no clear text on disk."""
    if not hasattr(os, "memfd_create"):
        pytest.skip("no memfd on this platform")
    target = os.memfd_create("index")
    try:
        filled().save_index(f"/proc/self/fd/{target}")
        loaded = hnswlib.Index("cosine", DIMENSION)
        loaded.load_index(f"/proc/self/fd/{target}")
    finally:
        os.close(target)
    assert loaded.get_current_count() == ITEMS


def test_hazard_20_an_index_survives_pickling() -> None:
    """20. Pickling carries the whole index (only ever of our own bytes)."""
    assert pickle.loads(pickle.dumps(filled())).get_current_count() == ITEMS


def test_hazard_20_asking_for_more_than_there_is_raises() -> None:
    """20. ``k`` beyond what can be found is a ``RuntimeError``, not a shorter answer."""
    with pytest.raises(RuntimeError, match="contiguous"):
        filled().knn_query(vectors()[:1], k=ITEMS + 1, num_threads=1)


def test_hazard_20_a_full_index_raises() -> None:
    """20. The number of elements is fixed until ``resize_index``."""
    index = hnswlib.Index("cosine", DIMENSION)
    index.init_index(1)
    with pytest.raises(RuntimeError, match="exceeds"):
        index.add_items(vectors()[:2], num_threads=1)


def test_hazard_20_the_filter_is_called_back_during_the_search() -> None:
    """20. A Python filter is asked for labels one by one, inside the search: right, and slow."""
    asked: list[int] = []

    def even(label: int) -> bool:
        asked.append(label)
        return label % 2 == 0

    labels, _ = filled().knn_query(vectors()[:1], k=3, num_threads=1, filter=even)
    assert all(label % 2 == 0 for label in labels[0])
    assert len(asked) > 3


def test_hazard_20_small_collections_are_found_exactly() -> None:
    """20. With ef above the collection's size the graph finds what exact search finds (recall 1.0)."""
    index, data = filled(), vectors()
    index.set_ef(64)
    unit = data / np.linalg.norm(data, axis=1, keepdims=True)
    exact = np.argsort(-(unit @ unit.T), axis=1, kind="stable")[:, :10]
    found, _ = index.knn_query(data, k=10, num_threads=1)
    assert [set(row) for row in found] == [set(row) for row in exact]
