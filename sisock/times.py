"""Times: UNIX seconds (float) outside, whole microseconds (int64) inside.

Convention of the wire (contract A5): t > 0 is UNIX seconds; t <= 0 is now + t, so 0 is now and -600 ten minutes ago.
"""

from __future__ import annotations

import math
import re
import time
from datetime import UTC, datetime
from numbers import Real

import numpy as np
import numpy.typing as npt

from sisock.errors import InvalidArgument, shown

Micros = npt.NDArray[np.int64]

MICROS = 1_000_000
# The ends of time: what an int64 of microseconds holds, with room for arithmetic.
EARLIEST = -(2**62)
LATEST = 2**62

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0, "y": 365.25 * 86400.0}
_DURATION = re.compile(r"([+-]?)\s*(\d+(?:\.\d*)?|\.\d+)\s*(us|ms|s|m|h|d|w|y)?")


def now() -> float:
    """The present, in UNIX seconds."""
    return time.time()


def to_micros(seconds: float) -> int:
    """Whole microseconds of a time in seconds; the ends of time for anything beyond them."""
    if seconds * MICROS >= LATEST:
        return LATEST
    if seconds * MICROS <= EARLIEST:
        return EARLIEST
    return round(seconds * MICROS)


def to_seconds(micros: int) -> float:
    """Seconds of a time in microseconds."""
    return micros / MICROS


def is_seconds(value: object) -> bool:
    """Whether it is a finite number, as times and lengths of time are; True and False are none."""
    try:
        return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)
    except OverflowError:
        return False


def resolve(t: float, present: float | None = None) -> float:
    """UNIX seconds of a time as callers write it: t > 0 is itself, t <= 0 counts from now."""
    return t if t > 0 else (now() if present is None else present) + t


def parse_duration(text: str) -> float:
    """Seconds of a length of time: `30s`, `5m`, `1.5h`, `2d`, `250ms`, or a plain number of seconds."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise InvalidArgument(f"{text!r} is no length of time: write 30s, 5m, 1.5h, 2d (units us ms s m h d w y)")
    sign, number, unit = match.groups()
    seconds = float(number) * _UNITS[unit or "s"]
    if not math.isfinite(seconds):
        raise InvalidArgument(f"{shown(text)} is no length of time: it is not finite")
    return -seconds if sign == "-" else seconds


def parse_time(text: str) -> float:
    """A time as a person writes it, in the wire's convention.

    `now`, `-10m` (ten minutes ago), `2017-07-14`, `2017-07-14T12:30` (UTC unless it names a zone), `1500000000.5`.
    """
    text = text.strip()
    if text == "now":
        return 0.0
    if _DURATION.fullmatch(text) and (text[0] == "-" or not text[-1].isalpha()):
        return parse_duration(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidArgument(f"{text!r} is no time: write now, -10m, 2017-07-14T12:30 or UNIX seconds") from None
    value = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if value <= 0:
        # On the wire it would be a time before now.
        raise InvalidArgument(f"{text!r} is too early: times begin after 1970-01-01T00:00; write 1 for the beginning")
    return value


def iso(seconds: float) -> str:
    """A time for people: ISO 8601, UTC, as many decimals as it has; plain seconds where the calendar ends."""
    try:
        text = datetime.fromtimestamp(round(seconds, 6), UTC).isoformat().replace("+00:00", "")
    except (ValueError, OverflowError):
        return f"{seconds} s"
    return (text.rstrip("0") if "." in text else text) + "Z"
