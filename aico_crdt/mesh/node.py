"""The running mesh of one device: a session with every linked peer, their effects carried out on the store.

Two threads. The event loop owns the links. One worker owns the sessions and all that touches the store, because a
commit waits for the disk and must not hold up the loop of the app that embeds this::

    loop     links ── message ──▶ queue ──▶                      ◀── sends ── links
    worker                        session.handle ── effects ──▶ store … Ingested ──▶ session.handle

A message is answered for (credit goes back to its sender) when the worker is done with it, so a peer cannot bring
more than the store takes. What a session says leaves before the commit that follows it in its effects, and after the
one before it: durable before told.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, Self

from aico_crdt.config import Config
from aico_crdt.errors import AicoError, Closed, TooLarge
from aico_crdt.logs import logger
from aico_crdt.mesh.copies import Copies
from aico_crdt.mesh.frame import Lane
from aico_crdt.mesh.handler import Instance
from aico_crdt.mesh.links import Links
from aico_crdt.mesh.news import News
from aico_crdt.mesh.peers import Peer
from aico_crdt.store import Commit, DocumentStore, StoreReplica
from aico_crdt.sync import IngestReport
from aico_crdt.sync import event as events
from aico_crdt.sync.effect import Acknowledge, Delivery, Drop, Effect, Ingest, IngestManifest, Send, Tell
from aico_crdt.sync.session import Session
from aico_crdt.trust import Family, curve_key

log = logger(__name__)

TICK_S: Final = 1.0
"""Sessions expect a tick about every second; it also finds what a lost ring of the bell did not tell."""
RING_S: Final = 0.005
"""Rings of the bell within this time are one look: a look costs what reading all heads does."""
LANES: Final = {"control": Lane.CONVERSATION, "data": Lane.BULK}


class _Talk:
    """The session of one link. `sent` and `arriving` belong to the loop, all else to the worker."""

    def __init__(self, peer: Instance, session: Session) -> None:
        self.peer = peer
        self.device = peer.device
        self.session = session
        self.sent = 0
        self.arriving = False
        self.over = False


class Node:
    """Links and sessions of one store. Lives on the loop that started it; not thread-safe.

    The store stays the caller's, to be closed after the node has stopped; its verbs may go on in any thread meanwhile.
    """

    def __init__(
        self,
        store: DocumentStore,
        config: Config | None = None,
        peers: Iterable[Peer] = (),
        *,
        random: Callable[[int], bytes] = os.urandom,
        on_link: Callable[[bytes, str | None], None] = lambda device, reason: None,
    ) -> None:
        """`peers` are dialed while they are members of the family; `random` yields so many bytes.

        `on_link` is told, on the loop, of every device that gets its first link (its reason None) or loses its last. A
        device that was copied has one for each copy that runs.
        """
        self._store = store
        self._config = config or store.config
        self._random = random
        self._on_link = on_link
        self._replica = StoreReplica(store)
        self._news = News(self._replica)
        self._family: Family | None = None
        self._members: dict[str, bytes] = {}
        self._copies = Copies(self._replica)
        self._talks: dict[Instance, _Talk] = {}
        self._heard: _Talk | None = None
        self._lock = threading.Lock()
        self._dirty: dict[bytes, set[Instance]] = {}
        self._looking = False
        self._ringing = False
        self._ticking = False
        self._worker_thread = 0
        self._commits = 0
        self._running = False
        self._learn_family()
        self._links = Links(store.identity, self._config, self._members.get, peers, self)

    # --- life

    async def start(self) -> None:
        """Listens, dials, and follows the commits of the store.

        Raises:
            MachineError: the port cannot be had.
        """
        self._links.check_process()
        self._loop = asyncio.get_running_loop()
        await self._links.start()
        self._running = True
        self._worker = ThreadPoolExecutor(1, "aico-mesh")
        self._ear = self._store.bell.listen()
        self._loop.add_reader(self._ear.fileno(), self._on_ring)
        await self._loop.run_in_executor(self._worker, self._begin)
        self._unsubscribe = self._store.on_commit(self._on_commit)
        self._timer = self._loop.call_later(TICK_S, self._on_tick)

    async def stop(self) -> None:
        """Says bye to all peers and lets go of the store. Idempotent."""
        if not self._running:
            return
        self._links.check_process()
        self._running = False
        self._timer.cancel()
        self._unsubscribe()
        self._loop.remove_reader(self._ear.fileno())
        self._ear.close()
        await self._loop.run_in_executor(self._worker, int)  # what the worker still had to say is on the loop now
        await asyncio.sleep(0)
        await self._links.stop()
        await asyncio.to_thread(self._worker.shutdown)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def endpoint(self) -> str:
        """Where this node listens, once started."""
        return self._links.endpoint

    def add_peer(self, peer: Peer) -> None:
        """Dials `peer` too, while it is a member of the family."""
        self._links.add_peer(peer)

    async def quiet(self, timeout_s: float) -> bool:
        """Waits until no session waits for anything; False when that is not so within `timeout_s`.

        Says nothing of peers that have no link: see :meth:`status`.
        """
        deadline = self._loop.time() + timeout_s
        calm = 0
        while calm < 2 and self._loop.time() < deadline:
            calm = calm + 1 if await self._loop.run_in_executor(self._worker, self._is_quiet) else 0
            await asyncio.sleep(0.02)
        return calm >= 2

    def status(self) -> dict[str, Any]:
        """What one may show: of this device and of every peer that was dialed or linked. Holds no content."""
        members = self._store.directory.family.members
        peers = []
        for link in self._links.status():
            member = members.get(link.device)
            talk = self._talks.get(Instance(link.device, link.run))
            ago_s = None if link.last_heard is None else round(self._loop.time() - link.last_heard, 3)
            peers.append(
                {
                    "device": link.device.hex(),
                    "name": member.name if member is not None else "",
                    "run": link.run.hex(),
                    "connected": link.connected,
                    "session": talk.session.state if talk is not None else "none",
                    "dialed": link.dialed,
                    "last_seen_s_ago": ago_s,
                    "rtt_ms": link.rtt_ms,
                    "bytes_in": link.bytes_in,
                    "bytes_out": link.bytes_out,
                    "queued_bytes": link.queued_bytes,
                    "attempts": link.attempts,
                    "last_reason": link.last_reason,
                }
            )
        return {"device": self._store.device.hex(), "endpoint": self.endpoint, "peers": peers}

    # --- links (links.Handler), on the loop

    def on_up(self, peer: Instance) -> None:
        """See :class:`~aico_crdt.mesh.handler.Handler`."""
        session = Session(
            peer.device, self._replica, self._config, self._random, name=b"".join(peer), links=self._linked
        )
        first = not self._has_link(peer.device)
        self._talks[peer] = talk = _Talk(peer, session)
        self._submit(self._begin_talk, talk)
        if first:
            self._on_link(peer.device, None)
        else:
            log.warning("node: %s: a copy of it runs", peer.device.hex())

    async def on_message(self, peer: Instance, message: bytes) -> None:
        """See :class:`~aico_crdt.mesh.handler.Handler`."""
        talk = self._talks.get(peer)
        if talk is not None:
            await self._loop.run_in_executor(self._worker, self._step, talk, events.Received(message))

    def on_sent(self, peer: Instance, count: int) -> None:
        """See :class:`~aico_crdt.mesh.handler.Handler`."""
        talk = self._talks.get(peer)
        if talk is not None:
            talk.sent += count

    def on_part(self, peer: Instance) -> None:
        """See :class:`~aico_crdt.mesh.handler.Handler`."""
        talk = self._talks.get(peer)
        if talk is not None:
            talk.arriving = True

    def on_down(self, peer: Instance, reason: str) -> None:
        """See :class:`~aico_crdt.mesh.handler.Handler`."""
        talk = self._talks.pop(peer, None)
        if talk is not None:
            self._submit(self._end_talk, talk)
            if not self._has_link(peer.device):
                self._on_link(peer.device, reason)

    def _has_link(self, device: bytes) -> bool:
        return any(peer.device == device for peer in self._talks)

    def _send(self, talk: _Talk, sends: Sequence[Send]) -> None:
        """Hands on what the worker's session said, unless its link is gone."""
        if self._talks.get(talk.peer) is not talk:
            return
        try:
            for send in sends:
                if not self._links.send(talk.peer, send.raw, LANES[send.lane]):
                    return
        except TooLarge as error:
            log.error("node: %s: a message to it is over the cap: %s", talk.device.hex(), error)
            self._links.drop(talk.peer, error.what)
        except Closed:
            return  # stopped meanwhile

    def _drop(self, talk: _Talk, reason: str) -> None:
        if self._talks.get(talk.peer) is talk and self._running:
            self._links.drop(talk.peer, reason)

    def _on_tick(self) -> None:
        if self._running:
            self._timer = self._loop.call_later(TICK_S, self._on_tick)
            if not self._ticking:
                self._ticking = True
                moved = [(talk, talk.sent, talk.arriving) for talk in self._talks.values()]
                for talk, *_ in moved:
                    talk.sent, talk.arriving = 0, False
                self._submit(self._tick, moved)

    def _on_ring(self) -> None:
        """A process of this device committed. For the own one, :meth:`_on_commit` has told more."""
        self._ear.drain()
        if not self._ringing:
            self._ringing = True
            self._loop.call_later(RING_S, self._on_rung)

    def _on_rung(self) -> None:
        self._ringing = False
        if self._running:
            self._submit(self._look_around)

    def _submit(self, step: Callable[..., None], *args: Any) -> None:
        """Has the worker do it, in order. A failure there is a bug: the loop's handler is told."""
        future = self._loop.run_in_executor(self._worker, step, *args)
        future.add_done_callback(self._report)

    def _report(self, future: asyncio.Future[None]) -> None:
        if not future.cancelled() and (error := future.exception()) is not None:
            self._loop.call_exception_handler({"message": "a step of the node failed", "exception": error})

    # --- the worker

    def _begin(self) -> None:
        self._worker_thread = threading.get_ident()
        for tag in self._store.directory.collections:
            self._news.skip(tag)

    def _begin_talk(self, talk: _Talk) -> None:
        self._copies.came(talk.peer)
        self._step(talk, events.Opened())

    def _end_talk(self, talk: _Talk) -> None:
        self._copies.left(talk.peer)
        self._step(talk, events.Closed())

    def _step(self, talk: _Talk, event: events.Event) -> None:
        """One event of a session and all that follows from it."""
        if talk.over:
            return
        talk.over = isinstance(event, events.Closed)
        waiting: deque[events.Event] = deque([event])
        said: list[Send] = []
        try:
            while waiting:
                for effect in talk.session.handle(waiting.popleft(), _now_ms()):
                    if isinstance(effect, Send):
                        said.append(effect)
                        continue
                    self._say(talk, said)
                    said = []
                    answer = self._carry_out(talk, effect)
                    if answer is not None:
                        waiting.append(answer)
        except AicoError as error:
            # The store cannot take it (a full disk) or cannot be read: nothing was acknowledged, all comes again.
            talk.over = True
            log.error("node: %s: %s", talk.device.hex(), error)
            self._on_loop(self._drop, talk, error.what)
        self._say(talk, said)
        self._announce()

    def _carry_out(self, talk: _Talk, effect: Effect) -> events.Event | None:
        """One effect, durable when this returns; the event that answers it."""
        if isinstance(effect, Delivery):
            self._heard = talk
            try:
                return events.Ingested(effect.token, self._ingest(talk.device, effect))
            finally:
                self._heard = None
        if isinstance(effect, Acknowledge):
            self._copies.acknowledged(talk.peer, effect.tag, effect.heads, effect.erased)
        elif isinstance(effect, Drop):
            log.info("node: %s: session over: %s", talk.device.hex(), effect.code)
            self._on_loop(self._drop, talk, effect.reason)
        elif isinstance(effect, Tell):
            level = log.warning if effect.kind in ("own-feed", "fork", "too-many") else log.debug
            level("node: %s: %s", talk.device.hex(), effect.kind)
        return None

    def _ingest(self, source: bytes, effect: Delivery) -> IngestReport:
        if isinstance(effect, Ingest):
            return self._replica.ingest(effect.tag, effect.runs, source)
        if isinstance(effect, IngestManifest):
            return self._replica.ingest_manifest(effect.tag, effect.raw, source)
        return self._replica.ingest_bodies(effect.tag, effect.bodies, source, effect.heads)

    def _say(self, talk: _Talk, said: Sequence[Send]) -> None:
        if said:
            self._on_loop(self._send, talk, said)

    def _on_loop(self, call: Callable[..., None], *args: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *args)

    def _tick(self, moved: Sequence[tuple[_Talk, int, bool]]) -> None:
        self._ticking = False
        self._store.erase_due()  # what a peer forgot for good, or whose undo window has passed
        self._look_around()
        for talk, sent, arriving in moved:
            if sent:
                self._step(talk, events.Sent(sent))
            if arriving:
                self._step(talk, events.Arriving())
            self._step(talk, events.Tick())

    def _is_quiet(self) -> bool:
        return not self._dirty and all(t.session.state == "open" and t.session.is_quiet for t in self._open_talks())

    # --- commits

    def _on_commit(self, commit: Commit) -> None:
        """Called by the store in the committing thread."""
        tags = {place.tag for place in commit.own} | commit.received.keys()
        here = threading.get_ident() == self._worker_thread
        source = self._heard.peer if here and self._heard is not None else None
        with self._lock:
            for tag in tags:
                self._dirty.setdefault(tag, set()).update([source] if source else [])
            submit = not self._looking and not here
            self._looking = self._looking or submit
        if submit:
            self._on_loop(self._submit, self._announce)

    def _look_around(self) -> None:
        """Looks at every collection: somebody committed who told no more than that."""
        commits = self._store.counters().commits
        if commits == self._commits:
            return
        self._commits = commits
        with self._lock:
            for tag in self._store.directory.collections:
                self._dirty.setdefault(tag, set())
        self._announce()

    def _announce(self) -> None:
        """Tells every session what is new; cuts off who is no longer a member."""
        while True:
            with self._lock:
                dirty, self._dirty, self._looking = self._dirty, {}, False
            if not dirty:
                break
            for tag, sources in dirty.items():
                try:
                    self._announce_one(tag, b"".join(next(iter(sources))) if len(sources) == 1 else b"")
                except AicoError as error:
                    log.error("node: news that cannot be read: %s", error)  # the digests of the next round tell of it
        if self._learn_family():
            self._on_loop(self._recheck)

    def _announce_one(self, tag: bytes, source: bytes) -> None:
        for news in self._news.of(tag, source, 2 * self._config.window_bytes):
            for talk in self._open_talks():
                self._push(talk, news)

    def _push(self, talk: _Talk, news: events.Committed) -> None:
        said: list[Send] = []
        for effect in talk.session.handle(news, _now_ms()):
            if isinstance(effect, Send):
                said.append(effect)
            else:
                self._carry_out(talk, effect)
        self._say(talk, said)

    def _linked(self) -> list[bytes]:
        """The writers this device talks with: what they write need not be pushed to it by others."""
        return [talk.session.writer for talk in self._open_talks() if talk.session.state == "open"]

    def _open_talks(self) -> list[_Talk]:
        return [talk for talk in list(self._talks.values()) if not talk.over]

    def _learn_family(self) -> bool:
        """Whether the family changed since the last look."""
        family = self._store.directory.family
        if family is self._family:
            return False
        self._family = family
        members = {curve_key(member.device): member.device for member in family.current()}
        for key in self._members.keys() - members.keys():
            self._members.pop(key, None)
        self._members.update(members)
        return True

    def _recheck(self) -> None:
        if self._running:
            self._links.recheck()


def _now_ms() -> int:
    return int(time.monotonic() * 1000)
