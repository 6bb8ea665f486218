"""An outlet of site streams: it follows the node and hands on what comes, each message once."""

# ruff: noqa: F811  fixtures are imported by their names
import json

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from sisock.blocks import Block
from sisock.errors import NodeFailed, StoreAway
from sisock.nodes.streams import Streams
from sisock.testing import Link
from tests.nodes.streams import any_port, connect, fetch, form, node  # noqa: F401
from tests.plain import until


@pytest_twisted.async_yield_fixture
async def link(router):
    """The way of an outlet to the router."""
    made = await Link(router.ws).start()
    yield made
    await made.stop()


@pytest_twisted.async_yield_fixture
async def begin_outlet(router, link, monkeypatch):
    from sisock import settings as site
    from sisock.nodes.streams import Outlet, outlet

    monkeypatch.setattr(outlet, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(site.Settings, "consumer", lambda self, web: router.access(url=link.url))
    monkeypatch.setenv("SISOCK_STREAMS_OUTLET_PORT", "0")
    services = []

    async def begin():
        services.append(await router.serve(made := Outlet()))
        return made

    yield begin
    for one in services:
        await one.stop()


async def well(one):
    await until(lambda: deferToThread(lambda: fetch(one.faces.address, "/healthz")[0] == 200))
    return one


@pytest_twisted.ensureDeferred
async def test_an_outlet_hands_on_what_the_node_sends_also_of_sites_that_are_new(node, begin_outlet):
    await node.post(form("dome", "weather", "before"))
    outlet = await well(await begin_outlet())
    pages = [await connect(outlet.faces.address, path) for path in ("/prod?site=dome", "/prod?site=dome&topic=jobs")]
    raw = '{"b": 1.50, "a": 1e3}'
    await node.post(f'{{"site": "dome", "topic": "weather", "data": {raw}}}'.encode())
    await until(lambda: len(pages[0].heard) == 1)
    assert pages[0].heard == [f'{{"site":"dome","topic":"weather","data":{raw}}}']
    for n in range(50):
        await node.post(form("dome", "jobs", n))
    await until(lambda: len(pages[0].heard) >= 51)
    assert pages[0].said[1:] == pages[1].said == list(range(50))
    with pytest.raises(ConnectionError, match="400"):
        await connect(outlet.faces.address, "/prod?site=dome&since=-1m")
    code, error = await deferToThread(fetch, outlet.faces.address, "/prod", form("dome", "jobs", 1))
    assert (code, error["error"]["code"]) == (400, "sisock.error.invalid_argument")
    for one in pages:
        await one.leave()


@pytest_twisted.ensureDeferred
async def test_an_outlet_hands_on_each_message_once_however_often_its_connection_is_lost(node, begin_outlet, link):
    outlet = await well(await begin_outlet())
    page = await connect(outlet.faces.address, "/prod?site=dome")
    for n in range(300):
        if n % 60 == 30:
            link.cut()
        await node.post(form("dome", f"topic {n // 25}", n))
    await until(lambda: len(page.heard) >= 300, 30)
    heard = [json.loads(text) for text in page.heard]
    assert sorted(one["data"] for one in heard) == list(range(300))
    for topic in {one["topic"] for one in heard}:
        numbers = [one["data"] for one in heard if one["topic"] == topic]
        assert numbers == sorted(numbers)
    assert not outlet.missed
    await page.leave()


@pytest_twisted.ensureDeferred
async def test_an_outlet_that_follows_no_more_begins_again_where_it_was(node, begin_outlet):
    outlet = await well(await begin_outlet())
    page = await connect(outlet.faces.address, "/prod?site=dome")
    for n in range(4):
        await node.post(form("dome", "jobs", n))
        await until(lambda n=n: page.said[-1:] == [n])
        for one in tuple(outlet._followers):
            one.fail(NodeFailed("as a node fails"))
    assert page.said == list(range(4))
    await well(outlet)
    await page.leave()


@pytest_twisted.ensureDeferred
async def test_an_outlet_lets_nobody_in_before_it_has_found_the_node(begin_outlet):
    outlet = await begin_outlet()
    with pytest.raises(ConnectionError, match="503"):
        await connect(outlet.faces.address, "/prod?site=dome")
    code, told = await deferToThread(fetch, outlet.faces.address, "/healthz")
    assert code == 503
    assert "streams" in told["status"]


@pytest_twisted.ensureDeferred
async def test_an_outlet_does_not_send_what_its_node_learns_late_as_if_it_were_new(router, begin_outlet, monkeypatch):
    monkeypatch.setattr("sisock.learning.AGAIN", 0.02)
    learn, away = Streams._take_up, [True]

    def learn_late(self):
        if away:
            raise StoreAway("as where PostgreSQL is away at a start")
        learn(self)

    monkeypatch.setattr(Streams, "_take_up", learn_late)
    made = Streams()
    for topic in ("weather", "jobs"):
        line = f"dome/{topic}"
        made.history.append(line, Block.of([1e9, 1.1e9], {line: ['"old"'] * 2})).result(10)
    service = await router.serve(made)
    try:
        outlet = await begin_outlet()
        await until(lambda: outlet.ready)
        page = await connect(outlet.faces.address, "/prod?site=dome")
        away.clear()
        await until(lambda: made.known == 2)
        for n in range(2):
            for topic in ("weather", "jobs", "new"):
                assert (await deferToThread(fetch, made.faces.address, "/prod", form("dome", topic, n)))[0] == 201
        await until(lambda: len(page.heard) >= 6)
        assert sorted(page.said) == [0, 0, 0, 1, 1, 1]
        await page.leave()
    finally:
        await service.stop()
