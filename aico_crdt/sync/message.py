"""The ten messages of the protocol as bytes: msgpack ``[type, field …]``, drawn in docs/protocol.md.

Reading is strict about what is known and indifferent to what is not: a field of the wrong type or length, a count
beyond its cap, a byte too few or too many make the message `Malformed`; further elements at the end of a list,
further keys of a map and further message types are from a later release and change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final, TypeVar

from aico_crdt.errors import Malformed, TooLarge
from aico_crdt.feed.entry import ENTRY_MAX_BYTES, MAX_SEQ
from aico_crdt.feed.exchange import BODY_MAX_BYTES
from aico_crdt.feed.manifest import MANIFEST_MAX_BYTES
from aico_crdt.feed.packing import MAX_ELEMENTS, pack, unpack
from aico_crdt.ids import (
    DEVICE_BYTES,
    DOCUMENT_KEY_BYTES,
    FAMILY_BYTES,
    HASH_BYTES,
    INCARNATION_BYTES,
    TAG_BYTES,
)
from aico_crdt.sync.replica import DIGEST_BYTES, Body, FeedHead, HeldHead, Place, Run

SESSION_BYTES: Final = 8
MAX_COLLECTIONS: Final = 4096
MAX_FEEDS: Final = 8192
"""Feeds of one collection: devices times incarnations. 8,192 heads are 700 KB."""
MAX_KEYS: Final = 1024
MAX_TEXT: Final = 256
MAX_FORMATS: Final = 16
LINK_BYTES: Final = 8
MAX_LINKS: Final = 256
CONTROL_MAX_BYTES: Final = 2 * 1024 * 1024
DATA_MAX_BYTES: Final = 2 * ENTRY_MAX_BYTES
"""A chunk, or one entry of the largest size."""
_DEPTH: Final = 16
_OVERHEAD: Final = 128


@dataclass(frozen=True, slots=True)
class Hello:
    """First word of both sides. `session` is random and new for each session; `seen` is the other side's, empty while
    that has not been heard. `links` are the writers the sender has links to, see `link_name`. `lacking` are the
    collections of which it holds heads, but not all that they stand for. `extra` holds what a later release says
    besides."""

    formats: tuple[int, ...]
    family: bytes
    device: bytes
    incarnation: bytes
    device_type: str
    session: bytes
    seen: bytes
    window_bytes: int
    digest_interval_ms: int
    digests: tuple[tuple[bytes, bytes], ...]
    links: tuple[bytes, ...] = ()
    lacking: tuple[bytes, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Heads:
    """Where the sender stands in one collection. Answered by one `Want`."""

    tag: bytes
    heads: tuple[FeedHead, ...]
    erased: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True)
class Want:
    """What the sender lacks. An empty one says: nothing. Any other is answered by entries up to `more` = False."""

    tag: bytes
    wants: tuple[Place, ...]
    manifest: bool = False


@dataclass(frozen=True, slots=True)
class Entries:
    """Runs of entries: part of a stream that answers a `Want` (`more` says that it goes on), or pushed (`live`)."""

    tag: bytes
    runs: Sequence[Run]
    more: bool
    live: bool
    serial: int


@dataclass(frozen=True, slots=True)
class Ack:
    """Durable: these heads, these erasures. `serial` frees the window; 0 frees nothing."""

    tag: bytes
    heads: tuple[HeldHead, ...]
    erased: tuple[Place, ...]
    serial: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """A signed manifest, in answer to a `Want` that asks for it."""

    tag: bytes
    raw: bytes
    serial: int


@dataclass(frozen=True, slots=True)
class WantBodies:
    """Documents whose bodies the sender lacks. Answered by one `Bodies`."""

    tag: bytes
    keys: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Bodies:
    """Bodies in the order they were asked for; what is lacking before the last one is not here to be had. `heads` is
    how far the sender had applied each feed when it read them: no older is what they hold."""

    tag: bytes
    bodies: tuple[Body, ...]
    serial: int
    heads: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True)
class Digests:
    """One digest for each collection the receiver may have, most urgent first; links and what is lacking, as in
    `Hello`."""

    digests: tuple[tuple[bytes, bytes], ...]
    links: tuple[bytes, ...] = ()
    lacking: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Bye:
    """The sender closes the link. Codes are listed in docs/protocol.md; `text` is for people."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message type of a later release."""

    type: int


Message = Hello | Heads | Want | Entries | Ack | Manifest | WantBodies | Bodies | Digests | Bye | Unknown


def link_name(writer: bytes, session: bytes) -> bytes:
    """8 bytes by which the speaker of `session` names a writer (device and incarnation): known only to who knows it."""
    return blake2b(writer, digest_size=LINK_BYTES, key=session, person=b"aico.link.1").digest()


def encode(message: Message) -> bytes:
    """The wire bytes of a message."""
    if isinstance(message, Unknown):
        raise TypeError("A message of an unknown type cannot be written.")
    number, fields = _WRITERS[type(message)]
    return pack([number, *fields(message)])


def decode(raw: bytes) -> Message:
    """Read one message.

    Raises:
        TooLarge: beyond the cap of its type in bytes, elements or depth.
        Malformed: not a message.
    """
    max_bytes, what = _LIMITS.get(_peek(raw), (CONTROL_MAX_BYTES, "A message"))
    fields = unpack(raw, max_bytes=max_bytes, max_depth=_DEPTH, max_elements=MAX_ELEMENTS, what=what)
    if type(fields) is not list or not fields or type(fields[0]) is not int:
        raise Malformed("A message is not a list that begins with its type.")
    reader = _READERS.get(fields[0])
    if reader is None:
        return Unknown(fields[0])
    width, read, what = reader
    if len(fields) <= width:
        raise Malformed(f"{what} has {len(fields) - 1} fields; it needs {width}.")
    return read(*fields[1 : width + 1])


def _peek(raw: bytes) -> int:
    """The type of a message as this release writes it, without reading on; 0 for any other form."""
    return raw[1] if len(raw) > 1 and 0x90 < raw[0] < 0xA0 and raw[1] < 0x80 else 0


# Fields


def _bytes(value: Any, length: int, what: str) -> bytes:
    if type(value) is not bytes or len(value) != length:
        raise Malformed(f"A message has a {what} that is not {length} bytes.")
    return value


def _some_bytes(value: Any, most: int, what: str) -> bytes:
    if type(value) is not bytes or not value:
        raise Malformed(f"A message has a {what} that is not bytes.")
    if len(value) > most:
        raise TooLarge(f"A message has a {what} of {len(value)} bytes; at most {most} are accepted.")
    return value


def _int(value: Any, low: int, what: str) -> int:
    if type(value) is not int or not low <= value <= MAX_SEQ:
        raise Malformed(f"A message has a {what} that is no number from {low}.")
    return value


def _bool(value: Any, what: str) -> bool:
    if type(value) is not bool:
        raise Malformed(f"A message has a {what} that is neither true nor false.")
    return value


def _text(value: Any, most: int, what: str) -> str:
    if type(value) is not str or len(value) > most or not value.isprintable():
        raise Malformed(f"A message has a {what} that is no line of up to {most} characters.")
    return value


_Item = TypeVar("_Item")


def _list(value: Any, most: int, what: str, read: Callable[[Any], _Item]) -> tuple[_Item, ...]:
    if type(value) is not list:
        raise Malformed(f"A message has {what} that are no list.")
    if len(value) > most:
        raise TooLarge(f"A message has {len(value)} {what}; at most {most} are accepted.")
    return tuple(read(item) for item in value)


def _row(value: Any, width: int, what: str) -> list[Any]:
    if type(value) is not list or len(value) < width:
        raise Malformed(f"A message has {what} that are no rows of {width}.")
    return value[:width]


def _feed_head(value: Any) -> FeedHead:
    device, incarnation, floor, seq, digest, lacking = _row(value, 6, "heads")
    head = FeedHead(
        _bytes(device, DEVICE_BYTES, "device"),
        _bytes(incarnation, INCARNATION_BYTES, "incarnation"),
        _int(floor, 1, "floor"),
        _int(seq, 1, "sequence number"),
        _bytes(digest, HASH_BYTES, "hash"),
        _int(lacking, 0, "number of what is lacking"),
    )
    if head.floor > head.seq + 1:
        raise Malformed("A message has a head whose floor lies above it.")
    return head


def _held_head(value: Any) -> HeldHead:
    device, incarnation, seq, digest, lacking = _row(value, 5, "heads")
    return HeldHead(
        _bytes(device, DEVICE_BYTES, "device"),
        _bytes(incarnation, INCARNATION_BYTES, "incarnation"),
        _int(seq, 1, "sequence number"),
        _bytes(digest, HASH_BYTES, "hash"),
        _int(lacking, 0, "number of what is lacking"),
    )


def _place(value: Any) -> Place:
    device, incarnation, seq = _row(value, 3, "places")
    return Place(
        _bytes(device, DEVICE_BYTES, "device"),
        _bytes(incarnation, INCARNATION_BYTES, "incarnation"),
        _int(seq, 1, "sequence number"),
    )


def _run(value: Any) -> tuple[bytes, ...]:
    run = _list(value, MAX_ELEMENTS, "entries", lambda raw: _some_bytes(raw, ENTRY_MAX_BYTES, "entry"))
    if not run:
        raise Malformed("A message has a run without entries.")
    return run


def _body(value: Any) -> Body:
    key, life, sealed = _row(value, 3, "bodies")
    return Body(
        _bytes(key, DOCUMENT_KEY_BYTES, "document key"),
        _int(life, 0, "life"),
        _some_bytes(sealed, BODY_MAX_BYTES, "body"),
    )


def _digest(value: Any) -> tuple[bytes, bytes]:
    tag, digest = _row(value, 2, "digests")
    return _bytes(tag, TAG_BYTES, "tag"), _bytes(digest, DIGEST_BYTES, "digest")


def _digests(value: Any) -> tuple[tuple[bytes, bytes], ...]:
    return _list(value, MAX_COLLECTIONS, "digests", _digest)


def _links(value: Any) -> tuple[bytes, ...]:
    return _list(value, MAX_LINKS, "links", lambda name: _bytes(name, LINK_BYTES, "link"))


def _lacking(value: Any) -> tuple[bytes, ...]:
    return _list(value, MAX_COLLECTIONS, "collections", _tag)


def _places(value: Any, what: str) -> tuple[Place, ...]:
    return _list(value, MAX_FEEDS, what, _place)


def _tag(value: Any) -> bytes:
    return _bytes(value, TAG_BYTES, "tag")


# Messages


_HELLO_KEYS: Final = (
    "formats",
    "family",
    "device",
    "incarnation",
    "device_type",
    "session",
    "seen",
    "limits",
    "digests",
)


def _read_hello(value: Any) -> Hello:
    if type(value) is not dict or any(key not in value for key in _HELLO_KEYS):
        raise Malformed("A greeting is not a map of all it has to say.")
    seen, limits = value["seen"], value["limits"]
    if type(limits) is not dict:
        raise Malformed("A greeting states no limits.")
    return Hello(
        _list(value["formats"], MAX_FORMATS, "formats", lambda number: _int(number, 1, "format")),
        _bytes(value["family"], FAMILY_BYTES, "family"),
        _bytes(value["device"], DEVICE_BYTES, "device"),
        _bytes(value["incarnation"], INCARNATION_BYTES, "incarnation"),
        _text(value["device_type"], 32, "device type"),
        _bytes(value["session"], SESSION_BYTES, "session"),
        b"" if seen == b"" else _bytes(seen, SESSION_BYTES, "session"),
        _int(limits.get("window_bytes"), 1, "window"),
        _int(limits.get("digest_interval_ms"), 1, "digest interval"),
        _digests(value["digests"]),
        _links(value.get("links", [])),
        _lacking(value.get("lacking", [])),
        {key: item for key, item in value.items() if key not in (*_HELLO_KEYS, "links", "lacking")},
    )


def _write_hello(hello: Hello) -> list[Any]:
    limits = {"window_bytes": hello.window_bytes, "digest_interval_ms": hello.digest_interval_ms}
    known = (
        hello.formats,
        hello.family,
        hello.device,
        hello.incarnation,
        hello.device_type,
        hello.session,
        hello.seen,
        limits,
        hello.digests,
    )
    known_by_key = dict(zip(_HELLO_KEYS, known, strict=True))
    return [{**hello.extra, **known_by_key, "links": hello.links, "lacking": hello.lacking}]


def _read_heads(tag: Any, heads: Any, erased: Any) -> Heads:
    return Heads(_tag(tag), _list(heads, MAX_FEEDS, "heads", _feed_head), _places(erased, "erasures"))


def _read_want(tag: Any, wants: Any, manifest: Any) -> Want:
    return Want(_tag(tag), _places(wants, "wants"), _bool(manifest, "wish for a manifest"))


def _read_entries(tag: Any, runs: Any, more: Any, live: Any, serial: Any) -> Entries:
    return Entries(
        _tag(tag),
        _list(runs, MAX_ELEMENTS, "runs", _run),
        _bool(more, "promise of more"),
        _bool(live, "mark of a push"),
        _int(serial, 1, "serial"),
    )


def _read_ack(tag: Any, heads: Any, erased: Any, serial: Any) -> Ack:
    held = _list(heads, MAX_FEEDS, "heads", _held_head)
    return Ack(_tag(tag), held, _places(erased, "erasures"), _int(serial, 0, "serial"))


def _read_manifest(tag: Any, raw: Any, serial: Any) -> Manifest:
    return Manifest(_tag(tag), _some_bytes(raw, MANIFEST_MAX_BYTES, "manifest"), _int(serial, 1, "serial"))


def _read_want_bodies(tag: Any, keys: Any) -> WantBodies:
    def key(value: Any) -> bytes:
        return _bytes(value, DOCUMENT_KEY_BYTES, "document key")

    return WantBodies(_tag(tag), _list(keys, MAX_KEYS, "document keys", key))


def _read_bodies(tag: Any, bodies: Any, serial: Any, heads: Any) -> Bodies:
    held = _list(bodies, MAX_KEYS, "bodies", _body)
    return Bodies(_tag(tag), held, _int(serial, 1, "serial"), _places(heads, "heads"))


def _read_digests(value: Any) -> Digests:
    if type(value) is not dict or "digests" not in value:
        raise Malformed("A message of digests has none.")
    return Digests(
        _digests(value["digests"]), _links(value.get("links", [])), _lacking(value.get("lacking", []))
    )


def _read_bye(code: Any, text: Any) -> Bye:
    return Bye(_text(code, 32, "code"), _text(text, MAX_TEXT, "text"))


_READERS: Final[Mapping[int, tuple[int, Callable[..., Message], str]]] = {
    1: (1, _read_hello, "A greeting"),
    2: (3, _read_heads, "A message of heads"),
    3: (3, _read_want, "A want"),
    4: (5, _read_entries, "A message of entries"),
    5: (4, _read_ack, "An acknowledgement"),
    6: (3, _read_manifest, "A manifest"),
    7: (2, _read_want_bodies, "A want of bodies"),
    8: (4, _read_bodies, "A message of bodies"),
    9: (1, _read_digests, "A message of digests"),
    10: (2, _read_bye, "A farewell"),
}
"""Type → how many fields it has in this release, how they are read, what errors call it."""

_WRITERS: Final[Mapping[type, tuple[int, Callable[[Any], list[Any]]]]] = {
    Hello: (1, _write_hello),
    Heads: (2, lambda m: [m.tag, m.heads, m.erased]),
    Want: (3, lambda m: [m.tag, m.wants, m.manifest]),
    Entries: (4, lambda m: [m.tag, m.runs, m.more, m.live, m.serial]),
    Ack: (5, lambda m: [m.tag, m.heads, m.erased, m.serial]),
    Manifest: (6, lambda m: [m.tag, m.raw, m.serial]),
    WantBodies: (7, lambda m: [m.tag, m.keys]),
    Bodies: (8, lambda m: [m.tag, m.bodies, m.serial, m.heads]),
    Digests: (9, lambda m: [{"digests": m.digests, "links": m.links, "lacking": m.lacking}]),
    Bye: (10, lambda m: [m.code, m.text]),
}

_LIMITS: Final[Mapping[int, tuple[int, str]]] = {
    4: (DATA_MAX_BYTES, "A message of entries"),
    6: (MANIFEST_MAX_BYTES + _OVERHEAD, "A manifest"),
    8: (BODY_MAX_BYTES + _OVERHEAD, "A message of bodies"),
}
"""Longest message of the types that carry data; all others are held to `CONTROL_MAX_BYTES`."""
