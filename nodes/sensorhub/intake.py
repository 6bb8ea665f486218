"""The intake: readings that come together are committed together, and each is answered after its commit.

Of each sensor they make one block; beside it, in the same transaction, stand the raw readings with their ids and the present
value. While the store does not take them they wait, up to a bound, and are tried again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

import numpy as np

from sisock.beside import TableRows
from sisock.blocks import Block, Column
from sisock.errors import Busy, SisockError
from sisock.intake import KEEPING, RETRY, Storing
from sisock.nodes.sensorhub.source import Malformed, Reading
from sisock.times import MICROS, now

# Readings that may wait for the store; then senders have to wait, too.
MAX_WAITING = 50_000
# Readings that are stored together.
MAX_TOGETHER = 20_000
# Beyond so many, somebody sends names that are none.
MAX_SENSORS = 10_000

# A reading with its id and where it came from, by which one that comes twice is known.
Row = tuple[Reading, int, str]


class TooManySensors(Malformed):
    """There are as many sensors already as there may be; a reading of a new one is not taken."""

    uri = "sisock.error.too_many_sensors"
    status = 413

    def __init__(self) -> None:
        super().__init__("too many sensors", f"there are {MAX_SENSORS} sensors already; a new one is not taken")


class Keeper(Protocol):
    """Who keeps rows: the node."""

    @property
    def name(self) -> Any:
        """What it is called; rows of its tables hold it."""

    def meet(self, sensor: str) -> None:
        """Makes a sensor known before its first row."""

    def keep(self, sensor: str, block: Block, beside: Sequence[TableRows]) -> Future[Any]:
        """Keeps rows of a sensor; the Future is done after the commit."""

    def kept(self, newest: dict[str, Row]) -> None:
        """Is told of what is durable now."""


class Intake:
    """Takes readings from any thread, and stores them in one of its own."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._storing: Storing[list[Row]] = Storing("sensorhub", self._keep)
        self.stored = 0
        self._waiting: deque[tuple[list[Row], Future[None]]] = deque()
        self._count = 0
        self._changed = threading.Condition()
        self._last_id = 0
        self._ends = False
        self._over: SisockError | None = None
        # Those that have reported, and of them those of which a row is stored.
        self._sensors: set[str] = set()
        self._known: set[str] = set()
        self._thread = threading.Thread(target=self._work, name="sensorhub-intake", daemon=True)

    def start(self) -> None:
        """Begins to store."""
        self._thread.start()

    def go_on(self, last_id: int, sensors: Iterable[str]) -> None:
        """Goes on where the history ends: ids behind `last_id`, and these sensors are there already."""
        with self._changed:
            self._last_id = max(self._last_id, last_id)
            self._sensors.update(sensors)

    def check(self, reading: Reading) -> None:
        """Raises TooManySensors for a reading of a new sensor beyond all bounds."""
        with self._changed:
            if reading.sensor not in self._sensors and len(self._sensors) >= MAX_SENSORS:
                raise TooManySensors
            self._sensors.add(reading.sensor)

    def stop(self) -> None:
        """Stores what waits, as long as the store takes it, and ends."""
        self._storing.end()
        with self._changed:
            self._ends = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(KEEPING)

    @property
    def problem(self) -> str | None:
        """Why the store does not take what comes, while that is so."""
        return self._storing.problem

    @property
    def waiting(self) -> int:
        """How many readings wait to be stored."""
        return self._count

    def take(self, readings: Sequence[tuple[Reading, str | None]], *, wait: bool = False) -> Future[None]:
        """Takes readings, each with where it came from, if that names it; the Future is done when all are durable.

        Where too many wait already it raises Busy, or waits until there is room.
        """
        with self._changed:
            while self._count + len(readings) > MAX_WAITING and self._count and self._over is None:
                if not wait or self._ends:
                    raise Busy(f"{self._count} readings wait for the store; send again in a moment")
                self._changed.wait(RETRY)
            if self._over is not None:
                raise self._over
            if self._ends:
                raise Busy("the node ends; send again in a moment")
            # The time of arrival, raised so that each has its own: it needs no database that counts.
            first = max(self._last_id + 1, round(now() * MICROS))
            rows = [(reading, number, origin or f"id:{number}") for number, (reading, origin) in enumerate(readings, first)]
            self._last_id = first + len(rows)
            done: Future[None] = Future()
            self._waiting.append((rows, done))
            self._count += len(rows)
            self._changed.notify_all()
        return done

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._ends:
                    self._changed.wait()
                if not self._waiting:
                    return
                together = [self._waiting.popleft()]
                count = len(together[0][0])
                while self._waiting and count + len(self._waiting[0][0]) <= MAX_TOGETHER:
                    together.append(self._waiting.popleft())
                    count += len(together[-1][0])
            by_sensor: dict[str, list[Row]] = {}
            for rows, _ in together:
                for row in rows:
                    by_sensor.setdefault(row[0].sensor, []).append(row)
            over = self._storing.store(by_sensor)
            if over is None:
                self._known.update(by_sensor)
                self.stored += count
                self._keeper.kept({sensor: newest_of(rows) for sensor, rows in by_sensor.items()})
            with self._changed:
                self._count -= count
                self._changed.notify_all()
            for _, done in together:
                if over is None:
                    done.set_result(None)
                else:
                    done.set_exception(over)
            if over is not None:
                self._end(over)
                return

    def _keep(self, sensor: str, rows: list[Row], correct: bool) -> Future[Any]:
        """Keeps rows of a sensor; always as corrections, as readings come in any order."""
        new = sensor not in self._known
        if new:
            self._keeper.meet(sensor)
        return self._keeper.keep(sensor, block_of(sensor, rows), beside(self._keeper.name, sensor, rows, new=new))

    def _end(self, why: SisockError) -> None:
        with self._changed:
            self._over = why
            left, self._waiting, self._count = self._waiting, deque(), 0
            self._changed.notify_all()
        for _, done in left:
            done.set_exception(why)


def newest_of(rows: Sequence[Row]) -> Row:
    """The newest of some readings by time, and of those at one time the last that came."""
    return max(rows, key=lambda row: (row[0].t, row[1]))


def beside(node: str, sensor: str, rows: Sequence[Row], *, new: bool) -> list[TableRows]:
    """What stands in the tables beside the rows of a sensor, which may be a `new` one."""
    top, top_id, _ = newest_of(rows)
    raw = [(node, origin, number, sensor, reading.t, reading.value) for reading, number, origin in rows]
    found = [
        TableRows("sensorhub_readings", ("node", "origin", "id", "sensor", "t", "value"), raw, ("node", "origin")),
        TableRows(
            "sensorhub_current",
            ("node", "sensor", "id", "t", "value"),
            [(node, sensor, top_id, top.t, top.value)],
            ("node", "sensor"),
            "t",
        ),
    ]
    if new:
        since = [(node, sensor, rows[0][1])]
        found.insert(0, TableRows("sensorhub_sensors", ("node", "sensor", "since"), since, ("node", "sensor")))
    return found


def block_of(sensor: str, rows: Sequence[Row]) -> Block:
    """The rows of a sensor by time; of two at one time the last that came."""
    by_time = {reading.t: reading.value for reading, _, _ in rows}
    t = np.array(sorted(by_time), np.int64)
    return Block(t, {sensor: Column(np.array([by_time[one] for one in t.tolist()], np.float64))})
