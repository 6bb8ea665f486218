"""Windows: one value of each stretch of an exact grid, in every form in which they are asked for."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sisock import DataNode, Field
from sisock.blocks import Block
from sisock.errors import InvalidArgument, TooMuch
from sisock.fields import Catalogue
from sisock.requests import DataRequest, rows_with_values
from sisock.windows import WINDOW_METHODS, Windows, windowed, windowed_pages
from tests.store.model import Model, cells, same

VALUES = {
    "x": st.none() | st.floats(-1e9, 1e9) | st.sampled_from([math.nan, math.inf, -math.inf]),
    "n": st.none() | st.integers(-1000, 1000),
    "b": st.none() | st.booleans(),
}


@st.composite
def blocks(draw):
    t = sorted(draw(st.sets(st.integers(1, 300), min_size=1, max_size=30)))
    columns = {name: draw(st.lists(kind, min_size=len(t), max_size=len(t))) for name, kind in VALUES.items()}
    # Without any value a column has no type of its own.
    return Block.of(t, {name: values for name, values in columns.items() if any(value is not None for value in values)})


@given(
    blocks(),
    st.builds(
        Windows,
        *(
            st.integers(low, high).map(lambda second: second * 1_000_000)
            for low, high in ((-20, 200), (0, 400), (1, 90), (1, 150))
        ),
    ),
    st.sampled_from(WINDOW_METHODS),
)
def test_a_window_has_what_its_rows_have(block, windows, method):
    model = Model()
    model.append(block)
    with np.errstate(all="ignore"):
        shown = windowed(block, windows, method)
    cut = [0, len(block) // 3, len(block) // 2, len(block)]
    pages = [block.take(slice(start, end)) for start, end in itertools.pairwise(cut)]
    paged = windowed_pages([page.between(windows.start, windows.end) for page in pages], windows, method)
    whole = windowed(block.between(windows.start, windows.end), windows, method)
    paged, whole = rows_with_values(paged), rows_with_values(whole)
    assert paged == whole if len(whole) else not len(paged)
    for name in block.columns:
        if method == "last":
            assert model.last_of_windows(name, windows) <= set(shown.t.tolist())
            continue
        got = {t: v for t, v in zip(shown.t.tolist(), cells(shown.columns[name]), strict=True) if v is not None}
        expected = model.windowed(name, windows, method)
        assert got.keys() == expected.keys()
        for t, (value, scale) in expected.items():
            assert same(got[t], value) or math.isclose(got[t], value, rel_tol=1e-9, abs_tol=1e-9 * scale)


class Roof(DataNode):
    """A minute a second."""

    name = "roof"
    fields = {"air": Field(units="degC"), "sky": Field(type="string")}


@pytest.fixture
def roof():
    node = Roof()
    node.append("t", 1000.0 + np.arange(100.0), {"air": np.arange(100.0), "sky": [str(i) for i in range(100)]}).result()
    return node


def test_lists_hold_a_value_a_window_at_its_beginning(roof):
    answer = roof.answer(DataRequest.of(["air"], 995.0, 1030.0, step=10, method="max"))
    assert answer["timeline"]["t"]["t"] == [995.0, 1005.0, 1015.0, 1025.0]
    assert answer["data"]["air"] == [4.0, 14.0, 24.0, 29.0]
    wide = roof.answer(DataRequest.of(["air"], 1000.0, 1030.0, step=10, width=20, method="count"))
    assert wide["data"]["air"] == [20.0, 20.0, 10.0]
    assert roof.answer(DataRequest.of(["air"], 1000.0, 1030.0, step=10))["data"]["air"] == [4.5, 14.5, 24.5]


def test_an_open_end_is_the_newest_row(roof):
    answer = roof.answer(DataRequest.of(["air"], 1090.0, None, step=4, method="sum"))
    assert answer["timeline"]["t"]["t"] == [1090.0, 1094.0, 1098.0]
    assert answer["data"]["air"] == [90.0 + 91 + 92 + 93, 94.0 + 95 + 96 + 97, 98.0 + 99]
    assert answer["position"]


def test_the_last_rows_of_windows_are_rows_with_their_texts(roof):
    answer = roof.answer(DataRequest.of(["air", "sky"], 1000.0, 1020.0, step=10, width=3, method="last"))
    assert answer["timeline"]["t"]["t"] == [1002.0, 1012.0]
    assert answer["data"] == {"air": [2.0, 12.0], "sky": ["2", "12"]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"step": 0},
        {"step": -1},
        {"step": "60"},
        {"step": math.nan},
        {"step": True},
        {"width": 5},
        {"step": 1, "width": 0},
        {"step": 1, "method": "lttb"},
        {"method": "sum"},
        {"step": 1, "max_points": 10},
        {"step": 1, "min_stride": 10},
        {"step": 1, "since": {}},
    ],
    ids=str,
)
def test_what_does_not_fit_is_said(wrong):
    with pytest.raises(InvalidArgument):
        DataRequest.of(["air"], 1.0, 2.0, **wrong)


def test_windows_have_a_limit(roof):
    with pytest.raises(TooMuch):
        roof.answer(DataRequest.of(["air"], 1.0, 2e6, step=0.001))
    assert roof.answer(DataRequest.of(["air", "sky"], 1000.0, 91_000.0, step=1, method="count")) is False


@pytest.mark.parametrize(
    "labels", [{"node": "a"}, {"field": "a"}, {"__name__": "a"}, {"1a": "a"}, {"a-b": "a"}, {"a": 1}, ["a"], {"a": "x" * 256}]
)
def test_labels_are_checked(labels):
    with pytest.raises(InvalidArgument):
        Field(labels=labels)


def test_labels_travel_where_there_are_any():
    plain, labelled = Field(units="V"), Field(units="V", labels={"chip": "one"})
    assert plain.to_wire() == {"description": None, "timeline": "t", "type": "number", "units": "V"}
    told = Catalogue({"a": plain, "b": labelled}).to_wire()
    assert told[0]["b"]["labels"] == {"chip": "one"}
    assert Catalogue.from_wire(told).fields == {"a": plain, "b": labelled}
    with pytest.raises(InvalidArgument):
        Field(labels={f"a{i}": "x" for i in range(17)})
    assert hash(labelled) == hash(Field(units="V", labels={"chip": "one"}))
