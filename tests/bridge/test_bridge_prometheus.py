"""The Prometheus HTTP API: its routes, its forms, its errors."""

import json
from urllib.parse import urlencode

import numpy as np
import pytest
import pytest_twisted

from sisock import DataNode, Field, Timeline
from sisock.grafana_bridge.service import create_app
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
