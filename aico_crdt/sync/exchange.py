"""What the two halves of a session share: who is spoken to, what may be said, and where effects collect."""

from __future__ import annotations

from collections.abc import Sequence

from aico_crdt.config import Config
from aico_crdt.sync.effect import Acknowledge, Effect, Send, Tell
from aico_crdt.sync.message import MAX_COLLECTIONS, MAX_FEEDS, Ack, Heads, Hello, Message, encode
from aico_crdt.sync.replica import FeedHead, HeldHead, Place, Replica

_Condition = tuple[tuple[Place, ...], tuple[tuple[tuple[bytes, ...], int], ...]]
"""Erasures; and of which feeds something is lacking, and up to where."""


class Exchange:
    """One conversation with `peer`, called `name`. `incarnation` is the peer's, `listed` the collections it says it
    has; `now_ms` is set by the session before each event."""

    def __init__(self, peer: bytes, name: bytes, replica: Replica, config: Config) -> None:
        self.peer = peer
        self.name = name
        self.incarnation = b""
        self.replica = replica
        self.config = config
        self.effects: list[Effect] = []
        self.listed: frozenset[bytes] = frozenset()
        self.now_ms = 0
        self._ranks: dict[bytes, int] = {}
        self._told: dict[bytes, _Condition] = {}

    def greeted(self, hello: Hello) -> None:
        """Start over with what the peer says of itself."""
        self._told.clear()
        self.incarnation = hello.incarnation
        self.list_collections(hello.digests)

    def list_collections(self, digests: Sequence[tuple[bytes, bytes]]) -> None:
        self.listed = frozenset(tag for tag, _ in digests)

    def is_author(self, device: bytes, incarnation: bytes) -> bool:
        """Whether the peer wrote what this writer did. A copy of the device has an incarnation of its own."""
        return device == self.peer and (not incarnation or incarnation == self.incarnation)

    def may_mention(self, tag: bytes) -> bool:
        """Whether the collection exists between the two: the peer lists it, and may have it at this moment."""
        return tag in self.listed and self.replica.may_have(self.peer, tag)

    def shared(self) -> list[bytes]:
        """The collections both have, most urgent first."""
        return [tag for tag in self.replica.collections(self.peer) if self.may_mention(tag)]

    def digests(self) -> tuple[tuple[bytes, bytes], ...]:
        """What the peer may have, most urgent first, each with its digest."""
        tags = self.replica.collections(self.peer)[:MAX_COLLECTIONS]
        self._ranks = {tag: place for place, tag in enumerate(tags)}
        return tuple((tag, self.replica.digest(tag)) for tag in tags)

    def lacking(self) -> tuple[bytes, ...]:
        """Collections of which not all is here that the heads stand for. To be asked after the digests that it is said
        with: what becomes whole in between is whole at least."""
        tags = self.replica.collections(self.peer)[:MAX_COLLECTIONS]
        return tuple(tag for tag in tags if any(head.lacking for head in self.replica.heads(tag)))

    def rank(self, tag: bytes) -> int:
        """The place of `tag` in the order of urgency; what is not known comes last."""
        return self._ranks.get(tag, MAX_COLLECTIONS)

    def heads(self, tag: bytes) -> tuple[FeedHead, ...]:
        """Own heads, no more than a message holds."""
        heads = tuple(self.replica.heads(tag))
        if len(heads) > MAX_FEEDS:
            self.tell("too-many", what="feeds", tag=tag)
        return heads[:MAX_FEEDS]

    def standing(self, tag: bytes) -> tuple[tuple[FeedHead, ...], tuple[Place, ...]]:
        """Own heads and erasures, now told."""
        heads, erased = self.heads(tag), tuple(self.replica.erased(tag))[:MAX_FEEDS]
        self._told[tag] = (erased, tuple((head[:2], head.lacking) for head in heads if head.lacking))
        return heads, erased

    def tell_condition(self, tag: bytes) -> None:
        """Say what was erased here and what is lacking, unless the peer knows: with the heads, without which it means
        nothing."""
        before = self._told.get(tag, ((), ()))
        heads, erased = self.standing(tag)
        if self._told[tag] != before:
            self.say(Ack(tag, _held(heads), erased, 0))

    def acknowledge(self, tag: bytes, heads: Sequence[FeedHead], serial: int) -> None:
        """Say that these heads are durable, with what was erased in those feeds."""
        feeds = {(head.device, head.incarnation) for head in heads}
        erased = tuple(place for place in self.replica.erased(tag) if place[:2] in feeds) if feeds else ()
        self.say(Ack(tag, _held(heads[:MAX_FEEDS]), erased[:MAX_FEEDS], serial))

    def say(self, message: Message) -> None:
        """Send what takes no room in the window. Heads travel behind the entries that they describe: ahead of them,
        those would be asked for twice."""
        self.effects.append(Send(encode(message), "data" if isinstance(message, Heads) else "control"))

    def send_data(self, raw: bytes) -> None:
        """Send a message that the window has counted."""
        self.effects.append(Send(raw, "data"))

    def tell(self, kind: str, **detail: object) -> None:
        self.effects.append(Tell(kind, detail))

    def acknowledged(
        self, tag: bytes, heads: Sequence[HeldHead], erased: Sequence[Place]
    ) -> None:
        if heads or erased:
            self.effects.append(Acknowledge(tag, heads, erased))


def _held(heads: Sequence[FeedHead]) -> tuple[HeldHead, ...]:
    return tuple(head.held for head in heads)
