"""What the walker accepts, Yrs applies as predicted; and it accepts all that Yrs writes.

``AICO_SOAK=n`` multiplies the damaged updates by n.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pycrdt import Doc

from aico_crdt.crdt.walker import decode_state_vector, pairs_of, walk, without_deletes
from aico_crdt.errors import Malformed
from property_tests.mutations import covers, judge
from property_tests.yjs_histories import Step, history

SOAK = int(os.environ.get("AICO_SOAK", "1"))
ROOT = Path(__file__).parent.parent


def known_after(*updates: bytes) -> dict[int, int]:
    doc: Doc[Any] = Doc()
    for update in updates:
        doc.apply_update(update)
    return decode_state_vector(doc.get_state())


@pytest.mark.parametrize("seed", range(40))
def test_whatever_yrs_writes_is_accepted_and_predicted(seed: int) -> None:
    for before, update, author in history(seed):
        known = known_after(before)
        walked = walk(update, known, author, overlap=author is None)
        assert walked.after(known) == known_after(before, update)
        assert walked.cuts.isdisjoint(pairs_of(before))
        assert without_deletes(update, 0, 0) == update
        doc: Doc[Any] = Doc()
        doc.apply_update(before)
        doc.apply_update(update)
        state = doc.get_update()
        whole = walk(state, {}, None)
        assert whole.after({}) == walked.after(known)
        assert covers(whole.deleted, walked.deleted)
        assert covers(whole.deleted, walk(before, {}, None).deleted)


@pytest.mark.parametrize("seed", range(6))
def test_nothing_valid_can_be_cut_short_or_continued(seed: int) -> None:
    rng = random.Random(seed)
    for before, update, author in history(seed, steps=6):
        known = known_after(before)
        for end in range(len(update)):
            with pytest.raises(Malformed):
                walk(update[:end], known, author, overlap=author is None)
        with pytest.raises(Malformed):
            walk(update + rng.randbytes(1), known, author, overlap=author is None)


@pytest.mark.parametrize("first_seed", [0, 10_000])
def test_what_is_accepted_of_damaged_and_forged_updates_does_what_was_predicted(first_seed: int) -> None:
    """In a process of its own: what slips through may be a segmentation fault."""
    command = [sys.executable, "-m", "property_tests.mutations", str(first_seed), str(10 * SOAK), "400"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60 * SOAK, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    *findings, tally = result.stdout.splitlines()
    assert findings == []
    counts = json.loads(tally)
    assert counts["fine"] > 200 * SOAK
    assert counts["refused"] > 200 * SOAK


@pytest.mark.parametrize(
    ("update", "claims", "verdict"),
    [
        ("0101050104010174016100", {"inserted": {5: (1, 2)}}, "state vector is not as predicted"),  # a gap: pending
        ("000105010002", {"deleted": ((5, 0, 2),)}, "a delete is pending"),
        ("0101050005010161017b00", {"inserted": {5: (0, 1)}}, "apply: "),  # no JSON
    ],
)
def test_the_judge_catches_a_credulous_walker(
    monkeypatch: pytest.MonkeyPatch, update: str, claims: dict[str, Any], verdict: str
) -> None:
    raw = bytes.fromhex(update)
    believed = dataclasses.replace(walk(b"\0\0", {}, 5), **claims)

    def credulous(seen: bytes, *arguments: Any, **options: Any) -> Any:
        return believed if seen == raw else walk(seen, *arguments, **options)

    monkeypatch.setattr("property_tests.mutations.walk", credulous)
    assert judge(Step(b"\0\0", b"", 5), raw).startswith(verdict)
