"""A household's month, March 2026: what ``make demo`` loads.

Four people, a dog and their companion Aico, on a laptop, a phone and the tablet in the kitchen. Written for
this project, every line of it invented. The file is an export in our own format
(:mod:`aico_crdt.companion.imports`), in the order in which things happened: whatever a line refers to stands
above it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

__all__ = ["household", "household_file", "household_lines"]


def household() -> Iterator[dict[str, Any]]:
    """The records of the month, one dict each as it stands in its line; without the header."""
    records = household_lines()
    next(records)
    return map(json.loads, records)


def household_lines() -> Iterator[str]:
    """The lines of the file, header first: what :func:`aico_crdt.companion.imports.read_jsonl` takes."""
    with files(__name__).joinpath("household.jsonl").open("r", encoding="utf-8") as file:
        yield from file


def household_file() -> AbstractContextManager[Path]:
    """The file itself, for the length of a ``with`` block."""
    return as_file(files(__name__).joinpath("household.jsonl"))
