"""Made-up content, the same in every run: a household's messages and memories, by number."""

from __future__ import annotations

import json
import random
from functools import cache
from typing import Any

START_MS = 1_800_000_000_000
WORDS = (
    "tea", "garden", "rain", "letter", "window", "bicycle", "harvest", "lamp", "river", "morning", "quiet", "bread",
    "neighbour", "lesson", "violin", "summer", "blanket", "kitchen", "story", "apple", "winter", "candle", "train",
    "market", "sister", "cloud", "paper", "walk", "evening", "song",
)  # fmt: skip
ABOUT = ("anna", "ben", "clara", "household")
MESSAGES_EACH = 500
"""Messages of one conversation."""


def _rng(kind: str, number: int) -> random.Random:
    return random.Random(f"{kind} {number}")


def sentence(rng: random.Random, chars: int) -> str:
    """Words of at least `chars` characters together."""
    found: list[str] = []
    length = 0
    while length < chars:
        found.append(rng.choice(WORDS))
        length += len(found[-1]) + 1
    return " ".join(found)


def message(number: int) -> dict[str, Any]:
    """Fields of one message, without its conversation: 40 to 240 characters of text."""
    rng = _rng("message", number)
    return {
        "role": ("user", "assistant")[number % 2],
        "text": sentence(rng, rng.randint(40, 240)),
        "timestamp": START_MS + number * 1000,
    }


def memory(number: int) -> dict[str, Any]:
    """Fields of one memory: 300 to 500 bytes of JSON."""
    rng = _rng("memory", number)
    found = {
        "content": "",
        "about": ABOUT[number % len(ABOUT)],
        "tags": rng.sample(WORDS, 2),
        "category": rng.choice(("fact", "preference", "event")),
        "confidence": round(rng.random(), 2),
        "importance": round(rng.random(), 2),
        "created_at": START_MS + number * 1000,
        "updated_at": START_MS + number * 1000,
    }
    found["content"] = sentence(rng, rng.randint(310, 480) - len(as_json(found)))
    return found


def memory_id(number: int) -> str:
    return f"memory-{number:08}"


def message_id(number: int) -> str:
    return f"message-{number:08}"


def conversation_id(number: int) -> str:
    """The conversation of message `number`."""
    return f"conversation-{number // MESSAGES_EACH:06}"


def as_json(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


@cache
def messages(count: int) -> tuple[dict[str, Any], ...]:
    return tuple(message(number) for number in range(count))
