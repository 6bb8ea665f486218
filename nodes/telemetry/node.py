"""The node `telemetry`: each robot a timeline with its place, its odometer and its speed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from sisock import DataNode, Field, Timeline
from sisock.blocks import Block
from sisock.learning import Learning
from sisock.nodes.telemetry.api import UNLEARNED
from sisock.nodes.telemetry.faces import Faces
from sisock.nodes.telemetry.intake import COLUMNS, Answer, Intake
from sisock.nodes.telemetry.source import MAX_TIMESTAMP, Robot

_MILLI = 1000
_FIELDS = {
    "x": Field("Where the robot is, to the east", "m"),
    "y": Field("Where the robot is, to the north", "m"),
    "odometer": Field("All that the robot has travelled", "m"),
    "speed": Field("The way since the event before, by the time since", "m/s"),
}
# Rows that are read to find the first of a window: a chunk is decoded for any of them.
FIRST_ROWS = 256


class Telemetry(DataNode):
    """Where robots are, and how far they have come."""

    name = "telemetry"
    description = "Where robots are, and how far they have come."
    max_rows = 10_000_000
    # Robots report when they move, and there may be thousands of them.
    measures = False

    def __init__(self) -> None:
        super().__init__()
        self.robots: dict[str, Robot] = {}
        self.intake = Intake(self, self.robots, self._answered)
        self.faces = Faces(self)
        self._learning = Learning(self.name, self._take_up)

    def start(self) -> None:
        """Takes up where the history ends, and listens."""
        from twisted.internet import reactor
        from twisted.internet.threads import blockingCallFromThread

        self._learning.start()
        self.intake.start()
        blockingCallFromThread(reactor, self.faces.listen)

    def _take_up(self) -> None:
        """Learns of the history where each robot is, and how far it has come; until then nothing is taken."""
        found: dict[str, Robot] = {}
        robots = self.history.timelines()
        for robot in robots:
            tail = self.history.tail(robot, [f"{robot}.{name}" for name in COLUMNS], 0, MAX_TIMESTAMP * _MILLI)
            if not len(tail.block):
                continue
            first = next(self.history.pages(robot, [], 0, MAX_TIMESTAMP * _MILLI, FIRST_ROWS))[0]
            x, y, odometer = (float(tail.block.columns[f"{robot}.{name}"].numbers()[0]) for name in COLUMNS[:3])
            known = found[robot] = Robot(robot)
            known.begin(int(first.t[0]) // _MILLI, int(tail.block.t[0]) // _MILLI, x, y, odometer)
        self._meet(robots)
        self.robots.update(found)

    @property
    def learned(self) -> bool:
        """Whether it is known how far robots have come."""
        return self._learning.done

    def trouble(self) -> str | None:
        """Whether the store does not take what comes, or what it holds is not known yet."""
        if not self.learned:
            return UNLEARNED
        return None if self.intake.problem is None else f"waits for the store: {self.intake.problem}"

    def stop(self) -> None:
        """Listens no more, and stores what was taken."""
        from twisted.internet import reactor
        from twisted.internet.threads import blockingCallFromThread

        self._learning.stop()
        blockingCallFromThread(reactor, self.faces.close)
        self.intake.stop()

    # For the intake

    def meet(self, robot: str) -> None:
        """Declares the fields of a robot."""
        self._meet([robot])

    def _meet(self, robots: Sequence[str]) -> None:
        fields = {
            f"{robot}.{name}": replace(spec, timeline=robot, labels={"robot": robot, "quantity": name})
            for robot in robots
            for name, spec in _FIELDS.items()
        }
        self.declare(fields, {robot: Timeline() for robot in robots})

    def keep(self, robot: str, block: Block, correct: bool) -> Future[Any]:
        """Keeps rows of a robot."""
        return self.append_block(robot, block, correct=correct)

    def _answered(self, answers: list[Answer]) -> None:
        from twisted.internet import reactor

        reactor.callFromThread(self.faces.answered, answers)

    # For the API

    def events(self, robot: str, start: int | None, end: int | None, rows: int) -> Iterator[Block]:
        """A robot's events in [start, end], in milliseconds and both included, as blocks of x and y of at most so many rows."""
        names = [f"{robot}.x", f"{robot}.y"]
        for page, _ in self.history.pages(robot, names, *_range(start, end), rows):
            for at in range(0, len(page), rows):
                yield page.take(slice(at, at + rows))

    def odometer(self, robot: str, start: int | None, end: int | None) -> float:
        """The way between the first and the last event in [start, end], both included, in metres.

        The difference of the odometers at these two, which are found without reading those between: exact to one
        rounding of the larger of them.
        """
        name = f"{robot}.odometer"
        low, high = _range(start, end)
        tail = self.history.tail(robot, [name], low, high)
        if not len(tail.block):
            return 0.0
        for page, _ in self.history.pages(robot, [name], low, high, FIRST_ROWS):
            if len(page):
                first, last = page.columns[name].numbers()[0], tail.block.columns[name].numbers()[0]
                return float(last - first)
        return 0.0


def _range(start: int | None, end: int | None) -> tuple[int, int]:
    """Half-open microseconds of a closed range in milliseconds."""
    return (0 if start is None else start) * _MILLI, (MAX_TIMESTAMP if end is None else end) * _MILLI + 1
