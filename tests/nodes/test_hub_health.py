"""The node `hub`: what the router counts, who came and went, and what the site's processes need."""

import os
import subprocess
import sys

import pytest
import pytest_twisted
from autobahn.wamp import message
from autobahn.wamp.exception import ApplicationError
from twisted.internet.threads import deferToThread

from sisock import DataNode, Field, Timeline, uris
from sisock.asking import Question
from sisock.consumer import Consumer
from sisock.nodes.hub import HubHealth
from sisock.nodes.hub.source import Processes, Traffic
from sisock.router.figures import MAX_EVENTS, MAX_PENDING, Figures
from sisock.testing import NodeContract
from tests.plain import until


class Quick(HubHealth):
    """So often that nobody waits for it."""

    interval = 0.2


class TestContract(NodeContract):
    node = Quick


class Roof(DataNode):
    """Air on the roof."""

    name = "roof_of_hub"
    fields = {"air": Field()}
    timelines = {"t": Timeline(lateness=5.0)}


async def happened(consumer, node):
    """What the hub's node tells of another."""
    names = ["event.node", "event", "event.start", "event.end"]
    answers = await consumer.read("hub", Question(names, 1))
    rows = []
    for answer in answers.values():
        columns = [answer.block.columns[name].to_list() if name in answer.block.columns else [None] * 10_000 for name in names]
        rows += [row[1:] for row in zip(*columns, strict=False) if row[0] == node]
    return rows


@pytest_twisted.ensureDeferred
async def test_nodes_that_come_go_and_correct_are_told(router):
    roof = Roof()
    service = await router.serve(roof)
    consumer = await Consumer(router.access()).start()
    health = HubHealth()
    hub = await router.serve(health)
    try:
        for t in (1000.0, 1001.0, 1002.0, 1010.0):
            roof.append("t", t, {"air": t}).result()
        # Late, but not final yet: nobody was told otherwise.
        roof.append("t", 1006.0, {"air": 1.0}).result()
        roof.append("t", [1000.0, 1002.0], {"air": [5.0, 6.0]}, correct=True).result()

        async def told():
            await deferToThread(health.take_sample)
            found = await happened(consumer, "roof_of_hub")
            return found if len(found) == 2 else None

        came, corrected = await until(told)
        assert came == ("came", None, None)
        assert corrected == ("corrected", 1000.0, 1002.000001)
        await service.stop()

        async def gone():
            await deferToThread(health.take_sample)
            return (await happened(consumer, "roof_of_hub"))[-1][0] == "went"

        await until(gone)
        before = await happened(consumer, "roof_of_hub")
        # A node that began anew is told all of it again, and keeps nothing twice.
        health._seen, health._life = 0, None
        await deferToThread(health.take_sample)
        assert await happened(consumer, "roof_of_hub") == before

        await deferToThread(health.take_sample)
        row = await consumer.read("hub", Question(["nodes", "sessions", "calls", "latency"], 1))
        values = {name: column.to_list()[-1] for name, column in row["t"].block.columns.items()}
        assert values["nodes"] >= 1
        assert values["sessions"] >= 2
        assert values["calls"] > 0
        assert 0 < values["latency"] < 30
    finally:
        await consumer.stop()
        await hub.stop()


@pytest_twisted.ensureDeferred
async def test_figures_are_for_the_hubs_own_node(router, guests):
    other = await guests.node("another")
    consumer = await guests()
    for session in (other, consumer):
        with pytest.raises(ApplicationError) as refused:
            await session.call(uris.FIGURES)
        assert "not_authorized" in refused.value.error
    await other.call(uris.CORRECTED, "another", [[1.0, 2.0]])
    for name, ranges in (("roof", [[1.0, 2.0]]), ("another", 5), ("another", [[2.0, 1.0]]), ("another", [["a", 1]] * 3)):
        with pytest.raises(ApplicationError):
            await other.call(uris.CORRECTED, name, ranges)
    with pytest.raises(ApplicationError):
        await other.call(uris.CORRECTED, "another", [[1.0, 2.0]] * 101)


def test_the_name_is_no_other_nodes(tmp_path):
    (tmp_path / "mine.py").write_text("from sisock import DataNode\nclass Mine(DataNode):\n    '''Mine.'''\n    name = 'hub'\n")
    environment = {**os.environ, "SISOCK_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "sisock", "run", "mine:Mine"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the name hub belongs to the site's own health" in done.stderr


def test_figures_have_bounds():
    now = [0.0]
    figures = Figures(lambda: 7.0, lambda: now[0])
    for request in range(1, MAX_PENDING + 11):
        figures.received(1, message.Call(request, "a.b"))
    assert len(figures._pending) == MAX_PENDING
    now[0] = 0.5
    figures.sent(1, message.Result(MAX_PENDING + 5, progress=True))
    figures.sent(1, message.Result(MAX_PENDING + 5))
    figures.sent(1, message.Error(message.Call.MESSAGE_TYPE, MAX_PENDING + 6, "a.b"))
    # Its answer came after so many other calls that nobody counts it.
    figures.sent(1, message.Result(1))
    figures.sent(2, message.Event(1, 1))
    figures.received(1, message.Publish(1, "a.b"))
    for _ in range(MAX_EVENTS + 5):
        figures.note("roof", "came")
    told = figures.to_wire(after=MAX_EVENTS + 3)
    assert told.pop("life")
    assert told == {
        "calls": MAX_PENDING + 10,
        "answers": 2,
        "errors": 1,
        "publications": 1,
        "events": 1,
        "seconds": 1.0,
        "slowest": 0.5,
        "happened": [[n, 7.0, "roof", "came", None, None] for n in (MAX_EVENTS + 4, MAX_EVENTS + 5)],
    }
    assert len(figures.to_wire()["happened"]) == MAX_EVENTS
    assert figures.to_wire()["slowest"] == 0.0


FIGURES = {"life": "a", "nodes": 2, "sessions": 3, "calls": 10, "answers": 10, "errors": 0, "publications": 5, "events": 50}


def test_rates_begin_anew_with_another_router():
    now = [0.0]
    traffic = Traffic(lambda: now[0])
    first = traffic.row({**FIGURES, "seconds": 1.0, "slowest": 0.4})
    assert first == dict.fromkeys(first) | {"nodes": 2.0, "sessions": 3.0}
    now[0] = 5.0
    row = traffic.row({**FIGURES, "calls": 20, "answers": 15, "events": 100, "seconds": 2.0, "slowest": 0.5})
    assert (row["calls"], row["events"], row["errors"], row["latency"], row["latency_max"]) == (2.0, 10.0, 0.0, 0.2, 0.5)
    now[0] = 10.0
    assert traffic.row({**FIGURES, "life": "b", "calls": 1, "seconds": 0.0, "slowest": 0.0})["calls"] is None
    traffic.forget()
    assert traffic.row({**FIGURES, "life": "b", "seconds": 0.0, "slowest": 0.0})["calls"] is None


def test_processes_that_end_are_left_out():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    now = [0.0]
    processes = Processes(lambda: {"self": os.getpid(), "my:Part": child.pid, "nobody": 2**22 + 5}, lambda: now[0])
    try:
        row = processes.read()
        assert set(row) == {"memory.self", "cpu.self", "memory.my_Part", "cpu.my_Part"}
        # This process has started the other, so its memory is among it.
        assert row["memory.self"] > row["memory.my_Part"] > 1e6
        assert row["cpu.self"] is None
        now[0] = 1.0
        assert processes.read()["cpu.my_Part"] >= 0.0
    finally:
        child.communicate(b"\n")
    assert set(processes.read()) == {"memory.self", "cpu.self"}
