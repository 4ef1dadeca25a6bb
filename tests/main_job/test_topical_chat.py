"""The main job on real talk: 539 conversations, 11,681 messages with their speakers' own emotion labels.

Every speaker is a device: what one says is written there, so the two sides of a talk meet only by sync. Then three
devices part, write, and meet again. What they hold in the end is compared with the source file.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal, getcontext
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from aico_crdt.companion import Store
from aico_crdt.ids import device_name
from aico_crdt.store import Transaction
from aico_crdt.store.verify import verify
from tests.main_job.conftest import NAMES, Family, heal

BATCH = 400
START_MS = 1_530_000_000_000
FELT = {  # what a label says, as a model would give it: valence, arousal
    "Curious to dive deeper": (0.4, 0.5),
    "Neutral": (0.0, 0.2),
    "Surprised": (0.2, 0.8),
    "Happy": (0.8, 0.6),
    "Sad": (-0.7, 0.2),
    "Disgusted": (-0.6, 0.5),
    "Angry": (-0.7, 0.8),
    "Fearful": (-0.6, 0.7),
}


@dataclass
class Talk:
    """One conversation of the file: who said what, and how they felt, in order."""

    id: str
    place: int
    said: list[tuple[str, str, str]] = field(default_factory=list)

    def speaker(self, agent: str) -> int:
        """The place of the device on which `agent` speaks."""
        return (self.place + (agent == "agent_2")) % len(NAMES)

    def time_ms(self, turn: int) -> int:
        return START_MS + self.place * 3_600_000 + turn * 10_000


def talks_of(file: Path) -> list[Talk]:
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        found = json.load(stream)
    return [
        Talk(id, place, [(turn["agent"], turn["message"], turn["sentiment"]) for turn in talk["content"]])
        for place, (id, talk) in enumerate(found.items())
    ]


@dataclass
class Felt:
    """An independent account of what each device felt last."""

    latest: dict[str, tuple[int, float, float]] = field(default_factory=dict)

    def feel(self, device: str, time_ms: int, label: str) -> None:
        known = self.latest.get(device)
        if known is None or known[0] <= time_ms:
            self.latest[device] = (time_ms, *FELT[label])

    def blend(self, as_of_ms: int) -> tuple[Decimal, Decimal]:
        """Valence and arousal by the formula, to 50 digits: weight confidence 1, half-life half an hour, w0 0.1."""
        getcontext().prec = 50
        weights = [
            (Decimal(2) ** (Decimal(time_ms - as_of_ms) / Decimal(1_800_000)), Decimal(str(v)), Decimal(str(a)))
            for time_ms, v, a in self.latest.values()
        ]
        total = Decimal("0.1") + sum(w for w, _, _ in weights)
        return sum(w * v for w, v, _ in weights) / total, sum(w * a for w, _, a in weights) / total


def batched(store: Store, items: Iterator[Any], write: Callable[[Store, Any, Transaction], object]) -> None:
    """Write all items, BATCH of them with one commit."""
    while some := list(islice(items, BATCH)):
        with store.transaction() as transaction:
            for item in some:
                write(store, item, transaction)


def write_heads(talks: list[Talk], stores: list[Store]) -> None:
    for place, store in enumerate(stores):
        batched(store, (talk for talk in talks if talk.place % len(stores) == place), start)


def start(store: Store, talk: Talk, transaction: Transaction) -> None:
    time_ms = talk.time_ms(0)
    store.conversations.start(id=talk.id, title=talk.id, created_at=time_ms, updated_at=time_ms, within=transaction)


def write_messages(talks: list[Talk], stores: list[Store], felt: Felt) -> None:
    """Each speaker's messages on its device, with how each of the two felt in the end."""

    def say(store: Store, item: tuple[Talk, int], transaction: Transaction) -> None:
        talk, turn = item
        agent, text, label = talk.said[turn]
        time_ms = talk.time_ms(turn)
        store.conversations.say(
            talk.id, "user", text, id=f"{talk.id}.{turn}", source=agent, timestamp=time_ms, emotion={"primary": label},
            within=transaction,
        )  # fmt: skip
        if turn >= len(talk.said) - 2:
            feel(store, time_ms, label, felt, transaction)

    for place, store in enumerate(stores):
        turns = ((talk, turn) for talk in talks for turn in range(len(talk.said)))
        batched(store, (one for one in turns if one[0].speaker(one[0].said[one[1]][0]) == place), say)


def feel(store: Store, time_ms: int, label: str, felt: Felt, transaction: Transaction | None = None) -> None:
    valence, arousal = FELT[label]
    values = {"valence": valence, "arousal": arousal, "confidence": 1.0, "primary": label}
    store.emotions.record("user", timestamp=time_ms, history=False, within=transaction, **values)
    felt.feel(store.device_label, time_ms, label)


def check(stores: list[Store], talks: list[Talk], felt: Felt, as_of_ms: int) -> None:
    """Every device holds what the talks say and blends to the same feeling."""
    for store in stores:
        for talk in talks:
            rows = store.conversations.messages(talk.id, limit=1000)
            here = [(row.get("source"), row.get("text"), row.get("emotion")["primary"]) for row in rows]
            assert here == talk.said
    assert len({store.content_hash() for store in stores}) == 1
    states = [store.emotions.state("user", as_of_ms=as_of_ms) for store in stores]
    assert states[0] == states[1] == states[2]
    valence, arousal = felt.blend(as_of_ms)
    assert states[0].valence == pytest.approx(float(valence), abs=1e-6)
    assert states[0].arousal == pytest.approx(float(arousal), abs=1e-6)
    assert states[0].contributing_devices == tuple(sorted(device_name(store.device) for store in stores))


def test_every_message_and_label_is_on_all_three_devices(family: Family, shared_data: Callable[[str], Path]) -> None:
    talks = talks_of(shared_data("topical_chat_valid_freq.json.gz"))
    assert (len(talks), sum(len(talk.said) for talk in talks)) == (539, 11_681)
    stores, felt = family(), Felt()
    write_heads(talks, stores)
    heal(stores)
    write_messages(talks, stores, felt)
    assert len({store.content_hash() for store in stores}) == 3
    heal(stores)
    last_ms = talks[-1].time_ms(len(talks[-1].said))
    check(stores, talks, felt, last_ms)

    part(stores, talks, felt, last_ms)
    assert len({store.content_hash() for store in stores}) == 3
    heal(stores)
    check(stores, talks, felt, last_ms + 60_000)
    for store in stores:
        title = store.conversations.get(talks[0].id).conflicts["title"]
        assert {version.value for version in title} == {f"named on {name}" for name in NAMES}
    assert verify(stores[2]).clean


def part(stores: list[Store], talks: list[Talk], felt: Felt, last_ms: int) -> None:
    """Three devices write while none hears of another; `talks` is what they will hold together."""
    for place, (store, name) in enumerate(zip(stores, NAMES, strict=True)):
        store.conversations.edit(talks[0].id, title=f"named on {name}")
        feel(store, last_ms + place * 1000, ("Happy", "Sad", "Surprised")[place], felt)
        added = talks[1 + place]
        turn = len(added.said)
        store.conversations.say(
            added.id, "user", f"One more, {name}.", id=f"{added.id}.{turn}", source="agent_1",
            timestamp=added.time_ms(turn), emotion={"primary": "Neutral"},
        )  # fmt: skip
        added.said.append(("agent_1", f"One more, {name}.", "Neutral"))
        forgotten = talks[10 + place]
        store.conversations.forget(f"{forgotten.id}.3", now=True)
        del forgotten.said[3]
