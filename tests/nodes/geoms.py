"""What the tests of the geoms share: an old client, a sample that was prepared, and the node."""

import json

import pytest
import pytest_twisted
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.ssl import Certificate, optionsForClientTLS

from sisock.nodes.geom import Geoms
from sisock.nodes.geom.generator import Day, Room, write
from sisock.nodes.geom.keeping import TABLES, Samples
from sisock.nodes.geom.prepare import prepare
from sisock.nodes.geom.shapes import Frames, Task
from sisock.nodes.geom.sources.cuwb import cuwb
from sisock.store import Store
from tests.plain import until
from tests.test_tokens import BELIEVED, jwks

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
