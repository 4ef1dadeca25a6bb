"""A replicated store for what an AI companion knows: written on any device, equal on all of them.

Everything an app needs is here; the packages below are for who builds further.

- :func:`open_store`, :class:`Store`, :class:`AsyncStore`: the store of this device, its conversations, memories,
  emotions and devices.
- :class:`Row`, :class:`Version`, :class:`Change`, :class:`Receipt`, :class:`EmotionState`: what reading gives.
- :class:`Node`: the mesh this device is part of; loaded when it is asked for.
- :class:`Config`: every limit. :mod:`aico_crdt.errors`: every error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from aico_crdt.companion import AsyncStore, EmotionState, Store, open_store
    from aico_crdt.config import Config
    from aico_crdt.crdt import Baseline
    from aico_crdt.errors import AicoError
    from aico_crdt.mesh import Node, Peer
    from aico_crdt.store import Change, Receipt, Row, Transaction, Version
    from aico_crdt.trust import Identity

__all__ = [
    "AicoError",
    "AsyncStore",
    "Baseline",
    "Change",
    "Config",
    "EmotionState",
    "Identity",
    "Node",
    "Peer",
    "Receipt",
    "Row",
    "Store",
    "Transaction",
    "Version",
    "__version__",
    "open_store",
]

_HOMES = {
    "AicoError": "errors",
    "AsyncStore": "companion",
    "Baseline": "crdt",
    "Change": "store",
    "Config": "config",
    "EmotionState": "companion",
    "Identity": "trust",
    "Node": "mesh",
    "Peer": "mesh",
    "Receipt": "store",
    "Row": "store",
    "Store": "companion",
    "Transaction": "store",
    "Version": "store",
    "open_store": "companion",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used, so that importing a small part does not load all (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = __import__(f"{__name__}.{_HOMES[name]}", fromlist=[name])
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
