"""Replicated data types: documents of slots, and pure folds that read them. No disk, no network, no clock."""

from __future__ import annotations

from aico_crdt.crdt.add_wins_set import members, union
from aico_crdt.crdt.blend import Baseline, Blend, Reading, blend, readings
from aico_crdt.crdt.counter import tally, total
from aico_crdt.crdt.document import BORN, Document, Slot
from aico_crdt.crdt.register import (
    Candidate,
    Context,
    Field,
    Fold,
    Register,
    Resolver,
    device_first,
    last_writer,
    merge_by,
    record,
    register,
    tier_first,
)
from aico_crdt.crdt.text import Edit, difference, perform, replay, rewrite
from aico_crdt.crdt.value import canonical, plain
from aico_crdt.crdt.walker import Walked, walk

__all__ = [
    # documents
    "Document",
    "Slot",
    "BORN",
    "plain",
    "canonical",
    "walk",
    "Walked",
    # reading a record
    "record",
    "Field",
    "Candidate",
    "Register",
    "Fold",
    "register",
    "union",
    "members",
    "tally",
    "total",
    # settling a conflict
    "Resolver",
    "Context",
    "last_writer",
    "device_first",
    "tier_first",
    "merge_by",
    # emotion
    "Reading",
    "readings",
    "Baseline",
    "Blend",
    "blend",
    # text
    "Edit",
    "difference",
    "perform",
    "replay",
    "rewrite",
]
