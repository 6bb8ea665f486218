"""Downsampling: what is left still shows what was there."""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sisock.blocks import Block, Column
from sisock.downsample import METHODS, stride, thin
from tests.unit.strategies import cells, is_sound, many, some, text

finite = st.floats(-1e9, 1e9) | st.sampled_from([0.0, -0.0, 1.0, 5e-324, 1.7e308, -1.7e308])
junk = st.sampled_from([None, math.nan, math.inf, -math.inf])
gaps = st.integers(1, 5) | st.integers(1, 10**12)
starts = st.sampled_from([0, 1_500_000_000_000_000, -(2**61)])


@st.composite
def series(draw, values=finite, least=5, most=60):
    """Times in microseconds, with gaps, and a value at each."""
    steps = draw(st.lists(gaps, min_size=least, max_size=most))
    t = (draw(starts) + np.cumsum(np.array(steps, np.int64))).astype(np.int64)
    return t, draw(st.lists(values, min_size=len(t), max_size=len(t)))


@st.composite
def more_than_enough(draw, least=2):
    """A series and how many points of it are wanted: fewer."""
    t, values = draw(series())
    return t, values, draw(st.integers(least, len(t) - 1))


def one(t, values):
    return Block(t, {"a": Column.of(values)})


def pairs(block):
    return list(zip(block.t.tolist(), cells(block.columns["a"]), strict=True))


def numbers_of(block):
    return [(t, value) for t, value in pairs(block) if isinstance(value, (int, float)) and math.isfinite(value)]


@some
@given(series(finite | junk), st.integers(1, 70), st.sampled_from(METHODS))
def test_few_rows_at_their_true_times(drawn, max_points, method):
    t, values = drawn
    block = one(t, values)
    thinned = thin(block, max_points, method)
    assert is_sound(thinned)
    assert len(thinned) <= max_points
    if len(block) <= max_points:
        assert thinned is block
    if method == "mean":
        assert set(thinned.t.tolist()) <= set(t.tolist())
    else:
        assert set(pairs(thinned)) <= set(pairs(block))


@many
@given(more_than_enough())
def test_minmax_keeps_the_extremes_of_every_bucket(drawn):
    t, values, max_points = drawn
    kept = pairs(thin(one(t, values), max_points))
    buckets, first, span = max_points // 2, int(t[0]), int(t[-1] - t[0])
    # Which side of an edge a row right there is on is not held against it: edges are floats.
    close = 1 + span // 2**50
    for bucket in range(buckets):
        low, high = first + span * bucket // buckets, first - (-span * (bucket + 1) // buckets)
        surely_low, surely_high = low + close * (bucket > 0), high - close * (bucket < buckets - 1)
        inside = [value for at, value in zip(t.tolist(), values, strict=True) if surely_low <= at <= surely_high]
        if inside:
            there = [value for at, value in kept if low - close <= at <= high + close]
            assert min(there) <= min(inside)
            assert max(there) >= max(inside)


@many
@given(more_than_enough())
def test_the_extremes_of_all_are_kept(drawn):
    t, values, max_points = drawn
    shown = [value for _, value in pairs(thin(one(t, values), max_points))]
    assert min(shown) == min(values)
    assert max(shown) == max(values)


@some
@given(series(finite, least=8), st.data(), st.integers(1, 12), st.sampled_from(["minmax", "lttb"]))
def test_what_is_no_number_changes_nothing(drawn, data, max_points, method):
    """Rows of nulls, NaN and infinities between the numbers leave the choice among these as it is."""
    t, values = drawn
    clean = one(t * 2, values)
    at = sorted(data.draw(st.sets(st.integers(0, len(t) - 1), min_size=1)))
    mixed = {**dict(zip((t * 2).tolist(), values, strict=True)), **{int(t[i]) * 2 + 1: data.draw(junk) for i in at}}
    times = sorted(mixed)
    poisoned = one(np.array(times, np.int64), [mixed[time] for time in times])
    assert numbers_of(thin(poisoned, max_points, method)) == numbers_of(thin(clean, max_points, method))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_nothing_but_what_is_no_number(method, value):
    block = one(np.arange(100), [value] * 100)
    assert numbers_of(thin(block, 10, method)) == []


@some
@given(more_than_enough(), st.randoms(use_true_random=False), st.sampled_from(["minmax", "lttb"]))
def test_fields_of_one_timeline_do_not_take_each_others_rows(drawn, random, method):
    t, values, max_points = drawn
    block = Block(t, {"a": Column.of(values), "b": Column.of(random.sample(values, len(values)))})
    thinned = thin(block, max_points, method)
    alone = [set(thin(Block(t, {"x": column}), max_points, method).t.tolist()) for column in block.columns.values()]
    assert set(thinned.t.tolist()) == alone[0] | alone[1]


@many
@given(more_than_enough(least=4))
def test_lttb_keeps_both_ends(drawn):
    t, values, max_points = drawn
    thinned = thin(one(t, values), max_points, "lttb")
    assert {int(t[0]), int(t[-1])} <= set(thinned.t.tolist())


@pytest.mark.parametrize("method", METHODS)
def test_far_times_are_as_good_as_near_ones(method):
    """A float does not hold every microsecond there."""
    values = [math.sin(at * at) for at in range(200)]
    near = thin(one(np.arange(200), values), 20, method)
    far = thin(one(np.arange(200) + 2**61 + 1, values), 20, method)
    assert [(t - 2**61 - 1, value) for t, value in pairs(far)] == pairs(near)


@st.composite
def bucketed(draw, values):
    """A block whose buckets are easy to tell: (block, how many, the bucket of each row)."""
    buckets, width = draw(st.integers(1, 6)), draw(st.integers(1, 8))
    start = draw(starts)
    inner = draw(st.sets(st.integers(0, buckets * width), min_size=buckets + 1))
    offsets = sorted({0, buckets * width} | inner)
    block = one(start + np.array(offsets, np.int64), draw(st.lists(values, min_size=len(offsets), max_size=len(offsets))))
    return block, buckets, [min(offset // width, buckets - 1) for offset in offsets]


def by_bucket(block, of):
    grouped = {}
    for (t, value), bucket in zip(pairs(block), of, strict=True):
        grouped.setdefault(bucket, []).append((t, value))
    return grouped.values()


@many
@given(bucketed(finite | junk | st.integers(-9, 9)))
def test_a_mean_counts_the_numbers_of_its_bucket(drawn):
    block, buckets, of = drawn
    thinned = thin(block, buckets, "mean")
    for (t, mean), rows in zip(pairs(thinned), by_bucket(block, of), strict=True):
        assert t == rows[0][0]
        there = [value for _, value in rows if isinstance(value, (int, float)) and math.isfinite(value)]
        expected = math.fsum(value / len(there) for value in there) if there else None
        assert mean == (None if expected is None else pytest.approx(expected, rel=1e-9, abs=1e-6 * max(map(abs, there))))


@many
@given(bucketed(st.none() | st.booleans()))
def test_the_mean_of_booleans_is_their_share(drawn):
    block, buckets, of = drawn
    for (_, mean), rows in zip(pairs(thin(block, buckets, "mean")), by_bucket(block, of), strict=True):
        there = [value for _, value in rows if value is not None]
        assert mean == (pytest.approx(sum(there) / len(there)) if there else None)


@many
@given(bucketed(st.none() | text))
def test_of_texts_the_last_is_told(drawn):
    block, buckets, of = drawn
    assume(not block.columns["a"].is_null)
    groups = by_bucket(block, of)
    for (_, shown), rows in zip(pairs(thin(block, buckets, "mean")), groups, strict=True):
        assert shown == next((value for _, value in reversed(rows) if value is not None), None)


@many
@given(bucketed(finite | junk))
def test_last_is_the_last_row_of_each_bucket(drawn):
    block, buckets, of = drawn
    assert pairs(thin(block, buckets, "last")) == [rows[-1] for rows in by_bucket(block, of)]


@pytest.mark.parametrize("method", ["minmax", "lttb"])
def test_a_rare_text_among_nulls_is_kept(method):
    values = [None] * 1000
    values[5], values[500] = "door open", "door closed"
    thinned = thin(one(np.arange(1000), values), 10, method)
    assert pairs(thinned) == [(5, "door open"), (500, "door closed")]


@many
@given(st.lists(gaps, max_size=60), starts, st.integers(-1, 12) | st.integers(1, 10**13) | st.just(2**62))
def test_stride_takes_the_first_row_and_then_the_next_that_may(steps, start, least):
    t = start + np.cumsum(np.array(steps, np.int64))
    expected = list(range(len(t))) if least <= 0 else [0] if len(t) else []
    while least > 0 and expected and (following := bisect_left(t.tolist(), int(t[expected[-1]]) + least)) < len(t):
        expected.append(following)
    picked = stride(t, least)
    assert picked.tolist() == expected
    assert least <= 0 or (np.diff(t[picked]) >= least).all()
