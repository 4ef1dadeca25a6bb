"""Repair, first half: feeds are whole from their floors to their heads again, or begin later.

An entry that is lost is treated as pruned, and with it all before it in its feed: documents keep what it said, and who
lacks it is brought up by manifest. The directory is never pruned: a store that lost a statement cannot be mended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from aico_crdt.errors import Damaged
from aico_crdt.feed import Header, decode_header
from aico_crdt.feed.header import NO_MARK
from aico_crdt.store import layout
from aico_crdt.store.directory import DIRECTORY, pairs
from aico_crdt.store.kind import Kind
from aico_crdt.store.records import Counters, FeedRecord, Records
from aico_crdt.trust import Space

if TYPE_CHECKING:
    from aico_crdt.store.repair import Lost, Repaired


class Held(NamedTuple):
    """An entry that is here."""

    arrival: int
    signature: bytes
    header: Header


class Feeds:
    """The feeds of a store that is mended. `again` are the numbers of collections of which the next manifest is wanted;
    `behind` those in which a feed may have lost its end, so that entries come which documents hold already."""

    def __init__(
        self,
        records: Records,
        counters: Counters,
        lost: Lost,
        done: Repaired,
        spaces: Sequence[Space],
        kinds: Sequence[Kind],
    ) -> None:
        self._records = records
        self._counters = counters
        self._lost = lost
        self._done = done
        self._tags = [space.tag(kind) for kind, space in pairs(spaces, kinds)]
        self._directory_tag = next((space.tag(DIRECTORY) for space in spaces if space.name == DIRECTORY), b"")
        self.numbers: dict[bytes, int] = {}
        self.entries: dict[int, dict[int, Held]] = {}
        self.names: dict[int, tuple[int, bytes, bytes]] = {}
        self.again: set[int] = set()
        self.behind: set[int] = set()
        for key, value in records.scan(b"E"):
            number, seq = layout.AT.unpack(key[1:])
            self.entries.setdefault(number, {})[seq] = Held(
                int.from_bytes(value[:8], "big"), value[8:72], decode_header(value[72:])
            )

    def family(self) -> bytes | None:
        """The family that the entries name."""
        for held in self.entries.values():
            for entry in held.values():
                return entry.header.family
        return None

    def mend(self, *, anew: bool) -> None:
        """Numbers of collections, feeds, arrivals, what others acknowledged.

        Args:
            anew: the directory goes as a whole: it comes from elsewhere.
        """
        self._number()
        if anew:
            self._drop_directory()
        self._drop_entries_without_items()
        self._settle()

    def _settle(self) -> None:
        self._feeds()
        self._arrivals()
        for key, value in list(self._records.scan(b"P")):
            feed = self._feed(int.from_bytes(key[33:], "big"))
            if len(value) < 8 or feed is None or int.from_bytes(value[:8], "big") > feed.seq:
                self._records.delete(key)

    def header(self, number: int, seq: int) -> Header | None:
        held = self.entries.get(number, {}).get(seq)
        return None if held is None else held.header

    def _number(self) -> None:
        records = self._records
        for key, value in records.scan(b"K"):
            self.numbers[key[1:]] = int.from_bytes(value, "big")
        for key, value in records.scan(b"F"):
            number = FeedRecord.unpack(value).number
            self.names[number] = (int.from_bytes(key[1:3], "big"), key[3:35], key[35:43])
        for key, value in records.scan(b"G"):
            self.names.setdefault(
                int.from_bytes(key[1:], "big"), (int.from_bytes(value[:2], "big"), value[2:34], value[34:42])
            )
        for feed, held in self.entries.items():
            header = next(iter(held.values())).header
            if header.tag not in self.numbers and feed in self.names:
                self.numbers[header.tag] = self.names[feed][0]
            if header.tag in self.numbers:
                self.names.setdefault(feed, (self.numbers[header.tag], header.device, header.incarnation))
        self._counters.collection = max([self._counters.collection, *self.numbers.values()])
        for number, _, _ in self.names.values():
            self._counters.collection = max(self._counters.collection, number)
        self._number_the_rest()
        for tag, number in self.numbers.items():
            records.put(layout.collection(tag), layout.COLLECTION.pack(number))

    def _number_the_rest(self) -> None:
        """Collections whose number is lost and that no entry names. A number that is in use belongs to one of them."""
        used = {number for number, _, _ in self.names.values()}
        for letter in (b"D", b"T", b"X", b"O"):
            used |= {int.from_bytes(key[1:3], "big") for key, _ in self._records.scan_raw(letter)}
        unnamed = sorted(used - set(self.numbers.values()))
        unknown = [tag for tag in self._tags if tag not in self.numbers]
        if unnamed and len(unknown) == 1:
            self.numbers[unknown.pop()] = unnamed.pop()
        if unnamed and unknown:
            raise Damaged("It is not known any more which records are of which collection.")
        for tag in unknown:
            self._counters.collection += 1
            self.numbers[tag] = self._counters.collection

    @property
    def directory(self) -> int:
        """The number of the directory's collection."""
        return self.numbers[self._directory_tag]

    def _drop_entries_without_items(self) -> None:
        """An entry that lost an item goes as a whole. In the directory, whose entries everybody keeps, an item of a
        document is asked for again instead."""
        for feed, held in self.entries.items():
            in_directory = feed in self.names and self.names[feed][0] == self.directory
            for seq, entry in list(held.items()):
                for index, item in enumerate(entry.header.items):
                    place = layout.item(feed, seq, index)
                    gone = self._lost.has(place) and self._records.get(place) is None
                    if gone and not (in_directory and item.mark != NO_MARK):
                        self._drop(feed, seq)
                        break

    def give_up(self, entries: Iterable[tuple[int, int]]) -> None:
        """Treat entries as lost: their items do not open, or belong to nothing."""
        for feed, seq in entries:
            if seq in self.entries.get(feed, {}):
                self._drop(feed, seq)
        self._settle()

    def _drop(self, feed: int, seq: int) -> None:
        self._records.delete(layout.entry(feed, seq))
        for index in range(len(self.entries[feed].pop(seq).header.items)):
            self._records.delete(layout.item(feed, seq, index))
            self._records.delete(layout.gap(feed, seq, index))

    def _drop_directory(self) -> None:
        records, prefix = self._records, layout.COLLECTION.pack(self.directory)
        for feed in [feed for feed, name in self.names.items() if name[0] == self.directory]:
            for seq in list(self.entries.get(feed, ())):
                self._drop(feed, seq)
            records.delete(layout.feed(*self.names.pop(feed)))
            records.delete(layout.feed_name(feed))
        for letter in (b"A", b"D", b"T", b"O", b"X", b"Y"):
            for key, _ in list(records.scan_raw(letter + prefix)):
                records.delete(key)
        for key, _ in list(records.scan_raw(b"U")):
            if key[9:11] == prefix:
                records.delete(key)

    def _feeds(self) -> None:
        records = self._records
        for feed, name in list(self.names.items()):
            stored = records.get(layout.feed(*name))
            record = FeedRecord.unpack(stored) if stored is not None else self._from_entries(feed, name[0])
            if record is None:
                records.delete(layout.feed_name(feed))
                del self.names[feed]
                continue
            held = self.entries.get(feed, {})
            for seq in [seq for seq in held if seq > record.seq]:
                self._drop(feed, seq)
            floor = record.seq + 1
            while floor - 1 >= record.floor and floor - 1 in held:
                floor -= 1
            if floor > record.floor:
                if name[0] == self.directory:
                    raise Damaged("A statement of the family is lost.")
                self._done.count("entries given up", floor - record.floor)
                record.floor = floor
            records.put(layout.feed(*name), record.pack())
            records.put(layout.feed_name(feed), layout.feed(*name)[1:])
        for feed in [feed for feed in self.entries if feed not in self.names]:
            for seq in list(self.entries[feed]):
                self._drop(feed, seq)

    def _from_entries(self, feed: int, collection: int) -> FeedRecord | None:
        """A feed whose record is lost, as its entries tell; None when there are none."""
        self.behind.add(collection)
        held = self.entries.get(feed)
        if collection == self.directory and not held:
            raise Damaged("Statements of the family are lost.")
        if not held:
            return None
        floor = seq = max(held)
        while floor - 1 in held:
            floor -= 1
        if collection == self.directory and floor != 1:
            raise Damaged("A statement of the family is lost.")
        head = held[seq]
        self._done.count("feeds found again")
        return FeedRecord(feed, floor, seq, head.header.hash, head.arrival, seq, 0, head.signature)

    def _feed(self, feed: int) -> FeedRecord | None:
        name = self.names.get(feed)
        stored = None if name is None else self._records.get(layout.feed(*name))
        return None if stored is None else FeedRecord.unpack(stored)

    def _arrivals(self) -> None:
        """Exactly one for each entry from its feed's floor on."""
        records = self._records
        wanted: dict[bytes, bytes] = {}
        for feed, held in self.entries.items():
            record = self._feed(feed)
            for seq, entry in held.items():
                if record is not None and seq >= record.floor:
                    wanted[layout.arrival(self.names[feed][0], entry.arrival)] = layout.AT.pack(feed, seq)
        for key, value in list(records.scan(b"A")):
            if wanted.pop(key, None) != value:
                records.delete(key)
        for key, value in wanted.items():
            records.put(key, value)
