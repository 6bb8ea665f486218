"""Parameters: what a request of the Prometheus API asks for, checked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from sisock.grafana_bridge.prom.errors import BadQuery
from sisock.times import LATEST, MICROS, now

MAX_POINTS = 11_000
# Characters of a length of time.
MAX_DURATION = 100
# Parameters of one request: each match[] is one.
MAX_FIELDS = 1000
_FORM = b"application/x-www-form-urlencoded"
_DURATION = re.compile(r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?")
_UNITS = (365 * 86400 * MICROS, 7 * 86400 * MICROS, 86400 * MICROS, 3600 * MICROS, 60 * MICROS, MICROS, MICROS // 1000)


class Parameters:
    """The parameters of a request, of its address and of a form that was posted."""

    def __init__(self, given: Mapping[str, Sequence[str]]) -> None:
        self._given = given

    @classmethod
    def of(cls, request: Any) -> Parameters:
        """The parameters of an HTTP request; those of the form count first."""
        given: dict[str, list[str]] = {}
        parts = []
        if request.method == b"POST":
            kind = (request.getHeader(b"content-type") or _FORM).partition(b";")[0].strip().lower()
            if kind != _FORM:
                raise BadQuery("the body is a form: Content-Type: application/x-www-form-urlencoded")
            parts.append(request.content.read())
        parts.append(request.uri.partition(b"?")[2])
        for part in parts:
            try:
                parsed = parse_qs(part.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
            except ValueError as error:
                raise BadQuery(f"the parameters are not understood: {error}") from None
            for name, values in parsed.items():
                given.setdefault(name, []).extend(values)
        return cls(given)

    def text(self, name: str) -> str:
        """A parameter as it came; empty if it did not."""
        return self._given.get(name, [""])[0]

    def texts(self, name: str) -> list[str]:
        """All values of a parameter that may come several times."""
        return list(self._given.get(name, ()))

    def needed(self, name: str) -> str:
        """A parameter without which there is no answer."""
        text = self.text(name)
        if not text:
            raise BadQuery(f"the parameter {name} is missing")
        return text

    def time(self, name: str, default: float | None = None) -> int:
        """A time in microseconds, to the millisecond: UNIX seconds or RFC 3339; without a default it must be there."""
        text = self.text(name)
        if not text:
            if default is None:
                raise BadQuery(f"the parameter {name} is missing: UNIX seconds or a time such as 2017-07-14T12:30:00Z")
            return _millis(default)
        try:
            seconds = float(text)
        except ValueError:
            seconds = _moment(name, text)
        if not math.isfinite(seconds) or abs(seconds) * MICROS >= LATEST:
            raise BadQuery(f"{name} is a time, UNIX seconds or such as 2017-07-14T12:30:00Z, not {text!r:.60}")
        return _millis(seconds)

    def duration(self, name: str, default: float | None = None) -> int:
        """A length of time above 0 in microseconds: seconds, or such as 1m30s."""
        text = self.text(name)
        if not text and default is not None:
            return round(default * MICROS)
        length = _duration(text)
        if length is None or not 0 < length < LATEST:
            raise BadQuery(f"{name} is a length of time above 0, such as 15, 0.5 or 1m30s, not {text!r:.60}")
        return length

    def limit(self) -> int | None:
        """How many results are wanted; None for all."""
        text = self.text("limit")
        if not text:
            return None
        if not text.isdecimal() or len(text) > 18:
            raise BadQuery(f"limit is a whole number, 0 for all, not {text!r:.60}")
        return int(text) or None

    def span(self) -> tuple[int, int, int]:
        """Start, end and step of a query of a range, in microseconds."""
        start, end, step = self.time("start"), self.time("end"), self.duration("step")
        if end < start:
            raise BadQuery("end is before start")
        if step < MICROS // 1000:
            raise BadQuery("step is a millisecond or more")
        if (end - start) // step + 1 > MAX_POINTS:
            points = (end - start) // step + 1
            raise BadQuery(f"a series has at most {MAX_POINTS} points, not {points}. Ask for a shorter time or a longer step.")
        return start, end, step


def present() -> float:
    """The present, in UNIX seconds."""
    return now()


def _millis(seconds: float) -> int:
    return round(seconds * 1000) * (MICROS // 1000)


def _moment(name: str, text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadQuery(f"{name} is a time, UNIX seconds or such as 2017-07-14T12:30:00Z, not {text!r:.60}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _duration(text: str) -> int | None:
    try:
        seconds = float(text)
    except ValueError:
        found = _DURATION.fullmatch(text)
        # Longer numbers are none of those that it can be, and Python reads them no further.
        if not text or found is None or len(text) > MAX_DURATION:
            return None
        return sum(int(count) * unit for count, unit in zip(found.groups("0"), _UNITS, strict=True))
    if not math.isfinite(seconds) or abs(seconds) * MICROS >= LATEST:
        return None
    return round(seconds * MICROS)
