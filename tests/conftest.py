"""What every test shares: no settings from the machine it runs on, and the optional shared data."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AICO_CRDT_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """``shared_data(name)``: a file of the data directory beside the checkout; skips where it is absent."""

    def find(name: str) -> Path:
        path = SHARED_DATA / name
        if not path.is_file():
            pytest.skip(f"no ../shared/data/{name} here")
        return path

    return find


@pytest.fixture
def fast_path(tmp_path: Path) -> Iterator[Path]:
    """A directory of its own in memory where there is /dev/shm (a sync costs nothing there), else `tmp_path`."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="aico-") as directory:
        yield Path(directory)
