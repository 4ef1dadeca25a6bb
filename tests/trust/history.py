"""Directory histories for tests: who says what, having seen what."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from aico_crdt.trust import Admit, Family, Found, Record, Revoke, Statement, family_id, fold

NONCE = b"n" * 16
LIFE = b"life-one"
DIRECTORY = b"directory-tag..."


def device(name: str) -> bytes:
    """A device id; the fold checks no signatures, so none is needed."""
    return blake2b(name.encode(), digest_size=32).digest()


class History:
    """Records as a store would hand them to the fold: the clock of each is its true causal past.

    ``say("b", statement)`` has seen everything said so far; ``say(…, after=[x])`` only `x`, what that had seen, and
    its own author's earlier entries.
    """

    def __init__(self, founder: str = "a") -> None:
        self.records: list[Record] = []
        self.family = family_id(device(founder), NONCE)
        self.found = self.say(founder, Found(NONCE, founder, ()))

    def say(
        self,
        author: str,
        statement: Statement,
        after: Iterable[Record] | None = None,
        hlc: int | None = None,
        incarnation: bytes = LIFE,
    ) -> Record:
        feed = (device(author), incarnation)
        own = [record for record in self.records if (record.device, record.incarnation) == feed]
        clock: dict[tuple[bytes, bytes], int] = {feed: len(own) + 1}
        for seen in [*own, *(self.records if after is None else after)]:
            for each, seq in seen.clock.items():
                clock[each] = max(seq, clock.get(each, 0))
        number = len(self.records)
        digest = blake2b(f"{author} {number}".encode(), digest_size=32).digest()
        record = Record(*feed, len(own) + 1, number if hlc is None else hlc, digest, clock, statement)
        self.records.append(record)
        return record

    def admit(
        self,
        author: str,
        name: str,
        trust: str = "full",
        *,
        after: Iterable[Record] | None = None,
        hlc: int | None = None,
    ) -> Record:
        return self.say(author, Admit(device(name), name, trust, "mobile", ()), after, hlc)

    def revoke(
        self,
        author: str,
        name: str,
        *heads: tuple[bytes, bytes, int],
        after: Iterable[Record] | None = None,
        hlc: int | None = None,
    ) -> Record:
        return self.say(author, Revoke(device(name), heads), after, hlc)

    def fold(self) -> Family:
        return fold(self.family, self.records)

    def current(self) -> str:
        """The names of the current members, in order of rank."""
        return " ".join(member.name for member in self.fold().current())
