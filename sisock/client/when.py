"""Times as programs write them: numbers, text, and the types of Python, NumPy and pandas."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import numpy as np

from sisock.asking import EARLIEST_ON_WIRE
from sisock.errors import InvalidArgument, shown
from sisock.times import LATEST, is_seconds, now, parse_duration, parse_time, resolve, to_micros

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ACCEPTED = 'UNIX seconds, "now", "-10m", "2017-07-14T12:30", a datetime (UTC unless it names a zone), or one of NumPy or pandas'


def micros_of_time(value: Any, name: str = "time") -> int:
    """Whole microseconds since 1970 of a time; InvalidArgument, with its name, for what is none.

    Numbers and texts are as everywhere in sisock: 0 is now, -600 and "-10m" ten minutes ago. A timedelta counts from now.
    """
    try:
        micros = _micros(value)
    except InvalidArgument as error:
        raise InvalidArgument(f"{name}: {error}") from None
    except (OverflowError, ValueError):
        micros = None
    if micros is None:
        raise InvalidArgument(f"{name} is {ACCEPTED}; not {shown(value)}")
    return min(max(micros, EARLIEST_ON_WIRE), LATEST)


def _micros(value: Any) -> int | None:
    # pandas' Timestamp is a datetime and its Timedelta a timedelta; NumPy's timedelta64 would pass as a number.
    if isinstance(value, str):
        return _since_epoch(parse_time(value))
    if isinstance(value, timedelta):
        return to_micros(now()) + value // timedelta(microseconds=1)
    if isinstance(value, np.timedelta64):
        return None if np.isnat(value) else to_micros(now()) + int(value.astype("timedelta64[us]").astype(np.int64))
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else _absolute(int(value.astype("datetime64[us]").astype(np.int64)), value)
    if isinstance(value, date):
        moment = value if isinstance(value, datetime) else datetime.combine(value, time())
        if moment != moment:
            # pandas' NaT, which is a datetime and yet none.
            return None
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return _absolute((aware - EPOCH) // timedelta(microseconds=1), value)
    return _since_epoch(float(value)) if is_seconds(value) else None


def _since_epoch(seconds: float) -> int:
    return to_micros(resolve(seconds))


def _absolute(micros: int, value: Any) -> int:
    if micros <= 0:
        # On the wire it would be a time before now.
        raise InvalidArgument(f"{shown(value)} is too early: times begin after 1970-01-01T00:00; write 1 for the beginning")
    return micros


def span(start: Any, end: Any) -> tuple[int, int]:
    """The range [start, end) in microseconds; no end is the end of time. InvalidArgument where it ends before it begins."""
    first = micros_of_time(start, "start")
    last = LATEST if end is None else micros_of_time(end, "end")
    if first > last:
        raise InvalidArgument(f"start {shown(start)} is later than end {shown(end)}")
    return first, last


def seconds_of_duration(value: Any, name: str) -> float:
    """Seconds of a length of time: a number, "30s", a timedelta; InvalidArgument for what is none or below 0."""
    if isinstance(value, str):
        seconds = parse_duration(value)
    elif isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, np.timedelta64):
        seconds = float(value / np.timedelta64(1, "s"))
    elif is_seconds(value):
        seconds = float(value)
    else:
        raise InvalidArgument(f'{name} is a number of seconds, "30s" or a timedelta; not {shown(value)}')
    if not seconds >= 0:
        raise InvalidArgument(f"{name} is 0 or more; not {shown(value)}")
    return seconds


def timeout_of(value: Any, name: str) -> float:
    """Seconds that something may take; InvalidArgument for what is no number above 0."""
    if not is_seconds(value) or not value > 0:
        raise InvalidArgument(f"{name} is a number of seconds above 0; not {shown(value)}")
    return float(value)
