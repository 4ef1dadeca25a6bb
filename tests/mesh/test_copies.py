"""What may be noted of a device of which several copies run."""

from __future__ import annotations

from collections.abc import Sequence

from aico_crdt.feed.exchange import HeldHead
from aico_crdt.mesh import Instance
from aico_crdt.mesh import copies as copies_module
from aico_crdt.mesh.copies import Copies

DEVICE, AUTHOR, TAG = b"D" * 32, b"A" * 32, b"T" * 16
FIRST, SECOND, THIRD = (Instance(DEVICE, bytes([n]) * 8) for n in (1, 2, 3))
FEED, OTHER = (AUTHOR, b"i" * 8), (AUTHOR, b"j" * 8)


class Noted:
    """The store: what it has noted of the device, the greatest of what it was told since it last had doubts."""

    device = b"O" * 32

    def __init__(self) -> None:
        self.held: dict[tuple[bytes, bytes], int] = {}
        self.erased: dict[tuple[bytes, bytes], int] = {}
        self.lacking: dict[tuple[bytes, bytes], int] = {}
        self.doubts: list[bytes] = []

    def doubt(self, device: bytes) -> None:
        self.held.clear()
        self.erased.clear()
        self.doubts.append(device)

    def trust(self, device: bytes) -> None:
        self.doubts.remove(device)

    def acknowledged(
        self, device: bytes, tag: bytes, heads: Sequence[HeldHead], erased: Sequence[tuple]
    ) -> None:
        assert (device, tag) == (DEVICE, TAG)
        for author, incarnation, seq, digest, lacking in heads:
            assert digest == bytes([seq]) * 32, "a head and its own hash"
            self.lacking[author, incarnation] = lacking
            self.held[author, incarnation] = max(seq, self.held.get((author, incarnation), 0))
        for author, incarnation, seq in erased:
            self.erased[author, incarnation] = max(seq, self.erased.get((author, incarnation), 0))


def made() -> tuple[Copies, Noted]:
    noted = Noted()
    return Copies(noted), noted  # type: ignore[arg-type]


def say(
    copies: Copies, who: Instance, seq: int, feed: tuple[bytes, bytes] = FEED, gone: int = 0, lacking: int = 0
) -> None:
    head = HeldHead(*feed, seq, bytes([seq]) * 32, lacking)
    copies.acknowledged(who, TAG, [head], [(*feed, gone)] if gone else [])


def test_the_word_of_a_device_that_runs_once_counts() -> None:
    copies, noted = made()
    copies.came(FIRST)
    say(copies, FIRST, 7, gone=3)
    assert (noted.held, noted.erased[FEED], noted.doubts) == ({FEED: 7}, 3, [])


def test_while_two_run_the_smaller_word_counts() -> None:
    copies, noted = made()
    copies.came(FIRST)
    say(copies, FIRST, 7, gone=5)
    say(copies, FIRST, 9, OTHER)
    copies.came(SECOND)
    assert noted.held == {}, "nobody knows whose word it was"
    say(copies, FIRST, 8, gone=5)
    assert noted.held == {}
    say(copies, SECOND, 4, gone=2)
    assert (noted.held, noted.erased) == ({FEED: 4}, {FEED: 2}), "of the other feed the second has said nothing"
    say(copies, SECOND, 20, gone=20)
    assert (noted.held, noted.erased) == ({FEED: 8}, {FEED: 5})


def test_what_one_of_them_lacks_is_lacking() -> None:
    copies, noted = made()
    for who, lacking in ((FIRST, 0), (SECOND, 3)):
        copies.came(who)
        say(copies, who, 7, lacking=lacking)
    say(copies, FIRST, 8)
    assert (noted.held, noted.lacking) == ({FEED: 7}, {FEED: 3})
    say(copies, SECOND, 5, gone=5)  # it was overtaken
    say(copies, FIRST, 8)
    assert (noted.held, noted.lacking) == ({FEED: 7}, {FEED: 3})


def test_a_third_begins_without_a_word() -> None:
    copies, noted = made()
    for who in (FIRST, SECOND):
        copies.came(who)
        say(copies, who, 5)
    copies.came(THIRD)
    assert noted.held == {}
    say(copies, THIRD, 6)
    assert noted.held == {FEED: 5}


def test_the_word_of_the_last_that_is_left_counts_again() -> None:
    copies, noted = made()
    for who, seq in ((FIRST, 8), (SECOND, 3)):
        copies.came(who)
        say(copies, who, seq)
    copies.left(SECOND)
    assert (noted.held, noted.doubts) == ({FEED: 8}, [])
    say(copies, FIRST, 9)
    assert noted.held == {FEED: 9}
    copies.left(FIRST)
    copies.came(SECOND)
    assert noted.doubts == []


def test_what_one_run_says_is_kept_up_to_a_bound(monkeypatch) -> None:
    monkeypatch.setattr(copies_module, "MAX_FEEDS", 2)
    copies, noted = made()
    copies.came(FIRST)
    copies.came(SECOND)
    for number in range(5):
        for who in (FIRST, SECOND):
            say(copies, who, 1, (AUTHOR, bytes([number]) * 8))
    assert len(noted.held) == 2
