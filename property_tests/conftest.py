"""Hypothesis profiles: ``HYPOTHESIS_PROFILE=thorough`` searches longer than `make test` may."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile("default", deadline=None, max_examples=100, print_blob=True)
settings.register_profile(
    "thorough",
    parent=settings.get_profile("default"),
    max_examples=10_000,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
