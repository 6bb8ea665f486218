"""The geoms as a node like any other: what it offers, keeps and sweeps, and what consumers see."""

# ruff: noqa: F811  fixtures are imported by their names
import socket
import threading
import urllib.request

import numpy as np
import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from sisock.consumer import Consumer
from sisock.nodes.geom import Geoms
from sisock.nodes.geom.document import DOCUMENT
from sisock.nodes.geom.keeping import TABLES, Plan, Samples
from sisock.nodes.geom.prepare import prepare
from sisock.nodes.geom.shapes import Frames, Geom, Shapes, Task
from sisock.nodes.geom.sources.cuwb import cuwb
from sisock.openapi import differences
from sisock.store import Store
from sisock.testing import NodeContract
from tests.nodes.geoms import START, connect, event, home, inputs, leave, node, refused, sample, task  # noqa: F401
from tests.plain import until
from tests.test_follow import Seen
from tests.test_tokens import token


@pytest_twisted.ensureDeferred
async def test_the_port_says_what_it_offers(node):
    assert not differences(node.faces.application(), DOCUMENT)
    text = await deferToThread(lambda: urllib.request.urlopen(f"{node.faces.address}/metrics", timeout=10).read().decode())
    assert "sisock_geom_connections 0.0" in text


@pytest_twisted.ensureDeferred
async def test_while_the_store_is_away_clients_are_told_and_stay(router, home, monkeypatch):
    monkeypatch.setenv("SISOCK_STORE", f"postgresql://postgres@/geoms?host={home}")
    made = Geoms()
    service = await router.serve(made)
    client = await connect(made.faces.address)
    await client.ask({"auth": {"Authorization": token()}})
    (answer,) = await client.ask({"getGeoms": {"environment_id": "lab", "date": "2026-07-14"}})
    assert refused(4503, answer)
    assert "waits for the store" in made.trouble()
    assert await client.ask({"ping": 1}) == [{"pong": 1}]
    await leave(client)
    await service.stop()


@pytest_twisted.ensureDeferred
async def test_a_node_sweeps_what_a_killed_preparation_left(router, sample, home, inputs):
    with Store.open(home / "history.db", tables=TABLES) as store:
        samples = Samples(store)
        plan = Plan("lab", START, START + 1_000_000, 10.0, 10, (1, 1), "cuwb", ["camera-1"])
        left = samples.begin(plan)
        store.node(left.history).release()
        with store.database.writing() as tx:
            # Beyond the numbers that processes have.
            tx.run("UPDATE geom_samples SET holder = ? WHERE id = ?", f"{socket.gethostname()} {2**22 + 1}", left.id)
        made = Geoms()
        service = await router.serve(made)
        assert [one.id for one in samples.all()] == [sample]
        await deferToThread(made.look)
        assert made._seen == {}
        await service.stop()


@pytest_twisted.ensureDeferred
async def test_consumers_see_the_same_shapes(node, sample, router, inputs):
    consumer = await Consumer(router.access()).start()
    catalogue = await consumer.get_fields("geom", START / 1e6, START / 1e6 + 10)
    timeline = f"{sample}.camera-1"
    names = [name for name, field in catalogue.fields.items() if field.timeline == timeline]
    assert len(names) == 16, "x and y of a point and a text for each of four tags"
    field = catalogue.fields[names[0]]
    assert field.labels["object_type"] == "person"
    assert "Ada" in field.description
    assert field.units == "px"
    assert catalogue.timelines[timeline].interval == 0.1
    assert not (await consumer.get_fields("geom", 1.0, 2.0)).fields
    answer = await consumer.get_data("geom", names, START / 1e6, START / 1e6 + 1)
    made = cuwb(task(inputs)).collect(0, 600)["camera-1"]
    assert answer["timeline"][timeline]["finalized_until"] is None, "a finished sample does not change"
    frames = np.rint((np.array(answer["timeline"][timeline]["t"]) - START / 1e6) * 10).astype(int)
    assert len(frames) >= 9, "where nobody is seen is no row"
    assert np.array_equal(np.array(answer["data"][names[0]], float), np.round(made[frames, 0, 0], 3), equal_nan=True)
    assert answer["data"][names[0]] == answer["data"][names[2]], "the text stands where the point does"
    few = await consumer.get_data("geom", names[:1], START / 1e6, None, max_points=10)
    assert few["timeline"][timeline]["finalized_until"] is None
    assert len(few["timeline"][timeline]["t"]) <= 10
    await consumer.stop()


@pytest_twisted.ensureDeferred
async def test_a_load_is_seen_live_as_a_node_and_by_clients_when_it_is_whole(node, sample, router, home):
    client = await connect(node.faces.address)
    await client.ask({"auth": {"Authorization": token()}})
    go_on = threading.Event()

    def slow(_task):
        def collect(low, high):
            if low >= 2 * 8192:
                assert go_on.wait(60)
            return {"c": np.full((high - low, 1, 2), low / 8192)}

        return Shapes([Geom("u", "Point2D", (0,), {}, "t", "person", "Ada")], {"c": (10, 10)}, 1, collect)

    def load():
        with Store.open(home / "history.db", tables=TABLES) as store:
            return prepare(
                Samples(store), "lab", slow, "slow", Task(home, Frames.between(START, START + 3_000_000_000, 10))
            ).sample

    loading = deferToThread(load)
    number = sample + 1
    consumer = await Consumer(router.access()).start()

    async def came():
        catalogue = await consumer.get_fields("geom", START / 1e6, None)
        names = [name for name in catalogue.fields if name.startswith(f"{number}.c.")]
        return names and (await consumer.get_data("geom", names, START / 1e6, None, max_points=10))["data"] and names

    names = await until(came)
    assert len(names) == 2
    data = await consumer.get_data("geom", names, START / 1e6, None, max_points=10)
    assert data["timeline"][f"{number}.c"]["finalized_until"] is not None, "more of it will come"
    follower = consumer.follow("geom", names[:1], start=START / 1e6)
    seen = Seen(follower)
    await until(lambda: seen.count(f"{number}.c") == 2 * 8192, 20)
    (answer,) = await client.ask({"getGeoms": {"environment_id": "lab", "date": "2026-07-14"}})
    assert answer["geoms"]["sample"]["id"] == sample, "clients see the one before"
    (answer,) = await client.ask(event("getCoordinates", sample_id=number, device_id="c", **{"from": "2026-07-14T09:00:00"}))
    assert refused(4404, answer)
    go_on.set()
    assert await loading == number
    await until(lambda: seen.count(f"{number}.c") == 30_000, 20)
    assert not seen.missing
    (answer,) = await client.ask({"getGeoms": {"environment_id": "lab", "date": "2026-07-14"}})
    assert answer["geoms"]["sample"]["id"] == number
    follower.stop()
    await consumer.stop()
    await leave(client)


class TestGeoms(NodeContract):
    node = Geoms

    @pytest.fixture(autouse=True)
    def surroundings(self, sample):
        """There is a sample."""
