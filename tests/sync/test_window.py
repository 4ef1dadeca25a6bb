"""Credit in bytes, against a list of what is out."""

from __future__ import annotations

import random

import pytest

from aico_crdt.errors import Malformed
from aico_crdt.sync.window import Window


def of(size: int) -> bytes:
    return b"x" * size


def test_takes_up_to_the_limit_and_no_more() -> None:
    window = Window(100)
    assert window.take(lambda serial: of(60)) == of(60)
    assert window.take(lambda serial: of(41)) is None
    assert window.take(lambda serial: of(40)) == of(40)
    assert (window.used, window.room) == (100, 0)


def test_a_message_larger_than_the_window_goes_alone() -> None:
    window = Window(100)
    assert window.take(lambda serial: of(500)) == of(500)
    assert window.take(lambda serial: of(1)) is None
    assert window.release(1) == 500
    assert window.take(lambda serial: of(1)) == of(1)


def test_a_reserve_is_left_to_others() -> None:
    window = Window(100)
    assert window.take(lambda serial: of(80), reserve=20)
    assert window.take(lambda serial: of(1), reserve=20) is None
    assert window.take(lambda serial: of(20))


def test_serials_are_counted_only_when_sent() -> None:
    window = Window(10)
    asked = []
    for size in (10, 10):
        window.take(lambda serial, size=size: asked.append(serial) or of(size))  # type: ignore[misc]
    window.release(1)
    window.take(lambda serial: asked.append(serial) or of(10))  # type: ignore[func-returns-value]
    assert asked == [1, 2, 2]


def test_an_acknowledgement_stands_for_all_before_it_and_counts_once() -> None:
    window = Window(100)
    for _ in range(3):
        window.take(lambda serial: of(30))
    assert window.release(2) == 60
    assert window.release(2) == 0
    assert window.release(1) == 0
    assert window.release(0) == 0
    assert window.release(3) == 30


def test_what_was_never_sent_cannot_be_acknowledged() -> None:
    window = Window(100)
    window.take(lambda serial: of(1))
    with pytest.raises(Malformed):
        window.release(2)


def test_used_is_what_is_out_whatever_happens() -> None:
    rng, window, out = random.Random(1), Window(1000), {}
    serial = 0
    for _ in range(2000):
        if rng.random() < 0.6:
            size = rng.randrange(1, 400)
            if window.take(lambda number, size=size: of(size)) is not None:  # type: ignore[misc]
                assert not out or sum(out.values()) + size <= 1000
                serial += 1
                out[serial] = size
            else:
                assert sum(out.values()) + size > 1000
        elif serial:
            acked = rng.randrange(0, serial + 1)
            window.release(acked)
            out = {number: size for number, size in out.items() if number > acked}
        assert window.used == sum(out.values())
