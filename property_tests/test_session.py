"""Sessions converge: whatever the network, the crashes and the order, after healing every replica holds every entry.

The specification is a set: the union of what was written anywhere. The world of `tests/sync/simulation.py` plays
network and shell; it also checks at every step that nothing is acknowledged that is not durable.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.sync.memory_replica import document_of
from tests.sync.simulation import Faults, World

CHANCES = st.sampled_from([0.0, 0.02, 0.1, 0.3])


@st.composite
def faults(draw: st.DrawFn, count: int) -> Faults:
    pairs = [(one, other) for one in range(count) for other in range(count) if one != other]
    return Faults(
        drop=draw(CHANCES),
        double=draw(CHANCES),
        cut=draw(st.sampled_from([0.0, 0.01, 0.05])),
        crash=draw(CHANCES),
        delay_ms=draw(st.sampled_from([1, 50, 2_000])),
        reorder=draw(st.booleans()),
        deaf=frozenset(draw(st.lists(st.sampled_from(pairs), max_size=2))),
    )


@st.composite
def topologies(draw: st.DrawFn, count: int) -> list[tuple[int, int]]:
    """A tree and perhaps more: everyone can reach everyone."""
    links = {(draw(st.integers(0, one - 1)), one) for one in range(1, count)}
    more = draw(st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=3))
    return sorted(links | {(min(pair), max(pair)) for pair in more if pair[0] != pair[1]})


@given(st.data(), st.integers(0, 2**32), st.integers(3, 5))
def test_after_healing_everyone_holds_everything_and_the_same(data: st.DataObject, seed: int, count: int) -> None:
    world = World(seed, count, links=data.draw(topologies(count)))
    for _ in range(data.draw(st.integers(1, 4))):
        world.faults = data.draw(faults(count))
        for _ in range(data.draw(st.integers(0, 12))):
            world.write(data.draw(st.integers(0, count - 1)), data.draw(st.sampled_from(world.tags)))
            world.run(data.draw(st.sampled_from([0, 1, 100, 20_000])))
    world.heal()
    for name in world.tags:
        written = {document_of(entry) for tag, entry in world.written if tag == name}
        for replica in world.replicas:
            assert set(replica.documents(name)) == written
            assert replica.heads(name) == world.replicas[0].heads(name)


@given(st.integers(0, 2**32), st.sampled_from([(0, 1), (1, 0)]), st.integers(0, 20))
def test_a_link_that_works_one_way_stays_quiet(seed: int, deaf: tuple[int, int], writes: int) -> None:
    world = World(seed, 2, faults=Faults(deaf=frozenset({deaf})))
    world.scribble(writes)
    before = world.messages
    world.run(120_000)
    assert world.messages - before < 500
    world.heal()
