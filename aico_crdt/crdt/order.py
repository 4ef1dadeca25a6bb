"""The canonical encoding of a text that several have written: what fixes the order of its characters.

Yrs places an insertion by the elements it names left and right of it and by what stands between them when it arrives
(YATA). Where these two were neighbours for its author, as an honest editor's always were, the order in which
insertions arrive makes no difference. Where they were not, it does; nor does the encoding of a document say in which
order its elements stand: it is found again when the document is loaded. So the order that counts is the one that
Yrs finds when it loads the document from this encoding, which depends on nothing but the set of operations:

- clients in descending order, their structs by clock, as in any update;
- structs joined wherever one continues the other: same client, next clock, the one before as left origin, the same
  right origin, contents of one kind. (Where Yrs splits and joins them depends on what came when.)
- delete ranges in order and joined.
"""

from __future__ import annotations

from typing import Final

from aico_crdt.crdt.lib0 import read_string, read_varuint, skip_any, utf16_length, write_varuint
from aico_crdt.crdt.struct_graph import DELETED, GC, TYPE
from aico_crdt.crdt.update_reader import ANY, CONTENT, FORMAT, KEY, LEFT, RIGHT, STRING
from aico_crdt.crdt.walker import MAX_DEPTH

_XML_ELEMENT: Final = 3
_ORIGINS: Final = LEFT | RIGHT
_SIZED: Final = frozenset((GC, DELETED, STRING, ANY))


def is_shared(state: bytes, root: str) -> bool:
    """Whether several clients have operations in the document of this encoded state, and the root type `root` may be
    among what they wrote. Costs no more than a search in the bytes."""
    clients, _ = read_varuint(state, 0)
    name = root.encode()
    return clients > 1 and b"\1" + write_varuint(len(name)) + name in state


def canonical(state: bytes) -> bytes:
    """The canonical encoding of a document, from any encoding of the whole of it (Yjs v1).

    Raises:
        Malformed, IndexError: `state` is none. It is meant to come from Yrs, or to have passed the walker.
    """
    clients, i = read_varuint(state, 0)
    runs: dict[int, bytes] = {}
    for _ in range(clients):
        structs, i = read_varuint(state, i)
        client, i = read_varuint(state, i)
        first, i = read_varuint(state, i)
        joined, i = _join(state, i, structs, client, first)
        runs[client] = write_varuint(len(joined)) + write_varuint(client) + write_varuint(first) + b"".join(joined)
    out = [write_varuint(clients), *(runs[client] for client in sorted(runs, reverse=True))]
    return b"".join(out) + _deletes(state, i)


def _join(data: bytes, i: int, structs: int, client: int, clock: int) -> tuple[list[bytes], int]:
    """The structs of one client from position `i`, joined and encoded; and the position after them.

    Integers are read where they stand, and what joins nothing is copied as it is: a long text has ten thousand structs.
    """
    joined: list[bytes] = []
    own = write_varuint(client)
    begin = content = first = end = i  # of the run that is being joined: its first struct, content, text in it, end
    right, kind, size = b"", -1, 0
    parts: list[bytes] = []  # the contents of the run, where it has more than one
    for _ in range(structs):
        at = i
        info = data[i]
        ref = info & CONTENT
        i += 1
        continues = False
        its_right = b""
        if info == GC:
            continues = kind == GC
        elif info & _ORIGINS:
            if info & LEFT:
                if data.startswith(own, i):
                    i += len(own)
                    byte = target = data[i]
                    i += 1
                    shift = 0
                    while byte > 127:
                        byte = data[i]
                        i += 1
                        shift += 7
                        target += (byte << shift) - (1 << shift)
                    continues = kind == ref and target == clock - 1
                else:
                    i = _end_of_id(data, i)
            if info & RIGHT:
                after = _end_of_id(data, i)
                its_right = data[i:after]
                i = after
            continues = continues and its_right == right
        else:
            i += 1
            if data[i - 1] == 1:
                _, i = read_string(data, i)
            else:
                i = _end_of_id(data, i)
            if info & KEY:
                _, i = read_string(data, i)
        its_content = i
        if ref in _SIZED:
            byte = mass = data[i]
            i += 1
            shift = 0
            while byte > 127:
                byte = data[i]
                i += 1
                shift += 7
                mass += (byte << shift) - (1 << shift)
            start, length = i, mass
            if ref == STRING:
                i += mass
                part = data[start:i]
                if not part.isascii():
                    length = utf16_length(part.decode())
            elif ref == ANY:
                for _ in range(length):
                    i = skip_any(data, i, MAX_DEPTH)
        else:
            i = _skip_other(data, i, ref)
            start, length, mass, continues = its_content, 1, 0, False
        if continues:
            if not parts:
                parts.append(data[first:end])
            parts.append(data[start:i])
            size += mass
        else:
            if kind >= 0:
                joined.append(_encoded(data, begin, content, end, size, parts))
            parts.clear()
            begin, content, first, right, kind, size = at, its_content, start, its_right, ref, mass
        end = i
        clock += length
    joined.append(_encoded(data, begin, content, end, size, parts))
    return joined, i


def _encoded(data: bytes, begin: int, content: int, end: int, size: int, parts: list[bytes]) -> bytes:
    return data[begin:content] + write_varuint(size) + b"".join(parts) if parts else data[begin:end]


def _end_of_id(data: bytes, i: int) -> int:
    for _ in range(2):
        while data[i] > 127:
            i += 1
        i += 1
    return i


def _skip_other(data: bytes, i: int, ref: int) -> int:
    if ref == TYPE:
        element = data[i] == _XML_ELEMENT
        return read_string(data, i + 1)[1] if element else i + 1
    if ref == FORMAT:
        _, i = read_string(data, i)
    size, i = read_varuint(data, i)
    return i + size


def _deletes(data: bytes, i: int) -> bytes:
    clients, i = read_varuint(data, i)
    ranges: dict[int, list[list[int]]] = {}
    for _ in range(clients):
        client, i = read_varuint(data, i)
        count, i = read_varuint(data, i)
        found = ranges.setdefault(client, [])
        for _ in range(count):
            clock, i = read_varuint(data, i)
            length, i = read_varuint(data, i)
            found.append([clock, length])
    out = [write_varuint(clients)]
    for client in sorted(ranges, reverse=True):
        joined: list[list[int]] = []
        for clock, length in sorted(ranges[client]):
            if joined and clock <= joined[-1][0] + joined[-1][1]:
                joined[-1][1] = max(joined[-1][1], clock + length - joined[-1][0])
            else:
                joined.append([clock, length])
        out += (write_varuint(client), write_varuint(len(joined)))
        out += (write_varuint(number) for pair in joined for number in pair)
    return b"".join(out)
