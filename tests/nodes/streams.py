"""What the tests of site streams share: pages that listen, programs that send, and the node."""

import json
import urllib.error
import urllib.request

import pytest
import pytest_twisted
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.internet.threads import deferToThread

from sisock.nodes.streams import Streams


class Browser(WebSocketClientProtocol):
    """A page: it listens, and may move to another site."""

    def onOpen(self):
        self.heard = []
        self.factory.ready.callback(self)

    def onMessage(self, payload, _binary):
        self.heard.append(payload.decode())

    def onClose(self, _clean, code, reason):
        if not self.factory.ready.called:
            self.factory.ready.errback(ConnectionError(reason))
        self.factory.gone.callback(code)

    def move(self, site):
        self.sendMessage(json.dumps({"action": "updatesubscribersite", "site": site}).encode())

    @property
    def said(self):
        return [json.loads(text)["data"] for text in self.heard]

    async def leave(self):
        self.sendClose()
        await self.factory.gone


async def connect(address, path, headers=None, authority=None):
    from twisted.internet import reactor

    factory = WebSocketClientFactory(address.replace("http", "ws", 1) + path, headers=headers)
    factory.protocol, factory.noisy = Browser, False
    factory.ready, factory.gone = Deferred(), Deferred()
    endpoint = HostnameEndpoint(reactor, "localhost", int(address.rsplit(":", 1)[1]))
    if authority is not None:
        trusted = Certificate.loadPEM(authority.read_bytes())
        endpoint = wrapClientTLS(optionsForClientTLS("localhost", trustRoot=trusted), endpoint)
    await endpoint.connect(factory)
    return await factory.ready


def fetch(address, path, body=None, headers=None):
    request = urllib.request.Request(address + path, data=body, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def form(site, topic, data, **more):
    return json.dumps({"site": site, "topic": topic, "data": data, **more}).encode()


def client(address, name="any", secret="any", **more):
    import boto3

    keys = {"aws_access_key_id": name, "aws_secret_access_key": secret, "region_name": "us-east-1"}
    return boto3.session.Session().client("sqs", endpoint_url=address, **keys, **more)


@pytest.fixture(autouse=True)
def any_port(monkeypatch):
    monkeypatch.setenv("SISOCK_STREAMS_PORT", "0")


@pytest_twisted.async_yield_fixture
async def node(router):
    made = Streams()
    service = await router.serve(made)
    made.post = lambda body, path="/prod", headers=None: deferToThread(fetch, made.faces.address, path, body, headers)
    yield made
    await service.stop()


@pytest.fixture(scope="module")
def moto():
    """Another queue that speaks as SQS does, with none of our code in it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()
