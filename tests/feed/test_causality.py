"""What an entry waits for, and what a new one depends on."""

from __future__ import annotations

from typing import Any

from aico_crdt.feed import Head, deps_since, missing


def head(name: bytes, seq: int, digest: bytes = b"h") -> Head:
    return Head(name * 32, b"I" * 8, seq, digest * 32)


def heads(*known: Head) -> dict[tuple[bytes, bytes], Head]:
    return {(one.device, one.incarnation): one for one in known}


def test_the_first_entry_waits_for_nothing(anna: Any) -> None:
    assert missing(anna.write(b"x").header, {}) == ()


def test_an_entry_waits_for_its_predecessor_by_name(anna: Any) -> None:
    first, second, third = (anna.write(b"x").header for _ in range(3))
    assert missing(third, heads(first.head)) == (second.head,)
    assert missing(third, {}) == (second.head,)
    assert missing(third, heads(second.head)) == ()
    assert missing(third, heads(third.head)) == ()


def test_an_entry_waits_for_the_dependencies_that_are_not_covered(anna: Any) -> None:
    anna.write(b"x")
    header = anna.write(b"y", deps=[head(b"A", 3), head(b"B", 5), head(b"C", 1)]).header
    before = Head(anna.device, anna.incarnation, 1, header.prev)
    assert missing(header, {}) == (before, head(b"A", 3), head(b"B", 5), head(b"C", 1))
    assert missing(header, heads(before, head(b"A", 4), head(b"B", 4))) == (head(b"B", 5), head(b"C", 1))
    assert missing(header, heads(before, head(b"A", 3), head(b"B", 9), head(b"C", 1))) == ()


def test_another_incarnation_of_a_device_covers_nothing(anna: Any) -> None:
    header = anna.write(b"x", deps=[head(b"A", 3)]).header
    other = head(b"A", 9)._replace(incarnation=b"J" * 8)
    assert missing(header, heads(other)) == (head(b"A", 3),)


def test_dependencies_are_what_changed_since_the_last_entry_sorted() -> None:
    own = (b"O" * 32, b"I" * 8)
    last = heads(head(b"A", 3), head(b"B", 5), head(b"O", 1))
    now = heads(head(b"O", 2), head(b"C", 1), head(b"B", 6), head(b"A", 3))
    assert deps_since(now, last, own) == (head(b"B", 6), head(b"C", 1))
    assert deps_since(now, {}, own) == (head(b"A", 3), head(b"B", 6), head(b"C", 1))
    assert deps_since(now, now, own) == ()


def test_an_earlier_incarnation_of_oneself_is_a_dependency() -> None:
    earlier = head(b"O", 9)._replace(incarnation=b"A" * 8)
    assert deps_since(heads(earlier, head(b"O", 1)), {}, (b"O" * 32, b"I" * 8)) == (earlier,)


def test_a_head_that_moved_to_another_branch_is_a_dependency() -> None:
    own = (b"O" * 32, b"I" * 8)
    assert deps_since(heads(head(b"A", 3, b"x")), heads(head(b"A", 3, b"y")), own) == (head(b"A", 3, b"x"),)
