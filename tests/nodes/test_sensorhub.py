"""The sensor hub as its old clients meet it: plain Redis and HTTP clients; and as a node like any other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from sisock.beside import Tables
from sisock.consumer import Consumer
from sisock.errors import SetupError
from sisock.home import Home
from sisock.nodes.sensorhub import SensorHub, listening
from sisock.nodes.sensorhub.document import DOCUMENT
from sisock.nodes.sensorhub.importer import bring
from sisock.nodes.sensorhub.refused import Refused
from sisock.openapi import differences
from sisock.store import Store
from sisock.store.lasting import LastingHistory
from sisock.store.leases import Writer
from sisock.store.migrations import downgrade, upgrade
from sisock.testing import NodeContract
from tests.conforming import conforms
from tests.nodes.test_sensorhub_source import BAD, message
from tests.plain import until
from tests.redis_server import Redis
from tests.test_follow import Seen

SISOCK = str(Path(sys.executable).with_name("sisock"))
T = 1_733_054_400.0


def fetch(address, path, body=None, headers=None):
    """Status, and the body as text."""
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    request = urllib.request.Request(address + path, body, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def asked(address, path, body=None, headers=None):
    return deferToThread(fetch, address, path, body, headers)


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    server = Redis(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path, broker):
    home = tmp_path / "home"
    home.mkdir()
    (home / "sensorhub.toml").write_text(f'redis = "{broker.url}"\n[sensors.temperature]\nunits = "degC"\n')
    monkeypatch.setenv("SISOCK_HOME", str(home))
    monkeypatch.setenv("SISOCK_SENSORHUB_PORT", "0")
    with broker.client() as client:
        client.flushall()


def hub(store):
    made = SensorHub()
    made.history = store.node("sensorhub")
    return made


class TestSensorHub(NodeContract):
    node = SensorHub

    @pytest.fixture(autouse=True)
    def store(self, tmp_path):
        with Store.open(tmp_path / "contract.db", tables=SensorHub.tables) as store:
            self._store = store
            yield

    def make(self):
        class Fed(SensorHub):
            def start(self):
                super().start()
                from sisock.nodes.sensorhub.source import parse

                for second in range(5):
                    told = message(timestamp=f"2024-12-01 12:00:0{second}", value=second)
                    self.take([(parse(json.dumps(told)), None)]).result(30)

        made = Fed()
        made.history = self._store.node("sensorhub")
        return made


@pytest_twisted.async_yield_fixture
async def node(router, address):
    store = await deferToThread(Store.open, address, tables=SensorHub.tables)
    made = await deferToThread(hub, store)
    service = await router.serve(made)
    await until(lambda: all(listener.away is None for listener in made.listeners))
    yield made
    await service.stop()
    await deferToThread(store.close)


@pytest_twisted.ensureDeferred
async def test_the_api_answers_as_the_old_one_did(node):
    at = node.face.address
    assert await asked(at, "/healthcheck") == (200, "Sensorprocessor API is working fine")
    assert await asked(at, "/sensordata/temperature") == (200, "[[],200]")
    assert (await asked(at, "/get_current_value/temperature"))[0] == 404
    for value, second in ((14, "00"), (15.5, "10"), (13, "05"), (16, "10")):
        assert await asked(at, "/add_rawdata/", message(value=value, timestamp=f"2024-12-01 12:00:{second}")) == (201, "OK")
    status, body = await asked(at, "/get_current_value/temperature")
    # Newest by time, and of two at one time the last that came.
    assert (status, json.loads(body)) == (200, {"sensor": "temperature", "timestamp": "2024-12-01 12:00:10", "value": 16.0})
    status, body = await asked(at, "/sensordata/temperature")
    rows, two_hundred = json.loads(body)
    assert status == two_hundred == 200
    assert [(row["sensor"], row["value"]) for row in rows] == [("temperature", value) for value in (14.0, 15.5, 13.0, 16.0)]
    assert len({row["id"] for row in rows}) == 4 and all(isinstance(row["id"], int) for row in rows)
    assert [parsedate_to_datetime(row["timestamp"]).timestamp() - T for row in rows] == [0, 10, 5, 10]
    assert rows[0]["timestamp"] == "Sun, 01 Dec 2024 12:00:00 GMT"
    # The slash is no matter, and a name is what it is.
    assert (await asked(at, "/add_rawdata", message(sensor="a/b%20 \u00fc")))[0] == 201
    assert json.loads((await asked(at, "/get_current_value/a/b%2520%20%C3%BC"))[1])["sensor"] == "a/b%20 \u00fc"
    current = await deferToThread(
        node.history.select, "SELECT sensor, value FROM sensorhub_current WHERE node = ? ORDER BY sensor", "sensorhub"
    )
    assert current == [("a/b%20 \u00fc", 14.0), ("temperature", 16.0)]


@pytest_twisted.ensureDeferred
async def test_what_is_no_reading_is_400_json_and_counted_and_nothing_dies(node, broker):
    at = node.face.address
    count = 0
    with broker.client() as client:
        for bad in (bad for bads in BAD.values() for bad in bads):
            octets = json.dumps(bad).encode() if isinstance(bad, dict) else bad
            octets = octets.encode() if isinstance(octets, str) else octets
            status, body = await asked(at, "/add_rawdata/", octets)
            assert status == 400 and json.loads(body)["error"]["code"] == "sisock.error.invalid_argument", octets
            for _ in range(2):
                client.publish("sensor_stream", octets)
            count += 3
        client.publish("sensor_stream", json.dumps(message(value=1)))
    await until(lambda: node.current("temperature"))
    told = json.loads((await asked(at, "/healthz"))[1])
    assert told["status"] == "ok"
    assert sum(told["refused"].values()) == count >= 100
    assert set(told["refused"]) == set(BAD)
    assert "newest" not in told, "nobody is asked who it is there"
    newest = json.loads((await asked(at, "/refused"))[1])["newest"]
    assert {one["way"] for one in newest} <= {"http", "channel"} and newest
    status, text = await asked(at, "/metrics")
    assert status == 200
    assert 'sisock_sensorhub_refused_total{reason="no JSON"}' in text
    assert "\nsisock_sensorhub_stored_total 1.0\n" in text
    assert (await asked(at, "/add_rawdata/", b"x" * 2_000_000))[0] == 413
    assert (await asked(at, "/add_rawdata/"))[0] == 405
    assert (await asked(at, "/nothing"))[0] == 404


@pytest_twisted.ensureDeferred
async def test_a_token_sends_where_it_may_and_reads_where_it_may(node, tmp_path):
    home = Home.default()
    sender, reader = home.users.ensure("gateway", "node", "gateway"), home.users.ensure("reader", "consumer")

    def told(path, user, body=None):
        headers = {"Authorization": f"Bearer {user.authid}:{user.secret}"}
        return asked(node.face.address, path, body, headers)

    assert (await told("/add_rawdata/", sender, message()))[0] == 201
    assert (await told("/add_rawdata/", reader, message()))[0] == 403
    assert (await told("/get_current_value/temperature", reader))[0] == 200
    for path in ("/get_current_value/temperature", "/%67et_current_value/temperature", "/sensordata/temperature", "/refused"):
        assert (await told(path, sender))[0] == 403, path


@pytest_twisted.ensureDeferred
async def test_new_sensors_beyond_all_bounds_are_not_taken(node, broker, monkeypatch):
    monkeypatch.setattr("sisock.nodes.sensorhub.intake.MAX_SENSORS", 1)
    at = node.face.address
    assert (await asked(at, "/add_rawdata/", message(sensor="a")))[0] == 201
    status, body = await asked(at, "/add_rawdata/", message(sensor="b"))
    assert (status, json.loads(body)["error"]["code"]) == (413, "sisock.error.too_many_sensors")
    with broker.client() as client:
        client.publish("sensor_stream", json.dumps(message(sensor="c")))
        client.publish("sensor_stream", json.dumps(message(sensor="a", value=7, timestamp="2024-12-01 12:00:01")))
    await until(lambda: node.current("a").value == 7.0)
    assert node.refused.counts == {"too many sensors": 2}
    assert set(node.fields) == {"a"}


@pytest_twisted.ensureDeferred
async def test_a_redis_that_says_nothing_any_more_is_not_heard(broker, tmp_path, monkeypatch):
    """As one whose machine has vanished: its connection stays, and nothing comes of it."""
    for name, seconds in (("PATIENCE", 0.02), ("PING_AFTER", 0.1), ("CONNECT_SECONDS", 0.2)):
        monkeypatch.setattr(listening, name, seconds)
    own = await deferToThread(Redis(tmp_path).start)
    heard = []

    class Taker:
        def check(self, reading):
            """Takes all."""

        def take(self, readings, wait):
            heard.extend(readings)

    channel = listening.Channel(own.url, "sensor_stream", Taker(), Refused())
    channel.start()
    try:
        await until(lambda: channel.away is None)
        os.kill(own.pid, signal.SIGSTOP)
        await until(lambda: channel.away is not None)
        # Connections are made still, by the machine's kernel.
        for _ in range(3):
            channel.away = None
            await until(lambda: channel.away is not None)
        os.kill(own.pid, signal.SIGCONT)
        await until(lambda: channel.away is None)
        with own.client() as client:
            client.publish("sensor_stream", json.dumps(message()))
        await until(lambda: heard)
    finally:
        await deferToThread(channel.stop)
        own.stop()


@pytest_twisted.ensureDeferred
async def test_the_api_is_what_its_document_says(router, tmp_path):
    store = await deferToThread(Store.open, tmp_path / "api.db", tables=SensorHub.tables)
    node = await deferToThread(hub, store)
    service = await router.serve(node)
    try:
        await until(lambda: all(listener.away is None for listener in node.listeners))
        assert (await asked(node.face.address, "/add_rawdata/", message()))[0] == 201
        assert not differences(node.application(), DOCUMENT)
        await conforms(node.face.address, examples=10)
    finally:
        await service.stop()
        await deferToThread(store.close)


@pytest_twisted.ensureDeferred
async def test_the_channel_is_a_node_like_any_other(node, broker, router):
    consumer = await Consumer(router.access()).start()
    seen = {}

    def rows(name):
        block = seen[name].rows.get(name)
        return {} if block is None else dict(zip((block.t / 1e6).tolist(), block.columns[name].to_list(), strict=True))

    try:
        with broker.client() as client:
            for name in ("temperature", "humidity"):
                client.publish("sensor_stream", json.dumps(message(sensor=name, value=0)))
                await until(lambda name=name: node.current(name))
                seen[name] = Seen(consumer.follow("sensorhub", [name], start=1.0))
            await until(lambda: all(len(rows(name)) == 1 for name in seen))
            for second in range(1, 50):
                for name in seen:
                    stamp = f"2024-12-01 12:00:{second:02d}"
                    client.publish("sensor_stream", json.dumps(message(sensor=name, value=second / 4, timestamp=stamp)))
            # A second value at a time is a correction, and a raw reading of its own.
            client.publish("sensor_stream", json.dumps(message(value=99, timestamp="2024-12-01 12:00:07")))
        await until(lambda: rows("temperature").get(T + 7) == 99.0 and len(rows("humidity")) == 50)
        assert len(rows("temperature")) == 50
        catalogue = await consumer.get_fields("sensorhub")
        assert catalogue.fields["temperature"].units == "degC"
        assert catalogue.fields["humidity"].timeline == "humidity"
        assert catalogue.fields["humidity"].labels == {"sensor": "humidity"}
        raw = json.loads((await asked(node.face.address, "/sensordata/temperature"))[1])[0]
        assert len(raw) == 51
        for one in seen.values():
            one.follower.stop()
            await one.ended
    finally:
        await consumer.stop()


@pytest_twisted.ensureDeferred
async def test_redis_goes_and_comes_back(router, tmp_path, monkeypatch):
    own = await deferToThread(Redis(tmp_path).start)
    (tmp_path / "home" / "sensorhub.toml").write_text(f'redis = "{own.url}"\nstream = "readings"\n')
    store = await deferToThread(Store.open, tmp_path / "h.db", tables=SensorHub.tables)
    node = await deferToThread(hub, store)
    service = await router.serve(node)
    try:

        def well():
            return all(listener.away is None for listener in node.listeners)

        await until(well)
        with own.client() as client:
            client.xadd("readings", message(value=1))
        await until(lambda: node.current("temperature"))
        await deferToThread(own.kill)
        await until(lambda: all(listener.away for listener in node.listeners))
        status, body = await asked(node.face.address, "/healthz")
        assert status == 503 and set(json.loads(body)["away"]) == {"channel", "stream"}
        assert "Redis is not heard" in node.trouble() == json.loads(body)["status"]
        # HTTP goes on meanwhile.
        assert (await asked(node.face.address, "/add_rawdata/", message(sensor="other")))[0] == 201
        await deferToThread(own.start)
        await until(well)
        with own.client() as client:
            client.publish("sensor_stream", json.dumps(message(sensor="heard")))
            client.xadd("readings", {"json": json.dumps(message(sensor="streamed"))})
            client.xadd("readings", {"sensor": "wrong", "value": "x", "timestamp": "2024-12-01 12:00:00"})
            await until(lambda: node.current("heard") and node.current("streamed"))
            await until(lambda: node.refused.count)
            await until(lambda: client.xpending("readings", "sisock")["pending"] == 0)
        assert node.refused.told()["refused"] == {"value": 1}
        assert (await asked(node.face.address, "/healthz"))[0] == 200
        assert node.trouble() is None
    finally:
        await service.stop()
        await deferToThread(store.close)
        own.stop()


@pytest_twisted.ensureDeferred
async def test_what_another_consumer_left_behind_is_taken_over_once(node, broker, monkeypatch, router, tmp_path):
    monkeypatch.setattr(listening, "IDLE", 0)
    (tmp_path / "home" / "sensorhub.toml").write_text(f'redis = "{broker.url}"\nchannel = ""\nstream = "readings"\n')
    with broker.client() as client:
        client.xgroup_create("readings", "sisock", id="0", mkstream=True)
        for second in range(10):
            client.xadd("readings", message(sensor="left", value=second, timestamp=f"2024-12-01 12:00:0{second}"))
        # It reads them and dies.
        client.xreadgroup("sisock", "dead", {"readings": ">"}, count=10)
        listener = listening.Stream(broker.url, "readings", "sisock", "me", node.intake, node.refused)
        for _ in range(2):
            # Their commit is known by their ids, also where they are not acknowledged and come again.
            listener = listening.Stream(broker.url, "readings", "sisock", "me", node.intake, node.refused)
            listener.start()
            await until(lambda: client.xpending("readings", "sisock")["pending"] == 0)
            listener.stop()
            client.xgroup_setid("readings", "sisock", "0")
            client.xreadgroup("sisock", "dead", {"readings": ">"}, count=10)
    raw = json.loads((await asked(node.face.address, "/sensordata/left"))[1])[0]
    assert [row["value"] for row in raw] == [float(second) for second in range(10)]


@pytest_twisted.ensureDeferred
async def test_while_the_database_is_away_what_is_answered_is_kept(server, router, tmp_path, monkeypatch):
    monkeypatch.setattr("sisock.learning.AGAIN", 0.1)

    def begin(start):
        made, writer = SensorHub(), Writer("me", start)
        made.history = LastingHistory(server.address, "sensorhub", writer, tmp_path / "box", retry=0.1, tables=SensorHub.tables)
        return made

    node = await deferToThread(begin, 1)
    service = await router.serve(node)
    at = node.face.address
    try:
        assert (await asked(at, "/add_rawdata/", message(value=0)))[0] == 201
        await deferToThread(server.kill)
        for second in range(1, 10):
            told = message(value=second, timestamp=f"2024-12-01 12:00:0{second}")
            assert await asked(at, "/add_rawdata/", told) == (201, "OK")
        assert json.loads((await asked(at, "/get_current_value/temperature"))[1])["value"] == 9.0
        status, body = await asked(at, "/sensordata/temperature")
        assert status == 503 and json.loads(body)["error"]["code"] == "sisock.error.store_away"
        # Started anew meanwhile it learns late which sensors there are.
        await service.stop()
        await deferToThread(node.history.close)
        node = await deferToThread(begin, 2)
        service = await router.serve(node)
        at = node.face.address
        assert not node.fields
        await deferToThread(server.start)
        await until(lambda: set(node.fields) == {"temperature"}, 30)

        async def whole():
            return len(json.loads((await asked(at, "/sensordata/temperature"))[1])[0]) == 10

        async def back():
            return (await asked(at, "/sensordata/temperature"))[0] == 200

        await until(back)
        await until(whole)
    finally:
        await service.stop()
        await deferToThread(node.history.close)
    with Store.open(server.address) as store:
        current = store.reader("sensorhub").select("SELECT value FROM sensorhub_current")
        assert current == [(9.0,)]
        assert len(store.reader("sensorhub").read("temperature", ["temperature"], 0, 1 << 60)[0]) == 10


def test_its_tables_go_from_empty_to_the_newest_and_back(address):
    tables = SensorHub.tables
    assert isinstance(tables, Tables)
    with Store.open(address) as store:
        for _ in range(2):
            upgrade(store.database, tables=tables)
            reader = store.node("sensorhub")
            for name in ("sensors", "readings", "current"):
                assert reader.select(f"SELECT * FROM sensorhub_{name}") == []
            downgrade(store.database, "base", tables=tables)


def test_old_readings_are_brought_over_with_their_ids(address, tmp_path):
    file = tmp_path / "readings.csv"
    lines = [f"{n},temperature,{n / 2},2020-01-01 00:{n // 60:02d}:{n % 60:02d}" for n in range(1, 1001)]
    lines += [
        '1001,"a, b",7,2020-01-01 00:00:00',
        "1002,temperature,99,2020-01-01 00:00:10",
        "1003,temperature,x,2020-01-01 00:00:00",
    ]
    file.write_text("id,sensor,value,timestamp\n" + "\n".join(lines) + "\n")
    told = []
    for start in (1, 2):
        # Again after it was interrupted.
        count, wrong = bring(file, address, Writer("me", start), told.append)
        assert count == 1002
        assert len(wrong) == 1 and wrong[0].startswith("line 1004:")
    assert told == [1002, 1002]
    with Store.open(address) as store:
        reader = store.reader("sensorhub")
        rows = reader.select("SELECT id, value FROM sensorhub_readings WHERE sensor = ? ORDER BY id", "temperature")
        assert rows == [(n, n / 2) for n in range(1, 1001)] + [(1002, 99.0)]
        assert len(reader.read("temperature", ["temperature"], 0, 1 << 60)[0]) == 1000
        current = reader.select("SELECT sensor, value FROM sensorhub_current ORDER BY sensor")
        assert current == [("a, b", 7.0), ("temperature", 500.0)]


def test_what_cannot_be_brought_over_is_one_line(tmp_path):
    file = tmp_path / "readings.csv"
    file.write_text("id,name,value\n1,a,2\n")
    with pytest.raises(SetupError, match="no column sensor, timestamp"):
        bring(file, str(tmp_path / "h.db"), Writer("me", 1))
    for octets in (
        b"id,sensor,value,timestamp\n1,a\xff,2,2020-01-01 00:00:00\n",
        b"id,sen\xffsor\n",
        b"id,a\n" + b'1,"' + b"a" * 200_000,
    ):
        file.write_bytes(octets)
        with pytest.raises(SetupError):
            bring(file, str(tmp_path / "h.db"), Writer("me", 1))
    file.write_bytes(b"id,sensor,value,timestamp\n" + b'1,"' + b"a" * 200_000)
    with pytest.raises(SetupError, match="no CSV in UTF-8"):
        bring(file, str(tmp_path / "h.db"), Writer("me", 1))
    with Store.open(tmp_path / "h.db", tables=SensorHub.tables) as store:
        store.node("sensorhub", writer=Writer("other", 1))
        with pytest.raises(SetupError, match="is running"):
            bring(file, str(tmp_path / "h.db"), Writer("me", 1))


class Feeding(threading.Thread):
    """Sends readings over HTTP and to the stream until it is told to stop; notes those that were answered."""

    def __init__(self, home, broker):
        super().__init__(daemon=True)
        self.home, self.broker = home, broker
        self.answered, self.added, self.ends = [], 0, False

    def run(self):
        number = 0
        with self.broker.client() as client:
            while not self.ends:
                number += 1
                value = float(number)
                client.xadd("readings", message(sensor="streamed", value=value))
                self.added = number
                try:
                    status, _ = fetch(
                        self.home.face("sensorhub") or "http://localhost:1", "/add_rawdata/", message(value=value)
                    )
                except OSError:
                    time.sleep(0.02)
                    continue
                if status == 201:
                    self.answered.append(value)


def killed_again_and_again(tmp_path, broker, kills):
    home = Home(tmp_path / "home")
    (home.path / "sensorhub.toml").write_text(f'redis = "{broker.url}"\nstream = "readings"\n')
    environment = {**os.environ, "SISOCK_HOME": str(home.path), "SISOCK_STORE": str(tmp_path / "h.db")}
    feeding = Feeding(home, broker)
    process = None
    try:
        feeding.start()
        for kill in range(kills + 1):
            before = len(feeding.answered)
            with (tmp_path / "node.log").open("a") as log:
                process = subprocess.Popen([SISOCK, "run", "sensorhub"], env=environment, stdout=log, stderr=log)
            end = time.monotonic() + 60
            while len(feeding.answered) < before + 20:
                assert time.monotonic() < end and process.poll() is None, (tmp_path / "node.log").read_text()[-2000:]
                time.sleep(0.01)
            if kill < kills:
                process.kill()
                process.wait()
        feeding.ends = True
        feeding.join(30)
        with broker.client() as client:
            while client.xpending("readings", "sisock")["pending"] or client.xinfo_groups("readings")[0]["lag"]:
                assert time.monotonic() < end + 60
                time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.wait(30)
    finally:
        feeding.ends = True
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()
    with Store.open(tmp_path / "h.db") as store:
        rows = store.reader("sensorhub").select("SELECT sensor, value FROM sensorhub_readings")
    kept = [value for sensor, value in rows if sensor == "temperature"]
    streamed = [value for sensor, value in rows if sensor == "streamed"]
    assert set(feeding.answered) <= set(kept)
    assert len(kept) == len(set(kept))
    assert sorted(streamed) == [float(number) for number in range(1, feeding.added + 1)]


def test_what_was_answered_or_acknowledged_is_there_after_a_kill_once(tmp_path, broker):
    killed_again_and_again(tmp_path, broker, 2)


@pytest.mark.soak
def test_what_was_answered_or_acknowledged_is_there_after_many_kills(tmp_path, broker):
    killed_again_and_again(tmp_path, broker, 30)
