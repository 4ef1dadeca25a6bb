"""An update written upon operations that are void, made to fit where they never were.

Two clones of one device give out the same clocks of one Yjs client for different structs. When one branch wins, what
others wrote upon the lost one still names its clocks. So, on every replica alike:

- deletes of lost clocks are cut out, since they would strike what the winner put there;
- text that stands beside a lost character is *displaced*: it goes where it would be, had it been typed into an empty
  text, and text typed behind displaced text stays behind it.

A displaced struct keeps its clocks, so later structs of its author stay where they are. It has no right origin, and a
left one only if that is displaced too: so an editor would have written it who saw nothing else of the text. Such an
insertion is one that Yjs orders alike whatever it meets in which order (Nicolaescu et al., *Near real-time peer-to-peer
shared editing on extensible data types*, 2016: YATA); one with a neighbour taken away would not be.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from typing import Final

from aico_crdt.crdt.lib0 import decode, read_string, read_varuint, skip_any, utf16_length, write_varuint
from aico_crdt.crdt.struct_graph import DELETED, GC, Id
from aico_crdt.crdt.update_reader import ANY, CONTENT, KEY, LEFT, RIGHT, STRING
from aico_crdt.crdt.walker import MAX_DEPTH, without_deletes
from aico_crdt.errors import Malformed

_ROOT_TEXT: Final = b"\1\1t"
"""A parent: the root named t."""


class Displaced:
    """Clocks of displaced structs by client, filled in the order in which they are applied."""

    def __init__(self) -> None:
        self._spans: dict[int, list[tuple[int, int]]] = {}

    def __bool__(self) -> bool:
        return bool(self._spans)

    def __contains__(self, place: Id) -> bool:
        spans = self._spans.get(place[0], [])
        at = bisect_right(spans, (place[1], 1 << 64)) - 1
        return at >= 0 and place[1] < spans[at][1]

    def add(self, client: int, clock: int, length: int) -> None:
        spans = self._spans.setdefault(client, [])
        if spans and spans[-1][1] == clock:
            spans[-1] = (spans[-1][0], clock + length)
        else:
            spans.append((clock, clock + length))


def severed(update: bytes, lost: Mapping[int, int], displaced: Displaced) -> bytes:
    """`update` without what ties it to lost operations; byte by byte the same where nothing does.

    Args:
        lost: client → the first of its clocks that the update means as the lost branch gave them out.
        displaced: structs that were displaced before, by updates written upon the same branches; this one's are added.

    Raises:
        Malformed: `update` is broken, or holds what no document of ours does.
    """
    for client, clock in lost.items():
        update = without_deletes(update, client, clock)
    try:
        clients, i = read_varuint(update, 0)
        out = [update[:i]]
        for _ in range(clients):
            i = _client(update, i, lost, displaced, out)
    except IndexError:
        raise Malformed("An update ends in the middle.") from None
    out.append(update[i:])
    return b"".join(out)


def _client(data: bytes, i: int, lost: Mapping[int, int], displaced: Displaced, out: list[bytes]) -> int:
    """Copy one client's structs to `out`; the position after them."""
    start = i
    structs, i = read_varuint(data, i)
    client, i = read_varuint(data, i)
    clock, i = read_varuint(data, i)
    out.append(data[start:i])
    for _ in range(structs):
        start = i
        info = data[i]
        left, right, i = _origins(data, i)
        content = i
        length, i = _content(data, i, info)
        near = [place for place in (left, right) if place is not None]
        if any(place in displaced or place[1] >= lost.get(place[0], place[1] + 1) for place in near):
            if left is not None and left in displaced:
                out += (bytes([info & CONTENT | LEFT]), write_varuint(left[0]), write_varuint(left[1]))
            else:
                out += (bytes([info & CONTENT]), _ROOT_TEXT)
            out.append(data[content:i])
            displaced.add(client, clock, length)
        else:
            out.append(data[start:i])
        clock += length
    return i


def _origins(data: bytes, i: int) -> tuple[Id | None, Id | None, int]:
    """Left and right origin of the struct at `i`, and where its content begins."""
    info = data[i]
    i += 1
    if info == GC:
        return None, None, i
    left = right = None
    if info & LEFT:
        left, i = _id(data, i)
    if info & RIGHT:
        right, i = _id(data, i)
    if left is None and right is None:
        if data[i] == 1:
            _, i = read_string(data, i + 1)
        else:
            _, i = _id(data, i + 1)
        if info & KEY:
            _, i = read_string(data, i)
    return left, right, i


def _id(data: bytes, i: int) -> tuple[Id, int]:
    client, i = read_varuint(data, i)
    clock, i = read_varuint(data, i)
    return (client, clock), i


def _content(data: bytes, i: int, info: int) -> tuple[int, int]:
    """Length in clocks of the content at `i`, and the position after it."""
    ref = info & CONTENT
    size, i = read_varuint(data, i)
    if info == GC or ref == DELETED:
        return size, i
    if ref == STRING:
        return utf16_length(decode(data[i : i + size])), i + size
    if ref != ANY:
        raise Malformed("A struct with content that no document here has.")
    for _ in range(size):
        i = skip_any(data, i, MAX_DEPTH)
    return size, i
