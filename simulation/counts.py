"""What a run counts: every class of fault and of deed. Where one never came up, the run proves nothing of it."""

from __future__ import annotations

from collections import Counter
from typing import Final

FAULTS: Final = (
    "frame dropped",
    "frame duplicated",
    "frame reordered",
    "frame delayed",
    "link cut",
    "partition",
    "one-way partition",
    "crash between steps",
    "crash inside a step",
    "crash before the answer",
    "restart",
    "set back to a snapshot",
    "restored from a backup",
    "clock ahead",
    "clock ten years ahead",
    "clock jumped back",
    "long silence",
    "second process",
    "device admitted",
    "device revoked",
    "entries smuggled past a revocation",
    "hostile entries",
    "pruned",
    "manifest taken",
    "stub seen",
    "later release",
    "version refused",
)
"""Each is counted where it takes effect, not where it was asked for."""

DEEDS: Final = (
    "message",
    "memory",
    "edit",
    "conflict seen",
    "tag added",
    "tag discarded",
    "counter moved",
    "feeling",
    "text typed",
    "text deleted",
    "several at once",
    "forget",
    "forget for good",
    "born again",
)

CLASSES: Final = FAULTS + DEEDS


def missing(counts: Counter[str]) -> list[str]:
    """The classes that never came up."""
    return [name for name in CLASSES if not counts[name]]


def table(counts: Counter[str]) -> str:
    """One line for each class."""
    return "\n".join(f"{counts[name]:>9}  {name}" for name in (*CLASSES, *sorted(counts.keys() - set(CLASSES))))
