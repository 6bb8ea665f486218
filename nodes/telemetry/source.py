"""Robots' reports: what a frame says, and how far a robot has come."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import NamedTuple

from sisock.errors import InvalidArgument

# What a name may take of a URI and of a log's line.
MAX_NAME = 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# The end of the year 9999, in milliseconds: what ISO 8601 can say.
MAX_TIMESTAMP = 253_402_300_799_999


class Event(NamedTuple):
    """A robot was at (x, y), in metres, at a time in whole milliseconds."""

    robot: str
    x: float
    y: float
    timestamp: int


def parse(frame: str) -> Event:
    """The event of a frame `x,y,timestamp,robot_name`; InvalidArgument says what is wrong with it.

    Four parts: two finite numbers, a whole number of milliseconds, 0 or more, and the name, verbatim.
    """
    parts = frame.split(",")
    if len(parts) != 4:
        raise InvalidArgument(f"a frame has four parts, x,y,timestamp,robot; this one has {len(parts)}")
    x, y = _coordinate("x", parts[0]), _coordinate("y", parts[1])
    text = parts[2].strip()
    # int() would also take underscores and digits of other scripts.
    if not (text.isascii() and text.isdigit()) or len(text) > 16 or int(text) > MAX_TIMESTAMP:
        raise InvalidArgument(f"timestamp is a whole number of milliseconds, 0 or more, not {text!r:.40}")
    name = parts[3]
    if not 1 <= len(name) <= MAX_NAME or _CONTROL.search(name):
        raise InvalidArgument(f"a robot's name has 1 to {MAX_NAME} characters, none of them control characters")
    return Event(name, x, y, int(text))


def _coordinate(what: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InvalidArgument(f"{what} is a number, not {text!r:.40}") from None
    if not math.isfinite(value) or "_" in text:
        raise InvalidArgument(f"{what} is a finite number, not {text!r:.40}")
    return value


@dataclass
class Robot:
    """What is known of a robot: its last place, its first and last time (milliseconds), and the way it has come.

    `odometer` is the sum of Euclidean distances between events that follow each other, in metres. It is summed with
    Neumaier's compensation, so that it is the exact sum of the (rounded) distances to one rounding; the odometer of a
    window is the difference of two such sums, exact to one rounding of the larger of them, however many events lie
    between.
    """

    name: str
    first: int | None = None
    timestamp: int | None = None
    x: float = 0.0
    y: float = 0.0
    dropped: int = 0
    _sum: float = 0.0
    _lost: float = field(default=0.0, repr=False)

    @property
    def odometer(self) -> float:
        """All that the robot has travelled, in metres."""
        return self._sum + self._lost

    def begin(self, first: int, timestamp: int, x: float, y: float, odometer: float) -> None:
        """Takes up where the history ends."""
        self.first = first
        self.timestamp, self.x, self.y, self._sum, self._lost = timestamp, x, y, odometer, 0.0

    def move(self, event: Event) -> tuple[float, float] | None:
        """Goes where the event says, and answers the odometer and the speed (m/s) there.

        None, and nothing changes, for an event that does not come after the last one.
        """
        if self.timestamp is None:
            self.first = event.timestamp
            self.timestamp, self.x, self.y = event.timestamp, event.x, event.y
            return self.odometer, 0.0
        if event.timestamp <= self.timestamp:
            self.dropped += 1
            return None
        distance = math.hypot(event.x - self.x, event.y - self.y)
        if math.isfinite(distance):
            self._add(distance)
        speed = distance / (event.timestamp - self.timestamp) * 1000.0
        self.timestamp, self.x, self.y = event.timestamp, event.x, event.y
        return self.odometer, speed

    def _add(self, distance: float) -> None:
        total = self._sum + distance
        # A. Neumaier, Rundungsfehleranalyse einiger Verfahren zur Summation endlicher Summen, ZAMM 54 (1974).
        self._lost += (self._sum - total) + distance if self._sum >= distance else (distance - total) + self._sum
        self._sum = total
