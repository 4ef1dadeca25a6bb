"""What a companion remembers: conversations, memories, emotions, devices."""

from __future__ import annotations

from aico_crdt.companion.async_store import AsyncStore
from aico_crdt.companion.emotions import EmotionState
from aico_crdt.companion.kinds import KINDS
from aico_crdt.companion.opening import open_store
from aico_crdt.companion.store import Store

__all__ = ["KINDS", "AsyncStore", "EmotionState", "Store", "open_store"]
