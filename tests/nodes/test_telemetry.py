"""The telemetry as its old clients meet it: plain WebSocket and HTTP clients; and as a node like any other."""

import csv
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_twisted
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.internet.threads import deferToThread
from twisted.logger import formatEvent, globalLogPublisher

from sisock.certificates import Certificates
from sisock.consumer import Consumer
from sisock.home import Home
from sisock.nodes.telemetry import Telemetry, intake
from sisock.nodes.telemetry.document import DOCUMENT
from sisock.nodes.telemetry.simulator import Fleet
from sisock.openapi import differences
from sisock.store import Store
from sisock.store.lasting import LastingHistory
from sisock.store.leases import Writer
from sisock.testing import NodeContract
from tests.conforming import conforms
from tests.plain import until
from tests.test_follow import Seen

SISOCK = str(Path(sys.executable).with_name("sisock"))


class Sender(WebSocketClientProtocol):
    """A robot's old program: it sends text and reads answers."""

    def onOpen(self):
        self.answers = []
        self.factory.ready.callback(self)

    def onMessage(self, payload, _binary):
        self.answers.append(payload.decode())

    def onClose(self, _clean, code, reason):
        if not self.factory.ready.called:
            self.factory.ready.errback(ConnectionError(reason))
        self.factory.gone.callback(code)

    async def tell(self, *frames):
        """Sends frames and answers what they were answered."""
        before = len(self.answers)
        for frame in frames:
            self.sendMessage(frame if isinstance(frame, bytes) else frame.encode(), isinstance(frame, bytes))
        await until(lambda: len(self.answers) >= before + len(frames))
        return self.answers[before:]


async def connect(address, headers=None, authority=None):
    from twisted.internet import reactor

    factory = WebSocketClientFactory(address.replace("http", "ws", 1) + "/upstream", headers=headers)
    factory.protocol, factory.noisy = Sender, False
    factory.ready, factory.gone = Deferred(), Deferred()
    endpoint = HostnameEndpoint(reactor, "localhost", int(address.rsplit(":", 1)[1]))
    if authority is not None:
        trusted = Certificate.loadPEM(authority.read_bytes())
        endpoint = wrapClientTLS(optionsForClientTLS("localhost", trustRoot=trusted), endpoint)
    await endpoint.connect(factory)
    return await factory.ready


async def leave(sender):
    sender.sendClose()
    await sender.factory.gone


def fetch(address, path, headers=None, context=None):
    request = urllib.request.Request(address + path, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    monkeypatch.setenv("SISOCK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SISOCK_TELEMETRY_PORT", "0")


class Nobody:
    def answer(self, stored):
        """Nobody hears it."""


class TestTelemetry(NodeContract):
    node = Telemetry

    def make(self):
        class Reporting(Telemetry):
            def start(self):
                super().start()
                from twisted.internet import reactor

                from sisock.nodes.telemetry.source import Event

                for t in range(1, 5):
                    reactor.callFromThread(self.intake.take, Event("rover", float(t), 0.0, 1_700_000_000_000 + t), Nobody())

        return Reporting()


@pytest_twisted.async_yield_fixture
async def node(router):
    made = Telemetry()
    service = await router.serve(made)
    yield made
    await service.stop()


@pytest_twisted.ensureDeferred
async def test_frames_are_answered_in_order_and_the_socket_stays(node):
    sender = await connect(node.faces.address)
    frames = [
        "0,0,1000,r.1",
        "nonsense",
        "3,4,2000,r.1",
        b"\x00",
        "nan,0,3000,r.1",
        "6,8,3000,r.1",
        "0,0,3000,r.1",
        "1,1,-1,r.1",
        "",
    ]
    assert await sender.tell(*frames) == ["OK", "ERR", "OK", "ERR", "ERR", "OK", "OK", "ERR", "ERR"]
    assert await sender.tell("0,0,4000,R.1") == ["OK"], "names are case-sensitive"
    await leave(sender)
    code, robots = await deferToThread(fetch, node.faces.address, "/api/robots")
    assert code == 200
    assert [robot["name"] for robot in robots] == ["r.1", "R.1"]
    assert robots[0] == {
        "name": "r.1",
        "odometer": 10.0,
        "last_x": 6.0,
        "last_y": 8.0,
        "created_time": "1970-01-01T00:00:01.000Z",
        "updated_time": "1970-01-01T00:00:03.000Z",
        "removed_time": 0,
    }
    assert robots[1]["updated_time"] is None
    assert node.robots["r.1"].dropped == 1
    code, refused = await deferToThread(fetch, node.faces.address, "/refused")
    assert refused["dropped"] == {"r.1": 1}
    assert len(refused["newest"]) == 5
    metrics = await deferToThread(lambda: urllib.request.urlopen(f"{node.faces.address}/metrics", timeout=10).read().decode())
    for line in ("stored_total 4.0", "dropped_total 1.0", "refused_total 5.0", "waiting 0.0", "robots 2.0"):
        assert f"sisock_telemetry_{line}\n" in metrics


@pytest_twisted.ensureDeferred
async def test_every_bad_frame_is_answered_err_in_its_turn_and_the_socket_stays(node):
    bad = [
        "",
        ",,,",
        "x,0,1,r",
        "0,inf,1,r",
        "-inf,0,1,r",
        "0,nan,1,r",
        "0,0,-1,r",
        "0,0,1.5,r",
        "0,0,1e3,r",
        "0,0,1,",
        "0,0,1,r,s",
    ]
    bad += [b"0,0,1,r", "0,0,1," + "n" * 60_000, "0,0,99999999999999999999,r", "0,0,1,a\nb"]
    sender = await connect(node.faces.address)
    for t, frame in enumerate(bad):
        assert await sender.tell(f"0,0,{t},r", frame, frame, f"0,0,{t},s") == ["OK", "ERR", "ERR", "OK"], frame
    # Text that is no UTF-8, which this client would not send by itself.
    before = len(sender.answers)
    sender.sendFrame(opcode=1, payload=b"0,0,1000,\xff\xfe")
    sender.sendMessage(b"0,0,1000,r")
    await until(lambda: sender.answers[before:] == ["ERR", "OK"])
    await leave(sender)
    assert node.faces.upstream.counts.errors == 2 * len(bad) + 1
    assert len(node.faces.upstream.counts.reasons) == 20, "the newest are kept"


@pytest_twisted.ensureDeferred
async def test_while_too_many_wait_senders_wait_and_all_is_answered(node, monkeypatch):
    monkeypatch.setattr(intake, "MAX_WAITING", 10)
    senders = [await connect(node.faces.address) for _ in range(3)]
    told = await gather([sender.tell(*(f"{t},0,{t},{n}" for t in range(1000))) for n, sender in enumerate(senders)])
    assert told == [["OK"] * 1000] * 3
    assert not node.faces.upstream.paused
    for sender in senders:
        await leave(sender)


async def gather(coroutines):
    return [outcome for _, outcome in await DeferredList([ensureDeferred(one) for one in coroutines], fireOnOneErrback=True)]


@pytest_twisted.ensureDeferred
async def test_the_http_api(node):
    sender = await connect(node.faces.address)
    await sender.tell(*(f"{t},0,{t * 1000},r" for t in range(10)))
    await leave(sender)

    async def get(path):
        return await deferToThread(fetch, node.faces.address, path)

    assert (await get("/api/robots/nobody"))[0] == 404
    assert (await get("/api/robots/nobody/events")) == (200, [])
    assert (await get("/api/robots/nobody/odometer?start_time=1&end_time=2")) == (200, {"odometer": 0.0, "robot": "nobody"})
    code, events = await get("/api/robots/r/events?start_time=2000&end_time=4000")
    assert events == [{"robot": "r", "x": float(t), "y": 0.0, "timestamp": t * 1000} for t in (2, 3, 4)]
    assert (await get("/api/robots/r/events?start_time=4000&end_time=2000")) == (code, events), "start after end is swapped"
    assert len((await get("/api/robots/r/events?start_time=8000"))[1]) == 2
    assert len((await get("/api/robots/r/events"))[1]) == 10
    for window, way in (
        ("", 9.0),
        ("?start_time=2000&end_time=5000", 3.0),
        ("?start_time=2000&end_time=2000", 0.0),
        ("?start_time=2500&end_time=2600", 0.0),
    ):
        assert (await get(f"/api/robots/r/odometer{window}")) == (200, {"odometer": way, "robot": "r"})
    for wrong in ("x", "-1", "1.5", "1e3", "99999999999999999999", ""):
        code, error = await get(f"/api/robots/r/odometer?start_time={wrong}")
        assert code == 400, wrong
        assert set(error["error"]) == {"code", "message"}
    told = {"stored": 10, "dropped": 0, "waiting": 0, "refused": 0, "connections": 0}
    assert (await get("/healthz")) == (200, {"status": "ok", **told})
    assert (await get("/api/nothing"))[0] == 404


@pytest_twisted.ensureDeferred
async def test_the_api_is_what_its_document_says(node):
    sender = await connect(node.faces.address)
    await sender.tell("0,0,1000,rover", "3,4,2000,rover", "0,0,1000,%2F ü/é")
    await leave(sender)
    assert not differences(node.faces.application(), DOCUMENT)
    await conforms(node.faces.address)


@pytest_twisted.ensureDeferred
async def test_a_name_is_whatever_was_sent(node):
    names = ["a/b", "a", "a/events", "a%2Fb", "ein Röbot", "日本", "..", "x?y#z", "+ +", "/"]
    sender = await connect(node.faces.address)
    await sender.tell(*(f"{n},0,{t},{name}" for n, name in enumerate(names) for t in (1000, 2000)))
    await leave(sender)
    for n, name in enumerate(names):
        at = f"/api/robots/{quote(name, safe='')}"
        code, robot = await deferToThread(fetch, node.faces.address, at)
        assert (code, robot["name"], robot["last_x"]) == (200, name, n)
        _, events = await deferToThread(fetch, node.faces.address, f"{at}/events")
        assert [(event["robot"], event["x"]) for event in events] == [(name, n)] * 2
        assert await deferToThread(fetch, node.faces.address, f"{at}/odometer?start_time=0") == (
            200,
            {"odometer": 0.0, "robot": name},
        )


@pytest_twisted.ensureDeferred
async def test_robots_are_a_node_like_any_other(router, node):
    consumer = await Consumer(router.access()).start()
    sender = await connect(node.faces.address)
    try:
        await sender.tell("0,0,1700000000000,rover")
        catalogue = await consumer.get_fields("telemetry")
        assert {name: spec.units for name, spec in catalogue.fields.items()} == {
            "rover.x": "m",
            "rover.y": "m",
            "rover.odometer": "m",
            "rover.speed": "m/s",
        }
        assert catalogue.fields["rover.speed"].labels == {"robot": "rover", "quantity": "speed"}
        seen = Seen(consumer.follow("telemetry", ["rover.odometer", "rover.speed"], start=1.0))
        await until(lambda: seen.count("rover") == 1)
        await sender.tell("3,4,1700000002000,rover")
        await until(lambda: seen.count("rover") == 2)
        row = {name: column.values[-1] for name, column in seen.rows["rover"].columns.items()}
        assert row == {"rover.odometer": 5.0, "rover.speed": 2.5}
    finally:
        await leave(sender)
        await consumer.stop()


@pytest_twisted.ensureDeferred
async def test_who_reads_no_answers_is_read_no_more_until_it_does(node):
    from twisted.internet import reactor

    sender = await connect(node.faces.address)
    (upstream,) = node.faces.upstream.open
    upstream.transport.bufferSize = 4096
    # The kernel's own buffers take their part before ours is full: little here.
    upstream.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    sender.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sender.transport.pauseProducing()
    frames = 0
    while not upstream._unread:
        assert frames < 1_000_000
        for _ in range(1000):
            sender.sendMessage(b"?")
        frames += 1000
        await deferToThread(lambda: None)
    assert upstream.transport not in reactor.getReaders(), "it is not read"
    sender.transport.resumeProducing()
    await until(lambda: len(sender.answers) == frames, 30)
    assert not upstream._unread
    await leave(sender)


@pytest_twisted.ensureDeferred
async def test_one_robot_on_several_connections(node):
    senders = [await connect(node.faces.address) for _ in range(5)]
    for t in range(50):
        assert await senders[t % 5].tell(f"{t},0,{t},r") == ["OK"]
    assert node.robots["r"].odometer == 49.0
    for sender in senders:
        await leave(sender)


@pytest_twisted.ensureDeferred
async def test_many_frames_in_flight_share_commits(node):
    sender = await connect(node.faces.address)
    before = node.history.position("r").seq
    assert set(await sender.tell(*(f"{t},0,{t},r" for t in range(3000)))) == {"OK"}
    assert node.history.position("r").seq - before < 1000
    await leave(sender)


@pytest_twisted.ensureDeferred
async def test_a_page_of_another_origin_is_refused(node):
    with pytest.raises(ConnectionError):
        await connect(node.faces.address, {"Origin": "http://evil.example"})
    code, error = await deferToThread(fetch, node.faces.address, "/api/robots", {"Host": "evil.example"})
    assert (code, error["error"]["code"]) == (403, "bad_host")


@pytest_twisted.ensureDeferred
async def test_over_tls_with_tokens_but_for_the_networks_that_are_named(router, monkeypatch):
    """Beyond its machine; here a network that is none of ours stands in for one that is named."""
    monkeypatch.setenv("SISOCK_TELEMETRY_TLS", "1")
    rules = Home.default().rules.path
    rules.parent.mkdir(parents=True, exist_ok=True)
    rules.write_text('[face.telemetry]\nwithout_token = ["192.0.2.0/24"]\n')
    warned = []
    globalLogPublisher.addObserver(warned.append)
    made = Telemetry()
    service = await router.serve(made)
    globalLogPublisher.removeObserver(warned.append)
    try:
        assert any("192.0.2.0/24 comes in without a token" in str(formatEvent(event)) for event in warned)
        address, authority = made.faces.address, Certificates(Home.default().path).authority
        assert address.startswith("https://")
        with pytest.raises(ConnectionError, match="401"):
            await connect(address, None, authority)
        users = Home.default().users
        user, reader = users.ensure("robots", "node", "robots"), users.ensure("reader", "consumer")
        token = {"Authorization": f"Bearer robots:{user.secret}"}
        reads = {"Authorization": f"Bearer reader:{reader.secret}"}
        context = ssl.create_default_context(cafile=authority)
        assert (await deferToThread(fetch, address, "/api/robots", None, context))[0] == 401
        with pytest.raises(ConnectionError, match="403"):
            await connect(address, reads, authority)
        sender = await connect(address, token, authority)
        assert await sender.tell("0,0,1000,r") == ["OK"]
        assert (await deferToThread(fetch, address, "/api/robots/r", reads, context))[0] == 200
        users.remove("robots")
        assert await sender.factory.gone == 4401
    finally:
        await service.stop()


@pytest.mark.parametrize("tls", ["0", "1"])
@pytest_twisted.ensureDeferred
async def test_robots_that_are_none_report_until_they_are_stopped(router, monkeypatch, tls):
    monkeypatch.setenv("SISOCK_TELEMETRY_TLS", tls)
    made = Telemetry()
    service = await router.serve(made)
    fleet = Fleet(made.faces.address.replace("http", "ws", 1) + "/upstream", 20, 50.0, 4, 1, Home.default().certificate)
    try:
        fleet.start()
        await until(lambda: fleet.stored >= 40)
        await fleet.stop()
        assert (fleet.stored, fleet.refused) == (fleet.sent, 0), "the last answers are waited for"
        assert len(made.robots) == 20
    finally:
        await service.stop()


def run(log, env):
    with log.open("w") as file:
        return subprocess.Popen([SISOCK, "run", "telemetry"], env=env, stdout=file, stderr=file)


@pytest_twisted.ensureDeferred
async def test_where_rules_are_the_api_shows_robots_only_to_those_who_may_read_them(node, monkeypatch):
    rules = Home.default().rules.path
    rules.parent.mkdir(parents=True, exist_ok=True)
    rules.write_text('[[rule]]\nwho = ["nobody"]\nnodes = ["other"]\nverbs = ["read"]\n')
    code = 200

    async def refused():
        nonlocal code
        code, error = await deferToThread(fetch, node.faces.address, "/api/robots")
        return code == 403 and error["error"]["code"] == "sisock.error.not_authorized"

    await until(refused)
    for path in ("/%61pi/robots", "/api/robots/r", "/api/robots/r/events", "/api/robots/r/odometer", "/refused"):
        assert (await deferToThread(fetch, node.faces.address, path))[0] == 403, path
    sender = await connect(node.faces.address)
    assert await sender.tell("0,0,1,r") == ["OK"], "senders come from a network that is named"
    await leave(sender)


ROBOTS = 5


async def killed_again_and_again(router, tmp_path, kills):
    """kill -9 at any moment under load: what was answered OK is there afterwards, once, and odometers go on."""
    env = {
        "SISOCK_HOME": str(router.home.path),
        "SISOCK_TELEMETRY_PORT": "0",
        "PATH": "/usr/bin:/bin",
        "SISOCK_STORE": str(tmp_path / "h.db"),
    }
    answered = [0] * ROBOTS
    chance = random.Random(3)
    for start in range(kills + 1):
        process = run(tmp_path / f"{start}.log", env)
        try:
            address = await until(lambda pid=process.pid: Home(router.home.path).face("telemetry", pid), 30)
            for n in range(ROBOTS):
                times = [event["timestamp"] for event in (await deferToThread(fetch, address, f"/api/robots/{n}/events"))[1]]
                # Each frame is a metre on and a millisecond later, so none is missing and none is there twice.
                assert times == list(range(len(times)))
                assert len(times) >= answered[n], "what was answered is there"
                way = (await deferToThread(fetch, address, f"/api/robots/{n}/odometer"))[1]["odometer"]
                assert way == max(0, len(times) - 1)
                answered[n] = len(times)
            if start == kills:
                return
            senders = [await connect(address) for _ in range(ROBOTS)]
            for n, sender in enumerate(senders):
                for t in range(answered[n], answered[n] + 2000):
                    sender.sendMessage(f"{t},0,{t},{n}".encode())
            wanted = chance.randrange(50, 1500 * ROBOTS)
            await until(lambda senders=senders, wanted=wanted: sum(len(one.answers) for one in senders) >= wanted, 20)
        finally:
            process.send_signal(signal.SIGKILL)
            await deferToThread(process.wait)
        for n, sender in enumerate(senders):
            await sender.factory.gone
            assert set(sender.answers) <= {"OK"}
            answered[n] += len(sender.answers)


@pytest_twisted.ensureDeferred
async def test_every_ok_is_there_after_a_kill(router, tmp_path):
    await killed_again_and_again(router, tmp_path, 2)


@pytest.mark.soak
@pytest_twisted.ensureDeferred
async def test_every_ok_is_there_after_many_kills(router, tmp_path):
    await killed_again_and_again(router, tmp_path, 40)


@pytest_twisted.ensureDeferred
async def test_while_the_database_is_away_what_is_answered_is_kept_over_a_restart(server, router, tmp_path, monkeypatch):
    monkeypatch.setattr("sisock.learning.AGAIN", 0.1)

    def begin(start):
        made = Telemetry()
        made.history = LastingHistory(server.address, "telemetry", Writer("me", start), tmp_path / "box", retry=0.1)
        return made

    async def asked(node, path):
        return await deferToThread(fetch, node.faces.address, path)

    node = await deferToThread(begin, 1)
    service = await router.serve(node)
    sender = await connect(node.faces.address)
    assert await sender.tell("0,0,1000,r", "3,4,2000,r") == ["OK", "OK"]
    await deferToThread(server.kill)
    assert set(await sender.tell(*(f"3,{t},{t * 1000},r" for t in range(5, 50)))) == {"OK"}
    assert (await asked(node, "/api/robots/r"))[1]["odometer"] == 5.0 + 45.0
    code, error = await asked(node, "/api/robots/r/events")
    assert (code, error["error"]["code"]) == (503, "sisock.error.store_away")
    await leave(sender)
    await service.stop()
    await deferToThread(node.history.close)
    node = await deferToThread(begin, 2)
    service = await router.serve(node)
    try:
        # Without its history it does not know how far robots have come, so it takes nothing yet.
        with pytest.raises(ConnectionError, match="503"):
            await connect(node.faces.address)
        code, error = await asked(node, "/api/robots/r")
        assert (code, error["error"]["code"]) == (503, "sisock.error.store_away")
        assert "does not know yet" in (await asked(node, "/healthz"))[1]["status"]
        await deferToThread(server.start)
        await until(lambda: node.learned, 30)
        sender = await connect(node.faces.address)
        assert await sender.tell("3,50,50000,r") == ["OK"]
        await leave(sender)
        code, robot = await asked(node, "/api/robots/r")
        assert (robot["odometer"], robot["created_time"]) == (5.0 + 46.0, "1970-01-01T00:00:01.000Z")
        code, events = await asked(node, "/api/robots/r/events")
        assert [event["timestamp"] for event in events] == [t * 1000 for t in (1, 2, *range(5, 51))]
        window = "/api/robots/r/odometer?start_time=1000&end_time=50000"
        assert (await asked(node, window))[1]["odometer"] == 5.0 + 46.0
    finally:
        await service.stop()
        await deferToThread(node.history.close)


@pytest_twisted.ensureDeferred
async def test_robots_are_moved_over_as_the_how_to_says(router, tmp_path):
    """Odometers go on where the old system's events end."""
    rows = [(f"r/{n}", t * 0.3 + n, 0.0, 1_700_000_000_001 + t * 100) for t in range(2500) for n in range(2)]
    rows.insert(100, ("r/0", 99.0, 99.0, 1_600_000_000_000))
    with (tmp_path / "events.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("robot", "x", "y", "timestamp"), *rows])
    env = {**os.environ, "PATH": f"{Path(SISOCK).parent}:/usr/bin:/bin", "SISOCK_STORE": str(tmp_path / "h.db")}
    script = Path(__file__).parents[2] / "docs" / "how-to" / "move_robots.py"

    def move():
        how = {"cwd": tmp_path, "env": env, "capture_output": True, "text": True}
        made = subprocess.run([sys.executable, script, "events.csv", "robots"], **how)
        assert made.stderr == "2 robots; 1 events did not come after their robot's last and are left out.\n"
        done = subprocess.run(["sh"], input=made.stdout, **how)
        assert done.returncode == 0, done.stderr

    await deferToThread(move)
    with Store.open(tmp_path / "h.db") as store:
        made = Telemetry()
        made.history = store.node("telemetry")
        service = await router.serve(made)
        try:
            for n in range(2):
                _, robot = await deferToThread(fetch, made.faces.address, f"/api/robots/r%2F{n}")
                assert robot["odometer"] == pytest.approx(2499 * 0.3, abs=1e-9)
                assert robot["created_time"] == "2023-11-14T22:13:20.001Z"
            sender = await connect(made.faces.address)
            last = 1_700_000_000_001 + 2499 * 100
            assert await sender.tell(f"{2499 * 0.3},4,{last + 500},r/0") == ["OK"]
            await leave(sender)
            at = "/api/robots/r%2F0"
            assert (await deferToThread(fetch, made.faces.address, at))[1]["odometer"] == pytest.approx(2499 * 0.3 + 4)
            window = f"?start_time={last - 1000}&end_time={last + 500}"
            _, way = await deferToThread(fetch, made.faces.address, f"{at}/odometer{window}")
            assert way["odometer"] == pytest.approx(3.0 + 4.0)
            assert len((await deferToThread(fetch, made.faces.address, f"{at}/events"))[1]) == 2501
        finally:
            await service.stop()


@pytest_twisted.ensureDeferred
async def test_a_node_that_ends_closes_what_is_open(router):
    service = await router.serve(made := Telemetry())
    sender = await connect(made.faces.address)
    assert await sender.tell("0,0,1000,r") == ["OK"]
    await service.stop()
    assert await sender.factory.gone == 1000
