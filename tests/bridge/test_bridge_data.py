"""The data API: nodes, fields, and rows in each form, streamed to readers fast and slow."""

import csv
import io
import socket
from contextlib import suppress
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Protocol
from twisted.internet.threads import deferToThread
from twisted.web.client import ResponseFailed, ResponseNeverReceived

from sisock import DataNode, Field, paging, streamed
from sisock.asking import Answered
from sisock.blocks import Block, Column
from sisock.errors import NodeFailed
from sisock.grafana_bridge import create_app
from sisock.grafana_bridge.data import asked, forms, live, pump, routes
from sisock.openapi import differences
from tests.bridge.memory_consumer import MemoryConsumer, Weather
from tests.conforming import conforms
from tests.plain import until

ROWS = 400_000
ALL = b"GET /api/nodes/tall/data?field=a&field=b&field=s&format=csv HTTP/1.1\r\nHost: localhost\r\n"


class Tall(DataNode):
    """Many rows of three fields."""

    name = "tall"
    fields = {"a": Field("first", "m"), "b": Field(), "s": Field(type="string")}

    def __init__(self):
        super().__init__()
        t = np.arange(1, ROWS + 1) * 1_000_000
        texts = Column.of(["even" * 25, "odd"]).take(np.arange(ROWS) % 2)
        self.append_block("t", Block(t, {"a": Column(np.arange(ROWS) / 4), "b": Column(np.arange(ROWS)), "s": texts}))


class Sensors(DataNode):
    """The node of the document's examples."""

    name = "sensors"
    fields = {"cpu_load": Field("Load", "%")}

    def __init__(self):
        super().__init__()
        self.append_block("t", Block(np.arange(1, 100) * 1_000_000, {"cpu_load": Column(np.arange(99.0))}))


@pytest.fixture(scope="module")
def tall():
    return Tall()


@pytest.fixture
def consumer(tall):
    return MemoryConsumer(Weather(), tall)


@pytest.fixture
def client(serve, consumer):
    return serve(create_app(consumer))


@pytest_twisted.ensureDeferred
async def test_nodes_and_their_fields(client):
    assert [one["name"] for one in (await client.get("/api/nodes")).json] == ["weather", "tall"]
    found = (await client.get("/api/nodes/weather/fields?start=-10y")).json
    assert found["fields"]["air"] == {"description": None, "timeline": "hourly", "type": "number", "units": "degC"}
    assert found["timelines"]["hourly"] == {"interval": found["timelines"]["hourly"]["interval"], "field": ["air", "sky"]}
    assert (await client.get("/api/nodes/nowhere/fields")).error[:2] == (404, "sisock.error.unknown_node")


@pytest_twisted.ensureDeferred
async def test_rows_as_json(client):
    answer = (await client.get("/api/nodes/weather/data?field=air&field=sky&field=wind&field=spare&start=1")).json
    hourly, minutely, spare = answer["timelines"]
    assert answer["node"] == "weather"
    assert hourly["columns"] == ["t", "air", "sky"]
    assert hourly["rows"] == [[1000.0, 1.5, "clear"], [4600.0, None, "rain"], [8200.5, 3.0, None]]
    assert hourly["fields"]["air"] == {"units": "degC", "description": None, "type": "number"}
    assert (minutely["columns"], minutely["rows"]) == (["t", "wind"], [[1000.0, 7], [1060.0005, 9]])
    assert (spare["timeline"], spare["rows"]) == ("spare", [])
    assert sorted(answer["answered"]["hourly"]["position"]) == ["epoch", "seq"]


@pytest_twisted.ensureDeferred
async def test_a_range_is_half_open_and_rows_can_be_made_fewer(client):
    answer = (await client.get("/api/nodes/weather/data?field=air&start=1000&end=8200.5")).json
    assert [row[0] for row in answer["timelines"][0]["rows"]] == [1000.0, 4600.0]
    for how, most in (("max_points=100", 100), ("min_stride=1h", 112), ("max_points=7&method=last", 7)):
        answer = (await client.get(f"/api/nodes/tall/data?field=a&{how}")).json
        assert 2 < len(answer["timelines"][0]["rows"]) <= most
        # Of extremes it is known how many rows they stand for.
        assert answer["answered"]["t"]["from"] in (ROWS, len(answer["timelines"][0]["rows"]))


@pytest_twisted.ensureDeferred
async def test_all_rows_in_each_form(client):
    path = "/api/nodes/tall/data?field=a&field=b&field=s&format="
    rows = (await client.get(path + "json")).json["timelines"][0]["rows"]
    assert (len(rows), rows[3]) == (ROWS, [4.0, 0.75, 3, "odd"])
    answer = await client.get(path + "csv")
    lines = list(csv.reader(io.StringIO(answer.body.decode())))
    assert (len(lines), lines[0], lines[4]) == (ROWS + 1, ["t", "a", "b", "s"], ["4.000000", "0.75", "3", "odd"])
    read = {
        "arrow": lambda body: pa.ipc.open_stream(body).read_all(),
        "parquet": lambda body: parquet.read_table(io.BytesIO(body)),
    }
    for form, table_of in read.items():
        answer = await client.get(path + form)
        assert form in answer.headers["content-type"]
        table = table_of(answer.body)
        assert table.schema.names == ["t", "a", "b", "s"]
        assert table.schema.field("a").metadata == {b"units": b"m", b"description": b"first"}
        assert table.num_rows == ROWS
        assert table["t"].cast(pa.int64()).to_numpy()[-1] == ROWS * 1_000_000
        assert (table["b"].to_numpy() == np.arange(ROWS)).all()


@given(
    t=st.lists(st.integers(-(10**15), 10**16), min_size=1, max_size=5, unique=True).map(sorted),
    kind=st.sampled_from([st.floats(), st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**63), 2**63 - 1)]),
    data=st.data(),
)
def test_numbers_in_csv_read_back_as_they_are(t, kind, data):
    values = data.draw(st.lists(kind, min_size=len(t), max_size=len(t)))
    form = forms.make("csv", "n", {"t": {"x": Field()}})
    block = Block(np.array(t), {"x": Column.of(values)})
    rows = list(csv.reader(io.StringIO((form.begin() + form.part("t", block) + form.end({})).decode())))
    assert [round(Decimal(row[0]) * 10**6) for row in rows[1:]] == t
    read = [type(value)(row[1]) for row, value in zip(rows[1:], values, strict=True)]
    assert np.array_equal(read, values, equal_nan=isinstance(values[0], float))


@pytest_twisted.ensureDeferred
async def test_the_form_may_stand_in_accept(client):
    answer = await client.get("/api/nodes/weather/data?field=wind", headers={"Accept": "text/csv"})
    assert answer.body == b't,"wind"\n1000.000000,7\n1060.000500,9\n'


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("field=", 400),
        ("field=a%00b", 400),
        ("field=%ff", 400),
        ("field=nothing", 404),
        ("field=air&field=wind&format=csv", 400),
        ("field=air&field=wind&format=parquet", 400),
        ("field=air&format=xml", 400),
        ("field=air&start=yesterday", 400),
        ("field=air&start=5&end=4", 400),
        ("field=air&start=1&start=2", 400),
        ("field=air&max_points=0", 400),
        ("field=air&max_points=1e3", 400),
        ("field=air&max_points=" + "9" * 400, 400),
        ("field=air&max_points=" + "9" * 5000, 400),
        ("field=air&min_stride=-1s", 400),
        ("field=air&method=best", 400),
        ("field=air&colour=red", 400),
        ("&".join(f"field={n}" for n in range(1001)), 400),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_answered_is_refused(client, query, status):
    assert (await client.get(f"/api/nodes/weather/data?{query}")).error[0] == status


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_holds_little_and_loses_nothing(client, consumer, monkeypatch):
    """What it does not take stays with the node: pages are not asked for."""
    monkeypatch.setattr(paging, "MOST_BYTES", 512 << 10)
    monkeypatch.setattr(pump, "MOST_WAITING", 512 << 10)
    pumps = []

    class Noted(pump.Pump):
        most = 0

        def __init__(self, *args):
            super().__init__(*args)
            pumps.append(self)

        def take(self, timeline, block):
            super().take(timeline, block)
            self.most = max(self.most, self._held)

    monkeypatch.setattr(routes, "Pump", Noted)
    reader = Counts()
    response = await client.ask("GET", "/api/nodes/tall/data?field=a&field=b&field=s&format=csv", unbuffered=True)
    response.original.deliverBody(reader)
    reader.transport.pauseProducing()
    # Until so much waits that nothing more is asked for.
    await until(lambda: pumps and pumps[0]._held > pump.MOST_WAITING, 60)
    seen = len(consumer.paged)
    reader.transport.resumeProducing()
    await reader.done
    assert reader.lines == ROWS + 1
    assert 0 < seen < len(consumer.paged)
    # A page behind what may wait, of the 13 MB that there are.
    assert pumps[0].most < 3 * pump.MOST_WAITING


class Counts(Protocol):
    """Counts the lines that it takes."""

    def __init__(self):
        self.lines = 0
        self.done = Deferred()

    def dataReceived(self, data):
        self.lines += data.count(b"\n")

    def connectionLost(self, reason):
        self.done.callback(None)


@pytest_twisted.ensureDeferred
async def test_a_reader_who_takes_nothing_is_let_go(serve, monkeypatch, consumer):
    monkeypatch.setattr(streamed.Streamed.__init__, "__defaults__", (0.2,))
    monkeypatch.setattr(routes, "MAX_STREAMS", 1)
    client = serve(create_app(consumer))
    sock = socket.create_connection(("127.0.0.1", client.port))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.sendall(ALL + b"\r\n")
    sock.settimeout(60)
    await until(lambda: "tall" in consumer.paged)

    async def has_place():
        return (await client.get("/api/nodes/weather/data?field=wind")).status == 200

    await until(has_place, 60)
    # What had been sent comes, without the end, and then the connection is broken.
    received = await deferToThread(all_of, sock)
    assert b"200 OK" in received[:100]
    assert not received.endswith(b"0\r\n\r\n")


def all_of(sock):
    received = b""
    with sock, suppress(ConnectionResetError):
        while more := sock.recv(1 << 20):
            received += more
    return received


@pytest_twisted.ensureDeferred
async def test_a_browser_that_comes_back_while_there_is_no_session_comes_again(client, consumer):
    """An error would end its EventSource for good."""
    consumer.connected = False
    ident = live.Places().to_id()
    answer = await client.get("/api/nodes/weather/live?field=air", headers={"Last-Event-ID": ident})
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    assert answer.body.startswith(b"retry: ")
    assert f"id: {ident}\n\n".encode() in answer.body
    assert (await client.get("/api/nodes/weather/live?field=air")).error[0] == 503


@pytest_twisted.ensureDeferred
async def test_an_error_in_the_middle_breaks_the_connection(client, consumer):
    caller, count = consumer.caller, [0]

    def failing(node):
        call = caller(node)

        async def fail(*args, **how):
            count[0] += 1
            if count[0] == 3:
                raise NodeFailed("its disk is gone")
            return await call(*args, **how)

        return fail

    consumer.caller = failing
    with pytest.raises(ResponseFailed):
        await client.get("/api/nodes/tall/data?field=a&field=b&field=s&format=csv")
    count[0] = 2
    assert (await client.get("/api/nodes/tall/data?field=a")).error[1] == "sisock.error.node_failed"


@pytest_twisted.ensureDeferred
async def test_so_many_long_answers_at_a_time(serve, consumer, monkeypatch):
    monkeypatch.setattr(routes, "MAX_STREAMS", 1)
    client = serve(create_app(consumer))
    consumer.silent.add("weather")
    fields = consumer.get_fields

    async def known(node, *span):
        consumer.silent.clear()
        found = await fields(node, *span)
        consumer.silent.add("weather")
        return found

    consumer.get_fields = known
    first = client.ask("GET", "/api/nodes/weather/data?field=air")
    await consumer.asked
    answer = await client.get("/api/nodes/weather/data?field=air")
    assert answer.error[:2] == (503, "sisock.error.busy")
    assert answer.headers["retry-after"]
    first.cancel()
    with pytest.raises(ResponseNeverReceived):
        await first


@pytest_twisted.ensureDeferred
async def test_panels_take_no_place_of_a_long_answer(serve, consumer, monkeypatch):
    monkeypatch.setattr(routes, "MAX_STREAMS", 0)
    client = serve(create_app(consumer))
    answers = await gatherResults(
        [Deferred.fromCoroutine(client.get(f"/api/nodes/tall/data?field=b&max_points={n}")) for n in range(2, 42)]
    )
    assert [len(answer.json["timelines"][0]["rows"]) for answer in answers[:3]] == [2, 2, 4]
    assert (await client.get("/api/nodes/tall/data?field=b")).status == 503


def test_an_answer_says_what_its_fields_are_unless_one_has_no_value():
    wanted = asked.wanted({b"field": [b"a", b"s"], b"max_points": [b"4"]})
    fields = {"a": Field("first", "m"), "s": Field(type="string")}
    block = Block(np.array([1, 2]), {"a": Column(np.array([1.0, 2.0])), "s": Column.of(["x", None])})
    assert wanted.lines_of({"t": Answered("t", [block], fields)}) == {"t": fields}
    nothing = Block(block.t, {"a": block.columns["a"], "s": Column.null(2)})
    assert wanted.lines_of({"t": Answered("t", [nothing], fields)}) is None
    assert wanted.lines_of({"t": Answered("t", [block], {"a": fields["a"]})}) is None


@pytest_twisted.ensureDeferred
async def test_the_document_is_shown_to_people_and_held_to(serve, tall):
    app = create_app(MemoryConsumer(Sensors(), tall))
    client = serve(app)
    told = (await client.get("/openapi.json")).json
    page = await client.get("/api")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for path in told["paths"]:
        assert path in page.body.decode()
    unwritten = {route for route in differences(app, told) if route.startswith(("GET /api", "POST /api"))}
    assert not unwritten
    # The live rows have no end.
    await conforms(f"http://127.0.0.1:{client.port}", without="/live$", contradicts=True, examples=10)


@pytest_twisted.ensureDeferred
async def test_an_address_that_is_too_long_is_answered(client):
    """By Twisted alone the connection would be cut."""
    for more in (b"x" * 17_000, b"field=ab&" * 100_000):
        refused = await client.get("/api/nodes/tall/data?" + more.decode())
        assert refused.error[:2] == (400, "too_long")
