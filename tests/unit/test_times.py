"""Times: as people write them, as the wire has them, as microseconds."""

from __future__ import annotations

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sisock import times
from sisock.errors import InvalidArgument
from tests.unit.strategies import anything, many

# From 1970 to 2105, in microseconds.
micros = st.integers(1, 2**52)


@many
@given(micros)
def test_microseconds_survive_seconds(us):
    assert times.to_micros(times.to_seconds(us)) == us


@pytest.mark.parametrize("far", [1e300, math.inf, 10**400, 2**62 / 1e6])
def test_beyond_the_ends_of_time_are_the_ends_of_time(far):
    assert times.to_micros(far) == times.LATEST
    assert times.to_micros(-far) == times.EARLIEST


def test_the_wires_convention():
    assert times.resolve(0, 1000.0) == 1000.0
    assert times.resolve(-600, 1000.0) == 400.0
    assert times.resolve(1, 1000.0) == 1
    assert abs(times.resolve(0) - times.now()) < 60


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("1.5h", 5400),
        ("2d", 172800),
        ("1w", 604800),
        ("1y", 31557600),
        ("250ms", 0.25),
        ("10us", 1e-5),
        ("12", 12),
        (" 5 m ", 300),
        ("-5m", -300),
        ("+5m", 300),
        (".5", 0.5),
        ("1.", 1),
    ],
)
def test_lengths_of_time(text, seconds):
    assert times.parse_duration(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    "text", ["", "s", "5x", "5M", "1e3", "nan", "inf", "--5s", "5s5s", "1,5h", "9" * 400, "9" * 5000, "5 minutes"]
)
def test_what_is_no_length_of_time(text):
    with pytest.raises(InvalidArgument, match="no length of time"):
        times.parse_duration(text)


@pytest.mark.parametrize(
    ("text", "t"),
    [
        ("now", 0),
        ("0", 0),
        ("-10m", -600),
        ("-1.5h", -5400),
        ("-90", -90),
        ("2017-07-14", 1499990400),
        ("2017-07-14T12:30", 1500035400),
        ("2017-07-14T12:30Z", 1500035400),
        ("2017-07-14 14:30:00.25+02:00", 1500035400.25),
        ("1500000000.5", 1500000000.5),
        ("1970-01-01T00:00:01", 1),
        ("1970-01-01T00:00-01:00", 3600),
    ],
)
def test_times_as_people_write_them(text, t):
    assert times.parse_time(text) == t


@pytest.mark.parametrize("text", ["", "yesterday", "10m", "2017-13-01", "inf", "-inf", "nan", "-" + "9" * 400, "12:30"])
def test_what_is_no_time(text):
    with pytest.raises(InvalidArgument):
        times.parse_time(text)


def test_a_time_ahead_is_not_taken_for_one_in_1970():
    with pytest.raises(InvalidArgument):
        times.parse_time("+10m")


@pytest.mark.parametrize("text", ["1970-01-01", "1969-07-20", "0001-01-01", "1970-01-01T00:00+01:00"])
def test_a_date_before_1970_is_not_taken_for_a_time_before_now(text):
    with pytest.raises(InvalidArgument, match="too early"):
        times.parse_time(text)


@many
@given(st.text(max_size=20) | st.from_regex(r"[-+]?[0-9]{0,4}[-T:. a-z]{0,2}[0-9]{0,4}[-T:.smhdZ+]?[0-9]{0,2}", fullmatch=True))
def test_any_text_is_a_finite_time_or_refused(text):
    for parse in (times.parse_time, times.parse_duration):
        with suppress(InvalidArgument):
            assert math.isfinite(parse(text))


@many
@given(micros)
def test_a_shown_time_is_read_again(us):
    text = times.iso(times.to_seconds(us))
    assert times.to_micros(times.parse_time(text)) == us


@pytest.mark.parametrize(
    ("t", "text"),
    [
        (1499990400, "2017-07-14T00:00:00Z"),
        (1499990400.25, "2017-07-14T00:00:00.25Z"),
        (1499990400.000001, "2017-07-14T00:00:00.000001Z"),
        (100, "1970-01-01T00:01:40Z"),
        (-1, "1969-12-31T23:59:59Z"),
        (4e12, "4000000000000.0 s"),
        (1e300, "1e+300 s"),
    ],
)
def test_times_for_people(t, text):
    assert times.iso(t) == text


@many
@given(anything)
def test_seconds_are_finite_numbers(value):
    number = type(value) is float or (type(value) is int and abs(value) < 2**1024)
    assert times.is_seconds(value) == (number and math.isfinite(value))
