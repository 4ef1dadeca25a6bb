"""Hunts for updates that the walker accepts and Yrs does not survive.

Valid updates are damaged at random; what the walker still accepts is applied to the document it was made on, in this
process. Yrs may panic or crash, so tests run this module as a program of its own:
``python -m property_tests.mutations FIRST_SEED SEEDS MUTATIONS``. A finding is one line of JSON; the last line counts.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any

from pycrdt import Doc

from aico_crdt.crdt.lib0 import write_varuint
from aico_crdt.crdt.walker import decode_state_vector, pairs_of, walk
from aico_crdt.errors import PeerError
from property_tests.yjs_histories import Step, content, history, roots

Range = tuple[int, int, int]
"""client, clock, length"""


def damaged(rng: random.Random, update: bytes, other: bytes) -> bytes:
    """`update` with one byte changed, or now and then something wilder."""
    out = bytearray(update)
    at = rng.randrange(len(out))
    kind = rng.randrange(16)
    if kind < 6:
        out[at] = rng.randrange(256)
    elif kind < 9:
        out[at] ^= 1 << rng.randrange(8)
    elif kind < 12:
        out[at] = (out[at] + rng.choice((-1, 1))) % 256
    elif kind == 12:
        del out[at]
    elif kind == 13:
        out.insert(at, rng.choice((0, 1, 2, 127, 128, rng.randrange(256))))
    elif kind == 14:
        out[at] = rng.randrange(12)
        out[rng.randrange(len(out))] = rng.randrange(12)
    else:
        start = rng.randrange(len(other))
        out[at : at + rng.randrange(8)] = other[start : start + rng.randrange(12)]
    return bytes(out)


def forged(rng: random.Random, known: dict[int, int], author: int) -> bytes:
    """An update of `author`, well formed by its grammar, that refers to whatever there is, at random."""
    clock = known.get(author, 0)
    clients = [client for client in known if known[client]] or [author]
    out = [b"\x01", write_varuint(structs := rng.randrange(1, 6)), write_varuint(author), write_varuint(clock)]

    def some_id() -> bytes:
        client = rng.choice([author, *clients])
        top = clock if client == author else known[client]
        return write_varuint(client) + write_varuint(max(0, top - 1 - rng.randrange(8)))

    for _ in range(structs):
        content, length = _content(rng)
        info = content[0] | rng.choice((0, 0, 32, 128, 128, 64, 192, 192))
        if content[0] == 0:
            out.append(content)
        else:
            out.append(bytes([info]))
            out += [some_id() for bit in (128, 64) if info & bit]
            if not info & 192:
                root = b"\x01\x01" + rng.choice((b"m", b"t", b"a", b"x"))
                out.append(root if rng.random() < 0.7 else b"\x00" + some_id())
                if info & 32:
                    out.append(rng.choice((b"\x01f", b"\x01g", b"\x00")))
            out.append(content[1:])
        clock += length
    owners = [client for client in {author, *clients} if rng.random() < 0.4]
    out.append(write_varuint(len(owners)))
    for client in owners:
        top = clock if client == author else known[client]
        first = rng.randrange(top)
        out += (write_varuint(client), b"\x01", write_varuint(first), write_varuint(rng.randrange(1, top - first + 1)))
    return b"".join(out)


def _content(rng: random.Random) -> tuple[bytes, int]:
    length = rng.randrange(1, 4)
    text = rng.choice(("a", "xyz", "é", "😀b", "a😀"))
    raw = text.encode()
    return rng.choice(
        (
            (b"\x00" + bytes([length]), length),
            (b"\x01" + bytes([length]), length),
            (b"\x03\x02ab", 1),
            (b"\x04" + bytes([len(raw)]) + raw, len(text.encode("utf-16-le")) // 2),
            (b"\x05\x02{}", 1),
            (b"\x06\x01b\x04true", 1),
            (b"\x07" + rng.choice((b"\x00", b"\x01", b"\x02", b"\x03\x01p", b"\x04", b"\x06")), 1),
            (b"\x08" + bytes([length]) + b"\x7e" * length, length),
            (b"\x08\x01\x75\x02\x7d\x01\x77\x01v", 1),
        )
    )


def judge(step: Step, update: bytes) -> str:
    """``"refused"``, ``"fine"``, ``"stumbles"``, or what went wrong.

    What cannot be seen without the document is no finding: a parent that is no type, over which Yrs stumbles with an
    error; and, unless the update does nothing but set fields, what it reads as: replicas may differ on elements whose
    origins are in the wrong order, and reading an array that got a string to hold never ends.
    """
    doc: Doc[Any] = Doc()
    doc.apply_update(step.before)
    known = decode_state_vector(doc.get_state())
    try:
        walked = walk(update, known, step.author, overlap=step.author is None)
    except PeerError:
        return "refused"
    if not walked.cuts.isdisjoint(pairs_of(step.before)):
        return "refused"
    try:
        doc.apply_update(update)
    except (RuntimeError, ValueError) as error:
        return "stumbles" if "block parent" in str(error) else f"apply: {error}"
    if decode_state_vector(doc.get_state()) != walked.after(known):
        return "state vector is not as predicted"
    state = doc.get_update()
    again: Doc[Any] = Doc()
    again.apply_update(state)
    whole = walk(state, {}, None)
    if whole.after({}) != walked.after(known) or decode_state_vector(again.get_state()) != walked.after(known):
        return "the encoded state has other clocks"
    if not covers(whole.deleted, walked.deleted):
        return "a delete is pending"
    roots(doc), roots(again)
    if walked.is_fields and content(doc) != content(again):
        return "the encoded state reads differently"
    return "fine"


def covers(ranges: Iterable[Range], wanted: Iterable[Range]) -> bool:
    """Whether every clock of `wanted` lies in `ranges`, which are in order for each client."""
    ends: dict[int, list[tuple[int, int]]] = {}
    for client, clock, length in ranges:
        joined = ends.setdefault(client, [])
        first = joined.pop()[0] if joined and joined[-1][1] == clock else clock
        joined.append((first, clock + length))
    return all(
        any(first <= clock and clock + length <= end for first, end in ends.get(client, ()))
        for client, clock, length in wanted
    )


def _known(state: bytes) -> dict[int, int]:
    doc: Doc[Any] = Doc()
    doc.apply_update(state)
    return decode_state_vector(doc.get_state())


def hunt(first_seed: int, seeds: int, mutations: int) -> Counter[str]:
    """Judges `mutations` damaged updates of each of `seeds` histories; prints each finding before going on."""
    tally: Counter[str] = Counter()
    for seed in range(first_seed, first_seed + seeds):
        rng = random.Random(seed)
        steps = history(seed)
        for _ in range(mutations):
            step = rng.choice(steps)
            if step.author is not None and rng.random() < 0.3:
                update = forged(rng, _known(step.before), step.author)
            else:
                update = damaged(rng, step.update, rng.choice(steps).update)
            case = {"before": step.before.hex(), "update": update.hex(), "author": step.author}
            try:
                verdict = judge(step, update)
            except BaseException as error:  # a Rust panic is no Exception
                if isinstance(error, KeyboardInterrupt):
                    raise
                verdict = f"{type(error).__name__}: {error}"
            tally[verdict] += 1
            if verdict not in ("refused", "fine", "stumbles"):
                print(json.dumps({"seed": seed, "verdict": verdict, **case}), flush=True)
    return tally


if __name__ == "__main__":
    print(json.dumps(hunt(*(int(argument) for argument in sys.argv[1:4]))))
