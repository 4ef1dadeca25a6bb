"""How long to wait before dialing again. Pure: randomness is an argument.

Waits double between two bounds. Each is drawn from the upper half of its range ("equal jitter"), so that many devices
that lost one hub do not come back in one instant.
"""

from __future__ import annotations

from collections.abc import Callable


class Backoff:
    """The waits before one peer is dialed again."""

    def __init__(self, min_ms: int, max_ms: int, random: Callable[[], float]) -> None:
        """`random` yields numbers in [0, 1)."""
        self._min_ms, self._max_ms, self._random = min_ms, max_ms, random
        self._wait_ms = min_ms

    def next_ms(self) -> float:
        """The wait before the next attempt; the one after it is twice as long, up to the cap."""
        wait_ms = self._wait_ms
        self._wait_ms = min(2 * wait_ms, self._max_ms)
        return wait_ms * (0.5 + self._random() / 2)

    def held(self, duration_ms: float) -> None:
        """A connection held for `duration_ms`. Longer than the wait would be now, it starts the waits anew:
        one that keeps breaking at once is still dialed ever more seldom."""
        if duration_ms >= self._wait_ms:
            self._wait_ms = self._min_ms
