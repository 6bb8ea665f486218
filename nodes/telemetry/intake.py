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
from sisock.errors import LostLease, SisockError
from sisock.nodes.telemetry.source import Event, Robot

log = logging.getLogger(__name__)

# Seconds between two tries to store what the store would not take, and until a commit counts as failed.
RETRY = 1.0
KEEPING = 60.0
# Events that may wait for the store; then senders have to wait, too.
MAX_WAITING = 50_000

COLUMNS = ("x", "y", "odometer", "speed")

# Whom to tell of a commit; what it is, only those know who give it and get it back.
Answer = Any


class Keeper(Protocol):
    """Who keeps rows: the node."""

    def meet(self, robot: str) -> None:
        """Makes a robot known before its first row."""

    def keep(self, robot: str, block: Block) -> Future[Any]:
        """Keeps rows of a robot; the Future is done after the commit."""


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
        self.problem: str | None = None
        # Events that are durable, and those that did not come after their robot's last.
        self.stored = self.dropped = 0
        self._keeper, self._answered = keeper, answered
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
        with self._changed:
            self._ends = True
            self._changed.notify()
        self._thread.join(KEEPING)

    @property
    def full(self) -> bool:
        """Whether more wait than should."""
        return self._count >= MAX_WAITING

    @property
    def waiting(self) -> int:
        """How many wait for the store."""
        return self._count

    def take(self, event: Event, answer: Answer) -> None:
        """Takes an event; `answer` is handed on after its commit. One that does not come after its robot's last is dropped."""
        robot = self.robots.get(event.robot)
        if robot is None:
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
            if not self._store({robot: rows.block(robot) for robot, rows in waiting.items()}):
                return
            self.stored += sum(len(rows.t) for rows in waiting.values())
            with self._changed:
                self._count -= count
            # After that, so that who waits for room finds it.
            self._answered(answers)

    def _store(self, blocks: dict[str, Block]) -> bool:
        """Stores blocks, trying again what is refused; False if they cannot be stored any more."""
        while blocks:
            futures: list[tuple[str, Future[Any]]] = []
            left: dict[str, Block] = {}
            problem: str | None = None
            for robot, block in blocks.items():
                try:
                    futures.append((robot, self._keeper.keep(robot, block)))
                except SisockError as error:
                    left[robot], problem = block, self._refused(error)
            for robot, future in futures:
                try:
                    future.result(KEEPING)
                except LostLease:
                    # Another start of this node writes now; its senders come to it.
                    return False
                except (SisockError, TimeoutError) as error:
                    left[robot], problem = blocks[robot], self._refused(error)
            self.problem, blocks = problem, left
            if blocks:
                with self._changed:
                    if self._ends:
                        return False
                    self._changed.wait(RETRY)
        return True

    @staticmethod
    def _refused(error: BaseException) -> str:
        log.warning("telemetry waits for the store: %s", error)
        return f"{type(error).__name__}: {error}"
