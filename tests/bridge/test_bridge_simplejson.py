"""The SimpleJson dialect's pure functions, and what series are made of."""

import json
import math
from contextlib import suppress

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from sisock import Catalogue, Field
from sisock.asking import Answered
from sisock.blocks import Block, Column
from sisock.errors import InvalidArgument, TooMuch, UnknownField
from sisock.grafana_bridge.queries import Target, matching, parse_query, parse_search, spelled_out, written
from sisock.grafana_bridge.series import Ask, Series, column_json, lacks_catalogue, millis_json, results
from sisock.grafana_bridge.simplejson import shape
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
    [None, 5, "roof::air", [], {"type": "table"}, {"target": None, "type": "timeserie"}, {"target": 5}]
    + [
        {"target": name}
        for name in ("roof", "::air", "roof::", "a b::air", "roof.::air", "roof:: \n", "\ud800::a", "a" * 300 + "::b")
    ]
    + [{"target": "roof::air", "payload": {"format": "pie"}}, {"target": "roof::air", "payload": {"method": 5}}]
    + [{"target": "roof", "payload": {"field": {}}}, {"target": "roof::air", "payload": "{"}],
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
    assert matching(names, parse_search({"target": "AIR"})) == ["roof::Air", "airport::x"]
    assert matching(names, parse_search(None)) == names


# --- shapes


# Times beyond 2^53 microseconds (the year 2255) have no exact float.
@given(st.lists(st.integers(-(2**53), 2**53)))
def test_milliseconds_are_integers_where_they_are_whole(micros):
    series = Series(np.array(micros, np.int64), Column.null(len(micros)), Field())
    points = wire(shape(Target("x::y"), series))["datapoints"]
    for t, (_, ms) in zip(micros, points, strict=True):
        assert isinstance(ms, int) is (t % 1000 == 0)
        assert ms == t / 1000


def test_the_shapes():
    series = Series(np.array([1_000_000, 1_500_500]), Column.of(["on", None]), Field(type="string"))
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


def answered(timeline, t, **columns):
    """What a node answered of one timeline."""
    block = Block.of(t, columns)
    return {timeline: Answered(timeline, [block], {name: Field(type=block.columns[name].type, units="m") for name in columns})}


def test_series_need_no_catalogue_where_all_fields_came():
    answers = answered("t", [1.5, 2], a=[1, None]) | answered("u", [3], b=[True])
    assert not lacks_catalogue(ASK, answers)
    found = results(ASK, answers)
    assert (found["a"].t.tolist(), found["a"].column.to_list(), found["a"].spec) == (
        [1_500_000, 2_000_000],
        [1, None],
        Field(units="m"),
    )
    assert (found["b"].t.tolist(), found["b"].spec.type, found["b"].spec.timeline) == ([3_000_000], "bool", "u")


def test_an_unknown_field_is_told_from_an_empty_one():
    answers = answered("t", [1], c=[1])
    assert lacks_catalogue(ASK, answers)
    found = results(ASK, answers, Catalogue({"a": Field(type="string")}))
    assert (len(found["a"]), found["a"].spec.type) == (0, "string")
    assert isinstance(found["b"], UnknownField)


VALUES = st.one_of(
    st.lists(st.none() | st.floats(), max_size=5),
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=5),
    st.lists(st.none() | st.booleans(), max_size=5),
    st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"])), max_size=5),
)


@given(VALUES, st.lists(st.integers(-(2**53), 2**53), min_size=5, max_size=5))
def test_columns_are_written_as_their_values_are(values, micros):
    column, t = Column.of(values), np.array(micros[: len(values)], np.int64)
    listed = json.loads(json.dumps(column.to_list()))
    assert json.loads(column_json(column)) == listed
    series = Series(t, column, Field())
    written = wire(shape(Target("x::y", field="y"), series))["datapoints"]
    assert written == [list(one) for one in zip(listed, json.loads(millis_json(t)), strict=True)]
    assert wire(shape(Target("x::y", "table", field="y"), series))["rows"] == [[t, value] for value, t in written]


# --- names with variables in them


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("roof::air", ["roof::air"]),
        (r"dome\.north::air", ["dome.north::air"]),
        ("roof::(air|wind)", ["roof::air", "roof::wind"]),
        (r"(a|b)::(c|d\|e)", ["a::c", "a::d|e", "b::c", "b::d|e"]),
        ("roof::speed (m/s)", ["roof::speed (m/s)"]),
        ("roof::(x", ["roof::(x"]),
        ("roof::(x) of (a|b)", ["roof::(x) of a", "roof::(x) of b"]),
    ],
)
def test_variables_in_names(text, names):
    assert spelled_out(text) == names
    query = parse_query({"range": RANGE, "targets": [{"target": text, "refId": "A"}]})
    assert [f"{one.node}::{one.field}" for one in query.targets] == names
    assert {one.ref_id for one in query.targets} == {"A"}


@given(st.text(st.sampled_from("ab:|()\\.*/[] ")) | st.text())
def test_a_name_can_be_written_so_that_it_stands_for_itself(name):
    assert spelled_out(written(name)) == [name]


def test_a_name_that_stands_for_too_many_is_refused():
    with pytest.raises(InvalidArgument):
        spelled_out("(a|b)" * 20)


@pytest.mark.parametrize("text", ["roof::(" + "|" * 100_000, "roof::" + "(|" * 100_000, "roof::(" + r"\(|" * 50_000])
def test_a_choice_without_an_end_is_read_once(text):
    """Whoever tracks back for each bar would be at this for minutes, and nobody else would be answered."""
    assert len(spelled_out(text)) == 1
