"""The JSON data source's dialect, SimpleJson's annotations, filters: bodies that the plugins send, and their answers."""

import threading

import pytest
import pytest_twisted

from sisock import DataNode, Field
from sisock.grafana_bridge import create_app, notes, queries
from sisock.grafana_bridge.units import grafana_unit
from tests.bridge.memory_consumer import Long, MemoryConsumer, Weather

SPAN = {
    "from": "1970-01-01T00:00:01.000Z",
    "to": "1970-01-02T00:00:00.000Z",
    "raw": {"from": "now-24h", "to": "now"},
}
# What the plugin 0.6 adds to each query.
AROUND = {
    "app": "dashboard",
    "requestId": "Q102",
    "timezone": "browser",
    "panelId": 2,
    "dashboardUID": "b3n1",
    "range": SPAN,
    "interval": "2m",
    "intervalMs": 120000,
    "maxDataPoints": 1920,
    "scopedVars": {"__interval": {"text": "2m", "value": "2m"}, "__interval_ms": {"text": "120000", "value": 120000}},
    "startTime": 1574418203842,
    "rangeRaw": {"from": "now-24h", "to": "now"},
    "adhocFilters": [],
}


class Hub(DataNode):
    """What the hub's own node keeps of others."""

    name = "hub"
    fields = {
        "event.node": Field(type="string", timeline="events"),
        "event": Field(type="string", timeline="events"),
        "event.start": Field(timeline="events"),
        "event.end": Field(timeline="events"),
    }

    def __init__(self):
        super().__init__()
        self.append("events", 1000.0, {"event.node": "weather", "event": "came"}).result()
        self.append("events", 2000.0, {"event.node": "lab", "event": "went"}).result()
        corrected = {"event.node": "weather", "event": "corrected", "event.start": 500.0, "event.end": 600.5}
        self.append("events", 3000.0, corrected).result()


@pytest.fixture
def consumer():
    return MemoryConsumer(Weather(), Hub())


@pytest.fixture
def client(serve, consumer):
    return serve(create_app(consumer))


def target(name, **more):
    """A target as the query editor sends it."""
    return {
        "datasource": {"type": "simpod-json-datasource", "uid": "P1"},
        "editorMode": "code",
        "refId": "A",
        "target": name,
        **more,
    }


async def frames(client, *targets, **more):
    answer = await client.post("/query", {**AROUND, "targets": list(targets), **more})
    assert answer.status == 200
    assert isinstance(answer.json, list)
    assert all("length" not in frame for frame in answer.json)
    return answer.json


@pytest_twisted.ensureDeferred
async def test_a_query_is_answered_with_frames(client):
    assert await frames(client, target("weather::air", payload={})) == [
        {
            "name": "weather::air",
            "refId": "A",
            "fields": [
                {"name": "Time", "type": "time", "config": {}, "values": [1000000, 4600000, 8200500]},
                {
                    "name": "air",
                    "type": "number",
                    "labels": {"node": "weather"},
                    "config": {"displayNameFromDS": "weather::air", "unit": "celsius"},
                    "values": [1.5, None, 3.0],
                },
            ],
        }
    ]


@pytest_twisted.ensureDeferred
async def test_texts_truths_tables_and_series_each_have_their_refid(client):
    sky, opened, table, series = await frames(
        client,
        target("weather::sky", payload={}),
        target("weather::open", refId="B", payload={"method": "last"}),
        target("weather::air", refId="C", payload={"format": "table"}),
        target("weather::wind", refId="D", payload={"format": "time_series"}),
    )
    assert [field["type"] for field in sky["fields"] + opened["fields"]] == ["time", "string", "time", "boolean"]
    assert sky["fields"][1]["values"] == ["clear", "rain", None][: len(sky["fields"][1]["values"])]
    assert opened["fields"][1]["values"] == [True, False]
    assert table == {
        "type": "table",
        "columns": [{"text": "Time", "type": "time"}, {"text": "air", "type": "number"}],
        "rows": [[1000000, 1.5], [4600000, None], [8200500, 3.0]],
        "refId": "C",
    }
    assert series == {"target": "weather::wind", "datapoints": [[7, 1000000], [9, 1060000.5]], "refId": "D"}
    assert [one["refId"] for one in (sky, opened)] == ["A", "B"]


@pytest_twisted.ensureDeferred
async def test_fields_are_chosen_in_the_builder_or_by_a_variable(client, consumer):
    found = await frames(
        client,
        target("weather", editorMode="builder", payload={"field": ["air", "wind"]}),
        target("weather::(open|spare)", refId="B", payload={}),
        target("", refId="C", payload={}),
    )
    assert [(one["name"], one["refId"]) for one in found] == [
        ("weather::air", "A"),
        ("weather::wind", "A"),
        ("weather::open", "B"),
        ("weather::spare", "B"),
    ]
    # All of them are one call.
    assert [question.fields for _, question in consumer.questions] == [("air", "wind", "open", "spare")]


@pytest_twisted.ensureDeferred
async def test_what_fails_blanks_its_own_frame(client):
    good, unknown, gone, bad = await frames(
        client,
        target("weather::air", payload={}),
        target("weather::nothing", refId="B", payload={}),
        target("nowhere::air", refId="C", payload={}),
        target("weather", refId="D", payload={}),
    )
    assert "meta" not in good
    for frame, code in ((unknown, "unknown_field"), (gone, "unknown_node"), (bad, "invalid_argument")):
        assert frame["fields"] == []
        assert frame["error"]["code"] == f"sisock.error.{code}"
        assert frame["meta"]["notices"] == [{"severity": "error", "text": frame["error"]["message"]}]
    assert [frame["refId"] for frame in (unknown, gone, bad)] == ["B", "C", "D"]


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        ([{"key": "node", "operator": "=", "value": "weather"}], ["air", "sky", "wind"]),
        ([{"key": "node", "operator": "!=", "value": "weather"}], []),
        ([{"key": "field", "operator": "=~", "value": "a.*|w.nd"}], ["air", "wind"]),
        ([{"key": "field", "operator": "!~", "value": "a"}], ["air", "sky", "wind"]),
        ([{"key": "field", "operator": "=|", "value": "air", "values": ["air", "sky"]}], ["air", "sky"]),
        ([{"key": "units", "operator": "=", "value": "degC"}], ["air"]),
        ([{"key": "type", "operator": "!=", "value": "string"}, {"key": "field", "operator": "<", "value": "b"}], ["air"]),
    ],
)
@pytest.mark.parametrize("where", ["filters", "adhocFilters"])
@pytest_twisted.ensureDeferred
async def test_filters(client, filters, left, where):
    targets = [target(f"weather::{name}", payload={}) for name in ("air", "sky", "wind")]
    assert [frame["fields"][1]["name"] for frame in await frames(client, *targets, **{where: filters})] == left


def test_a_pattern_is_made_ready_once_for_all_targets(monkeypatch):
    from pyarrow import compute

    made, match = [], compute.match_substring_regex
    monkeypatch.setattr(compute, "match_substring_regex", lambda *args, **how: made.append(how) or match(*args, **how))
    targets = [{"target": f"roof::{name}{number}", "refId": "A"} for name in "ab" for number in range(500)]
    filters = [{"key": "field", "operator": "=~", "value": "a.*"}, {"key": "field", "operator": "!~", "value": ".*7"}]
    query = queries.parse_query({"range": SPAN, "targets": targets, "adhocFilters": filters})
    assert len(query.targets) == 450
    # And once to see that it is one.
    assert len(made) == 4


@pytest_twisted.ensureDeferred
async def test_a_ref_id_that_is_no_text_fails_for_itself(client):
    good, bad = await frames(client, target("weather::air"), target("weather::air", refId="\ud800"))
    assert good["fields"][0]["values"]
    assert bad["error"]["code"] == "sisock.error.invalid_argument"


@pytest_twisted.ensureDeferred
async def test_annotations_of_a_field_of_numbers_keep_nobody_waiting(serve, monkeypatch):
    threads, changes = [], notes.changes

    def noted(*args):
        threads.append(threading.current_thread())
        return changes(*args)

    monkeypatch.setattr(notes, "changes", noted)
    client = serve(create_app(MemoryConsumer(Long())))
    body = {"range": {"from": "1970-01-01", "to": "1970-01-03"}, "annotation": {"query": "long::a"}}
    found = (await client.post("/annotations", body)).json
    assert [found[0]["title"], found[-1]["title"], len(found)] == ["99000", "99999", notes.MAX_NOTES]
    assert threads
    assert threading.main_thread() not in threads


@pytest.mark.parametrize(
    "filters",
    [
        {},
        [5],
        [{}],
        [{"key": "colour", "operator": "=", "value": "x"}],
        [{"key": "node", "operator": "~", "value": "x"}],
        [{"key": "node", "operator": "=~", "value": "("}],
        [{"key": "node", "operator": "=", "value": 5}],
        [{"key": "node", "operator": "=", "value": "x"}] * 101,
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_filter_that_is_none_is_refused(client, filters):
    body = {**AROUND, "targets": [target("weather::air")], "adhocFilters": filters}
    assert (await client.post("/query", body)).error[:2] == (400, "sisock.error.invalid_argument")


@pytest_twisted.ensureDeferred
async def test_metrics_are_nodes_and_fields_with_payloads(client):
    answer = (await client.post("/metrics", {})).json
    assert answer == (await client.post("/metrics", {"metric": "weather", "payload": {"field": ["air"]}})).json
    assert [one["value"] for one in answer[:3]] == ["weather", "hub", "weather::air"]
    payloads = answer[0]["payloads"]
    assert [(one["name"], one["type"]) for one in payloads] == [
        ("field", "multi-select"),
        ("method", "select"),
        ("format", "select"),
    ]
    # A list without options is asked for when it is opened.
    assert "options" not in payloads[0]
    assert {one["value"] for one in payloads[1]["options"]} == {"minmax", "lttb", "mean", "last"}
    asked = {"metric": "weather", "payload": {}, "name": "field"}
    options = (await client.post("/metric-payload-options", asked)).json
    assert options[:2] == [{"label": "air", "value": "air"}, {"label": "sky", "value": "sky"}]
    assert (await client.post("/metric-payload-options", {**asked, "name": "colour"})).status == 400
    assert (await client.post("/metrics", {"metric": 5})).status == 400


@pytest.mark.parametrize(
    ("payload", "first"),
    [
        ({"target": "nodes"}, ["weather", "hub"]),
        ("nodes", ["weather", "hub"]),
        ({"target": "fields", "node": "weather"}, ["air", "sky", "wind"]),
        ({"target": "fields", "node": "(hub|weather)"}, ["event.node", "event"]),
        ({"target": "units"}, ["degC"]),
        ({"target": "WEATHER::A"}, ["weather::air"]),
        ({"target": ""}, ["weather::air"]),
        ({"target": "no such thing"}, []),
    ],
)
@pytest_twisted.ensureDeferred
async def test_variables(client, payload, first):
    answer = (await client.post("/variable", {"payload": payload, "range": SPAN})).json
    assert answer[: len(first)] == [{"__text": text, "__value": text} for text in first]
    assert bool(answer) is bool(first)


@pytest_twisted.ensureDeferred
async def test_tags(client):
    keys = (await client.post("/tag-keys", {})).json
    assert keys == [{"type": "string", "text": key} for key in ("node", "field", "units", "type")]
    for key, first in (("node", "weather"), ("field", "air"), ("units", "degC"), ("type", "bool")):
        assert (await client.post("/tag-values", {"key": key})).json[0] == {"text": first}
    assert (await client.post("/tag-values", {"key": "City"})).error[:2] == (400, "sisock.error.invalid_argument")


@pytest_twisted.ensureDeferred
async def test_annotations_are_frames(client):
    sky, nodes, corrections, wrong = await frames(
        client,
        # As Grafana sends a query of annotations.
        target("weather::sky", refId="Anno", payload={"format": "frame"}),
        target("#nodes", refId="B"),
        target("#corrections weather", refId="C"),
        target("#moons", refId="D"),
    )
    assert sky["fields"][1]["values"][:2] == ["clear", "rain"]
    assert [field["name"] for field in nodes["fields"]] == ["time", "timeEnd", "title", "text", "tags"]
    assert nodes["fields"][0]["values"] == [1000000, 2000000]
    assert nodes["fields"][2]["values"] == ["weather came", "lab went"]
    assert [field["values"] for field in corrections["fields"][:3]] == [[500000], [600500], ["weather corrected"]]
    assert wrong["error"]["code"] == "sisock.error.invalid_argument"


ANNOTATION = {
    "name": "weather",
    "datasource": "sisock",
    "iconColor": "rgba(255, 96, 96, 1)",
    "enable": True,
}


async def annotations(client, query):
    annotation = {**ANNOTATION, "query": query}
    answer = await client.post("/annotations", {"range": SPAN, "annotation": annotation, "rangeRaw": SPAN["raw"]})
    if answer.status == 200:
        found = answer.json
        # Grafana wants its own question back.
        assert all(one.pop("annotation") == annotation for one in found)
        return found
    return answer.error


@pytest_twisted.ensureDeferred
async def test_annotations_of_simplejson(client):
    assert await annotations(client, "weather::sky") == [
        {"time": 1000000, "title": "clear", "text": "", "tags": ["weather", "sky"]},
        {"time": 4600000, "title": "rain", "text": "", "tags": ["weather", "sky"]},
    ]
    assert [one["title"] for one in await annotations(client, "weather::open")] == ["true", "false"]
    assert [one["title"] for one in await annotations(client, "#nodes lab")] == ["lab went"]
    gap, *_ = await annotations(client, "#gaps weather 1000s")
    assert gap == {
        "time": 1000000,
        "timeEnd": 4600000,
        "isRegion": True,
        "title": "no rows for 3600 s",
        "text": "weather, timeline hourly",
        "tags": ["gap", "weather", "hourly"],
    }
    assert await annotations(client, "weather::spare") == []


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", "invalid_argument"),
        ("weather", "invalid_argument"),
        ("#deploy", "invalid_argument"),
        ("#gaps", "invalid_argument"),
        ("#gaps weather often", "invalid_argument"),
        ("#gaps weather 0s", "invalid_argument"),
        (5, "invalid_argument"),
        ("weather::nothing", "unknown_field"),
        ("nowhere::x", "unknown_node"),
        ("#gaps nowhere", "unknown_node"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_annotations_that_are_none(client, query, code):
    assert (await annotations(client, query))[1] == f"sisock.error.{code}"


@pytest_twisted.ensureDeferred
async def test_who_came_and_went_is_told_by_the_hubs_own_node(client, consumer):
    del consumer.served["hub"]
    status, code, message = await annotations(client, "#nodes")
    assert (status, code) == (404, "sisock.error.unknown_node")
    assert "sisock run hub" in message


@pytest_twisted.ensureDeferred
async def test_lists_of_names_have_an_end(client, monkeypatch):
    monkeypatch.setattr(queries, "MAX_NAMES", 2)
    monkeypatch.setattr(queries.matching, "__defaults__", (2,))
    assert (await client.post("/search", {"target": ""})).json == ["weather::air", "weather::sky"]


@pytest.mark.parametrize(
    ("label", "unit"),
    [
        ("degC", "celsius"),
        ("mBar", "pressurembar"),
        ("km/h", "velocitykmh"),
        ("%", "percent"),
        ("m", "lengthm"),
        ("B/s", "binBps"),
        ("1/s", "cps"),
        ("rpm", "rotrpm"),
        (" m/s ", "velocityms"),
        ("px", "suffix:px"),
        ("adu", "suffix:adu"),
        ("", None),
        (None, None),
    ],
)
def test_units(label, unit):
    assert grafana_unit(label) == unit
