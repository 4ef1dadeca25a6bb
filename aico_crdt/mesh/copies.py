"""What the running copies of one device said they hold, and what of it the store may note of the device.

An acknowledgement tells of one disk. While several runs of a device have links, the device holds what all of them have
said to hold; what was noted before is dropped when the second comes, since nobody knows whose word it was. So a receipt
may say less than is true, and no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from aico_crdt.feed.exchange import HeldHead
from aico_crdt.mesh.handler import Instance
from aico_crdt.store import StoreReplica

MAX_FEEDS: Final = 1 << 16
"""Feeds of which the word of one run is kept; what it says of others is not noted while it is not alone."""

Feed = tuple[bytes, bytes, bytes]
"""Collection tag, device, incarnation."""


class _Word(NamedTuple):
    """The last entry of a feed that a run holds, up to where it may lack something, and up to where it has carried out
    what that feed forgets."""

    seq: int
    hash: bytes
    lacking: int
    erased: int


class Copies:
    """The words of all runs that have links. Not thread-safe."""

    def __init__(self, replica: StoreReplica) -> None:
        self._replica = replica
        self._words: dict[bytes, dict[bytes, dict[Feed, _Word]]] = {}

    def came(self, peer: Instance) -> None:
        """A run has a link."""
        runs = self._words.setdefault(peer.device, {})
        runs[peer.run] = {}
        if len(runs) > 1 and peer.device != self._replica.device:
            self._replica.doubt(peer.device)

    def left(self, peer: Instance) -> None:
        """A run has none any more. The word of the last that is left counts again."""
        runs = self._words.get(peer.device, {})
        runs.pop(peer.run, None)
        if len(runs) == 1:
            self._replica.trust(peer.device)
            for words in runs.values():
                for tag in {feed[0] for feed in words}:
                    self._note(peer.device, tag, [feed for feed in words if feed[0] == tag])
        elif not runs:
            self._words.pop(peer.device, None)

    def acknowledged(
        self,
        peer: Instance,
        tag: bytes,
        heads: Sequence[HeldHead],
        erased: Sequence[tuple[bytes, bytes, int]],
    ) -> None:
        """Durably note what a run said, as far as it is true of all runs of its device. A copy of this very device
        tells nothing that a receipt counts."""
        if peer.device == self._replica.device:
            return
        words = self._words[peer.device][peer.run]
        gone = {(device, incarnation): seq for device, incarnation, seq in erased}
        said = []
        for device, incarnation, seq, digest, lacking in heads:
            feed = (tag, device, incarnation)
            word = _Word(seq, digest, lacking, gone.get(feed[1:], 0))
            earlier = words.get(feed)
            if earlier is not None:  # one of fewer entries has been overtaken
                newer = word if word.seq >= earlier.seq else earlier
                word = newer._replace(erased=max(word.erased, earlier.erased))
            elif len(words) >= MAX_FEEDS:
                continue
            words[feed] = word
            said.append(feed)
        self._note(peer.device, tag, said)

    def _note(self, device: bytes, tag: bytes, feeds: Sequence[Feed]) -> None:
        runs = self._words[device].values()
        heads, erased = [], []
        for feed in feeds:
            words = [words[feed] for words in runs if feed in words]
            if len(words) == len(runs):
                least = min(words)
                heads.append(HeldHead(*feed[1:], least.seq, least.hash, max(word.lacking for word in words)))
                erased.append((*feed[1:], min(word.erased for word in words)))
        if heads:
            self._replica.acknowledged(device, tag, heads, erased)
