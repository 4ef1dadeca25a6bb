"""A replicated store for what an AI companion knows: written on any device, equal on all of them."""

from __future__ import annotations

__version__ = "0.1.0"
