"""The geoms' sockets: who is let in, who is waited for, and who is cut off."""

# ruff: noqa: F811  fixtures are imported by their names
import json
import ssl
import threading
import time
import urllib.error
import urllib.request

import pytest
import pytest_twisted
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread

from sisock.certificates import Certificates
from sisock.errors import Busy, PortTaken, StoreAway
from sisock.nodes.geom import Geoms, connections
from tests.nodes.geoms import connect, home, inputs, leave, node, refused, sample  # noqa: F401
from tests.plain import until
from tests.test_tokens import token


@pytest_twisted.ensureDeferred
async def test_an_authorization_ends_with_its_token(node):
    client = await connect(node.faces.address)
    assert await client.ask({"auth": {"Authorization": token(exp=time.time() + 60)}}) == [{"authorized": {}}]
    node.faces.connections.door._clock = lambda: time.time() + 61
    assert await client.factory.gone == 4401


@pytest_twisted.ensureDeferred
async def test_a_socket_without_a_ping_is_closed(node):
    clock = node.faces.connections.clock = Clock()
    silent, lively = await connect(node.faces.address), await connect(node.faces.address)
    clock.advance(119)
    assert await lively.ask({"ping": {}}) == [{"pong": {}}]
    assert not silent.factory.gone.called
    clock.advance(1)
    assert await silent.factory.gone == 1000
    assert await lively.ask({"ping": {}}) == [{"pong": {}}]
    await leave(lively)


@pytest_twisted.ensureDeferred
async def test_who_waits_for_a_store_that_is_away_is_told_and_not_cut_off(node, sample):
    clock = node.faces.connections.clock = Clock()
    client = await connect(node.faces.address)
    await client.ask({"auth": {"Authorization": token()}})
    go_on = threading.Semaphore(0)
    reasons = iter([Busy("all connections are in use")] + [StoreAway("it is silent")] * 99)

    def late(*_):
        assert go_on.acquire(timeout=60)
        raise next(reasons)

    node.library.coordinates = late
    asked = {"sample_id": sample, "device_id": "camera-1", "from": "2026-07-14T09:00:00"}
    for _ in range(100):
        client.sendMessage(json.dumps({"getCoordinates": asked}).encode())
    (server,) = node.faces.connections.open
    await until(lambda: server._deaf)
    for n in range(2, 5):
        # Its pings are not heard while so much waits, but it takes what it is answered.
        go_on.release()
        await until(lambda: len(client.answers) >= n)  # noqa: B023  it is awaited here
        clock.advance(120)
    assert node.faces.connections.counts.slow == 0
    go_on.release(100)
    await until(lambda: len(client.answers) >= 101)
    assert all(refused(4503, one) for one in client.answers[1:])
    await leave(client)


@pytest_twisted.ensureDeferred
async def test_pages_of_strangers_and_other_paths_are_turned_away(node):
    with pytest.raises(ConnectionError, match="403"):
        await connect(node.faces.address, {"Origin": "https://evil.example.org"})
    own = await connect(node.faces.address, {"Origin": node.faces.address})
    await leave(own)


@pytest_twisted.ensureDeferred
async def test_over_tls_whoever_opens_the_socket_is_asked_by_message_only(router, sample, home, monkeypatch):
    monkeypatch.setenv("SISOCK_GEOM_HOST", "0.0.0.0")
    monkeypatch.setenv("SISOCK_GEOM_TLS", "1")
    made = Geoms()
    service = await router.serve(made)
    client = await connect(made.faces.address, authority=Certificates(home).authority)
    asked = {"sample_id": sample, "device_id": "camera-1", "from": "2026-07-14T09:00:00", "seconds": 59}
    assert refused(4401, (await client.ask({"getCoordinates": asked}))[0])
    await client.ask({"auth": {"Authorization": token()}})
    answers = await client.ask(*[{"getCoordinates": asked}] * 20)
    assert all(len(one["coordinates"]) == 8 for one in answers)
    # The port's other paths want a token, but for the one that tells whether it is well.
    context = ssl.create_default_context(cafile=Certificates(home).authority)

    def status(path):
        try:
            with urllib.request.urlopen(made.faces.address + path, timeout=10, context=context) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    assert [await deferToThread(status, path) for path in ("/healthz", "/metrics", "/openapi.json")] == [200, 401, 401]
    await leave(client)
    await service.stop()


@pytest_twisted.ensureDeferred
async def test_a_port_that_is_taken_is_told_with_what_to_set(node, monkeypatch):
    monkeypatch.setenv("SISOCK_GEOM_PORT", node.faces.address.rpartition(":")[2])
    other = Geoms()
    with pytest.raises(PortTaken, match="SISOCK_GEOM_PORT"):
        other.faces.listen()
    await other.faces.close()


@pytest_twisted.ensureDeferred
async def test_many_questions_are_answered_in_their_order_and_a_slow_reader_is_waited_for(node, sample, monkeypatch):
    # Each answer of coordinates then comes in pieces, between which others may have a word.
    monkeypatch.setattr(connections, "PIECE", 100_000)
    client = await connect(node.faces.address)
    await client.ask({"auth": {"Authorization": token()}})
    client.transport.pauseProducing()
    for n in range(300):
        client.sendMessage(json.dumps({"ping": [n, "." * 2000]}).encode())
        asked = {"sample_id": sample, "device_id": "camera-1", "from": "2026-07-14T09:00:00", "seconds": 59}
        client.sendMessage(json.dumps({"getCoordinates": asked}).encode())
    (server,) = node.faces.connections.open
    await until(lambda: server._full and server._deaf)
    assert server._waiting_bytes < 400_000, "of 600 kB what is read ahead is a portion or two"
    client.transport.resumeProducing()
    await until(lambda: len(client.answers) >= 601, 30)
    assert [one["pong"][0] for one in client.answers[1::2]] == list(range(300))
    assert all(len(one["coordinates"]) == 8 for one in client.answers[2::2])
    assert server.held == 0
    await leave(client)


@pytest_twisted.ensureDeferred
async def test_who_asks_much_at_once_may_take_long_to_read_it_but_not_for_ever(node, sample):
    clock = node.faces.connections.clock = Clock()
    client = await connect(node.faces.address)
    await client.ask({"auth": {"Authorization": token()}})
    asked = {"sample_id": sample, "device_id": "camera-1", "from": "2026-07-14T09:00:00", "seconds": 59}
    (server,) = node.faces.connections.open

    async def much():
        before = len(client.answers)
        client.transport.pauseProducing()
        for _ in range(100):
            client.sendMessage(json.dumps({"getCoordinates": asked}).encode())
        client.sendMessage(json.dumps({"ping": 1}).encode())
        await until(lambda: server._full and server._deaf)
        return before + 101

    whole = await much()
    clock.advance(100)
    # Its pings are behind what it asked. It takes an answer now and then, so it is given time.
    client.transport.resumeProducing()
    await until(lambda: server._takes)
    client.transport.pauseProducing()
    clock.advance(30)
    client.transport.resumeProducing()
    await until(lambda: len(client.answers) >= whole)
    # A ping that was heard begins the time anew; after it, nothing more is taken.
    await much()
    clock.advance(119)
    assert node.faces.connections.open
    for _ in range(3):
        # What the sockets between us take counts, too.
        clock.advance(120)
    await until(lambda: not node.faces.connections.open)
    assert node.faces.connections.counts.slow == 1
    client.transport.abortConnection()


@pytest_twisted.ensureDeferred
async def test_who_does_not_read_is_cut_off_when_too_much_waits(node, sample, monkeypatch):
    monkeypatch.setattr(connections, "PIECE", 100_000)
    stalled, other = await connect(node.faces.address), await connect(node.faces.address)
    for client in (stalled, other):
        await client.ask({"auth": {"Authorization": token()}})
    stalled.transport.pauseProducing()
    asked = {"sample_id": sample, "device_id": "camera-1", "from": "2026-07-14T09:00:00", "seconds": 59}
    for _ in range(60):
        stalled.sendMessage(json.dumps({"getCoordinates": asked}).encode())
    await until(lambda: any(one.held > 1_000 for one in node.faces.connections.open))
    monkeypatch.setattr(connections, "MOST_HELD", 1_000)
    node.faces.connections.cut_slow()
    assert node.faces.connections.counts.slow == 1, "once, though pieces of an answer were left"
    assert (await other.ask({"ping": 1})) == [{"pong": 1}]
    stalled.transport.abortConnection()
    await leave(other)
