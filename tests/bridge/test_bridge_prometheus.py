"""The Prometheus HTTP API: its routes, its forms, its errors."""

import json
import threading
import tracemalloc
from urllib.parse import urlencode

import numpy as np
import pytest
import pytest_twisted

from sisock import DataNode, Field, Timeline
from sisock.errors import NodeFailed
from sisock.grafana_bridge.prom.leaves import Grid
from sisock.grafana_bridge.prom.plan import Plan
from sisock.grafana_bridge.service import create_app
from sisock.times import MICROS
from tests.bridge.memory_consumer import MemoryConsumer

START = 1_700_000_000.0
API = "/prom/api/v1"


class Roof(DataNode):
    """A mast on the roof."""

    name = "roof"
    fields = {
        "air.temp": Field("Air, 2 m", "degC", labels={"place": "mast"}),
        "wind": Field("Wind", "m/s"),
        "open": Field(type="bool"),
        "sky": Field(type="string"),
        "2nd": Field(timeline="slow"),
    }
    timelines = {"slow": Timeline(interval=600.0)}

    def __init__(self):
        super().__init__()
        t = START + 0.25 + np.arange(3600.0)
        values = {"air.temp": np.sin(np.arange(3600) / 100), "wind": np.arange(3600.0), "open": np.arange(3600) % 2 == 0}
        self.append("t", t, values | {"sky": ["clear"] * 3600})
        self.append("slow", [START, START + 600], {"2nd": [1.0, 2.0]})


class Attic(DataNode):
    name = "attic"
    fields = {"wind": Field("Draught", "m/s")}

    def __init__(self):
        super().__init__()
        self.append("t", START + np.arange(100.0), {"wind": np.full(100, 0.5)})


class Api:
    def __init__(self, client):
        self.client = client

    async def answer(self, path, post=False, headers=None, **parameters):
        form = urlencode(parameters, doseq=True)
        if post:
            headers = {"Content-Type": "application/x-www-form-urlencoded"} | (headers or {})
            return await self.client.request("POST", API + path, data=form.encode(), headers=headers)
        return await self.client.get(f"{API}{path}?{form}", headers=headers or {})

    async def data(self, path, **parameters):
        answer = await self.answer(path, **parameters)
        assert answer.status == 200, answer.body
        assert answer.json["status"] == "success"
        return answer.json["data"]

    async def error(self, path, **parameters):
        answer = await self.answer(path, **parameters)
        assert sorted(answer.json) == ["error", "errorType", "status"]
        assert answer.json["status"] == "error"
        return answer.status, answer.json["errorType"], answer.json["error"]


@pytest.fixture
def consumer():
    return MemoryConsumer(Roof(), Attic())


@pytest.fixture
def api(serve, consumer):
    return Api(serve(create_app(consumer)))


@pytest_twisted.ensureDeferred
async def test_the_health_query_of_grafana(api):
    for post in (False, True):
        answer = await api.answer("/query", post=post, query="1+1", time="4")
        assert answer.body == b'{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}'


@pytest_twisted.ensureDeferred
async def test_a_selector_at_one_time_and_at_several(api):
    at = START + 100
    assert await api.data("/query", query="wind", time=at) == {
        "resultType": "vector",
        "result": [{"metric": {"__name__": "wind", "node": "roof"}, "value": [at, "99"]}],
    } | {
        "result": [
            {"metric": {"__name__": "wind", "node": "attic"}, "value": [at, "0.5"]},
            {"metric": {"__name__": "wind", "node": "roof"}, "value": [at, "99"]},
        ]
    }
    for post in (False, True):
        found = await api.data("/query_range", post=post, query='wind{node="roof"}', start=at, end=at + 60, step="30s")
        assert found == {
            "resultType": "matrix",
            "result": [
                {"metric": {"__name__": "wind", "node": "roof"}, "values": [[at, "99"], [at + 30, "129"], [at + 60, "159"]]}
            ],
        }


@pytest_twisted.ensureDeferred
async def test_a_field_is_a_metric_with_a_legal_name_and_the_labels_that_its_node_gave(api):
    assert await api.data("/series", **{"match[]": ['{node="roof"}']}) == [
        {"__name__": "_2nd", "field": "2nd", "node": "roof"},
        {"__name__": "air_temp", "field": "air.temp", "node": "roof", "place": "mast"},
        {"__name__": "open", "node": "roof"},
        {"__name__": "wind", "node": "roof"},
    ]
    assert await api.data("/labels") == ["__name__", "field", "node", "place"]
    assert await api.data("/label/node/values") == ["attic", "roof"]
    assert json.loads(json.dumps(await api.data("/metadata", metric="wind"))) == {
        "wind": [{"type": "gauge", "help": "Wind", "unit": "m/s"}, {"type": "gauge", "help": "Draught", "unit": "m/s"}]
    }


BAD = {
    "": "the parameter query is missing",
    "wind{": "no PromQL",
    "rate(wind)": "no PromQL",
    "foo(wind)": "no PromQL",
    "{}": "no PromQL",
    "1 > 2": "no PromQL",
    'wind{node=~"("}': "regular expression|illegal regex",
    'wind{node="a" or node="b"}': "`or` between matchers",
    "wind @ -5": "from 1970 on",
    "wind @ 1e12": "a time or a length of time that there is not",
    "wind offset 1000000y": "a time or a length of time that there is not",
    "wind offset -290000y": "a time or a length of time that there is not",
    "rate(wind[1000000000y])": "a time or a length of time that there is not",
    "histogram_quantile(0.9, wind)": "the function histogram_quantile is not understood here",
    "limitk(1, wind)": "the aggregation limitk is not understood here",
    "wind + fill(0) wind": "fill is not understood here",
    "sum_over_time(wind[10d:1ms])": "more than 100000 steps",
    "quantile_over_time(scalar(wind), wind[1m])": "takes a number beside its range",
    'label_replace(wind, "1", "", "node", "")': "no name of a label",
    'label_replace(wind, "a", "", "node", "(")': "no regular expression",
    'count_values("a-b", wind)': "no name of a label",
    "(" * 600 + "wind" + ")" * 600: "longer than the 1000 words and signs",
    "+".join(["wind"] * 501): "longer than the 1000 words and signs",
    "-" * 999 + "wind": "nested too deeply",
    'wind{node=~"' + "a" * 20_000 + '"}': "longer than the 10000",
    # Looked for from each of its signs again, its end would take a minute, in which nobody else is answered.
    '"' + '\\"' * 45_000: "no PromQL",
}


@pytest.mark.parametrize("query", BAD, ids=lambda query: query[:30])
@pytest_twisted.ensureDeferred
async def test_what_is_not_understood_is_400_with_a_sentence(api, consumer, query):
    for path, times in (("/query", {"time": START}), ("/query_range", {"start": START, "end": START + 60, "step": 10})):
        status, kind, message = await api.error(path, post=True, query=query, **times)
        assert (status, kind) == (400, "bad_data")
        assert any(part in message for part in BAD[query].split("|")), message
    assert not consumer.questions


@pytest.mark.parametrize(
    ("path", "parameters", "part"),
    [
        ("/query", {"query": "wind", "time": "soon"}, "time is a time"),
        ("/query", {"query": "wind", "time": "inf"}, "time is a time"),
        ("/query", {"query": "wind", "timeout": "-1s"}, "timeout is a length of time"),
        ("/query_range", {"query": "wind", "start": 1, "end": 2}, "step is a length of time"),
        ("/query_range", {"query": "wind", "start": 1, "end": 2, "step": 0}, "step is a length of time"),
        ("/query_range", {"query": "wind", "start": 1, "end": 2, "step": "1e-9"}, "step is"),
        ("/query_range", {"query": "wind", "start": 1, "end": 2, "step": "9" * 5000 + "s"}, "step is"),
        ("/query_range", {"query": "wind", "start": 2, "end": 1, "step": 1}, "end is before start"),
        ("/query_range", {"query": "wind", "start": 0, "end": 11_000, "step": 1}, "at most 11000 points"),
        ("/query_range", {"query": "wind", "end": 11_000, "step": 1}, "the parameter start is missing"),
        ("/series", {}, "match[]"),
        ("/series", {"match[]": "1 + 1"}, "match[] is a selector"),
        ("/series", {"match[]": "sum(wind)"}, "match[] is a selector"),
        ("/labels", {"match[]": "wind", "limit": "-1"}, "limit is a whole number"),
    ],
    ids=str,
)
@pytest_twisted.ensureDeferred
async def test_parameters_are_checked(api, path, parameters, part):
    status, kind, message = await api.error(path, **parameters)
    assert (status, kind) == (400, "bad_data")
    assert part in message


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("wind * wind{node=~'.+'} + on () wind", "several series on the"),
        ("sum_over_time({node='roof'}[1m]) + 1", "two series have the same labels"),
        ("sum by (node) (wind) / on () wind", "several series"),
        ("topk(scalar(nothing), wind)", "a number of series"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_evaluated_is_422(api, query, part):
    status, kind, message = await api.error("/query", query=query, time=START + 90)
    assert (status, kind) == (422, "execution")
    assert part in message


@pytest.mark.parametrize("query", ["wind offset 140000y", "wind offset -140000y", "rate(wind[140000y])", "wind @ 1e10"])
@pytest_twisted.ensureDeferred
async def test_times_that_are_far_away_can_be_asked_for(api, query):
    await api.data("/query_range", query=query, start=START, end=START + 60, step=10)


@pytest.mark.parametrize(
    ("query", "in_a_thread"),
    [
        ("predict_linear(wind[1m], 60)", False),
        ("quantile_over_time(scalar(quantile_over_time(0.5, vector(time())[100m:1m])) * 0, wind[1m])", True),
    ],
)
@pytest_twisted.ensureDeferred
async def test_numbers_that_are_some_work_keep_nobody_waiting(api, monkeypatch, query, in_a_thread):
    threads, work_out = [], Plan.work_out

    def noted(plan):
        threads.append(threading.current_thread() is not threading.main_thread())
        work_out(plan)

    monkeypatch.setattr(Plan, "work_out", noted)
    assert (await api.data("/query_range", query=query, start=START + 60, end=START + 90, step=10))["result"]
    assert threads == [in_a_thread]


def test_a_plan_that_waits_for_nodes_is_small():
    grid = Grid.of(0, 10_999 * MICROS, MICROS)
    tracemalloc.start()
    try:
        plan = Plan("+".join(["1"] * 200 + ["wind offset 1s"] * 50 + ["sum_over_time(wind[1h:1s])"] * 20), grid)
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
        assert len(plan.leaves) == 70
    finally:
        tracemalloc.stop()


@pytest_twisted.ensureDeferred
async def test_11000_points_are_answered(api):
    found = await api.data("/query_range", query="vector(1)", start=0, end=10_999, step=1)
    assert len(found["result"][0]["values"]) == 11_000


@pytest_twisted.ensureDeferred
async def test_durations_and_times_may_be_written_out(api):
    found = await api.data("/query_range", query="1", start="2023-11-14T22:13:20Z", end="2023-11-14T22:15:20.5Z", step="1m")
    assert [t for t, _ in found["result"][0]["values"]] == [START, START + 60, START + 120]


@pytest_twisted.ensureDeferred
async def test_a_value_stands_for_five_minutes_or_twice_the_interval(api):
    async def there(query, at):
        return bool((await api.data("/query", query=query, time=at))["result"])

    last = START + 99.0
    assert await there('wind{node="attic"}', last + 299.999)
    assert not await there('wind{node="attic"}', last + 300)
    slow = START + 600
    assert await there("_2nd", slow + 1199.999)
    assert not await there("_2nd", slow + 1200)
    assert not await there("_2nd", START - 1)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("0/0", "NaN"),
        ("1/0", "+Inf"),
        ("-1/0", "-Inf"),
        ("1e21", "1e+21"),
        ("123456789012345678901", "123456789012345680000"),
        ("1e-7", "1e-07"),
        ("0.000001", "0.000001"),
        ("0.1+0.2", "0.30000000000000004"),
        ("-0.0", "-0"),
        ("3", "3"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_numbers_are_spelt_as_prometheus_does(api, expression, text):
    assert (await api.data("/query", query=expression, time=1.5))["result"] == [1.5, text]


@pytest_twisted.ensureDeferred
async def test_a_text_is_a_result_too_but_no_metric(api):
    assert await api.data("/query", query='"hello"', time=2) == {"resultType": "string", "result": [2, "hello"]}
    assert (await api.data("/query", query="sky", time=START + 10))["result"] == []


@pytest_twisted.ensureDeferred
async def test_what_the_node_can_make_few_is_not_read_as_rows(api, consumer):
    span = {"start": START + 60, "end": START + 3000, "step": 60}
    methods = {"wind": "last", "avg_over_time(wind[1m])": "mean", "max_over_time(wind[5m])": "max", "rate(wind[5m])": None}
    for query, method in methods.items():
        consumer.questions.clear()
        await api.data("/query_range", query=query, **span)
        assert {question.method for _, question in consumer.questions} == {method}
        assert len(consumer.questions) == 2
    consumer.questions.clear()
    await api.data("/query_range", query='air_temp + on () wind{node="roof"} + on () open', **span)
    assert len(consumer.questions) == 1, "fields of a timeline are asked for together"


@pytest_twisted.ensureDeferred
async def test_rows_come_by_pages_and_are_forgotten_as_they_are_used(api, consumer, monkeypatch):
    from sisock import streaming
    from sisock.grafana_bridge.prom import reading

    span = {"query": 'rate(wind{node="roof"}[1m])', "start": START + 60, "end": START + 3000, "step": 60}
    whole = await api.data("/query_range", **span)
    assert len(consumer.questions) == 1
    monkeypatch.setattr(streaming, "MAX_CALL", 8_000)
    monkeypatch.setattr(streaming, "BATCH_BYTES", 2_000)
    monkeypatch.setattr(
        streaming, "_parts", lambda block: [block.take(slice(at, at + 100)) for at in range(0, len(block), 100)]
    )
    assert await api.data("/query_range", **span) == whole
    assert len(consumer.questions) > 5
    monkeypatch.setattr(reading, "MAX_SAMPLES", 1000)
    status, kind, message = await api.error("/query_range", **span)
    assert (status, kind) == (422, "execution")
    assert "1000 samples" in message


@pytest_twisted.ensureDeferred
async def test_a_silent_node_blanks_its_own_and_is_named(serve, consumer):
    from twisted.internet.task import Clock

    from sisock.errors import StoreAway

    clock = Clock()
    api = Api(serve(create_app(consumer, clock=clock)))
    assert len((await api.data("/query", query="wind", time=START + 50))["result"]) == 2
    consumer.faults["attic"] = StoreAway("the database does not answer")
    answer = await api.answer("/query", query="wind", time=START + 50)
    assert [one["metric"]["node"] for one in answer.json["data"]["result"]] == ["roof"]
    assert answer.json["warnings"] == ["attic is left out: the database does not answer"]
    assert (await api.error("/query", query='wind{node="attic"}', time=START + 50))[2] == "the database does not answer"
    assert (await api.answer("/query", query='wind{node="roof"}', time=START + 50)).status == 200


@pytest_twisted.ensureDeferred
async def test_a_node_that_comes_and_goes_is_seen(serve):
    from twisted.internet.task import Clock

    clock, consumer = Clock(), MemoryConsumer(Roof())
    api = Api(serve(create_app(consumer, clock=clock)))
    assert await api.data("/label/node/values") == ["roof"]
    consumer.served["attic"] = Attic()
    clock.advance(2)
    assert len((await api.data("/query", query='wind{node="attic"}', time=START + 50))["result"]) == 1
    del consumer.served["roof"]
    clock.advance(10)
    assert await api.data("/label/node/values") == ["attic"]
    consumer.faults["attic"] = NodeFailed("a bug")
    api = Api(serve(create_app(consumer, clock=clock)))
    assert (await api.error("/query", query='wind{node="attic"}', time=START))[:2] == (500, "internal")
    assert (await api.answer("/query", query="wind", time=START)).json["warnings"] == ["attic is left out: a bug"]
    consumer.connected = False
    clock.advance(10)
    assert (await api.error("/labels"))[:2] == (503, "unavailable")


@pytest_twisted.ensureDeferred
async def test_a_caller_sees_what_the_rules_let_it_see(tmp_path):
    from sisock.doors import Door
    from sisock.home import Home
    from sisock.http import listen
    from sisock.users import User
    from tests.bridge.http_client import Client

    home = Home(tmp_path)
    home.make()
    home.users.add(User("anna", "consumer", "secret"))
    home.rules.path.write_text(
        '[[rule]]\nwho = ["anna"]\nnodes = ["roof"]\nverbs = ["see", "read"]\n'
        '[[rule]]\nwho = ["anna"]\nnodes = ["attic"]\nverbs = ["see"]\n'
    )
    door = Door.of(home, "bridge")
    third = type("Third", (Attic,), {"name": "third"})
    port = listen(create_app(MemoryConsumer(Roof(), Attic(), third())), "127.0.0.1", 0, door=door)
    try:
        api, anna = Api(Client(port.getHost().port)), {"Authorization": "Bearer anna:secret"}
        assert (await api.answer("/labels")).status == 401
        assert await api.data("/label/node/values", headers=anna) == ["attic", "roof"]
        found = await api.data("/query", headers=anna, query="wind", time=START + 50)
        assert [one["metric"]["node"] for one in found["result"]] == ["roof"]
        refused = await api.error("/query", headers=anna, query='wind{node="attic"}', time=START + 50)
        assert refused[0] == 403
        assert "may not read" in refused[2]
        assert (await api.data("/query", headers=anna, query='wind{node="third"}', time=START + 50))["result"] == []
    finally:
        door.close()
        await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_promtool_asks_as_it_asks_prometheus(api):
    from twisted.internet.threads import deferToThread

    from tests.bridge.prometheus import promtool

    url = f"http://127.0.0.1:{api.client.port}/prom"
    at = str(START + 50)

    async def asked(*args):
        return (await deferToThread(promtool, "query", *args)).splitlines()

    assert await asked("instant", "--time", at, url, 'wind{node="roof"}') == ['wind{node="roof"} => 49 @[1700000050]']
    assert await asked("instant", "--time", at, url, "1+1") == ["scalar: 2 @[1700000050]"]
    span = ["--start", at, "--end", str(START + 70), "--step", "10s"]
    assert await asked("range", *span, url, 'avg_over_time(wind{node="roof"}[10s])') == [
        '{node="roof"} =>',
        "44.5 @[1700000050]",
        "54.5 @[1700000060]",
        "64.5 @[1700000070]",
    ]
    assert await asked("series", "--match", "wind", "--start", at, "--end", at, url) == [
        '{__name__="wind", node="attic"}',
        '{__name__="wind", node="roof"}',
    ]
    assert await asked("labels", url, "node") == ["attic", "roof"]
