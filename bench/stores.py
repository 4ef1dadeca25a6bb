"""Stores to measure: founded, filled, joined by a second device. Only public verbs, real disks, default settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from aico_crdt.companion import KINDS, Store
from aico_crdt.config import Config
from aico_crdt.store import Transaction, admit, found, join
from aico_crdt.trust import Identity
from bench import data

GROUP = 1000
"""Writers that share a commit while a store is filled."""


def identity(number: int) -> Identity:
    """Device `number`, the same in every run."""
    return Identity.from_seed(bytes([number]) * 32)


def open_store(path: Path, number: int = 1, **settings: Any) -> Store:
    return Store.open(path, identity(number), config=Config(port=0, **settings))


def new_store(path: Path, **settings: Any) -> Store:
    """The store of device 1, which has just founded its family."""
    found(path, identity(1), KINDS, name="laptop")
    return open_store(path, 1, **settings)


def join_family(first: Store, path: Path, number: int) -> None:
    """Make the store of device `number`, admitted by `first`."""
    admission = admit(first, identity(number).device, name=f"device {number}", device_type="desktop")
    join(path, identity(number), KINDS, admission)


@contextmanager
def fresh(path: Path, **settings: Any) -> Iterator[Store]:
    with new_store(path / "store", **settings) as store:
        yield store


def in_groups(store: Store, writers: Iterable[Callable[[Transaction], object]]) -> None:
    """Carry all of them out, :data:`GROUP` with a commit; what one raises is raised."""
    waiting = iter(writers)
    while group := list(islice(waiting, GROUP)):
        for result in store.group(group):
            if isinstance(result, Exception):
                raise result


def remember(store: Store, number: int) -> Callable[[Transaction], object]:
    fields = data.memory(number)
    content = fields.pop("content")
    return lambda t: store.memories.add(content, id=data.memory_id(number), within=t, **fields)


def say(store: Store, number: int) -> Callable[[Transaction], object]:
    fields = data.message(number)
    role, text = fields.pop("role"), fields.pop("text")
    conversation, name = data.conversation_id(number), data.message_id(number)
    return lambda t: store.conversations.say(conversation, role, text, id=name, within=t, **fields)


def begin(store: Store, number: int) -> Callable[[Transaction], object]:
    """The conversation that message `number` belongs to."""
    return lambda t: store.conversations.start(id=data.conversation_id(number), within=t)


def fill(store: Store, documents: int) -> None:
    """Half messages, half memories; `documents` together, and a head for every conversation."""
    half = documents // 2
    in_groups(store, (begin(store, number) for number in range(0, half, data.MESSAGES_EACH)))
    in_groups(store, (say(store, number) for number in range(half)))
    in_groups(store, (remember(store, number) for number in range(documents - half)))


def forget_pages(path: Path) -> None:
    """Ask the system to drop what it caches of the files under `path`, where it knows how to."""
    if not hasattr(os, "posix_fadvise"):
        return
    for file in path.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def disk_bytes(path: Path) -> int:
    """What the files under `path` take on the disk."""
    return sum(file.stat().st_blocks * 512 for file in path.rglob("*") if file.is_file())
