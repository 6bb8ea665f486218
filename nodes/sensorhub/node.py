"""The node `sensorhub`: each sensor a timeline with one field, fed by Redis and HTTP as the old system was."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from sisock import DataNode, Field, Timeline
from sisock.beside import TableRows, Tables
from sisock.blocks import Block
from sisock.errors import SetupError
from sisock.faces import Face
from sisock.history import HasTables
from sisock.home import Home
from sisock.http import application
from sisock.learning import Learning
from sisock.metrics import Health, Metrics
from sisock.metrics import add_routes as add_health
from sisock.nodes.sensorhub.api import add_routes
from sisock.nodes.sensorhub.config import Config, Sensor
from sisock.nodes.sensorhub.document import DOCUMENT
from sisock.nodes.sensorhub.intake import Intake, Row
from sisock.nodes.sensorhub.listening import Channel, Listener, Stream
from sisock.nodes.sensorhub.refused import Refused
from sisock.nodes.sensorhub.source import Reading
from sisock.openapi import offer
from sisock.refusals import add_refused

PORT = 5005
# Raw readings that are read together.
PAGE = 5_000


class SensorHub(DataNode):
    """Readings of sensors, and their newest values."""

    name = "sensorhub"
    description = "Readings of sensors, and their newest values."
    tables = Tables(Path(__file__).parent / "migrations", "sensorhub_version")
    max_rows = 10_000_000
    # Sensors report when they like, and there may be thousands of them.
    measures = False

    def __init__(self) -> None:
        super().__init__()
        self._home = Home.default()
        self.config = Config.read(self._home.path)
        self.store = self.config.store
        self.refused = Refused()
        self.intake = Intake(self)
        self.face = Face(self.name, PORT, host=self.config.host)
        self.listeners: list[Listener] = []
        self._current: dict[str, Row] = {}
        self._lock = threading.Lock()
        self._declaring = threading.Lock()
        # Whether the present values that were stored before this start are known.
        self._knows = False
        self._learning = Learning(self.name, self._take_up)

    def start(self) -> None:
        """Takes up where the history ends, and listens."""
        from twisted.internet import reactor
        from twisted.internet.threads import blockingCallFromThread

        if not isinstance(self.history, HasTables):
            raise SetupError("the sensor hub keeps tables, so it needs a store: start it by `sisock run sensorhub`")
        # With the database away rows go to the outbox; ids are times, so that they go on whatever was given before.
        self._learning.start()
        self.intake.start()
        url, refused = self.config.redis, self.refused
        if self.config.channel:
            self.listeners.append(Channel(url, self.config.channel, self.intake, refused))
        if self.config.stream:
            me = self._home.identity(self.name)[0]
            self.listeners.append(Stream(url, self.config.stream, self.config.group, me, self.intake, refused))
        for listener in self.listeners:
            listener.start()
        blockingCallFromThread(reactor, self.face.listen, self.application())

    def _take_up(self) -> None:
        """Learns of the history which sensors there are, their present values, and the newest id."""
        sensors = self.history.timelines()
        last = self._learn()
        self._meet(sensors)
        self.intake.go_on(last, sensors)

    def stop(self) -> None:
        """Listens no more, and stores what was taken."""
        from twisted.internet import reactor
        from twisted.internet.threads import blockingCallFromThread

        self._learning.stop()
        for listener in self.listeners:
            listener.stop()
        self.intake.stop()
        blockingCallFromThread(reactor, self.face.close)

    def application(self) -> Any:
        """What it answers over HTTP."""
        app = application()
        add_routes(app, self)
        add_health(app, self._metrics(), self._how)
        add_refused(app, self.name, self.refused.told)
        offer(app, DOCUMENT)
        return app

    # For the intake

    def meet(self, sensor: str) -> None:
        """Declares the field of a sensor."""
        self._meet([sensor])

    def _meet(self, sensors: Iterable[str]) -> None:
        found: dict[str, Field] = {}
        # What was learned late is declared in a thread of its own.
        with self._declaring:
            for sensor in sensors:
                if sensor not in self.fields:
                    known = self.config.sensors.get(sensor, Sensor())
                    found[sensor] = Field(known.description, known.units, timeline=sensor, labels={"sensor": sensor})
            if found:
                self.declare(found, {sensor: Timeline() for sensor in found})

    def keep(self, sensor: str, block: Block, beside: Sequence[TableRows]) -> Future[Any]:
        """Keeps rows of a sensor, whenever they are of, and the raw readings beside them."""
        return self.append_block(sensor, block, correct=True, beside=beside)

    def kept(self, newest: dict[str, Row]) -> None:
        """Notes present values that are durable now."""
        with self._lock:
            for sensor, row in newest.items():
                self._newer(sensor, row)

    def _newer(self, sensor: str, row: Row) -> None:
        before = self._current.get(sensor)
        if before is None or (row[0].t, row[1]) >= (before[0].t, before[1]):
            self._current[sensor] = row

    # For the API

    def take(self, readings: Sequence[tuple[Reading, str | None]], *, wait: bool = False) -> Future[None]:
        """Takes readings; the Future is done when they are durable."""
        return self.intake.take(readings, wait=wait)

    def check(self, reading: Reading) -> None:
        """Raises TooManySensors for a reading of a new sensor beyond all bounds."""
        self.intake.check(reading)

    def current(self, sensor: str) -> Reading | None:
        """The newest reading of a sensor by time, of what is durable; StoreAway where the store is away since the start."""
        if not self._knows:
            self._learn()
        with self._lock:
            found = self._current.get(sensor)
        return None if found is None else found[0]

    def readings(self, sensor: str) -> Iterator[list[tuple[int, int, float]]]:
        """All raw readings of a sensor, (id, microseconds, value), by id, in pages."""
        after = 0
        while True:
            page = self._select(
                "SELECT id, t, value FROM sensorhub_readings WHERE node = ? AND sensor = ? AND id > ? ORDER BY id LIMIT ?",
                *(self.name, sensor, after, PAGE),
            )
            if page:
                yield [(int(number), int(t), float(value)) for number, t, value in page]
            if len(page) < PAGE:
                return
            after = int(page[-1][0])

    def _select(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        history: Any = self.history
        rows: list[tuple[Any, ...]] = history.select(sql, *parameters)
        return rows

    def _learn(self) -> int:
        """Reads the present values that were stored; answers the newest id."""
        rows = self._select("SELECT sensor, id, t, value FROM sensorhub_current WHERE node = ?", self.name)
        (last,) = self._select("SELECT max(id) FROM sensorhub_readings WHERE node = ?", self.name)
        with self._lock:
            for sensor, number, t, value in rows:
                self._newer(str(sensor), (Reading(str(sensor), float(value), int(t)), int(number), ""))
            self._knows = True
        return int(last[0] or 0)

    def trouble(self) -> str | None:
        """Whether the store does not take readings, or Redis is not heard."""
        if self.intake.problem is not None:
            return f"waits for the store: {self.intake.problem}"
        away = [f"the {one.way} of Redis is not heard: {one.away}" for one in self.listeners if one.away is not None]
        return "; ".join(away) or None

    def _how(self) -> Health:
        told: dict[str, Any] = {"heard": {one.way: one.heard for one in self.listeners}, "refused": self.refused.counts}
        away = {one.way: one.away for one in self.listeners if one.away is not None}
        told |= {"stored": self.intake.stored, "waiting": self.intake.waiting} | ({"away": away} if away else {})
        return Health(self.trouble(), told)

    def _metrics(self) -> Metrics:
        metrics = Metrics(self.name)
        metrics.counter("heard", "Messages that came", lambda: {one.way: one.heard for one in self.listeners}, label="way")
        metrics.counter("stored", "Readings that are durable", lambda: self.intake.stored)
        metrics.counter("refused", "Messages that were no readings", lambda: self.refused.counts, label="reason")
        metrics.gauge("waiting", "Readings that wait for the store", lambda: self.intake.waiting)
        return metrics
