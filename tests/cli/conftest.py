"""The commands as a person runs them: each device a home of its own under one temporary directory."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from aico_crdt import logs
from tests.cli.support import MONTH, Device, Devices, write_lines


@pytest.fixture(autouse=True)
def quiet_logging() -> Iterator[None]:
    """A command sends the log to its stderr, which a test's runner closes."""
    yield
    root = logging.getLogger("aico_crdt")
    for handler in [found for found in root.handlers if isinstance(found.formatter, logs.ContentFree)]:
        root.removeHandler(handler)
    root.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def prototypes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A family of a laptop and a phone, made once: copies of it start every test."""
    root = tmp_path_factory.mktemp("prototypes")
    laptop, phone = Device(root, "laptop"), Device(root, "phone")
    laptop("init", "--name", "laptop")
    admission = root / "phone.admission"
    laptop("admit", phone.json("id")["device"], "--name", "phone", "--output", admission)
    phone("init", "--join", admission)
    return root


@pytest.fixture
def new(tmp_path: Path) -> Devices:
    """``new(name)``: a device without anything on it yet."""
    return lambda name: Device(tmp_path, name)


@pytest.fixture
def pair(prototypes: Path, tmp_path: Path) -> tuple[Device, Device]:
    """Laptop and phone of one family, with empty stores."""
    for name in ("laptop", "phone"):
        shutil.copytree(prototypes / name, tmp_path / name, ignore=shutil.ignore_patterns("wake"))
        (tmp_path / name / "store" / "wake").mkdir(mode=0o700)
    return Device(tmp_path, "laptop"), Device(tmp_path, "phone")


@pytest.fixture
def laptop(pair: tuple[Device, Device]) -> Device:
    return pair[0]


@pytest.fixture
def phone(pair: tuple[Device, Device]) -> Device:
    return pair[1]


@pytest.fixture
def stranger(new: Devices) -> Device:
    """A device that founded a family of its own."""
    device = new("stranger")
    device("init", "--name", "stranger")
    return device


@pytest.fixture
def month(tmp_path: Path) -> Path:
    """An export with one record of every kind."""
    return write_lines(tmp_path / "month.jsonl", MONTH)
