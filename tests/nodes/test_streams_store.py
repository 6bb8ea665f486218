"""What the streams, and feeds, keep: for how long, all of a list or nothing of it, and over a start without the database."""

import threading

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from sisock.blocks import Block
from sisock.errors import SetupError
from sisock.history import MemoryHistory
from sisock.nodes.ocs_feed import OcsFeed
from sisock.nodes.streams import Streams
from sisock.nodes.streams import node as module
from sisock.nodes.streams.ids import Ids
from sisock.nodes.streams.settings import Settings
from sisock.store import Store
from sisock.store.lasting import LastingHistory, open_history
from sisock.store.leases import Writer
from sisock.times import EARLIEST, LATEST, now
from tests.nodes.streams import any_port, connect, fetch, form  # noqa: F401
from tests.plain import until


async def post(node, body):
    return await deferToThread(fetch, node.faces.address, "/prod", body)


def rows(history, timeline):
    return deferToThread(lambda: history.read(timeline, history.fields(timeline), EARLIEST, LATEST)[0])


async def gone(made, timeline, first):
    """The rows, once all have come and the first of them has gone again."""
    there = await rows(made.history, timeline)
    all_there = not made.intake.waiting if isinstance(made, Streams) else there.t[-1] == 29_999_000_000
    return there if all_there and there.t[0] > first else None


@pytest_twisted.ensureDeferred
async def test_messages_and_samples_are_kept_for_as_long_as_was_said_on_each_engine(router, address, tmp_path, monkeypatch):
    monkeypatch.setenv("SISOCK_STREAMS_KEEP", "1ms")
    monkeypatch.setenv("SISOCK_OCS_KEEP", "100s")
    monkeypatch.setenv("SISOCK_OCS_FEED_URL", "ws://localhost:1/ws")
    monkeypatch.setenv("SISOCK_OCS_FEED_PORT", "0")
    streams, feeds, topic = Streams(), OcsFeed(), "observatory.dome.feeds.air"
    for made, name in ((streams, "dome/jobs"), (feeds, "observatory.dome.air.b")):
        made.history, close = await deferToThread(open_history, address, made.name, Writer("me", 1), tmp_path / made.name)
        service = await router.serve(made)
        try:
            # Whole chunks go, of eight to sixteen thousand rows.
            for n in range(30):
                if made is streams:
                    assert (await post(made, b"[" + b",".join(form("dome", "jobs", m) for m in range(1000)) + b"]"))[0] == 201
                else:
                    times = [1000.0 * n + m for m in range(1000)]
                    block = {"block_name": "b", "data": {"x": times}, "timestamps": times}
                    made.take(topic, ([{"b": block}, {"agent_address": "observatory.dome"}],))
                if not n:
                    first = (await until(lambda name=name, made=made: rows(made.history, name), 20)).t[0]
            there = await until(lambda name=name, made=made, first=first: gone(made, name, first), 20)
            assert made is streams or len(there) >= 100, "what is younger stays"
        finally:
            await service.stop()
            await deferToThread(close)


@pytest_twisted.ensureDeferred
async def test_how_long_is_said_also_of_what_reports_no_more(router, tmp_path, monkeypatch):
    monkeypatch.setenv("SISOCK_OCS_FEED_URL", "ws://localhost:1/ws")
    monkeypatch.setenv("SISOCK_OCS_FEED_PORT", "0")
    with Store.open(tmp_path / "h.db") as store:
        for kind, name in ((Streams, "SISOCK_STREAMS_KEEP"), (OcsFeed, "SISOCK_OCS_KEEP")):
            history = store.node(kind.name)
            await deferToThread(lambda history=history: history.append("a/b", Block.of(1.0, {"a/b": 1.0})).result(10))
            monkeypatch.setenv(name, "30d")
            made = kind()
            made.history = history
            service = await router.serve(made)
            await service.stop()
            kept = await deferToThread(lambda history=history: history.select("SELECT keep FROM timelines"))
            assert {keep for (keep,) in kept} == {30 * 86_400_000_000}


def test_the_newest_ids_of_all_timelines_are_known(monkeypatch):
    monkeypatch.setattr("sisock.nodes.streams.ids.MAX_IDS", 3)
    history, begin = MemoryHistory(), now() - 100.0
    for n in range(20):
        line = f"dome/{n % 7}"
        history.append(line, Block.of(begin + n, {f"{line}/id": str(n)})).result(10)
    assert Ids().read(history, history.timelines()) == [("dome/3", "17"), ("dome/4", "18"), ("dome/5", "19")]


def test_how_long_is_a_length_of_time():
    assert Settings.read({"SISOCK_STREAMS_KEEP": "30d"}).keep == 30 * 86400.0
    for wrong in ("long", "0s", "-1d"):
        with pytest.raises(SetupError, match="SISOCK_STREAMS_KEEP"):
            Settings.read({"SISOCK_STREAMS_KEEP": wrong})


class Gated(MemoryHistory):
    """A history that keeps nothing until it may."""

    def __init__(self):
        super().__init__()
        self.may = threading.Event()

    def append(self, timeline, block, **how):
        assert self.may.wait(60)
        return super().append(timeline, block, **how)


@pytest_twisted.ensureDeferred
async def test_a_list_is_taken_as_a_whole_or_not_at_all(router, monkeypatch):
    monkeypatch.setattr("sisock.intake.MAX_WAITING", 5)
    node = Streams()
    node.history = Gated()
    service = await router.serve(node)
    try:
        first = deferToThread(fetch, node.faces.address, "/prod", form("dome", "jobs", 0))
        await until(lambda: node.known == 1 and not node.intake.waiting)
        whole = b"[" + b",".join(form("dome", "jobs", n) for n in range(1, 9)) + b"]"
        second = deferToThread(fetch, node.faces.address, "/prod", whole)
        await until(lambda: node.intake.waiting == 8)
        code, error = await post(node, whole)
        assert (code, error["error"]["code"]) == (503, "sisock.error.busy")
        node.history.may.set()
        assert (await first, await second) == ((201, {"stored": 1}), (201, {"stored": 8}))
        assert (await post(node, b"[]")) == (201, {"stored": 0})
        monkeypatch.setattr(module, "MAX_TIMELINES", 3)
        many = b"[" + b",".join(form("dome", f"topic {n}", n) for n in range(3)) + b"]"
        assert (await post(node, many))[0] == 413
        assert (await post(node, form("dome", "topic 0", 0)))[0] == 201
        there = await rows(node.history, "dome/jobs")
        assert there.columns["dome/jobs"].to_list() == [str(n) for n in range(9)]
        assert sorted(node.history.timelines()) == ["dome/jobs", "dome/topic 0"]
    finally:
        await service.stop()


@pytest_twisted.ensureDeferred
async def test_a_start_without_the_database_keeps_ids_apart_and_says_what_it_cannot_tell(server, router, tmp_path, monkeypatch):
    monkeypatch.setattr("sisock.learning.AGAIN", 0.1)

    monkeypatch.setenv("SISOCK_OCS_FEED_URL", "ws://localhost:1/ws")
    monkeypatch.setenv("SISOCK_OCS_FEED_PORT", "0")

    async def begin(made, start):
        made.history = await deferToThread(
            lambda: LastingHistory(server.address, made.name, Writer("me", start), tmp_path / made.name, retry=0.1)
        )
        return made, await router.serve(made)

    node, service = await begin(Streams(), 1)
    feeds, others = await begin(OcsFeed(), 1)
    assert (await post(node, form("dome", "jobs", 1, id="a")))[0] == 201
    block = {"block_name": "b", "data": {"x": [1.0]}, "timestamps": [1.0]}
    feeds.take("observatory.dome.feeds.air", ([{"b": block}, {"agent_address": "observatory.dome"}],))
    for one, of_one in ((node, service), (feeds, others)):
        await of_one.stop()
        await deferToThread(one.history.close)
    await deferToThread(server.kill)
    node, service = await begin(Streams(), 2)
    feeds, others = await begin(OcsFeed(), 2)
    try:
        assert not feeds.fields
        assert (await deferToThread(fetch, node.faces.address, "/healthz"))[0] == 503
        now = await connect(node.faces.address, "/prod?site=dome")
        # What has an id is to be kept once, and nobody can say whether it was; what has none is kept beside the node.
        code, error = await post(node, form("dome", "jobs", 1, id="a"))
        assert (code, error["error"]["code"]) == (503, "sisock.error.busy")
        assert (await post(node, form("dome", "jobs", 2)))[0] == 201
        await until(lambda: now.said == [2])
        since = await connect(node.faces.address, "/prod?site=dome&since=-1h")
        assert await since.factory.gone == 4503
        await deferToThread(server.start)
        await until(lambda: deferToThread(lambda: fetch(node.faces.address, "/healthz")[0] == 200), 30)
        await until(lambda: feeds.fields.keys() == {"dome.air.x"}, 30)
        for again in ("a", "b", "b"):
            assert (await post(node, form("dome", "jobs", 3, id=again)))[0] == 201
        everything = await connect(node.faces.address, "/prod?site=dome&since=-1h")
        await until(lambda: everything.said == [1, 2, 3])
        assert now.said == [2, 3]
        assert node.repeats == 2
        for one in (now, everything):
            await one.leave()
    finally:
        for one, of_one in ((node, service), (feeds, others)):
            await of_one.stop()
            await deferToThread(one.history.close)
