"""Write the fixture store of the present format: small, of a fixed seed, for tests of later releases to open.

Run once before a format is released: ``python -m tools.make_fixture [DIRECTORY]``. A fixture of a released format is
never written again; nonces and life keys are drawn anew, so its bytes are not reproducible, what it says is.
The directory it writes holds `data.mdb`, `lives` (cut to the keys in use: the rest is random), `STORE` and
`expected.json`.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import Any, Final

import lmdb

from aico_crdt.config import Config
from aico_crdt.crdt import Slot, record
from aico_crdt.store import DocumentStore, Folded, IndexKey, Kind, StoreReplica, Version, layout, membership
from aico_crdt.store.lives import MAGIC, SLOT_BYTES
from aico_crdt.trust import Identity

SEED: Final = b"aico-crdt fixture"
START_MS: Final = 1_700_000_000_000
CONFIG: Final = Config(map_size_bytes=64 << 20)


class FixtureKind:
    """The simplest kind: fields by last writer, found by time. Never to be changed, as the fixtures are."""

    version = 1

    def __init__(self, name: str, *, derived: bool = False) -> None:
        self.name = name
        self.derived = derived

    def fold(self, document: str, slots: Sequence[Slot], text: str) -> Folded:
        fields = record(slots)
        return Folded(
            {name: field.value for name, field in fields.items()} | ({"text": text} if text else {}),
            {
                name: tuple(Version(c.writer, c.hlc, c.value) for c in field.conflict)
                for name, field in fields.items()
                if field.conflict
            },
        )

    def index(self, fields: Mapping[str, Any]) -> Iterable[IndexKey]:
        yield IndexKey("time", "", int(fields.get("t", 0)))


def kinds() -> list[Kind]:
    return [FixtureKind("directory"), FixtureKind("memory"), FixtureKind("fact", derived=True)]


def identity(number: int) -> Identity:
    return Identity.from_seed(blake2b(SEED + bytes([number]), digest_size=32).digest())


def rows(store: DocumentStore) -> dict[str, Any]:
    """Every row of a store as JSON values, by kind and id."""
    found: dict[str, Any] = {}
    for kind in ("memory", "fact"):
        for row in store.rows(kind):
            conflicts = {name: [list(version) for version in versions] for name, versions in row.conflicts.items()}
            found[f"{kind} {row.id}"] = [row.space, row.life, row.fields, conflicts, row.hlc, row.device]
    found_as_json: dict[str, Any] = json.loads(json.dumps(found))
    return found_as_json


def build(root: Path) -> tuple[Path, dict[str, Any]]:
    """A store with an edit, a conflict, a set, text, a forgotten and a reborn document, another author."""
    ticks = count(START_MS)
    here, there = root / "here", root / "there"
    membership.found(here, identity(0), kinds(), name="fixture", config=CONFIG, clock_ms=lambda: next(ticks))
    a = DocumentStore.open(here, identity(0), kinds(), config=CONFIG, clock_ms=lambda: next(ticks))
    raw = membership.admit(a, identity(1).device, name="other")
    membership.join(there, identity(1), kinds(), raw, config=CONFIG, clock_ms=lambda: next(ticks))
    b = DocumentStore.open(there, identity(1), kinds(), config=CONFIG, clock_ms=lambda: next(ticks))
    with a.transaction() as tx:
        for number in range(5):
            tx.create("memory", {"content": f"memory {number}", "t": number, "tags": ["born"]}, id=f"m{number}")
        tx.insert_text("memory", "m1", 0, "a note, grüße")
        tx.create("memory", {"content": "at home"}, id="local", space="local")
    a.create("fact", {"content": "derived"}, id="f")
    b.create("fact", {"content": "derived elsewhere"}, id="f")
    _pass(a, b)
    a.edit("memory", "m2", {"content": "said here"})
    b.edit("memory", "m2", {"content": "said there"})
    with b.transaction() as tx:
        tx.add("memory", "m0", "tags", ["added"])
        tx.increment("memory", "m0", "seen", 3)
    _pass(b, a)
    a.forget("memory", "m3")
    a.forget("memory", "m4", now=True)
    a.create("memory", {"content": "born again", "t": 9}, id="m4")
    expected = {"rows": rows(a), "content": a.content_hash().hex(), "forgotten": ["m3"]}
    a.close()
    b.close()
    return here, expected


def _pass(giver: DocumentStore, taker: DocumentStore) -> None:
    source, target = StoreReplica(giver), StoreReplica(taker)
    for tag in source.collections(taker.device):
        wants = [(head.device, head.incarnation, 1) for head in source.heads(tag)]
        runs, _ = source.read_entries(tag, wants, 1 << 30)
        target.ingest(tag, runs, giver.device)


def write(target: Path) -> None:
    """Make the fixture at `target`, which must not exist."""
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as directory:
        here, expected = build(Path(directory))
        with lmdb.open(str(here), map_size=CONFIG.map_size_bytes) as environment:
            environment.copy(str(target), compact=True)
        shutil.copyfile(here / "STORE", target / "STORE")
        (target / "lives").write_bytes((here / "lives").read_bytes()[: len(MAGIC) + 64 * SLOT_BYTES])
    (target / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("tests/fixtures/stores")
    target = root / f"format-{layout.FORMAT}"
    if target.exists():
        raise SystemExit(f"{target} is there already; a released fixture is never written again.")
    write(target)
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
