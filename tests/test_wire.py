"""A node over the wire (contracts A5 to A7): shapes, times, thinning, odd input, as a plain Autobahn client meets them."""

from __future__ import annotations

import math
import threading
import time

import numpy as np
import pytest
import pytest_twisted
from autobahn.wamp.exception import ApplicationError

from sisock import DataNode, Field, Timeline
from sisock.errors import UnknownField
from sisock.testing import Router
from tests.plain import BASE, join, until

START = 1_500_000_000.0
ROWS = 1000


class Bench(DataNode):
    """A node of known data."""

    name = "bench"
    fields = {
        "air": Field("Air temperature, 2 m", "degC", timeline="fast"),
        "count": Field(timeline="fast"),
        "open": Field(type="bool", timeline="slow"),
        "note": Field(type="string", timeline="slow"),
        "empty": Field(timeline="never"),
    }
    timelines = {"fast": Timeline(interval=1.0, lateness=5.0)}

    def start(self):
        t = START + np.arange(ROWS)
        air = np.sin(np.arange(ROWS) / 50.0)
        air[10], air[500], air[501] = math.nan, 99.0, -99.0
        self.append("fast", t, {"air": air, "count": np.arange(ROWS)})
        self.append("slow", [START, START + 60, START + 180], {"open": [True, None, False], "note": ["a", None, "ü"]})


@pytest_twisted.async_yield_fixture
async def bench(router):
    service = await router.serve(Bench())
    yield service
    await service.stop()


def fields(session, *args, **kwargs):
    return session.call(f"{BASE}consumer.bench.get_fields", *args, **kwargs)


def data(session, *args, **kwargs):
    return session.call(f"{BASE}consumer.bench.get_data", *args, **kwargs)


@pytest.mark.parametrize("serializer", ["json", "cbor", "msgpack"])
@pytest_twisted.ensureDeferred
async def test_get_fields_has_the_shape_of_the_contract(guests, bench, serializer):
    consumer = await guests(serializer=serializer)
    answer = await fields(consumer, 1, 0)
    assert isinstance(answer, list)
    described, timelines = answer
    assert described["air"] == {"description": "Air temperature, 2 m", "timeline": "fast", "type": "number", "units": "degC"}
    assert described["count"] == {"description": None, "timeline": "fast", "type": "number", "units": None}
    assert described["open"]["type"] == "bool"
    assert described["note"]["type"] == "string"
    assert timelines["fast"] == {"interval": 1.0, "field": ["air", "count"]}
    assert timelines["slow"] == {"interval": 90.0, "field": ["open", "note"]}
    assert timelines["never"]["interval"] is None


@pytest.mark.parametrize("serializer", ["json", "cbor", "msgpack"])
@pytest_twisted.ensureDeferred
async def test_get_data_has_the_shape_of_the_contract(guests, bench, serializer):
    consumer = await guests(serializer=serializer)
    answer = await data(consumer, ["air", "note", "open", "empty", "nothing"], 1, 0)
    assert set(answer) == {"data", "timeline"}
    assert set(answer["timeline"]) == {"fast", "slow"}
    line = answer["timeline"]["fast"]
    assert line["t"] == [START + n for n in range(ROWS)]
    assert line["finalized_until"] == START + ROWS - 1 - 5.0
    assert len(answer["data"]["air"]) == ROWS
    assert answer["data"]["air"][10] is None, "a JSON client cannot read NaN"
    assert answer["data"]["air"][500] == 99.0
    assert answer["data"]["open"] == [True, False]
    assert answer["data"]["note"] == ["a", "ü"]
    assert answer["timeline"]["slow"]["t"] == [START, START + 180]
    assert answer["data"]["empty"] == []
    assert answer["data"]["nothing"] == []


@pytest_twisted.ensureDeferred
async def test_ranges_are_half_open_and_count_from_now(guests, bench):
    consumer = await guests()
    answer = await data(consumer, ["count"], START + 3, START + 6)
    assert answer["data"]["count"] == [3, 4, 5]
    assert answer["timeline"]["fast"]["finalized_until"] is None, "all of it is final"
    bench.node.append("fast", START + 10_000_000_000, {"count": 7})
    assert (await data(consumer, ["count"], -1, 0))["timeline"] == {}
    assert (await data(consumer, ["count"], -1, None))["data"]["count"] == [7], "null is an open end"
    assert len((await data(consumer, ["count"], 1, 0))["data"]["count"]) == ROWS


@pytest_twisted.ensureDeferred
async def test_min_stride_is_positional_or_a_keyword(guests, bench):
    consumer = await guests()
    one = await data(consumer, ["count"], 1, 0, 100)
    other = await data(consumer, ["count"], 1, 0, min_stride=100.0)
    assert one == other
    assert one["data"]["count"] == list(range(0, ROWS, 100))
    assert await data(consumer, ["count"], 1, 0, None) == await data(consumer, ["count"], 1, 0)
    assert await data(consumer, field=["count"], start=1, end=0, min_stride=100) == one


@pytest_twisted.ensureDeferred
async def test_max_points_keeps_every_extreme(guests, bench):
    consumer = await guests()
    answer = await data(consumer, ["air"], 1, 0, max_points=20)
    assert len(answer["data"]["air"]) <= 20
    shown = dict(zip(answer["timeline"]["fast"]["t"], answer["data"]["air"], strict=True))
    assert shown[START + 500] == 99.0
    assert shown[START + 501] == -99.0
    told = answer["downsampled"]["fast"]
    assert told == {"method": "minmax", "from": ROWS, "to": len(shown)}
    for method in ("lttb", "mean", "last"):
        answer = await data(consumer, ["count"], 1, 0, max_points=20, method=method)
        assert 10 <= len(answer["data"]["count"]) <= 20
        assert answer["downsampled"]["fast"]["method"] == method


@pytest_twisted.ensureDeferred
async def test_too_much_for_one_answer_is_false(guests, bench):
    t = START + 20_000 + np.arange(300_000) / 1000
    bench.node.append("fast", t, {"count": np.arange(300_000), "air": np.zeros(300_000)})
    consumer = await guests(serializer="cbor")
    assert await data(consumer, ["count"], 1, None) is False
    assert len((await data(consumer, ["count"], 1, None, max_points=1000))["data"]["count"]) <= 1000


@pytest_twisted.ensureDeferred
async def test_nothing_asked_is_nothing_answered(guests, bench):
    consumer = await guests()
    empty = {"data": {}, "timeline": {}}
    assert await data(consumer, None, 1, 0) == empty
    assert await data(consumer, [], 1, 0) == empty
    assert await data(consumer, ["air"], START + 6, START + 3) == {"data": {"air": []}, "timeline": {}}
    odd = ["/etc/passwd", "../../x", "air/", "", "%s", "x" * 10_000]
    assert await data(consumer, odd, 1, 0) == {"data": {name: [] for name in odd}, "timeline": {}}
    many = [f"field {n}" for n in range(10_000)]
    assert (await data(consumer, many, 1, 0))["data"] == {name: [] for name in many}


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((["air"],), {}),
        (("air", 1, 0), {}),
        (({"air": 1}, 1, 0), {}),
        (([1], 1, 0), {}),
        ((["air"], "1", "0"), {}),
        ((["air"], None, 0), {}),
        ((["air"], 1, []), {}),
        ((["air"], True, 0), {}),
        ((["air"], 1, 0, "60"), {}),
        ((["air"], 1, 0, -60), {}),
        ((["air"], 1, 0), {"max_points": 0}),
        ((["air"], 1, 0), {"max_points": 1.5}),
        ((["air"], 1, 0), {"max_points": "many"}),
        ((["air"], 1, 0), {"max_points": 10, "method": "magic"}),
        ((["air"], 1, 0), {"colour": "red"}),
        ((["air"], 1, 0, None, None, None, None, None, None, None, None), {}),
        ((["air"], 1, 0), {"step": 0}),
        ((["air"], 1, 0), {"step": 60, "method": "minmax"}),
        ((["air"], 1, 0), {"width": 60}),
        ((["air"], 1, 0), {"encoding": "xml"}),
        ((["air"], 1, 0), {"since": [1]}),
        ((["air"], 1, 0), {"since": {"fast": 3}}),
        ((["air"], 1, 0), {"since": {"fast": {"epoch": "e", "seq": True}}}),
        ((["air"], 1, 0), {"since": {}, "max_points": 5}),
    ],
    ids=str,
)
@pytest_twisted.ensureDeferred
async def test_what_is_no_request_is_a_typed_error(guests, bench, args, kwargs):
    consumer = await guests()
    with pytest.raises(ApplicationError) as told:
        await data(consumer, *args, **kwargs)
    assert told.value.error == "sisock.error.invalid_argument"


@pytest_twisted.ensureDeferred
async def test_nan_and_infinity_are_no_times(guests, bench):
    consumer = await guests(serializer="cbor")
    for value in (math.nan, math.inf, -math.inf):
        for args in ((value, 0), (1, value), (1, 0, value)):
            with pytest.raises(ApplicationError) as told:
                await data(consumer, ["air"], *args)
            assert told.value.error == "sisock.error.invalid_argument"
    # Finite, and beyond all calendars.
    assert (await data(consumer, ["air"], 1e300, None))["timeline"] == {}
    assert len((await data(consumer, ["count"], -1e300, 1e300))["data"]["count"]) == ROWS


@pytest_twisted.ensureDeferred
async def test_seventeen_megabytes_of_arguments_kill_nobody(guests, bench):
    huge = await guests()
    pending = data(huge, ["x" * 17_000_000], 1, 0)
    pending.addErrback(lambda _: None)
    await until(lambda: not huge.is_connected(), 20)
    consumer = await guests()
    assert len((await data(consumer, ["count"], 1, 0))["data"]["count"]) == ROWS


@pytest_twisted.ensureDeferred
async def test_a_missing_node_is_no_such_procedure(guests):
    consumer = await guests()
    with pytest.raises(ApplicationError) as told:
        await consumer.call(f"{BASE}consumer.nobody.get_fields", 1, 0)
    assert told.value.error == "wamp.error.no_such_procedure"


class Elsewhere(DataNode):
    """A node whose data live elsewhere; what it returns is the test's."""

    name = "elsewhere"
    returned: object = None

    def get_fields(self, start, end):
        return {"a": Field(timeline="x").to_wire()}, {"x": {"interval": None, "field": ["a"]}}

    def get_data(self, field, start, end, min_stride=None):
        if isinstance(self.returned, Exception):
            raise self.returned
        return self.returned


class Late(Elsewhere):
    async def get_data(self, field, start, end, min_stride=None):
        return self.returned


@pytest.mark.parametrize("kind", [Elsewhere, Late])
@pytest_twisted.ensureDeferred
async def test_overriding_nodes_are_checked_and_thinned(router, guests, kind):
    node = kind()
    service = await router.serve(node)
    consumer = await guests()

    def ask(**kwargs):
        return consumer.call(f"{BASE}consumer.elsewhere.get_data", ["a"], 1, None, **kwargs)

    try:
        _, timelines = await consumer.call(f"{BASE}consumer.elsewhere.get_fields", 1, 0)
        assert timelines == {"x": {"interval": None, "field": ["a"]}}
        node.returned = {
            "data": {"a": np.arange(5000.0)},
            "timeline": {"x": {"t": np.arange(5000.0) + 1, "finalized_until": None}},
        }
        assert len((await ask())["data"]["a"]) == 5000
        assert len((await ask(max_points=100))["data"]["a"]) == 100
        node.returned = False
        assert await ask() is False
        for nonsense in (
            None,
            7,
            [],
            {"data": {}},
            {"data": {"a": [1]}, "timeline": {}},
            {"data": {"a": [object()]}, "timeline": {"x": {"t": [1.0]}}},
            {"data": {"a": [1, 2]}, "timeline": {"x": {"t": [1.0], "finalized_until": None}}},
            {"data": {"a": [1]}, "timeline": {"x": {"t": ["soon"], "finalized_until": None}}},
        ):
            node.returned = nonsense
            with pytest.raises(ApplicationError) as told:
                await ask()
            assert told.value.error == "sisock.error.node_failed"
    finally:
        await service.stop()


@pytest_twisted.ensureDeferred
async def test_an_error_raised_in_a_node_reaches_the_caller(router, guests):
    node = Elsewhere()
    service = await router.serve(node)
    consumer = await guests()
    try:
        for error, uri in (
            (UnknownField("no such thing"), "sisock.error.unknown_field"),
            (OSError("disk"), "sisock.error.node_failed"),
        ):
            node.returned = error
            with pytest.raises(ApplicationError) as told:
                await consumer.call(f"{BASE}consumer.elsewhere.get_data", ["a"], 1, None)
            assert told.value.error == uri
            assert str(error) in str(told.value.args[0])
    finally:
        await service.stop()


class Ticking(DataNode):
    """A node that is sampled; what its probe does is the test's."""

    name = "ticking"
    interval = 0.05
    fields = {"x": Field()}

    def __init__(self):
        super().__init__()
        self.free = threading.Event()
        self.free.set()
        self.at_once = self.most_at_once = self.calls = 0

    def sample(self):
        self.calls += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.free.wait(10)
            if self.calls == 2:
                raise OSError("the probe is loose")
            return None if self.calls == 3 else {"x": self.calls}
        finally:
            self.at_once -= 1


@pytest_twisted.ensureDeferred
async def test_sampling_goes_on_after_errors_and_never_runs_twice_at_once(router, guests):
    node = Ticking()
    service = await router.serve(node)
    consumer = await guests()

    async def values():
        answer = await consumer.call(f"{BASE}consumer.ticking.get_data", ["x"], 1, None)
        return answer["data"]["x"]

    try:
        assert await until(lambda: node.calls > 6)
        assert (await values())[:3] == [1, 4, 5], "an error and a None are no rows"
        assert node.health.errors == 1
        assert "the probe is loose" in node.health.last_error
        node.free.clear()
        blocked_at = node.calls
        await until(lambda: node.at_once == 1)
        # The site stays well while the probe blocks.
        assert await values()
        assert node.calls <= blocked_at + 1
        several = time.monotonic() + 5 * node.interval
        await until(lambda: time.monotonic() > several)
        node.free.set()
        await until(lambda: node.health.missed > 0)
        assert node.most_at_once == 1
    finally:
        node.free.set()
        await service.stop()


@pytest_twisted.ensureDeferred
async def test_the_wire_is_the_same_over_tls_with_the_pinned_certificate():
    router = Router(tls=True)
    try:
        await router.start()
        assert router.ws.startswith("wss://")
        service = await router.serve(Bench())
        pem = router.home.certificate.read_bytes()
        consumer = await join(router.ws, (router.consumer.authid, router.consumer.secret), pin=pem)
        answer = await data(consumer, ["count"], 1, 0, 100)
        assert answer["data"]["count"] == list(range(0, ROWS, 100))
        listed = await consumer.call(f"{BASE}consumer.get_data_node")
        assert listed == [{"name": "bench", "description": "A node of known data."}]
        await consumer.quit()
        await service.stop()
    finally:
        await router.stop()
        router.remove()
