"""What the links tell, and of whom."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Instance(NamedTuple):
    """One running program of a device. Copies of a device share its id and its key, and differ in this."""

    device: bytes
    run: bytes
    """8 bytes that the program drew when it started its links."""


class Handler(Protocol):
    """Who hears of links. All is called on the loop; `on_message` for one peer is never called twice at once."""

    def on_up(self, peer: Instance) -> None:
        """Messages may be sent to `peer`."""

    async def on_message(self, peer: Instance, message: bytes) -> None:
        """A whole message. While it is awaited, the next one of the peer waits. A :class:`PeerError` raised here
        drops the link. Cancelled when the link is cut (a revocation, the end)."""

    def on_sent(self, peer: Instance, count: int) -> None:
        """`count` message bytes left the queue to `peer`."""

    def on_part(self, peer: Instance) -> None:
        """A part of a message from `peer` has come that is not whole yet."""

    def on_down(self, peer: Instance, reason: str) -> None:
        """The link is gone; what was queued to send is dropped."""
