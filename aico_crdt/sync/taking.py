"""The half of a session that takes: wants, deliveries one at a time into the store, acknowledgements, bodies.

Heads from the peer are answered by one want: at once, or when all that is under way of that collection has been
ingested, since only then is known what lacks. What was asked for once is asked for again only after a pause that
doubles each time: the peer may never have it, or we may never be able to use it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from aico_crdt.errors import InvalidValue, TooLarge
from aico_crdt.sync.effect import Delivery, Ingest, IngestBodies, IngestManifest
from aico_crdt.sync.exchange import Exchange
from aico_crdt.sync.message import MAX_FEEDS, Ack, Bodies, Entries, Heads, Manifest, Want, WantBodies
from aico_crdt.sync.replica import FeedHead, IngestReport, Place

STALL_MS: Final = 15_000
"""A stream is taken for lost when nothing comes for so long, of it or of what is sent before it: a slow disk at the
other end takes seconds."""
BODIES_STALL_MS: Final = 5 * 60 * 1000
"""The same of bodies. What comes of a message is seen chunk by chunk: 256 KiB take so long over 1 KB/s."""
RETRY_MS: Final = 5_000
RETRY_MAX_MS: Final = 15 * 60 * 1000
MAX_TRIES: Final = 16_384
"""Places remembered as asked for; the oldest are forgotten, and at worst asked for again."""
BODY_BATCH: Final = 512
"""Bodies asked for at once: at some 500 bytes each they fill one chunk; what was cut off is asked for again."""
MAX_REFUSED: Final = 4096
"""Stubs the peer could not fill, remembered by collection; beyond this the rest is left to other peers."""
RECENT_SERIALS: Final = 1024
NO_PLACE: Final = (b"", b"", 0)

_Try = tuple[bytes, bytes, bytes, int]
"""Tag, device, incarnation, seq; the last three are `NO_PLACE` for a manifest."""


@dataclass(slots=True)
class _Collection:
    """What is known and under way of one collection.

    Attributes:
        heads: the peer's newest heads, while something may still be asked for by them.
        due: they have not been answered.
        waiting: a want is out, its stream has not ended.
        asked_manifest: one was asked for, and has neither come nor been declined: it may come late.
        took_manifest: it brought one, so what lacks is to be seen anew.
        queued: deliveries that were not ingested yet.
        asks: what the store asks for, to be wanted when the queue is empty.
        asked_ms: when that want was said.
    """

    heads: tuple[FeedHead, ...] = ()
    due: bool = False
    waiting: bool = False
    asked_manifest: bool = False
    took_manifest: bool = False
    queued: int = 0
    asks: dict[tuple[bytes, bytes], Place] = field(default_factory=dict)
    asked_ms: int = 0


@dataclass(slots=True)
class _Queued:
    """A delivery on its way into the store. `size` is that of its message in bytes."""

    message: Entries | Manifest | Bodies
    size: int
    token: int = 0


class Taking:
    """Takes what one peer gives. `window_bytes` is what it was told that it may have under way."""

    def __init__(self, exchange: Exchange, window_bytes: int, first_token: int = 1) -> None:
        self._exchange = exchange
        self._window_bytes = window_bytes
        self._collections: dict[bytes, _Collection] = {}
        self._queue: deque[_Queued] = deque()
        self._queued_bytes = 0
        self._running: _Queued | None = None
        self._paused = False
        self._arrived_ms = exchange.now_ms
        self.next_token = first_token
        self._serials: deque[int] = deque(maxlen=RECENT_SERIALS)
        self._tries: dict[_Try, tuple[int, int]] = {}
        self._forks: set[tuple[bytes, bytes, bytes]] = set()
        self._gaps: set[tuple[bytes, Place]] = set()
        self._bodies_asked: tuple[bytes, tuple[bytes, ...]] | None = None
        self._bodies_ms = 0
        self._refused: dict[bytes, set[bytes]] = {}

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is being ingested, waits for it, or was asked for and has not come."""
        waiting = any(collection.waiting for collection in self._collections.values())
        return self._is_idle and not waiting and self._bodies_asked is None

    @property
    def _is_idle(self) -> bool:
        return self._running is None and not self._queue

    @property
    def running_token(self) -> int | None:
        """The token of the delivery that is in the store's hands."""
        return self._running.token if self._running is not None else None

    def pause(self) -> None:
        """Queue deliveries only: the store still has one from before."""
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._run()

    # Heads and wants

    def heard(self, message: Heads) -> None:
        """The peer's heads; answered now or when what is under way has been ingested."""
        if not self._exchange.may_mention(message.tag):
            self._exchange.say(Want(message.tag, ()))
            return
        collection = self._collection(message.tag)
        collection.heads, collection.due = message.heads, True
        self._settle(message.tag, collection)
        self.fetch_bodies()

    def _settle(self, tag: bytes, collection: _Collection) -> None:
        """Say what lacks, if it is time to."""
        if collection.waiting or collection.queued:
            return
        if collection.due or collection.asks:
            wants, manifest = self._lacking(tag, collection)
            if collection.due or wants or manifest:
                self._want(tag, collection, wants, manifest)
        if not collection.waiting:
            collection.heads = ()

    def _want(self, tag: bytes, collection: _Collection, wants: Sequence[Place], manifest: bool) -> None:
        collection.due = False
        collection.waiting = bool(wants) or manifest
        collection.asked_manifest, collection.took_manifest = manifest or collection.asked_manifest, False
        collection.asked_ms = self._exchange.now_ms
        self._exchange.say(Want(tag, tuple(wants[:MAX_FEEDS]), manifest))

    def _lacking(self, tag: bytes, collection: _Collection) -> tuple[list[Place], bool]:
        """What the peer's heads and the store's own questions say is lacking, less what was asked for lately."""
        wants, manifest = dict(collection.asks), self._exchange.replica.wants_manifest(tag)
        collection.asks = {}
        ours = {(head.device, head.incarnation): head for head in self._exchange.replica.heads(tag)}
        for head in collection.heads:
            feed = (head.device, head.incarnation)
            own = ours.get(feed)
            start = own.seq + 1 if own is not None else 1
            forked = self._is_fork(tag, head, own)
            if forked and own is not None:
                start = max(own.floor, head.floor)
            if start > head.seq:
                manifest |= forked  # the peer has no entry of its branch any more
                continue
            if start < head.floor:
                manifest = True
            else:
                wants.setdefault(feed, Place(*feed, start))
            self._watch_own_feed(tag, head)
        allowed = [place for place in wants.values() if self._may_try((tag, *place))]
        for gap in self._open_gaps(tag, collection):
            if all(place[:2] != gap[:2] or place.seq > gap.seq for place in allowed):
                allowed = [place for place in allowed if place[:2] != gap[:2]] + [gap]
        return allowed, manifest and self._may_try((tag, *NO_PLACE))

    def _open_gaps(self, tag: bytes, collection: _Collection) -> list[Place]:
        """Gaps that the peer might fill, each asked for once in a session: a feed is read from there to its end."""
        heads = {(head.device, head.incarnation): head for head in collection.heads}
        found = []
        for gap in self._exchange.replica.gaps(tag):
            head = heads.get(gap[:2])
            fits = head is not None and head.floor <= gap.seq <= head.seq
            if fits and (tag, gap) not in self._gaps and len(self._gaps) < MAX_FEEDS:
                self._gaps.add((tag, gap))
                found.append(gap)
        return found

    def _is_fork(self, tag: bytes, head: FeedHead, own: FeedHead | None) -> bool:
        """Whether the feeds differ at the peer's head; said once in a session, the store sorts it out."""
        if own is None or head.seq > own.seq:
            return False
        place = Place(head.device, head.incarnation, head.seq)
        known = own.hash if head.seq == own.seq else self._exchange.replica.hash_at(tag, place)
        name = (tag, head.device, head.incarnation)
        if known in (None, head.hash) or name in self._forks or len(self._forks) >= MAX_FEEDS:
            return False
        self._forks.add(name)
        self._exchange.tell("fork", tag=tag, device=head.device, incarnation=head.incarnation, seq=head.seq)
        return True

    def _watch_own_feed(self, tag: bytes, head: FeedHead) -> None:
        replica = self._exchange.replica
        if (head.device, head.incarnation) == (replica.device, replica.incarnation):
            self._exchange.tell("own-feed", tag=tag, seq=head.seq)

    def _may_try(self, place: _Try) -> bool:
        """Whether to ask for this now; if so, the next time is further off."""
        now_ms = self._exchange.now_ms
        count, not_before_ms = self._tries.pop(place, (0, now_ms))
        allowed = now_ms >= not_before_ms
        if allowed:
            not_before_ms = now_ms + min(RETRY_MS << min(count, 16), RETRY_MAX_MS)
            count += 1
        self._tries[place] = (count, not_before_ms)
        if len(self._tries) > MAX_TRIES:
            del self._tries[next(iter(self._tries))]
        return allowed

    # Deliveries

    def deliver(self, message: Entries | Manifest | Bodies, size: int) -> None:
        """Queue a delivery for the store. One that came before is ignored.

        Raises:
            TooLarge: more is under way than the peer was told it may send.
        """
        if message.serial in self._serials:
            return
        self._serials.append(message.serial)
        if not self._is_welcome(message):
            self._exchange.tell("unasked", tag=message.tag)
            self._exchange.say(Ack(message.tag, (), (), message.serial))
            return
        # Twice the window: an acknowledgement that overtook another may have freed more than was done with.
        if self._queued_bytes and self._queued_bytes + size > 2 * self._window_bytes:
            raise TooLarge("The peer sends more than the window allows.")
        collection = self._collection(message.tag)
        collection.queued += 1
        if not (isinstance(message, Entries) and message.live):
            self.arriving()
        self._queue.append(_Queued(message, size))
        self._queued_bytes += size
        self._run()

    def arriving(self) -> None:
        """Some of what the peer streams has come: it sends one thing after the other, so nothing is lost yet."""
        self._arrived_ms = self._exchange.now_ms

    def _is_welcome(self, message: Entries | Manifest | Bodies) -> bool:
        """Entries always are, as long as the peer may have the collection; the rest only when asked for."""
        tag = message.tag
        if not self._exchange.may_mention(tag):
            return False
        if isinstance(message, Manifest):
            return self._collection(tag).asked_manifest
        if isinstance(message, Bodies):
            return self._bodies_asked is not None and self._bodies_asked[0] == tag
        return True

    def _run(self) -> None:
        """Hand the next delivery to the store, unless one is there. What is empty is done at once."""
        while self._running is None and self._queue and not self._paused:
            self._running = queued = self._queue.popleft()
            effect = self._effect(queued.message)
            if effect is not None:
                queued.token = effect.token
                self.next_token += 1
                self._exchange.effects.append(effect)
                return
            self._finish(queued, IngestReport())

    def _effect(self, message: Entries | Manifest | Bodies) -> Delivery | None:
        token, tag = self.next_token, message.tag
        if isinstance(message, Manifest):
            return IngestManifest(token, tag, message.raw)
        if isinstance(message, Bodies):
            asked = set(self._bodies_asked[1]) if self._bodies_asked else set()
            bodies = [body for body in message.bodies if body.key in asked]
            return IngestBodies(token, tag, bodies, message.heads) if bodies else None
        return Ingest(token, tag, message.runs) if message.runs else None

    def ingested(self, token: int, report: IngestReport) -> None:
        """The delivery is durable, whatever became of it: acknowledge it and go on.

        Raises:
            InvalidValue: no such delivery is under way.
        """
        if self._running is None or self._running.token != token:
            raise InvalidValue(f"No delivery {token} is being ingested.")
        self._finish(self._running, report)
        self._run()

    def _finish(self, queued: _Queued, report: IngestReport) -> None:
        exchange, message = self._exchange, queued.message
        tag, collection = message.tag, self._collection(queued.message.tag)
        self._running = None
        self._queued_bytes -= queued.size
        collection.queued -= 1
        exchange.acknowledge(tag, report.heads if exchange.may_mention(tag) else (), message.serial)
        self._note_asks(collection, report.ask)
        if isinstance(message, Entries):
            if not message.live and not message.more:
                self._stream_ended(collection)
        elif isinstance(message, Manifest):
            collection.took_manifest, collection.asked_manifest = True, False
        else:
            self._bodies_came(message)
        self._settle(tag, collection)
        if not (isinstance(message, Entries) and message.live):  # a push makes no stubs
            self.fetch_bodies()

    def _note_asks(self, collection: _Collection, asks: Iterable[Place]) -> None:
        for place in asks:
            known = collection.asks.get(place[:2])
            if len(collection.asks) < MAX_FEEDS and (known is None or place.seq < known.seq):
                collection.asks[place[:2]] = place

    def _stream_ended(self, collection: _Collection) -> None:
        collection.waiting = collection.asked_manifest = False
        collection.due = collection.due or collection.took_manifest
        collection.took_manifest = False

    # Bodies

    def fetch_bodies(self) -> None:
        """Ask for the bodies of the newest stubs, of one collection at a time."""
        if self._bodies_asked is not None:
            return
        replica = self._exchange.replica
        for tag in self._exchange.shared():
            collection, refused = self._collection(tag), self._refused.get(tag, set())
            count = min(replica.wants_bodies(tag), BODY_BATCH)
            if count <= 0 or collection.waiting or collection.queued or len(refused) >= MAX_REFUSED:
                continue
            stubs = replica.stubs(tag, count + len(refused))
            keys = tuple(key for key in stubs if key not in refused)[:count]
            if keys:
                self._bodies_asked, self._bodies_ms = (tag, keys), self._exchange.now_ms
                self._exchange.say(WantBodies(tag, keys))
                return

    def _bodies_came(self, message: Bodies) -> None:
        """Note what the peer lacks, and what it sent that did not fill its stub."""
        if self._bodies_asked is None or self._bodies_asked[0] != message.tag:
            return
        tag, keys = self._bodies_asked
        self._bodies_asked = None
        came = {body.key for body in message.bodies}
        last = max((place for place, key in enumerate(keys) if key in came), default=len(keys) - 1)
        refused = self._refused.setdefault(tag, set())
        refused.update(key for key in keys[: last + 1] if key not in came)
        still = set(self._exchange.replica.stubs(tag, len(keys) + len(refused)))
        refused.update(came & still & set(keys))

    # Time

    def tick(self) -> None:
        """Give up on what does not come."""
        now_ms = self._exchange.now_ms
        since_ms = now_ms - max(self._bodies_ms, self._arrived_ms)
        if self._bodies_asked is not None and since_ms > BODIES_STALL_MS and self._is_idle:
            self._bodies_asked = None
        for tag, collection in self._collections.items():
            since_ms = now_ms - max(collection.asked_ms, self._arrived_ms)
            if collection.waiting and not collection.queued and since_ms > STALL_MS:
                collection.waiting = False
                collection.due = bool(collection.heads)
                if self._exchange.may_mention(tag):
                    self._settle(tag, collection)

    def _collection(self, tag: bytes) -> _Collection:
        return self._collections.setdefault(tag, _Collection())
