"""What a header may say, field by field."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import msgpack
import pytest

from aico_crdt.errors import Malformed, NotYet, TooLarge
from aico_crdt.feed import Erase, FeedId, Head, ItemRef, decode_header
from aico_crdt.feed.header import HEADER_MAX_BYTES, MAX_DEPS, MAX_ERASE, MAX_ITEMS, encode_header, encode_prefix

DEP = [b"A" * 32, b"B" * 8, 3, b"C" * 32]
ERASE = [b"A" * 32, b"B" * 8, 3, 0, b"D" * 32]
ITEM = [b"E" * 32, 100, b"M" * 16]
FIELDS: dict[str, Any] = {
    "format": 1,
    "family": b"F" * 16,
    "tag": b"T" * 16,
    "device": b"V" * 32,
    "incarnation": b"I" * 8,
    "seq": 5,
    "prev": b"P" * 32,
    "deps": [DEP],
    "hlc": 1 << 60,
    "key_id": b"K" * 8,
    "erase": [ERASE],
}


def encoded(items: Any = (ITEM,), **changed: Any) -> bytes:
    return bytes(msgpack.packb([msgpack.packb([*(FIELDS | changed).values()]), items]))


def test_a_header_is_what_its_bytes_say() -> None:
    raw = encoded()
    header = decode_header(raw)
    assert header.feed == FeedId(b"T" * 16, b"V" * 32, b"I" * 8)
    assert (header.format, header.family, header.seq, header.prev) == (1, b"F" * 16, 5, b"P" * 32)
    assert header.deps == (Head(*DEP),)
    assert header.erase == (Erase(*ERASE),)
    assert header.items == (ItemRef(*ITEM),)
    assert (header.hlc, header.key_id) == (1 << 60, b"K" * 8)
    assert header.raw == raw
    assert header.prefix == msgpack.packb([*FIELDS.values()])
    assert header.hash == blake2b(raw, digest_size=32, person=b"aico.header.1").digest()
    assert header.head == Head(b"V" * 32, b"I" * 8, 5, header.hash)


def test_an_author_says_when_it_may_lack_what_it_depends_on() -> None:
    parts = {name: value for name, value in FIELDS.items() if name != "format"}
    deps, erase = [Head(*DEP)], [Erase(*ERASE)]
    for lacks in (False, True):
        prefix = encode_prefix(**(parts | {"deps": deps, "erase": erase}), lacks=lacks)
        assert msgpack.unpackb(prefix) == [*FIELDS.values(), *([True] if lacks else [])]
        assert decode_header(encode_header(prefix, [ItemRef(*ITEM)])).lacks is lacks
    assert decode_header(encoded(later="later")).lacks is False


def test_empty_lists_and_the_first_of_a_feed() -> None:
    header = decode_header(encoded(items=[], seq=1, prev=bytes(32), deps=[], erase=[]))
    assert (header.deps, header.erase, header.items) == ((), (), ())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, FIELDS[name][:-1]) for name in ("family", "tag", "device", "incarnation", "prev", "key_id")),
        *((name, FIELDS[name] + b"x") for name in ("family", "tag", "device", "incarnation", "prev", "key_id")),
        *((name, "x" * len(FIELDS[name])) for name in ("family", "tag", "device", "incarnation", "prev", "key_id")),
        ("format", 0),
        ("format", True),
        ("format", "1"),
        ("seq", 0),
        ("seq", -1),
        ("seq", 1.0),
        ("seq", True),
        ("seq", 1 << 63),
        ("seq", 1),
        ("prev", bytes(32)),
        ("hlc", -1),
        ("hlc", 1.5),
        ("hlc", None),
        ("deps", None),
        ("deps", 0),
        ("deps", ""),
        ("deps", {}),
        ("deps", {"a": 1}),
        ("deps", [DEP, DEP]),
        ("deps", [DEP, [b"@" * 32, *DEP[1:]]]),
        ("deps", [[b"V" * 32, b"I" * 8, 4, b"P" * 32]]),
        ("deps", [DEP[:3]]),
        ("deps", [[*DEP, 1]]),
        ("deps", [[b"A" * 31, *DEP[1:]]]),
        ("deps", [[*DEP[:2], 0, DEP[3]]]),
        ("erase", None),
        ("erase", [ERASE[:4]]),
        ("erase", [[*ERASE[:3], -1, ERASE[4]]]),
        ("erase", [[*ERASE[:3], MAX_ITEMS, ERASE[4]]]),
        ("erase", [[*ERASE[:4], b"short"]]),
        ("items", None),
        ("items", [[b"E" * 32]]),
        ("items", [[b"E" * 32, 100]]),
        ("items", [[*ITEM, 1]]),
        ("items", [[b"E" * 31, *ITEM[1:]]]),
        ("items", [[b"E" * 32, 0, b"M" * 16]]),
        ("items", [[b"E" * 32, (1 << 20) + 1, b"M" * 16]]),
        ("items", [[b"E" * 32, True, b"M" * 16]]),
        ("items", [[b"E" * 32, 100, b"M" * 15]]),
        ("items", [[b"E" * 32, 100, b"M" * 17]]),
        ("items", [[b"E" * 32, 100, "M" * 16]]),
        ("items", [[b"E" * 32, 100, None]]),
        ("items", [b"E" * 32]),
        ("items", b""),
    ],
)
def test_a_field_no_author_writes_is_refused(field: str, value: Any) -> None:
    with pytest.raises(Malformed):
        decode_header(encoded(**{field: value}))


@pytest.mark.parametrize(
    "raw",
    [
        msgpack.packb(None),
        msgpack.packb([]),
        msgpack.packb([b""]),
        msgpack.packb([b"", []]),
        msgpack.packb(["text", []]),
        msgpack.packb([msgpack.packb([]), []]),
        msgpack.packb([msgpack.packb({}), []]),
        msgpack.packb([msgpack.packb([1, b"F" * 16]), []]),
    ],
)
def test_another_shape_is_refused(raw: bytes) -> None:
    with pytest.raises(Malformed):
        decode_header(raw)


@pytest.mark.parametrize("prefix", [[2], [2, {"anything": 1}], [1 << 32, b""]])
def test_fault_46_a_later_format_is_held_not_refused(prefix: list[Any]) -> None:
    with pytest.raises(NotYet) as caught:
        decode_header(bytes(msgpack.packb([msgpack.packb(prefix), "anything"])))
    assert caught.value.missing == "format"


def test_fault_46_more_fields_of_a_later_minor_format_are_kept() -> None:
    prefix = msgpack.packb([*FIELDS.values(), "later", {"x": [1, 2]}])
    raw = bytes(msgpack.packb([prefix, [ITEM], b"later too"]))
    header = decode_header(raw)
    assert header.raw == raw
    assert header.prefix == prefix
    assert header.items == (ItemRef(*ITEM),)
    assert header.hash == blake2b(raw, digest_size=32, person=b"aico.header.1").digest()


def rows(count: int, width: list[Any]) -> list[list[Any]]:
    return [[number.to_bytes(32, "big"), *width[1:]] for number in range(count)]


def test_every_count_at_its_cap_fits_one_header() -> None:
    far = (1 << 63) - 1
    raw = encoded(
        items=rows(MAX_ITEMS, [0, 1 << 20, b"M" * 16]),
        deps=rows(MAX_DEPS, [0, b"B" * 8, far, b"C" * 32]),
        erase=rows(MAX_ERASE, [0, b"B" * 8, far, MAX_ITEMS - 1, b"D" * 32]),
        seq=far,
    )
    assert len(raw) <= HEADER_MAX_BYTES
    header = decode_header(raw)
    assert (len(header.items), len(header.deps), len(header.erase)) == (MAX_ITEMS, MAX_DEPS, MAX_ERASE)


@pytest.mark.parametrize(
    "changed",
    [{"items": rows(MAX_ITEMS + 1, ITEM)}, {"deps": rows(MAX_DEPS + 1, DEP)}, {"erase": rows(MAX_ERASE + 1, ERASE)}],
    ids=["items", "deps", "erase"],
)
def test_one_beyond_a_cap_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(TooLarge):
        decode_header(encoded(**changed))


def test_a_header_beyond_its_bytes_is_refused() -> None:
    raw = bytes(msgpack.packb([msgpack.packb([*FIELDS.values(), bytes(HEADER_MAX_BYTES)]), [ITEM]]))
    with pytest.raises(TooLarge):
        decode_header(raw)
