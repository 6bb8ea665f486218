"""What many at once meet: equal questions asked once, turns that have an end, long answers compressed, pages let in."""

import gzip
import http.client
import json
import re
from contextlib import closing

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred
from twisted.internet.threads import deferToThread
from twisted.web.client import ResponseNeverReceived

from sisock import DataNode, Field
from sisock.asking import Question
from sisock.doors import LOOPBACK, Door
from sisock.errors import Busy, InvalidArgument, NodeFailed
from sisock.grafana_bridge import create_app, flights, service
from sisock.grafana_bridge.flights import Flights
from sisock.grafana_bridge.turns import Room, Turns
from sisock.home import Home
from sisock.http import ZIPPED_HERE, application, listen, reply, reply_long
from tests.bridge.memory_consumer import Long, MemoryConsumer, Weather
from tests.bridge.prometheus import Prometheus
from tests.plain import until


class Held:
    """A consumer whose answers come when they are let go."""

    connected = True

    def __init__(self):
        self.calls = []

    async def read(self, node, question, take=None):
        self.calls.append(Deferred())
        return await self.calls[-1]


def ask(held, field="air"):
    return ensureDeferred(held.read("roof", Question([field], 0, 10)))


@pytest_twisted.ensureDeferred
async def test_equal_questions_are_one_call():
    held = Held()
    shared = Flights(held)
    first, second, other = ask(shared), ask(shared), ask(shared, "wind")
    assert (len(held.calls), shared.under_way, shared.shared) == (2, 2, 1)
    held.calls[0].callback({"t": 1})
    held.calls[1].errback(NodeFailed("no"))
    assert await first == await second == {"t": 1}
    with pytest.raises(NodeFailed):
        await other
    third = ask(shared)
    assert len(held.calls) == 3
    held.calls[2].callback({})
    assert await third == {}
    assert shared.under_way == 0


@pytest_twisted.ensureDeferred
async def test_the_last_who_leaves_takes_the_call_along():
    held = Held()
    shared = Flights(held)
    first, second = ask(shared), ask(shared)
    first.addErrback(lambda _: None)
    first.cancel()
    assert not held.calls[0].called
    third = ask(shared)
    for one in (second, third):
        one.addErrback(lambda _: None)
        one.cancel()
    assert held.calls[0].called
    assert shared.under_way == 0
    fourth = ask(shared)
    held.calls[1].callback({})
    assert await fourth == {}


@pytest_twisted.ensureDeferred
async def test_calls_have_an_end(monkeypatch):
    monkeypatch.setattr(flights, "MAX_CALLS", 2)
    held = Held()
    shared = Flights(held)
    calls = [ask(shared, name) for name in ("a", "b", "a")]
    with pytest.raises(Busy):
        await ask(shared, "c")
    for call in held.calls:
        call.callback({})
    await DeferredList(calls)


@pytest_twisted.ensureDeferred
async def test_turns_are_waited_for_up_to_a_point():
    turns, order, gates = Turns(1, 1), [], [Deferred(), Deferred()]

    async def work(number):
        async with turns.take("query"):
            order.append(number)
            await gates[number]

    first, second = ensureDeferred(work(0)), ensureDeferred(work(1))
    with pytest.raises(Busy):
        await ensureDeferred(work(2))
    assert (order, turns.inside) == ([0], 2)
    gates[0].callback(None)
    await first
    assert order == [0, 1]
    gates[1].callback(None)
    await second
    assert (turns.inside, turns.asked["query"], turns.failed["query"]) == (0, 3, 1)
    assert turns.seconds["query"] > 0


@pytest_twisted.ensureDeferred
async def test_who_leaves_gives_the_turn_back():
    turns, gate = Turns(1, 5), Deferred()

    async def work(waits):
        async with turns.take("query"):
            await waits

    first, second = ensureDeferred(work(gate)), ensureDeferred(work(gate))
    for one in (second, first):
        one.addErrback(lambda _: None)
        one.cancel()
    assert turns.inside == 0
    done = Deferred()
    done.callback(None)
    await ensureDeferred(work(done))


@pytest_twisted.ensureDeferred
async def test_room_is_given_in_the_order_in_which_it_was_asked_for():
    room, inside = Room(10), []
    gates = [Deferred() for _ in range(4)]

    async def hold(number, amount):
        async with room.take(amount):
            inside.append(number)
            await gates[number]

    held = [ensureDeferred(hold(number, amount)) for number, amount in enumerate((6, 6, 7, 2))]
    assert (inside, room.waiting) == ([0], 3)
    # Who leaves lets in whoever came behind.
    held[1].addErrback(lambda _: None)
    held[1].cancel()
    assert (inside, room.waiting) == ([0], 2)
    gates[0].callback(None)
    assert (inside, room.waiting) == ([0, 2, 3], 0)
    for gate in gates[2:]:
        gate.callback(None)
    await DeferredList(held)
    gates[1].callback(None)
    await ensureDeferred(hold(1, 10))


@pytest_twisted.ensureDeferred
async def test_turns_count_whoever_needs_none_and_no_mistake_of_who_asks():
    turns = Turns(1, 0)
    for error, failed in ((InvalidArgument("no"), 0), (NodeFailed("no"), 1), (RuntimeError("a bug"), 2)):
        with pytest.raises(type(error)):
            async with turns.count("promql"):
                assert turns.inside == 1
                raise error
        assert (turns.inside, turns.failed["promql"]) == (0, failed)
    assert turns.asked["promql"] == 3


@pytest_twisted.ensureDeferred
async def test_too_many_requests_are_told_to_come_again(serve, monkeypatch):
    monkeypatch.setattr(service, "Turns", lambda: Turns(1, 0))
    consumer = MemoryConsumer(Weather())
    client = serve(create_app(consumer))
    consumer.silent.add("weather")
    body = {"range": {"from": "1970-01-01T00:00:01Z", "to": "1970-01-02"}, "targets": [{"target": "weather::air"}]}
    first = client.ask("POST", "/query", json=body)
    await consumer.asked
    answer = await client.post("/query", body)
    assert answer.error[:2] == (503, "sisock.error.busy")
    assert answer.headers["retry-after"] == "1"
    first.cancel()
    with pytest.raises(ResponseNeverReceived):
        await first
    await until(lambda: consumer.given_up.called)
    consumer.silent.clear()
    assert (await client.post("/query", body)).status == 200


def raw(port, path, headers, method="GET", body=None):
    """An answer as it is on the wire."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with closing(connection):
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


@pytest.mark.parametrize("length", [10, 5_000, 200_000])
@pytest.mark.parametrize("accepts", ["gzip", "deflate, gzip;q=0.5", "*", "identity", "gzip;q=0", ""])
@pytest_twisted.ensureDeferred
async def test_long_answers_are_compressed_for_who_takes_it(serve, length, accepts):
    app = application()
    app.route("/short")(lambda request: reply(request, "x" * length))

    async def long(request):
        return await reply_long(request, json.dumps("x" * length).encode())

    app.route("/long")(long)
    client = serve(app)
    for path in ("/short", "/long"):
        status, headers, body = await deferToThread(raw, client.port, path, {"Accept-Encoding": accepts} if accepts else {})
        zipped = accepts in ("gzip", "deflate, gzip;q=0.5", "*") and length > 1000 and (length < 64_000 or path == "/long")
        assert (status, headers.get("content-encoding")) == (200, "gzip" if zipped else None)
        assert headers["content-length"] == str(len(body))
        assert json.loads(gzip.decompress(body) if zipped else body) == "x" * length
        if length > 1000 and not (path == "/long" and length > 64_000 and zipped):
            assert "Accept-Encoding" in headers["vary"]


@pytest_twisted.ensureDeferred
async def test_streams_are_compressed_as_they_come(serve):
    client = serve(create_app(MemoryConsumer(Weather(), Long())))
    path = "/api/nodes/long/data?field=a&format="
    plain = {form: (await deferToThread(raw, client.port, path + form, {}))[2] for form in ("csv", "json", "arrow")}
    for form, body in plain.items():
        _, headers, zipped = await deferToThread(raw, client.port, path + form, {"Accept-Encoding": "gzip"})
        assert headers["content-encoding"] == "gzip"
        assert gzip.decompress(zipped) == body
        assert len(zipped) < len(body) / 2
    _, headers, _ = await deferToThread(raw, client.port, path + "parquet", {"Accept-Encoding": "gzip"})
    assert "content-encoding" not in headers
    # An error is none that was compressed.
    status, headers, body = await deferToThread(raw, client.port, path + "xml", {"Accept-Encoding": "gzip"})
    assert (status, "content-encoding" in headers) == (400, False)


class Wide(DataNode):
    """Many fields."""

    name = "wide"
    fields = {f"a_field_with_a_name_that_is_rather_long_{number}": Field("It is one of many", "m/s") for number in range(1200)}


@pytest_twisted.ensureDeferred
async def test_long_lists_are_compressed_too(serve):
    client = serve(create_app(MemoryConsumer(Wide())))
    steps = "/prom/api/v1/query_range?query=vector(time())&start=0&end=10000&step=1"
    for method, path in (
        ("GET", steps),
        ("GET", "/api/nodes/wide/fields"),
        ("POST", "/metrics"),
        ("POST", "/variable"),
        ("GET", "/search"),
    ):
        status, headers, body = await deferToThread(raw, client.port, path, {"Accept-Encoding": "gzip"}, method, "{}")
        assert (status, headers["content-encoding"]) == (200, "gzip"), path
        assert len(gzip.decompress(body)) > ZIPPED_HERE / 2
        json.loads(gzip.decompress(body))


PAGE = {"Origin": "https://dash.example"}
PREFLIGHT = PAGE | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}


@pytest_twisted.ensureDeferred
async def test_pages_of_allowed_origins_may_read_answers(tmp_path, logged):
    home = Home(tmp_path)
    home.make()
    home.rules.path.write_text('[face.bridge]\norigins = ["https://dash.example"]\nwithout_token = []\n')
    door = Door.of(home, "bridge", default=LOOPBACK)
    port = listen(create_app(MemoryConsumer(Weather())), "127.0.0.1", 0, door=door)
    number = port.getHost().port
    try:
        status, headers, body = await deferToThread(raw, number, "/query", PREFLIGHT, "OPTIONS")
        assert (status, body) == (204, b"")
        assert headers["access-control-allow-origin"] == "https://dash.example"
        assert "POST" in headers["access-control-allow-methods"]
        assert "Authorization" in headers["access-control-allow-headers"]
        # A preflight has no token; what follows it needs one, and the page may read that it does.
        status, headers, _ = await deferToThread(raw, number, "/search", PAGE)
        assert (status, headers["access-control-allow-origin"]) == (401, "https://dash.example")
        for other in ("https://evil.example", "null"):
            status, headers, _ = await deferToThread(raw, number, "/query", PREFLIGHT | {"Origin": other}, "OPTIONS")
            assert status == 403
            assert "access-control-allow-origin" not in headers
        status, headers, _ = await deferToThread(raw, number, "/query", PREFLIGHT | {"Host": "elsewhere"}, "OPTIONS")
        assert (status, "access-control-allow-origin" in headers) == (403, False)
    finally:
        await port.stopListening()
        door.close()


class Hub(DataNode):
    """What the hub's own node tells."""

    name = "hub"
    fields = {"nodes": Field(), "memory.router": Field(units="B"), "latency": Field(units="s")}

    def __init__(self):
        super().__init__()
        from sisock.times import now

        self.append("t", now() - 100, {"nodes": 1, "latency": 0.5}).result()
        self.append("t", now() - 5, {"nodes": 3, "memory.router": 1e8}).result()


@pytest_twisted.ensureDeferred
async def test_metrics_for_prometheus(serve):
    from prometheus_client.parser import text_string_to_metric_families

    consumer = MemoryConsumer(Weather(), Hub())
    client = serve(create_app(consumer))
    await client.get("/search")
    for path in ("/prom/api/v1/query?query=1", "/prom/api/v1/query?query=(", "/api/nodes"):
        await client.get(path)
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }
    assert samples["sisock_bridge_connected",] == 1.0
    asked = {name[1]: value for name, value in samples.items() if name[0] == "sisock_bridge_requests_total"}
    assert asked == {"search": 1.0, "promql": 2.0, "data": 1.0}
    assert samples["sisock_bridge_requests_waiting", "promql"] == samples["sisock_bridge_requests_waiting", "query"] == 0.0
    # What is old is not told: the router may be another by now.
    assert {name[1]: value for name, value in samples.items() if name[0] == "sisock_bridge_hub"} == {
        "nodes": 3.0,
        "memory.router": 1e8,
    }
    assert samples["process_resident_memory_bytes",] > 1e6
    del consumer.served["hub"]
    assert b"sisock_bridge_hub{" not in (await client.get("/metrics")).body
    # The other one who asks by this name is the JSON data source, which posts.
    assert (await client.post("/metrics", {})).json[0]["value"] == "weather"
    assert not re.search(rb"NaN", answer.body)


@pytest_twisted.ensureDeferred
async def test_a_real_prometheus_scrapes_them(serve, tmp_path):
    client = serve(create_app(MemoryConsumer(Weather(), Hub())))
    with Prometheus(tmp_path, scrapes=[f"127.0.0.1:{client.port}"]) as server:

        async def told(query):
            # Asked in a thread: this one answers the scraper.
            _, answer = await deferToThread(server.ask_now, "/query", query=query)
            return {one["metric"].get("field", ""): float(one["value"][1]) for one in answer["data"]["result"]}

        async def scraped():
            # On a busy machine a scrape may take too long, and then nothing is told until the next.
            return (
                await told("up") == await told("sisock_bridge_connected") == {"": 1.0}
                and await told("sisock_bridge_hub") == {"nodes": 3.0, "memory.router": 1e8}
                and (await told("process_resident_memory_bytes")).get("", 0.0) > 1e6
            )

        await until(scraped, 55)
