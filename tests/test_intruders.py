"""Who wants in and has no secret: neither a flood of wrong logins nor connections that say nothing keep others out."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from urllib.parse import urlsplit

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.threads import deferToThread

from sisock.audit import PER_SECOND
from sisock.testing import Router
from tests.conftest import Guests, audit
from tests.intruder import wrong_login
from tests.plain import BASE, until


class Raw(Protocol):
    """Sends what it is given, each part when the one before was answered, and then only listens."""

    def __init__(self, says):
        self.says, self.heard, self.gone = list(says), b"", Deferred()

    def connectionMade(self):
        self.say()

    def dataReceived(self, data):
        self.heard += data
        if self.end and self.end in self.heard:
            self.say()

    def say(self):
        words, self.end = self.says.pop(0) if self.says else (b"", b"")
        self.transport.write(words)

    def connectionLost(self, reason):
        self.gone.callback(None)


@pytest_twisted.ensureDeferred
async def test_who_does_not_log_in_or_stays_after_a_refusal_is_closed(router, guests):
    from twisted.internet import reactor

    at = urlsplit(router.ws)
    staying = await guests()

    def connect(says):
        return connectProtocol(HostnameEndpoint(reactor, at.hostname, at.port), Raw(says))

    upgrade, proof = wrong_login(at.hostname, at.port, router.consumer.authid, "wampcra")
    silent = await connect([upgrade])
    refused = await connect([upgrade, proof])
    # The greeting of a raw socket that speaks CBOR, and nothing more.
    local = await connectProtocol(UNIXClientEndpoint(reactor, str(router.home.socket)), Raw([(b"\x7f\xf3\x00\x00", b"")]))
    await until(lambda: b"101 Switching" in silent.heard and b"[3," in refused.heard and local.heard[:1] == b"\x7f")
    for one in (silent, refused, local):
        await one.gone.addTimeout(20, reactor)
    assert staying.is_attached()


@pytest_twisted.async_yield_fixture(scope="module")
async def flooded():
    """A router of its own, since what it remembers of failed logins is not to slow the others' tests."""
    router = await Router().start()
    guests = Guests(router)
    yield router, guests
    await guests.close()
    await router.stop()
    router.remove()


async def flood(flooded, way, rounds, at_once):
    """Wrong logins until so many right ones got what they came for, meanwhile."""
    router, guests = flooded
    at = urlsplit(router.ws)
    command = [sys.executable, "-m", "tests.intruder", at.hostname, str(at.port), router.consumer.authid, way, str(at_once)]
    node = await guests.node(f"flooded.{way}")
    before = len(refused_at(router))
    intruder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220  at once
    began = time.monotonic()
    try:
        await until(lambda: len(refused_at(router)) > before, 30)
        for _ in range(rounds):
            session = await guests()
            assert await session.call(f"{BASE}consumer.flooded.{way}.get_fields", 1, 0) == [{}, {}]
            await session.quit()
        assert intruder.poll() is None
        # It ends when nothing is left to read, and what it began is answered before.
        intruder.stdin.close()
        done = json.loads(await deferToThread(intruder.stdout.read))
    finally:
        intruder.kill()
        intruder.stdin.close()
        intruder.stdout.close()
        intruder.wait()
    took = time.monotonic() - began
    assert node.is_attached()
    assert done["refused"] >= at_once and not done["failed"], done

    def told():
        lines = refused_at(router)[before:]
        return len([line for line in lines if "more" not in line]), sum(line.get("more", 0) for line in lines)

    # Each is written down or counted, and of a flood most are counted: so the disk is not filled.
    await until(lambda: sum(told()) >= done["refused"], 30)
    written, counted = told()
    assert counted > written or done["refused"] < 2 * PER_SECOND * took
    print(f"{way}: {done['refused'] / took:.0f} wrong logins/s, meanwhile {rounds} right ones in {took:.1f} s")


def refused_at(router):
    return [line for line in audit(router) if line["event"] == "refused"]


@pytest.mark.parametrize("way", ["wampcra", "ticket"])
@pytest_twisted.ensureDeferred
async def test_a_flood_of_wrong_logins_keeps_nobody_out(flooded, way):
    await flood(flooded, way, 5, 100)


@pytest.mark.soak
@pytest.mark.parametrize("way", ["wampcra", "ticket", "scram", "cryptosign"])
@pytest_twisted.ensureDeferred
async def test_a_long_flood_of_very_many_at_once_keeps_nobody_out(flooded, way):
    await flood(flooded, way, 50, 1000)
