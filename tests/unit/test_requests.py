"""Requests as they come off the wire, and the answers to them (contract A7)."""

from __future__ import annotations

import json
import math
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sisock.blocks import Block, Column
from sisock.downsample import METHODS
from sisock.errors import InvalidArgument
from sisock.fields import Catalogue, Field
from sisock.requests import MAX_VALUES, DataRequest, Reading, Span, answer, finalized_until
from sisock.times import now
from tests.unit.strategies import FIELDS, anything, block_of, huge, listed, many, rows, told

GOOD = {"field": ["a"], "start": 1.0, "end": 2.0}
names = st.lists(st.sampled_from(["a", "b", ""]) | st.text(max_size=3), max_size=3)


@many
@given(
    st.tuples(
        st.none() | names | anything,
        anything | st.floats(),
        anything | st.none(),
        anything,
        anything | st.integers(1, 10),
        anything | st.sampled_from(METHODS),
    )
)
def test_any_call_is_a_request_or_an_invalid_argument(arguments):
    with suppress(InvalidArgument):
        request = DataRequest.of(*arguments)
        assert all(isinstance(name, str) and name.encode() is not None for name in request.fields)
        assert len(set(request.fields)) == len(request.fields)
        assert math.isfinite(request.span.start)
        assert request.span.end > 0
        low, high = request.span.micros()
        assert -(2**62) <= low <= 2**62
        assert -(2**62) <= high <= 2**62
        assert request.min_stride is None or 0 <= request.min_stride < math.inf
        assert request.max_points is None or 1 <= request.max_points <= 2**53
        assert request.method in METHODS


WRONG = {
    "field": ["a", 5, {"a": 1}, [5], [None], [["a"]], True, b"a", [b"a"], ["a\ud800"], 10**5000, [10**5000]],
    "start": [None, "1", "now", [], {}, True, math.nan, math.inf, -math.inf, 10**400, 10**5000, b"1"],
    "end": ["1", "now", [], {}, False, math.nan, math.inf, -math.inf, -(10**400), 10**5000],
    "min_stride": ["1", "30s", [], {}, True, math.nan, math.inf, -1, -1e-9, 10**400],
    "max_points": ["1", [], {}, True, False, math.nan, math.inf, -math.inf, 0, -1, 1.5, 0.5, -(10**5000)],
    "method": ["", "MINMAX", "median", [], ["minmax"], {}, 0, False, 10**5000],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [pytest.param(name, value, id=f"{name}-{at}") for name, values in WRONG.items() for at, value in enumerate(values)],
)
def test_a_wrong_argument_is_named(name, value):
    with pytest.raises(InvalidArgument, match=name) as caught:
        DataRequest.of(**{**GOOD, name: value})
    assert len(str(caught.value)) < 300


def test_a_browser_with_nothing_selected_sends_null():
    assert DataRequest.of(None, 1, 2).fields == ()


def test_each_field_is_answered_once():
    assert DataRequest.of(("b", "a", "b"), 1, 2).fields == ("b", "a")


def test_numbers_that_json_writes_differently():
    request = DataRequest.of([], 1, 2, min_stride=0, max_points=100.0)
    assert (request.min_stride, request.max_points) == (0.0, 100)
    assert isinstance(request.max_points, int)


@given(huge.filter(lambda value: value > 0))
@many
def test_more_points_than_there_can_be(value):
    assert DataRequest.of([], 1, 2, max_points=value).max_points == 2**53


def test_times_of_the_wire():
    before = now()
    span = Span.of(-600, 0)
    after = now()
    assert before - 600 <= span.start <= after - 600
    assert before <= span.end <= after
    assert span.end - span.start == pytest.approx(600)
    assert Span.of(1, None) == Span(1.0, math.inf)
    assert Span.of(1, None).micros() == (1_000_000, 2**62)
    assert Span.of(1.5, 2).micros() == (1_500_000, 2_000_000)


# Answers

CATALOGUE = Catalogue(
    {
        "f": Field(),
        "i": Field(),
        "b": Field(type="bool"),
        "s": Field(type="string"),
        "other": Field(timeline="u"),
    }
)


def asked(*fields, **options):
    return DataRequest.of(list(fields), 1, None, **options)


@many
@given(rows(), st.lists(st.sampled_from([*FIELDS, "unknown"]), max_size=4))
def test_an_answer_has_the_contracts_shape(table, fields):
    reply = answer(asked(*fields), CATALOGUE, {"t": Reading(block_of(table), 5.0)})
    json.dumps(reply, allow_nan=False)
    assert set(reply) == {"data", "timeline"}
    assert set(reply["data"]) == set(fields)
    shown = {t: {name: value for name, value in row.items() if name in fields} for t, row in told(table).items()}
    shown = {t: row for t, row in shown.items() if row}
    if not shown:
        assert reply == {"data": {name: [] for name in fields}, "timeline": {}}
        return
    assert reply["timeline"] == {"t": {"t": [t / 1e6 for t in shown], "finalized_until": 5.0}}
    for name in fields:
        there = any(name in row for row in shown.values())
        expected = [listed(row.get(name)) for row in shown.values()] if there else []
        assert reply["data"][name] == [None if value == "nan" and name == "f" else value for value in expected]


def test_timelines_without_data_are_left_out():
    reply = answer(asked("f", "other"), CATALOGUE, {"t": Reading(block_of({})), "u": Reading(Block.of(1, {"other": 2}))})
    assert reply == {"data": {"f": [], "other": [2]}, "timeline": {"u": {"t": [1.0], "finalized_until": None}}}


def series(rows_there, *fields):
    return Block(np.arange(rows_there, dtype=np.int64), {name: Column(np.arange(rows_there)) for name in fields})


def test_more_values_than_an_answer_may_hold_are_false():
    """The times count, too: they cost the router as much."""
    half = MAX_VALUES // 2
    assert answer(asked("f"), CATALOGUE, {"t": Reading(series(half, "f"))}) is not False
    assert answer(asked("f"), CATALOGUE, {"t": Reading(series(half + 1, "f"))}) is False
    both = {"t": Reading(series(half // 2 + 1, "f")), "u": Reading(series(half // 2, "other"))}
    assert answer(asked("f", "other"), CATALOGUE, both) is False
    assert answer(asked("f", max_points=1000), CATALOGUE, {"t": Reading(series(half + 1, "f"))}) is not False


@pytest.mark.parametrize("method", METHODS)
def test_it_says_what_was_done(method):
    reply = answer(asked("f", max_points=10, method=method), CATALOGUE, {"t": Reading(series(100, "f"))})
    shown = len(reply["data"]["f"])
    assert shown == len(reply["timeline"]["t"]["t"]) <= 10
    assert reply["downsampled"] == {"t": {"method": method, "from": 100, "to": shown}}


def test_it_does_not_say_what_was_not_done():
    reading = {"t": Reading(series(100, "f"))}
    assert "downsampled" not in answer(asked("f", max_points=100), CATALOGUE, reading)
    strided = answer(asked("f", min_stride=10e-6, max_points=50), CATALOGUE, reading)
    assert strided["data"]["f"] == list(range(0, 100, 10))
    assert "downsampled" not in strided, "min_stride left fewer rows than max_points"
    both = answer(asked("f", min_stride=2e-6, max_points=10, method="last"), CATALOGUE, reading)
    assert both["downsampled"] == {"t": {"method": "last", "from": 50, "to": 10}}


@pytest.mark.parametrize(
    ("newest", "lateness", "end", "expected"),
    [
        (None, 0, 10, None),
        (100_000_000, 0, 200, 100.0),
        (100_000_000, 10, 200, 90.0),
        (100_000_000, 10, 95, 90.0),
        (100_000_000, 10, 90, None),
        (100_000_000, 0, 50, None),
        (100_000_000, 0, math.inf, 100.0),
    ],
)
def test_until_when_it_is_final(newest, lateness, end, expected):
    assert finalized_until(newest, lateness, end) == expected
