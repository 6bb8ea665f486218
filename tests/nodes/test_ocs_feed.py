"""The observatory's feeds as its agents publish them: a plain Autobahn session and a real router."""

import json
import random
import time
import urllib.request

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from sisock.consumer import Consumer
from sisock.errors import InvalidArgument, SetupError
from sisock.nodes.ocs_feed import OcsFeed
from sisock.nodes.ocs_feed.document import DOCUMENT
from sisock.nodes.ocs_feed.settings import Settings
from sisock.nodes.ocs_feed.simulator import Agent, Publisher
from sisock.nodes.ocs_feed.source import Feed, read
from sisock.openapi import differences
from sisock.store.store import Store
from sisock.testing import Link, NodeContract, Router
from tests.conforming import conforms
from tests.plain import join, until
from tests.test_follow import Seen

T = 1_700_000_000.0


def event(target="dome", **blocks):
    """An event of these blocks, {name: {channel: values}}."""
    message = {}
    for name, data in blocks.items():
        count = len(next(iter(data.values())))
        message[name] = {"block_name": name, "data": data, "timestamps": [T + n for n in range(count)]}
    return [message, {"agent_address": f"observatory.{target}", "feed_name": "air"}]


TOPIC = "observatory.dome.feeds.air"


@pytest.fixture(autouse=True)
def any_port(monkeypatch):
    monkeypatch.setenv("SISOCK_OCS_FEED_PORT", "0")


class TestOcsFeed(NodeContract):
    node = OcsFeed

    def make(self):
        class Told(OcsFeed):
            def start(self):
                super().start()
                for n in range(4):
                    message, told = event(air={"Air T": [1.0 + n]})
                    message["air"]["timestamps"] = [T + n]
                    self.take(TOPIC, ([message, told],))

        return Told()


def test_an_event_is_read_block_by_block():
    one, two = read(TOPIC, event(air={"Air T": [1, 2.5], "Wind SPEED": [None, 3]}, dew={"state": ["wet"]}))
    assert (one.timeline, two.timeline) == ("observatory.dome.air.air", "observatory.dome.air.dew")
    assert {name: column.to_list() for name, column in one.block.columns.items()} == {
        "dome.air.air_t": [1.0, 2.5],
        "dome.air.wind_speed": [None, 3.0],
    }
    assert one.block.t.tolist() == [1_700_000_000_000_000, 1_700_000_001_000_000]
    assert list(next(read(TOPIC, event(air={"Air T": [1]}), plain=True)).block.columns) == ["air_t"]


@pytest.mark.parametrize(
    "wrong",
    [None, [], "x", [{}], [[], {}], [{}, {}], [{}, {"agent_address": "observatory.other"}], [{}, {"agent_address": "dome"}]],
    ids=repr,
)
def test_what_is_no_event_is_named(wrong):
    with pytest.raises(InvalidArgument):
        list(read(TOPIC, wrong))


@pytest.mark.parametrize(
    "block",
    [
        None,
        {},
        {"block_name": "b", "data": {"a": [1]}},
        {"block_name": "b", "data": {"a": [1, 2]}, "timestamps": [1]},
        {"block_name": "b", "data": {"a": 1}, "timestamps": [1]},
        {"block_name": "b", "data": {"a": [1]}, "timestamps": ["now"]},
        {"block_name": "b", "data": {"a": [1]}, "timestamps": [float("nan")]},
        {"block_name": "b", "data": {"a": [{}]}, "timestamps": [1]},
        {"block_name": "b", "data": {"a": [1, "x"]}, "timestamps": [1, 2]},
        {"block_name": 1, "data": {"a": [1]}, "timestamps": [1]},
        {"block_name": "b\n", "data": {"a": [1]}, "timestamps": [1]},
        {"block_name": "b", "data": {"": [1]}, "timestamps": [1]},
    ],
    ids=repr,
)
def test_a_block_that_is_wrong_is_named_and_the_others_are_kept(block):
    good = event(air={"a": [1]})
    good[0] = {"wrong": block, **good[0]}
    refused, kept = read(TOPIC, good)
    assert isinstance(refused, InvalidArgument)
    assert "wrong" in str(refused)
    assert len(kept.block) == 1


def test_a_channel_that_is_wrong_is_named_and_those_beside_it_are_kept():
    wrong, short, twice, kept = read(TOPIC, event(air={"a": [1, 2], "b": [{}, 1], "c": [1], "A": [3, 4], "d": ["x", None]}))
    for one, channel in ((wrong, ".b"), (short, "'c'"), (twice, "'A'")):
        assert isinstance(one, InvalidArgument)
        assert channel in str(one)
    assert {name: column.to_list() for name, column in kept.block.columns.items()} == {
        "dome.air.a": [1.0, 2.0],
        "dome.air.d": ["x", None],
    }


def test_a_channel_that_changes_its_type_or_block_is_refused_and_those_beside_it_are_kept(monkeypatch):
    monkeypatch.setattr("sisock.nodes.ocs_feed.node.MAX_FIELDS", 3)
    node = OcsFeed(Settings.read({"SISOCK_OCS_FEED_URL": "ws://localhost:1/ws"}))
    node.take(TOPIC, (event(air={"a": [1.0], "b": [2.0], "later": [None]}),))
    node.take(TOPIC, (event(air={"a": [1.5], "b": ["OVERLOAD"], "later": ["x"], "beyond": [1]}),))
    node.take(TOPIC, (event(other={"a": [9.0]}, air={"b": [{}], "a": [1.75]}),))
    assert node.refusals.counts == {TOPIC: 4}
    taken = [{name: column.to_list() for name, column in one.block.columns.items()} for one, _ in node.intake._waiting]
    assert taken == [
        {"dome.air.a": [1.0], "dome.air.b": [2.0]},
        {"dome.air.a": [1.5], "dome.air.later": ["x"]},
        {"dome.air.a": [1.75]},
    ]


def test_feeds_are_named_or_meant_by_a_pattern():
    assert Feed.of("dome.air").topic == TOPIC
    assert Feed.of("dome.*").topic == "observatory.dome.feeds."
    assert Feed.of("cryo*.*").topic == "observatory..feeds."
    assert Feed.of("cryo*.temp*").means("cryostat", "temperatures")
    assert not Feed.of("cryo*.temp*").means("dome", "temperatures")
    for wrong in ("dome", "", ".", "a.b.c", "dome.", "do me.x"):
        with pytest.raises(SetupError):
            Feed.of(wrong)
    old = Settings.read({"TARGET": "dome", "FEED": "air", "BUFFER_TIME": "3600"})
    assert (old.feeds, old.plain, old.keep) == ((Feed("dome", "air"),), True, 3600.0)
    for wrong in ({"SISOCK_OCS_FEED_URL": "http://x"}, {"BUFFER_TIME": "x"}, {"SISOCK_OCS_KEEP": "-1s"}):
        with pytest.raises(SetupError):
            Settings.read(wrong)


@pytest_twisted.async_yield_fixture(scope="module")
async def observatory():
    """A site whose plain transport agents publish on."""
    made = Router(ocs=True)
    await made.start()
    yield made
    await made.stop()
    made.remove()


def node_of(observatory, feeds, url=None):
    told = {"SISOCK_OCS_FEED_URL": url or observatory.ocs, "SISOCK_OCS_FEED_REALM": "sisock", "SISOCK_OCS_FEEDS": feeds}
    return OcsFeed(Settings.read(told))


@pytest_twisted.ensureDeferred
async def test_channels_of_many_feeds_are_followed_and_what_is_malformed_is_counted(observatory):
    node = node_of(observatory, "dome.air,cryo*.*,*.temperatures")
    service = await observatory.serve(node)
    consumer = await Consumer(observatory.access()).start()
    agent = await join(observatory.ocs, None)
    try:
        await until(lambda: node.observatory.connected)
        agent.publish(TOPIC, event(air={"Air T": [1.5, 2.5], "On": [True, False]}, text={"state": ["a", "b"]}))
        agent.publish("observatory.cryostat.feeds.temperatures", event("cryostat", cold={"Channel 01": [4.0]}))
        agent.publish("observatory.dome.feeds.other", event(air={"x": [1]}))
        agent.publish(TOPIC, event("elsewhere", air={"Air T": [9.0]}))
        agent.publish(TOPIC, event(air={"Air T": ["text"]}))
        agent.publish(TOPIC, event(other={"Air T": [1.0]}))
        agent.publish(TOPIC, 1, 2)
        await until(lambda: node.refusals.total == 4)
        await until(lambda: node.events == 6)
        assert node.refusals.counts == {TOPIC: 4}
        assert node.health.errors == 4
        await until(lambda: not node.intake.waiting)
        said = await deferToThread(lambda: urllib.request.urlopen(node.face.address + "/healthz", timeout=10).read())
        assert json.loads(said)["status"] == "ok"
        assert json.loads(said)["refused"] == 4
        said = await deferToThread(lambda: urllib.request.urlopen(node.face.address + "/refused", timeout=10).read())
        assert json.loads(said).keys() == {TOPIC}
        said = await deferToThread(lambda: urllib.request.urlopen(node.face.address + "/metrics", timeout=10).read().decode())
        assert f'sisock_ocs_feed_refused_total{{topic="{TOPIC}"}} 4.0' in said
        assert "sisock_ocs_feed_connected 1.0" in said
        assert not differences(node.application(), DOCUMENT)
        await conforms(node.face.address, examples=5)
        catalogue = await consumer.get_fields("data_feed")
        assert {name: (spec.timeline, spec.type) for name, spec in catalogue.fields.items()} == {
            "dome.air.air_t": ("observatory.dome.air.air", "number"),
            "dome.air.on": ("observatory.dome.air.air", "bool"),
            "dome.air.state": ("observatory.dome.air.text", "string"),
            "cryostat.temperatures.channel_01": ("observatory.cryostat.temperatures.cold", "number"),
        }
        seen = Seen(consumer.follow("data_feed", ["dome.air.air_t"], start=1.0))
        await until(lambda: seen.count("observatory.dome.air.air") == 2)
        late, told = event(air={"Air T": [0.5]})
        late["air"]["timestamps"] = [T - 1000.0]
        agent.publish(TOPIC, [late, told])
        more, told = event(air={"Air T": [3.5], "New": [1]})
        more["air"]["timestamps"] = [T + 2.0]
        agent.publish(TOPIC, [more, told])
        await until(lambda: seen.count("observatory.dome.air.air") == 4)
        assert seen.rows["observatory.dome.air.air"].columns["dome.air.air_t"].values.tolist() == [0.5, 1.5, 2.5, 3.5]
    finally:
        await agent.quit()
        await consumer.stop()
        await service.stop()


@pytest_twisted.ensureDeferred
async def test_it_comes_back_when_the_connection_was_lost_and_what_was_is_there_after_a_restart(observatory, tmp_path):
    store = Store.open(tmp_path / "h.db")
    publisher = Publisher(node_of(observatory, "*.*").settings.access, [Agent("cryo", "temps", random.Random(1))], 100.0, 0.05)
    publisher.start()
    link = await Link(observatory.ocs).start()
    try:
        node = node_of(observatory, "*.*", link.url)
        node.history = store.node("data_feed")
        service = await observatory.serve(node)
        await until(lambda: node.events > 2)
        link.cut()
        await until(lambda: not node.observatory.connected)
        assert node.observatory.trouble
        before = node.events
        await until(lambda: node.events > before + 2, 20)
        assert not node.observatory.trouble
        await service.stop()
        # It is not waited for beyond some seconds.
        await until(lambda: not node.intake._thread.is_alive(), 30)
        await link.stop()
        channels = ["cryo.temps.channel_00_t", "cryo.temps.heater_on"]
        kept = len(node.history.read("observatory.cryo.temps.cold", channels, 0, 2**60)[0])
        again = node_of(observatory, "nothing.else")
        again.history = store.node("data_feed")
        service = await observatory.serve(again)
        consumer = await Consumer(observatory.access()).start()
        try:
            answer = await consumer.get_data("data_feed", channels, 1.0, time.time() + 60)
            assert len(answer["data"][channels[0]]) == kept
            assert set(answer["data"][channels[1]]) <= {True, False}
        finally:
            await consumer.stop()
            await service.stop()
    finally:
        await publisher.stop()
        store.close()


def test_the_plain_transport_of_the_site_in_the_home_is_found(observatory, tmp_path):
    home = observatory.home
    nowhere = Settings.read({"SISOCK_HOME": str(tmp_path), "CROSSBAR_OCS_PORT": "18001"})
    assert nowhere.access.url == "ws://localhost:18001/ws"
    assert home.run() is None
    (home.path / "run.json").write_text(
        '{"ws": "", "realm": "sisock", "base_uri": "", "page": "", "bridge": null, "local": "", "certificate": null,'
        ' "consumer": {}, "server": {}}'
    )
    try:
        assert Settings.read({"SISOCK_HOME": str(home.path)}).access.url == observatory.ocs
    finally:
        home.forget_run()
