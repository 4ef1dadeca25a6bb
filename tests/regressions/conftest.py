"""Families of stores on disk, as in the tests of the store."""

from __future__ import annotations

from tests.store.conftest import clock, family, kinds

__all__ = ["clock", "family", "kinds"]
