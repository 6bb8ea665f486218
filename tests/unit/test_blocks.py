"""Blocks and columns, against plain lists and dicts of dicts."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sisock.blocks import EXACT, Block, Column, concat, merge, micros_of
from sisock.errors import InvalidArgument
from sisock.times import EARLIEST, LATEST
from tests.unit.strategies import anything, block_of, cells, is_sound, listed, many, plain, rows, table_of, text, told

int64 = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([EXACT, EXACT + 1, -EXACT, -EXACT - 1])


lists = st.one_of(*(st.lists(kind, max_size=10) for kind in (st.floats(), int64, st.booleans(), text)))
lists_with_nulls = st.one_of(*(st.lists(st.none() | kind, max_size=10) for kind in (st.floats(), int64, st.booleans(), text)))


# Columns


@many
@given(lists_with_nulls)
def test_values_come_back_as_a_json_client_sees_them(values):
    column = Column.of(values)
    back = column.to_list()
    assert back == [listed(value) for value in values]
    assert all(type(there) is type(given) for there, given in zip(back, values, strict=True) if there is not None)
    assert json.loads(json.dumps(back, allow_nan=False)) == back
    assert cells(column) == [plain(value) for value in values]


@many
@given(lists)
def test_arrays_are_as_good_as_lists(values):
    expected = Column.of(values)
    assert Column.of(tuple(values)) == expected
    assert Column.of(iter(values)) == expected
    assert Column.of(np.array(values, expected.values.dtype)) == expected
    assert Column.of(np.array(values, object)) == expected
    assert Column.of(expected) is expected
    if expected.type == "string":
        assert Column.of(np.array([value.rstrip("\0") for value in values], str)).to_list() == [
            value.rstrip("\0") for value in values
        ]


@many
@given(lists_with_nulls)
def test_masked_arrays_are_lists_with_nulls(values):
    expected = Column.of(values)
    kind = expected.values.dtype
    mask = [value is None for value in values]
    for dtype in (kind, np.dtype(object)):
        blank = expected.values.astype(dtype)
        column = Column.of(np.ma.MaskedArray(blank, mask))
        assert cells(column) == cells(expected)
        assert column.to_list() == expected.to_list()


def test_a_masked_array_without_a_mask():
    assert Column.of(np.ma.MaskedArray([1.0, 2.0])).to_list() == [1.0, 2.0]


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "i8", "u8", "f2", "f4", ">f8", "<i4"])
def test_numpys_widths(dtype):
    column = Column.of(np.array([0, 1, 100], dtype))
    assert column.type == "number"
    assert column.to_list() == [0, 1, 100]
    assert Column.of(list(np.array([0, 1, 100], dtype))) == column


def test_numpys_scalars():
    assert Column.of([np.bool_(True), None]).to_list() == [True, None]
    assert Column.of([np.str_("a"), "b"]).to_list() == ["a", "b"]
    assert Column.of([np.float32(0.5), 1]).to_list() == [0.5, 1.0]


def test_integers_among_floats_are_floats():
    column = Column.of([1, 2.5, None])
    assert column.values.dtype == np.float64
    assert column.to_list() == [1.0, 2.5, None]


def test_nothing_but_nulls():
    column = Column.of([None, None])
    assert column.is_null
    assert column.to_list() == [None, None]
    assert Column.of([]).is_null
    assert not Column.of([math.nan]).is_null, "NaN is a value"
    assert not Column.of([None, False]).is_null


class Thing:
    """An object whose name is the same in every run."""

    def __repr__(self):
        return "thing"


@pytest.mark.parametrize(
    "values",
    [
        5,
        None,
        "abc",
        b"abc",
        {"a": 1},
        {1, 2},
        Thing(),
        [1, "a"],
        [True, 1],
        [True, 0.5],
        ["a", False],
        [[1], [2]],
        [{}],
        [b"a"],
        [1j],
        ["a\ud800"],
        [2**63],
        [-(2**63) - 1, 0.5, 10**400],
        [Thing()],
        [np.datetime64("2017-07-14")],
        np.array(5.0),
        np.array(5.0, object),
        np.zeros((2, 2)),
        np.array([1j]),
        np.array([b"a"]),
        np.array(["2017-07-14"], "M8[s]"),
        np.array([2**63], np.uint64),
        np.array([Thing()]),
        np.array(["a\ud800"]),
        np.ma.MaskedArray([Thing()], [False]),
        np.ma.MaskedArray(np.zeros((2, 2))),
    ],
    ids=lambda value: f"{type(value).__name__} {value!r:.30}",
)
def test_what_is_no_column(values):
    with pytest.raises(InvalidArgument, match="air"):
        Column.of(values, "air")


@many
@given(anything)
def test_anything_is_a_column_or_refused(values):
    try:
        column = Column.of(values)
    except InvalidArgument:
        return
    assert json.dumps(column.to_list(), allow_nan=False)


@many
@given(lists_with_nulls, st.data())
def test_numbers_are_floats_with_nan_for_null(values, data):
    column = Column.of(values)
    if column.type == "string":
        with pytest.raises(InvalidArgument):
            column.numbers()
    else:
        expected = [math.nan if value is None else float(value) for value in values]
        assert np.array_equal(column.numbers(), np.array(expected, np.float64), equal_nan=True)


# Blocks


@many
@given(rows())
def test_rows_come_back(table):
    block = block_of(table)
    assert is_sound(block)
    assert table_of(block) == told(table)


@many
@given(st.lists(st.tuples(st.integers(0, 8), st.none() | st.floats(allow_nan=False)), max_size=12))
def test_rows_in_any_order_and_the_last_of_equal_times_counts(pairs):
    block = Block.of([t for t, _ in pairs], {"a": [value for _, value in pairs]})
    assert is_sound(block)
    assert table_of(block) == told({t: {"a": value} for t, value in pairs})


def test_one_row():
    block = Block.of(1.5, {"a": 1, "label": "x", "gone": None})
    assert is_sound(block)
    assert table_of(block) == {1_500_000: {"a": 1, "label": "x"}}
    assert block == Block.of([1.5], {"a": [1], "label": ["x"], "gone": [None]})
    assert Block.of(np.float64(1.5), {"a": 1}) == Block.of(np.array(1.5), {"a": 1})


@pytest.mark.parametrize(
    ("t", "values"),
    [
        (None, {}),
        ("1", {}),
        (True, {}),
        (math.nan, {"a": 1}),
        (math.inf, {"a": 1}),
        (1e300, {"a": 1}),
        (10**400, {"a": 1}),
        ([1, None], {}),
        (["1"], {}),
        ([[1.0]], {}),
        ([[1], [2, 3]], {}),
        ([1, math.nan], {"a": [1, 2]}),
        ([1, 2], {"a": [1]}),
        ([1, 2], {"a": 1}),
        ([1, 2], {"a": "xy"}),
        (1, {"a": [1]}),
        (1, {"": 1}),
        (1, {5: 1}),
        (1, {"a\n": 1}),
        (1, [1]),
        (1, None),
        (1, {"a": object()}),
        (1, {"a": b"x"}),
    ],
)
def test_what_is_no_block(t, values):
    with pytest.raises(InvalidArgument):
        Block.of(t, values)


@many
@given(anything, st.dictionaries(text, anything, max_size=2) | anything)
def test_anything_is_a_block_or_refused(t, values):
    try:
        block = Block.of(t, values)
    except InvalidArgument:
        return
    assert is_sound(block)


def test_times_end_before_the_ends_of_time():
    near = np.array([EARLIEST, LATEST]) / 1e6 * (1 - 1e-12)
    assert (np.abs(micros_of(near)) < LATEST).all()
    for end in (EARLIEST, LATEST):
        with pytest.raises(InvalidArgument):
            micros_of([end / 1e6])


@many
@given(rows(), st.integers(-1, 31), st.integers(-1, 31))
def test_ranges_are_half_open(table, start, end):
    block = block_of(table).between(start * 1_000_000, end * 1_000_000)
    assert table_of(block) == told({t: row for t, row in table.items() if start <= t < end})


def merged(*tables):
    """The model: at a time that both have, the fields that the newer names are replaced, the others stay."""
    whole = {}
    for table in tables:
        for t, row in table.items():
            whole.setdefault(t, {}).update(row)
    return whole


@many
@given(rows(), rows())
def test_merge_does_as_dicts_do(old, new):
    block = merge(block_of(old), block_of(new))
    assert is_sound(block)
    assert table_of(block) == told(merged(old, new))


@many
@given(st.lists(rows(max_rows=4), max_size=5))
def test_merging_on_and_on(tables):
    block = block_of({})
    for table in tables:
        block = merge(block, block_of(table))
    assert table_of(block) == told(merged(*tables))


@many
@given(st.lists(rows(max_rows=4), max_size=5))
def test_concat_puts_blocks_in_a_row(tables):
    shifted = [{t + 100 * at: row for t, row in table.items()} for at, table in enumerate(tables)]
    block = concat(block_of(table) for table in shifted)
    assert is_sound(block)
    assert table_of(block) == told(merged(*shifted))


@pytest.mark.parametrize("join", [merge, lambda old, new: concat((old, new))], ids=["merge", "concat"])
@pytest.mark.parametrize("values", [(1, "a"), (True, 1), ("a", False), (0.5, True)])
def test_a_field_has_one_type(join, values):
    old, new = (Block.of(t, {"a": value}) for t, value in enumerate(values, 1))
    with pytest.raises(InvalidArgument, match="a mixes"):
        join(old, new)


@pytest.mark.parametrize("value", [1, 0.5, True, "x"])
@pytest.mark.parametrize("times", [(1, 2), (2, 1), (1, 1)])
def test_a_null_fits_a_field_of_any_type(value, times):
    with_value, null = Block.of(times[0], {"a": value}), Block.of(times[1], {"a": None})
    expected = {times[0] * 1_000_000: {"a": value}, times[1] * 1_000_000: {}}
    assert table_of(merge(with_value, null)) == expected
    back = merge(null, with_value)
    assert table_of(back) == expected | {times[0] * 1_000_000: {"a": value}}
    assert back.columns["a"].type == with_value.columns["a"].type


def test_equality_looks_at_what_is_there():
    one = Column(np.array([1.0, 7.0]), np.array([True, False]))
    other = Column(np.array([1.0, 8.0]), np.array([True, False]))
    assert one == other
    assert one != Column(np.array([1.0, 7.0]))
    assert Column.of([math.nan]) == Column.of([math.nan])
    assert Column.of([1]) != Column.of([1.0])
    assert one != [1.0, None]
    assert Block.of(1, {"a": 1}) != Block.of(1, {"b": 1})
    assert Block.of(1, {"a": 1}) != Block.of(2, {"a": 1})


def test_nulls_of_all_types_fit_each_other():
    old = Block.of([1, 2, 3, 4], {"a": [None, None, None, "x"]})
    block = merge(old, Block.of(1, {"a": None}))
    assert table_of(block) == {1_000_000: {}, 2_000_000: {}, 3_000_000: {}, 4_000_000: {"a": "x"}}
    nothing = concat((Block.of(1, {"a": None}), old.take(slice(1, 2))))
    assert table_of(nothing) == {1_000_000: {}, 2_000_000: {}}
