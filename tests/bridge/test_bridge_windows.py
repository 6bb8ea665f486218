"""The functions of ranges and the operators against a slow and plain way to the same."""

import itertools
import json
import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sisock.grafana_bridge.prom import aggregations, functions, wire
from sisock.grafana_bridge.prom.aggregations import Grouping
from sisock.grafana_bridge.prom.errors import BadQuery
from sisock.grafana_bridge.prom.matching import Matcher
from sisock.grafana_bridge.prom.names import metric_name
from sisock.grafana_bridge.prom.values import Vector
from sisock.grafana_bridge.prom.windows import FUNCTIONS, Windows
from sisock.times import MICROS

NUMBERS = st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0, -1.0, 5.0, math.nan, math.inf, -math.inf])


@st.composite
def samples(draw):
    t = sorted(draw(st.sets(st.integers(-50, 400), max_size=30)))
    v = draw(st.lists(NUMBERS, min_size=len(t), max_size=len(t)))
    at = draw(st.integers(-50, 300)) + draw(st.integers(1, 80)) * np.arange(draw(st.integers(1, 12)))
    return np.array(t, np.int64) * MICROS, np.array(v, float), at * MICROS, draw(st.integers(1, 200)) * MICROS


def quantile(values, q):
    ordered = sorted(values, key=lambda v: (not math.isnan(v), v))
    if math.isnan(q):
        return math.nan
    if q < 0 or q > 1:
        return math.copysign(math.inf, q)
    rank = q * (len(ordered) - 1)
    low = math.floor(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] * (1 - (rank - low)) + ordered[high] * (rank - low)


def extrapolated(rows, at, length, counter):
    (first_t, first), (last_t, last) = rows[0], rows[-1]
    rise = last - first + (sum(a for (_, a), (_, b) in itertools.pairwise(rows) if b < a) if counter else 0.0)
    sampled = (last_t - first_t) / MICROS
    spacing = sampled / (len(rows) - 1)
    to_start, to_end = (first_t - (at - length)) / MICROS, (at - last_t) / MICROS
    to_start = spacing / 2 if to_start >= 1.1 * spacing else to_start
    to_end = spacing / 2 if to_end >= 1.1 * spacing else to_end
    if counter and rise > 0 and first >= 0:
        to_start = min(to_start, sampled * first / rise)
    return rise * (sampled + to_start + to_end) / sampled


def pairs(rows):
    return list(zip([v for _, v in rows], [v for _, v in rows[1:]], strict=False))


ORACLE = {
    "avg_over_time": lambda rows, *_: sum(v for _, v in rows) / len(rows),
    "sum_over_time": lambda rows, *_: sum(v for _, v in rows),
    "count_over_time": lambda rows, *_: len(rows),
    "min_over_time": lambda rows, *_: min([v for _, v in rows if not math.isnan(v)], default=math.nan),
    "max_over_time": lambda rows, *_: max([v for _, v in rows if not math.isnan(v)], default=math.nan),
    "last_over_time": lambda rows, *_: rows[-1][1],
    "first_over_time": lambda rows, *_: rows[0][1],
    "present_over_time": lambda rows, *_: 1.0,
    "stdvar_over_time": lambda rows, *_: statistics.pvariance([v for _, v in rows]),
    "stddev_over_time": lambda rows, *_: statistics.pstdev([v for _, v in rows]),
    "changes": lambda rows, *_: sum(a != b and not (math.isnan(a) and math.isnan(b)) for a, b in pairs(rows)),
    "resets": lambda rows, *_: sum(b < a for a, b in pairs(rows)),
    "delta": lambda rows, at, length: extrapolated(rows, at, length, False),
    "increase": lambda rows, at, length: extrapolated(rows, at, length, True),
    "rate": lambda rows, at, length: extrapolated(rows, at, length, True) / (length / MICROS),
    "idelta": lambda rows, *_: rows[-1][1] - rows[-2][1],
    "irate": lambda rows, *_: (
        (rows[-1][1] if rows[-1][1] < rows[-2][1] else rows[-1][1] - rows[-2][1]) / ((rows[-1][0] - rows[-2][0]) / MICROS)
    ),
}
OF_TWO = {"delta", "increase", "rate", "idelta", "irate", "deriv", "predict_linear"}
FINITE = {"stdvar_over_time", "stddev_over_time", "delta", "increase", "rate"}


def test_every_function_has_an_oracle():
    assert FUNCTIONS.keys() - ORACLE.keys() == {"quantile_over_time", "deriv", "predict_linear"}


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(sorted(ORACLE)), samples())
def test_a_function_of_ranges_is_what_it_is_of_each_window_alone(name, found):
    t, v, at, length = found
    if name in FINITE:
        v = np.where(np.isfinite(v), v, 2.0)
    values, there = FUNCTIONS[name](Windows.of(t, v, at, length))
    for i, moment in enumerate(at.tolist()):
        rows = [(a, b) for a, b in zip(t.tolist(), v.tolist(), strict=True) if moment - length < a <= moment]
        assert there[i] == (len(rows) >= (2 if name in OF_TWO else 1))
        if there[i]:
            expected = ORACLE[name](rows, moment, length)
            scale = max([1.0, *(abs(value) for _, value in rows if math.isfinite(value))])
            scale **= 2 if name == "stdvar_over_time" else 1
            close = math.isclose(values[i], expected, rel_tol=1e-9, abs_tol=1e-6 * scale if "std" in name else 1e-9 * scale)
            assert close or (math.isnan(expected) and math.isnan(values[i])), (values[i], expected)


def test_windows_that_overlap_do_not_look_at_each_sample_again_and_again():
    looked_at = []

    class Counts:
        @staticmethod
        def reduceat(values, ends):
            looked_at.append(int(np.maximum(np.diff(np.append(ends, len(values))), 1).sum()))
            return np.add.reduceat(values, ends)

    t, v = np.arange(100_000) * MICROS, np.random.default_rng(1).normal(size=100_000)
    windows = Windows.of(t, v, t[-100:], 90_000 * MICROS)
    found = windows.reduce(Counts, v)
    assert np.allclose(found, [v[low:high].sum() for low, high in zip(windows.low, windows.high, strict=True)])
    assert sum(looked_at) < 2 * len(v)


@given(samples(), st.floats(-0.5, 1.5) | st.just(math.nan))
def test_quantiles(found, q):
    t, v, at, length = found
    values, there = FUNCTIONS["quantile_over_time"](Windows.of(t, v, at, length), np.full(len(at), q))
    vector = Vector([(("a", str(i)),) for i in range(len(v))], v[:, None], np.ones((len(v), 1), np.bool_))
    of_all = aggregations.quantile(vector, Grouping(), np.array([q]))
    if len(v):
        assert same(of_all.values[0, 0], quantile(v.tolist(), q))
    for i, moment in enumerate(at.tolist()):
        rows = [b for a, b in zip(t.tolist(), v.tolist(), strict=True) if moment - length < a <= moment]
        assert there[i] == bool(rows)
        if rows:
            assert same(values[i], quantile(rows, q))


def same(one, other):
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-6) or (math.isnan(one) and math.isnan(other))


@given(st.floats(-100, 100), st.floats(-100, 100), samples())
def test_a_straight_line_is_found_and_drawn_on(slope, level, found):
    t, _, at, length = found
    v = level + slope * t / MICROS
    steep, there = FUNCTIONS["deriv"](Windows.of(t, v, at, length))
    ahead, _ = FUNCTIONS["predict_linear"](Windows.of(t, v, at, length), np.full(len(at), 60.0))
    for i in np.flatnonzero(there):
        assert math.isclose(steep[i], slope, rel_tol=1e-6, abs_tol=1e-6)
        assert math.isclose(ahead[i], level + slope * (at[i] / MICROS + 60), rel_tol=1e-6, abs_tol=1e-3)


@given(st.lists(st.floats()))
def test_numbers_are_texts_that_read_back_as_the_same(values):
    body = wire.matrix(Vector([()], np.array([values]), np.ones((1, len(values)), np.bool_)), np.arange(len(values)) * MICROS)
    found = [one for series in json.loads(body)["result"] for one in series["values"]]
    assert len(found) == len(values)
    for (_, text), value in zip(found, values, strict=True):
        assert float(text) == value or math.isnan(value)
        assert text == wire.number(value)
        assert text in ("NaN", "+Inf", "-Inf") or not text.endswith(".0")


@given(st.text(min_size=1, max_size=20))
def test_every_field_has_a_legal_name(field):
    import re

    assert re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", metric_name(field))


def test_expressions_are_anchored_and_take_linear_time():
    assert Matcher("a", "=~", "a|b").keeps(["a", "ab", "b", ""]) == {"a", "b"}
    assert Matcher("a", "!~", ".+").keeps(["a", ""]) == {""}
    assert Matcher("a", "=~", "a.b").keeps(["a\nb"]) == {"a\nb"}
    # Whoever tracks back would be at this for longer than the world has been there.
    assert Matcher("a", "=~", "(a+)+$").keeps(["a" * 5000 + "b"]) == set()
    with pytest.raises(BadQuery):
        Matcher("a", "=~", r"(a)\1").keeps(["aa"])


@pytest.mark.parametrize(
    ("pattern", "replacement", "expected"),
    [
        ("(.*)", "$1!", "roof!"),
        ("(r)(?P<rest>.*)", "${rest}-$1", "oof-r"),
        ("(?:r)(.*)", "$1", "oof"),
        (r"[(](.*)|roof", "x$1", "x"),
        ("r.*", "$0$$1", "roof$1"),
        ("r.*", "$7", None),
        ("r.*", r"a\1", r"a\1"),
        ("oof", "x", "before"),
    ],
)
def test_a_label_is_replaced_as_go_does(pattern, replacement, expected):
    vector = Vector([(("b", "before"), ("node", "roof"))], np.ones((1, 1)), np.ones((1, 1), np.bool_))
    (labels,) = functions.label_replace(vector, "b", replacement, "node", pattern).labels
    assert dict(labels).get("b") == expected
