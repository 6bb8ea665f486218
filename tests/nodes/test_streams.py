"""Site streams as their old clients meet them, plain WebSocket subscribers and boto3 producers; and as a node."""

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

from sisock.blocks import Block
from sisock.certificates import Certificates
from sisock.consumer import Consumer
from sisock.errors import NodeFailed, StoreAway
from sisock.home import Home
from sisock.nodes.streams import Streams
from sisock.nodes.streams.document import DOCUMENT
from sisock.nodes.streams.fanout import FanOut, Sent
from sisock.nodes.streams.simulator import Producers
from sisock.openapi import differences
from sisock.testing import Link, NodeContract
from tests.conforming import conforms
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
                    self.accept([self.parse(form("dome", "weather", n), "prod", "test")], lambda: None)

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


def client(address, name="any", secret="any", **more):
    import boto3

    keys = {"aws_access_key_id": name, "aws_secret_access_key": secret, "region_name": "us-east-1"}
    return boto3.session.Session().client("sqs", endpoint_url=address, **keys, **more)


ATTRIBUTES = {
    "a": {"DataType": "String", "StringValue": "x"},
    "b": {"DataType": "Binary", "BinaryValue": b"\x00\x01"},
    "c": {"DataType": "Number", "StringValue": "1"},
}


@pytest.fixture(scope="module")
def moto():
    """Another queue that speaks as SQS does, with none of our code in it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def aws(moto):
    return client(moto)


@pytest_twisted.ensureDeferred
async def test_an_unmodified_boto3_program_sends_to_our_own_endpoint(node, aws):
    dome = await connect(node.faces.address, "/prod?site=dome")

    def program():
        sqs = client(node.faces.address)
        url = sqs.get_queue_url(QueueName="datastreamIncomingQueue-prod")["QueueUrl"]
        one = sqs.send_message(QueueUrl=url, MessageBody=form("dome", "jobs", 1).decode(), MessageAttributes=ATTRIBUTES)
        entries = [{"Id": str(n), "MessageBody": form("dome", "jobs", n).decode()} for n in (2, 3)]
        many = sqs.send_message_batch(QueueUrl=url, Entries=[*entries, {"Id": "bad", "MessageBody": "{}"}])
        errors, nine = [], form("dome", "jobs", 9).decode()
        for wrong in (
            lambda: sqs.get_queue_url(QueueName="other"),
            lambda: sqs.send_message(QueueUrl=url, MessageBody="no message"),
            lambda: sqs.send_message(QueueUrl=url, MessageBody=nine, DelaySeconds=5),
            lambda: sqs.receive_message(QueueUrl=url),
            lambda: sqs.send_message(QueueUrl=url, MessageBody=nine, MessageAttributes={"a": {"DataType": "String"}}),
            lambda: sqs.send_message_batch(QueueUrl=url, Entries=[entries[0], entries[0]]),
        ):
            with pytest.raises(sqs.exceptions.ClientError) as told:
                wrong()
            errors.append(told.value.response["Error"]["Code"])
        return one, many, errors

    one, many, errors = await deferToThread(program)
    url = await deferToThread(lambda: aws.create_queue(QueueName="digests")["QueueUrl"])
    other = await deferToThread(
        lambda: aws.send_message(QueueUrl=url, MessageBody=form("dome", "jobs", 1).decode(), MessageAttributes=ATTRIBUTES)
    )
    assert all(one[name] == other[name] for name in ("MD5OfMessageBody", "MD5OfMessageAttributes"))
    assert [entry["Id"] for entry in many["Successful"]] == ["2", "3"]
    assert [(entry["Id"], entry["SenderFault"], entry["Code"]) for entry in many["Failed"]] == [
        ("bad", True, "InvalidMessageContents")
    ]
    assert errors == [
        "AWS.SimpleQueueService.NonExistentQueue",
        "InvalidMessageContents",
        "UnsupportedOperation",
        "UnsupportedOperation",
        "InvalidParameterValue",
        "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
    ]
    await until(lambda: sorted(dome.said) == [1, 2, 3])
    await dome.leave()


@pytest_twisted.ensureDeferred
async def test_a_program_of_the_older_query_protocol(node):
    from urllib.parse import urlencode
    from xml.etree import ElementTree

    dome = await connect(node.faces.address, "/dev?site=dome")
    space = "{http://queue.amazonaws.com/doc/2012-11-05/}"

    def ask(path, **told):
        request = urllib.request.Request(node.faces.address + path, urlencode(told).encode())
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, ElementTree.fromstring(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, ElementTree.fromstring(error.read())

    def program():
        _, told = ask("/", Action="GetQueueUrl", QueueName="datastreamIncomingQueue-dev")
        url = told.find(f".//{space}QueueUrl").text
        path = url.removeprefix(node.faces.address)
        _, one = ask(path, Action="SendMessage", MessageBody=form("dome", "t", 1).decode())
        entry = "SendMessageBatchRequestEntry"
        many = {f"{entry}.{n}.Id": f"<{n}>" for n in (1, 2)}
        many |= {f"{entry}.1.MessageBody": form("dome", "t", 2).decode(), f"{entry}.2.MessageBody": "[]"}
        many |= {f"{entry}.1.MessageAttribute.1.{key}": value for key, value in (("Name", "a"), ("Value.DataType", "String"))}
        many[f"{entry}.1.MessageAttribute.1.Value.StringValue"] = "x"
        return one, ask("/", Action="SendMessageBatch", QueueUrl=url, **many)[1], ask("/", Action="GetQueueUrl", QueueName="x")

    one, many, (code, refused) = await deferToThread(program)
    assert len(one.find(f".//{space}MD5OfMessageBody").text) == 32
    assert [entry.text for entry in many.iterfind(f".//{space}SendMessageBatchResultEntry/{space}Id")] == ["<1>"]
    assert many.find(f".//{space}MD5OfMessageAttributes") is not None
    assert [entry.text for entry in many.iterfind(f".//{space}BatchResultErrorEntry/{space}Id")] == ["<2>"]
    assert (code, refused.find(f".//{space}Code").text) == (400, "AWS.SimpleQueueService.NonExistentQueue")
    await until(lambda: sorted(dome.said) == [1, 2])
    await dome.leave()


@pytest_twisted.ensureDeferred
async def test_a_queue_is_read_and_what_is_no_message_goes_to_the_dead_letters(router, moto, aws, monkeypatch):
    from sisock.nodes.streams.producers import queue as module

    monkeypatch.setattr(module, "AGAIN", 0)
    monkeypatch.setattr(module, "POLL", 1)
    monkeypatch.setattr(module, "PAUSE", 0.05)
    read, wrong = module.Reader._read, [RuntimeError("an answer that nobody expects")]

    def read_or_fail(self):
        if wrong:
            raise wrong.pop()
        read(self)

    monkeypatch.setattr(module.Reader, "_read", read_or_fail)
    names = {"AWS_ENDPOINT_URL_SQS": moto, "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
    for name, value in {**names, "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SISOCK_STREAMS_QUEUES", "prod=datastreamIncomingQueue-prod")
    made = Streams()
    service = await router.serve(made)
    dome = await connect(made.faces.address, "/prod?site=dome")

    def left(url):
        told = aws.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return int(told["ApproximateNumberOfMessages"]) + int(told["ApproximateNumberOfMessagesNotVisible"])

    def program():
        # The queue comes up after its reader.
        url, dead = (aws.create_queue(QueueName=f"datastreamIncoming{name}-prod")["QueueUrl"] for name in ("Queue", "DLQ"))
        aws.send_message(QueueUrl=url, MessageBody='{"site": "dome"}')
        for n in range(12):
            aws.send_message(QueueUrl=url, MessageBody=form("dome", "weather", n).decode())
        return url, dead

    try:
        url, dead = await deferToThread(program)
        await until(lambda: sorted(dome.said) == list(range(12)))
        await until(lambda: deferToThread(lambda: left(url) == 0 and left(dead) == 1), 20)
        told = await deferToThread(lambda: aws.receive_message(QueueUrl=dead)["Messages"][0])
        assert told["Body"] == '{"site": "dome"}'
        assert made.errors.counts["queue"] >= 5
        assert "topic" in made.errors.newest["queue"]
    finally:
        await dome.leave()
        await service.stop()


@pytest_twisted.ensureDeferred
async def test_what_a_queue_delivers_again_is_known_by_its_own_id_and_not_by_what_it_holds(node):
    from sisock.nodes.streams.producers.queue import Reader

    dome = await connect(node.faces.address, "/prod?site=dome")
    reader = Reader(node, "jobs.fifo", "prod", 0)
    for queued in ("1", "1", "2"):
        # A FIFO queue that reads its ids off the bodies gives equal messages, days apart, the same.
        told = {"MessageDeduplicationId": "digest"}
        assert reader._take({"Body": form("dome", "jobs", 5).decode(), "MessageId": queued, "Attributes": told}, lambda: None)
    await node.post(form("dome", "jobs", "last"))
    await until(lambda: dome.said[-1:] == ["last"])
    assert dome.said == [5, 5, "last"]
    await dome.leave()


@pytest_twisted.ensureDeferred
async def test_one_who_cannot_be_told_does_not_keep_it_from_the_others():
    class One:
        key, topics = ("prod", "dome"), None

        def __init__(self, fails):
            self.fails, self.heard = fails, 0

        def give(self, frames, count):
            if self.fails:
                raise RuntimeError("a defect")
            self.heard += count

    made, ones = FanOut(), [One(False), One(True), One(False)]
    for one in ones:
        made.join(one)
    await made.send([Sent(1, ("prod", "dome"), "jobs", b"frame")])
    assert [one.heard for one in ones] == [1, 0, 1]
    assert made.counts.deliveries == 2


@pytest_twisted.ensureDeferred
async def test_a_program_on_the_router_sends(router, node, guests, rules):
    from autobahn.wamp.exception import ApplicationError

    dome = await connect(node.faces.address, "/prod?site=dome")
    send = "org.simonsobservatory.consumer.streams.send"
    camera = await guests(router.user("camera", "camera"))
    trusted = await guests("server")
    assert await camera.call(send, "dome", "imagedata", {"b": 1, "a": [None, "é"]})
    assert await trusted.call(send, "dome", "jobs", 2, id="x")
    assert await trusted.call(send, "dome", "jobs", 2, id="x")
    await until(lambda: dome.said == [{"b": 1, "a": [None, "é"]}, 2])
    for wrong in (("", "t", 1), ("dome", "t"), (1, "t", 1), ("dome", "t", float("nan")), ("dome", "t", 1, None, "test")):
        with pytest.raises(ApplicationError) as told:
            await trusted.call(send, *wrong)
        assert told.value.error.startswith("sisock.error."), wrong
    reader = await guests("consumer")
    with pytest.raises(ApplicationError) as told:
        await reader.call(send, "dome", "jobs", 1)
    assert told.value.error == "wamp.error.not_authorized"
    await rules(([reader.user[0]], ["streams"], ["see", "send"]))
    assert await reader.call(send, "dome", "jobs", 3)
    with pytest.raises(ApplicationError):
        await camera.call(send, "dome", "jobs", 1)
    await dome.leave()


@pytest_twisted.ensureDeferred
async def test_topics_and_what_was_since_then_before_what_comes(node):
    address = node.faces.address
    for n in range(30):
        await node.post(form("dome", ("weather", "jobs")[n % 2], n))
    await node.post(form("other", "weather", "not ours"))
    some, all_ = [await connect(address, f"/prod?site=dome&{query}") for query in ("topic=weather,x", "since=-1h")]
    later = await connect(address, "/prod?site=dome&since=-1h&topic=jobs")
    now = await connect(address, "/prod?site=dome&since=now")
    await node.post(form("dome", "jobs", "new"))
    await node.post(form("dome", "weather", "newer"))
    await until(lambda: len(now.heard) == 2)
    await until(lambda: some.said == ["newer"])
    await until(lambda: all_.said == [*range(30), "new", "newer"])
    assert later.said == [*range(1, 30, 2), "new"]
    for one in (some, all_, later, now):
        await one.leave()


@pytest_twisted.ensureDeferred
async def test_who_joins_in_the_middle_misses_nothing_and_hears_nothing_twice(node, monkeypatch):
    """While producers send without a pause, with next to nothing kept in memory, so that the history has to be read."""
    from sisock.nodes.streams import fanout
    from sisock.nodes.streams import node as module

    monkeypatch.setattr(fanout, "RECENT", 20)
    monkeypatch.setattr(module, "CHUNK", 500)
    sent = 0

    async def burst(count):
        nonlocal sent
        numbers, sent = range(sent, sent + count), sent + count
        await node.post(b"[" + b",".join(form("dome", f"topic {n % 3}", n) for n in numbers) + b"]")

    await burst(1000)
    joined = []
    for _ in range(8):
        joined.append(await connect(node.faces.address, "/prod?site=dome&since=-1h"))
        await burst(200)
    for one in joined:
        await until(lambda one=one: len(one.heard) >= sent)
        assert one.said == list(range(sent))
        await one.leave()


@pytest_twisted.ensureDeferred
async def test_a_message_with_an_id_is_kept_once_also_after_a_restart(router, tmp_path):
    from sisock.store.store import Store

    store = Store.open(tmp_path / "h.db")
    try:
        for _ in range(2):
            made = Streams()
            made.history = store.node("streams")
            service = await router.serve(made)
            for _ in range(2):
                for topic in ("jobs", "weather"):
                    code, _ = await deferToThread(fetch, made.faces.address, "/prod", form("dome", topic, 1, id="a"))
                    assert code == 201
            await deferToThread(fetch, made.faces.address, "/prod", form("dome", "jobs", 2))
            await service.stop()
        there = made.history.read("dome/jobs", ["dome/jobs", "dome/jobs/id"], 0, 2**60)[0]
        assert there.columns["dome/jobs"].to_list() == ["1", "2", "2"]
        assert there.columns["dome/jobs/id"].to_list() == ["a", None, None]
    finally:
        store.close()


@pytest_twisted.ensureDeferred
async def test_one_who_does_not_read_is_cut_off_and_counted_and_the_others_go_on(node, monkeypatch):
    from sisock.nodes.streams import subscribers

    monkeypatch.setattr(subscribers, "MAX_BACKLOG", 1 << 20)
    good = await connect(node.faces.address, "/prod?site=dome")
    slow = await connect(node.faces.address, "/prod?site=dome")
    slow.transport.pauseProducing()
    data = "x" * 200_000
    sent = 0
    while not node.fanout.counts.slow:
        assert sent < 200
        await node.post(form("dome", "imagedata", data))
        sent += 1
    await until(lambda: len(good.heard) == sent)
    assert node.fanout.subscribers == 1
    slow.transport.resumeProducing()
    await slow.factory.gone
    await good.leave()


class Raw:
    """A subscriber that costs little: it counts bytes."""

    def __init__(self, address, path):
        import socket

        self.socket = socket.create_connection(("localhost", int(address.rsplit(":", 1)[1])), 30)
        key = "dGhlIHNhbXBsZSBub25jZQ=="
        lines = ["GET " + path + " HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade"]
        self.socket.sendall("\r\n".join([*lines, f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "", ""]).encode())
        self.file = self.socket.makefile("rb")
        assert b" 101 " in self.file.readline()
        while self.file.readline() != b"\r\n":
            pass

    def message(self):
        head = self.file.read(2)
        assert head[0] == 0x81 and head[1] < 126, head
        return self.file.read(head[1])


@pytest_twisted.ensureDeferred
async def test_all_hear_it_however_many_they_are(node):
    made = []

    # These answer no ping, and on a busy machine a thousand take a while.
    node.faces.subscribers.setProtocolOptions(autoPingInterval=0)

    def more(count):
        made.extend(Raw(node.faces.address, "/prod?site=dome") for _ in range(count - len(made)))

    try:
        for count in (10, 11, 1000, 1001):
            await deferToThread(more, count)
            await until(lambda count=count: node.fanout.subscribers == count)
            await node.post(form("dome", "jobs", count))
            heard = await deferToThread(lambda: {one.message() for one in made})
            assert [json.loads(text)["data"] for text in heard] == [count]
    finally:
        for one in made:
            one.file.close()
            one.socket.close()
    await until(lambda: not node.fanout.subscribers)


@pytest_twisted.ensureDeferred
async def test_streams_are_a_node_like_any_other(router, node):
    consumer = await Consumer(router.access()).start()
    try:
        await node.post(form("a/b:c%", "weather", {"t": 1.50}))
        name = "a%2Fb%3Ac%25/weather"
        catalogue = await consumer.get_fields("streams")
        assert {field: spec.timeline for field, spec in catalogue.fields.items()} == dict.fromkeys(
            (name, f"{name}/id", f"{name}/bytes"), name
        )
        labels = {"site": "a/b:c%", "topic": "weather", "stage": "prod"}
        assert (catalogue.fields[f"{name}/bytes"].units, catalogue.fields[f"{name}/bytes"].labels) == ("B", labels)
        seen = Seen(consumer.follow("streams", [name, f"{name}/bytes"], start=-60.0))
        await until(lambda: seen.count(name) == 1)
        await node.post(form("a/b:c%", "weather", [1]))
        await until(lambda: seen.count(name) == 2)
        columns = seen.rows[name].columns
        assert columns[name].values.tolist() == ['{"t": 1.5}', "[1]"]
        assert columns[f"{name}/bytes"].values.tolist() == [10, 3]
    finally:
        await consumer.stop()


@pytest_twisted.ensureDeferred
async def test_what_is_wrong_is_said_and_counted(node):
    for body in (b"", b"[", b"{}", b"[{}]", b'{"site":"a","topic":"t","data":NaN}', form("", "t", 1), form("a", "t\n", 1),
                 form("a" * 255, "t", 1), form("a", "t", 1, id=""), b'{"site":"a","topic":"t","data":"\xff"}'):  # fmt: skip
        code, error = await node.post(body)
        assert (code, error["error"]["code"]) == (400, "sisock.error.invalid_argument"), body
    assert node.errors.counts["http"] == 10
    code, refused = await deferToThread(fetch, node.faces.address, "/refused")
    assert refused.keys() == {"http"}
    assert (await node.post(form("a", "t", 1), "/nope"))[0] == 404
    deep = b'{"site":"a","topic":"t","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert (await node.post(deep))[0] == 400
    big = form("a", "t", "x" * (1 << 20))
    assert (await node.post(big))[0] == 400
    assert node.history.timelines() == []
    assert (await deferToThread(fetch, node.faces.address, "/healthz")) == (200, {"status": "ok"})
    said = await deferToThread(lambda: urllib.request.urlopen(node.faces.address + "/metrics", timeout=10).read().decode())
    assert 'sisock_streams_refused_total{producer="http"} 12.0' in said
    assert "sisock_streams_messages_total 0.0" in said
    dome = await connect(node.faces.address, "/prod?site=dome")
    for told in (
        b"{",
        b"[]",
        b'{"action": "other"}',
        b'{"action":"updatesubscribersite"}',
        b'{"action":"updatesubscribersite","site":1}',
    ):
        dome.sendMessage(told)
    await until(lambda: len(dome.heard) == 5)
    assert {json.loads(text)["error"]["code"] for text in dome.heard} == {"sisock.error.invalid_argument"}
    await node.post(form("dome", "t", 1))
    await until(lambda: len(dome.heard) == 6)
    await dome.leave()


@pytest_twisted.ensureDeferred
async def test_the_api_is_what_its_document_says(node):
    assert not differences(node.faces.application(), DOCUMENT)
    await conforms(node.faces.address, but="GET /{stage}")


@pytest_twisted.ensureDeferred
async def test_where_tokens_are_asked_for_pages_show_theirs_in_the_address(node, router, rules):
    home = Home.default()
    home.make()
    reader, sender = home.users.ensure("reader", "consumer"), home.users.ensure("sender", "node", "camera")
    faces = "[face.streams]\nwithout_token = []\n[face.streams_producers]\nwithout_token = []\n"
    home.rules.path.write_text(faces)
    address = node.faces.address

    async def closed():
        # Each of the two doors reads the rules for itself.
        posted, (asked, _) = await node.post(form("a", "t", 1)), await deferToThread(fetch, address, "/prod?site=a")
        return posted[0] == asked == 401

    await until(closed)
    with pytest.raises(ConnectionError, match="401"):
        await connect(address, "/prod?site=dome")
    with pytest.raises(ConnectionError, match="401"):
        await connect(address, "/prod?site=dome&token=reader:wrong")
    by_address = await connect(address, f"/prod?site=dome&token=reader:{reader.secret}")
    by_header = await connect(address, "/prod?site=dome", {"Authorization": f"Bearer reader:{reader.secret}"})
    body = form("dome", "t", 1)
    code, error = await node.post(body, headers={"Authorization": f"Bearer reader:{reader.secret}"})
    assert (code, error["error"]["code"]) == (403, "sisock.error.not_authorized")
    assert (await node.post(body, headers={"Authorization": f"Bearer sender:{sender.secret}"}))[0] == 201
    await until(lambda: by_address.said == by_header.said == [1])
    # Who is taken away is out at once, with all that is open.
    other = home.users.ensure("other", "consumer")
    staying = await connect(address, f"/prod?site=dome&token=other:{other.secret}")
    home.users.remove("reader")
    for one in (by_address, by_header):
        assert await one.factory.gone == 4401
    await node.post(body, headers={"Authorization": f"Bearer sender:{sender.secret}"})
    await until(lambda: staying.said == [1])
    await staying.leave()


@pytest_twisted.ensureDeferred
async def test_over_tls_boto3_programs_sign_with_the_secret_of_a_user(router, monkeypatch):
    """The access key is a user of the site: beyond the networks that are named, that is who a program is."""
    from datetime import UTC, datetime, timedelta

    from botocore import auth
    from botocore.config import Config

    monkeypatch.setenv("SISOCK_STREAMS_TLS", "1")
    home = Home.default()
    home.make()
    sender, reader = home.users.ensure("camera", "node", "camera"), home.users.ensure("reader", "consumer")
    home.rules.path.write_text("[face.streams]\nwithout_token = []\n[face.streams_producers]\nwithout_token = []\n")
    made = Streams()
    service = await router.serve(made)
    address, authority = made.faces.address, Certificates(home.path).authority
    assert address.startswith("https://")

    def send(name, secret, n, change=None):
        sqs = client(address, name, secret, verify=str(authority), config=Config(retries={"total_max_attempts": 1}))
        if change is not None:
            sqs.meta.events.register("before-send.sqs.*", change)
        try:
            url = sqs.get_queue_url(QueueName="datastreamIncomingQueue-prod")["QueueUrl"]
            sqs.send_message(QueueUrl=url, MessageBody=form("dome", "jobs", n).decode())
        except sqs.exceptions.ClientError as error:
            return error.response["Error"]["Code"]

    def other_body(request, **_):
        request.body = request.body.replace(b"prod", b"dev ")

    def other_target(request, **_):
        request.headers["X-Amz-Target"] = "AmazonSQS.SendMessage"

    def no_target(request, **_):
        request.headers["Authorization"] = request.headers["Authorization"].replace(b";x-amz-target", b"")

    def other_digest(request, **_):
        request.headers["X-Amz-Content-SHA256"] = "UNSIGNED-PAYLOAD"

    try:
        page = await connect(address, f"/prod?site=dome&token=reader:{reader.secret}", authority=authority)
        with pytest.raises(ConnectionError, match="401"):
            await connect(address, "/prod?site=dome", authority=authority)
        assert await deferToThread(send, "camera", sender.secret, 1) is None
        await until(lambda: page.said == [1])
        assert await deferToThread(send, "camera", "wrong", 2) == "SignatureDoesNotMatch"
        assert await deferToThread(send, "nobody", sender.secret, 2) == "SignatureDoesNotMatch"
        assert await deferToThread(send, "reader", reader.secret, 2) == "AccessDenied"
        for change in (other_body, other_target, no_target, other_digest):
            assert await deferToThread(send, "camera", sender.secret, 2, change) == "SignatureDoesNotMatch", change
        with monkeypatch.context() as clock:
            clock.setattr(auth, "get_current_datetime", lambda: datetime.now(UTC) - timedelta(minutes=6))
            assert await deferToThread(send, "camera", sender.secret, 2) == "SignatureDoesNotMatch"
        producers = Producers(address, "prod", 1, 50.0, 200, f"camera:{sender.secret}", 1, authority)
        producers.start()
        await until(lambda: producers.stored >= 5)
        await producers.stop()
        assert not producers.trouble
        home.users.remove("camera")
        assert await deferToThread(send, "camera", sender.secret, 2) == "SignatureDoesNotMatch"
        assert page.said == [1]
        await page.leave()
    finally:
        await service.stop()


@pytest_twisted.async_yield_fixture
async def link(router):
    """The way of an outlet to the router."""
    made = await Link(router.ws).start()
    yield made
    await made.stop()


@pytest_twisted.async_yield_fixture
async def begin_outlet(router, link, monkeypatch):
    from sisock import settings as site
    from sisock.nodes.streams import Outlet, outlet

    monkeypatch.setattr(outlet, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(site.Settings, "consumer", lambda self, web: router.access(url=link.url))
    monkeypatch.setenv("SISOCK_STREAMS_OUTLET_PORT", "0")
    services = []

    async def begin():
        services.append(await router.serve(made := Outlet()))
        return made

    yield begin
    for one in services:
        await one.stop()


async def well(one):
    await until(lambda: deferToThread(lambda: fetch(one.faces.address, "/healthz")[0] == 200))
    return one


@pytest_twisted.ensureDeferred
async def test_an_outlet_hands_on_what_the_node_sends_also_of_sites_that_are_new(node, begin_outlet):
    await node.post(form("dome", "weather", "before"))
    outlet = await well(await begin_outlet())
    pages = [await connect(outlet.faces.address, path) for path in ("/prod?site=dome", "/prod?site=dome&topic=jobs")]
    raw = '{"b": 1.50, "a": 1e3}'
    await node.post(f'{{"site": "dome", "topic": "weather", "data": {raw}}}'.encode())
    await until(lambda: len(pages[0].heard) == 1)
    assert pages[0].heard == [f'{{"site":"dome","topic":"weather","data":{raw}}}']
    for n in range(50):
        await node.post(form("dome", "jobs", n))
    await until(lambda: len(pages[0].heard) >= 51)
    assert pages[0].said[1:] == pages[1].said == list(range(50))
    with pytest.raises(ConnectionError, match="400"):
        await connect(outlet.faces.address, "/prod?site=dome&since=-1m")
    code, error = await deferToThread(fetch, outlet.faces.address, "/prod", form("dome", "jobs", 1))
    assert (code, error["error"]["code"]) == (400, "sisock.error.invalid_argument")
    for one in pages:
        await one.leave()


@pytest_twisted.ensureDeferred
async def test_an_outlet_hands_on_each_message_once_however_often_its_connection_is_lost(node, begin_outlet, link):
    outlet = await well(await begin_outlet())
    page = await connect(outlet.faces.address, "/prod?site=dome")
    for n in range(300):
        if n % 60 == 30:
            link.cut()
        await node.post(form("dome", f"topic {n // 25}", n))
    await until(lambda: len(page.heard) >= 300, 30)
    heard = [json.loads(text) for text in page.heard]
    assert sorted(one["data"] for one in heard) == list(range(300))
    for topic in {one["topic"] for one in heard}:
        numbers = [one["data"] for one in heard if one["topic"] == topic]
        assert numbers == sorted(numbers)
    assert not outlet.missed
    await page.leave()


@pytest_twisted.ensureDeferred
async def test_an_outlet_that_follows_no_more_begins_again_where_it_was(node, begin_outlet):
    outlet = await well(await begin_outlet())
    page = await connect(outlet.faces.address, "/prod?site=dome")
    for n in range(4):
        await node.post(form("dome", "jobs", n))
        await until(lambda n=n: page.said[-1:] == [n])
        for one in tuple(outlet._followers):
            one.fail(NodeFailed("as a node fails"))
    assert page.said == list(range(4))
    await well(outlet)
    await page.leave()


@pytest_twisted.ensureDeferred
async def test_an_outlet_lets_nobody_in_before_it_has_found_the_node(begin_outlet):
    outlet = await begin_outlet()
    with pytest.raises(ConnectionError, match="503"):
        await connect(outlet.faces.address, "/prod?site=dome")
    code, told = await deferToThread(fetch, outlet.faces.address, "/healthz")
    assert code == 503
    assert "streams" in told["status"]


@pytest_twisted.ensureDeferred
async def test_an_outlet_does_not_send_what_its_node_learns_late_as_if_it_were_new(router, begin_outlet, monkeypatch):
    monkeypatch.setattr("sisock.learning.AGAIN", 0.02)
    learn, away = Streams._take_up, [True]

    def learn_late(self):
        if away:
            raise StoreAway("as where PostgreSQL is away at a start")
        learn(self)

    monkeypatch.setattr(Streams, "_take_up", learn_late)
    made = Streams()
    for topic in ("weather", "jobs"):
        line = f"dome/{topic}"
        made.history.append(line, Block.of([1e9, 1.1e9], {line: ['"old"'] * 2})).result(10)
    service = await router.serve(made)
    try:
        outlet = await begin_outlet()
        await until(lambda: outlet.ready)
        page = await connect(outlet.faces.address, "/prod?site=dome")
        away.clear()
        await until(lambda: made.known == 2)
        for n in range(2):
            for topic in ("weather", "jobs", "new"):
                assert (await deferToThread(fetch, made.faces.address, "/prod", form("dome", topic, n)))[0] == 201
        await until(lambda: len(page.heard) >= 6)
        assert sorted(page.said) == [0, 0, 0, 1, 1, 1]
        await page.leave()
    finally:
        await service.stop()


@pytest_twisted.ensureDeferred
async def test_a_node_that_ends_closes_what_is_open(router, tmp_path, monkeypatch):
    monkeypatch.setenv("SISOCK_HOME", str(tmp_path))
    service = await router.serve(made := Streams())
    page = await connect(made.faces.address, "/prod?site=dome")
    await service.stop()
    assert await page.factory.gone == 1000
