"""Rows, and what they turn into."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sisock.blocks import Block, Column, concat
from sisock.client.data import Data, Gap, Rows, whole
from sisock.client.gathering import Gathered, copied
from sisock.errors import InvalidArgument, NotInstalled, UnknownField
from sisock.fields import Field
from sisock.followed import Followed, Missing
from sisock.positions import Position
from tests.unit.strategies import blocks, some

T = 1_500_000_000.0
FIELDS = {
    "temp": Field("Air temperature", "degC"),
    "count": Field(units="1"),
    "open": Field(type="bool"),
    "note": Field(type="string"),
}
BIG = 2**60 + 1


def rows(**changes):
    values = {
        "temp": [1.5, None, float("nan")],
        "count": [BIG, None, 3],
        "open": [True, None, False],
        "note": ["a", None, "<b>"],
    }
    block = Block.of([T, T + 1, T + 2.000001], values)
    about = {"finalized_until": T, "position": Position("e", 4), **changes}
    return Rows("roof", "t", FIELDS, copied([block]), **about)


def two():
    hourly = Rows(
        "roof", "hourly", {"wind": Field(units="m/s", timeline="hourly")}, Block.of([T + 1, T + 9], {"wind": [7.0, 8.0]}), T
    )
    fields = {**FIELDS, "wind": hourly.fields["wind"]}
    return Data("roof", fields, {"t": rows(finalized_until=T + 5), "hourly": hourly})


def test_pandas_has_utc_times_right_types_and_units():
    frame = rows().to_pandas()
    assert frame.index.name == "time"
    assert str(frame.index.tz) == "UTC"
    assert frame.index[0] == pd.Timestamp(T, unit="s", tz="UTC")
    assert frame.index[2] - frame.index[0] == pd.Timedelta(microseconds=2_000_001)
    assert frame.dtypes.astype(str).to_dict() == {"temp": "float64", "count": "Int64", "open": "boolean", "note": "string"}
    assert frame["temp"].isna().tolist() == [False, True, True]
    assert frame["count"].tolist() == [BIG, pd.NA, 3]
    assert frame["open"].tolist() == [True, pd.NA, False]
    assert frame["note"].tolist() == ["a", pd.NA, "<b>"]
    assert frame.attrs["units"] == {"temp": "degC", "count": "1", "open": None, "note": None}
    assert frame.attrs["descriptions"]["temp"] == "Air temperature"
    assert frame.attrs["position"] == {"t": {"epoch": "e", "seq": 4}}
    assert json.loads(json.dumps(frame.attrs)) == frame.attrs, "pandas keeps them in a file as JSON"


def test_without_nulls_numbers_are_numpys_and_not_copied():
    block = copied([Block.of([T, T + 1], {"temp": [1.0, 2.0], "count": [1, 2], "open": [True, False], "note": ["", "x"]})])
    made = Rows("roof", "t", FIELDS, block)
    frame = made.to_pandas()
    assert frame.dtypes.astype(str).to_dict() == {"temp": "float64", "count": "int64", "open": "bool", "note": "string"}
    time, values = made.to_numpy()
    for shared in (frame["temp"].to_numpy(), values["temp"], made["temp"]):
        assert np.shares_memory(shared, block.columns["temp"].values)
    assert np.shares_memory(time, block.t)
    assert np.shares_memory(frame.index.asi8, block.t)
    frame.loc[frame.index[0], "temp"] = 5.0
    assert frame["temp"].iloc[0] == 5.0


def test_numpy_has_nan_and_none_for_nulls():
    time, values = rows().to_numpy()
    assert time.dtype == "datetime64[us]"
    assert time[0] == np.datetime64(datetime.fromtimestamp(T, UTC).replace(tzinfo=None))
    np.testing.assert_array_equal(values["temp"], [1.5, np.nan, np.nan])
    np.testing.assert_array_equal(values["count"], [float(BIG), np.nan, 3.0])
    assert values["open"].tolist() == [True, None, False]
    assert values["note"].tolist() == ["a", None, "<b>"]
    assert rows().t.tolist() == [T, T + 1, T + 2.000001]


def test_arrow_tells_null_from_nan_and_has_units():
    table = rows().to_arrow()
    assert table.schema.names == ["t", *FIELDS]
    assert table.schema.field("t").type == pa.timestamp("us", "UTC")
    assert table["temp"].null_count == 1
    assert np.isnan(table["temp"][2].as_py())
    assert table["count"].to_pylist() == [BIG, None, 3]
    assert table["open"].to_pylist() == [True, None, False]
    assert table.schema.field("temp").metadata == {b"units": b"degC", b"description": b"Air temperature"}
    assert table.schema.metadata[b"node"] == b"roof"
    assert json.loads(table.schema.metadata[b"position"]) == {"t": {"epoch": "e", "seq": 4}}


def test_xarray_has_units_and_long_names(tmp_path):
    dataset = rows().to_xarray()
    assert dataset["temp"].attrs == {"units": "degC", "long_name": "Air temperature"}
    assert dataset["count"].attrs == {"units": "1", "long_name": "count"}
    assert dataset["temp"].dims == ("time",)
    assert float(dataset["temp"].sel(time="2017-07-14T02:40:00", method="nearest")) == 1.5
    strange = Rows("roof", "t", {"time": Field()}, Block.of([T], {"time": [1.0]}))
    with pytest.raises(InvalidArgument, match="'time'"):
        strange.to_xarray()
    assert list(strange.to_pandas().columns) == ["time"]


def test_several_timelines_are_joined_on_time():
    data = two()
    frame = data.to_pandas()
    assert list(frame.columns) == [*FIELDS, "wind"]
    assert len(frame) == len(data) == 4
    assert frame["wind"].isna().tolist() == [True, False, True, False]
    assert frame["temp"].tolist()[0] == 1.5
    assert data.finalized_until == T
    assert data.position is None
    assert frame.attrs["finalized_until"] == {"t": T + 5, "hourly": T}
    assert list(data.timelines) == ["t", "hourly"]
    assert len(data.timelines["hourly"].to_pandas()) == 2
    assert data.to_xarray()["wind"].attrs["units"] == "m/s"
    assert data.to_arrow()["wind"].to_pylist() == [None, 7.0, None, 8.0]


def test_a_field_without_rows_is_there_with_its_type():
    empty = Block.of([], {})
    data = Data("roof", FIELDS, {"t": Rows("roof", "t", FIELDS, whole(empty, FIELDS))})
    assert len(data) == 0
    assert data.to_pandas().dtypes.astype(str).to_dict() == {
        "temp": "float64",
        "count": "float64",
        "open": "bool",
        "note": "string",
    }
    assert data.to_arrow().schema.field("note").type == pa.string()
    assert data.to_numpy()[0].dtype == "datetime64[us]"
    assert data.to_xarray().sizes == {"time": 0}
    assert "0 rows" in repr(data)
    assert "0 rows" in data._repr_html_()
    part = Rows("roof", "t", FIELDS, whole(Block.of([T], {"temp": [1.0]}), FIELDS))
    assert part.to_pandas()["note"].isna().all()
    with pytest.raises(UnknownField, match="temp, count"):
        data["nothing"]


def test_a_plot_has_an_axis_a_unit(monkeypatch):
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    axes = two().plot()
    assert [axis.get_ylabel() for axis in axes] == ["temp [degC]", "count [1]", "open", "wind [m/s]"]
    (line,) = axes[3].get_lines()
    assert line.get_ydata().tolist() == [7.0, 8.0]
    assert line.get_xdata()[0] == np.datetime64("2017-07-14T02:40:01")
    _, mine = pyplot.subplots()
    assert two().plot(mine, color="red") is mine
    assert {line.get_color() for line in mine.get_lines()} == {"red"}
    with pytest.raises(InvalidArgument, match="no field is a number"):
        Rows("roof", "t", {"note": FIELDS["note"]}, Block.of([T], {"note": ["x"]})).plot()
    pyplot.close("all")


@pytest.mark.parametrize(("package", "turn"), [("pandas", "to_pandas"), ("xarray", "to_xarray"), ("matplotlib.pyplot", "plot")])
def test_what_is_not_installed_is_named_with_what_to_install(monkeypatch, package, turn):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=re.escape("pip install 'sisock[notebook]'")) as error:
        getattr(rows(), turn)()
    assert isinstance(error.value, NotInstalled)


def test_what_is_followed():
    block = Block.of([T], {"temp": [1.0]})
    made = Rows.of("roof", FIELDS, Followed("t", block, ((1_000_000, 2_500_000),), Position("e", 1), T))
    assert (made.timeline, made.revises, made.position, made.finalized_until) == ("t", ((1.0, 2.5),), Position("e", 1), T)
    assert made["temp"].tolist() == [1.0]
    assert made.to_pandas()["note"].isna().all()
    gap = Gap.named("roof", FIELDS, Missing("t", 1_000_000, 2_000_000, "it was deleted"))
    assert (gap.timeline, gap.start, gap.end, gap.reason) == ("t", 1.0, 2.0, "it was deleted")
    assert len(gap) == len(gap["temp"]) == len(gap.to_pandas()) == 0
    assert repr(gap) == "<gap in roof/t, 1970-01-01T00:00:01Z to 1970-01-01T00:00:02Z: it was deleted>"


@some
@given(st.lists(blocks(), max_size=5))
def test_what_is_gathered_is_what_came(parts):
    end, moved = 0, []
    for part in parts:
        if len(part):
            moved.append(Block(part.t - part.t[0] + end + 1, part.columns))
            end = int(moved[-1].t[-1])
    try:
        expected = concat(moved)
    except InvalidArgument:
        with pytest.raises(InvalidArgument):
            copied(moved)
        return
    gathered = Gathered(1)
    for part in moved:
        gathered.add(part)
    assert gathered.block() == copied(moved) == expected
    assert all(column.values.flags.writeable for column in gathered.block().columns.values())


def test_a_node_that_counts_too_many_rows_takes_no_memory():
    assert len(Gathered(10**15)._t) <= 50_000_000
    assert len(Gathered(-1)._t) == 0


def test_a_column_may_begin_with_nulls_of_another_type():
    gathered = Gathered()
    gathered.add(Block.of([1], {"x": [None], "y": [1]}))
    gathered.add(Block.of([2], {"x": ["text"], "y": [2.5]}))
    gathered.add(Block.of([3], {"y": [None]}))
    assert gathered.block() == Block.of([1, 2, 3], {"x": [None, "text", None], "y": [1.0, 2.5, None]})
    with pytest.raises(InvalidArgument, match="x mixes"):
        gathered.add(Block.of([4], {"x": [1.0]}))
    assert isinstance(gathered.block().columns["x"], Column)
