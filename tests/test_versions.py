from __future__ import annotations

from importlib import metadata

import pytest

from aico_crdt import __version__, versions


def test_it_names_this_library_first_and_everything_it_stands_on() -> None:
    found = versions.versions()
    assert next(iter(found.items())) == ("aico-crdt", __version__)
    required = {
        "python",
        "pycrdt",
        "lmdb",
        "lmdb-engine",
        "pyzmq",
        "libzmq",
        "msgpack",
        "PyNaCl",
        "zstandard",
        "zstd",
    }
    assert required <= found.keys()
    assert found["msgpack"] == metadata.version("msgpack")
    assert all(
        part.isdigit() for name in ("lmdb-engine", "libzmq", "zstd") for part in found[name].split(".")
    )


def test_a_required_part_that_is_not_there_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    found = versions.versions()
    assert found["lmdb"] == "missing"
    assert "lmdb-engine" not in found
    assert "hnswlib" not in found
