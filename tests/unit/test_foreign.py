"""Answers of nodes that write their own get_fields and get_data."""

from __future__ import annotations

import json
import math
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sisock import foreign
from sisock.errors import NodeFailed
from sisock.fields import Catalogue, Field
from sisock.requests import MAX_VALUES, DataRequest
from tests.unit.strategies import anything, many

REQUEST = DataRequest.of(["a", "b"], 1, None)


def result(data, t, final=None, **more):
    return {"data": data, "timeline": {"t": {"t": t, "finalized_until": final}}, **more}


def test_an_answer_in_the_wires_form_is_passed_on():
    right = result({"a": [1, None], "b": ["x", "y"]}, [1.0, 2.0], 1.5)
    assert foreign.checked(right, REQUEST) == right


def test_false_is_passed_on():
    assert foreign.checked(False, REQUEST) is False


def test_arrays_are_lists_and_nan_is_null_and_missing_fields_are_empty():
    given_back = result({"a": np.array([1.0, math.nan, math.inf])}, np.array([1, 2, 3]), np.float64(2))
    assert foreign.checked(given_back, REQUEST) == result({"a": [1.0, None, None], "b": []}, [1.0, 2.0, 3.0], 2.0)


def test_a_timeline_that_does_not_say_until_when_it_is_final():
    reply = foreign.checked({"data": {"a": [1]}, "timeline": {"t": {"t": [1]}}}, REQUEST)
    assert reply == result({"a": [1], "b": []}, [1.0])


def test_what_a_node_adds_is_passed_on():
    reply = foreign.checked(result({}, [], downsampled={"t": {"method": "mean", "from": 5, "to": 1}}), REQUEST)
    assert reply["downsampled"] == {"t": {"method": "mean", "from": 5, "to": 1}}


circular = []
circular.append(circular)


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        True,
        np.False_,
        [],
        "data",
        5,
        {},
        {"data": {}},
        {"data": [], "timeline": {}},
        {"data": {}, "timeline": []},
        result({"a": 5}, [1]),
        result({"a": "x"}, [1]),
        result({"a": b"x"}, [1]),
        result({"a": None}, [1]),
        result({"a": [[1]]}, [1]),
        result({"a": [1, "x"]}, [1, 2]),
        result({"a": [1, 2]}, [1]),
        result({"a": [object()]}, [1]),
        result({"a": [10**400]}, [1]),
        result({"a": ["\ud800"]}, [1]),
        result({"a\ud800": [1]}, [1]),
        result({"a": [1]}, None),
        result({"a": [1]}, 1),
        result({"a": [1]}, ["1"]),
        result({"a": [1]}, [math.nan]),
        result({"a": [1]}, [10**400]),
        result({"a": [1]}, [1], "soon"),
        result({"a": [1]}, [1], math.nan),
        result({"a": [1]}, [1], math.inf),
        result({"a": [1]}, [1], 10**400),
        result({"a": [1]}, [1], [1]),
        result({"a": [1]}, [1], True),
        result({"a": [1]}, [1], more=object()),
        result({"a": [1]}, [1], more=math.nan),
        result({"a": [1]}, [1], more={1, 2}),
        result({"a": [1]}, [1], more=circular),
        {"data": {"a": [1]}, "timeline": {"t": {}}},
        {"data": {"a": [1]}, "timeline": {"t": [1]}},
        {"data": {"a": [1]}, "timeline": {"t": None}},
    ],
    ids=range(39),
)
def test_what_is_no_answer(wrong):
    with pytest.raises(NodeFailed, match="get_data returned"):
        foreign.checked(wrong, REQUEST)


times = st.lists(st.integers(1, 5) | st.floats(0, 10), max_size=3) | anything
lines = st.dictionaries(st.sampled_from(["t", "finalized_until"]), times) | anything
nearly = st.fixed_dictionaries(
    {"data": st.dictionaries(st.sampled_from("abc"), times, max_size=2), "timeline": st.dictionaries(st.just("t"), lines)},
    optional={"more": anything},
)


@many
@given(nearly | anything)
def test_any_result_is_an_answer_or_the_nodes_failure(given_back):
    with suppress(NodeFailed):
        reply = foreign.checked(given_back, REQUEST)
        json.dumps(reply, allow_nan=False)
        assert reply is False or {"a", "b"} <= set(reply["data"])


def test_more_than_an_answer_may_hold_is_false():
    most = MAX_VALUES // 2
    assert foreign.finished(result({"a": np.zeros(most)}, np.arange(most)), REQUEST, None) is not False
    assert foreign.finished(result({"a": np.zeros(most + 1)}, np.arange(most + 1)), REQUEST, None) is False
    text = result({"a": ["x" * 50] * 100_000}, np.arange(100_000))
    assert foreign.finished(text, REQUEST, None) is False, "it would not fit into a message of the router"
    few = DataRequest.of(["a"], 1, None, max_points=10)
    much = result({"a": np.zeros(2 * most)}, np.arange(2 * most))
    assert len(foreign.finished(much, few, OFFERED)["data"]["a"]) <= 10


OFFERED = Catalogue({"a": Field(), "b": Field(timeline="u")})


def test_it_is_downsampled_for_a_node_that_does_not():
    request = DataRequest.of(["a", "b"], 1, None, max_points=10)
    whole = {
        "data": {"a": list(range(100)), "b": []},
        "timeline": {"t": {"t": [float(t) for t in range(100)], "finalized_until": 50.0}},
    }
    reply = foreign.downsampled(foreign.checked(whole, request), request, OFFERED)
    assert reply["data"]["a"] == reply["timeline"]["t"]["t"]
    assert {0, 99} <= set(reply["data"]["a"])
    assert len(reply["data"]["a"]) <= 10
    assert reply["data"]["b"] == []
    assert reply["timeline"]["t"]["finalized_until"] == 50.0
    assert reply["downsampled"]["t"]["from"] == 100


def test_without_max_points_or_data_there_is_nothing_to_downsample():
    reply = result({"a": [1], "b": []}, [1.0])
    assert foreign.downsampled(reply, REQUEST, OFFERED) == reply
    assert foreign.downsampled(False, DataRequest.of([], 1, None, max_points=5), OFFERED) is False


def test_values_that_do_not_fit_the_timeline_of_get_fields_are_the_nodes_failure():
    request = DataRequest.of(["a"], 1, None, max_points=1)
    reply = {
        "data": {"a": [1, 2]},
        "timeline": {"t": {"t": [1.0], "finalized_until": None}, "u": {"t": [1.0, 2.0], "finalized_until": None}},
    }
    with pytest.raises(NodeFailed, match="'t' of get_fields"):
        foreign.downsampled(foreign.checked(reply, request), request, OFFERED)


@many
@given(anything | st.tuples(anything, anything))
def test_any_get_fields_is_a_catalogue_or_the_nodes_failure(given_back):
    with suppress(NodeFailed):
        json.dumps(foreign.catalogue(given_back).to_wire(), allow_nan=False)


def test_a_catalogue_is_passed_on():
    assert foreign.catalogue(OFFERED) is OFFERED
    assert foreign.catalogue(json.loads(json.dumps(OFFERED.to_wire()))).fields == OFFERED.fields


def test_who_downsamples():
    def plain(field, start, end, min_stride=None): ...
    def whole(field, start, end, min_stride=None, max_points=None, method="minmax"): ...
    def any_of_it(field, start, end, **more): ...

    assert [foreign.takes_max_points(get_data) for get_data in (plain, whole, any_of_it)] == [False, True, True]
