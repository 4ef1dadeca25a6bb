"""The public names: adding or removing one is a decision, and is made here."""

from __future__ import annotations

import importlib
import subprocess
import sys

import aico_crdt

PUBLIC = {
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
}
PACKAGES = ["crdt", "feed", "trust", "store", "companion", "sync", "mesh"]


def test_the_public_names_are_exactly_these() -> None:
    assert set(aico_crdt.__all__) == PUBLIC
    assert set(dir(aico_crdt)) == PUBLIC


def test_every_public_name_is_there_and_has_a_docstring() -> None:
    for name in PUBLIC - {"__version__"}:
        assert (getattr(aico_crdt, name).__doc__ or "").strip(), name


def test_every_package_names_what_it_offers_and_nothing_that_is_missing() -> None:
    for package in PACKAGES:
        module = importlib.import_module(f"aico_crdt.{package}")
        assert module.__all__, package
        assert len(set(module.__all__)) == len(module.__all__), package
        for name in module.__all__:
            assert hasattr(module, name), f"{package}.{name}"


def test_importing_the_package_loads_no_dependency() -> None:
    """Starting fast is part of the promise: the name alone must not pull in LMDB, ZeroMQ or Yrs."""
    code = "import sys, aico_crdt; print([m for m in ('lmdb', 'zmq', 'pycrdt', 'nacl', 'click') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
