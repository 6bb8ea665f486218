"""What a notebook shows."""

from __future__ import annotations

import math
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from sisock.blocks import Block
from sisock.client.catalogue import Fields
from sisock.client.data import Rows
from sisock.client.glance import Glance, Seen
from sisock.client.html import MOST, ago, fields_html, hub_html, node_html, sparkline
from sisock.fields import Catalogue, Field
from tests.unit.strategies import some

EVIL = '<script>alert("1")</script>&\'><img src=x onerror=alert(2)>'
# XML allows fewer characters than a browser shows.
TEXTS = st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=40)


def tags(html):
    return {element.tag for element in ET.fromstring(html).iter()}


TABLE = {"div", "table", "thead", "tbody", "tr", "th", "td", "code", "b", "small", "svg", "title", "polyline", "circle"}


@some
@given(TEXTS, st.one_of(TEXTS, st.floats(allow_nan=True), st.booleans(), st.none()))
def test_whatever_a_node_says_is_text(text, value):
    shown = text + EVIL
    catalogue = Catalogue({shown: Field(shown, shown, timeline="t")})
    glance = Glance({"t": 1.0}, {shown: value if not isinstance(value, str) else value + EVIL}, {shown: [1.0, 2.0]}, shown)
    made = [
        node_html(shown, shown, catalogue, glance),
        fields_html(shown, catalogue, glance),
        hub_html(shown, [Seen(shown, shown, 1, 2.0), Seen(shown, shown, problem=shown)], shown),
        Rows(shown, "t", catalogue.fields, Block.of([1.0], {shown: [1.0]}))._repr_html_(),
        # A field of texts that says it is a number.
        Rows("n", "t", {shown: Field()}, Block.of([1.0], {shown: [shown]}))._repr_html_(),
        Rows("n", "t", {shown: Field(type="string")}, Block.of([1.0], {shown: [shown]}))._repr_html_(),
    ]
    for html in made:
        assert tags(html) <= TABLE
        assert shown in " ".join(ET.fromstring(html).itertext())


@some
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=30))
def test_a_line_lies_in_its_frame(values):
    drawn = sparkline(values, "x")
    if not any(map(math.isfinite, values)):
        assert drawn == ""
        return
    svg = ET.fromstring(drawn)
    points = [pair for element in svg.iter("polyline") for pair in element.get("points").split()]
    points += [f"{element.get('cx')},{element.get('cy')}" for element in svg.iter("circle")]
    assert len(points) == sum(map(math.isfinite, values))
    for x, y in (map(float, point.split(",")) for point in points):
        assert 0 <= x <= float(svg.get("width"))
        assert 0 <= y <= float(svg.get("height"))


def test_how_long_ago():
    shown = [ago(1000.0 - age, 1000.0) for age in (0.0, 2.5, 59, 90, 7200, 86400 * 3, 86400 * 800, -4)]
    assert shown == ["0 s ago", "2.5 s ago", "59 s ago", "1.5 min ago", "2 h ago", "3 d ago", "2.2 y ago", "in 4 s"]


def test_a_node_of_many_fields_is_shown_in_part():
    catalogue = Catalogue({f"f{i}": Field() for i in range(1000)})
    html = fields_html("roof", catalogue, Glance())
    assert html.count("<tr>") == MOST + 1
    assert "1000 fields; the first 200 are shown." in html


def test_fields_without_a_hub_show_what_is_known():
    fields = Fields("roof", Catalogue({"air": Field("Air", "degC"), "n": Field()}))
    assert "[degC]" in fields._repr_html_()
    assert repr(fields) == "<2 fields of roof>\nair  [degC] Air\nn"
    assert ("air" in fields, "x" in fields, len(fields)) == (True, False, 2)
    assert fields.timelines["t"].interval is None
