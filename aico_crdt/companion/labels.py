"""Which space a record is born in, by the labels on it (the table "One vocabulary"): decided once, at birth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

PRIVATE_TAGS: Final = frozenset({"personal", "confidential"})


def space_for(fields: Mapping[str, Any]) -> str:
    """`local` for private data, `family` for what the family shares, `own` otherwise.

    The narrower label wins: a record tagged `personal` stays here even if it says `privacy: family`.
    """
    tags = fields.get("tags") or ()
    if fields.get("privacy") == "private" or any(tag in PRIVATE_TAGS for tag in tags):
        return "local"
    if fields.get("privacy") in ("family", "public") or fields.get("relationship_context") == "family":
        return "family"
    return "own"
