"""What `aico-crdt demo` has its three devices write while they cannot hear each other.

Of the bundled month by name; of a person's own export by what is in it. Pure but for the ids it draws.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aico_crdt import ids
from aico_crdt.companion.imports import Record
from aico_crdt.companion.labels import space_for
from aico_crdt.store.directory import LOCAL

DEVICES: Final = ("laptop", "phone", "tablet")
TYPES: Final = {"laptop": "desktop", "phone": "mobile", "tablet": "mobile"}
MINUTE_MS: Final = 60_000

Write = tuple[str, dict[str, Any]]
"""A verb of :class:`aico_crdt.cli.demo_device.Device` and its arguments."""


class Placing:
    """Which device writes which record: the one it names. Others are spread over the three, in turn.

    Messages of a conversation that is private are written where it is: nobody else has it.
    """

    def __init__(self) -> None:
        self._known = {name: name for name in DEVICES}
        self._next = 0
        self._private: dict[str, str] = {}

    def device(self, record: Record) -> str:
        head = record.fields.get("conversation_id")
        if record.kind == "message" and head in self._private:
            return self._private[head]
        name = self._turn() if record.device is None else self._known.get(record.device)
        if name is None:
            assert record.device is not None
            name = self._known[record.device] = self._turn()
        if record.kind == "conversation" and record.id is not None and space_for(record.fields) == LOCAL:
            self._private[record.id] = name
        return name

    def _turn(self) -> str:
        self._next += 1
        return DEVICES[(self._next - 1) % len(DEVICES)]


@dataclass
class Glimpse:
    """What a story needs to know of the records: the first shared memories, the last shared conversation, the time."""

    memories: list[str] = field(default_factory=list)
    conversation: str | None = None
    last_ms: int = 0

    def see(self, record: Record) -> None:
        times = (value for name, value in record.fields.items() if name in ("timestamp", "created_at", "updated_at"))
        self.last_ms = max([self.last_ms, *(time for time in times if isinstance(time, int))])
        if record.id is None or record.kind not in ("memory", "conversation") or space_for(record.fields) == LOCAL:
            return
        if record.kind == "conversation":
            self.conversation = record.id
        elif len(self.memories) < 2:
            self.memories.append(record.id)


@dataclass(frozen=True)
class Story:
    """Who writes what. `before` is written by the laptop while all are linked; `meanwhile` by each alone."""

    before: Sequence[Write]
    meanwhile: dict[str, Sequence[Write]]
    edited: str
    forgotten: str
    said: str
    subject: str
    as_of_ms: int
    """When all of it has been written, by the clock of the story."""


NEXT_CHECKUP: Final = "01KKXJH6JD3AA3A9KTVP09G3F7"
EXAM_WORRY: Final = "01KME3MKX7WKSPTQZ0YARR5H8H"
WHAT_MARCH_WAS: Final = "01KN2DPQD1AY9C3QYTP5G1W4EB"


def household(glimpse: Glimpse, now_ms: int) -> Story:
    """The last evening of March: an appointment is moved twice, Juni wants one worry forgotten."""
    return _story(
        _evening(glimpse, now_ms),
        (),
        edited=(
            NEXT_CHECKUP,
            {"content": "Hedi's next cardiology appointment was moved to 28 April at 8:30; Mara drives her."},
            {"content": "Hedi's next cardiology appointment is on 21 April at 11:00, third floor; Tomás drives her."},
        ),
        forgotten=EXAM_WORRY,
        conversation=WHAT_MARCH_WAS,
        texts=("And before I forget: the practice has just called about Hedi.", "Who drives Hedi in April?"),
    )


def anyones(glimpse: Glimpse, now_ms: int) -> Story:
    """The same with what an export has; what it lacks is written first. Nothing of it says more than that."""
    before: list[Write] = []
    now = _evening(glimpse, now_ms)
    memories, conversation = list(glimpse.memories), glimpse.conversation
    while len(memories) < 2:
        memories.append(_id(now))
        before.append(("remember", {"content": f"A memory of the demo, number {len(memories)}.", "id": memories[-1]}))
    if conversation is None:
        conversation = _id(now)
        before.append(("start", {"id": conversation, "title": "A conversation of the demo"}))
    return _story(
        now,
        before,
        edited=(memories[0], {"user_note": "Noted on the laptop."}, {"user_note": "Noted on the tablet."}),
        forgotten=memories[1],
        conversation=conversation,
        texts=("Said on the laptop while it was alone.", "Said on the tablet while it was alone."),
    )


def _story(
    now: int,
    before: Sequence[Write],
    *,
    edited: tuple[str, dict[str, str], dict[str, str]],
    forgotten: str,
    conversation: str,
    texts: Iterable[str],
) -> Story:
    memory, on_laptop, on_tablet = edited
    here, there = texts
    said = _id(now)

    def feel(place: int, primary: str, valence: float, arousal: float, confidence: float) -> Write:
        values = {"primary": primary, "valence": valence, "arousal": arousal, "confidence": confidence}
        return "feel", {"subject": "user", "timestamp": now + place * MINUTE_MS, "intensity": 0.6, **values}

    def say(id: str, place: int, text: str) -> Write:
        values = {"role": "user", "type": "user_input", "timestamp": now + place * MINUTE_MS}
        return "say", {"conversation_id": conversation, "id": id, "text": text, **values}

    return Story(
        before,
        {
            "laptop": (
                ("edit", {"memory_id": memory, **on_laptop}),
                say(said, 1, here),
                feel(1, "relieved", 0.5, 0.3, 0.9),
            ),
            "phone": (("forget", {"memory_id": forgotten, "now": True}), feel(2, "content", 0.4, 0.2, 0.8)),
            "tablet": (
                ("edit", {"memory_id": memory, **on_tablet}),
                say(_id(now), 2, there),
                feel(3, "worried", -0.3, 0.6, 0.6),
            ),
        },
        edited=memory,
        forgotten=forgotten,
        said=said,
        subject="user",
        as_of_ms=now + 4 * MINUTE_MS,
    )  # fmt: skip


def _evening(glimpse: Glimpse, now_ms: int) -> int:
    """When the story begins: a moment ago, yet after everything recorded, whatever this machine's clock says."""
    return max(now_ms - 4 * MINUTE_MS, glimpse.last_ms + MINUTE_MS)


def _id(now: int) -> str:
    return ids.ulid(now, os.urandom(10))
