"""A limited device (the family's kitchen tablet) remembers too: for the family, and without seeing the owner's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aico_crdt.companion import KINDS, Store
from aico_crdt.store import admit, found, join
from tests.store.conftest import CONFIG, Clock, exchange, identity_of


@pytest.fixture
def devices(fast_path: Path) -> Iterator[tuple[Store, Store]]:
    clock = Clock()
    owner, tablet = identity_of(0), identity_of(1)
    found(fast_path / "laptop", owner, KINDS, name="laptop", config=CONFIG, clock_ms=clock)
    with Store.open(fast_path / "laptop", owner, config=CONFIG, clock_ms=clock) as laptop:
        raw = admit(laptop, tablet.device, name="tablet", trust="limited")
        join(fast_path / "tablet", tablet, KINDS, raw, config=CONFIG, clock_ms=clock)
        with Store.open(fast_path / "tablet", tablet, config=CONFIG, clock_ms=clock) as kitchen:
            yield laptop, kitchen


def test_what_a_limited_device_says_goes_to_the_family(devices: tuple[Store, Store]) -> None:
    laptop, kitchen = devices
    talk = kitchen.conversations.start(title="Dinner")
    kitchen.conversations.say(talk, "user", "Soup?")
    memory = kitchen.memories.add("Soup on Mondays")
    assert kitchen.memories.get(memory).space == "family"
    exchange(laptop, kitchen)
    assert [m["text"] for m in laptop.conversations.messages(talk)] == ["Soup?"]
    assert laptop.memories.get(memory)["content"] == "Soup on Mondays"


def test_private_stays_private_on_a_limited_device(devices: tuple[Store, Store]) -> None:
    laptop, kitchen = devices
    memory = kitchen.memories.add("A surprise", privacy="private")
    assert kitchen.memories.get(memory).space == "local"
    exchange(laptop, kitchen)
    assert laptop.read("memory", memory) is None


def test_feelings_blend_over_spaces_where_both_are_seen(devices: tuple[Store, Store]) -> None:
    laptop, kitchen = devices
    laptop.emotions.record("user", valence=1.0, arousal=0.0, confidence=1.0, primary="joy")
    kitchen.emotions.record("user", valence=-1.0, arousal=0.0, confidence=1.0, primary="fear")
    exchange(laptop, kitchen)
    laptop.emotions.record("user", valence=1.0, arousal=0.0, confidence=1.0, primary="joy")
    exchange(laptop, kitchen)

    assert len(laptop.emotions.state("user").contributing_devices) == 2
    assert abs(laptop.emotions.state("user").valence) < 0.01
    # What the owner's devices perceive stays with them.
    assert kitchen.emotions.state("user").primary == "fear"
    assert len(kitchen.emotions.state("user").contributing_devices) == 1
