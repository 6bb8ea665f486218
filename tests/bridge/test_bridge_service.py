"""The bridge over a real socket, as Grafana meets it."""

import json
import subprocess
import sys

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.web.client import ResponseNeverReceived

from sisock import DataNode, Field, resolution, streaming
from sisock.errors import NodeFailed, NotConnected
from sisock.grafana_bridge import Bridge, create_app, reader, service
from sisock.session import Access
from tests.bridge.http_client import Client
from tests.bridge.memory_consumer import Grumpy, Long, MemoryConsumer, Weather

RANGE = {"from": "1970-01-01T00:00:01Z", "to": "1970-01-02T00:00:00Z"}
AIR = [[1.5, 1000000], [None, 4600000], [3.0, 8200500]]
# A node that answers in lists has no NaN, and a row without any value is none.
GRUMPY = [[1.5, 1000000], [3.0, 8200500]]
WIND = [[7, 1000000], [9, 1060000.5]]


def query(*targets, **more):
    named = [{"target": target, "type": "timeserie"} if isinstance(target, str) else target for target in targets]
    return {"range": RANGE, "targets": named, **more}


def codes(answer):
    """Of each part of an answer the code of its error, None where it has none."""
    assert answer.status == 200
    return [part.get("error", {}).get("code") for part in answer.json]


@pytest.fixture
def consumer():
    return MemoryConsumer(Weather(), Grumpy())


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def client(serve, consumer, clock):
    return serve(create_app(consumer, clock=clock))


@pytest_twisted.ensureDeferred
async def test_it_is_well(client):
    for path in ("/", "/healthz"):
        answer = await client.get(path)
        assert (answer.status, answer.json) == (200, {"status": "ok"})


@pytest_twisted.ensureDeferred
async def test_without_a_session(client, consumer):
    consumer.connected = False
    gone = (500, "sisock.error.not_connected", "No WAMP session")
    assert (await client.get("/")).error == gone
    assert (await client.get("/search")).error == gone
    assert (await client.post("/search", {})).error == gone
    assert (await client.post("/query", query("weather::air"))).error == gone
    assert (await client.post("/query", b"{")).error == gone
    health = await client.get("/healthz")
    assert (health.status, health.json) == (503, {"status": "no session"})
    consumer.connected = True
    assert (await client.get("/")).status == 200


@pytest_twisted.ensureDeferred
async def test_a_session_that_ends_while_it_is_asked(client, consumer):
    consumer.nodes = _raises(NotConnected())
    assert (await client.get("/search")).error == (500, "sisock.error.not_connected", "No WAMP session")
    consumer.faults["weather"] = NotConnected()
    assert codes(await client.post("/query", query("weather::air", "grumpy::air"))) == ["sisock.error.not_connected", None]


def _raises(error):
    async def call():
        raise error

    return call


# --- search


@pytest_twisted.ensureDeferred
async def test_search_lists_every_field_and_asks_afresh(client, consumer):
    fields = ["air", "sky", "wind", "open", "spare"]
    expected = [f"{node}::{field}" for node in ("weather", "grumpy") for field in fields]
    assert (await client.get("/search")).json == expected
    assert (await client.post("/search", b"")).json == expected
    assert (await client.post("/search", {"target": ""})).json == expected
    assert (await client.post("/search", {"target": "R::AIR"})).json == ["weather::air"]
    del consumer.served["weather"]
    assert (await client.post("/search", {})).json == expected[5:]


@pytest.mark.parametrize("body", [b"[]", b"1", b'"text"', b"{", b'{"target": 5}'])
@pytest_twisted.ensureDeferred
async def test_a_search_of_the_wrong_type(client, body):
    assert (await client.post("/search", body)).error[:2] == (400, "sisock.error.invalid_argument")


@pytest_twisted.ensureDeferred
async def test_search_leaves_out_a_node_that_fails(client, consumer, logged):
    consumer.faults["grumpy"] = NodeFailed("no")
    assert {name.partition("::")[0] for name in (await client.get("/search")).json} == {"weather"}
    consumer.faults["grumpy"] = ZeroDivisionError("a bug")
    assert {name.partition("::")[0] for name in (await client.get("/search")).json} == {"weather"}
    assert "a bug" in str(logged.pop()["log_failure"])


@pytest_twisted.ensureDeferred
async def test_search_leaves_out_a_node_that_never_answers(client, consumer, clock):
    consumer.silent.add("grumpy")
    answering = client.ask("GET", "/search")
    await consumer.asked
    clock.advance(reader.SEARCH_DEADLINE)
    response = await answering
    assert len(await response.json()) == 5


# --- query


@pytest_twisted.ensureDeferred
async def test_series_in_the_order_they_were_asked_for(client, consumer):
    answer = await client.post("/query", query("weather::wind", "grumpy::air", "weather::air", "weather::wind"))
    assert answer.json == [
        {"target": "weather::wind", "datapoints": WIND},
        {"target": "grumpy::air", "datapoints": GRUMPY},
        {"target": "weather::air", "datapoints": AIR},
        {"target": "weather::wind", "datapoints": WIND},
    ]
    assert all(isinstance(ms, int) for _, ms in answer.json[1]["datapoints"])
    assert [(node, question.fields) for node, question in consumer.questions] == [
        ("weather", ("wind", "air")),
        ("grumpy", ("air",)),
    ]


@pytest_twisted.ensureDeferred
async def test_tables(client):
    targets = [{"target": f"weather::{name}", "type": "table", "refId": "A"} for name in ("air", "sky", "open", "spare")]
    answer = (await client.post("/query", query(*targets))).json
    time = {"text": "Time", "type": "time"}
    assert [part["columns"] for part in answer] == [
        [time, {"text": "air", "type": "number"}],
        [time, {"text": "sky", "type": "string"}],
        [time, {"text": "open", "type": "boolean"}],
        [time, {"text": "spare", "type": "number"}],
    ]
    assert all(part["type"] == "table" for part in answer)
    assert answer[1]["rows"] == [[1000000, "clear"], [4600000, "rain"], [8200500, None]]
    assert answer[2]["rows"] == [[1000000, True], [1060000.5, False]]
    assert answer[3]["rows"] == []


@pytest_twisted.ensureDeferred
async def test_texts_and_truths_are_as_they_are(client):
    sky, opened, _ = (await client.post("/query", query("weather::sky", "weather::open", "weather::air"))).json
    # The null is a row in which the other field of this timeline has a value.
    assert [value for value, _ in sky["datapoints"]] == ["clear", "rain", None]
    assert [value for value, _ in opened["datapoints"]] == [True, False]


@pytest_twisted.ensureDeferred
async def test_a_bad_target_is_an_error_for_itself_alone(client, consumer):
    consumer.served["broken"] = Weather()
    consumer.faults["broken"] = NodeFailed("see its log")
    bad = [
        "weather::nothing",
        "nowhere::air",
        "weather",
        "broken::air",
        {"target": "weather::air", "payload": {"format": "pie"}},
        5,
    ]
    answer = await client.post("/query", query("weather::air", *bad, {"target": "a b::c", "type": "table", "refId": "Z"}))
    assert codes(answer) == [
        None,
        "sisock.error.unknown_field",
        "sisock.error.unknown_node",
        "sisock.error.invalid_argument",
        "sisock.error.node_failed",
        "sisock.error.invalid_argument",
        "sisock.error.invalid_argument",
        "sisock.error.invalid_argument",
    ]
    assert answer.json[0] == {"target": "weather::air", "datapoints": AIR}
    assert answer.json[4] == {
        "target": "broken::air",
        "datapoints": [],
        "error": {"code": "sisock.error.node_failed", "message": "see its log"},
    }
    last = answer.json[-1]
    assert (last["target"], last["columns"], last["rows"], last["refId"]) == ("a b::c", [], [], "Z")


@pytest_twisted.ensureDeferred
async def test_a_node_that_refuses_all_fields_for_one_is_asked_for_each(client):
    answer = await client.post("/query", query("grumpy::air", "grumpy::nothing", "grumpy::wind"))
    assert codes(answer) == [None, "sisock.error.node_failed", None]
    assert answer.json[2]["datapoints"] == WIND


@pytest_twisted.ensureDeferred
async def test_a_node_that_never_answers(client, consumer, clock):
    consumer.silent.add("grumpy")
    from twisted.internet import reactor

    answered, read = Deferred(), consumer.read

    async def reading(*asked):
        found = await read(*asked)
        reactor.callLater(0, answered.callback, None)
        return found

    consumer.read = reading
    answering = client.ask("POST", "/query", json=query("grumpy::air", "weather::air", "grumpy::wind"))
    await consumer.asked
    await answered
    clock.advance(reader.QUERY_DEADLINE)
    response = await answering
    parts = await response.json()
    assert [part.get("error", {}).get("code") for part in parts] == ["sisock.error.timed_out", None, "sisock.error.timed_out"]
    assert parts[1]["datapoints"] == AIR


@pytest_twisted.ensureDeferred
async def test_an_unexpected_error_is_one_target_s_and_is_logged(client, consumer, logged):
    consumer.faults["grumpy"] = ZeroDivisionError("the password is 1234")
    answer = await client.post("/query", query("grumpy::air", "weather::air"))
    assert codes(answer) == ["sisock.error.failed", None]
    assert b"1234" not in answer.body
    assert "1234" in str(logged.pop()["log_failure"])


@pytest_twisted.ensureDeferred
async def test_too_much_is_an_error_for_those_that_are(client, consumer, monkeypatch):
    class Longer(Long):
        name = "longer"
        length = 130_000

    consumer.served |= {"long": Long(), "longer": Longer()}
    full = {"range": {"from": RANGE["from"], "to": "1971-01-01"}}
    answer = await client.post("/query", query("long::a", "long::b") | full)
    assert codes(answer) == [None, None]
    assert [len(part["datapoints"]) for part in answer.json] == [100_000, 100_000]
    monkeypatch.setattr(resolution, "MAX_ARROW", 1 << 20)
    monkeypatch.setattr(streaming, "MAX_ARROW", 1 << 20)
    monkeypatch.setattr(streaming, "MAX_CALL", 1 << 20)
    answer = await client.post("/query", query("longer::a", "weather::air") | full)
    assert codes(answer) == ["sisock.error.too_much", None]
    answer = await client.post("/query", query("longer::a", maxDataPoints=1000) | full)
    assert codes(answer) == [None]
    assert len(answer.json[0]["datapoints"]) <= 1000


@pytest_twisted.ensureDeferred
async def test_a_query_holds_so_many_points(client, monkeypatch):
    monkeypatch.setattr(reader, "MAX_POINTS", 4)
    monkeypatch.setattr(service, "MAX_POINTS", 4)
    # Which of two nodes is refused is decided by who answers first.
    answered = codes(await client.post("/query", query("weather::air", "grumpy::air")))
    assert sorted(answered, key=str) == [None, "sisock.error.too_much"]
    assert codes(await client.post("/query", query("weather::wind", "weather::wind", "weather::wind"))) == [
        None,
        None,
        "sisock.error.too_much",
    ]


@pytest_twisted.ensureDeferred
async def test_the_resolution_reaches_the_node(client, consumer):
    await client.post("/query", query("weather::air", interval="30s"))
    await client.post("/query", query("weather::air", interval="30s", intervalMs=30000, maxDataPoints=500))
    await client.post("/query", query("weather::air"))
    asked = [question for _, question in consumer.questions]
    assert [(one.min_stride, one.max_points) for one in asked] == [(30.0, None), (None, 500), (None, None)]
    assert {(one.start, one.end) for one in asked} == {(1_000_000, 86_400_000_000)}


@pytest_twisted.ensureDeferred
async def test_what_is_no_number_is_null(client, consumer):
    class Odd(DataNode):
        """Answers NaN and the infinities, as nodes of the old kind may."""

        name = "odd"
        fields = {"x": Field()}

        def get_data(self, *_):
            return {"data": {"x": [float("nan"), 1.0, float("inf")]}, "timeline": {"t": {"t": [1, 2, 3]}}}

    consumer.served["odd"] = Odd()
    answer = await client.post("/query", query("odd::x", {"target": "odd::x", "type": "table"}))
    assert answer.json[0]["datapoints"] == [[None, 1000], [1.0, 2000], [None, 3000]]
    assert answer.json[1]["rows"] == [[1000, None], [2000, 1.0], [3000, None]]


@pytest.mark.parametrize("targets", [[], None])
@pytest_twisted.ensureDeferred
async def test_nothing_asked_is_nothing_answered(client, consumer, targets):
    assert (await client.post("/query", {"range": RANGE, "targets": targets})).json == []
    assert (await client.post("/query", {"range": RANGE})).json == []
    assert consumer.questions == []


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"null", b"1", b'"x"', b"true", b"{}", b'{"range": 1}', b'{"range": {"from": "x", "to": "y"}}'),
        json.dumps(query(interval="often")).encode(),
        json.dumps({"range": RANGE, "targets": "weather::air"}).encode(),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_query_of_the_wrong_type(client, body):
    status, code, message = (await client.post("/query", body)).error
    assert (status, code) == (400, "sisock.error.invalid_argument")
    assert len(message) < 200


@pytest_twisted.ensureDeferred
async def test_other_routes_methods_and_sizes(client):
    assert (await client.get("/query")).error[:2] == (405, "method_not_allowed")
    assert (await client.get("/annotations")).error[:2] == (405, "method_not_allowed")
    assert (await client.get("/annotation")).error[:2] == (404, "not_found")
    assert (await client.post("/query", b" " * 1_000_001)).error[:2] == (413, "too_large")


@pytest_twisted.ensureDeferred
async def test_foreign_pages_are_kept_out(client):
    body = query("weather::air")
    assert (await client.post("/query", body, headers={"Host": "evil.example"})).error[:2] == (403, "bad_host")
    assert (await client.post("/query", body, headers={"Origin": "http://evil.example"})).error[:2] == (403, "bad_origin")


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_is_asked_for_no_longer(client, consumer):
    """The node's call is given up, and the fixture `logged` sees that nobody complains."""
    consumer.silent.add("grumpy")
    answering = client.ask("POST", "/query", json=query("weather::air", "grumpy::air"))
    await consumer.asked
    answering.cancel()
    with pytest.raises(ResponseNeverReceived):
        await answering
    await consumer.given_up
    assert (await client.get("/")).status == 200


@pytest_twisted.ensureDeferred
async def test_the_bridge_listens_before_there_is_a_router(logged):
    bridge = Bridge(Access("ws://127.0.0.1:1/ws", "bridge", "secret"), "127.0.0.1", 0, hosts=["grafana-bridge"])
    await bridge.start()
    try:
        client = Client(bridge.listening.getHost().port)
        answer = await client.get("/", headers={"Host": "grafana-bridge:5000"})
        assert answer.error == (500, "sisock.error.not_connected", "No WAMP session")
        assert (await client.get("/", headers={"Host": "elsewhere"})).status == 403
    finally:
        await bridge.stop()
    assert bridge.listening is None


def test_the_reactor_is_chosen_by_the_program():
    """Importing the bridge does not install one."""
    code = "import sys, sisock.http, sisock.grafana_bridge; sys.exit('twisted.internet.reactor' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
