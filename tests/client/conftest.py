"""A node, and clients of it in threads beside the reactor, where the tests run."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

import sisock
from sisock import DataNode, Field, Timeline
from tests.client.programs import STARTED

T = 1_700_000_000.0


class Counter(DataNode):
    """Counts."""

    name = "counter"
    fields = {
        "n": Field("A number that grows", "1"),
        "note": Field(type="string"),
        "slow": Field("A slow one", "K", timeline="hour"),
    }
    timelines = {"t": Timeline(0.01, lateness=1.0), "hour": Timeline()}
    max_rows = 2_000_000

    def count(self, first, last):
        """Appends the rows [first, last), a hundredth of a second apart."""
        n = np.arange(first, last, dtype=float)
        return self.append("t", T + n * 0.01, {"n": n})


def token(user):
    return f"{user.authid}:{user.secret}"


@pytest.fixture(scope="package")
def fragile():
    """A router of their own, with TLS, for tests that kill it and start it again."""
    from sisock.testing import Router

    made = Router(tls=True)
    pytest_twisted.blockon(Deferred.fromCoroutine(made.start()))
    try:
        yield made
    finally:
        pytest_twisted.blockon(Deferred.fromCoroutine(made.stop()))
        made.remove()


@pytest_twisted.async_yield_fixture
async def node(router):
    made = Counter()
    service = await router.serve(made)
    yield made
    await service.stop()


@pytest.fixture
def blocking(router):
    """Runs a function with a hub in a thread."""

    async def run(work, router=router, **options):
        def begun():
            with sisock.connect(router.ws, token(router.consumer), **options) as hub:
                return work(hub)

        return await deferToThread(begun)

    return run


@pytest.fixture
def looping(router):
    """Runs a coroutine function with a hub of asyncio in a thread."""

    async def run(work, router=router, **options):
        async def begun():
            async with await sisock.aio.connect(router.ws, token(router.consumer), **options) as hub:
                return await work(hub)

        return await deferToThread(lambda: asyncio.run(begun()))

    return run


@pytest.fixture(autouse=True)
def nothing_is_left():
    """A program that hangs ends with its test."""
    yield
    while STARTED:
        program = STARTED.pop()
        if program.code is None:
            program.transport.signalProcess("KILL")
