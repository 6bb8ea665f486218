"""Fields and timelines, and what a node tells of them on the wire (contract A6)."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sisock.errors import InvalidArgument
from sisock.fields import TYPES, Catalogue, Field, Timeline
from tests.unit.strategies import anything, many, text

labels = st.none() | text
field_names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=10)
fields = st.builds(Field, labels, labels, st.sampled_from(TYPES), field_names)


def test_the_form_on_the_wire():
    catalogue = Catalogue(
        {
            "air": Field("Air temperature", "degC"),
            "label": Field(type="string", timeline="events"),
            "wind": Field(units="m/s"),
        },
        {"t": Timeline(2.5, 10.0), "events": Timeline(), "unused": Timeline(1)},
    )
    assert catalogue.to_wire() == [
        {
            "air": {"description": "Air temperature", "timeline": "t", "type": "number", "units": "degC"},
            "label": {"description": None, "timeline": "events", "type": "string", "units": None},
            "wind": {"description": None, "timeline": "t", "type": "number", "units": "m/s"},
        },
        {"t": {"interval": 2.5, "field": ["air", "wind"]}, "events": {"interval": None, "field": ["label"]}},
    ]


def test_an_empty_catalogue():
    assert Catalogue().to_wire() == [{}, {}]


@many
@given(st.dictionaries(field_names, fields, max_size=5), st.none() | st.floats(0, 1e9))
def test_a_catalogue_survives_the_wire(members, interval):
    catalogue = Catalogue(members, {spec.timeline: Timeline(interval) for spec in members.values()})
    wire = catalogue.to_wire()
    assert Catalogue.from_wire(json.loads(json.dumps(wire, allow_nan=False))) == catalogue


def test_a_part_of_a_catalogue():
    catalogue = Catalogue({"a": Field(), "b": Field(timeline="u")}, {"t": Timeline(1), "u": Timeline(2)})
    assert catalogue.only(["b"]) == Catalogue({"b": Field(timeline="u")}, {"u": Timeline(2)})
    assert catalogue.only([]) == Catalogue()


@pytest.mark.parametrize(
    "spec", [{"type": "float"}, {"type": None}, {"type": []}, {"timeline": ""}, {"units": 5}, {"description": b"x"}]
)
def test_what_is_no_field(spec):
    with pytest.raises(InvalidArgument):
        Field(**spec)


@pytest.mark.parametrize(
    "spec",
    [
        {"interval": "5"},
        {"interval": math.nan},
        {"interval": True},
        {"interval": 10**400},
        {"lateness": -1},
        {"lateness": math.inf},
        {"lateness": None},
    ],
)
def test_what_is_no_timeline(spec):
    with pytest.raises(InvalidArgument):
        Timeline(**spec)


def test_numpys_intervals_are_numbers_on_the_wire():
    wire = Catalogue({"a": Field()}, {"t": Timeline(np.int64(5))}).to_wire()
    assert json.loads(json.dumps(wire))[1]["t"]["interval"] == 5


def test_the_median_spacing_of_no_rows_is_none():
    """Nodes of the old package tell NaN there."""
    catalogue = Catalogue.from_wire([{"a": {"timeline": "t"}}, {"t": {"interval": math.nan, "field": ["a"]}}])
    assert catalogue.timeline("t").interval is None


@many
@given(
    anything
    | st.tuples(
        st.dictionaries(text, st.dictionaries(st.sampled_from(["type", "timeline", "units"]), anything), max_size=2),
        st.dictionaries(text, st.dictionaries(st.sampled_from(["interval", "field"]), anything), max_size=2),
    )
)
def test_any_answer_is_a_catalogue_or_refused(wire):
    try:
        catalogue = Catalogue.from_wire(wire)
    except InvalidArgument:
        return
    json.dumps(catalogue.to_wire(), allow_nan=False)
