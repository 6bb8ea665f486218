"""Times as programs write them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sisock.client.when import micros_of_time, seconds_of_duration, span, timeout_of
from sisock.errors import InvalidArgument
from sisock.times import LATEST, now
from tests.unit.strategies import some

NOON = 1_500_033_600_000_000


@pytest.mark.parametrize(
    "written",
    [
        1_500_033_600,
        1_500_033_600.0,
        np.float64(1_500_033_600),
        np.int64(1_500_033_600),
        "1500033600",
        "2017-07-14T12:00",
        "2017-07-14T12:00Z",
        "2017-07-14T14:00+02:00",
        datetime(2017, 7, 14, 12),
        datetime(2017, 7, 14, 12, tzinfo=UTC),
        datetime(2017, 7, 14, 14, tzinfo=timezone(timedelta(hours=2))),
        np.datetime64("2017-07-14T12:00"),
        np.datetime64("2017-07-14T12", "h"),
        np.datetime64("2017-07-14T12:00:00.000000000", "ns"),
        pd.Timestamp("2017-07-14T12:00"),
        pd.Timestamp("2017-07-14T14:00", tz="Europe/Berlin"),
    ],
    ids=repr,
)
def test_all_ways_to_write_one_time_are_it(written):
    assert micros_of_time(written) == NOON


def test_a_date_is_its_midnight_in_utc():
    assert micros_of_time(date(2017, 7, 14)) == NOON - 12 * 3600 * 1_000_000


@pytest.mark.parametrize(
    ("written", "ago"),
    [
        (0, 0),
        ("now", 0),
        (-600, 600),
        ("-10m", 600),
        (timedelta(minutes=-10), 600),
        (np.timedelta64(-10, "m"), 600),
        (pd.Timedelta("-10min"), 600),
    ],
    ids=repr,
)
def test_what_counts_from_now(written, ago):
    before = now()
    found = micros_of_time(written) / 1e6 + ago
    assert before - 1e-3 <= found <= now() + 1e-3


@pytest.mark.parametrize(
    "wrong",
    [
        *(None, True, "yesterday", "", [], {}, Ellipsis, float("nan"), float("inf"), 1j, b"-10m", np.array([1.0])),
        *(np.datetime64("NaT"), np.timedelta64("NaT"), pd.NaT),
        *("1969-01-01", datetime(1969, 1, 1), date(1960, 1, 1), np.datetime64("1950-01-01")),
    ],
    ids=repr,
)
def test_what_is_no_time_is_named(wrong):
    with pytest.raises(InvalidArgument, match=r"^start"):
        micros_of_time(wrong, "start")


def test_before_the_beginning_is_the_beginning():
    assert micros_of_time("-100y") == micros_of_time(timedelta(days=-100_000)) == 1
    assert micros_of_time(1e300) == LATEST


@some
@given(st.datetimes(datetime(1970, 1, 1, 0, 0, 0, 1), datetime(9999, 1, 1)))
def test_a_datetime_is_exact_to_the_microsecond(moment):
    micros = micros_of_time(moment)
    assert datetime(1970, 1, 1) + timedelta(microseconds=micros) == moment
    assert micros_of_time(np.datetime64(moment)) == micros


def test_a_range():
    assert span(1, None) == (1_000_000, LATEST)
    assert span("2017-07-14", "2017-07-14") == (NOON - 43_200_000_000,) * 2
    with pytest.raises(InvalidArgument, match="later than end"):
        span("2017-07-15", "2017-07-14")
    with pytest.raises(InvalidArgument, match=r"^end"):
        span(1, "never")


def test_lengths_of_time():
    for written in (90, 90.0, "90s", "1.5m", timedelta(seconds=90), np.timedelta64(90, "s"), pd.Timedelta("90s")):
        assert seconds_of_duration(written, "min_stride") == 90
    for wrong in (-1, "-1s", "much", None, True, [], np.timedelta64("NaT")):
        with pytest.raises(InvalidArgument, match=r"no length of time|min_stride"):
            seconds_of_duration(wrong, "min_stride")
    assert timeout_of(3, "timeout") == 3
    for wrong in (0, -1, "3", None, True, float("inf")):
        with pytest.raises(InvalidArgument, match="timeout"):
            timeout_of(wrong, "timeout")
