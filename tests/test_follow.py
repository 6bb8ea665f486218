"""Following through a real router: history and live as one stream, whatever happens on the way."""

import random
from itertools import pairwise

import numpy as np
import pytest
import pytest_twisted
from autobahn.wamp.types import SubscribeOptions
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from sisock import DataNode, Field, Timeline, uris
from sisock.asking import Question
from sisock.blocks import Block, concat, merge
from sisock.consumer import Consumer
from sisock.errors import TooMuch, UnknownField, UnknownNode
from sisock.followed import Missing
from sisock.following import Resume
from sisock.splice import Unread
from sisock.store import Store
from sisock.store.layers import outside
from tests.plain import until

T = 1_700_000_000.0
EVERYTHING = 1


class Counter(DataNode):
    """Counts."""

    name = "counter"
    fields = {"n": Field(units="1"), "note": Field(type="string"), "slow": Field(timeline="hour")}
    timelines = {"t": Timeline(0.01, lateness=1.0)}
    max_rows = 2_000_000


class Seen:
    """What a follower was given, put together by its rules: ranges that are revised, then rows."""

    def __init__(self, follower):
        self.follower = follower
        self.rows = {}
        self.missing = []
        self.items = []
        self.ended = Deferred.fromCoroutine(self._take())
        self.ended.addErrback(self._failed)
        self.error = None

    def _failed(self, failure):
        self.error = failure.value
        if not isinstance(self.error, UnknownField):
            failure.printTraceback()

    async def _take(self):
        async for item in self.follower:
            self.items.append(item)
            if isinstance(item, Missing):
                self.missing.append(item)
                continue
            rows = self.rows.get(item.timeline, Block.of([], {}))
            for start, end in item.revises:
                rows = outside(rows, start, end)
            known = set(rows.t.tolist())
            assert not known & set(item.block.t.tolist()), "a row came twice"
            self.rows[item.timeline] = merge(rows, item.block)

    def count(self, timeline="t"):
        return len(self.rows.get(timeline, ()))


@pytest.fixture(params=["memory", "sqlite"])
def history(request, tmp_path):
    if request.param == "memory":
        yield None
        return
    with Store.open(tmp_path / "history.db") as store:
        yield store.node("counter")


@pytest_twisted.async_yield_fixture
async def node(router, history):
    made = Counter()
    if history is not None:
        made.history = history
    service = await router.serve(made)
    yield made
    await service.stop()


@pytest_twisted.async_yield_fixture
async def consumer(router):
    made = await Consumer(router.access()).start()
    yield made
    await made.stop()


async def whole(consumer, fields, timeline="t"):
    found = {}

    def take(name, block):
        found.setdefault(name, []).append(block)

    await consumer.read_all("counter", Question(fields, EVERYTHING), take)
    return concat(found.get(timeline, []))


@pytest_twisted.ensureDeferred
async def test_history_and_live_are_one_stream(node, consumer):
    node.append("t", T + np.arange(50_000) * 0.01, {"n": np.arange(50_000.0)}).result()
    seen = Seen(consumer.follow("counter", ["n", "slow"], start=1.0))
    await until(lambda: seen.count() == 50_000)
    for i in range(50_000, 50_100):
        node.append("t", T + i * 0.01, {"n": float(i)})
    node.append("hour", T, {"slow": 1.0})
    await until(lambda: seen.count() == 50_100 and seen.count("hour") == 1)
    assert seen.rows["t"].columns["n"].values.tolist() == list(range(50_100))
    assert seen.rows["t"] == await whole(consumer, ["n"])
    assert not seen.missing


@pytest_twisted.ensureDeferred
async def test_late_rows_corrections_and_nulls_replace_what_was_there(node, consumer):
    seen = Seen(consumer.follow("counter", ["n", "note"], start=1.0))
    for i in range(20):
        node.append("t", T + i * 0.1, {"n": float(i), "note": f"row {i}"})
    await until(lambda: seen.count() == 20)
    node.append("t", T + 1.55, {"n": 0.5})
    node.append("t", T + 0.3, {"note": "corrected"}, correct=True)
    node.append("t", T + 0.4, {"n": None, "note": None}, correct=True)
    node.append("t", T + 1.9, {"note": None})
    await until(lambda: seen.count() == 20 and seen.items[-1].position.seq == 24)
    assert seen.rows["t"] == await whole(consumer, ["n", "note"])
    assert "corrected" in seen.rows["t"].columns["note"].to_list()


@pytest_twisted.ensureDeferred
async def test_a_follower_from_now_hears_only_what_comes(node, consumer):
    from sisock.times import now

    node.append("t", now() - 10, {"n": 1.0}).result()
    seen = Seen(consumer.follow("counter", ["n"]))
    await until(lambda: seen.follower._lines and next(iter(seen.follower._lines.values())).splice.state.value == "live")
    node.append("t", now() + 1, {"n": 2.0}).result()
    await until(lambda: seen.count() == 1)
    assert seen.rows["t"].columns["n"].values.tolist() == [2.0]


@pytest_twisted.ensureDeferred
async def test_an_unknown_field_ends_it_with_an_error(node, consumer):
    seen = Seen(consumer.follow("counter", ["nothing"]))
    await until(lambda: seen.error)
    assert isinstance(seen.error, UnknownField)


@pytest_twisted.ensureDeferred
async def test_a_reader_who_is_slow_loses_nothing(node, consumer, monkeypatch):
    monkeypatch.setattr("sisock.following.MAX_WAITING", 2_000)
    follower = consumer.follow("counter", ["n"], start=1.0)
    for i in range(200):
        node.append("t", T + i + np.arange(50) * 0.01, {"n": np.full(50, float(i))}).result()
        if i % 20 == 0:
            await until(lambda: follower.catalogue.fields)
    await until(lambda: follower.full)
    seen = Seen(follower)
    await until(lambda: seen.count() == 10_000)
    assert seen.rows["t"] == await whole(consumer, ["n"])


@pytest_twisted.ensureDeferred
async def test_what_was_followed_before_goes_on_behind_it(node, consumer):
    node.append("t", T + np.arange(100) * 0.1, {"n": np.arange(100.0)}).result()
    first = Seen(consumer.follow("counter", ["n"], start=1.0))
    await until(lambda: first.count() == 100)
    first.follower.stop()
    last = first.items[-1]
    node.append("t", T + 10, {"n": 100.0}).result()
    node.append("t", T + 5.05, {"n": -1.0}, correct=True).result()
    resume = {"t": Resume(last.position, int(first.rows["t"].t[-1]))}
    second = Seen(consumer.follow("counter", ["n"], start=1.0, resume=resume))
    await until(lambda: second.count() == 2)
    assert second.rows["t"].columns["n"].values.tolist() == [-1.0, 100.0]


@pytest_twisted.ensureDeferred
async def test_who_stopped_in_the_middle_of_a_long_range_goes_on_there(node, consumer):
    node.append("t", T + np.arange(200_000) * 0.01, {"n": np.arange(200_000.0)}).result()
    first = consumer.follow("counter", ["n"], start=1.0)
    rows = Block.of([], {})
    while len(rows) < 40_000:
        last = await anext(first)
        assert last.unread is not None
        rows = merge(rows, last.block)
    first.stop()
    node.append("t", T + 5.005, {"n": -1.0}, correct=True).result()
    node.append("t", T + 5000, {"n": -2.0}).result()
    resume = {"t": Resume(last.position, int(rows.t[-1]), last.unread)}
    second = Seen(consumer.follow("counter", ["n"], start=1.0, resume=resume))
    second.rows["t"] = rows
    await until(lambda: second.count() == 200_002)
    assert second.rows["t"] == await whole(consumer, ["n"])
    assert second.items[-1].unread is None


@pytest_twisted.ensureDeferred
async def test_rows_that_are_gone_before_they_were_followed_are_a_gap_by_name(router, consumer):
    made = Counter()
    made.history.max_rows = 100
    service = await router.serve(made)
    try:
        for first in range(0, 100, 10):
            made.append("t", T + np.arange(first, first + 10), {"n": np.arange(first, first + 10.0)}).result()
        seen = Seen(consumer.follow("counter", ["n"], start=1.0))
        await until(lambda: seen.count() == 100)
        seen.follower.stop()
        for first in range(100, 400, 10):
            made.append("t", T + np.arange(first, first + 10), {"n": np.arange(first, first + 10.0)}).result()
        kept = made.history.span("t")[0]
        told, newest = seen.items[-1].position, int(seen.rows["t"].t[-1])
        # One stopped behind all that there was, one in the middle of what was still to be read.
        half = {"t": Resume(told, newest - 50_000_000, Unread(newest - 50_000_000 + 1, newest + 1))}
        for resume in ({"t": Resume(told, newest)}, half):
            again = Seen(consumer.follow("counter", ["n"], start=1.0, resume=resume))
            await until(lambda again=again, made=made: again.rows and again.rows["t"].t[-1] == made.history.newest("t"))
            begun = resume["t"].newest + 1
            assert int(again.rows["t"].t[0]) == kept
            named = sorted((one.start, one.end) for one in again.missing)
            assert named[0][0] <= begun
            assert all(one[1] >= other[0] for one, other in pairwise(named))
            assert named[-1][1] == kept
            again.follower.stop()
    finally:
        await service.stop()


@pytest_twisted.ensureDeferred
async def test_a_node_that_is_gone_is_waited_for(router, consumer):
    lost = UnknownNode()
    with pytest.raises(UnknownNode):
        await consumer.back("counter", lost, patience=0.05)
    waiting = Deferred.fromCoroutine(consumer.back("counter", lost, patience=60))
    service = await router.serve(Counter())
    await waiting
    await service.stop()


@pytest_twisted.ensureDeferred
async def test_who_followed_leaves_nothing_behind(node, consumer):
    node.append("t", T, {"n": 1.0}).result()
    session = consumer._connection.session

    def handlers():
        return sum(map(len, session._subscriptions.values()))

    before = handlers()
    for _ in range(10):
        seen = Seen(consumer.follow("counter", ["n"], start=1.0))
        await until(lambda seen=seen: seen.count() == 1)
        seen.follower.stop()
    # One that stops before the router has answered anything, too.
    consumer.follow("counter", ["n"], start=1.0).stop()
    await until(lambda: handlers() == before)
    seen = Seen(consumer.follow("counter", ["n"], start=1.0))
    await until(lambda: seen.count() == 1)
    node.append("t", T + 1, {"n": 2.0}).result()
    await until(lambda: seen.count() == 2)
    assert consumer._connection.session is session


@pytest_twisted.ensureDeferred
async def test_a_field_without_a_value_in_the_newest_row_is_read_all_the_same(node, consumer):
    node.append("t", T + np.arange(1000) * 0.01, {"n": np.arange(1000.0)}).result()
    node.append("t", T + 0.5, {"note": "here"}, correct=True).result()
    assert (await whole(consumer, ["note"])).columns["note"].to_list() == ["here"]
    seen = Seen(consumer.follow("counter", ["note"], start=1.0))
    await until(lambda: seen.count() == 1)


@pytest_twisted.ensureDeferred
async def test_events_are_published_only_while_somebody_watches(node, guests, consumer):
    sent = []
    publisher = node.on_kept.__self__
    publish = publisher._publish
    publisher._publish = lambda topic, *rest: (sent.append(topic), publish(topic, *rest))
    node.append("t", T, {"n": 1.0}).result()
    node.append("hour", T, {"slow": 1.0}).result()
    stranger = await guests(serializer="json")
    events = []
    subscription = await stranger.subscribe(events.append, uris.live("counter", "t"))
    await until(lambda: events)
    assert events[0]["seq"] == events[0]["after"] == 1, "who comes is told the position at once"
    node.append("t", T + 1, {"n": 2.0}).result()
    node.append("hour", T + 1, {"slow": 2.0}).result()
    await until(lambda: len(events) == 2)
    assert (events[1]["after"], events[1]["seq"], events[1]["data"]) == (1, 2, {"n": [2.0]})
    assert uris.live("counter", "hour") not in sent
    await subscription.unsubscribe()
    await until(lambda: not publisher._watched.timelines)
    sent.clear()
    node.append("t", T + 2, {"n": 3.0}).result()
    assert uris.live("counter", "t") not in sent


@pytest_twisted.ensureDeferred
async def test_the_last_rows_are_retained(node, guests):
    node.append("t", T, {"n": 1.0}).result()
    first, second = await guests(), await guests()
    heard, later = [], []
    # One who subscribed before may not have left yet; then nothing new is published for the first, who asks for it.
    await first.subscribe(heard.append, uris.latest("counter"), options=SubscribeOptions(get_retained=True))
    await until(lambda: heard and heard[-1]["t"]["t"] == T)
    assert heard[-1]["t"]["data"] == {"n": 1.0}
    node.append("t", T + 1, {"n": 2.0}).result()
    await until(lambda: heard[-1]["t"]["t"] == T + 1)
    await second.subscribe(later.append, uris.latest("counter"), options=SubscribeOptions(get_retained=True))
    await until(lambda: later and later[-1]["t"]["t"] == T + 1)
    # What a later block says of the last row is added to it.
    node.append("t", T + 1, {"note": "last"}).result()
    await until(lambda: heard[-1]["t"]["data"] == {"n": 2.0, "note": "last"})


@pytest_twisted.ensureDeferred
async def test_blocks_of_a_burst_travel_together(node, guests):
    stranger = await guests(serializer="cbor")
    events = []
    await stranger.subscribe(events.append, uris.live("counter", "t"))
    await until(lambda: node.on_kept.__self__._watched.includes("t"))
    for i in range(500):
        node.append("t", T + i * 0.001, {"n": float(i)})
    await until(lambda: events and events[-1]["seq"] == 500)
    blocks = [event for event in events if len(event["t"])]
    assert len(blocks) < 100
    assert [event["after"] for event in blocks[1:]] == [event["seq"] for event in blocks[:-1]]


@pytest_twisted.ensureDeferred
async def test_a_long_range_is_read_in_pages(node, consumer):
    rows = 300_000
    t = T + np.concatenate([np.arange(rows // 2) * 0.001, 1e6 + np.arange(rows // 2) * 10.0])
    node.append("t", t, {"n": np.arange(float(rows))}).result()
    with pytest.raises(TooMuch):
        await consumer.get_data("counter", ["n"], 1.0, None)
    block = await whole(consumer, ["n"])
    assert block.columns["n"].values.tolist() == list(range(rows))


@pytest_twisted.ensureDeferred
async def test_a_call_in_arrow_is_bounded(node, guests, consumer):
    rows = 1_200_000
    node.append("t", T + np.arange(rows) * 0.001, {"n": np.arange(float(rows))}).result()
    stranger = await guests(serializer="cbor")
    with pytest.raises(Exception, match="too_much"):
        await stranger.call(uris.get_data("counter"), ["n"], 1, None, encoding="arrow")
    blocks = []
    with pytest.raises(TooMuch):
        await consumer.read("counter", Question(["n"], EVERYTHING), lambda _, block: blocks.append(block))
    brought = sum(map(len, blocks))
    assert 1_000_000 < brought < rows, "what came before is whole, and in order"
    assert np.concatenate([block.columns["n"].values for block in blocks]).tolist() == list(range(brought))


@pytest_twisted.ensureDeferred
async def test_a_caller_who_gives_up_stops_the_node(node, consumer):
    node.append("t", T + np.arange(900_000) * 0.001, {"n": np.arange(900_000.0)}).result()
    blocks = []
    reading = Deferred.fromCoroutine(consumer.read("counter", Question(["n"], EVERYTHING), lambda *one: blocks.append(one)))
    await until(lambda: blocks)
    reading.addErrback(lambda failure: None)
    reading.cancel()
    got = len(blocks)
    assert (await consumer.get_data("counter", ["n"], T, T + 1))["data"]["n"][0] == 0.0, "the session goes on"
    assert len(blocks) == got


class Elsewhere(DataNode):
    """Its data live elsewhere."""

    name = "elsewhere"
    fields = {"x": Field(units="V")}

    def __init__(self):
        super().__init__()
        self.rows = [(T + i, float(i)) for i in range(5)]

    def get_data(self, field, start, end, min_stride=None):
        chosen = [row for row in self.rows if start <= row[0] and (end is None or row[0] < end)]
        t, x = [row[0] for row in chosen], [row[1] for row in chosen]
        return {"data": {"x": x}, "timeline": {"t": {"t": t, "finalized_until": None}}}


@pytest_twisted.ensureDeferred
async def test_a_node_without_positions_is_followed_by_asking(router, consumer, monkeypatch):
    monkeypatch.setattr("sisock.polling.PERIOD", (0.05, 0.1))
    made = Elsewhere()
    service = await router.serve(made)
    try:
        arrow = (await consumer.read("elsewhere", Question(["x"], EVERYTHING)))["t"]
        assert arrow.block.columns["x"].values.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
        assert arrow.fields["x"].units == "V"
        seen = Seen(consumer.follow("elsewhere", ["x"], start=1.0))
        await until(lambda: seen.count() == 5)
        made.rows.append((T + 5, 5.0))
        await until(lambda: seen.count() == 6)
        made.rows[-1] = (T + 5, 6.0)
        await until(lambda: seen.rows["t"].columns["x"].values[-1] == 6.0)
        assert seen.count() == 6
    finally:
        await service.stop()


@pytest_twisted.ensureDeferred
async def test_a_node_of_the_old_kind_is_read_and_followed(guests, router, consumer, monkeypatch):
    monkeypatch.setattr("sisock.polling.PERIOD", (0.05, 0.1))
    session = await guests.node("ancient", register=False)
    rows, offered = [[T, 1.0]], ["x"]

    def get_fields(start, end):
        field = {"description": None, "timeline": "t", "type": "number", "units": "K"}
        return [dict.fromkeys(offered, field), {"t": {"interval": None, "field": offered}}]

    def get_data(field, start, end, min_stride=None):
        if end <= 0:
            end += 4e9
        chosen = [row for row in rows if start <= row[0] < end]
        if len(chosen) > 3:
            return False
        timeline = {"t": {"t": [t for t, _ in chosen], "finalized_until": None}} if chosen else {}
        return {"data": {name: [x for _, x in chosen] for name in field}, "timeline": timeline}

    await session.register(get_fields, uris.get_fields("ancient"))
    await session.register(get_data, uris.get_data("ancient"))
    await session.call(uris.ADD, "ancient", "Old.", 0)
    seen = Seen(consumer.follow("ancient", ["x"], start=1.0))
    await until(lambda: seen.count() == 1)
    rows.extend([T + i, float(i)] for i in range(1, 9))
    await until(lambda: seen.count() == 9)
    offered.append("y")
    both = await consumer.read("ancient", Question(["x", "y"], EVERYTHING))
    assert list(both["t"].block.columns) == ["x", "y"], "it began to offer another field"


@pytest_twisted.ensureDeferred
async def test_a_router_that_is_killed_and_comes_back_loses_no_row(tmp_path):
    from autobahn.twisted.util import sleep

    from sisock.testing import Router

    router = await Router().start()
    store = Store.open(tmp_path / "history.db")
    node = Counter()
    node.history = store.node("counter")
    service = await router.serve(node)
    consumer = await Consumer(router.access()).start()
    try:
        seen = Seen(consumer.follow("counter", ["n"], start=1.0))
        appended = 0
        chance = random.Random(7)

        def some():
            for i in range(appended, appended + 200):
                node.append("t", T + i * 0.01, {"n": float(i)})
                if chance.random() < 0.1:
                    node.append("t", T + chance.randrange(i + 1) * 0.01, {"n": -1.0}, correct=True)

        for kills in (True, False):
            await deferToThread(some)
            appended += 200
            if kills:
                await until(lambda: seen.count() == 200)
                await router.kill()
                await until(lambda: not consumer.connected)
                await deferToThread(some)
                appended += 200
                await router.start()
        await until(lambda: seen.count() == appended, 20)
        node.append("t", T + appended, {"n": 0.0}).result()
        await until(lambda: seen.count() == appended + 1, 20)
        await sleep(0)
        assert seen.rows["t"] == await whole(consumer, ["n"])
        assert not seen.missing
    finally:
        await consumer.stop()
        await service.stop()
        await deferToThread(store.close)
        await router.stop()
        router.remove()
