"""Followers on bad connections: cut, stalled, slow; the router and the others do not suffer."""

import numpy as np
import psutil
import pytest_twisted
from autobahn.twisted.util import sleep

from sisock.consumer import Consumer
from sisock.testing import Link
from tests.plain import until
from tests.test_follow import Counter, Seen, T, whole


def worker(router):
    """The router's worker, which does all the work."""
    return psutil.Process(router.pid).children()[-1]


@pytest_twisted.async_yield_fixture
async def link(router):
    made = await Link(router.ws).start()
    yield made
    await made.stop()


@pytest_twisted.async_yield_fixture
async def node(router):
    made = Counter()
    service = await router.serve(made)
    yield made
    await service.stop()


@pytest_twisted.async_yield_fixture
async def near(router):
    made = await Consumer(router.access()).start()
    yield made
    await made.stop()


@pytest_twisted.async_yield_fixture
async def far(router, link):
    made = await Consumer(router.access(url=link.url)).start()
    yield made
    await made.stop()


@pytest_twisted.ensureDeferred
async def test_a_connection_that_is_cut_is_made_good(node, link, near, far):
    seen = Seen(far.follow("counter", ["n"], start=1.0))
    for part in range(5):
        for i in range(part * 100, part * 100 + 100):
            node.append("t", T + i, {"n": float(i)})
            if i % 50 == 25:
                link.cut()
            await sleep(0)
        await until(lambda: far.connected)
    await until(lambda: seen.count() == 500, 20)
    assert seen.rows["t"] == await whole(near, ["n"])
    assert not seen.missing


@pytest_twisted.ensureDeferred
async def test_a_page_over_a_connection_that_is_cut_goes_on_where_it_was(node, link, near, far):
    node.append("t", T + np.arange(200_000) * 0.01, {"n": np.arange(200_000.0)}).result()
    link.slow(3_000_000)
    seen = Seen(far.follow("counter", ["n"], start=1.0))
    for _ in range(3):
        before = seen.count()
        await until(lambda before=before: seen.count() > before, 20)
        link.cut()
        await until(lambda: far.connected)
    link.slow(None)
    await until(lambda: seen.count() == 200_000, 30)
    assert seen.rows["t"] == await whole(near, ["n"])


@pytest_twisted.ensureDeferred
async def test_a_reader_who_stalls_is_cut_off_and_catches_up(router, node, link, near, far):
    stalled = Seen(far.follow("counter", ["n", "note"], start=1.0))
    other = Seen(near.follow("counter", ["n", "note"], start=1.0))
    node.append("t", T, {"n": 0.0}).result()
    await until(lambda: stalled.count() == other.count() == 1)
    text = "x" * 900

    async def send(parts):
        for i in parts:
            t = T + i * 1000 + np.arange(1000) * 0.5
            node.append("t", t, {"n": np.arange(1000.0), "note": [text] * 1000}).result()
            await until(lambda i=i: other.count() == 1 + i * 1000, 20)

    # What the router takes to pass such blocks on at all is not the stalled reader's.
    await send(range(1, 16))
    await until(lambda: stalled.count() == other.count())
    link.hold()
    before = worker(router).memory_info().rss
    await send(range(16, 76))
    grown = worker(router).memory_info().rss - before
    # Kept whole it would be 60 MB and more.
    assert grown < 45 << 20, f"of 55 MB that went to a reader who reads nothing the router kept {grown >> 20} MB"
    link.release()
    await until(lambda: stalled.count() == other.count(), 60)
    assert stalled.rows["t"] == other.rows["t"]
    assert not stalled.missing
