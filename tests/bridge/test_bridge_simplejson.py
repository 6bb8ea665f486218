"""The SimpleJson dialect's pure functions, and what series are made of."""

import json
import math
from contextlib import suppress

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from sisock import Catalogue, Field
from sisock.errors import InvalidArgument, NodeFailed, SisockError, TooMuch, UnknownField
from sisock.grafana_bridge import simplejson
from sisock.grafana_bridge.series import Ask, Series, lacks_catalogue, results
from sisock.grafana_bridge.simplejson import Target, parse_query, parse_search, shape
from sisock.http import to_json

RANGE = {"from": "2017-07-14T00:00:00.000Z", "to": "2017-07-14T01:00:00Z"}
START = 1499990400.0
ASK = Ask("roof", ("a", "b"), 1.0, 2.0)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def wire(values):
    return json.loads(to_json(values))


# --- queries


def test_a_query_is_read():
    query = parse_query(
        {"range": RANGE, "interval": "30s", "targets": [{"target": "roof::air", "refId": "A", "type": "table"}]}
    )
    assert (query.start, query.end, query.min_stride, query.max_points) == (START, START + 3600, 30.0, None)
    assert query.targets == (Target("roof::air", "table", "A", "roof", "air"),)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("250ms", 0.25), ("5m", 300), ("2h", 7200), ("1d", 86400), ("1.5h", 5400), ("0s", None), (None, None)],
)
def test_intervals(text, seconds):
    assert parse_query({"range": RANGE, "interval": text}).min_stride == seconds


def test_an_interval_in_milliseconds_is_taken_where_there_is_no_text():
    assert parse_query({"range": RANGE, "intervalMs": 1500}).min_stride == 1.5
    assert parse_query({"range": RANGE, "intervalMs": 1500, "interval": "30s"}).min_stride == 30


def test_a_stride_is_not_asked_for_beside_a_number_of_points():
    query = parse_query({"range": RANGE, "interval": "30s", "maxDataPoints": 400.7})
    assert (query.min_stride, query.max_points) == (None, 400)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2017-07-14T00:00:00", START),
        ("2017-07-14", START),
        ("2017-07-14T02:00:00+02:00", START),
        ("2017-07-14T00:00:00.250Z", START + 0.25),
    ],
)
def test_times_are_iso(text, seconds):
    assert parse_query({"range": {"from": text, "to": "2018-01-01"}}).start == seconds


def test_times_before_1970_do_not_count_from_now():
    query = parse_query({"range": {"from": "1969-01-01", "to": "1970-01-01T00:00:00Z"}})
    assert 0 < query.start <= query.end < 1e-3


@pytest.mark.parametrize(
    "change",
    [
        {"range": None},
        {"range": {}},
        {"range": "now"},
        {"range": {"from": RANGE["from"]}},
        {"range": {"from": 1, "to": 2}},
        {"range": {"from": "yesterday", "to": "now"}},
        {"range": {"from": RANGE["to"], "to": RANGE["from"]}},
        {"interval": "often"},
        {"interval": "-30s"},
        {"interval": 30},
        {"interval": ""},
        {"interval": "9" * 400},
        {"intervalMs": "30"},
        {"intervalMs": -1},
        {"intervalMs": True},
        {"intervalMs": 10**400},
        {"maxDataPoints": 0},
        {"maxDataPoints": "many"},
        {"maxDataPoints": False},
        {"maxDataPoints": math.nan},
        {"targets": {}},
        {"targets": "roof::air"},
        {"targets": [{}] * 1001},
    ],
)
def test_what_fits_nothing_is_refused_as_a_whole(change):
    with pytest.raises(InvalidArgument):
        parse_query({"range": RANGE, "targets": []} | change)


@pytest.mark.parametrize("body", [None, [], "text", 1, True])
def test_a_query_is_an_object(body):
    with pytest.raises(InvalidArgument, match="body"):
        parse_query(body)


@pytest.mark.parametrize("targets", [[], None])
def test_no_targets_are_no_calls(targets):
    assert parse_query({"range": RANGE, "targets": targets}).asks() == []
    assert parse_query({"range": RANGE}).asks() == []


@pytest.mark.parametrize(
    "target",
    [None, 5, "roof::air", [], {}, {"target": None}, {"target": 5}]
    + [
        {"target": name}
        for name in ("", "roof", "::air", "roof::", "a b::air", "roof.::air", "roof:: \n", "\ud800::a", "a" * 300 + "::b")
    ]
    + [{"target": "roof::air", "type": kind} for kind in ("pie", 1, [], {"a": 1}, False)],
)
def test_a_bad_target_carries_its_own_error(target):
    query = parse_query({"range": RANGE, "targets": [{"target": "roof::air"}, target]})
    assert [bool(made.error) for made in query.targets] == [False, True]
    assert [ask.fields for ask in query.asks()] == [("air",)]


def test_targets_of_one_node_are_one_call():
    names = ["roof::a", "lab::a", "roof::b", "roof::a", "roof::a::b"]
    query = parse_query({"range": RANGE, "maxDataPoints": 10, "targets": [{"target": name} for name in names]})
    end = START + 3600
    assert query.asks() == [
        Ask("roof", ("a", "b", "a::b"), START, end, None, 10),
        Ask("lab", ("a",), START, end, None, 10),
    ]
    assert [target.name for target in query.targets] == names


def test_hidden_targets_are_left_out():
    query = parse_query(
        {"range": RANGE, "targets": [{"target": "roof::a", "hide": True}, {"target": "roof::b", "hide": False}]}
    )
    assert [target.name for target in query.targets] == ["roof::b"]


LIKELY = st.fixed_dictionaries(
    {},
    optional={
        "range": st.just(RANGE) | st.fixed_dictionaries({"from": st.text() | JSON, "to": st.datetimes().map(str)}),
        "interval": st.text() | st.from_regex(r"\d+(ms|s|m)") | JSON,
        "intervalMs": JSON,
        "maxDataPoints": JSON,
        "targets": st.lists(
            st.fixed_dictionaries({}, optional={k: st.just("a::b") | JSON for k in ("target", "type", "refId", "hide")}) | JSON,
            max_size=3,
        ),
    },
)


@given(LIKELY | JSON)
def test_any_body_is_a_query_or_refused(body):
    try:
        query = parse_query(body)
    except InvalidArgument as error:
        assert str(error)
        return
    assert 0 < query.start <= query.end
    for target in query.targets:
        if target.error:
            to_json(shape(target, target.error))


@given(JSON)
def test_any_body_is_a_search_or_refused(body):
    with suppress(InvalidArgument):
        assert isinstance(parse_search(body), str)


def test_a_search_keeps_the_names_that_contain_the_text():
    names = ["roof::Air", "roof::wind", "airport::x"]
    assert simplejson.matching(names, parse_search({"target": "AIR"})) == ["roof::Air", "airport::x"]
    assert simplejson.matching(names, parse_search(None)) == names


# --- shapes


# Times beyond 2^53 microseconds (the year 2255) have no exact float.
@given(st.lists(st.integers(-(2**53), 2**53)))
def test_milliseconds_are_integers_where_they_are_whole(micros):
    series = Series(np.array(micros, np.int64), [None] * len(micros), "number")
    points = shape(Target("x::y"), series)["datapoints"]
    for t, (_, ms) in zip(micros, points, strict=True):
        assert isinstance(ms, int) is (t % 1000 == 0)
        assert ms == t / 1000


def test_the_shapes():
    series = Series(np.array([1_000_000, 1_500_500]), ["on", None], "string")
    assert wire(shape(Target("n::f", field="f"), series)) == {"target": "n::f", "datapoints": [["on", 1000], [None, 1500.5]]}
    assert wire(shape(Target("n::f", "table", "A", "n", "f"), series)) == {
        "type": "table",
        "columns": [{"text": "Time", "type": "time"}, {"text": "f", "type": "string"}],
        "rows": [[1000, "on"], [1500.5, None]],
    }


def test_the_shapes_of_errors():
    error = {"code": "sisock.error.too_much", "message": "less"}
    assert shape(Target("n::f"), TooMuch("less")) == {"target": "n::f", "datapoints": [], "error": error}
    assert shape(Target("n::f", "table", "B"), TooMuch("less")) == {
        "target": "n::f",
        "type": "table",
        "columns": [],
        "rows": [],
        "error": error,
        "refId": "B",
    }


# --- series of a node's answer


def test_series_of_one_timeline_need_no_catalogue():
    answer = {"data": {"a": [1, None], "b": [True, False]}, "timeline": {"t": {"t": [1.5, 2]}}}
    assert not lacks_catalogue(ASK, answer)
    found = results(ASK, answer)
    assert (found["a"].t.tolist(), found["a"].values, found["a"].type) == ([1_500_000, 2_000_000], [1, None], "number")
    assert found["b"].type == "bool"


def test_several_timelines_need_the_catalogue():
    answer = {"data": {"a": [1], "b": ["x"]}, "timeline": {"t": {"t": [1]}, "u": {"t": [2]}}}
    assert lacks_catalogue(ASK, answer)
    found = results(ASK, answer, Catalogue({"a": Field(timeline="u"), "b": Field(timeline="t", type="string")}))
    assert [found[name].t.tolist() for name in "ab"] == [[2_000_000], [1_000_000]]


def test_an_unknown_field_is_told_from_an_empty_one():
    answer = {"data": {"a": [], "b": []}, "timeline": {}}
    assert lacks_catalogue(ASK, answer)
    found = results(ASK, answer, Catalogue({"a": Field(type="string")}))
    assert (found["a"].values, found["a"].type) == ([], "string")
    assert isinstance(found["b"], UnknownField)


@pytest.mark.parametrize(
    ("values", "times"),
    [
        ([1, 2], [1]),
        ("text", [1, 2, 3, 4]),
        ([b"bytes"], [1]),
        ([[1]], [1]),
        ([1], [None]),
        ([1], [math.nan]),
        ([1], ["noon"]),
        ([1], [1e300]),
        ([1], [[1]]),
        ([1], 1),
        ([1], {"a": 1}),
    ],
)
def test_an_answer_that_is_none_is_the_nodes_error(values, times):
    answer = {"data": {"a": values}, "timeline": {"t": {"t": times}}}
    assert isinstance(results(Ask("roof", ("a",), 1.0, 2.0), answer)["a"], NodeFailed)


@given(JSON, JSON, JSON, st.booleans())
def test_any_answer_is_series_or_errors(values, times, whole, known):
    catalogue = Catalogue({"a": Field(timeline="t")}) if known else None
    for answer in (whole, {"data": whole, "timeline": whole}, {"data": {"a": values}, "timeline": {"t": {"t": times}}}):
        try:
            found = results(ASK, answer, catalogue)
        except NodeFailed:
            continue
        assert list(found) == ["a", "b"]
        assert all(isinstance(result, (Series, SisockError)) for result in found.values())
