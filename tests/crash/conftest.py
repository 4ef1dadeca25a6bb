"""A place to work on, and warm processes to do it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from crash import shim, sweeps, work
from crash.zygote import Zygote

SOAK = int(os.environ.get("AICO_SOAK", "1"))
SEED = int(os.environ.get("AICO_SOAK_SEED", "1"))
"""By how much more is tried in a soak, and from where."""


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A directory in memory where there is one: what a killed process wrote is the kernel's, wherever it lies."""
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=parent, prefix="aico-crash-") as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def template(scratch: Path) -> Path:
    """An empty store and what a peer sent it."""
    place = scratch / "template"
    place.mkdir()
    work.make(place)
    return place


@pytest.fixture(scope="session")
def filled(scratch: Path) -> Path:
    """A small store with something in it to edit, forget and prune."""
    place = scratch / "filled"
    place.mkdir()
    work.make(place, sent=12)
    sweeps.fill(place)
    return place


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    with Zygote.start() as started:
        yield started


@pytest.fixture(scope="session")
def shimmed() -> Iterator[Zygote]:
    """One with the shim loaded."""
    if shim.library() is None:
        pytest.skip("no LD_PRELOAD or no C compiler here")
    with Zygote.start(shim.environment()) as started:
        yield started
