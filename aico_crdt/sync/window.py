"""Back-pressure in bytes: how much may be on the way to a peer that has not acknowledged it.

Credit by cumulative acknowledgement, as in TCP's send window (RFC 9293, 3.8.6). Every message that carries data has a
serial number; an acknowledgement of one stands for all before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from aico_crdt.errors import Malformed


class Window:
    """Bytes sent and not acknowledged, at most `limit`: except that a single message larger than that may go alone."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._serial = 0
        self._waiting: deque[tuple[int, int]] = deque()

    @property
    def room(self) -> int:
        """Bytes that may still go, 0 or more."""
        return max(0, self.limit - self.used)

    def take(self, make: Callable[[int], bytes], reserve: int = 0) -> bytes | None:
        """The message that `make` builds for the next serial, now counted; None if it has to wait.

        Args:
            reserve: bytes to leave free for others; does not hold back a message that finds the window empty.
        """
        raw = make(self._serial + 1)
        if self.used and self.used + len(raw) > self.limit - reserve:
            return None
        self._serial += 1
        self.used += len(raw)
        self._waiting.append((self._serial, len(raw)))
        return raw

    def release(self, serial: int) -> int:
        """Bytes freed by an acknowledgement of `serial` and all before it; 0 for one that comes twice.

        Raises:
            Malformed: nothing of that number was sent.
        """
        if serial > self._serial:
            raise Malformed("The peer acknowledges a message that was never sent.")
        before = self.used
        while self._waiting and self._waiting[0][0] <= serial:
            self.used -= self._waiting.popleft()[1]
        return before - self.used
