"""What the processes of the tests do: ``python processes.py WORK DIRECTORY ARGUMENTS…``, on ``DIRECTORY/store0``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from aico_crdt.store import DocumentStore
from tests.store.conftest import CONFIG, identity_of, plain_kinds


def opened(directory: str) -> DocumentStore:
    path = Path(directory) / "store0"
    return DocumentStore.open(path, identity_of(0), plain_kinds(), config=CONFIG, lease=path.with_name("store0.lease"))


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def write(directory: str, name: str, count: str) -> None:
    """New documents, and one shared document rewritten each time."""
    with opened(directory) as store:
        tell("ready")
        sys.stdin.readline()
        for n in range(int(count)):
            with store.transaction() as transaction:
                transaction.create("memory", {"content": f"{name}-{n}"}, id=f"{name}-{n}")
                transaction.edit("memory", "shared", {"content": f"{name}-{n}", name: n})
        tell("done")


def acknowledge(directory: str, name: str) -> None:
    """Write for ever; each id is told once its write has returned."""
    with opened(directory) as store:
        n = 0
        while True:
            document = f"{name}-{n}"
            store.create("memory", {"content": document}, id=document)
            if n % 3 == 2:
                store.forget("memory", f"{name}-{n - 1}", now=n % 2 == 0)
                tell(f"forgot {name}-{n - 1}")
            tell(f"wrote {document}")
            n += 1


def watch(directory: str, cursor: str) -> None:
    with opened(directory) as store, store.watch("memory", cursor=int(cursor)) as changes:
        tell("ready")
        for change in changes:
            tell(f"{change.what} {change.id}")


if __name__ == "__main__":
    {"write": write, "acknowledge": acknowledge, "watch": watch}[sys.argv[1]](*sys.argv[2:])
