"""A table of a database as a node's history: what is asked is asked of the database, by its index.

It numbers what it sees, as a history does that keeps rows itself. Each look for new rows that finds some is one block of
each timeline that has any; nothing behind the newest time that was seen of any is answered, so that an answer and its
position belong together. How far it has come is kept in a file before it is told to anybody, so that a new start goes on there.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from sisock.beside import TableRows
from sisock.blocks import Block, concat, news
from sisock.errors import InvalidArgument, PositionLost, TooMuch
from sisock.fields import DEFAULT_TIMELINE
from sisock.history import MAX_TOUCHED, Changes, Tail, joined_ranges
from sisock.nodes.table.extremes import extremes
from sisock.nodes.table.sqltable import SqlTable
from sisock.positions import Position
from sisock.resolution import MAX_SCANNED
from sisock.times import EARLIEST, LATEST, MICROS, now
from sisock.users import write_private
from sisock.windows import WindowMethod, Windows, windowed_pages

log = logging.getLogger(__name__)

# Rows that one look for news takes in at a time, and by which the spacing is judged.
LOOK, SPACING = 20_000, 1000
# Series that lag behind the newest and are looked at by themselves at a time; where there are more, they take turns.
LAGGING = 20
# A time so far beyond the clock is some device's error, and not where the next look begins.
BEYOND = 366 * 86_400 * MICROS
# Rows that a changed range may have to be answered.
MAX_CHANGES = 500_000
# Rows of a page that is read for windows.
WINDOW_PAGE = 100_000


@dataclass
class _Line:
    """What is known of a timeline: how far it has come, its newest rows, and what the newest blocks touched."""

    series: str | None
    seq: int = 0
    newest: int | None = None
    # The newest time that is not beyond the clock: what comes is looked for from there.
    reached: int | None = None
    tail: Block = field(default_factory=lambda: Block(np.empty(0, np.int64)))
    touched: deque[tuple[int, int, int, int]] = field(default_factory=lambda: deque(maxlen=MAX_TOUCHED))


class SqlHistory:
    """The rows of a table. Safe to use from any thread; `look` is called from one."""

    def __init__(self, table: SqlTable, state: Path, lateness: float) -> None:
        self.table, self._state = table, state
        self.epoch = uuid4().hex
        self._lateness = round(lateness * MICROS)
        self._lock = threading.Lock()
        self._lines: dict[str, _Line] = {}
        self._end: int | None = None
        self._turn = 0
        self._resume()

    # How far it has come

    @property
    def _identity(self) -> list[Any]:
        layout = self.table.layout
        return [self.table.connections.shown, self.table.shown, layout.time, layout.series]

    def _resume(self) -> None:
        """Takes up where the last start ended: what came since is one block of each timeline."""
        known: dict[str, Any] = {}
        try:
            told = json.loads(self._state.read_text())
            if told["table"] == self._identity:
                known, self.epoch = dict(told["timelines"]), str(told["epoch"])
        except FileNotFoundError:
            pass
        except (OSError, ValueError, LookupError, TypeError) as error:
            log.warning("%s cannot be used, so that positions begin anew: %s", self._state, error)
        series = [None] if self.table.layout.series is None else self.table.series()
        ends = [one.get("newest") for one in known.values() if isinstance(one, dict)]
        end = max((one for one in ends if isinstance(one, int)), default=EARLIEST)
        for one in series:
            self._begin(one, known.get(one or DEFAULT_TIMELINE), end)
        self._end = max((line.newest for line in self._lines.values() if line.newest is not None), default=None)

    def _begin(self, series: str | None, known: Any, end: int) -> None:
        line = self._lines[series or DEFAULT_TIMELINE] = _Line(series)
        ends = self.table.ends(series)
        line.newest = None if ends is None else ends[1]
        try:
            before = None if known is None or known["newest"] is None else int(known["newest"])
            line.seq = 0 if known is None else int(known["seq"])
        except (ValueError, LookupError, TypeError):
            before = None
        if line.newest is not None and (before is None or line.newest > before):
            line.seq += 1
            first = ends[0] if before is None and ends is not None else (before or 0) + 1
            line.touched.append((line.seq, first, line.newest, EARLIEST if before is None else end))
        if line.newest is not None:
            self._remember(line)

    def _remember(self, line: _Line) -> None:
        """Reads the rows that may still be joined by others, so that the next look knows what is new."""
        end, horizon = (line.newest or 0) + 1, _horizon()
        columns, names = self._columns(line)
        sane = self.table.rows([], EARLIEST, horizon, line.series, 1, newest=True) if end > horizon else [(line.newest,)]
        line.reached = sane[0][0] if sane else None
        rows = self.table.rows(columns, self._before(line), end, line.series, LOOK, newest=True)
        line.tail = self.table.block(rows[::-1], columns, names)

    def _before(self, line: _Line) -> int:
        """Where the rows of a timeline begin that may still be joined by others."""
        reached = min(line.newest or 0, _horizon()) if line.reached is None else line.reached
        return reached - self._lateness

    def save(self) -> None:
        """Keeps how far each timeline has come; called before anybody is told of it."""
        with self._lock:
            lines = {name: {"seq": line.seq, "newest": line.newest} for name, line in self._lines.items()}
        write_private(self._state, json.dumps({"table": self._identity, "epoch": self.epoch, "timelines": lines}))

    def look(self, met: Callable[[str], bool], kept: Callable[[str, Block, Position], None]) -> int:
        """Looks for rows that came: each timeline's are given to `kept`, a new series to `met`. How many there were.

        The rows from the newest time less the lateness on are read by their time; one that is there already is none. A series
        that lags behind that is read by itself, where an index finds it.
        """
        found = 0
        begin = start = self._start()
        while True:
            rows, start, more = self._newest_rows(start)
            by_series = self._by_series(rows)
            by_series |= self._lagging(by_series, begin, start if more else LATEST)
            told = self._take(by_series, met)
            found += sum(len(block) for _, block, _ in told)
            if told:
                # Before anybody hears of it: a number is never given twice.
                self.save()
            for name, block, position in told:
                kept(name, block, position)
            if not more:
                return found

    def _start(self) -> int:
        with self._lock:
            newest = max((line.reached for line in self._lines.values() if line.reached is not None), default=self._end)
        return EARLIEST if newest is None else newest - self._lateness

    def _newest_rows(self, start: int) -> tuple[list[Any], int, bool]:
        layout = self.table.layout
        columns = [*([layout.series] if layout.series else []), *(spec.column for spec in layout.specs)]
        rows = self.table.rows(columns, start, LATEST, None, LOOK)
        if len(rows) < LOOK:
            return rows, start, False
        last = int(rows[-1][0])
        if last > start:
            # Rows of the last time may be cut in two; they are read with what follows.
            return [row for row in rows if row[0] < last], last, True
        return self.table.rows(columns, start, start + 1, None), start + 1, True

    def _by_series(self, rows: list[Any]) -> dict[str | None, list[Any]]:
        by_series: dict[str | None, list[Any]] = {}
        for row in rows:
            if self.table.layout.series is None:
                by_series.setdefault(None, []).append(row)
            elif row[1] is not None:
                by_series.setdefault(str(row[1]), []).append((row[0], *row[2:]))
        return by_series

    def _lagging(self, came: Mapping[str | None, list[Any]], begin: int, end: int) -> dict[str | None, list[Any]]:
        """Rows up to `end` of series that had not come to `begin`: of all those that rows came of, and of some others."""
        if self.table.layout.series is None or not self.table.has_index:
            return {}
        with self._lock:
            behind = [line for line in self._lines.values() if line.reached is not None and line.reached < begin]
        others = [line for line in behind if line.series not in came]
        if len(others) > LAGGING:
            self._turn = (self._turn + LAGGING) % len(others)
            others = [*others[self._turn :], *others[: self._turn]][:LAGGING]
        found: dict[str | None, list[Any]] = {}
        for line in [*(line for line in behind if line.series in came), *others]:
            columns, reached = self._columns(line)[0], line.reached or 0
            rows = self.table.rows(columns, self._before(line), end, line.series, LOOK)
            if len(rows) == LOOK and rows[-1][0] <= reached:
                rows = self.table.rows(columns, reached, end, line.series, LOOK)
            if len(rows) == LOOK and rows[0][0] < rows[-1][0]:
                # The rest comes with the next look; rows of the last time may be cut in two.
                rows = [row for row in rows if row[0] < rows[-1][0]]
            if rows:
                found[line.series] = rows
        return found

    def _take(self, by_series: Mapping[str | None, list[Any]], met: Callable[[str], bool]) -> list[tuple[str, Block, Position]]:
        """What is new of these rows, numbered."""
        told = []
        for series, some in by_series.items():
            name = series or DEFAULT_TIMELINE
            if name not in self._lines:
                if series is None or not met(series):
                    continue
                with self._lock:
                    self._lines[name] = _Line(series)
            line = self._lines[name]
            columns, names = self._columns(line)
            block = self.table.block(some, columns, names)
            fresh = news(line.tail, block)
            before = EARLIEST if line.newest is None else line.newest
            cut = int(np.searchsorted(fresh.t, before, side="right"))
            parts = fresh.take(slice(0, cut)), fresh.take(slice(cut, None))
            told += [(name, part, self._number(line, part)) for part in parts if len(part)]
            everything = concat((line.tail.between(EARLIEST, int(block.t[0])), block)) if len(block) else line.tail
            line.tail = everything.between(self._before(line), LATEST)
        return told

    def _number(self, line: _Line, block: Block) -> Position:
        first, last = int(block.t[0]), int(block.t[-1])
        sane = int(np.searchsorted(block.t, _horizon()))
        with self._lock:
            line.seq += 1
            # What was answered before may hold rows as far as any timeline had come.
            line.touched.append((line.seq, first, last, EARLIEST if line.newest is None or self._end is None else self._end))
            line.newest = last if line.newest is None else max(line.newest, last)
            self._end = last if self._end is None else max(self._end, last)
            if sane:
                line.reached = max(int(block.t[sane - 1]), EARLIEST if line.reached is None else line.reached)
            return Position(self.epoch, line.seq)

    # What is asked

    def append(
        self,
        timeline: str,
        block: Block,
        *,
        lateness: float = 0.0,
        correct: bool = False,
        wait: bool = True,
        beside: Sequence[TableRows] = (),
    ) -> Future[Position]:
        """Refuses: the table is its owner's to write."""
        raise InvalidArgument(f"{self.table.shown} is only read; rows are written to it by whoever owns it")

    def _columns(self, line: _Line, fields: Iterable[str] | None = None) -> tuple[list[str], list[str]]:
        """The columns of these fields, or of all, and the fields' names."""
        layout = self.table.layout
        named = {layout.field_name(spec, line.series): spec.column for spec in layout.specs}
        names = list(named) if fields is None else [name for name in fields if name in named]
        return [named[name] for name in names], names

    def _seen(self, timeline: str) -> tuple[_Line, int, Position]:
        """A timeline, the end of what was seen, and its position, of one moment."""
        with self._lock:
            line = self._lines.get(timeline) or _Line(None)
            # As far as any timeline has come: rows of one that lags may stand before that and not be told yet.
            end = EARLIEST if line.newest is None or self._end is None else self._end + 1
            return line, end, Position(self.epoch, line.seq)

    def read(self, timeline: str, fields: Iterable[str], start: int, end: int) -> tuple[Block, Position]:
        """The rows in [start, end) that were seen, and their position."""
        line, seen, position = self._seen(timeline)
        return self._block(line, fields, start, min(end, seen)), position

    def _block(self, line: _Line, fields: Iterable[str], start: int, end: int, limit: int | None = None) -> Block:
        columns, names = self._columns(line, fields)
        if start >= end:
            return self.table.block([], columns, names)
        return self.table.block(self.table.rows(columns, start, end, line.series, limit), columns, names)

    def pages(self, timeline: str, fields: Sequence[str], start: int, end: int, rows: int) -> Iterator[tuple[Block, Position]]:
        """The rows in [start, end) in pages of about so many, each with its position."""
        line, seen, position = self._seen(timeline)
        end = min(end, seen)
        while start < end:
            page = self._block(line, fields, start, end, rows)
            if not len(page):
                return
            yield page, position
            start = int(page.t[-1]) + 1

    def windowed(self, timeline: str, fields: Sequence[str], windows: Windows, method: WindowMethod) -> Block:
        """One value of each window of each field, as `sisock.windows` says; the rows are read in pages. TooMuch of too many."""
        line, seen, _ = self._seen(timeline)
        if self.table.exceeds(windows.start, min(windows.end, seen), line.series, MAX_SCANNED):
            raise TooMuch(
                f"{self.table.shown}: more than {MAX_SCANNED} rows would be read to make windows of them. Ask for a shorter "
                "time, or serve its rows from a file, which the store keeps with overviews."
            )
        pages = (page for page, _ in self.pages(timeline, fields, windows.start, windows.end, WINDOW_PAGE))
        return windowed_pages(pages, windows, method)

    def thinned(self, timeline: str, fields: Sequence[str], start: int, end: int, max_points: int) -> Block:
        """Rows in [start, end) that hold the extremes of `max_points / 2` pixels of each field; the database finds them."""
        line, seen, _ = self._seen(timeline)
        ends = self.table.ends(line.series)
        columns, names = self._columns(line, fields)
        if ends is None or not names:
            return self.table.block([], columns, names)
        start, end = max(start, ends[0]), min(end, seen)
        if start >= end:
            return self.table.block([], columns, names)
        times = extremes(self.table, columns, start, end, line.series, max(1, max_points // 2))
        return self.table.block(self.table.at(columns, times, line.series), columns, names)

    def count(self, timeline: str, start: int, end: int) -> int:
        """About how many rows there are in [start, end): exactly where they are few, an estimate where they are many."""
        line, seen, _ = self._seen(timeline)
        end = min(end, seen)
        return self.table.count(start, end, line.series) if start < end else 0

    def tail(self, timeline: str, fields: Sequence[str], start: int, end: int) -> Tail:
        """The last row in [start, end), about how many rows there are, and the position."""
        line, seen, position = self._seen(timeline)
        end = min(end, seen)
        columns, names = self._columns(line, fields)
        rows = self.table.rows(columns, start, end, line.series, 1, newest=True) if start < end else []
        number = self.count(timeline, start, end) if rows else 0
        first = self.table.rows([], start, end, line.series, 1) if rows else []
        return Tail(self.table.block(rows, columns, names), number, int(first[0][0]) if first else start, position)

    def changes(self, timeline: str, fields: Sequence[str], since: Position, start: int, end: int) -> Changes:
        """The rows in [start, end) that were seen after a position, and the ranges that they replace."""
        with self._lock:
            line = self._lines.get(timeline) or _Line(None)
            if since.epoch != self.epoch or since.seq > line.seq:
                raise PositionLost(f"{timeline}: the position {since.seq} is not of this history. Read anew.")
            later = [one for one in line.touched if one[0] > since.seq]
            if len(later) < line.seq - since.seq:
                raise TooMuch(f"{timeline}: what came after the position is not known any more. Read anew, in pages.")
            position = Position(self.epoch, line.seq)
        # All that was there at `since` ends here; what lies behind is new and replaces nothing.
        old_end = later[0][3] + 1 if later else LATEST
        touched = joined_ranges((max(first, start), min(last + 1, end)) for _, first, last, _ in later)
        revises = joined_ranges((first, min(last, old_end)) for first, last in touched)
        if sum(self.table.count(first, last, line.series) for first, last in touched) > MAX_CHANGES:
            raise TooMuch(f"{timeline}: too many rows came after the position. Read anew, in pages.")
        rows = concat(self._block(line, fields, first, last) for first, last in touched)
        return Changes(rows, tuple(revises), position)

    def timelines(self) -> list[str]:
        """Names of the timelines that have come."""
        with self._lock:
            return [name for name, line in self._lines.items() if line.newest is not None]

    def position(self, timeline: str) -> Position:
        """How far the timeline has come."""
        return self._seen(timeline)[2]

    def newest(self, timeline: str) -> int | None:
        """The last time that was seen; None if the timeline has no rows."""
        return self._seen(timeline)[0].newest

    def interval(self, timeline: str) -> float | None:
        """Median spacing in seconds of the newest rows; None with fewer than two."""
        line, seen, _ = self._seen(timeline)
        rows = self.table.rows([], EARLIEST, seen, line.series, SPACING, newest=True) if line.newest is not None else []
        t = np.unique(np.array([row[0] for row in rows], np.int64))
        return float(np.median(np.diff(t))) / MICROS if len(t) > 1 else None


def _horizon() -> int:
    """A time that no honest clock has come to."""
    return round(now() * MICROS) + BEYOND
