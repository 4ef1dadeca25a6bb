"""The half of a session that gives: heads, streams of entries, manifests, bodies, live pushes.

A collection is, towards this peer, in one of three states::

    settled     the peer holds what we hold, as far as we know: commits are pushed as they happen
    offered     heads were sent, the peer's want is awaited
    streaming   a want is being answered

      settled ──digests differ──> offered ──want──> streaming ──last run sent──> settled
      offered ──empty want──> settled          any ──digests agree──> settled

Outside `settled`, and when the window has no room, a commit is not pushed: it makes the collection *dirty*, and heads
are offered again as soon as the collection is settled and half the window is free.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from aico_crdt.sync.event import Committed
from aico_crdt.sync.exchange import Exchange
from aico_crdt.sync.message import (
    DATA_MAX_BYTES,
    Ack,
    Bodies,
    Entries,
    Heads,
    Manifest,
    Want,
    WantBodies,
    encode,
)
from aico_crdt.sync.replica import Body, FeedHead, HeldHead, Place, Run, digest_of
from aico_crdt.sync.window import Window

MAX_EMPTY_ANSWERS: Final = 64
"""Wants for collections there are not that wait for room; further ones are not answered."""
MAX_BODY_REQUESTS: Final = 16
LIVE_SHARE: Final = 8
"""Streams leave an eighth of the window to pushes, so that a first sync does not stop a conversation."""

State = Literal["settled", "offered", "streaming"]


@dataclass(slots=True)
class _Stream:
    """One want on its way: what is left of it, and what was read but found no room."""

    wants: tuple[Place, ...]
    manifest: bool
    after: int = 0
    attested: bytes | None = None
    ready: tuple[Sequence[Run], int | None] | None = None


@dataclass(slots=True)
class _Collection:
    state: State = "settled"
    dirty: bool = False
    offered: bytes = b""
    agreed: bytes = b""
    stream: _Stream | None = field(default=None, repr=False)


class Giving:
    """Answers and pushes to one peer, within the window."""

    def __init__(self, exchange: Exchange, window_bytes: int, connected: Callable[[bytes, bytes], bool]) -> None:
        self.window = Window(window_bytes)
        self.progress_ms = exchange.now_ms
        self._exchange = exchange
        self._connected = connected
        self._collections: dict[bytes, _Collection] = {}
        self._nowhere: deque[bytes] = deque()
        self._body_requests: deque[WantBodies] = deque()
        self._chunk = min(exchange.config.chunk_bytes, max(1, window_bytes // 4))

    @property
    def is_quiet(self) -> bool:
        """Whether all that was said has been answered and acknowledged, and nothing waits for room."""
        settled = all(c.state == "settled" and not c.dirty for c in self._collections.values())
        return settled and not self.window.used

    # What the peer says

    def compare(self, tag: bytes, digest: bytes, *, whole: bool) -> None:
        """The peer's digest of a collection that both have, and whether it holds all that its heads stand for."""
        collection = self._collection(tag)
        if digest == self._exchange.replica.digest(tag):
            self._agree(tag, collection, digest, whole=whole)
        elif collection.state != "streaming":
            self._offer(tag, collection)

    def heard(self, message: Heads) -> None:
        """The peer's heads: durable there, and perhaps short of ours."""
        exchange, tag = self._exchange, message.tag
        self._acknowledged(tag, [head.held for head in message.heads], message.erased)
        collection = self._collection(tag)
        if collection.state == "streaming" or collection.offered == exchange.replica.digest(tag):
            return
        if _lacks(message.heads, exchange.replica.heads(tag)):
            self._offer(tag, collection)

    def wanted(self, message: Want) -> None:
        """What the peer lacks. A newer want replaces the one before."""
        exchange, tag = self._exchange, message.tag
        empty = not message.wants and not message.manifest
        if not exchange.may_mention(tag):
            if not empty and len(self._nowhere) < MAX_EMPTY_ANSWERS:
                self._nowhere.append(tag)
            return
        collection = self._collection(tag)
        if not empty:
            feeds = {(head.device, head.incarnation) for head in exchange.replica.heads(tag)}
            wants = {place[:2]: place for place in message.wants if place[:2] in feeds}
            collection.stream = _Stream(tuple(wants.values()), message.manifest)
            collection.state = "streaming"
        elif collection.stream is None:
            collection.state = "settled"

    def wanted_bodies(self, message: WantBodies) -> None:
        if len(self._body_requests) < MAX_BODY_REQUESTS:
            self._body_requests.append(message)

    def acked(self, message: Ack) -> None:
        """Room in the window, and durable notes.

        Raises:
            Malformed: of a message that was never sent.
        """
        if self.window.release(message.serial):
            self.progress_ms = self._exchange.now_ms
        if self._exchange.may_mention(message.tag):
            self._acknowledged(message.tag, message.heads, message.erased)

    def _acknowledged(self, tag: bytes, heads: Sequence[HeldHead], erased: Sequence[Place]) -> None:
        if any(head.lacking for head in heads):
            self._collection(tag).agreed = b""  # when digests agree on all, that is news
        self._exchange.acknowledged(tag, heads, erased)

    # What happens here

    def committed(self, event: Committed) -> None:
        """Push what was committed, if the peer needs it from us."""
        exchange, tag = self._exchange, event.tag
        if event.source == exchange.name or exchange.is_author(event.author, event.incarnation):
            return
        if not exchange.may_mention(tag):
            return
        if event.author != exchange.replica.device and self._connected(event.author, event.incarnation):
            return
        collection = self._collection(tag)
        if collection.state != "settled" or collection.dirty or not self._push(event):
            collection.dirty = True

    def _push(self, event: Committed) -> bool:
        if sum(len(raw) for run in event.runs for raw in run) > DATA_MAX_BYTES // 2:
            return False
        if self._take(lambda serial: Entries(event.tag, event.runs, more=False, live=True, serial=serial)):
            return True
        self._exchange.tell("skipped", tag=event.tag)
        return False

    # What goes out when there is room

    def pump(self) -> None:
        """Send what waits, most urgent first, until the window is full."""
        if self._pump_streams() and self._pump_bodies():
            while self._nowhere and self._send_end(self._nowhere[0]):
                self._nowhere.popleft()
        if 2 * self.window.room >= self.window.limit:
            for tag, collection in self._collections.items():
                if collection.dirty and collection.state == "settled" and self._exchange.may_mention(tag):
                    self._offer(tag, collection)

    def _pump_streams(self) -> bool:
        streaming = [tag for tag, collection in self._collections.items() if collection.stream is not None]
        return all(self._advance(tag) for tag in sorted(streaming, key=self._exchange.rank))

    def _advance(self, tag: bytes) -> bool:
        """Send the stream of `tag` as far as the window goes. True when it came to its end."""
        collection = self._collections[tag]
        stream = collection.stream
        while stream is not None:
            if not self._exchange.may_mention(tag):  # withdrawn: not a byte more of it
                if not self._send_end(tag):
                    return False
            elif stream.manifest:
                if not self._send_manifest(tag, stream):
                    return False
                continue
            elif not self._send_runs(tag, stream):
                return False
            elif stream.after:
                continue
            collection.stream = stream = None
            collection.state = "settled"
        return True

    def _send_manifest(self, tag: bytes, stream: _Stream) -> bool:
        if stream.attested is None:
            stream.attested = self._exchange.replica.manifest(tag)
        raw = stream.attested
        if raw is not None and not self._take(lambda serial: Manifest(tag, raw, serial), spare=True):
            return False
        stream.manifest, stream.attested = False, None
        return True

    def _send_runs(self, tag: bytes, stream: _Stream) -> bool:
        """One message of the stream; False if there is no room for it. Afterwards `stream.after` is 0 at the end."""
        if not stream.wants:
            return self._send_end(tag)
        if stream.ready is None:
            if self._is_narrow():
                return False
            stream.ready = self._exchange.replica.read_entries(tag, stream.wants, self._chunk, stream.after)
        runs, after = stream.ready

        def message(serial: int) -> Entries:
            return Entries(tag, runs, more=after is not None, live=False, serial=serial)

        if not self._take(message, spare=True):
            return False
        stream.ready, stream.after = None, after or 0
        return True

    def _send_end(self, tag: bytes) -> bool:
        """The answer of a collection that has nothing of what is wanted."""
        return self._take(lambda serial: Entries(tag, (), more=False, live=False, serial=serial), spare=True)

    def _pump_bodies(self) -> bool:
        exchange = self._exchange
        while self._body_requests:
            if self._is_narrow():
                return False
            tag, keys = self._body_requests[0].tag, self._body_requests[0].keys
            held: tuple[Body, ...] = ()
            heads: tuple[Place, ...] = ()
            if exchange.may_mention(tag):  # heads first: the bodies then hold at least as much
                heads = tuple(Place(head.device, head.incarnation, head.seq) for head in exchange.heads(tag))
                held = tuple(exchange.replica.bodies(tag, keys, self._chunk))

            def message(
                serial: int, tag: bytes = tag, held: tuple[Body, ...] = held, heads: tuple[Place, ...] = heads
            ) -> Bodies:
                return Bodies(tag, held, serial, heads)

            if not self._take(message, spare=True):
                return False
            self._body_requests.popleft()
        return True

    def _is_narrow(self) -> bool:
        """Too little room to be worth reading for (the silly window of RFC 9293, 3.8.6.2)."""
        window = self.window
        return bool(window.used) and window.room - window.limit // LIVE_SHARE < self._chunk

    def _take(
        self, make: Callable[[int], Entries | Manifest | Bodies], *, spare: bool = False
    ) -> bool:
        """Send a message that counts in the window, if there is room; with `spare` leave some for pushes."""
        window = self.window
        if not window.used:
            self.progress_ms = self._exchange.now_ms
        raw = window.take(lambda serial: encode(make(serial)), window.limit // LIVE_SHARE if spare else 0)
        if raw is None:
            return False
        self._exchange.send_data(raw)
        return True

    # States

    def _collection(self, tag: bytes) -> _Collection:
        return self._collections.setdefault(tag, _Collection())

    def _offer(self, tag: bytes, collection: _Collection) -> None:
        exchange = self._exchange
        collection.state, collection.dirty = "offered", False
        collection.offered = exchange.replica.digest(tag)
        exchange.say(Heads(tag, *exchange.standing(tag)))

    def _agree(self, tag: bytes, collection: _Collection, digest: bytes, *, whole: bool) -> None:
        """Equal digests are an acknowledgement of all heads, by a peer that holds what they stand for. Any other says
        by acknowledgements how much it does."""
        if collection.state == "offered":
            collection.state = "settled"
        if collection.stream is None:
            collection.dirty = False
        if whole and collection.agreed != digest:
            replica = self._exchange.replica
            heads = self._exchange.heads(tag)
            if digest_of(heads, replica.gaps(tag)) == digest:  # nothing was committed since they were compared
                collection.agreed = digest
                self._exchange.acknowledged(tag, [head.held._replace(lacking=0) for head in heads], ())


def _lacks(theirs: Sequence[FeedHead], ours: Sequence[FeedHead]) -> bool:
    """Whether they are behind us in some feed, or differ at its end."""
    seen = {(head.device, head.incarnation): head for head in theirs}
    for head in ours:
        other = seen.get((head.device, head.incarnation))
        if other is None or other.seq < head.seq or (other.seq == head.seq and other.hash != head.hash):
            return True
    return False
