"""The same verbs for asyncio: one commit for many, each writer on its own; cancelled ones all or nothing."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from aico_crdt.companion import AsyncStore, async_store
from aico_crdt.errors import Closed, InvalidValue, NotFound


async def test_a_thousand_writers_share_few_commits(store: Any) -> None:
    commits = store.counters().commits
    async with AsyncStore(store) as aio:
        ids = await asyncio.gather(*(aio.memories.add(f"m{n}") for n in range(1000)))
    assert len(set(ids)) == 1000
    assert len(store.memories.find(limit=2000)) == 1000
    assert store.counters().commits - commits < 100


async def test_one_that_fails_harms_no_other(store: Any) -> None:
    async with AsyncStore(store) as aio:
        shared = await aio.memories.add("shared")

        def fails(transaction: Any) -> None:
            transaction.edit("memory", shared, {"content": "wrong"})
            raise KeyError("on purpose")

        results = await asyncio.gather(
            aio.memories.edit(shared, importance=0.5),
            aio.write(fails),
            aio.memories.add("x", importance=7),
            aio.memories.edit("none", content="x"),
            aio.memories.edit(shared, confidence=0.25),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [type(None), KeyError, InvalidValue, NotFound, type(None)]
        row = await aio.get("memory", shared)
    assert (row["content"], row["importance"], row["confidence"]) == ("shared", 0.5, 0.25)


async def test_a_cancelled_write_is_done_or_not_and_never_half(store: Any) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(transaction: Any) -> None:
        transaction.create("memory", {"content": "one"}, id="one")
        begun.set()
        go_on.wait(5)
        transaction.create("memory", {"content": "two"}, id="two")

    async with AsyncStore(store) as aio:
        first = asyncio.create_task(aio.write(slow))
        await asyncio.to_thread(begun.wait, 5)
        waiting = [asyncio.create_task(aio.memories.add(f"m{n}")) for n in range(10)]
        await asyncio.sleep(0.02)
        first.cancel()
        for task in waiting[:5]:
            task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        results = await asyncio.gather(first, *waiting, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert {row.id for row in store.rows("memory")} >= {"one", "two"}  # its commit had begun
    assert {row["content"] for row in store.rows("memory")} == {"one", "two", *(f"m{n}" for n in range(5, 10))}


async def test_closing_finishes_what_waits(store: Any) -> None:
    aio = AsyncStore(store)
    tasks = [asyncio.create_task(aio.memories.add(f"m{n}")) for n in range(200)]
    await asyncio.sleep(0)
    await aio.close()
    await aio.close()
    assert len(await asyncio.gather(*tasks)) == 200
    with pytest.raises(Closed):
        await aio.memories.add("late")
    assert len(store.memories.find(limit=500)) == 200


async def test_who_waits_for_room_when_it_closes_is_told(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_store, "MAX_WAITING", 4)
    aio = AsyncStore(store)
    go_on = threading.Event()
    first = asyncio.create_task(aio.write(lambda transaction: go_on.wait(5)))
    tasks = [asyncio.create_task(aio.memories.add(f"m{n}")) for n in range(50)]
    await asyncio.sleep(0.02)
    closing = asyncio.create_task(aio.close())
    await asyncio.sleep(0.02)
    go_on.set()
    await asyncio.wait_for(asyncio.gather(first, closing), 10)
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    assert [type(result) for result in results] == [str] * 3 + [Closed] * 47
    assert len(store.memories.find(limit=500)) == 3


async def test_watching_from_a_cursor_and_live(store: Any) -> None:
    cursor = store.counters().change
    async with AsyncStore(store) as aio:
        await aio.memories.add("first")
        seen: list[str] = []

        async def follow() -> None:
            async for change in aio.watch("memory", cursor=cursor):
                seen.append(change.row["content"] if change.row else change.what)
                if len(seen) == 3:
                    return

        follower = asyncio.create_task(follow())
        await asyncio.sleep(0.05)
        second = await aio.memories.add("second")
        await asyncio.sleep(0.1)
        await aio.memories.forget(second)
        await asyncio.wait_for(follower, 5)
    assert seen == ["first", "second", "forgotten"]


async def test_a_watcher_may_be_cancelled(store: Any) -> None:
    async with AsyncStore(store) as aio:

        async def follow() -> None:
            async for _ in aio.watch():
                pass

        follower = asyncio.create_task(follow())
        await asyncio.sleep(0.05)
        follower.cancel()
        with pytest.raises(asyncio.CancelledError):
            await follower
        assert await aio.memories.add("goes on")


async def test_every_verb_is_there(store: Any) -> None:
    async with AsyncStore(store) as aio:
        talk = await aio.conversations.start(title="x")
        message = await aio.conversations.say(talk, "user", "hello")
        await aio.conversations.edit(message, text="hello!")
        assert [row["text"] for row in await aio.conversations.messages(talk)] == ["hello!"]
        assert (await aio.conversations.get(talk))["title"] == "x"
        assert len(await aio.conversations.recent()) == len(await aio.conversations.recent_messages()) == 1
        await aio.emotions.record("user", valence=0.0, arousal=0.5, confidence=1.0)
        assert (await aio.emotions.state("user")).subject == "user"
        assert len(await aio.emotions.history("user")) == 1
        assert await aio.emotions.subjects() == ["user"]
        await aio.devices.describe(location="desk")
        assert (await aio.devices.profile(store.device))["location"] == "desk"
        memory = await aio.memories.add("m", tags=["t"])
        assert [row.id for row in await aio.memories.find(tag="t")] == [memory]
        assert (await aio.read("memory", memory)) == (await aio.memories.get(memory))
        assert (await aio.receipt("memory", memory)).everywhere
        assert (await aio.wait("memory", memory, everywhere=True, timeout_s=1)).everywhere
        assert len(await aio.query("memory", "tag", "t", limit=5)) == 1
        await aio.forget("memory", memory, now=True)
        assert await aio.read("memory", memory) is None
        await aio.conversations.forget(talk)
        assert await aio.conversations.recent() == []
