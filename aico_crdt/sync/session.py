"""One conversation with one peer, without I/O: events in, effects out.

Everything that may change the state of the conversation is in this file's two tables: `TRANSITIONS` says which state
follows which, `HEARD` which messages mean something in which state. What is not in the tables changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Literal

from aico_crdt.config import Config
from aico_crdt.errors import PeerError
from aico_crdt.sync.effect import Drop, Effect
from aico_crdt.sync.event import Arriving, Closed, Committed, Event, Ingested, Opened, Received, Sent, Tick
from aico_crdt.sync.exchange import Exchange
from aico_crdt.sync.giving import Giving
from aico_crdt.sync.message import (
    MAX_LINKS,
    MAX_TEXT,
    SESSION_BYTES,
    Ack,
    Bodies,
    Bye,
    Digests,
    Entries,
    Heads,
    Hello,
    Manifest,
    Message,
    Unknown,
    Want,
    WantBodies,
    decode,
    link_name,
)
from aico_crdt.sync.replica import Replica
from aico_crdt.sync.taking import Taking

FORMATS: Final = (1,)
"""Protocol formats this release speaks; the highest that both do is used."""
HANDSHAKE_MS: Final = 30_000
HELLO_RETRY_MS: Final = 2_000
"""A greeting is said again after this, then after twice as long; on a link that loses nothing, never."""
ACK_TIMEOUT_MS: Final = 60_000
"""A peer that lets a full minute pass without acknowledging anything or taking a byte does not read."""
SILENT_ROUNDS: Final = 3
"""Rounds of digests a peer may leave out before it is taken for gone."""

State = Literal["new", "greeting", "open", "over"]
Signal = Literal["opened", "greeted", "ended"]

TRANSITIONS: Final[Mapping[State, Mapping[Signal, State]]] = {
    "new": {"opened": "greeting", "ended": "over"},
    "greeting": {"greeted": "open", "ended": "over"},
    "open": {"greeted": "open", "ended": "over"},  # greeted again: the peer began anew on the same link
    "over": {},
}

HEARD: Final[Mapping[State, frozenset[type[Message]]]] = {
    "new": frozenset(),
    "greeting": frozenset({Hello, Bye}),
    "open": frozenset({Hello, Heads, Want, Entries, Ack, Manifest, WantBodies, Bodies, Digests, Bye}),
    "over": frozenset(),
}


class Session:
    """What this replica says to one peer, and makes of what that says. Not thread-safe; one for each link.

    Args:
        peer: the device id the transport has authenticated.
        random: count → that many random bytes; for the session's name and the spread of its timers.
        name: what `Committed.source` calls this session; the peer's id where a device has one session at most.
        links: the writers (device and incarnation, one after the other) this one has links to at the moment. Each side
            tells the other, so that what an author pushes to both is not pushed again between them. Where that is out
            of date, digests repair.
        connected: whether that peer has a link of its own to a writer (device, incarnation); by default, what the peer
            says itself.
        formats: protocol formats to offer.
    """

    def __init__(
        self,
        peer: bytes,
        replica: Replica,
        config: Config,
        random: Callable[[int], bytes],
        *,
        name: bytes = b"",
        links: Callable[[], Iterable[bytes]] = tuple,
        connected: Callable[[bytes, bytes], bool] | None = None,
        formats: Sequence[int] = FORMATS,
    ) -> None:
        self.peer = peer
        self.state: State = "new"
        self.format = 0
        self._formats = tuple(formats)
        self._replica = replica
        self._config = config
        self._random = random
        self._links = links
        self._connected = connected or self._is_linked
        self._peer_links: frozenset[bytes] = frozenset()
        self._exchange = Exchange(peer, name or peer, replica, config)
        self._giving = Giving(self._exchange, config.window_bytes, self._connected)
        self._taking = Taking(self._exchange, config.window_bytes)
        self._abandoned: int | None = None
        self._own_name = b""
        self._peer_name = b""
        self._opened_ms = 0
        self._hello_wait_ms = HELLO_RETRY_MS
        self._hello_ms = 0
        self._heard_ms = 0
        self._round_ms = 0
        self._peer_interval_ms = config.digest_interval_ms

    @property
    def writer(self) -> bytes:
        """Device and incarnation of the peer, as it greeted."""
        return self.peer + self._exchange.incarnation

    @property
    def is_quiet(self) -> bool:
        """Whether this side waits for nothing: what it asked for has come and is durable, what it sent is
        acknowledged."""
        return self.state == "over" or (self._taking.is_quiet and self._giving.is_quiet)

    def handle(self, event: Event, now_ms: int) -> list[Effect]:
        """What is to be done about `event`, in that order.

        Nothing the peer says raises. An `Ingested` with a token that was not given out is the shell's mistake and
        raises `InvalidValue`; what the replica raises passes through.

        Args:
            now_ms: monotonic milliseconds.
        """
        exchange = self._exchange
        exchange.now_ms = now_ms
        if self.state != "over":
            _EVENTS[type(event)](self, event)
        if self.state == "open":
            self._giving.pump()
        effects, exchange.effects = exchange.effects, []
        return effects

    def _move(self, signal: Signal) -> bool:
        following = TRANSITIONS[self.state].get(signal)
        if following is not None:
            self.state = following
        return following is not None

    def _end(self, code: str, reason: str, *, say: bool = True) -> None:
        """The one way out that this side takes."""
        if self._move("ended"):
            if say:
                self._exchange.say(Bye(code, reason[:MAX_TEXT]))
            self._exchange.effects.append(Drop(code, reason))

    # Events

    def _on_opened(self, _: Opened) -> None:
        if self._move("opened"):
            self._opened_ms = self._heard_ms = self._exchange.now_ms
            self._own_name = self._random(SESSION_BYTES)
            self._greet()

    def _on_received(self, event: Received) -> None:
        try:
            message = decode(event.raw)
            if type(message) in HEARD[self.state]:
                self._heard_ms = self._exchange.now_ms
                self._hear(message, len(event.raw))
            else:
                kind = message.type if isinstance(message, Unknown) else type(message).__name__.lower()
                self._exchange.tell("ignored", type=kind)
        except PeerError as error:
            self._end(error.code, error.what)

    def _hear(self, message: Message, size: int) -> None:
        if isinstance(message, Entries | Manifest | Bodies):
            self._taking.deliver(message, size)
        elif isinstance(message, Ack):
            self._giving.acked(message)
        elif isinstance(message, Heads):
            if self._exchange.may_mention(message.tag):
                self._giving.heard(message)
            self._taking.heard(message)
        elif isinstance(message, Want):
            self._giving.wanted(message)
        elif isinstance(message, WantBodies):
            self._giving.wanted_bodies(message)
        elif isinstance(message, Digests):
            self._peer_links = frozenset(message.links)
            self._compare(message)
        elif isinstance(message, Hello):
            self._on_hello(message)
        elif isinstance(message, Bye):
            self._end("bye", f"The peer says {message.code}: {message.text}", say=False)

    def _on_committed(self, event: Committed) -> None:
        if self.state == "open":
            self._giving.committed(event)

    def _on_ingested(self, event: Ingested) -> None:
        if event.token == self._abandoned:
            self._abandoned = None  # asked for by a session that the peer has since left: nobody to acknowledge to
            self._taking.resume()
        else:
            self._taking.ingested(event.token, event.report)

    def _on_sent(self, event: Sent) -> None:
        if event.count:
            self._giving.progress_ms = self._exchange.now_ms

    def _on_arriving(self, _: Arriving) -> None:
        self._heard_ms = self._exchange.now_ms
        self._taking.arriving()

    def _on_closed(self, _: Closed) -> None:
        self._move("ended")

    def _on_tick(self, _: Tick) -> None:
        if self.state == "greeting":
            self._tick_greeting()
        elif self.state == "open":
            self._tick_open()

    def _tick_greeting(self) -> None:
        now_ms = self._exchange.now_ms
        if now_ms - self._opened_ms > HANDSHAKE_MS:
            self._end("handshake", "The peer does not answer the greeting.")
        elif now_ms - self._hello_ms >= self._hello_wait_ms:
            self._hello_wait_ms *= 2
            self._greet()

    def _tick_open(self) -> None:
        now_ms = self._exchange.now_ms
        interval_ms = max(self._config.digest_interval_ms, self._peer_interval_ms)
        if now_ms - self._heard_ms > SILENT_ROUNDS * interval_ms + HANDSHAKE_MS:
            self._end("silent", "The peer has not been heard for long.")
        elif self._giving.window.used and now_ms - self._giving.progress_ms > ACK_TIMEOUT_MS:
            self._end("stalled", "The peer acknowledges nothing.")
        else:
            self._taking.tick()
            if now_ms >= self._round_ms:
                self._begin_round()

    # Greeting

    def _greet(self) -> None:
        replica = self._replica
        self._hello_ms = self._exchange.now_ms
        self._exchange.say(
            Hello(
                self._formats,
                replica.family,
                replica.device,
                replica.incarnation,
                replica.device_type[:32],
                self._own_name,
                self._peer_name,
                self._config.window_bytes,
                self._config.digest_interval_ms,
                self._exchange.digests(),
                self._link_names(),
                self._exchange.lacking(),
            )
        )

    def _link_names(self) -> tuple[bytes, ...]:
        others = (writer for writer in self._links() if writer != self.writer)
        return tuple(link_name(writer, self._own_name) for writer in islice(others, MAX_LINKS))

    def _is_linked(self, device: bytes, incarnation: bytes) -> bool:
        return link_name(device + incarnation, self._peer_name) in self._peer_links

    def _on_hello(self, hello: Hello) -> None:
        if self.state == "open" and hello.session == self._peer_name:
            if hello.seen != self._own_name:  # our greeting was lost, and what followed it was not heard
                self._greet()
                self._compare(hello)
            return
        common = set(hello.formats) & set(self._formats)
        if hello.family != self._replica.family:
            self._end("wrong-family", "The peer belongs to another family.")
        elif hello.device != self.peer:
            self._end("wrong-device", "The peer greets as a device that it is not.")
        elif not common:
            self._end("version", "There is no version of the protocol that both speak.")
        else:
            self._begin(hello, max(common))

    def _begin(self, hello: Hello, protocol_format: int) -> None:
        """Both have greeted. On a link that stood before, the peer has lost what was under way: begin anew."""
        again = self.state == "open"
        exchange, config = self._exchange, self._config
        self._move("greeted")
        self.format, self._peer_name, self._peer_links = protocol_format, hello.session, frozenset(hello.links)
        self._peer_interval_ms = hello.digest_interval_ms
        if again:
            self._greet()
        exchange.greeted(hello)
        self._giving = Giving(exchange, min(config.window_bytes, hello.window_bytes), self._connected)
        if again:
            self._abandoned = self._taking.running_token or self._abandoned
            self._taking = Taking(exchange, config.window_bytes, self._taking.next_token)
            if self._abandoned is not None:
                self._taking.pause()
        exchange.tell(
            "open", format=protocol_format, device_type=hello.device_type, incarnation=hello.incarnation
        )
        self._schedule_round()
        self._compare(hello)

    # Rounds of digests

    def _begin_round(self) -> None:
        """Repair what pushes missed, tell what was erased or became whole since, look for bodies."""
        exchange = self._exchange
        self._schedule_round()
        exchange.say(Digests(exchange.digests(), self._link_names(), exchange.lacking()))
        for tag in exchange.shared():
            exchange.tell_condition(tag)
        self._taking.fetch_bodies()

    def _schedule_round(self) -> None:
        """The next round, at 75 to 125 % of the interval: peers that met at one moment do not stay in step."""
        interval_ms = self._config.digest_interval_ms
        self._round_ms = self._exchange.now_ms + interval_ms * (192 + self._random(1)[0] // 2) // 256

    def _compare(self, message: Hello | Digests) -> None:
        exchange = self._exchange
        exchange.list_collections(message.digests)
        theirs, lacking = dict(message.digests), frozenset(message.lacking)
        for tag in exchange.shared():
            self._giving.compare(tag, theirs[tag], whole=tag not in lacking)
        self._taking.fetch_bodies()


_EVENTS: Final[Mapping[type, Callable[[Session, Any], None]]] = {
    Opened: Session._on_opened,
    Received: Session._on_received,
    Committed: Session._on_committed,
    Ingested: Session._on_ingested,
    Sent: Session._on_sent,
    Arriving: Session._on_arriving,
    Tick: Session._on_tick,
    Closed: Session._on_closed,
}
