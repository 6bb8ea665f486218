"""A node of a database's table: asked where it is, followed by its time."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from sisock import DataNode, Timeline
from sisock.blocks import Block
from sisock.errors import SisockError, StoreAway
from sisock.history import Keeping
from sisock.home import Home
from sisock.nodes.table.asked import Asked
from sisock.nodes.table.blocks import timeline_of
from sisock.nodes.table.problems import Problem, Problems
from sisock.nodes.table.sqlhistory import SqlHistory
from sisock.nodes.table.sqltable import SqlTable
from sisock.positions import Position
from sisock.times import to_seconds

# Seconds before the newest row that are looked at again, unless it was said how late rows may be: transactions commit in
# another order than their rows are stamped.
LATENESS = 10.0
MAX_SERIES = 10_000
# Seconds for which what was measured of the rows' spacing holds.
MEASURED = 60.0


class DatabaseTable(DataNode):
    """A table in a database."""

    def __init__(self, asked: Asked, *, home: Home | None = None) -> None:
        """SetupError for what cannot be served, StoreAway if the database does not answer."""
        self.asked = asked
        self.table = SqlTable(asked)
        self.name = asked.node  # type: ignore[misc]
        self.interval = asked.every  # type: ignore[misc]
        self.description = asked.description or f"The table {self.table.shown} in {asked.shown}."
        super().__init__()
        self.problems = Problems()
        self.notes = self.table.notes
        folder = (home or Home.default()).path / "nodes"
        self._lateness = asked.lateness or LATENESS
        self._history = SqlHistory(self.table, folder / f"{self.name}.table.json", self._lateness)
        self.history = self._history
        self._intervals: dict[str, tuple[float, float | None]] = {}
        for timeline in self._history.timelines():
            self._declare(timeline if self.table.layout.series is not None else None)
        if self.table.layout.series is None:
            self._declare(None)

    def _declare(self, series: str | None) -> None:
        self.declare(self.table.layout.fields(series), {timeline_of(series): Timeline(None, self._lateness)})

    def found(self) -> dict[str, Any]:
        """What there is, for people and programs: fields, about how many rows, the first and the last time."""
        ends = self.table.ends(None)
        return {
            "node": self.name,
            "source": self.asked.shown,
            "kind": self.table.connections.engine,
            "table": self.table.shown,
            "time": self.table.layout.time,
            "series": self.table.layout.series,
            "timelines": len(self._history.timelines()),
            "rows": 0 if ends is None else self.table.count(ends[0], ends[1] + 1, None),
            "first": None if ends is None else to_seconds(ends[0]),
            "last": None if ends is None else to_seconds(ends[1]),
            "columns": [
                {"column": one.column, "field": one.field, "units": one.units, "type": one.type, "description": one.description}
                for one in self.table.layout.specs
            ],
            "notes": self.notes,
        }

    def start(self) -> None:
        """Keeps how far the table has come, before anybody hears of it."""
        self._history.save()

    def sample(self) -> None:
        """Looks for new rows; that gives no row of its own. With the database away, health says so until it is back."""
        try:
            self._history.look(self._meet, self._kept)
        except StoreAway as error:
            if self.health.keeping is None:
                self.health.keeping = Keeping(str(error), time.time())
            raise
        self.health.keeping = None

    def stop(self) -> None:
        """Closes the connections."""
        self.table.close()

    def _meet(self, series: str) -> bool:
        try:
            wanted = self.table.layout.fields(series)
        except SisockError as error:
            self.problems.once(Problem("series left out", self.name, None, str(error)))
            return False
        if len(self._history.timelines()) >= MAX_SERIES or any(name in self.fields for name in wanted):
            self.problems.once(Problem("series left out", self.name, None, f"the series {series!r} is left out"))
            return False
        self._declare(series)
        return True

    def _kept(self, timeline: str, block: Block, position: Position) -> None:
        if self.on_kept is not None:
            self.on_kept(timeline, block, position)

    def _measured(self, name: str) -> Timeline:
        """The timeline with the interval of its newest rows, which is measured once in a while."""
        at, interval = self._intervals.get(name, (-MEASURED, None))
        if time.monotonic() - at > MEASURED:
            # With the database away it is what it was.
            with suppress(SisockError):
                interval = self._history.interval(name)
                self._intervals[name] = (time.monotonic(), interval)
        return Timeline(interval, self._lateness)
