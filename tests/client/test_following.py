"""Following with the blocking client and with asyncio's."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time

import numpy as np
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

import sisock
from sisock.blocks import Block, merge
from sisock.errors import TimedOut, UnknownField, UnknownNode
from sisock.store.layers import outside
from tests.client.conftest import Counter, T, token
from tests.plain import until


def watched(node):
    """Whether anybody is told of the node's live blocks."""
    return bool(node.on_kept.__self__._watched.timelines)


class Kept:
    """What was followed, put together by its rules."""

    def __init__(self):
        self.rows = Block.of([], {})
        self.gaps = []

    def add(self, block):
        if isinstance(block, sisock.Gap):
            self.gaps.append(block)
            return
        for start, end in block.revises:
            self.rows = outside(self.rows, round(start * 1e6), round(end * 1e6))
        assert not set(self.rows.t.tolist()) & set(block.block.t.tolist()), "a row came twice"
        self.rows = merge(self.rows, block.block)

    @property
    def n(self):
        return self.rows.columns["n"].values.tolist() if len(self.rows) else []


@pytest_twisted.ensureDeferred
async def test_history_then_what_comes_and_leaving_the_loop_ends_it(node, blocking):
    node.count(0, 5000).result()
    kept, live = Kept(), threading.Event()

    def follow(hub):
        following = hub["counter"].follow(["n"], start=1)
        for block in following:
            kept.add(block)
            assert (block.timeline, block.fields["n"].units) == ("t", "1")
            assert block.position.epoch
            if len(kept.rows) >= 5000:
                live.set()
            if len(kept.rows) == 5100:
                break
        done.wait(60)
        return list(following)

    done = threading.Event()
    rest = Deferred.fromCoroutine(blocking(follow))
    await until(live.is_set, 60)
    await until(lambda: watched(node), 60)
    for i in range(5000, 5100):
        node.count(i, i + 1)
    await until(lambda: not watched(node), 60)
    assert kept.n == list(range(5100))
    done.set()
    assert await rest == [], "it is over, though somebody still holds it"


@pytest_twisted.ensureDeferred
async def test_letting_go_of_it_and_of_the_hub_ends_it(node, router):
    node.count(0, 10).result()

    def begin():
        hub = sisock.connect(router.ws, token(router.consumer))
        following = hub["counter"].follow(["n"], start=1)
        assert len(following.next()) == 10
        with pytest.raises(TimedOut):
            following.next(timeout=0.05)
        return following

    following = await deferToThread(begin)
    client = following.node._client
    await until(lambda: watched(node))
    del following
    gc.collect()
    await until(lambda: not watched(node))
    await until(lambda: client.closed and not client.connected)


@pytest_twisted.ensureDeferred
async def test_late_rows_and_corrections_replace_what_was_there(node, blocking):
    node.count(0, 100).result()
    kept = Kept()

    def follow(hub):
        with hub["counter"].follow("n", start=1) as following:
            while len(kept.rows) < 100:
                kept.add(following.next(30))
            node.append("t", T + 0.055, {"n": -1.0}, correct=True)
            node.append("t", T + 0.05, {"n": -5.0}, correct=True)
            while len(kept.rows) < 101 or -5.0 not in kept.n:
                kept.add(following.next(30))
            return hub["counter"].get("n", start=1)["n"].tolist()

    assert await blocking(follow) == kept.n
    assert not kept.gaps


@pytest_twisted.ensureDeferred
async def test_what_nobody_takes_in_time_is_not_lost(node, blocking, looping):
    node.count(0, 10).result()
    kept = [Kept(), Kept()]
    stop = threading.Event()

    def append():
        for i in range(10, 300):
            node.count(i, i + 1).result()
            stop.wait(0.002)

    def follow(hub):
        with hub["counter"].follow("n", start=1) as following:
            while len(kept[0].rows) < 300:
                try:
                    kept[0].add(following.next(timeout=0.003))
                except TimedOut:
                    pass

    async def follow_too(hub):
        async with hub["counter"].follow("n", start=1) as following:
            while len(kept[1].rows) < 300:
                try:
                    kept[1].add(await asyncio.wait_for(following.next(), 0.003))
                except TimeoutError:
                    pass

    works = [deferToThread(append), Deferred.fromCoroutine(blocking(follow)), Deferred.fromCoroutine(looping(follow_too))]
    await gatherResults(works)
    assert kept[0].n == kept[1].n == list(range(300))


@pytest_twisted.ensureDeferred
async def test_a_reader_who_is_slow_holds_a_bounded_amount_and_loses_nothing(node, blocking, monkeypatch):
    monkeypatch.setattr("sisock.following.MAX_WAITING", 2_000)
    node.count(0, 1000).result()
    appended, kept = threading.Event(), Kept()

    def follow(hub):
        following = hub["counter"].follow("n", start=1)
        kept.add(following.next(30))
        begun.set()
        appended.wait(60)
        follower = following._stream._follower
        most = sum(len(item.block) for item in [*follower._queue, *following._stream._came])
        for block in following:
            kept.add(block)
            if len(kept.rows) == 100_000:
                break
        return most

    begun = threading.Event()
    most = Deferred.fromCoroutine(blocking(follow))
    await until(begun.is_set, 60)
    for first in range(1000, 100_000, 1000):
        await deferToThread(node.count(first, first + 1000).result)
    appended.set()
    # What came before it was full, and one answer to what came since.
    assert await most < 50_000
    assert kept.n == list(range(100_000))


@pytest_twisted.ensureDeferred
async def test_a_gap_is_named(router, blocking, caplog):
    first = Counter()
    service = await router.serve(first)
    first.count(0, 10).result()
    handed = []
    come, gone = threading.Event(), threading.Event()

    def follow(hub):
        alone = hub["counter"].follow("n", start=1)
        handing = hub["counter"].follow("n", start=1, on_gap=handed.append)
        assert len(alone.next(30)) == len(handing.next(30)) == 10
        come.set()
        gone.wait(60)
        gap, block, other = alone.next(60), alone.next(60), handing.next(60)
        for following in (alone, handing):
            following.close()
        return gap, block, other

    came = Deferred.fromCoroutine(blocking(follow))
    await until(come.is_set, 60)
    await service.stop()
    # Its history was in memory, so this one begins another.
    second = Counter()
    second.count(0, 20).result()
    with caplog.at_level(logging.WARNING, "sisock"):
        service = await router.serve(second, start=2)
        try:
            gone.set()
            gap, block, other = await came
        finally:
            await service.stop()
    assert isinstance(gap, sisock.Gap)
    assert (gap.timeline, gap.start, gap.end) == ("t", 1.0, T + 0.090001)
    assert "another one" in gap.reason
    assert len(gap) == 0
    assert len(block) == len(other) == 20
    assert handed[0].reason == gap.reason
    assert [record.getMessage() for record in caplog.records if "gap" in record.getMessage()] == [repr(gap)]


@pytest_twisted.ensureDeferred
async def test_a_lost_connection_is_not_seen_by_whoever_follows(fragile):
    node = Counter()
    service = await fragile.serve(node)
    node.count(0, 100).result()
    blocks, loops = Kept(), Kept()
    access = (fragile.ws, token(fragile.consumer))

    def follow():
        with sisock.connect(*access, certificate=fragile.home.certificate) as hub:
            for block in hub["counter"].follow("n", start=1):
                blocks.add(block)
                if len(blocks.rows) == 200:
                    return

    async def follow_too():
        async with await sisock.aio.connect(*access, certificate=fragile.home.certificate) as hub:
            async for block in hub["counter"].follow("n", start=1):
                loops.add(block)
                if len(loops.rows) == 200:
                    return

    works = [deferToThread(follow), deferToThread(lambda: asyncio.run(follow_too()))]
    try:
        await until(lambda: len(blocks.rows) == len(loops.rows) == 100, 60)
        await fragile.kill()
        await until(lambda: not service.announced)
        node.count(100, 200).result()
        await fragile.start()
        for work in works:
            await work
        assert blocks.n == loops.n == list(range(200))
        assert not blocks.gaps
        assert not loops.gaps
    finally:
        await service.stop()


@pytest_twisted.ensureDeferred
async def test_the_client_of_asyncio(node, looping):
    node.count(0, 1000).result()

    async def use(hub):
        assert [(one.name, one.description) for one in await hub.nodes()] == [("counter", "Counts.")]
        assert repr(hub["counter"]) == "<node 'counter'>"
        assert hub.connected
        fields = await hub["counter"].fields()
        assert fields["n"].units == "1"
        assert "[1]" in fields._repr_html_()
        frames = await asyncio.gather(*(hub["counter"].get("n", start=1) for _ in range(5)))
        assert [len(frame.to_pandas()) for frame in frames] == [1000] * 5
        with pytest.raises(UnknownNode):
            await hub["nobody"].fields()
        with pytest.raises(UnknownField):
            await hub["counter"].get("m")
        with pytest.raises(UnknownField):
            async for _ in hub["counter"].follow("m"):
                raise AssertionError
        with pytest.raises(TimedOut):
            async for block in hub["counter"].follow("n", start=1, timeout=0.2):
                assert len(block)
        seen = 0
        async for block in hub["counter"].follow("n", start=1):
            seen += len(block)
            if seen == 1000:
                break
        task = asyncio.create_task(hub["counter"].get("n", start=1))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        following = hub["counter"].follow("n", start=1)
        assert len(await following.next()) == 1000
        waiting = asyncio.create_task(following.next())
        await asyncio.sleep(0)
        await hub.close()
        assert await waiting is None
        return seen

    assert await looping(use) == 1000
    await until(lambda: not watched(node))


@pytest_twisted.ensureDeferred
async def test_two_threads_may_take_from_one(node, blocking):
    node.count(0, 100_000).result()
    taken = []

    def follow(hub):
        end = time.monotonic() + 30
        with hub["counter"].follow("n", start=1) as following:

            def take():
                while sum(map(len, taken)) < 100_000:
                    try:
                        taken.append(following.next(timeout=0.1)["n"])
                    except TimedOut:
                        assert time.monotonic() < end, "30 s, and not all rows"

            threads = [threading.Thread(target=take) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    await blocking(follow)
    assert sorted(np.concatenate(taken).tolist()) == list(range(100_000))
