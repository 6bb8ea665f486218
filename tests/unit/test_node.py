"""The base class of nodes, without a router."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sisock import DataNode, Field, Timeline
from sisock.blocks import Block
from sisock.errors import InvalidArgument, LateRow
from sisock.times import LATEST, now


class Roof(DataNode):
    """Air on the roof.

    More for those who read the code.
    """

    name = "roof"
    interval = 1.0
    fields = {
        "air": Field(units="degC"),
        "label": Field(type="string"),
        "open": Field(type="bool"),
        "wind": Field(timeline="fast"),
    }
    timelines = {"fast": Timeline(0.1, lateness=5.0)}

    def __init__(self, *rows):
        super().__init__()
        self.rows = list(rows)

    def sample(self):
        row = self.rows.pop(0)
        if isinstance(row, Exception):
            raise row
        return row


def everything(node, *fields):
    answer = node.get_data(list(fields or node.fields), 1.0, None)
    if answer:
        answer.pop("position", None)
    return answer


def test_what_was_appended_is_read():
    node = Roof()
    position = node.append("t", [1, 2, 3], {"air": [1.5, None, 2.5], "label": ["x", "y", None]}).result()
    assert (position.epoch, position.seq) == (node.history.epoch, 1)
    assert node.append("fast", 2.5, {"wind": 7}).result().seq == 1
    assert everything(node) == {
        "data": {"air": [1.5, None, 2.5], "label": ["x", "y", None], "open": [], "wind": [7]},
        "timeline": {
            "t": {"t": [1.0, 2.0, 3.0], "finalized_until": 3.0},
            "fast": {"t": [2.5], "finalized_until": -2.5},
        },
    }
    assert node.get_data(["air", "none"], 2.0, 3.0)["data"] == {"air": [], "none": []}
    assert node.get_data(["label"], 1.0, 3.0) == {
        "data": {"label": ["x", "y"]},
        "timeline": {"t": {"t": [1.0, 2.0], "finalized_until": None}},
    }


def test_what_it_tells_of_its_fields():
    node = Roof()
    node.append("fast", [1, 2, 4, 6], {"wind": [1, 2, 3, 4]})
    fields, timelines = node.get_fields(1, None).to_wire()
    assert set(fields) == {"air", "label", "open", "wind"}
    assert timelines == {
        "t": {"interval": 1.0, "field": ["air", "label", "open"]},
        "fast": {"interval": 0.1, "field": ["wind"]},
    }
    assert node.description.startswith("Air on the roof.")


def test_an_interval_that_nobody_declared_is_measured():
    class Odd(DataNode):
        name = "odd"
        fields = {"a": Field(timeline="u")}

    node = Odd()
    assert node.get_fields(1, None).to_wire()[1]["u"]["interval"] is None
    node.append("u", [1, 2, 4, 6], {"a": [1, 2, 3, 4]})
    assert node.get_fields(1, None).to_wire()[1]["u"]["interval"] == 2.0


@pytest.mark.parametrize(
    ("timeline", "t", "values", "says"),
    [
        ("t", 1, {"none": 1}, "not declared"),
        ("t", 1, {"wind": 1}, "on the timeline 'fast'"),
        ("t", 1, {"air": "x"}, "declared as number, but its values are string"),
        ("t", 1, {"air": True}, "declared as number, but its values are bool"),
        ("t", 1, {"open": 1}, "declared as bool"),
        ("t", 1, {"label": 1}, "declared as string"),
        ("t", math.nan, {"air": 1}, "finite"),
        ("t", [1, 2], {"air": [1]}, "1 values for 2 times"),
        ("t", 1, 5, "dict of fields"),
    ],
)
def test_what_is_no_row_raises_and_is_not_kept(timeline, t, values, says):
    node = Roof()
    with pytest.raises(InvalidArgument, match=says):
        node.append(timeline, t, values)
    assert everything(node)["timeline"] == {}


def test_a_null_erases_a_value_of_any_type():
    node = Roof()
    node.append("t", 1, {"air": None, "label": None, "open": None})
    node.append("t", 2, {"air": 1, "label": "x", "open": True})
    node.append("t", 3, {"air": None, "label": "y", "open": False})
    node.append("t", 2, {"label": None}, correct=True)
    assert everything(node)["data"] == {"air": [1, None], "label": [None, "y"], "open": [True, False], "wind": []}


def test_late_rows():
    node = Roof()
    node.append("fast", 100, {"wind": 1})
    node.append("fast", 95, {"wind": 2})
    with pytest.raises(LateRow):
        node.append("fast", 94.9, {"wind": 3})
    node.append("fast", 94.9, {"wind": 3}, correct=True)
    assert everything(node, "wind")["data"]["wind"] == [3, 2, 1]


def test_sampling():
    node = Roof({"air": 1, "wind": 2}, None, {})
    before = now()
    node.take_sample()
    after = now()
    node.take_sample()
    reply = everything(node)
    assert reply["data"] == {"air": [1], "label": [], "open": [], "wind": [2]}
    assert before <= reply["timeline"]["t"]["t"][0] <= after
    assert reply["timeline"]["t"]["t"] == reply["timeline"]["fast"]["t"], "a row has one time"
    assert (node.health.samples, node.health.errors) == (1, 0)


@pytest.mark.parametrize(
    "row", [OSError("no probe"), [1], {"air": "x"}, {"none": 1}], ids=["raises", "list", "type", "unknown"]
)
def test_a_failed_sample_is_counted_and_raised(row):
    node = Roof(row, {"air": 1})
    with pytest.raises((OSError, InvalidArgument)) as caught:
        node.take_sample()
    assert node.health.errors == 1
    assert node.health.last_error == f"{type(caught.value).__name__}: {caught.value}"
    node.take_sample()
    assert (node.health.samples, node.health.errors) == (1, 1)


def test_a_node_with_an_interval_needs_sample():
    class Silent(DataNode):
        name = "silent"
        interval = 1.0

    with pytest.raises(TypeError, match="no sample"):
        Silent().take_sample()


@pytest.mark.parametrize("name", ["", "a b", "roof.data", None])
def test_a_node_needs_a_name(name):
    with pytest.raises(InvalidArgument):
        type("Odd", (DataNode,), {"name": name})()


def test_fields_declared_later():
    node = Roof()
    before = node.fields
    node.declare({"rain": Field(timeline="slow")}, {"slow": Timeline(60)})
    assert "rain" not in before, "who reads it meanwhile sees no change"
    node.append("slow", 1, {"rain": 0})
    assert node.get_fields(1, None).to_wire()[1]["slow"] == {"interval": 60, "field": ["rain"]}
    assert "rain" not in Roof().fields


@pytest.mark.parametrize("fields", [{"": Field()}, {"a\n": Field()}, {"a": "number"}, {"a": None}])
def test_what_is_no_declaration(fields):
    with pytest.raises(InvalidArgument):
        Roof().declare(fields)


def test_more_than_an_answer_holds_is_false_unless_it_is_thinned():
    node = Roof()
    node.append("t", range(1, 200_001), {"air": range(200_000)})
    assert everything(node, "air") is False
    reply = node.get_data(["air"], 1.0, None, max_points=1000)
    assert {0, 199_999} <= set(reply["data"]["air"])
    assert len(reply["data"]["air"]) <= 1000


def test_an_array_may_be_filled_again_after_an_append():
    node = Roof()
    for values in (np.array([1.0, 2.0]), np.ma.array([1.0, 2.0], mask=[False, True])):
        expected = Block.of([1, 2], {"air": values.copy()})
        node.append("t", [1, 2], {"air": values}, correct=True).result()
        values[:] = 9
        assert node.history.read("t", ["air"], 0, LATEST)[0] == expected


def test_of_a_correction_only_what_is_new_is_kept_unless_to_see_that_costs_more_than_to_keep_it():
    node = Roof()
    node.append("fast", np.arange(10_000.0), {"wind": np.zeros(10_000)}).result()
    sizes = []
    node.on_kept = lambda timeline, block, position: sizes.append(len(block))
    with ThreadPoolExecutor(1) as thread:
        for t in ([1.0, 2.0], [1.0, 9_000.0], [1.0, 2.0]):
            thread.submit(node.append, "fast", t, {"wind": [0.0, 5.0]}, correct=True).result()
    assert sizes == [1, 2]
    node.append("fast", [1.0, 2.0], {"wind": [0.0, 5.0]}, correct=True)
    assert sizes == [1, 2, 2], "the reactor's thread reads nothing"
