"""What the bridge's tests share: a server on a free port, and a log that stays clean."""

import gc

import pytest
import pytest_twisted
from twisted.logger import LogLevel, globalLogPublisher

from sisock.http import Policy, listen
from tests.bridge.http_client import Client


@pytest.fixture
def logged():
    """The errors that were logged. A test that expects some takes them out; the others fail by them."""
    events = []

    def observe(event):
        if event.get("log_level") in (LogLevel.error, LogLevel.critical):
            events.append(event)

    globalLogPublisher.addObserver(observe)
    # What was there before is left out of the collection below, which takes a tenth of a second otherwise.
    gc.freeze()
    yield events
    # Deferreds whose errors nobody handled say so when they are collected.
    gc.collect()
    gc.unfreeze()
    globalLogPublisher.removeObserver(observe)
    assert not events


@pytest_twisted.async_yield_fixture
async def serve(logged):
    """Serves an application on a free port and answers a client of it."""
    ports = []

    def start(app, *, hosts=(), origins=(), **settings):
        port = listen(app, "127.0.0.1", 0, policy=Policy.of(hosts, origins), **settings)
        ports.append(port)
        return Client(port.getHost().port)

    yield start
    for port in ports:
        await port.stopListening()
