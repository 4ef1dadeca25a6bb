"""The same verbs for asyncio. Many concurrent writers share one commit: one sync, one entry per collection.

A write that returned is on disk. A write whose task is cancelled is done entirely or not at all: if its commit had
begun it is done. The store itself may be used by threads at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from aico_crdt.companion.emotions import EmotionState
from aico_crdt.companion.store import Store
from aico_crdt.errors import Closed
from aico_crdt.store import Receipt, Row, Transaction
from aico_crdt.store.watch import RECHECK_S, Change

MAX_GROUP: Final = 1024
"""Writers that share one commit at most; what waits behind them gets the next."""
MAX_WAITING: Final = 16_384
"""Writers that may wait; a further one waits for room."""

T = TypeVar("T")
_Job = tuple[Callable[[Transaction], Any], "asyncio.Future[Any]"]


class _Writer:
    """One thread that takes whatever waits and commits it together. Serves one event loop, told once a commit.

    What is submitted in one turn of the loop is handed over at its end: a thread that began with the first job would
    commit that one alone, and compete with the loop for the interpreter while the others are still being made.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turn: list[_Job] = []
        self._jobs: queue.SimpleQueue[list[_Job] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="aico-crdt-writer", daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[Transaction], T]) -> asyncio.Future[T]:
        """Called in the event loop, where the future is resolved once the job's commit is on disk."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if not self._turn:
            loop.call_soon(self.hand_over)
        self._turn.append((job, future))
        return future

    def hand_over(self) -> None:
        if self._turn:
            self._jobs.put(self._turn)
            self._turn = []

    def close(self) -> None:
        """Nothing may be submitted any more, and the last turn must be handed over."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        waiting: list[_Job] = []
        ending = False
        while not ending or waiting:
            while not ending and (not waiting or not self._jobs.empty()):
                jobs = self._jobs.get()
                ending = jobs is None
                waiting += jobs or ()
            group, waiting = waiting[:MAX_GROUP], waiting[MAX_GROUP:]
            group = [job for job in group if not job[1].cancelled()]
            if group:
                _deliver(group, self._commit(group))

    def _commit(self, group: list[_Job]) -> list[Any]:
        try:
            return self._store.group([_contained(job) for job, _ in group])
        except BaseException as error:  # noqa: BLE001  # every waiting writer must hear of it
            return [error] * len(group)


class _Broke(Exception):
    """What a writer raised, its cause, would end all of its group, were it let out."""


def _contained(job: Callable[[Transaction], T]) -> Callable[[Transaction], T]:
    """`job`, of which whatever it raises is its own affair: a panic in Rust is no Exception."""

    def contained(transaction: Transaction) -> T:
        try:
            return job(transaction)
        except Exception:
            raise
        except BaseException as error:
            raise _Broke from error

    return contained


def _deliver(group: list[_Job], results: list[Any]) -> None:
    """Hand the results to those who wait in the event loop; it may have ended meanwhile, and then nobody waits."""
    loop = group[0][1].get_loop()
    with contextlib.suppress(RuntimeError):
        if not loop.is_closed():
            loop.call_soon_threadsafe(_resolve, group, results)


def _resolve(group: list[_Job], results: list[Any]) -> None:
    for (_, future), result in zip(group, results, strict=True):
        if future.done():
            continue  # cancelled while its commit was under way: it is done all the same
        if isinstance(result, _Broke):
            result = result.__cause__
        if isinstance(result, StopIteration):  # no future takes it
            stopped, result = result, RuntimeError("A writer raised StopIteration.")
            result.__cause__ = stopped
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)


class AsyncStore:
    """Asyncio's view of a :class:`Store`. Serves one event loop; the store is the caller's to close, after this."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._writer = _Writer(store)
        self._room = asyncio.Semaphore(MAX_WAITING)
        self._closed = False
        self.conversations = AsyncConversations(self)
        self.memories = AsyncMemories(self)
        self.emotions = AsyncEmotions(self)
        self.devices = AsyncDevices(self)

    async def write(self, job: Callable[[Transaction], T]) -> T:
        """Carry out `job` in the writer thread, in a commit shared with whatever else waits.

        `job` must not block, and must use only the transaction it is given. What it raises is raised here, and then
        it changed nothing.
        """
        async with self._room:
            if self._closed:  # perhaps while this waited for room: the writer takes nothing more
                raise Closed("The store is closed.")
            return await self._writer.submit(job)

    async def read(self, kind: str, document_id: str) -> Row | None:
        """The row of one document, None when there is none."""
        return await asyncio.to_thread(self.store.read, kind, document_id)

    async def get(self, kind: str, document_id: str) -> Row:
        """As :meth:`read`; raises NotFound."""
        return await asyncio.to_thread(self.store.get, kind, document_id)

    async def query(self, kind: str, index: str, value: str = "", **bounds: Any) -> list[Row]:
        """See :meth:`DocumentStore.query`."""
        return await asyncio.to_thread(lambda: self.store.query(kind, index, value, **bounds))

    async def receipt(self, kind: str, document_id: str) -> Receipt:
        """See :meth:`DocumentStore.receipt`."""
        return await asyncio.to_thread(self.store.receipt, kind, document_id)

    async def wait(self, kind: str, document_id: str, **until: Any) -> Receipt:
        """See :meth:`DocumentStore.wait`."""
        return await asyncio.to_thread(lambda: self.store.wait(kind, document_id, **until))

    async def forget(self, kind: str, document_id: str, *, now: bool = False) -> None:
        """See :meth:`DocumentStore.forget`."""
        await asyncio.to_thread(lambda: self.store.forget(kind, document_id, now=now))

    async def watch(
        self, kind: str | None = None, filter: Callable[[Row], bool] | None = None, *, cursor: int | None = None
    ) -> AsyncIterator[Change]:
        """Changes as they come, from `cursor` or from now on; see :class:`aico_crdt.store.watch.Watch`."""
        loop = asyncio.get_running_loop()
        rung = asyncio.Event()
        with self.store.watch(kind, filter, cursor=cursor) as watch:
            loop.add_reader(watch.ear.fileno(), rung.set)
            try:
                while True:
                    rung.clear()
                    watch.ear.drain()
                    changes = await asyncio.to_thread(watch.take)
                    for change in changes:
                        yield change
                    if not changes:
                        try:
                            await asyncio.wait_for(rung.wait(), RECHECK_S)
                        except TimeoutError:
                            continue
            finally:
                loop.remove_reader(watch.ear.fileno())

    async def close(self) -> None:
        """Finish what waits and end the writer; the store stays open. A second call does nothing."""
        if not self._closed:
            self._closed = True
            self._writer.hand_over()
            await asyncio.to_thread(self._writer.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncConversations:
    """See :class:`aico_crdt.companion.conversations.Conversations`."""

    def __init__(self, store: AsyncStore) -> None:
        self._store = store
        self._verbs = store.store.conversations

    async def start(self, *, id: str | None = None, **values: Any) -> str:
        return await self._store.write(lambda t: self._verbs.start(id=id, within=t, **values))

    async def say(self, conversation_id: str, role: str, text: str, *, id: str | None = None, **values: Any) -> str:
        return await self._store.write(
            lambda t: self._verbs.say(conversation_id, role, text, id=id, within=t, **values)
        )

    async def edit(self, document_id: str, **values: Any) -> None:
        await self._store.write(lambda t: self._verbs.edit(document_id, within=t, **values))

    async def get(self, conversation_id: str) -> Row:
        return await asyncio.to_thread(self._verbs.get, conversation_id)

    async def messages(
        self, conversation_id: str, *, limit: int = 50, before: Row | str | None = None, before_ms: int | None = None
    ) -> list[Row]:
        return await asyncio.to_thread(
            lambda: self._verbs.messages(conversation_id, limit=limit, before=before, before_ms=before_ms)
        )

    async def recent(self, *, limit: int = 20) -> list[Row]:
        return await asyncio.to_thread(lambda: self._verbs.recent(limit=limit))

    async def recent_messages(self, *, limit: int = 50, device: str | None = None) -> list[Row]:
        return await asyncio.to_thread(lambda: self._verbs.recent_messages(limit=limit, device=device))

    async def forget(self, document_id: str, *, now: bool = False) -> None:
        await asyncio.to_thread(lambda: self._verbs.forget(document_id, now=now))


class AsyncMemories:
    """See :class:`aico_crdt.companion.memories.Memories`."""

    def __init__(self, store: AsyncStore) -> None:
        self._store = store
        self._verbs = store.store.memories

    async def add(self, content: str, *, id: str | None = None, append: bool = False, **values: Any) -> str:
        return await self._store.write(lambda t: self._verbs.add(content, id=id, append=append, within=t, **values))

    async def edit(self, memory_id: str, **values: Any) -> None:
        await self._store.write(lambda t: self._verbs.edit(memory_id, within=t, **values))

    async def get(self, memory_id: str) -> Row:
        return await asyncio.to_thread(self._verbs.get, memory_id)

    async def find(self, **wanted: Any) -> list[Row]:
        return await asyncio.to_thread(lambda: self._verbs.find(**wanted))

    async def forget(self, memory_id: str, *, now: bool = False) -> None:
        await asyncio.to_thread(lambda: self._verbs.forget(memory_id, now=now))


class AsyncEmotions:
    """See :class:`aico_crdt.companion.emotions.Emotions`."""

    def __init__(self, store: AsyncStore) -> None:
        self._store = store
        self._verbs = store.store.emotions

    async def record(self, subject: str, *, history: bool = True, **values: Any) -> str:
        return await self._store.write(lambda t: self._verbs.record(subject, history=history, within=t, **values))

    async def state(self, subject: str, *, as_of_ms: int | None = None) -> EmotionState:
        return await asyncio.to_thread(lambda: self._verbs.state(subject, as_of_ms=as_of_ms))

    async def history(self, subject: str, *, limit: int = 100, before_ms: int | None = None) -> list[Row]:
        return await asyncio.to_thread(lambda: self._verbs.history(subject, limit=limit, before_ms=before_ms))

    async def subjects(self) -> list[str]:
        return await asyncio.to_thread(self._verbs.subjects)


class AsyncDevices:
    """See :class:`aico_crdt.companion.devices.Devices`."""

    def __init__(self, store: AsyncStore) -> None:
        self._store = store
        self._verbs = store.store.devices

    async def describe(self, **values: Any) -> None:
        await self._store.write(lambda t: self._verbs.describe(within=t, **values))

    async def profile(self, device: bytes) -> Row | None:
        return await asyncio.to_thread(self._verbs.profile, device)
