"""All fuzz targets by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from property_tests.fuzz import decoders, stores
from property_tests.fuzz.decoders import Opening, Target

TARGETS: Final[dict[str, Callable[[], Opening]]] = {**decoders.TARGETS, **stores.TARGETS}
__all__ = ["TARGETS", "Opening", "Target"]
