"""Who wants in and has no secret: neither a flood of wrong logins nor connections that say nothing keep others out."""

from __future__ import annotations

import json
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
import pytest_twisted
from autobahn.twisted.util import sleep
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol

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


async def flood(flooded, way, seconds, at_once):
    """Wrong logins, and meanwhile right ones, with what they came for."""
    router, guests = flooded
    at = urlsplit(router.ws)
    command = [sys.executable, "-m", "tests.intruder", at.hostname, str(at.port), router.consumer.authid, way]
    node = await guests.node(f"flooded.{way}")
    before = len(audit(router))
    command += [str(seconds), str(at_once)]
    intruder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220  it starts at once
    try:
        await until(lambda: len(audit(router)) > before)
        right = 0
        while intruder.poll() is None:
            session = await guests()
            assert await session.call(f"{BASE}consumer.flooded.{way}.get_fields", 1, 0) == [{}, {}]
            right += intruder.poll() is None
            await session.quit()
            await sleep(0.05)
        done = json.loads(intruder.stdout.read())
    finally:
        intruder.kill()
        intruder.stdout.close()
    assert node.is_attached()
    assert right and done["refused"] > at_once and not done["failed"], (right, done)
    told = [line for line in audit(router)[before:] if line["event"] == "refused"]
    # The disk is not filled: a second has its first few, and the count of the others.
    assert len(told) < done["refused"] / 2
    print(f"{way}: {done['refused'] / seconds:.0f} wrong logins/s, meanwhile {right} right ones")


@pytest.mark.parametrize("way", ["wampcra", "ticket"])
@pytest_twisted.ensureDeferred
async def test_a_flood_of_wrong_logins_keeps_nobody_out(flooded, way):
    await flood(flooded, way, 2, 100)


@pytest.mark.soak
@pytest.mark.parametrize("way", ["wampcra", "ticket", "scram", "cryptosign"])
@pytest_twisted.ensureDeferred
async def test_a_long_flood_of_very_many_at_once_keeps_nobody_out(flooded, way):
    await flood(flooded, way, 30, 1000)
