"""``python -m bench.where append|ingest``: where the microseconds of a write, or of an entry received, go.

A profile in memory, where a sync costs nothing: what is shown is our own work and the libraries'. Profiling slows small
functions down more than large ones, so the shares count, not the sum.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench import data, receiving, stores
from bench.writes import MEMORY

Line = tuple[int, str, tuple[str, ...]]

LINES: Final[dict[str, tuple[Line, ...]]] = {
    "append": (
        (0, "checks of the record", ("fields.py:check",)),
        (0, "creating the document", ("transaction.py:create",)),
        (1, "its plain form", ("birth.py:fields_of",)),
        (1, "its update, as Yjs bytes", ("birth.py:write_birth",)),
        (0, "the entry", ("transaction.py:_append",)),
        (1, "sealing and hashing its item", ("item.py:seal", "item.py:item_hash")),
        (1, "Ed25519 signature", ("identity.py:sign",)),
        (1, "storing header and item", ("workspace.py:append", "workspace.py:keep_item")),
        (0, "the document's row", ("workspace.py:_write_document",)),
        (1, "index keys", ("rows.py:index_keys",)),
        (1, "content hash", ("document.py:content_hash",)),
        (0, "of all this: LMDB puts with their checksums", ("records.py:put",)),
        (0, "of all this: XChaCha20-Poly1305", ("aead.py:seal",)),
        (0, "LMDB's commit", ("~:commit",)),
        (0, "ringing for other processes", ("store.py:announce",)),
    ),
    "ingest": (
        (0, "decoding entries", ("entry.py:decode_entry",)),
        (0, "chain, signature, hashes", ("entry.py:verify_run",)),
        (0, "in force, dependencies", ("ingest.py:_check_force",)),
        (0, "applying", ("ingest.py:_apply",)),
        (1, "opening the item", ("item.py:open_item",)),
        (1, "walking and reading the update", ("birth.py:read_birth",)),
        (1, "storing header and item", ("workspace.py:append", "workspace.py:keep_item")),
        (0, "the documents' rows", ("workspace.py:_write_document",)),
        (1, "index keys", ("rows.py:index_keys",)),
        (1, "content hash", ("document.py:content_hash",)),
        (0, "of all this: LMDB puts with their checksums", ("records.py:put",)),
        (0, "of all this: XChaCha20-Poly1305", ("aead.py:seal", "aead.py:unseal")),
        (0, "LMDB's commits", ("~:commit",)),
    ),
}
"""What is shown: depth, words, and functions whose time counts with that of all they call."""


def shares(profile: cProfile.Profile, lines: Sequence[Line]) -> list[tuple[str, float]]:
    """(what, share of the whole) of every line. What is indented is part of the line above it."""
    found: dict[Any, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]  # not in the stubs
    whole = sum(own for _, _, own, _, _ in found.values())
    spent: dict[str, float] = {}
    for (file, _, function), (_, _, _, with_calls, _) in found.items():
        name = function.removeprefix("<method '").partition("' of")[0]
        key = f"{Path(file).name}:{name}"
        spent[key] = spent.get(key, 0.0) + with_calls
    return [("  " * depth + what, sum(spent.get(name, 0.0) for name in names) / whole) for depth, what, names in lines]


def append(profile: cProfile.Profile, place: Path, count: int) -> None:
    messages = data.messages(count + 50)
    with stores.fresh(place) as store:
        conversation = store.conversations.start()
        for message in messages[:50]:
            store.conversations.say(conversation, **message)
        profile.enable()
        for message in messages[50:]:
            store.conversations.say(conversation, **message)
        profile.disable()


def ingest(profile: cProfile.Profile, place: Path, count: int) -> None:
    with receiving.offered(place, count) as (taker, source, batches):
        profile.enable()
        receiving.take(taker, batches, source)
        profile.disable()


WAYS: Final[dict[str, Callable[[cProfile.Profile, Path, int], None]]] = {"append": append, "ingest": ingest}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("--count", type=int, default=2000, help="operations; default: 2000")
    options = parser.parse_args(arguments)
    profile = cProfile.Profile()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as place:
        WAYS[options.way](profile, Path(place), options.count)
    table = Table("where", "share")
    for what, share in shares(profile, LINES[options.way]):
        table.add_row(what, f"{share:.0%}")
    Console().print(table)


if __name__ == "__main__":
    main()
