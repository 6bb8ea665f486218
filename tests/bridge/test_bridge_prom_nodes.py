"""PromQL over nodes of every kind, which give the same answers, and over nodes that give none."""

from __future__ import annotations

import threading
from urllib.parse import urlencode

import numpy as np
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock

from sisock import DataNode, Field
from sisock.blocks import Block, Column
from sisock.consumer import Consumer
from sisock.errors import TooMuch
from sisock.grafana_bridge.prom import api, catalogues, reading
from sisock.grafana_bridge.prom.leaves import Leaf
from sisock.grafana_bridge.prom.matching import Selector
from sisock.grafana_bridge.prom.names import Source
from sisock.grafana_bridge.service import create_app
from sisock.store import Store
from sisock.times import MICROS
from tests.bridge.memory_consumer import MemoryConsumer
from tests.plain import until

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


def holding(name):
    """A node that keeps the rows in memory."""
    node = type(name, (Own,), {"name": name})()
    node.append("t", T, {"level": VALUES}).result()
    return node


class Place:
    """A bridge over two nodes, one of which falls asleep, and a clock that counts the deadlines."""

    def __init__(self, serve):
        self.clock = Clock()
        self.consumer = MemoryConsumer(holding("awake"), holding("asleep"))
        self.client = serve(create_app(self.consumer, clock=self.clock))
        self.read = []
        read = self.consumer.read

        async def reading(node, *question):
            answer = await read(node, *question)
            self.read.append(node)
            return answer

        self.consumer.read = reading

    async def ask(self, query):
        answer = await self.client.get(f"/prom/api/v1/query?{urlencode({'query': query, 'time': START + 500})}")
        return answer.status, answer.json

    def begin(self, query):
        return Deferred.fromCoroutine(self.ask(query))

    def asked(self, node):
        """How often a node was asked for rows."""
        return self.consumer.paged.count(node)


def nodes_of(answer):
    return [one["metric"]["node"] for one in answer["data"]["result"]]


@pytest_twisted.ensureDeferred
async def test_a_node_that_does_not_answer_costs_its_own_series_alone(serve):
    place = Place(serve)
    assert nodes_of((await place.ask("level"))[1]) == ["asleep", "awake"]
    place.consumer.silent.add("asleep")
    place.read.clear()
    all_nodes, alone = place.begin("level"), place.begin('level{node="asleep"}')
    await until(lambda: place.asked("asleep") == 3 and place.read == ["awake"])
    place.clock.advance(reading.NODE_DEADLINE)
    status, answer = await all_nodes
    assert (status, nodes_of(answer)) == (200, ["awake"])
    assert answer["warnings"] == ["asleep is left out: asleep did not answer within 10 s. It may be busy or stopped."]
    status, answer = await alone
    assert (status, answer["errorType"]) == (503, "timeout")


@pytest_twisted.ensureDeferred
async def test_a_node_that_does_not_say_what_it_offers_costs_its_own_series_alone(serve):
    place = Place(serve)
    place.consumer.silent.add("asleep")
    all_nodes = place.begin("level")
    await place.consumer.asked
    place.clock.advance(catalogues.PATIENCE)
    status, answer = await all_nodes
    assert (status, nodes_of(answer)) == (200, ["awake"])
    (warning,) = answer["warnings"]
    assert warning.startswith("asleep is left out")
    # Nobody waits for the same question again.
    assert nodes_of((await place.ask("level"))[1]) == ["awake"]
    status, answer = await place.ask('level{node="asleep"}')
    assert (status, answer["errorType"]) == (503, "timeout")


@pytest_twisted.ensureDeferred
async def test_those_who_wait_for_a_node_keep_nobody_from_the_others(serve, monkeypatch):
    monkeypatch.setattr(reading, "ALL_CALLS_A_NODE", 10)
    place = Place(serve)
    await place.ask("level")
    place.consumer.silent.add("asleep")
    place.read.clear()
    waiting = [place.begin('level{node="asleep"}') for _ in range(10)]
    await until(lambda: place.asked("asleep") == 11)
    all_nodes = place.begin("level")
    await until(lambda: place.read == ["awake"])
    status, answer = await place.ask('level{node="awake"}')
    assert (status, nodes_of(answer)) == (200, ["awake"])
    place.clock.advance(reading.NODE_DEADLINE)
    assert {status for status, _ in await gatherResults(waiting)} == {503}
    # Whose call had to wait is answered without the node, too, before its own time is over.
    await until(lambda: place.asked("asleep") == 12)
    place.clock.advance(reading.NODE_PATIENCE - reading.NODE_DEADLINE)
    status, answer = await all_nodes
    assert (status, nodes_of(answer), len(answer["warnings"])) == (200, ["awake"], 1)


@pytest_twisted.ensureDeferred
async def test_so_many_queries_are_under_way(serve, monkeypatch):
    monkeypatch.setattr(api, "QUERIES", 1)
    place = Place(serve)
    await place.ask("level")
    place.consumer.silent.add("asleep")
    first = place.begin('level{node="asleep"}')
    await place.consumer.asked
    status, answer = await place.ask("1")
    assert (status, answer["errorType"]) == (503, "unavailable")
    place.clock.advance(reading.NODE_DEADLINE)
    assert (await first)[0] == 503
    assert (await place.ask("1"))[0] == 200


@pytest_twisted.ensureDeferred
async def test_a_thread_that_is_late_fills_nothing_that_was_left_out(monkeypatch):
    clock, go_on = Clock(), threading.Event()
    begun, ended = threading.Event(), threading.Event()
    fill_all = reading._fill_all

    def late(shares, upto):
        if upto is not None:
            begun.set()
            go_on.wait(60)
        fill_all(shares, upto)
        if upto is not None:
            ended.set()

    monkeypatch.setattr(reading, "_fill_all", late)

    class Pages:
        async def read(self, node, question, take):
            take("t", Block(np.arange(100, 200) * MICROS, {"level": Column(np.arange(100.0))}))
            if node == "b":
                raise TooMuch

    leaf = Leaf(Selector(()), range(150 * MICROS, 190 * MICROS, 10 * MICROS), 30 * MICROS, "rate")
    sources = [Source(node, "level", "t", (("node", node),), MICROS) for node in ("a", "b")]
    filled = Deferred.fromCoroutine(reading.fill([leaf], [sources], Pages(), reading.Calls(), clock))
    await until(begun.is_set)
    clock.advance(reading.NODE_DEADLINE)
    (warning,) = await filled
    assert warning.startswith("b is left out")
    go_on.set()
    await until(ended.is_set)
    there = dict(zip(leaf.value.labels, leaf.value.there.any(axis=1).tolist(), strict=True))
    assert [labels for labels, any_there in there.items() if any_there] == [(("node", "a"),)]
