"""PromQL over a real router: every kind of node gives the same answers."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import numpy as np
import pytest_twisted
from twisted.internet.defer import Deferred

from sisock import DataNode, Field
from sisock.consumer import Consumer
from sisock.grafana_bridge.service import create_app
from sisock.store import Store

START = 1_700_000_000.0
T = START + 0.5 + np.arange(2000.0)
VALUES = np.cumsum(np.random.default_rng(5).normal(size=2000))
BASE = "org.simonsobservatory.consumer"

QUERIES = [
    "level",
    "min_over_time(level[2m])",
    "max_over_time(level[30s])",
    "avg_over_time(level[3m])",
    "sum_over_time(level[45s])",
    "count_over_time(level[1m])",
    "rate(level[2m])",
    "timestamp(level)",
    "level offset 7s",
]


def rows(start, end):
    inside = (start <= T) & (end is None or end > T)
    return T[inside], VALUES[inside]


class Own(DataNode):
    """Keeps its rows itself."""

    name = "kept"
    fields = {"level": Field()}


class Elsewhere(DataNode):
    """Has its rows from elsewhere."""

    name = "elsewhere"
    fields = {"level": Field()}

    def get_data(self, field, start, end, min_stride=None):
        t, v = rows(start, end)
        return {"data": {"level": v.tolist()}, "timeline": {"t": {"t": t.tolist(), "finalized_until": None}}}


async def old(session):
    """A node as they were: it knows no argument that came after contract A, and answers no more than 700 rows."""

    def get_fields(start, end):
        field = {"description": None, "timeline": "t", "type": "number", "units": None}
        return [{"level": field}, {"t": {"interval": 1.0, "field": ["level"]}}]

    def get_data(field, start, end, min_stride=None):
        t, v = rows(start, end)
        if len(t) > 700:
            return False
        return {"data": {"level": v.tolist()}, "timeline": {"t": {"t": t.tolist(), "finalized_until": None}}}

    await session.register(get_fields, f"{BASE}.old.get_fields")
    await session.register(get_data, f"{BASE}.old.get_data")
    assert await session.call("org.simonsobservatory.data_node.add", "old", "as they were", session._session_id)


@pytest_twisted.ensureDeferred
async def test_every_kind_of_node_gives_the_same_answers(router, guests, serve, tmp_path):
    services = []
    with Store.open(tmp_path / "store.db") as store:
        kept = Own()
        kept.history = store.node("kept")
        kept.append("t", T, {"level": VALUES}).result()
        memory = type("Memory", (Own,), {"name": "memory"})()
        memory.append("t", T, {"level": VALUES}).result()
        consumer = Consumer(router.access())
        try:
            services += [await router.serve(node) for node in (kept, memory, Elsewhere())]
            await old(await guests.node("old", register=False))
            await consumer.start()
            client = serve(create_app(consumer))
            for query in QUERIES:
                form = urlencode({"query": query, "start": START + 10, "end": START + 2100, "step": 20})
                answer = await client.get(f"/prom/api/v1/query_range?{form}")
                assert answer.status == 200, answer.body
                assert "warnings" not in answer.json, answer.json["warnings"]
                found = {one["metric"]["node"]: one["values"] for one in answer.json["data"]["result"]}
                assert found.keys() == {"kept", "memory", "elsewhere", "old"}
                expected = np.array(found["memory"], float)
                assert len(expected) > 90
                for name, values in found.items():
                    assert np.allclose(np.array(values, float), expected, rtol=1e-9, atol=1e-9), (query, name)
        finally:
            await consumer.stop()
            for service in services:
                await service.stop()


@pytest_twisted.ensureDeferred
async def test_a_silent_node_costs_its_own_series_alone(router, guests, serve, monkeypatch):
    from sisock.grafana_bridge.prom import catalogues, reading

    monkeypatch.setattr(catalogues, "PATIENCE", 0.3)
    monkeypatch.setattr(reading, "NODE_DEADLINE", 0.3)
    memory = type("Memory", (Own,), {"name": "awake"})()
    memory.append("t", T, {"level": VALUES}).result()
    service = await router.serve(memory)
    consumer = Consumer(router.access())
    silent = await guests.node("silent", register=False)
    asleep = []

    def get_fields(start, end):
        field = {"description": None, "timeline": "t", "type": "number", "units": None}
        if asleep:
            return Deferred()
        return [{"level": field}, {"t": {"interval": 1.0, "field": ["level"]}}]

    await silent.register(get_fields, f"{BASE}.silent.get_fields")
    await silent.register(lambda *_, **__: Deferred(), f"{BASE}.silent.get_data")
    await silent.call("org.simonsobservatory.data_node.add", "silent", "", silent._session_id)
    try:
        await consumer.start()

        async def ask(client, query):
            answer = await client.get(f"/prom/api/v1/query?{urlencode({'query': query, 'time': START + 500})}")
            return answer.status, json.loads(answer.body)

        for sleeps in (False, True):
            asleep[:] = [True] * sleeps
            client = serve(create_app(consumer))
            status, answer = await ask(client, "level")
            assert status == 200
            assert [one["metric"]["node"] for one in answer["data"]["result"]] == ["awake"]
            (warning,) = answer["warnings"]
            assert warning.startswith("silent")
            status, answer = await ask(client, 'level{node="silent"}')
            assert (status, answer["errorType"]) == (503, "timeout")
    finally:
        await consumer.stop()
        await service.stop()
