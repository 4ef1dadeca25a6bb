"""A network of messages, for systems that leave it to their user to carry what they say."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

from bench.faults.system import Gone, Refused

DROPPED = 0.2
DOUBLED = 0.2
LONGEST_DELAY_S = 0.2

Deliver = Callable[[Any], None]


class Route:
    """From one machine to another, both ways. What is sent while it is cut is gone."""

    def __init__(self) -> None:
        self._up = True
        self._chance: random.Random | None = None

    def cut(self) -> None:
        self._up = False

    def roughen(self, seed: int) -> None:
        self._up, self._chance = True, random.Random(seed)

    def heal(self) -> None:
        self._up, self._chance = True, None

    @property
    def up(self) -> bool:
        return self._up

    @property
    def good(self) -> bool:
        return self._up and self._chance is None

    def delays_s(self) -> list[float]:
        """How late each copy of a message arrives; none at all when it is lost."""
        if not self._up:
            return []
        chance = self._chance
        if chance is None:
            return [0.0]
        if chance.random() < DROPPED:
            return []
        copies = 2 if chance.random() < DOUBLED else 1
        return [chance.random() * LONGEST_DELAY_S for _ in range(copies)]


class Post:
    """Delivers in a thread of its own, one message at a time, each when its delay has passed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int, Deliver, Any]] = []
        self._sent = 0
        self._busy = False
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def send(self, route: Route, deliver: Deliver, message: Any) -> None:
        with self._changed:
            for delay_s in route.delays_s():
                self._sent += 1
                self._waiting.append((time.monotonic() + delay_s, self._sent, deliver, message))
            self._changed.notify_all()

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Have something done by the delivering thread."""
        with self._changed:
            self._sent += 1
            self._waiting.append((time.monotonic() + delay_s, self._sent, lambda message: call(), None))
            self._changed.notify_all()

    def flush(self) -> None:
        """Until nothing is on its way."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._busy, 30)

    def stop(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                while not self._over and not self._due():
                    self._changed.wait(0.01 if self._waiting else None)
                if self._over:
                    return
                self._waiting.sort(key=lambda waiting: waiting[:2])
                _, _, deliver, message = self._waiting.pop(0)
                self._busy = True
            try:
                deliver(message)
            except (Gone, Refused):
                continue  # nobody there: a message lost

    def _due(self) -> bool:
        now = time.monotonic()
        return any(at <= now for at, *_ in self._waiting)
