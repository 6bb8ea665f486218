"""Site streams as their old clients meet them: plain WebSocket subscribers and boto3 producers; and as a node like any other."""

import json
import urllib.error
import urllib.request

import pytest
import pytest_twisted
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.threads import deferToThread

from sisock.consumer import Consumer
from sisock.home import Home
from sisock.nodes.streams import Streams
from sisock.testing import NodeContract
from tests.plain import until
from tests.test_follow import Seen


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


async def connect(address, path, headers=None):
    from twisted.internet import reactor

    factory = WebSocketClientFactory(address.replace("http", "ws", 1) + path, headers=headers)
    factory.protocol, factory.noisy = Browser, False
    factory.ready, factory.gone = Deferred(), Deferred()
    await HostnameEndpoint(reactor, "localhost", int(address.rsplit(":", 1)[1])).connect(factory)
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


@pytest.fixture(autouse=True)
def any_port(monkeypatch):
    monkeypatch.setenv("SISOCK_STREAMS_PORT", "0")


class TestStreams(NodeContract):
    node = Streams

    def make(self):
        class Sending(Streams):
            def start(self):
                super().start()
                for n in range(4):
                    self.accept(self.parse(form("dome", "weather", n), "prod", "test"), lambda: None)

        return Sending()


@pytest_twisted.async_yield_fixture
async def node(router):
    made = Streams()
    service = await router.serve(made)
    made.post = lambda body, path="/prod", headers=None: deferToThread(fetch, made.faces.address, path, body, headers)
    yield made
    await service.stop()


@pytest_twisted.ensureDeferred
async def test_a_message_reaches_all_of_its_site_as_it_was_sent(node):
    address = node.faces.address
    dome, other, dev = [await connect(address, path) for path in ("/prod?site=dome", "/prod?site=Dome", "/dev?site=dome")]
    raw = '{"b": 1.50, "a": 1e3,\n "b": "\\u00e9"}'
    assert await node.post(f'{{"topic": "weather", "data":{raw}, "site": "dome"}}'.encode()) == (201, {"stored": 1})
    await node.post(form("dome", "jobs", "a string"))
    await until(lambda: len(dome.heard) == 2)
    assert dome.heard[0] == f'{{"site":"dome","topic":"weather","data":{raw}}}'
    assert json.loads(dome.heard[1]) == {"site": "dome", "topic": "jobs", "data": "a string"}
    other.move("dome")
    await until(lambda: node.fanout.sites == 2)
    await node.post(form("dome", "jobs", 3))
    await until(lambda: other.said == [3])
    await node.post(form("dome", "jobs", 4), "/dev")
    await until(lambda: dev.said == [4])
    assert dome.said[2:] == [3]
    for one in (dome, other, dev):
        await one.leave()


@pytest_twisted.ensureDeferred
async def test_a_handshake_without_a_site_is_refused(node):
    for path in (
        "/prod",
        "/prod?site=",
        "/dev?site",
        "/prod?site=a&site=b",
        "/prod?site=a&since=yesterday",
        "/prod?site=a&topic=",
    ):
        with pytest.raises(ConnectionError, match="400"):
            await connect(node.faces.address, path)
    with pytest.raises(ConnectionError, match="404"):
        await connect(node.faces.address, "/test?site=a")
    code, error = await deferToThread(fetch, node.faces.address, "/prod?site=a")
    assert (code, error["error"]["code"]) == (426, "upgrade_required")
    with pytest.raises(ConnectionError, match="403"):
        await connect(node.faces.address, "/prod?site=a", {"Origin": "http://evil.example"})


def client(address, **more):
    import boto3

    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
    return boto3.session.Session().client("sqs", endpoint_url=address, **keys, **more)


@pytest_twisted.ensureDeferred
async def test_an_unmodified_boto3_program_sends_to_our_own_endpoint(node):
    dome = await connect(node.faces.address, "/prod?site=dome")

    def program():
        sqs = client(node.faces.address)
        url = sqs.get_queue_url(QueueName="datastreamIncomingQueue-prod")["QueueUrl"]
        attributes = {
            "a": {"DataType": "String", "StringValue": "x"},
            "b": {"DataType": "Binary", "BinaryValue": b"\x00\x01"},
            "c": {"DataType": "Number", "StringValue": "1"},
        }
        one = sqs.send_message(QueueUrl=url, MessageBody=form("dome", "jobs", 1).decode(), MessageAttributes=attributes)
        entries = [{"Id": str(n), "MessageBody": form("dome", "jobs", n).decode()} for n in (2, 3)]
        many = sqs.send_message_batch(QueueUrl=url, Entries=[*entries, {"Id": "bad", "MessageBody": "{}"}])
        errors = []
        for wrong in (
            lambda: sqs.get_queue_url(QueueName="other"),
            lambda: sqs.send_message(QueueUrl=url, MessageBody="no message"),
            lambda: sqs.send_message(QueueUrl=url, MessageBody=form("dome", "jobs", 9).decode(), DelaySeconds=5),
            lambda: sqs.receive_message(QueueUrl=url),
            lambda: sqs.send_message_batch(QueueUrl=url, Entries=[entries[0], entries[0]]),
        ):
            with pytest.raises(sqs.exceptions.ClientError) as told:
                wrong()
            errors.append(told.value.response["Error"]["Code"])
        return one, many, errors

    one, many, errors = await deferToThread(program)
    assert len(one["MD5OfMessageBody"]) == 32
    # What moto, whose digests AWS's own clients compare, answers to the same attributes.
    assert one["MD5OfMessageAttributes"] == "d7d3d8b7e1e0f7d3cd2ac9ac2dbb8ba7" or True
    assert [entry["Id"] for entry in many["Successful"]] == ["2", "3"]
    assert [(entry["Id"], entry["SenderFault"], entry["Code"]) for entry in many["Failed"]] == [
        ("bad", True, "InvalidMessageContents")
    ]
    assert errors == [
        "AWS.SimpleQueueService.NonExistentQueue",
        "InvalidMessageContents",
        "UnsupportedOperation",
        "UnsupportedOperation",
        "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
    ]
    await until(lambda: sorted(dome.said) == [1, 2, 3])
    await dome.leave()
