"""The geoms as their old clients meet them: a plain WebSocket client; and as a node like any other."""

import json
import socket
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import pytest_twisted
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread

from sisock.certificates import Certificates
from sisock.consumer import Consumer
from sisock.errors import Busy, PortTaken, StoreAway
from sisock.nodes.geom import Geoms, connections
from sisock.nodes.geom.document import DOCUMENT
from sisock.nodes.geom.generator import Day, Room, write
from sisock.nodes.geom.keeping import TABLES, Plan, Samples
from sisock.nodes.geom.prepare import prepare
from sisock.nodes.geom.shapes import Frames, Geom, Shapes, Task
from sisock.nodes.geom.sources.cuwb import cuwb
from sisock.openapi import differences
from sisock.store import Store
from sisock.testing import NodeContract
from tests.plain import until
from tests.test_follow import Seen
from tests.test_tokens import BELIEVED, KEYS, OTHER, jwks, token

SISOCK = str(Path(sys.executable).with_name("sisock"))
START = 1_784_019_600_000_000  # 2026-07-14T09:00:00Z
SECONDS = 60


class Client(WebSocketClientProtocol):
    """An old client."""

    def onOpen(self):
        self.answers = []
        self.factory.ready.callback(self)

    def onMessage(self, payload, binary):
        assert not binary
        self.answers.append(json.loads(payload))

    def onClose(self, _clean, code, reason):
        if not self.factory.ready.called:
            self.factory.ready.errback(ConnectionError(reason))
        self.factory.gone.callback(code)

    async def ask(self, *frames):
        """Sends frames and answers what they were answered."""
        before = len(self.answers)
        for frame in frames:
            payload = frame if isinstance(frame, bytes) else (frame if isinstance(frame, str) else json.dumps(frame)).encode()
            self.sendMessage(payload, isinstance(frame, bytes))
        await until(lambda: len(self.answers) >= before + len(frames))
        assert len(self.answers) == before + len(frames), "no other frame comes"
        return self.answers[before:]


async def connect(address, headers=None, authority=None):
    from twisted.internet import reactor

    factory = WebSocketClientFactory(address.replace("http", "ws", 1) + "/ws", headers=headers)
    factory.protocol, factory.noisy = Client, False
    factory.ready, factory.gone = Deferred(), Deferred()
    endpoint = HostnameEndpoint(reactor, "localhost", int(address.rsplit(":", 1)[1]))
    if authority is not None:
        trusted = Certificate.loadPEM(authority.read_bytes())
        endpoint = wrapClientTLS(optionsForClientTLS("localhost", trustRoot=trusted), endpoint)
    await endpoint.connect(factory)
    return await factory.ready


async def leave(client):
    client.sendClose()
    await client.factory.gone


def event(name, **data):
    return {"event": name, "data": data}


def refused(code, answer):
    told = answer.get("error") or answer["data"]
    return told["code"] == code and isinstance(told["message"], str) and set(told) == {"message", "code"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    write(Day(Room(3, 1, 2, 1), START, SECONDS, seed=1), folder, "cuwb", ".parquet")
    return folder


def task(inputs, seconds=SECONDS):
    return Task(inputs, Frames.between(START, START + seconds * 1_000_000, 10))


@pytest.fixture
def home(monkeypatch, tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("SISOCK_HOME", str(folder))
    monkeypatch.setenv("SISOCK_GEOM_PORT", "0")
    (folder / "access.toml").write_text(BELIEVED)
    (folder / "keys.json").write_text(jwks())
    return folder


@pytest.fixture
def sample(home, inputs):
    with Store.open(home / "history.db", tables=TABLES) as store:
        return prepare(Samples(store), "lab", cuwb, "cuwb", task(inputs)).sample


@pytest_twisted.async_yield_fixture
async def node(router, sample):
    made = Geoms()
    service = await router.serve(made)
    yield made
    await service.stop()


@pytest_twisted.ensureDeferred
async def test_an_old_client_gets_shapes_in_both_spellings(node, sample, inputs):
    client = await connect(node.faces.address)
    geoms, coordinates = {"environment_id": "lab", "date": "2026-07-14"}, {"sample_id": sample, "device_id": "camera-1"}
    assert await client.ask({"event": "ping"}, event("ping", a=[1]), {"ping": {"a": 1}}, {"ping": None}) == [
        {"event": "pong"},
        {"event": "pong", "data": {"a": [1]}},
        {"pong": {"a": 1}},
        {"pong": None},
    ]
    (answer,) = await client.ask(event("getGeoms", **geoms))
    assert answer == {"event": "error", "data": {"message": "Unauthorized", "code": 4401}}
    assert await client.ask(event("auth", Authorization=f"Bearer {token()}")) == [{"event": "authorized", "data": {}}]
    (listed,) = await client.ask(event("getGeoms", **geoms))
    assert listed["event"] == "geoms"
    assert listed["data"]["sample"] == {
        "id": sample,
        "start_time": "2026-07-14T09:00:00.000Z",
        "end_time": "2026-07-14T09:01:00.000Z",
        "frames_per_second": 10,
        "num_frames": 600,
        "frame_width": 1296,
        "frame_height": 972,
        "source_type": "cuwb",
        "source_name": inputs.name,
    }
    shapes = listed["data"]["geoms"]
    assert [one["type"] for one in shapes] == ["Point2D", "Text2D"] * 4
    assert set(shapes[0]) == {"id", "attributes", "type", "object_id", "object_type", "object_name"}
    assert {one["object_type"]: one["attributes"]["color"] for one in shapes} == {"person": "#ff0000", "tray": "#00ff00"}
    (plain,) = await client.ask({"getGeoms": geoms})
    assert plain == {"geoms": listed["data"]}

    asked = {**coordinates, "from": "2026-07-14T09:00:10"}
    (answer,) = await client.ask(event("getCoordinates", **asked))
    assert answer["event"] == "coordinates"
    found = answer["data"]
    assert list(found) == [str(one["id"]) for one in shapes]
    frames = found[str(shapes[0]["id"])]
    assert len(frames) == 251, "both ends are included"
    assert list(frames) == [str(1_784_019_610_000 + 100 * n) for n in range(251)]
    for key, frame in frames.items():
        assert frame["geom_id"] == shapes[0]["id"]
        assert frame["time"] == int(key)
        assert len(frame["coordinates"]) == 2
    (plain,) = await client.ask({"getCoordinates": asked})
    assert plain == {"coordinates": {n: {t: one["coordinates"] for t, one in rows.items()} for n, rows in found.items()}}
    # What is said is what the source made, to a thousandth of a pixel.
    made = cuwb(task(inputs)).collect(0, 600)["camera-1"]
    for number in range(4):
        pixels = [rows["coordinates"] for rows in found[str(shapes[2 * number]["id"])].values()]
        expected = np.round(made[100:351, number], 3)
        assert np.array_equal(np.array(pixels, float), expected, equal_nan=True)
    assert await client.ask({"getCoordinates": {**asked, "device_id": "nobody"}}) == [{"coordinates": {}}]
    assert await client.ask({"getCoordinates": {**asked, "from": "2026-07-14T10:00:00"}}) == [{"coordinates": {}}]
    (answer,) = await client.ask(event("getCoordinates", **{**asked, "seconds": 0}))
    assert [len(rows) for rows in answer["data"].values()] == [1] * 8
    await leave(client)


@pytest_twisted.ensureDeferred
async def test_bad_requests_get_their_code_and_the_socket_stays(node, sample):
    client = await connect(node.faces.address)
    good = {"sample_id": sample, "device_id": "camera-1", "from": "2026-07-14T09:00:00"}
    for frame in (
        "",
        "{",
        "[]",
        "1",
        "null",
        '"ping"',
        b"\xff\xfe",
        b'{"event":"ping"}',
    ):
        (answer,) = await client.ask(frame)
        assert refused(4400, answer), frame
    unknown = ({"event": "x"}, {"event": 7}, {"x": {}}, {})
    for frame in unknown:
        (answer,) = await client.ask(frame)
        assert refused(4401, answer), frame
    for credentials in (None, {}, {"Authorization": 7}, {"Authorization": ""}, {"Authorization": "Bearer"}, "x"):
        (answer,) = await client.ask({"auth": credentials})
        assert refused(4401, answer), credentials
    (answer,) = await client.ask({"auth": {"Authorization": token()}})
    assert answer == {"authorized": {}}
    for frame in unknown:
        (answer,) = await client.ask(frame)
        assert refused(4400, answer), frame
    for more in (
        {"sample_id": "1"},
        {"sample_id": True},
        {"sample_id": 1.5},
        {"sample_id": -1},
        {"sample_id": None},
        {"device_id": 1},
        {"device_id": ""},
        {"device_id": "a\0"},
        {"from": "yesterday"},
        {"from": "2026-13-01T00:00:00"},
        {"from": 0},
        {"seconds": "25"},
        {"seconds": -1},
        {"seconds": None},
        {"seconds": True},
    ):
        (answer,) = await client.ask({"getCoordinates": {**good, **more}})
        assert refused(4400, answer), more
    for data in ({"environment_id": "lab"}, {"date": "2026-07-14"}, {"environment_id": 1, "date": "2026-07-14"}, [], None, 5):
        (answer,) = await client.ask({"getGeoms": data})
        assert refused(4400, answer), data
    for day in ("2026-7-14", "2026-02-30", "14.07.2026", "2026-07-14'; DROP TABLE geom_samples; --"):
        (answer,) = await client.ask({"getGeoms": {"environment_id": "lab", "date": day}})
        assert refused(4400, answer), day
    sql = "lab' OR '1'='1"
    for frame in (
        {"getGeoms": {"environment_id": sql, "date": "2026-07-14"}},
        {"getGeoms": {"environment_id": "lab", "date": "2026-07-15"}},
        {"getCoordinates": {**good, "sample_id": 2**62}},
    ):
        (answer,) = await client.ask(frame)
        assert refused(4404, answer), frame
    (answer,) = await client.ask({"getCoordinates": {**good, "device_id": sql}})
    assert answer == {"coordinates": {}}
    (answer,) = await client.ask(event("getCoordinates", **good, seconds=300.1))
    assert refused(4413, answer)
    answers = await client.ask(
        {"getCoordinates": good}, {"ping": 1}, "{", {"getGeoms": {"environment_id": "lab", "date": "2026-07-14"}}
    )
    assert [next(iter(one)) for one in answers] == ["coordinates", "pong", "event", "geoms"], "in the order they were asked"
    await leave(client)


@pytest_twisted.ensureDeferred
async def test_what_a_ping_holds_comes_back_as_it_was_written_and_what_is_too_long_is_told_so(node):
    client = await connect(node.faces.address)
    payloads = []
    client.onMessage = lambda payload, _binary: payloads.append(payload)
    deep = b"[" * 400 + b"]" * 400
    for data in (deep, b"123456789012345678901234567890", b"1.0", b'{"a":1,"a":2}', b'"\\u00e4\\/"', b" [ 1 ] "):
        client.sendMessage(b'{"ping":%b}' % data)
        client.sendMessage(b'{"event":"ping","data":%b}' % data)
        await until(lambda: len(payloads) >= 2)
        assert payloads == [b'{"pong":%b}' % data.strip(), b'{"event":"pong","data":%b}' % data.strip()]
        payloads.clear()
    # Deeper than anybody decodes; longer than a message is, in one piece and in many: each is answered, and the socket lives.
    client.sendMessage(b'{"ping":%b}' % (b"[" * 30_000 + b"]" * 30_000))
    client.sendMessage(b'{"ping":"%b"}' % (b"." * 5_000_000))
    client.sendMessage(b'{"ping":"%b"}' % (b"." * 100_000), fragmentSize=1000)
    client.sendMessage(b'{"ping":"%b"}' % (b"." * 60_000), fragmentSize=1000)
    await until(lambda: len(payloads) >= 4)
    assert [json.loads(one)["data"]["code"] for one in payloads[:3]] == [4400, 4413, 4413]
    assert json.loads(payloads[3]) == {"pong": "." * 60_000}
    await leave(client)


@pytest_twisted.ensureDeferred
async def test_only_good_tokens_authorize(node):
    client = await connect(node.faces.address)
    public = KEYS["RS256"].public_key()
    from cryptography.hazmat.primitives import serialization

    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    import base64
    import hmac

    def forged(header, key=None):
        parts = [base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=") for one in (header, json.loads(_claims()))]
        text = b".".join(parts)
        mac = b"" if key is None else base64.urlsafe_b64encode(hmac.digest(key, text, "sha256")).rstrip(b"=")
        return (text + b"." + mac).decode()

    def _claims():
        now = time.time()
        return json.dumps({"iss": "https://login.example.org/", "aud": "sisock", "sub": "alice", "exp": now + 60})

    bad = {
        "expired": token(exp=time.time() - 5),
        "another audience": token(aud="other"),
        "another issuer": token(iss="https://elsewhere.example.org/"),
        "another key": token(key=OTHER),
        "an unknown key": token(kid="nobody"),
        "none": forged({"alg": "none", "typ": "JWT"}),
        "HS256 with the public key": forged({"alg": "HS256", "typ": "JWT", "kid": "RS256"}, pem),
        "another algorithm": token("ES256"),
        "EdDSA": token("EdDSA"),
        "rubbish": "a.b.c",
        "long": "a" * 20_000,
    }
    for name, one in bad.items():
        (answer,) = await client.ask(event("auth", Authorization=one))
        assert answer == {"event": "error", "data": {"message": "Unauthorized", "code": 4401}}, name
        (answer,) = await client.ask({"getGeoms": {"environment_id": "lab", "date": "2026-07-14"}})
        assert refused(4401, answer), name
        # Somebody who fails so often would be answered late.
        node.faces.connections.door._throttle.__init__()
    assert await client.ask(event("auth", Authorization="Bearer " + token())) == [{"event": "authorized", "data": {}}]
    await leave(client)


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
async def test_the_port_says_what_it_offers(node):
    assert not differences(node.faces.application(), DOCUMENT)
    text = await deferToThread(lambda: urllib.request.urlopen(f"{node.faces.address}/metrics", timeout=10).read().decode())
    assert "sisock_geom_connections 0.0" in text


@pytest_twisted.ensureDeferred
async def test_while_the_store_is_away_clients_are_told_and_stay(router, home, monkeypatch):
    monkeypatch.setenv("SISOCK_STORE", f"postgresql://postgres@/geoms?host={home}")
    made = Geoms()
    service = await router.serve(made)
    client = await connect(made.faces.address)
    await client.ask({"auth": {"Authorization": token()}})
    (answer,) = await client.ask({"getGeoms": {"environment_id": "lab", "date": "2026-07-14"}})
    assert refused(4503, answer)
    assert "waits for the store" in made.trouble()
    assert await client.ask({"ping": 1}) == [{"pong": 1}]
    await leave(client)
    await service.stop()


@pytest_twisted.ensureDeferred
async def test_a_node_sweeps_what_a_killed_preparation_left(router, sample, home, inputs):
    with Store.open(home / "history.db", tables=TABLES) as store:
        samples = Samples(store)
        plan = Plan("lab", START, START + 1_000_000, 10.0, 10, (1, 1), "cuwb", ["camera-1"])
        left = samples.begin(plan)
        store.node(left.history).release()
        with store.database.writing() as tx:
            # Beyond the numbers that processes have.
            tx.run("UPDATE geom_samples SET holder = ? WHERE id = ?", f"{socket.gethostname()} {2**22 + 1}", left.id)
        made = Geoms()
        service = await router.serve(made)
        assert [one.id for one in samples.all()] == [sample]
        await deferToThread(made.look)
        assert made._seen == {}
        await service.stop()


@pytest_twisted.ensureDeferred
async def test_consumers_see_the_same_shapes(node, sample, router, inputs):
    consumer = await Consumer(router.access()).start()
    catalogue = await consumer.get_fields("geom", START / 1e6, START / 1e6 + 10)
    timeline = f"{sample}.camera-1"
    names = [name for name, field in catalogue.fields.items() if field.timeline == timeline]
    assert len(names) == 16, "x and y of a point and a text for each of four tags"
    field = catalogue.fields[names[0]]
    assert field.labels["object_type"] == "person"
    assert "Ada" in field.description
    assert field.units == "px"
    assert catalogue.timelines[timeline].interval == 0.1
    assert not (await consumer.get_fields("geom", 1.0, 2.0)).fields
    answer = await consumer.get_data("geom", names, START / 1e6, START / 1e6 + 1)
    made = cuwb(task(inputs)).collect(0, 600)["camera-1"]
    assert answer["timeline"][timeline]["finalized_until"] is None, "a finished sample does not change"
    frames = np.rint((np.array(answer["timeline"][timeline]["t"]) - START / 1e6) * 10).astype(int)
    assert len(frames) >= 9, "where nobody is seen is no row"
    assert np.array_equal(np.array(answer["data"][names[0]], float), np.round(made[frames, 0, 0], 3), equal_nan=True)
    assert answer["data"][names[0]] == answer["data"][names[2]], "the text stands where the point does"
    few = await consumer.get_data("geom", names[:1], START / 1e6, None, max_points=10)
    assert few["timeline"][timeline]["finalized_until"] is None
    assert len(few["timeline"][timeline]["t"]) <= 10
    await consumer.stop()


_texts = st.one_of(
    st.text(max_size=30), st.sampled_from(["lab", "2026-07-14", "camera-1", "2026-07-14T09:00:00", "' OR 1=1; --"])
)
_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), _texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_texts, inner, max_size=4)),
    max_leaves=12,
)
_names = st.sampled_from(["ping", "auth", "getGeoms", "getCoordinates"])
_keys = st.sampled_from(["Authorization", "environment_id", "date", "sample_id", "device_id", "from", "seconds"])
_data = st.one_of(_json, st.dictionaries(_keys, _json, max_size=7))
_frames = st.one_of(
    st.binary(max_size=60),
    _json.map(lambda told: json.dumps(told).encode()),
    st.builds(lambda name, data: json.dumps({"event": name, "data": data}).encode(), st.one_of(_names, _json), _data),
    st.builds(lambda name, data: json.dumps({name: data}).encode(), _names, _data),
    st.builds(lambda name, data, more: json.dumps({"event": name, "data": data, "x": more}).encode(), _names, _data, _json),
)


@pytest_twisted.ensureDeferred
async def test_whatever_is_sent_is_answered_and_the_socket_lives(node):
    batches = []

    @given(st.lists(st.tuples(_frames, st.booleans()), min_size=20, max_size=40))
    @settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def gather(batch):
        batches.append(batch)

    gather()
    client = await connect(node.faces.address)
    await client.ask({"auth": {"Authorization": token()}})
    for batch in batches:
        before = len(client.answers)
        for payload, binary in batch:
            # Text that is no UTF-8 goes out as it is, too.
            client.sendFrame(opcode=2 if binary else 1, payload=payload)
        await until(lambda: len(client.answers) >= before + len(batch))  # noqa: B023  it is awaited here
        for (payload, _), told in zip(batch, client.answers[before:], strict=True):
            kind = told.get("event") or next(iter(told))
            assert kind in {"pong", "authorized", "error", "geoms", "coordinates"}, (payload, told)
            if kind == "error":
                error = told.get("error") or told["data"]
                assert error["code"] in {4400, 4401, 4404, 4413}, (payload, told)
        node.faces.connections.door._throttle.__init__()
    assert (await client.ask({"ping": 1})) == [{"pong": 1}]
    await leave(client)


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


@pytest_twisted.ensureDeferred
async def test_a_load_is_seen_live_as_a_node_and_by_clients_when_it_is_whole(node, sample, router, home):
    client = await connect(node.faces.address)
    await client.ask({"auth": {"Authorization": token()}})
    go_on = threading.Event()

    def slow(_task):
        def collect(low, high):
            if low >= 2 * 8192:
                assert go_on.wait(60)
            return {"c": np.full((high - low, 1, 2), low / 8192)}

        return Shapes([Geom("u", "Point2D", (0,), {}, "t", "person", "Ada")], {"c": (10, 10)}, 1, collect)

    def load():
        with Store.open(home / "history.db", tables=TABLES) as store:
            return prepare(
                Samples(store), "lab", slow, "slow", Task(home, Frames.between(START, START + 3_000_000_000, 10))
            ).sample

    loading = deferToThread(load)
    number = sample + 1
    consumer = await Consumer(router.access()).start()

    async def came():
        catalogue = await consumer.get_fields("geom", START / 1e6, None)
        names = [name for name in catalogue.fields if name.startswith(f"{number}.c.")]
        return names and (await consumer.get_data("geom", names, START / 1e6, None, max_points=10))["data"] and names

    names = await until(came)
    assert len(names) == 2
    data = await consumer.get_data("geom", names, START / 1e6, None, max_points=10)
    assert data["timeline"][f"{number}.c"]["finalized_until"] is not None, "more of it will come"
    follower = consumer.follow("geom", names[:1], start=START / 1e6)
    seen = Seen(follower)
    await until(lambda: seen.count(f"{number}.c") == 2 * 8192, 20)
    (answer,) = await client.ask({"getGeoms": {"environment_id": "lab", "date": "2026-07-14"}})
    assert answer["geoms"]["sample"]["id"] == sample, "clients see the one before"
    (answer,) = await client.ask(event("getCoordinates", sample_id=number, device_id="c", **{"from": "2026-07-14T09:00:00"}))
    assert refused(4404, answer)
    go_on.set()
    assert await loading == number
    await until(lambda: seen.count(f"{number}.c") == 30_000, 20)
    assert not seen.missing
    (answer,) = await client.ask({"getGeoms": {"environment_id": "lab", "date": "2026-07-14"}})
    assert answer["geoms"]["sample"]["id"] == number
    follower.stop()
    await consumer.stop()
    await leave(client)


class TestGeoms(NodeContract):
    node = Geoms

    @pytest.fixture(autouse=True)
    def surroundings(self, sample):
        """There is a sample."""
