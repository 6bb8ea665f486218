"""Readings as senders write them: JSON {"sensor", "value", "timestamp"} (contract E), checked."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from functools import lru_cache
from math import isfinite
from typing import Any, NamedTuple

import orjson

from sisock.errors import InvalidArgument
from sisock.times import MICROS, to_micros
from sisock.uris import check_field_name

# Bytes of a message: the longest name, escaped, has room in it.
MAX_MESSAGE = 4096
FORMAT = "%Y-%m-%d %H:%M:%S"
_KEYS = ("sensor", "value", "timestamp")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Between these the store keeps times; a clock that says something else is wrong.
_EARLIEST, _LATEST = to_micros(1), to_micros(253_402_300_799)


class Malformed(InvalidArgument):
    """A message is no reading. It is {"sensor": text, "value": number, "timestamp": "YYYY-MM-DD HH:MM:SS"}, times in UTC."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Reading(NamedTuple):
    """One value of a sensor at a time, in whole microseconds."""

    sensor: str
    value: float
    t: int


def parse(message: bytes | str) -> Reading:
    """The reading that a message holds; Malformed says why it holds none."""
    if len(message) > MAX_MESSAGE:
        raise Malformed("too long", f"the message has {len(message)} bytes, and a reading at most {MAX_MESSAGE}")
    try:
        told = orjson.loads(message)
    except ValueError as error:
        raise Malformed("no JSON", f"the message is no JSON: {error}") from None
    return reading_of(told)


def reading_of(told: Any) -> Reading:
    """The reading that decoded JSON holds; Malformed says why it holds none."""
    if not isinstance(told, dict):
        raise Malformed("no object", "a reading is a JSON object")
    try:
        sensor, value, timestamp = told["sensor"], told["value"], told["timestamp"]
    except KeyError as error:
        key = error.args[0]
        raise Malformed(f"no {key}", f"the reading has no {key}; it needs {', '.join(_KEYS)}") from None
    return Reading(_sensor(sensor), _value(value), _time(timestamp))


def _sensor(name: Any) -> str:
    if not isinstance(name, str):
        raise Malformed("sensor", "sensor is a text")
    return _checked(name)


@lru_cache(maxsize=4096)
def _checked(name: str) -> str:
    try:
        check_field_name(name)
    except InvalidArgument as error:
        raise Malformed("sensor", str(error)) from None
    return name


def _value(value: Any) -> float:
    if type(value) is float and isfinite(value):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Malformed("value", "value is a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not isfinite(number):
        raise Malformed("value", "value is a finite number")
    return number


def _time(text: Any) -> int:
    if not isinstance(text, str) or len(text) > 40:
        raise Malformed("timestamp", "timestamp is a text, YYYY-MM-DD HH:MM:SS")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Malformed("timestamp", f"timestamp is YYYY-MM-DD HH:MM:SS, not {text!r}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - _EPOCH
    micros = (since.days * 86_400 + since.seconds) * MICROS + since.microseconds
    if not _EARLIEST <= micros <= _LATEST:
        raise Malformed("timestamp", f"{text} is no time of a reading: it begins with 1970")
    return micros


def clock(t: int) -> str:
    """A time as the old system writes it: YYYY-MM-DD HH:MM:SS, in UTC."""
    return datetime.fromtimestamp(t // MICROS, UTC).strftime(FORMAT)
