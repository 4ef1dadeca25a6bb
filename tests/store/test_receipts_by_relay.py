"""A device that was never met counts as holding a write once an entry it signed builds on that write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_what_a_signed_entry_depends_on_its_author_holds(family: Any, send: Callable[..., Any]) -> None:
    here, relay, far = family(3)
    memory = here.create("memory", {"c": 1})
    send(here, relay)
    send(relay, far)
    assert far.device not in here.receipt("memory", memory).on  # nobody has said so to us yet

    far.create("memory", {"c": 2})
    send(far, relay)
    send(relay, here)

    assert far.device in here.receipt("memory", memory).on
    assert here.receipt("memory", memory).everywhere


def test_an_entry_that_does_not_build_on_a_write_proves_nothing_of_it(family: Any, send: Callable[..., Any]) -> None:
    here, relay, far = family(3)
    far.create("memory", {"c": 2})  # before it could have heard of ours
    memory = here.create("memory", {"c": 1})
    send(far, relay)
    send(relay, here)
    assert here.receipt("memory", memory).on == ()
    assert not here.receipt("memory", memory).everywhere


def test_its_author_holds_an_entry(family: Any, send: Callable[..., Any]) -> None:
    """It commits before it sends, so what came from it is on its disk, whoever brought it."""
    here, relay, far = family(3)
    memory = far.create("memory", {"c": 1})
    send(far, relay)
    send(relay, here)
    assert set(here.receipt("memory", memory).on) >= {far.device}
