"""A bounded history in memory: what a node keeps of its own data.

It numbers what it keeps as the wire's positions do: `epoch` names one life of the history, `seq` counts the blocks of
a timeline.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable
from uuid import uuid4

import numpy as np

from sisock.beside import TableRows
from sisock.blocks import Block, concat, merge
from sisock.downsample import thin
from sisock.errors import InvalidArgument, LateRow, PositionLost, SisockError, TooMuch
from sisock.fields import FieldType
from sisock.positions import Position
from sisock.times import EARLIEST, LATEST, MICROS, to_seconds
from sisock.windows import WindowMethod, Windows, windowed

# Appended blocks that may wait until one read or append joins them.
MAX_TAIL = 256


# Appended blocks of which a history in memory knows what they touched.
MAX_TOUCHED = 10_000


@dataclass(frozen=True, slots=True)
class Changes:
    """What came after a position: rows, and the ranges [start, end) in which they replace all that was there before."""

    block: Block
    revises: tuple[tuple[int, int], ...]
    position: Position


@dataclass(frozen=True, slots=True)
class Tail:
    """The last row of a range (or none), about how many rows it has, and the position: all of one moment.

    The rows begin at `first` or a little later.
    """

    block: Block
    rows: int
    first: int
    position: Position


@dataclass
class _Line:
    """One timeline: a body of joined rows and a tail of blocks that followed it."""

    body: Block = field(default_factory=lambda: Block(np.empty(0, np.int64)))
    tail: list[Block] = field(default_factory=list)
    types: dict[str, FieldType] = field(default_factory=dict)
    rows: int = 0
    seq: int = 0
    # Of the newest blocks: seq, first and last time, and the newest time before it.
    touched: deque[tuple[int, int, int, int]] = field(default_factory=lambda: deque(maxlen=MAX_TOUCHED))
    # The newest block of which rows were dropped.
    dropped: int = 0

    @property
    def newest(self) -> int | None:
        for block in (*reversed(self.tail), self.body):
            if len(block):
                return int(block.t[-1])
        return None

    def join(self) -> Block:
        if self.tail:
            self.body = concat((self.body, *self.tail))
            self.tail = []
            self.rows = len(self.body)
        return self.body


@dataclass(frozen=True, slots=True)
class Keeping:
    """How rows are kept where the database can be away.

    `away` says why it is not written now, and `since` since when (UNIX seconds); `waiting` blocks are kept beside the
    node until it is; `refused` ones it would not take in.
    """

    away: str | None = None
    since: float | None = None
    waiting: int = 0
    refused: int = 0


class History(Protocol):
    """What keeps a node's rows: in memory here, on disk in the store. Times are whole microseconds, ranges half-open."""

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
        """Keeps a block; the Future has its position, or why it was not kept. A full queue blocks, or raises Busy.

        What is kept `beside` it, in tables of the node's own, is there when the block is, and not otherwise.
        """

    def read(self, timeline: str, fields: Iterable[str], start: int, end: int) -> tuple[Block, Position]:
        """The rows in [start, end) and their position."""

    def pages(self, timeline: str, fields: Sequence[str], start: int, end: int, rows: int) -> Iterator[tuple[Block, Position]]:
        """The rows in [start, end) in pages of about so many, each with its position."""

    def thinned(self, timeline: str, fields: Sequence[str], start: int, end: int, max_points: int) -> Block:
        """Rows in [start, end) that hold the extremes of `max_points / 2` pixels of each field."""

    def windowed(self, timeline: str, fields: Sequence[str], windows: Windows, method: WindowMethod) -> Block:
        """One value of each window of each field, as `sisock.windows` says."""

    def count(self, timeline: str, start: int, end: int) -> int:
        """About how many rows there are in [start, end): exact but for corrections that wait to be folded in."""

    def tail(self, timeline: str, fields: Sequence[str], start: int, end: int) -> Tail:
        """The last row in [start, end), how many rows there are, and the position, of one moment."""

    def changes(self, timeline: str, fields: Sequence[str], since: Position, start: int, end: int) -> Changes:
        """The rows in [start, end) that came after a position, and the ranges that they replace.

        PositionLost if the position is not of this history, or rows that came after it are gone; TooMuch if more came than one
        answer may hold.
        """

    def timelines(self) -> list[str]:
        """Names of the timelines that have come."""

    def position(self, timeline: str) -> Position:
        """How far the timeline has come."""

    def newest(self, timeline: str) -> int | None:
        """Last time; None if the timeline has no rows."""

    def interval(self, timeline: str) -> float | None:
        """Median spacing in seconds; None with fewer than two rows."""


@runtime_checkable
class HasTables(Protocol):
    """A history that has tables of the node's own beside it."""

    def select(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of a query of these tables, with `?` for each parameter; StoreAway while they cannot be read."""


@runtime_checkable
class Shared(Protocol):
    """A history that several processes may want to write, and that the one writes which has the node's name."""

    has_name: Callable[[], bool | None]
    """Asked, from any thread but the reactor's, before the history is written; None where nobody can say."""

    def named(self) -> None:
        """Says that this process has come by the name."""


@runtime_checkable
class Described(History, Protocol):
    """A history that knows which fields its timelines have had."""

    def fields(self, timeline: str) -> list[str]:
        """Names of the fields that the timeline has had."""


@runtime_checkable
class Retaining(Protocol):
    """A history that can be told for how long to keep rows."""

    def retain(
        self, timeline: str, keep: float | None = None, coarse_after: float | None = None, coarse_step: float | None = None
    ) -> Future[int]:
        """Sets how long rows are kept, in seconds."""


class MemoryHistory:
    """The newest `max_rows` rows of each timeline, in memory. Safe to use from any thread."""

    def __init__(self, max_rows: int = 1_000_000) -> None:
        self.max_rows = max_rows
        self.epoch = uuid4().hex
        self.dropped = 0
        self._lines: dict[str, _Line] = {}
        self._lock = threading.Lock()

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
        """Keeps a block as `keep` does; the Future is done. It has no tables, and nothing can be kept beside."""
        if beside:
            raise InvalidArgument("a history in memory has no tables; `sisock run` keeps one on disk")
        done: Future[Position] = Future()
        try:
            done.set_result(self.keep(timeline, block, lateness=lateness, correct=correct))
        except SisockError as error:
            done.set_exception(error)
        return done

    def keep(self, timeline: str, block: Block, *, lateness: float = 0.0, correct: bool = False) -> Position:
        """Keeps a block and answers its position.

        A row older than `newest - lateness` raises LateRow unless `correct`; nothing of the block is kept then. At a
        time that is there already the fields that the block names are replaced, the others stay.
        """
        with self._lock:
            line = self._lines.setdefault(timeline, _Line())
            if len(block):
                types = self._checked_types(timeline, line, block)
                newest = line.newest
                first, last = int(block.t[0]), int(block.t[-1])
                if newest is None or first > newest:
                    line.tail.append(block)
                    line.rows += len(block)
                else:
                    final = newest - round(lateness * MICROS)
                    if block.t[0] < final and not correct:
                        raise LateRow(
                            f"{timeline}: a row at {to_seconds(int(block.t[0]))} came after rows up to {to_seconds(final)} "
                            "were final. Append it with correct=True, or give the timeline a lateness."
                        )
                    line.body = merge(line.join(), block)
                    line.rows = len(line.body)
                if len(line.tail) > MAX_TAIL:
                    line.join()
                line.types.update(types)
                line.seq += 1
                line.touched.append((line.seq, first, last, EARLIEST if newest is None else newest))
                # A tenth more than the limit is let in, so that the oldest rows go in blocks and not one by one.
                if line.rows > self.max_rows + self.max_rows // 10:
                    self._drop(line, line.rows - self.max_rows)
            return Position(self.epoch, line.seq)

    def _drop(self, line: _Line, rows: int) -> None:
        """Drops the oldest rows; who lacks a block of these has to be told."""
        body = line.join()
        cut = int(body.t[rows - 1])
        line.dropped = next((seq for seq, first, _, _ in reversed(line.touched) if first <= cut), line.dropped)
        line.body = body.take(slice(rows, None))
        line.rows = len(line.body)
        self.dropped += rows

    @staticmethod
    def _checked_types(timeline: str, line: _Line, block: Block) -> dict[str, FieldType]:
        """The types of the block's values; InvalidArgument, before anything is kept, if a field would change its own."""
        types = {name: column.type for name, column in block.columns.items() if not column.is_null}
        for name, kind in types.items():
            if line.types.get(name, kind) != kind:
                raise InvalidArgument(f"{timeline}: {name} holds {line.types[name]}s, not {kind}s; a field has one type")
        return types

    def read(self, timeline: str, fields: Iterable[str], start: int, end: int) -> tuple[Block, Position]:
        """The rows in [start, end), in microseconds, with those of the fields that are there, and their position."""
        with self._lock:
            line = self._lines.get(timeline, _Line())
            body = line.join()
            position = Position(self.epoch, line.seq)
        chosen = {name: body.columns[name] for name in fields if name in body.columns}
        return Block(body.t, chosen).between(start, end), position

    def pages(self, timeline: str, fields: Sequence[str], start: int, end: int, rows: int) -> Iterator[tuple[Block, Position]]:
        """The rows in [start, end), which are in memory anyway, as one page."""
        yield self.read(timeline, fields, start, end)

    def thinned(self, timeline: str, fields: Sequence[str], start: int, end: int, max_points: int) -> Block:
        """Rows in [start, end) that hold the extremes of `max_points / 2` pixels of each field."""
        return thin(self.read(timeline, fields, start, end)[0], max_points)

    def windowed(self, timeline: str, fields: Sequence[str], windows: Windows, method: WindowMethod) -> Block:
        """One value of each window of each field, as `sisock.windows` says."""
        return windowed(self.read(timeline, fields, windows.start, windows.end)[0], windows, method)

    def count(self, timeline: str, start: int, end: int) -> int:
        """How many rows there are in [start, end)."""
        return len(self.read(timeline, (), start, end)[0])

    def tail(self, timeline: str, fields: Sequence[str], start: int, end: int) -> Tail:
        """The last row in [start, end), how many rows there are, and the position."""
        block, position = self.read(timeline, fields, start, end)
        first = int(block.t[0]) if len(block) else start
        return Tail(block.take(slice(max(0, len(block) - 1), None)), len(block), first, position)

    def changes(self, timeline: str, fields: Sequence[str], since: Position, start: int, end: int) -> Changes:
        """The rows in [start, end) that came after a position, and the ranges that they replace."""
        with self._lock:
            line = self._lines.get(timeline, _Line())
            if since.epoch != self.epoch or since.seq > line.seq:
                raise PositionLost(f"{timeline}: the position {since.seq} is not of this history. Read anew.")
            if since.seq < line.dropped:
                raise PositionLost(f"{timeline}: rows that came after the position {since.seq} are gone. Read anew.")
            later = [one for one in line.touched if one[0] > since.seq]
            if len(later) < line.seq - since.seq:
                raise TooMuch(f"{timeline}: too many blocks came after the position. Read anew, in pages.")
            body, position = line.join(), Position(self.epoch, line.seq)
        # All that was there at `since` ends here; what lies behind is new and replaces nothing.
        old_end = later[0][3] + 1 if later else LATEST
        touched = joined_ranges((max(first, start), min(last + 1, end)) for _, first, last, _ in later)
        revises = joined_ranges((first, min(last, old_end)) for first, last in touched)
        chosen = {name: body.columns[name] for name in fields if name in body.columns}
        rows = concat(Block(body.t, chosen).between(first, last) for first, last in touched)
        return Changes(rows, tuple(revises), position)

    def timelines(self) -> list[str]:
        """Names of the timelines that have come."""
        with self._lock:
            return list(self._lines)

    def fields(self, timeline: str) -> list[str]:
        """Names of the fields that the timeline has had."""
        with self._lock:
            line = self._lines.get(timeline)
            return list(line.join().columns) if line else []

    def position(self, timeline: str) -> Position:
        """How far the timeline has come."""
        with self._lock:
            return Position(self.epoch, self._lines.get(timeline, _Line()).seq)

    def span(self, timeline: str) -> tuple[int, int] | None:
        """First and last time in microseconds; None if the timeline has no rows."""
        with self._lock:
            line = self._lines.get(timeline)
            body = line.join() if line else None
        return (int(body.t[0]), int(body.t[-1])) if body is not None and len(body) else None

    def newest(self, timeline: str) -> int | None:
        """Last time in microseconds; None if the timeline has no rows."""
        with self._lock:
            line = self._lines.get(timeline)
            return line.newest if line else None

    def interval(self, timeline: str) -> float | None:
        """Median spacing in seconds; None with fewer than two rows."""
        with self._lock:
            line = self._lines.get(timeline)
            t = line.join().t if line else np.empty(0, np.int64)
        return float(np.median(np.diff(t))) / MICROS if len(t) > 1 else None


def joined_ranges(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges [start, end) in order, those that touch as one; empty ones are left out."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if start >= end:
            continue
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return joined
