"""The blocking client through a real router, in a thread beside the reactor, which it finds running."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import numpy as np
import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

import sisock
from sisock import DataNode, Field
from sisock.errors import (
    InvalidArgument,
    NotAuthorized,
    NotConnected,
    TimedOut,
    TooMuch,
    UnknownField,
    UnknownNode,
    WouldBlock,
    WrongCertificate,
)
from tests.client.conftest import Counter, T, token
from tests.plain import until


@pytest_twisted.ensureDeferred
async def test_the_nodes_and_what_they_offer(node, blocking):
    def look(hub):
        assert [(one.name, one.description) for one in hub.nodes()] == [("counter", "Counts.")]
        assert (list(hub), len(hub), "counter" in hub, "x" in hub) == (["counter"], 1, True, False)
        assert hub._ipython_key_completions_() == ["counter"]
        assert repr(hub["counter"]) == "<node 'counter': Counts.>"
        fields = hub["counter"].fields()
        assert list(fields) == ["n", "note", "slow"]
        assert (fields["n"].units, fields["n"].description, fields["note"].type) == ("1", "A number that grows", "string")
        assert fields.timelines["t"].interval == 0.01
        with pytest.raises(KeyError, match="no field 'x'"):
            fields["x"]
        assert repr(hub).endswith(", connected>")
        return hub

    hub = await blocking(look)
    assert not hub.connected
    with pytest.raises(NotConnected, match="this hub was closed"):
        await deferToThread(hub.nodes)


@pytest_twisted.ensureDeferred
async def test_rows_of_a_range_and_of_all_time(node, blocking):
    node.count(0, 300_000).result()
    node.append("hour", T + 5, {"slow": 273.0}).result()
    node.append("t", T + 0.05, {"note": "five"}, correct=True).result()

    def read(hub):
        counter = hub["counter"]
        part = counter.get("n", start=T + 1, end=datetime.fromtimestamp(T + 2, UTC))
        assert part["n"].tolist() == list(range(100, 200))
        assert part.position.seq == 2
        assert part.finalized_until is None, "all that was asked for is final"
        some = counter.get(["n"], start="2023-11-14", max_points=100)
        assert len(some) <= 100
        assert (some["n"][0], some["n"][-1]) == (0, 299_999)
        apart = counter.get(["n"], start=T, end=T + 10, min_stride="1s")
        assert apart["n"].tolist() == list(range(0, 1000, 100))
        whole = counter.get(start=1, progress=False)
        assert whole.timelines["t"]["n"].tolist() == list(range(300_000))
        assert whole.timelines["t"].finalized_until == pytest.approx(T + 2999.99 - 1)
        frame = whole.to_pandas()
        assert frame["note"].dropna().tolist() == ["five"]
        assert frame["slow"].dropna().tolist() == [273.0]
        assert frame.attrs["units"] == {"n": "1", "note": None, "slow": "K"}
        assert len(counter.get(["n"], start=1, end=2)) == 0

    await blocking(read)


@pytest_twisted.ensureDeferred
async def test_what_is_wrong_is_said_at_once(node, blocking):
    def ask(hub):
        with pytest.raises(UnknownNode, match=r"no node 'countr'. There is counter\."):
            hub["countr"]
        counter = hub["counter"]
        for call in (counter.get, counter.follow):
            with pytest.raises(UnknownField, match=r"no field 'm'. There are n, note, slow\."):
                call(["m"])
            for fields in ([], [3], 5, [None], {"n": 1}.values()):
                with pytest.raises(InvalidArgument, match="fields"):
                    call(fields)
            for start in (None, "soon", float("nan"), [], True):
                with pytest.raises(InvalidArgument, match="start"):
                    call("n", start)
            with pytest.raises(InvalidArgument, match="timeout"):
                call("n", timeout=0)
        with pytest.raises(InvalidArgument, match="later than end"):
            counter.get("n", start="now", end="-5m")
        for points in (0, -1, 1.5, "many", True):
            with pytest.raises(InvalidArgument, match="max_points"):
                counter.get("n", max_points=points)
        with pytest.raises(InvalidArgument, match="method is one of"):
            counter.get("n", max_points=3, method="best")
        with pytest.raises(InvalidArgument, match="give max_points"):
            counter.get("n", method="mean")
        with pytest.raises(InvalidArgument, match="min_stride"):
            counter.get("n", min_stride=-1)
        with pytest.raises(InvalidArgument):
            hub[3]

    await blocking(ask)


@pytest_twisted.ensureDeferred
async def test_more_than_one_answer_holds_is_too_much_only_where_pages_do_not_help(node, blocking):
    node.count(0, 1_200_000).result()

    def ask(hub):
        with pytest.raises(TooMuch):
            hub["counter"].get("n", start=1, min_stride=0.005)
        assert len(hub["counter"].get("n", start=1)) == 1_200_000

    await blocking(ask)


class Silent(DataNode):
    """Does not answer."""

    name = "silent"
    fields = {"x": Field()}

    def __init__(self):
        super().__init__()
        self.answer = threading.Event()

    def get_data(self, field, start, end, min_stride=None):
        self.answer.wait(30)
        return {"data": {}, "timeline": {}}


@pytest_twisted.ensureDeferred
async def test_every_call_ends_in_time(router, blocking):
    silent = Silent()
    service = await router.serve(silent)

    def ask(hub):
        with pytest.raises(TimedOut):
            hub["silent"].get("x")
        with pytest.raises(TimedOut, match=r"longer than 0\.1 s"):
            hub["silent"].get("x", timeout=0.1)
        return hub["silent"]._repr_html_()

    try:
        assert "did not answer within 1.5 s" in await blocking(ask, timeout=1.5)
    finally:
        silent.answer.set()
        await service.stop()


@pytest_twisted.ensureDeferred
async def test_a_wrong_token_is_an_error_at_once(router):
    def join():
        with pytest.raises(NotAuthorized, match="refused user 'simonsobs'"):
            sisock.connect(router.ws, "simonsobs:wrong", patience=1e6)

    await deferToThread(join)


@pytest_twisted.ensureDeferred
async def test_where_nobody_answers_it_says_so():
    from sisock.site.ports import free

    def join():
        with pytest.raises(NotConnected, match=r"no router answers at ws://localhost:\d+/ws within 0\.1 s"):
            sisock.connect(f"ws://localhost:{free('localhost')}/ws", "a:b", patience=0.1)

    await deferToThread(join)


def test_in_the_reactors_own_thread_nothing_may_wait(router):
    with pytest.raises(WouldBlock, match=r"sisock\.consumer\.Consumer"):
        sisock.connect(router.ws, token(router.consumer))


@pytest_twisted.ensureDeferred
async def test_a_certificate_is_pinned(fragile):
    def join():
        with sisock.connect(fragile.ws, token(fragile.consumer), certificate=fragile.home.certificate) as hub:
            assert hub.address.startswith("wss://")
            assert hub.nodes() == []
        with pytest.raises(WrongCertificate):
            sisock.connect(fragile.ws, token(fragile.consumer), patience=1e6)

    await deferToThread(join)


@pytest_twisted.ensureDeferred
async def test_a_lost_connection_is_made_again_and_calls_wait_for_it(fragile):
    node = Counter()
    service = await fragile.serve(node)
    asked, killed = threading.Event(), threading.Event()

    def ask():
        with sisock.connect(fragile.ws, token(fragile.consumer), certificate=fragile.home.certificate) as hub:
            counter = hub["counter"]
            asked.set()
            killed.wait(60)
            return counter.get("n", start=1)["n"].tolist(), hub["counter"].description

    try:
        node.count(0, 10).result()
        answer = deferToThread(ask)
        await until(asked.is_set)
        await fragile.kill()
        await until(lambda: not service.announced)
        killed.set()
        await fragile.start()
        assert await answer == (list(range(10)), "Counts.")
    finally:
        killed.set()
        await service.stop()


@pytest_twisted.ensureDeferred
async def test_a_long_read_goes_on_behind_what_came_when_the_connection_is_lost(node, blocking, monkeypatch):
    node.count(0, 400_000).result()
    taken = []

    def read(hub):
        client = hub._client
        ask = client._ask

        async def cut(procedure, *args, **kwargs):
            if kwargs.get("on_progress") and len(taken) == 3:
                # As a peer that dies in the middle of a page.
                progress = kwargs["on_progress"]

                def lost(message):
                    progress(message)
                    client._connection.session._transport.abort()

                kwargs["on_progress"] = lost
            taken.append(args)
            return await ask(procedure, *args, **kwargs)

        client._ask = cut
        return hub["counter"].get("n", start=1)

    data = await blocking(read)
    assert len(taken) > 5
    assert data["n"].tolist() == list(range(400_000))
    starts = [args[1] for args in taken if args]
    assert starts.count(1.0) < len(starts) / 2, "it went on, and did not begin anew"


@pytest_twisted.ensureDeferred
async def test_a_history_that_is_made_anew_while_it_is_read_is_read_anew(node, blocking):
    node.count(0, 300_000).result()

    def read(hub):
        client = hub._client
        ask = client._ask
        seen = []

        async def changed(procedure, *args, **kwargs):
            result = await ask(procedure, *args, **kwargs)
            if kwargs.get("on_progress"):
                seen.append(args)
                if len(seen) == 3:
                    result["position"] = {"t": {"epoch": "another", "seq": 1}}
            return result

        client._ask = changed
        assert hub["counter"].get("n", start=1)["n"].tolist() == list(range(300_000))
        starts = [args[1] for args in seen]
        # Twice from the beginning on, the second time to the end.
        assert starts.count(1.0) == 2
        assert starts[3] == 1.0

    await blocking(read)


@pytest_twisted.ensureDeferred
async def test_a_bar_is_shown_if_it_is_asked_for(node, blocking, capsys):
    node.count(0, 1000).result()
    await blocking(lambda hub: hub["counter"].get("n", start=1, progress=True))
    assert "1000/1000" in capsys.readouterr().err
    await blocking(lambda hub: hub["counter"].get("n", start=1))
    assert capsys.readouterr().err == "", "it is no terminal"


@pytest_twisted.ensureDeferred
async def test_a_notebook_shows_hub_node_and_fields(node, blocking):
    node.count(0, 1000).result()
    node.append("t", T + 10, {"note": "<b>last</b>"}).result()

    def look(hub):
        return hub._repr_html_(), hub["counter"]._repr_html_(), hub["counter"].fields()._repr_html_()

    whole, one, fields = await blocking(look)
    assert "Counts." in whole
    assert " y ago" in whole
    for html in (one, fields):
        assert "999 1" in html
        assert "<polyline" in html
        assert "&lt;b&gt;last&lt;/b&gt;" in html


@pytest_twisted.ensureDeferred
async def test_a_node_that_is_of_the_old_kind_is_read(guests, blocking):
    from sisock import uris

    session = await guests.node("ancient", register=False)

    def get_fields(start, end):
        field = {"description": None, "timeline": "t", "type": "number", "units": "K"}
        return [{"x": field}, {"t": {"interval": None, "field": ["x"]}}]

    def get_data(field, start, end, min_stride=None):
        rows = [t for t in (T, T + 1, T + 2) if start <= t and (end <= 0 or t < end)]
        timeline = {"t": {"t": rows, "finalized_until": None}} if rows else {}
        return {"data": {"x": [t - T for t in rows]}, "timeline": timeline}

    await session.register(get_fields, uris.get_fields("ancient"))
    await session.register(get_data, uris.get_data("ancient"))
    await session.call(uris.ADD, "ancient", "Old.", 0)

    def read(hub):
        assert "2 K" in hub["ancient"]._repr_html_()
        return hub["ancient"].get("x", start=1)

    data = await blocking(read)
    assert data["x"].tolist() == [0.0, 1.0, 2.0]
    assert data.position is None
    np.testing.assert_array_equal(data.t, [T, T + 1, T + 2])
