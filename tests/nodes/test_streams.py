"""Site streams as their old clients meet them, plain WebSocket subscribers; and as a node."""

# ruff: noqa: F811  fixtures are imported by their names
import json
import urllib.request

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from sisock.consumer import Consumer
from sisock.home import Home
from sisock.nodes.streams import Streams
from sisock.nodes.streams.document import DOCUMENT
from sisock.nodes.streams.fanout import FanOut, Sent
from sisock.openapi import differences
from sisock.testing import NodeContract
from tests.conforming import conforms
from tests.nodes.streams import any_port, connect, fetch, form, node  # noqa: F401
from tests.plain import until
from tests.test_follow import Seen


class TestStreams(NodeContract):
    node = Streams

    def make(self):
        class Sending(Streams):
            def start(self):
                super().start()
                for n in range(4):
                    self.accept([self.parse(form("dome", "weather", n), "prod", "test")], lambda: None)

        return Sending()


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
async def test_a_node_that_ends_closes_what_is_open(router, tmp_path, monkeypatch):
    monkeypatch.setenv("SISOCK_HOME", str(tmp_path))
    service = await router.serve(made := Streams())
    page = await connect(made.faces.address, "/prod?site=dome")
    await service.stop()
    assert await page.factory.gone == 1000
