"""Causal delivery (Schwarz and Mattern, *Detecting causal relationships in distributed computations*, 1994).

An entry may be applied when its predecessor and everything its `deps` name have been. Dependencies name only
what changed since the author's last entry; what came before is covered through the predecessor.
"""

from __future__ import annotations

from collections.abc import Mapping

from aico_crdt.feed.header import Head, Header

Writer = tuple[bytes, bytes]
"""(device, incarnation): a feed, within one collection."""


def missing(header: Header, heads: Mapping[Writer, Head]) -> tuple[Head, ...]:
    """What must be applied before `header`: its predecessor first if that is lacking, then dependencies.

    Args:
        heads: the newest applied entry of each feed of the collection.

    Returns:
        the entries not covered; empty = it may be applied. A head covers all that come before it in its feed.
    """
    lacking = [dep for dep in header.deps if _seq(heads, dep.device, dep.incarnation) < dep.seq]
    before = header.seq - 1
    if _seq(heads, header.device, header.incarnation) < before:
        lacking.insert(0, Head(header.device, header.incarnation, before, header.prev))
    return tuple(lacking)


def deps_since(now: Mapping[Writer, Head], last: Mapping[Writer, Head], own: Writer) -> tuple[Head, ...]:
    """The dependencies of a new entry of feed `own`, sorted.

    Args:
        now: heads applied here.
        last: heads that had been applied when `own`'s last entry was written; empty for its first.
    """
    return tuple(sorted(head for writer, head in now.items() if writer != own and last.get(writer) != head))


def _seq(heads: Mapping[Writer, Head], device: bytes, incarnation: bytes) -> int:
    head = heads.get((device, incarnation))
    return head.seq if head is not None else 0
