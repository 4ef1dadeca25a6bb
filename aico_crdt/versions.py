"""The releases this library stands on, for ``--version`` and for reports of faults."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib import metadata
from typing import Final

from aico_crdt import __version__

_DISTRIBUTIONS: Final = ("pycrdt", "lmdb", "pyzmq", "msgpack", "PyNaCl", "zstandard")
_OPTIONAL: Final = ("hnswlib", "numpy")


def versions() -> dict[str, str]:
    """Name → version, this library first, then Python, what it needs, the engines inside, what extras added.

    A required part that is not there is ``missing``; an optional one is left out. Imports the libraries with
    engines, so it takes some ten milliseconds.
    """
    found = {"aico-crdt": __version__, "python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        found[name] = _release(name)
        if name in _ENGINES and found[name] != "missing":
            engine, read = _ENGINES[name]
            found[engine] = read()
    return found | {name: release for name in _OPTIONAL if (release := _release(name)) != "missing"}


def _release(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"


def _lmdb() -> str:
    import lmdb

    return ".".join(map(str, lmdb.version()))


def _libzmq() -> str:
    import zmq

    return zmq.zmq_version()


def _zstd() -> str:
    import zstandard

    return ".".join(map(str, zstandard.ZSTD_VERSION))


_ENGINES: Final[dict[str, tuple[str, Callable[[], str]]]] = {
    "lmdb": ("lmdb-engine", _lmdb),
    "pyzmq": ("libzmq", _libzmq),
    "zstandard": ("zstd", _zstd),
}
