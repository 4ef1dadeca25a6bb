"""Drives the sessions of one device, as :mod:`aico_crdt.mesh.node` does, on one thread and without a clock.

The order of things is the node's: what a session says leaves before the commit that follows it in its effects, the
answer to a delivery comes after its commit, news goes out after that, and a tick looks for what other processes of
the device have committed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from aico_crdt.config import Config
from aico_crdt.errors import PeerError
from aico_crdt.feed.exchange import Place
from aico_crdt.mesh.news import News
from aico_crdt.store import Commit, DocumentStore, StoreReplica
from aico_crdt.sync import IngestReport
from aico_crdt.sync import event as events
from aico_crdt.sync.effect import Acknowledge, Delivery, Drop, Effect, Ingest, IngestManifest, Send, Tell
from aico_crdt.sync.message import Ack, decode
from aico_crdt.sync.session import Session
from aico_crdt.trust import Family
from simulation.finding import Finding


@dataclass(slots=True)
class Talk:
    """One end of a link."""

    link: int
    peer: bytes
    session: Session
    over: bool = False


class Watcher(Protocol):
    """Who is told what the shell does."""

    def send(self, talk: Talk, raw: bytes) -> None:
        """A message goes out."""

    def drop(self, talk: Talk, code: str) -> None:
        """The session ends the link."""

    def family_changed(self) -> None:
        """Who belongs is not what it was at the last look."""

    def before_answer(self) -> None:
        """A delivery is durable and nobody has been told."""

    def ingested(self, effect: Delivery, report: IngestReport) -> None:
        """A delivery is durable."""

    def told(self, kind: str) -> None:
        """The session noted something."""


class StubReplica(StoreReplica):
    """The store of a phone: while `frugal` it keeps documents that came by manifest as stubs."""

    frugal = False

    def wants_bodies(self, tag: bytes) -> int:
        return 0 if self.frugal else super().wants_bodies(tag)


class Shell:
    """The sessions of one open store."""

    def __init__(
        self,
        store: DocumentStore,
        config: Config,
        random: Callable[[int], bytes],
        now_ms: Callable[[], int],
        watcher: Watcher,
        formats: Sequence[int],
    ) -> None:
        self.store = store
        self.replica = StubReplica(store)
        self.talks: dict[int, Talk] = {}
        self.formats = tuple(formats)
        self._config = config
        self._random = random
        self._now_ms = now_ms
        self._watcher = watcher
        self._news = News(self.replica)
        self._dirty: dict[bytes, set[bytes]] = {}
        self._commits = 0
        self._family: Family | None = store.directory.family
        for tag in store.directory.collections:
            self._news.skip(tag)
        store.on_commit(self._on_commit)

    # Links

    def open(self, link: int, peer: bytes) -> None:
        session = Session(
            peer, self.replica, self._config, self._random, links=self._linked, formats=self.formats
        )
        self.talks[link] = Talk(link, peer, session)
        self._step(self.talks[link], events.Opened())

    def receive(self, link: int, raw: bytes) -> None:
        talk = self.talks.get(link)
        if talk is not None:
            self._step(talk, events.Received(raw))

    def close(self, link: int) -> None:
        talk = self.talks.pop(link, None)
        if talk is not None:
            self._step(talk, events.Closed())

    def tick(self) -> None:
        self.store.erase_due()
        self._look_around()
        for talk in list(self.talks.values()):
            self._step(talk, events.Tick())

    def announce(self) -> None:
        """Tell every session what is new."""
        while self._dirty:
            dirty, self._dirty = self._dirty, {}
            for tag in sorted(dirty):
                sources = dirty[tag]
                source = next(iter(sources)) if len(sources) == 1 else b""
                for news in self._news.of(tag, source, 2 * self._config.window_bytes):
                    for talk in self._open_talks():
                        self._push(talk, news)
        if self.store.directory.family is not self._family:
            self._family = self.store.directory.family
            self._watcher.family_changed()

    @property
    def is_quiet(self) -> bool:
        talks = self._open_talks()
        return not self._dirty and all(talk.session.state == "open" and talk.session.is_quiet for talk in talks)

    # Inside

    def _step(self, talk: Talk, event: events.Event) -> None:
        if talk.over:
            return
        talk.over = isinstance(event, events.Closed)
        waiting: deque[events.Event] = deque([event])
        while waiting:
            for effect in talk.session.handle(waiting.popleft(), self._now_ms()):
                if isinstance(effect, Send):
                    self._send(talk, effect.raw)
                else:
                    answer = self._carry_out(talk, effect)
                    if answer is not None:
                        waiting.append(answer)
        self.announce()

    def _push(self, talk: Talk, news: events.Committed) -> None:
        for effect in talk.session.handle(news, self._now_ms()):
            if isinstance(effect, Send):
                self._send(talk, effect.raw)
            else:
                self._carry_out(talk, effect)

    def _send(self, talk: Talk, raw: bytes) -> None:
        self._check_durable(raw)
        self._watcher.send(talk, raw)

    def _check_durable(self, raw: bytes) -> None:
        """Durable before told: an acknowledgement names nothing that a reader of this store would not find."""
        try:
            message = decode(raw)
        except PeerError as error:
            raise Finding("a session sent what cannot be read", error.what) from error
        if not isinstance(message, Ack) or not message.heads:
            return
        heads = {(head.device, head.incarnation): head for head in self.replica.heads(message.tag)}
        for told in message.heads:
            head = heads.get((told.device, told.incarnation))
            if head is None or head.seq < told.seq:
                raise Finding("acknowledged what is not durable", f"seq {told.seq} of a feed")
            if head.lacking > told.lacking:
                raise Finding("acknowledged what is lacking", f"up to seq {head.lacking} of a feed")
            here = self.replica.hash_at(message.tag, Place(told.device, told.incarnation, told.seq))
            if here not in (None, told.hash):
                raise Finding("acknowledged another entry than is held", f"seq {told.seq} of a feed")

    def _carry_out(self, talk: Talk, effect: Effect) -> events.Event | None:
        if isinstance(effect, Delivery):
            report = self._ingest(talk.peer, effect)
            self._watcher.ingested(effect, report)
            self._watcher.before_answer()
            return events.Ingested(effect.token, report)
        if isinstance(effect, Acknowledge):
            self.replica.acknowledged(talk.peer, effect.tag, effect.heads, effect.erased)
        elif isinstance(effect, Drop):
            self._watcher.drop(talk, effect.code)
        elif isinstance(effect, Tell):
            self._watcher.told(effect.kind)
        return None

    def _ingest(self, source: bytes, effect: Delivery) -> IngestReport:
        if isinstance(effect, Ingest):
            return self.replica.ingest(effect.tag, effect.runs, source)
        if isinstance(effect, IngestManifest):
            return self.replica.ingest_manifest(effect.tag, effect.raw, source)
        return self.replica.ingest_bodies(effect.tag, effect.bodies, source, effect.heads)

    def _on_commit(self, commit: Commit) -> None:
        for tag in {place.tag for place in commit.own} | commit.received.keys():
            self._dirty.setdefault(tag, set()).update([commit.source] if commit.source else [])

    def _look_around(self) -> None:
        commits = self.store.counters().commits
        if commits != self._commits:
            self._commits = commits
            for tag in self.store.directory.collections:
                self._dirty.setdefault(tag, set())
            self.announce()

    def _linked(self) -> list[bytes]:
        return [talk.session.writer for talk in self._open_talks() if talk.session.state == "open"]

    def _open_talks(self) -> list[Talk]:
        return [talk for talk in list(self.talks.values()) if not talk.over]
