"""The intake: events that come together are committed together, and each is answered after its commit."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from sisock.blocks import Block, Column
from sisock.errors import TooMuch
from sisock.intake import KEEPING, Storing
from sisock.nodes.telemetry.source import Event, Robot

log = logging.getLogger(__name__)

# Events that may wait for the store; then senders have to wait, too.
MAX_WAITING = 50_000
# Beyond so many, somebody sends names that are none.
MAX_ROBOTS = 10_000

COLUMNS = ("x", "y", "odometer", "speed")

# Whom to tell of a commit; what it is, only those know who give it and get it back.
Answer = Any


class Keeper(Protocol):
    """Who keeps rows: the node."""

    def meet(self, robot: str) -> None:
        """Makes a robot known before its first row."""

    def keep(self, robot: str, block: Block, correct: bool) -> Future[Any]:
        """Keeps rows of a robot; the Future is done after the commit. With `correct`, some may be there already."""


@dataclass
class _Rows:
    """Rows of one robot that wait."""

    t: list[int] = field(default_factory=list)
    values: list[tuple[float, float, float, float]] = field(default_factory=list)

    def block(self, robot: str) -> Block:
        columns = np.array(self.values, np.float64).T.copy()
        named = {f"{robot}.{name}": Column(values) for name, values in zip(COLUMNS, columns, strict=True)}
        return Block(np.array(self.t, np.int64), named)


class Intake:
    """Takes events in one thread and stores them in another, as many at a time as have come meanwhile.

    `answered(answers)` is called in the storing thread with what is to be told after a commit. While the store does not
    take rows they wait and it is tried again, so nothing that was taken is lost but by the end of the process, and
    nothing is acknowledged before it is durable. `full` says that senders should wait.
    """

    def __init__(self, keeper: Keeper, robots: dict[str, Robot], answered: Callable[[list[Answer]], None]) -> None:
        self.robots = robots
        # Events that are durable, and those that did not come after their robot's last.
        self.stored = self.dropped = 0
        self._keeper, self._answered = keeper, answered
        self._storing: Storing[Block] = Storing("telemetry", keeper.keep)
        self._waiting: dict[str, _Rows] = {}
        self._answers: list[Answer] = []
        self._count = 0
        self._changed = threading.Condition()
        self._ends = False
        self._thread = threading.Thread(target=self._work, name="telemetry-intake", daemon=True)

    def start(self) -> None:
        """Begins to store."""
        self._thread.start()

    def stop(self) -> None:
        """Stores what waits, as long as the store takes it, and ends."""
        self._storing.end()
        with self._changed:
            self._ends = True
            self._changed.notify()
        self._thread.join(KEEPING)

    @property
    def problem(self) -> str | None:
        """Why the store does not take what comes, while that is so."""
        return self._storing.problem

    @property
    def full(self) -> bool:
        """Whether more wait than should."""
        return self._count >= MAX_WAITING

    @property
    def waiting(self) -> int:
        """How many wait for the store."""
        return self._count

    def take(self, event: Event, answer: Answer) -> None:
        """Takes an event; `answer` is handed on after its commit, from another turn of the reactor.

        One that does not come after its robot's last is dropped. TooMuch for a new robot beyond all bounds.
        """
        robot = self.robots.get(event.robot)
        if robot is None:
            if len(self.robots) >= MAX_ROBOTS:
                raise TooMuch(f"there are {MAX_ROBOTS} robots already; a new one is not taken")
            self._keeper.meet(event.robot)
            robot = self.robots[event.robot] = Robot(event.robot)
        moved = robot.move(event)
        self.dropped += moved is None
        with self._changed:
            if moved is not None:
                rows = self._waiting.setdefault(event.robot, _Rows())
                rows.t.append(event.timestamp * 1000)
                rows.values.append((event.x, event.y, *moved))
            # A dropped one is answered in its turn, too: the row that it repeats may not be stored yet.
            self._answers.append(answer)
            self._count += 1
            if self._count == 1:
                self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._count and not self._ends:
                    self._changed.wait()
                if not self._count:
                    return
                waiting, self._waiting = self._waiting, {}
                answers, self._answers = self._answers, []
                count = self._count
            if self._storing.store({robot: rows.block(robot) for robot, rows in waiting.items()}) is not None:
                return
            self.stored += sum(len(rows.t) for rows in waiting.values())
            with self._changed:
                self._count -= count
            try:
                # After that, so that who waits for room finds it.
                self._answered(answers)
            except Exception:
                # The next ones are to be stored all the same.
                log.exception("telemetry: what is stored could not be told")
