"""A node on the store answers as one in memory does, keeps what it had, and leaves when another process writes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sisock import DataNode, Field, Timeline
from sisock.blocks import Block, news
from sisock.errors import LostLease
from sisock.store import Store

START = 1_500_000_000.0


class Roof(DataNode):
    """A node of two fields."""

    name = "roof"
    interval = 1.0
    fields = {"air": Field(), "wind": Field(), "note": Field(type="string", timeline="notes")}
    timelines = {"t": Timeline(interval=1.0, lateness=10.0)}
    clock: float | None = None

    def sample(self):
        return {"air": 1.0}


def filled(history=None, rows=30_000):
    node = Roof()
    if history is not None:
        node.history = history
    t = START + np.arange(rows)
    values = np.random.default_rng(7).normal(size=(2, rows)).cumsum(axis=1)
    values[0, 5] = np.nan
    for low in range(0, rows, 5000):
        part = slice(low, low + 5000)
        node.append("t", t[part], {"air": values[0, part], "wind": values[1, part]}).result(30)
    node.append("t", START + 100.5, {"air": 99.0}, correct=True).result(30)
    node.append("notes", [START, START + 50], {"note": ["a", None]}).result(30)
    return node


@pytest.mark.parametrize(
    "request_",
    [
        {"start": 1.0, "end": None, "max_points": 100},
        {"start": START + 7, "end": START + 9999.5, "max_points": 7},
        {"start": 1.0, "end": None, "max_points": 100, "method": "mean"},
        {"start": 1.0, "end": None, "max_points": 100, "method": "last"},
        {"start": START + 90, "end": START + 110},
        {"start": 1.0, "end": None, "min_stride": 600.0},
        {"start": 1.0, "end": None, "min_stride": 60.0, "max_points": 50},
        {"start": START + 1e6, "end": None},
        {"start": 1.0, "end": START},
    ],
    ids=str,
)
def test_both_histories_give_the_same_answer(history, request_):
    stored, memory = filled(history), filled()
    for fields in (["air"], ["note"], ["air", "wind", "note", "nothing"]):
        ours, theirs = stored.get_data(fields, **request_), memory.get_data(fields, **request_)
        if request_.get("method", "minmax") == "minmax" and request_.get("max_points") and ours["timeline"].get("t"):
            # An overview's pixels may be cut elsewhere; the extremes of the whole are the same, at their times.
            for field in set(fields) & {"air", "wind"}:
                assert _extremes(ours, field) == _extremes(theirs, field)
            assert ours["timeline"]["t"]["finalized_until"] == theirs["timeline"]["t"]["finalized_until"]
        else:
            positions = [answer.pop("position", {}) for answer in (ours, theirs)]
            assert ours == theirs
            assert [set(position) for position in positions] == [set(positions[0])] * 2


def _extremes(answer, field):
    there = [(v, t) for v, t in zip(answer["data"][field], answer["timeline"]["t"]["t"], strict=True) if v is not None]
    return min(there), max(there)


def test_too_much_is_false_before_it_is_read(history):
    node = filled(history, 260_000)
    assert node.get_data(["air"], 1.0, None) is False
    assert len(node.get_data(["air"], 1.0, None, max_points=1000)["data"]["air"]) <= 1000
    told = node.get_data(["air"], 1.0, None, max_points=1000)["downsampled"]["t"]
    assert abs(told["from"] - 260_001) <= 1


def test_a_node_keeps_what_it_had_across_restarts_and_finalized_until_stays_true(address):
    with Store.open(address) as store:
        before = filled(store.node("roof")).get_data(["air"], START, START + 200)
    with Store.open(address) as store:
        node = Roof()
        node.history = store.node("roof")
        assert node.get_data(["air"], START, START + 200) == before
        final = node.get_data(["air"], START + 29_000, None)["timeline"]["t"]["finalized_until"]
        assert final == START + 29_999 - 10.0


def test_reading_a_file_again_writes_nothing(history):
    node = filled(history)
    position = history.position("t")
    t = START + np.arange(100)
    same = node.get_data(["wind"], START, START + 100)["data"]["wind"]
    # Not in the reactor's thread, in which nothing is read.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(node.append, "t", t, {"wind": same[:100]}, correct=True).result(30).result(30)
    assert history.position("t") == position
    node.append("t", START, {"wind": 12.5}, correct=True).result(30)
    assert history.position("t").seq == position.seq + 1


def test_news_are_the_rows_that_differ():
    old = Block.of([1, 2, 3], {"a": [1.0, np.nan, None]})
    assert len(news(old, old)) == 0
    assert news(old, Block.of([1, 2, 3, 4], {"a": [1.0, 5.0, None, None]})).t.tolist() == [2_000_000, 4_000_000]
    assert len(news(old, Block.of([1], {"b": [1.0]}))) == 1
    nothing = Block.of([1, 2], {"a": [None, None]})
    assert news(nothing, Block.of([1, 2, 3], {"a": [None, 5, 7]})).t.tolist() == [2_000_000, 3_000_000]


def test_a_writer_that_was_taken_over_is_told_and_counts_it(address):
    with Store.open(address) as store:
        first, told = Roof(), []
        first.history, first.on_lost = store.node("roof"), told.append
        first.append("t", START, {"air": 1.0}).result(30)
        store.node("roof")
        with pytest.raises(LostLease):
            first.append("t", START + 1, {"air": 1.0}).result(30)
        assert isinstance(told[0], LostLease)
        assert first.health.refused == 1
        assert "LostLease" in first.health.last_refused


def test_a_clock_that_jumped_back_loses_no_sample(history):
    node = Roof()
    node.history = history
    node.append("t", 4e9, {"air": 1.0}).result(30)
    node.take_sample()
    assert node.health.errors == 0
    assert len(node.get_data(["air"], 1.0, None)["data"]["air"]) == 2
