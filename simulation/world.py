"""One seed: a family of devices, their network, their clock, and the steps they live through.

Every step draws from a source of its own, so that a step left out does not change what the others choose.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from aico_crdt.store import membership
from aico_crdt.trust import Identity
from simulation import faults
from simulation.device import CONFIG, Device
from simulation.finding import Crash, Finding
from simulation.kinds import KINDS
from simulation.ledger import Ledger
from simulation.network import MAX_DELIVERIES, Frame, Network
from simulation.oracle import Oracle
from simulation.shell import Talk
from simulation.workload import Workload

START_MS: Final = 1_800_000_000_000
TICK_MS: Final = 1_000
REDIAL_MS: Final = 3_000
PAUSES_MS: Final = (1, 5, 20, 50, 100, 300, 700, 2_000, 6_000)


@dataclass(slots=True)
class Link:
    """What two devices, by their numbers, want. `number` names the link that stands, 0 while there is none; it is
    dialled again after `redial_ms`."""

    ends: tuple[int, int]
    number: int = 0
    redial_ms: int = 0

    def other(self, end: int) -> int:
        return self.ends[0] if self.ends[1] == end else self.ends[1]


class World:
    """The devices of one seed. Use as a context manager: it closes all stores."""

    def __init__(
        self, seed: int, root: Path, *, devices: int = 5, without: Collection[str] = (), mixed: bool = False
    ) -> None:
        self.seed = seed
        self.root = root
        self.without = frozenset(without)
        self.mixed = mixed
        self.counts: Counter[str] = Counter()
        self.oracle = Oracle()
        self.ledger = Ledger()
        self.workload = Workload(self.ledger, self.counts)
        self.random = random.Random(f"world {seed}")
        self.network = Network(random.Random(f"network {seed}"), self.counts)
        self.network.now_ms = START_MS
        self.devices: list[Device] = []
        self.links: dict[tuple[int, int], Link] = {}
        self.trace: list[str] = []
        self.hostile: set[str] = set()
        self.admitters: set[Device] = set()
        self._hang_ups: list[tuple[int, int]] = []
        self._open: dict[int, Link] = {}
        self._dialled = 0
        self._scratch = 0
        chance = random.Random(f"plan {seed}")
        self.disks_go_back = chance.random() < 0.5
        self._found(chance, devices)

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        for device in self.devices:
            device.fuse = None
            device.stop()

    def scratch(self, name: str) -> Path:
        """A new place beside the stores."""
        self._scratch += 1
        return self.root / f"{name}-{self._scratch}"

    # Making a family

    def _found(self, chance: random.Random, count: int) -> None:
        limited = {chance.randrange(1, count)} | ({chance.randrange(1, count)} if chance.random() < 0.2 else set())
        first = self._device(0, "full")
        membership.found(
            first.path, first.identity, KINDS, name="device 0", config=CONFIG, clock_ms=first.clock_ms,
            random=first.random,
        )  # fmt: skip
        first.start()
        for number in range(1, count):
            self.admit(first, "limited" if number in limited else "full", started=True)
        for device in self.devices:
            device.later = chance.random() < 0.25
            device.formats = chance.choice(((1,), (1,), (1, 2)))
            if chance.random() < 0.3:
                device.offset_ms = chance.choice((-3_600_000, -60_000, 60_000, 200_000))
            device.stop()
            device.start()
        for one in self.devices:
            for other in self.devices[: one.number]:
                self.connect(one, other)

    def _device(self, number: int, trust: str) -> Device:
        identity = Identity.from_seed(random.Random(f"identity {self.seed} {number}").randbytes(32))
        path = self.root / f"store{number}"
        device = Device(self, number, identity, path, self.root / f"lease{number}", trust)
        device.frugal = trust == "limited"
        self.devices.append(device)
        return device

    def admit(self, admitter: Device, trust: str, *, started: bool) -> Device:
        """One more device, admitted and joined; it is up when `started`."""
        device = self._device(len(self.devices), trust)
        kind = "mobile" if trust == "limited" else "desktop"
        raw = membership.admit(
            admitter.store, device.identity.device, name=f"device {device.number}", trust=trust, device_type=kind
        )
        admitter.note_own({})
        membership.join(
            device.path, device.identity, KINDS, raw, config=CONFIG, clock_ms=device.clock_ms, random=device.random
        )
        if started:
            device.start()
            device.took(membership.decode_admission(raw).entries)
        return device

    # Surroundings of a device

    @property
    def now_ms(self) -> int:
        return self.network.now_ms

    def random_bytes(self, count: int) -> bytes:
        return self.random.randbytes(count)

    def chance(self, of: float) -> bool:
        return self.random.random() < of

    def carry(self, source: Device, talk: Talk, raw: bytes) -> None:
        link = self._open.get(talk.link)
        if link is None:
            return
        frame = Frame(talk.link, source.number, link.other(source.number), raw)
        if not self.network.send(frame):
            self._hang_ups.append((self.now_ms, talk.link))

    def hang_up(self, link: int, reason: str) -> None:
        self.counts[f"dropped: {reason}"] += 1
        self._hang_ups.append((self.now_ms, link))

    def recheck(self, device: Device) -> None:
        """As the node does: a link to who is no longer a member is cut."""
        family = device.store.directory.family
        for link in self.links.values():
            if not link.number or device.number not in link.ends:
                continue
            if not family.may_connect(self.devices[link.other(device.number)].identity.device):
                self._hang_ups.append((self.now_ms, link.number))

    # Links

    def connect(self, one: Device, other: Device) -> None:
        """These two shall have a link whenever they can."""
        self.links[one.number, other.number] = Link((one.number, other.number))

    def dial(self) -> None:
        """Open every link that is due and may be open: both up, and members to each other."""
        for link in self.links.values():
            one, other = (self.devices[number] for number in link.ends)
            if link.number or self.now_ms < link.redial_ms:
                continue
            if not all(a.up and b.up and a.knows(b) for a, b in ((one, other), (other, one))):
                continue
            self._dialled += 1
            link.number = self._dialled
            self._open[link.number] = link
            for a, b in ((one, other), (other, one)):
                self.on(a, partial(a.open_link, link.number, b.identity.device))

    def close(self, number: int) -> None:
        """Close a link at both ends."""
        link = self._open.pop(number, None)
        if link is None:
            return
        link.number = 0
        link.redial_ms = self.now_ms + self.random.randrange(1, REDIAL_MS)
        for end in link.ends:
            self.on(self.devices[end], partial(self.devices[end].close_link, number))

    def close_all(self) -> None:
        for number in list(self._open):
            self.close(number)

    def _hang_up_due(self) -> None:
        due = [number for at_ms, number in self._hang_ups if at_ms <= self.now_ms]
        self._hang_ups = [each for each in self._hang_ups if each[0] > self.now_ms]
        for number in due:
            self.close(number)

    # Life and death

    def on(self, device: Device, action: Callable[[], object]) -> None:
        """Let a device do something, if it is up; it may die of it."""
        if not device.up:
            return
        try:
            action()
        except Crash:
            if device.fuse is not None:
                self.counts["crash inside a step"] += 1
            self.kill(device)

    def kill(self, device: Device) -> None:
        """All processes of a device die; peers notice some time later."""
        device.stop()
        device.down_until_ms = self.now_ms + self.random.choice((1, 500, 5_000, 60_000))
        for link in self._open.values():
            if device.number in link.ends:
                self._hang_ups.append((self.now_ms + self.random.choice((0, 0, 300, 30_000)), link.number))

    def start(self, device: Device) -> None:
        device.start()
        self.counts["restart"] += 1

    # Time

    def advance(self, ms: int) -> None:
        """Let time pass: what is due arrives, who is due ticks."""
        until_ms = self.now_ms + ms
        for deliveries, frame in enumerate(self.network.due(until_ms)):
            self._deliver(frame)
            self._hang_up_due()
            if deliveries > MAX_DELIVERIES:
                raise Finding("the sessions talk without end", f"{deliveries} frames in {ms} ms")
        self._hang_up_due()
        for device in self.devices:
            if not device.up and self.now_ms >= device.down_until_ms:
                self.start(device)
            if device.up and self.now_ms - device.ticked_ms >= TICK_MS:
                device.ticked_ms = self.now_ms
                self.on(device, device.tick)
        self._hang_up_due()
        self.dial()

    def _deliver(self, frame: Frame) -> None:
        target = self.devices[frame.target]
        if self._open.get(frame.link) is not None:
            self.on(target, partial(target.receive, frame.link, frame.raw))

    # Steps

    def step(self, number: int) -> None:
        """Time passes, then one thing happens."""
        chance = random.Random(f"step {self.seed} {number}")
        self.advance(chance.choice(PAUSES_MS))
        what = faults.act(self, chance)
        self.trace.append(f"{number:>5} +{self.now_ms - START_MS:>12} ms  {what}")
