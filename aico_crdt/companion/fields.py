"""The fields of each record a companion keeps: which there are, what they may hold, and what a wrong one is told."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from aico_crdt.errors import InvalidValue

MAX_TEXT_BYTES: Final = 256 * 1024
MAX_TAGS: Final = 256
MAX_TIME_MS: Final = (1 << 48) - 1

Check = Callable[[Any], str]
"""Returns what is wrong with a value, or an empty string."""


class Field(NamedTuple):
    """One field: its check, and whether a record must have it."""

    check: Check
    required: bool = False


def text(limit: int = MAX_TEXT_BYTES, *, empty: bool = False) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            return "is not text"
        if not value.strip() and not empty:
            return "is empty"
        return "" if len(value.encode("utf-8", "surrogatepass")) <= limit else f"is longer than {limit} bytes"

    return check


def one_of(*words: str) -> Check:
    return lambda value: "" if value in words else f"is not one of {', '.join(words)}"


def number(low: float, high: float) -> Check:
    def check(value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
            return "is not a number"
        return "" if low <= value <= high else f"is not between {low:g} and {high:g}"

    return check


def time(value: Any) -> str:
    """Unix milliseconds from 1970 to 10889."""
    if isinstance(value, bool) or not isinstance(value, int):
        return "is not a time in whole Unix milliseconds"
    return "" if 0 <= value <= MAX_TIME_MS else "is not a time after 1970"


def flag(value: Any) -> str:
    return "" if isinstance(value, bool) else "is not true or false"


def words(value: Any) -> str:
    if not isinstance(value, (list, tuple)) or not all(isinstance(word, str) and word for word in value):
        return "is not a list of words"
    if any(len(word.encode("utf-8", "surrogatepass")) > 256 for word in value):
        return "holds a word longer than 256 bytes"
    return "" if len(value) <= MAX_TAGS else f"has more than {MAX_TAGS} words"


def mapping(value: Any) -> str:
    return "" if isinstance(value, Mapping) else "is not a mapping"


_ID: Final = text(128)
_LINE: Final = text(1024)
_UNIT: Final = number(0, 1)

MESSAGE: Final[Mapping[str, Field]] = {
    "conversation_id": Field(_ID, True),
    "role": Field(one_of("user", "assistant", "system", "tool"), True),
    "type": Field(
        one_of(
            "user_input",
            "system_response",
            "system_notification",
            "thinking_aloud",
            "internal_reflection",
            "system",
        )
    ),
    "text": Field(text(), True),
    "source": Field(_LINE),
    "timestamp": Field(time, True),
    "interaction_device": Field(_LINE),
    "analysis": Field(mapping),
    "emotion": Field(mapping),
    "reply_to": Field(_ID),
    "model": Field(_LINE),
    "metadata": Field(mapping),
}
CONVERSATION: Final[Mapping[str, Field]] = {
    "title": Field(text(1024, empty=True)),
    "participants": Field(words),
    "tags": Field(words),
    "current_topic": Field(_LINE),
    "relationship_context": Field(_LINE),
    "archived": Field(flag),
    "created_at": Field(time, True),
    "updated_at": Field(time, True),
    "metadata": Field(mapping),
}
MEMORY: Final[Mapping[str, Field]] = {
    "content": Field(text(), True),
    "about": Field(_LINE),
    "key": Field(_LINE),
    "namespace": Field(_LINE),
    "context": Field(text()),
    "tags": Field(words),
    "category": Field(_LINE),
    "memory_type": Field(_LINE),
    "confidence": Field(_UNIT),
    "importance": Field(_UNIT),
    "emotional_tone": Field(_LINE),
    "user_note": Field(text()),
    "is_favorite": Field(flag),
    "is_immutable": Field(flag),
    "privacy": Field(one_of("public", "family", "private")),
    "relationship_context": Field(_LINE),
    "valid_from": Field(time),
    "valid_until": Field(time),
    "expires_at": Field(time),
    "superseded_by": Field(_ID),
    "source_conversation_id": Field(_ID),
    "source_message_id": Field(_ID),
    "device_id": Field(_LINE),
    "created_at": Field(time, True),
    "updated_at": Field(time, True),
    "metadata": Field(mapping),
}
READING: Final[Mapping[str, Field]] = {
    "timestamp": Field(time, True),
    "source": Field(_LINE),
    "primary": Field(_LINE),
    "secondary": Field(_LINE),
    "valence": Field(number(-1, 1), True),
    "arousal": Field(_UNIT, True),
    "dominance": Field(_UNIT),
    "intensity": Field(_UNIT),
    "confidence": Field(_UNIT, True),
    "modalities": Field(words),
    "half_life_s": Field(number(0.001, 10 * 365 * 86_400)),
    "context_id": Field(_ID),
    "trigger": Field(_LINE),
}
DEVICE: Final[Mapping[str, Field]] = {
    "friendly_name": Field(_LINE),
    "device_type": Field(one_of("mobile", "desktop", "server")),
    "companion_role": Field(one_of("primary", "mobile", "shared", "guest")),
    "ai_capabilities": Field(words),
    "relationship_context": Field(_LINE),
    "endpoints": Field(words),
    "tier": Field(one_of("raspberry_pi", "laptop", "workstation", "server")),
    "location": Field(_LINE),
    "specialization": Field(_LINE),
    "sync_preferences": Field(mapping),
}


def check(record: str, known: Mapping[str, Field], fields: Mapping[str, Any], *, whole: bool) -> dict[str, Any]:
    """`fields` without absent (None) ones, if each is known and holds what it may.

    Args:
        record: what it is, for the error.
        whole: a new record, which must have every required field; else an edit, where None clears a field.

    Raises:
        InvalidValue: names the field, what is wrong with it, and never its content.
    """
    for name, value in fields.items():
        field = known.get(name)
        if field is None:
            near = difflib.get_close_matches(str(name), known, 1)
            cure = f"Did you mean {near[0]!r}?" if near else f"Fields: {', '.join(known)}."
            raise InvalidValue(f"A {record} has no field {name!r}.", cure)
        wrong = field.check(value) if value is not None else "may not be empty" if field.required else ""
        if wrong:
            raise InvalidValue(f"The {name} of a {record} {wrong}.", "Correct it and try again.")
    if whole:
        lacking = [name for name, field in known.items() if field.required and fields.get(name) is None]
        if lacking:
            raise InvalidValue(f"A {record} needs {', '.join(lacking)}.", "Give it and try again.")
        return {name: _plain(value) for name, value in fields.items() if value is not None}
    return {name: _plain(value) for name, value in fields.items()}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
