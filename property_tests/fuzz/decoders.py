"""Fuzz targets without a store: what reads bytes from elsewhere, and what must agree with it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, NamedTuple

import msgpack

from aico_crdt import ids
from aico_crdt.config import Config
from aico_crdt.crdt import Document, foreign
from aico_crdt.crdt.birth import Birth, read_birth, write_birth
from aico_crdt.crdt.walker import decode_state_vector, encode_state_vector, walk
from aico_crdt.errors import PeerError
from aico_crdt.feed import (
    GENESIS,
    Entry,
    Erase,
    Erased,
    Head,
    Operation,
    Run,
    decode_entry,
    decode_manifest,
    encode_entry,
    encode_manifest,
    verify_entry,
    verify_manifest,
    write_entry,
    write_manifest,
)
from aico_crdt.feed.fork import decode_fork, encode_fork, prove_fork
from aico_crdt.feed.packing import pack, unpack
from aico_crdt.feed.run import decode_run, encode_run
from aico_crdt.mesh import frame
from aico_crdt.mesh.channel import Channel
from aico_crdt.sync import message
from aico_crdt.sync.event import Opened, Received, Tick
from aico_crdt.trust import Identity, decode_statement, encode_statement, wire
from aico_crdt.trust.statement import Admit, Found, Revoke, SealedKey
from property_tests.mutations import judge
from property_tests.yjs_histories import history
from tests.sync.memory_replica import MemoryReplica
from tests.sync.pair import End

TAKEN: Final = "taken"
REFUSED: Final = "refused"


class Target(NamedTuple):
    """Something to fuzz.

    Attributes:
        seeds: valid inputs.
        run: input → what became of it; whatever it raises is a finding.
        values: the inputs are msgpack.
    """

    seeds: Sequence[bytes]
    run: Callable[[bytes], str]
    values: bool = False


Opening = AbstractContextManager[Target]


class Finding(AssertionError):
    """What a target did that it must not do."""


def demand(holds: bool, what: str) -> None:
    if not holds:
        raise Finding(what)


def decoder(decode: Callable[[bytes], Any], encode: Callable[[Any], bytes] | None = None) -> Callable[[bytes], str]:
    """Runs `decode`; what it returns is the same when it was encoded and is decoded again."""

    def run(data: bytes) -> str:
        try:
            value = decode(data)
        except PeerError:
            return REFUSED
        if encode is not None:
            demand(decode(encode(value)) == value, "what was decoded does not survive being encoded")
        return TAKEN

    return run


# Yjs

ANNE: Final = (ids.client_id(b"a" * 32, b"12345678"), ids.writer(b"a" * 32, b"12345678"))
BEN: Final = (ids.client_id(b"b" * 32, b"12345678"), ids.writer(b"b" * 32, b"12345678"))


def walker() -> Opening:
    """Whole states, and updates of one author: what Yrs wrote in random histories."""
    steps = [step for seed in range(12) for step in history(seed, steps=6)]
    whole = walk(steps[-1].update, {}, None)
    known, author = whole.after({}), next(iter(whole.inserted))

    def run(data: bytes) -> str:
        try:
            walk(data, {}, None)
            return TAKEN
        except PeerError:
            pass
        try:
            walked = walk(data, known, author)
        except PeerError:
            return REFUSED
        demand(all(client == author for client in walked.inserted), "an update inserts for others")
        return TAKEN

    return nullcontext(Target([update for _, update, _ in steps], run))


def state_vector() -> Opening:
    vectors: list[dict[int, int]] = [{}, {1: 2}, {ANNE[0]: 300, BEN[0]: 1 << 30}]
    run = decoder(decode_state_vector, encode_state_vector)
    return nullcontext(Target([encode_state_vector(vector) for vector in vectors], run))


def yrs() -> Opening:
    """What the walker accepts, Yrs applies as predicted. Two bytes choose the document."""
    steps = [step for seed in range(20) for step in history(seed)]

    def run(data: bytes) -> str:
        step = steps[int.from_bytes(data[:2], "big") % len(steps)]
        verdict = judge(step, data[2:])
        demand(verdict in ("refused", "fine", "stumbles"), verdict)
        return REFUSED if verdict == "refused" else TAKEN

    return nullcontext(Target([at.to_bytes(2, "big") + step.update for at, step in enumerate(steps)], run))


def merge() -> Opening:
    """Updates of a member for documents of ours: slots and text. Two bytes choose the document."""
    steps = _own_steps()

    def run(data: bytes) -> str:
        state, _, _ = steps[int.from_bytes(data[:2], "big") % len(steps)]
        document = Document.load(state, *ANNE)
        others = [slot for slot in document.slots() if slot.writer != BEN[1]]
        try:
            foreign.merge(document, data[2:], *BEN)
        except PeerError:
            return REFUSED
        kept = [slot for slot in document.slots() if slot.writer != BEN[1]]
        demand(all(slot in others for slot in kept), "another's slots were changed")
        again = Document.load(document.state(), *ANNE)
        demand(again.content_hash(1) == document.content_hash(1), "the saved document reads differently")
        demand(again.state_vector() == document.state_vector(), "the saved document lacks something")
        return TAKEN

    return nullcontext(Target([at.to_bytes(2, "big") + update for at, (_, update, _) in enumerate(steps)], run))


def _own_steps() -> list[tuple[bytes, bytes, str]]:
    """(state, an update that Ben wrote to it, the text after it)"""
    rng = random.Random(1)
    steps = []
    for _ in range(12):
        document = Document.new(*ANNE)
        document.bear({"content": "one", "tags": ["a"], "n": 3}, 1 << 20)
        for at in range(8):
            state = document.state()
            writer = Document.load(state, *BEN)
            match rng.randrange(6):
                case 0:
                    writer.set("content", {"a": [1, 2.5, None]}, (at + 2) << 20)
                case 1:
                    writer.add("tags", "b", (at + 2) << 20)
                case 2:
                    writer.increment("count", rng.randrange(-9, 9), (at + 2) << 20)
                case _:
                    writer.insert_text(rng.randint(0, len(writer.text())), rng.choice(("hello", "é€", "a😀b")))
                    if rng.random() < 0.4:
                        writer.delete_text(rng.randrange(len(writer.text())), 1)
            update = writer.take_update()
            assert update is not None
            foreign.merge(document, update, *BEN)
            steps.append((state, update, document.text()))
            document.insert_text(0, "A")
    return steps


def birth() -> Opening:
    """What is read as a birth without Yrs is what the walker, Yrs and a document make of it."""
    records: list[dict[str, Any]] = [
        {}, {"content": "x"}, {"n": 1, "f": 0.5, "big": (1 << 53) - 1, "minus": -70, "yes": True, "none": None},
        {"list": [1, [2, {"a": "é😀"}]], "map": {"": {}, "k": [[]]}}, {"long": "word " * 100},
    ]  # fmt: skip

    def run(data: bytes) -> str:
        born = read_birth(data, *BEN)
        document = Document.new(*ANNE)
        try:
            foreign.merge(document, data, *BEN)
            slots = document.slots()
        except PeerError:
            demand(born is None, "a birth was read that is refused elsewhere")
            return REFUSED
        if born is None:
            return TAKEN
        demand(len(slots) == 1 and document.malformed == 0, "a birth was read where there is something else")
        demand((slots[0].hlc, slots[0].value) == born, "a birth reads differently in Yrs")
        rewritten = read_birth(write_birth(*BEN, born), *BEN)
        demand(rewritten == born, "a birth does not survive being written")
        return "birth"

    return nullcontext(Target([write_birth(*BEN, Birth((1 + at) << 20, r)) for at, r in enumerate(records)], run))


# Feeds

AUTHOR: Final = Identity.from_seed(b"f" * 32)
FAMILY, TAG, KEY_ID, KEY, INCARNATION = b"F" * 16, b"T" * 16, b"K" * 8, b"k" * 32, b"I" * 8


def entries_of(count: int = 6) -> list[Entry]:
    """A feed with all that a header may hold."""
    rng = random.Random(2)
    made: list[Entry] = []
    other = Head(b"o" * 32, b"i" * 8, 7, b"h" * 32)
    for seq in range(1, count + 1):
        operations = [Operation(f"document {n}", 1, "update", rng.randbytes(40 * n * n)) for n in range(seq % 4)]
        entry = write_entry(
            family=FAMILY, tag=TAG, device=AUTHOR.device, incarnation=INCARNATION, seq=seq,
            prev=made[-1].header.hash if made else GENESIS, deps=[other] if seq % 2 else [], hlc=seq << 20,
            key_id=KEY_ID, key=KEY, erase=[Erase(b"o" * 32, b"i" * 8, 3, 0, b"e" * 32)] if seq % 3 == 0 else [],
            operations=operations, marks=[b"m" * 16] * len(operations), sign=AUTHOR.sign, random=rng.randbytes,
        )  # fmt: skip
        made.append(entry)
    return made


def entry() -> Opening:
    entries = entries_of()
    seeds = [encode_entry(one) for one in entries]
    erased = Erased(b"d" * 16, 1)
    seeds += [encode_entry(Entry(one.header, one.signature, (erased,) * len(one.items))) for one in entries]
    read = decoder(decode_entry, encode_entry)

    def run(data: bytes) -> str:
        verdict = read(data)
        if verdict is TAKEN:
            try:
                verify_entry(decode_entry(data))
            except PeerError:
                return "unsigned"
            demand(any(decode_entry(data).header == one.header for one in entries), "a forged header verifies")
        return verdict

    return nullcontext(Target(seeds, run, values=True))


def run_of_entries() -> Opening:
    entries = entries_of()
    runs = [Run(entries[0].header.feed, tuple(entries[start : start + 3])) for start in range(4)]
    read = decoder(lambda raw: decode_run(raw, TAG), encode_run)
    return nullcontext(Target([encode_run(one) for one in runs], read, values=True))


def fork() -> Opening:
    one = entries_of(1)[0]
    other = write_entry(
        family=FAMILY, tag=TAG, device=AUTHOR.device, incarnation=INCARNATION, seq=1, prev=GENESIS, deps=[], hlc=9,
        key_id=KEY_ID, key=KEY, erase=[], operations=[], sign=AUTHOR.sign, random=bytes,
    )  # fmt: skip
    return nullcontext(Target([encode_fork(prove_fork(one, other))], decoder(decode_fork, encode_fork), True))


def manifest() -> Opening:
    heads = [(*entry.header.head, entry.signature) for entry in entries_of(1)]
    made = [
        write_manifest(
            family=FAMILY, tag=TAG, device=AUTHOR.device, hlc=1 << 20, heads=heads[:count],
            documents=[(bytes([n]) * 16, n + 1, b"s" * 32, n << 20, bytes([n % 3]) * 32) for n in range(4 * count)],
            tombstones=[(bytes([n]) * 16, n + 1) for n in range(count)], sign=AUTHOR.sign,
        )
        for count in (0, 1, 2)
    ]  # fmt: skip
    read = decoder(decode_manifest, encode_manifest)

    def run(data: bytes) -> str:
        verdict = read(data)
        if verdict is TAKEN:
            got = decode_manifest(data)
            tables = (got.heads, got.documents, got.tombstones, got.creators)
            demand(all(row is not None for table in tables for row in table), "a row cannot be read")
            try:
                verify_manifest(got)
            except PeerError:
                return "unsigned"
            demand(any(got.raw == one.raw for one in made), "a forged manifest verifies")
        return verdict

    return nullcontext(Target([encode_manifest(one) for one in made], run, True))


def msgpack_values() -> Opening:
    """The two readers of msgpack, beside msgpack's own."""
    values: list[Any] = [
        None,
        [1, b"x", "y", [True, {"a": 1, b"b": [0.5]}]],
        {"k": [[[]]]},
        [list(range(40))],
        -(1 << 40),
    ]

    def run(data: bytes) -> str:
        verdict = REFUSED
        for read in (
            lambda raw: unpack(raw, max_bytes=1 << 16, max_depth=8, max_elements=256),
            lambda raw: wire.unpack(raw, 1 << 16),
        ):
            try:
                value = read(data)
            except PeerError:
                continue
            verdict = TAKEN
            raw = msgpack.packb(value)
            demand(msgpack.packb(msgpack.unpackb(raw, strict_map_key=False)) == raw, "a value is no msgpack")
            demand(_depth(value) <= 16, "a value is nested too deep")
        return verdict

    return nullcontext(Target([pack(value) for value in values], run, values=True))


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


def statement() -> Opening:
    keys = (SealedKey("own", b"s" * 80), SealedKey("family", b"t" * 80))
    made = [
        Found(b"n" * 16, "Anne's laptop", keys, "laptop"),
        Admit(b"d" * 32, "phone", "limited", "phone", keys),
        Revoke(b"d" * 32, ((b"T" * 16, b"I" * 8, 4), (b"U" * 16, b"I" * 8, 0))),
    ]
    read = decoder(decode_statement, encode_statement)
    return nullcontext(Target([encode_statement(one) for one in made], read, values=True))


# Links


def _messages() -> list[bytes]:
    """What two replicas say to each other, met for the first time and with much to tell."""
    heard: list[bytes] = []
    a, b = MemoryReplica(1), MemoryReplica(2)
    for replica in (a, b):
        for _ in range(5):
            replica.write(replica.tags[0], b"payload")
    ends = [End(a, b.device), End(b, a.device)]
    for end in ends:
        end.handle(Opened())
    for _ in range(40):
        for end, other in (ends, ends[::-1]):
            while end.out:
                raw = end.out.popleft()
                heard.append(raw)
                other.handle(Received(raw))
    more = [
        message.Manifest(TAG, b"raw", 3), message.WantBodies(TAG, (b"k" * 16,)),
        message.Bodies(TAG, (message.Body(b"k" * 16, 1, b"body"),), 4), message.Bye("over", "done"),
    ]  # fmt: skip
    return [*heard, *(message.encode(one) for one in more)]


def session_message() -> Opening:
    read = decoder(message.decode, None)

    def run(data: bytes) -> str:
        verdict = read(data)
        if verdict is TAKEN:
            got = message.decode(data)
            if not isinstance(got, message.Unknown):
                demand(message.decode(message.encode(got)) == got, "a message does not survive being encoded")
        return verdict

    return nullcontext(Target(_messages(), run, True))


def session() -> Opening:
    """One session hears a msgpack list of messages, in its ordinary state or before the greeting."""
    messages = _messages()
    peer = MemoryReplica(2)
    seeds = [pack([0, *messages[start : start + 3]]) for start in range(0, len(messages), 2)] + [pack([1, messages[0]])]

    def run(data: bytes) -> str:
        try:
            heard = msgpack.unpackb(data, strict_map_key=False)
        except (ValueError, TypeError, msgpack.UnpackException):
            return REFUSED
        if not isinstance(heard, list):
            return REFUSED
        replica = MemoryReplica(1)
        end = End(replica, peer.device)
        end.handle(Opened())
        if heard[:1] != [1]:
            end.handle(Received(messages[1] if len(messages) > 1 else messages[0]))
        for raw in heard[1:8]:
            if isinstance(raw, bytes):
                end.handle(Received(raw))
        end.wait(3_000)
        end.handle(Tick())
        return "over" if end.session.state == "over" else TAKEN

    return nullcontext(Target(seeds, run, True))


def channel() -> Opening:
    """Frames of one connection, each led by its length in two bytes."""
    config = Config()
    hello = frame.encode_hello(frame.Hello(b"r" * 8, 1 << 20, 1 << 16, (b"s" * 8, b"t" * 8)))
    whole = frame.encode_data(frame.Kind.SINGLE, frame.Lane.BULK, 0, 5, b"hello")
    parts = [
        frame.encode_data(frame.Kind.FIRST, frame.Lane.EMOTION, 1, 9, b"abc"),
        frame.encode_data(frame.Kind.MIDDLE, frame.Lane.EMOTION, 1, 3, b"def"),
        frame.encode_data(frame.Kind.LAST, frame.Lane.EMOTION, 1, 3, b"ghi"),
    ]
    rest = [
        frame.encode_token(frame.Kind.PING, 5), frame.encode_token(frame.Kind.CREDIT, 0),
        frame.encode_bare(frame.Kind.OPEN), frame.encode_bare(frame.Kind.BYE),
    ]  # fmt: skip
    seeds = [
        _framed([hello, whole, *parts, *rest]),
        _framed([hello, *rest]),
        _framed([whole]),
        _framed([hello, *parts]),
    ]

    def run(data: bytes) -> str:
        sent: list[bytes] = []
        here = Channel(config, lambda raw: sent.append(raw) is None, 0.0)
        here.greet(b"h" * 8, (b"r" * 8,))
        here.open()
        at = 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 2], "big")
            try:
                here.receive(data[at + 2 : at + 2 + size], 1.0)
            except PeerError:
                return REFUSED
            here.grant()
            here.flush()
            at += 2 + size
        demand(len(sent) <= 2 + len(data) // 2, "a frame was answered by several")
        return TAKEN

    return nullcontext(Target(seeds, run))


def _framed(frames: Sequence[bytes]) -> bytes:
    return b"".join(len(one).to_bytes(2, "big") + one for one in frames)


TARGETS: Final[dict[str, Callable[[], Opening]]] = {
    "walker": walker,
    "state-vector": state_vector,
    "yrs": yrs,
    "merge": merge,
    "birth": birth,
    "entry": entry,
    "run": run_of_entries,
    "fork": fork,
    "manifest": manifest,
    "msgpack": msgpack_values,
    "statement": statement,
    "message": session_message,
    "session": session,
    "channel": channel,
}
