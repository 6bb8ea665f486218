"""The base class of data nodes: what the author of an instrument's node writes."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from inspect import cleandoc
from math import inf
from typing import Any, ClassVar

import numpy as np

from sisock import resolution
from sisock.beside import TableRows, Tables
from sisock.blocks import Block, news
from sisock.downsample import Method
from sisock.errors import InvalidArgument, LateRow, LostLease, NodeFailed, StoreAway, TooMuch
from sisock.fields import DEFAULT_TIMELINE, Catalogue, Field, Timeline
from sisock.history import History, Keeping, MemoryHistory, Retaining
from sisock.positions import Position
from sisock.requests import DataRequest, Reading, Rows, Span, answer, by_timeline, finalized_until, reduced
from sisock.times import now
from sisock.uris import check_field_name, check_node_name

# Seconds until a sample must be kept; then it counts as an error.
KEEPING = 60.0
# Rows that are read at most to see which of a correction's are there already: so many times its own, and so many more.
NEWS_FACTOR = 4
NEWS_ROWS = 4096


@dataclass
class Health:
    """How a node's sampling and keeping go.

    `sampling_since` is when the call that is not back yet began, in UNIX seconds; `keeping` tells whether the database is
    away, where the history is kept in one that can be.
    """

    samples: int = 0
    missed: int = 0
    errors: int = 0
    last_error: str | None = None
    refused: int = 0
    last_refused: str | None = None
    sampling_since: float | None = None
    keeping: Keeping | None = None


class DataNode:
    """A program that offers an instrument's data.

    There are three ways to give it data:

    - define `sample`, which is called each `interval` seconds in a thread and returns a dict of values;
    - call `append` whenever there is something, from any thread;
    - override `get_fields` and `get_data`, plain, blocking or async, where the data live elsewhere.

    `sisock run module:Class` serves it.
    """

    name: ClassVar[str] = ""
    """What consumers call the node; it stands in its URIs."""
    description: str = ""
    """What consumers see beside the name; the class's docstring if it is not given."""
    interval: ClassVar[float | None] = None
    """Seconds between two calls of `sample`."""
    fields: Mapping[str, Field] = {}
    """The fields there are from the start; `declare` adds others."""
    timelines: Mapping[str, Timeline] = {}
    """What is special about a timeline: its interval, its lateness."""
    max_rows: ClassVar[int] = 1_000_000
    """How many rows of each timeline are kept."""
    store: str | None = None
    """The database in which its history is kept; None for the site's."""
    tables: ClassVar[Tables | None] = None
    """SQL tables of the node's own, which are kept beside its timelines in the store."""
    measures: ClassVar[bool] = True
    """Whether the interval of a timeline that declares none is read off its rows."""
    procedures: Mapping[str, Callable[..., Awaitable[Any]]] = {}
    """What else can be called, by the last part of its URI: `send`, of a node that takes messages. In the reactor's thread."""
    options: ClassVar[Mapping[str, str]] = {}
    """What `sisock run NODE --name VALUE` takes: option to the variable of the environment that it sets."""
    batch: ClassVar[float] = 0.02
    """Seconds in which blocks are gathered to be published together; the first after a pause goes at once."""

    def __init__(self) -> None:
        check_node_name(self.name)
        self.description = self.description or cleandoc(type(self).__doc__ or "")
        self.history: History = MemoryHistory(self.max_rows)
        self.health = Health()
        # Called, from any thread, when another process has taken over the node's history.
        self.on_lost: Callable[[LostLease], None] | None = None
        # Called, from any thread and in the order of the commits, with each block that was kept.
        self.on_kept: Callable[[str, Block, Position], None] | None = None
        # Asks a procedure of the router from a thread of the node's own; None while there is no session.
        self.ask_router: Callable[..., Any] | None = None
        declared, self.fields = self.fields, {}
        self.timelines = dict(self.timelines)
        self.declare(declared)

    def declare(self, fields: Mapping[str, Field], timelines: Mapping[str, Timeline] | None = None) -> None:
        """Adds fields (or describes them anew) and what is special about their timelines."""
        for name, spec in fields.items():
            check_field_name(name)
            if not isinstance(spec, Field):
                raise InvalidArgument(f"{name} is declared by a sisock.Field, not {type(spec).__name__}")
        # New mappings, so that a reader in another thread never sees one change.
        self.fields = {**self.fields, **fields}
        self.timelines = {**self.timelines, **(timelines or {})}

    def start(self) -> None:
        """Called once before the node is announced, in a thread; opens what it reads from."""

    def stop(self) -> None:
        """Called once when the node ends, in a thread."""

    def trouble(self) -> str | None:
        """What is wrong with the node now, in words of its own; None for nothing. Asked every few seconds; it may not block.

        `sisock doctor` tells it.
        """
        return None

    def sample(self) -> Mapping[str, Any] | None:
        """One row of values, for the time just before the call; None for no row. May block."""
        raise TypeError(f"{type(self).__name__} has an interval but no sample()")

    def append(self, timeline: str, t: Any, values: Mapping[str, Any], *, correct: bool = False) -> Future[Position]:
        """Keeps one row or columns of it, from any thread.

        `t` is UNIX seconds, a number or a sequence; `values` maps each field to a value, or to a sequence as long as
        `t`; None is null. The Future is done with the rows' position when they are kept. A row older than the
        timeline's newest by more than its lateness raises LateRow unless it is `correct`; fields that are not declared,
        or of another timeline or type, raise InvalidArgument.
        """
        if isinstance(values, Mapping):
            # An author may fill the same array again before the rows are written.
            values = {name: one.copy() if isinstance(one, np.ndarray) else one for name, one in values.items()}
        return self.append_block(timeline, Block.of(t, values), correct=correct)

    def append_block(
        self, timeline: str, block: Block, *, correct: bool = False, beside: Sequence[TableRows] = ()
    ) -> Future[Position]:
        """Keeps a block as `append` does: for those who have whole microseconds and columns already.

        Its arrays are not copied, and must stay as they are. What is to stand `beside` it in the node's own `tables` is kept
        in the same transaction.
        """
        self._check_declared(timeline, block)
        wait = not _in_reactor()
        if correct and wait and len(block) and not beside:
            # A file that is read again brings what is there already; only what is new is written.
            block, position = self._news(timeline, block)
            if position is not None and not len(block):
                unchanged: Future[Position] = Future()
                unchanged.set_result(position)
                return unchanged
        lateness = self.lateness(timeline)
        kept = self.history.append(timeline, block, lateness=lateness, correct=correct, wait=wait, beside=beside)
        if kept.done() and (error := kept.exception()) is not None:
            raise error
        # Whoever does not wait for the Future still is told of an error, in the node's health.
        kept.add_done_callback(partial(self._note, timeline, block))
        return kept

    def _news(self, timeline: str, block: Block) -> tuple[Block, Position | None]:
        """The rows of a block that are not there yet; all of them, without a position, where to see that costs too much."""
        start, end = int(block.t[0]), int(block.t[-1]) + 1
        # With its database away nobody can say what is there.
        with suppress(StoreAway):
            # Two corrections that lie far apart are written sooner than all between them is read.
            if self.history.count(timeline, start, end) <= NEWS_FACTOR * len(block) + NEWS_ROWS:
                there, position = self.history.read(timeline, list(block.columns), start, end)
                return news(there, block), position
        return block, None

    def _note(self, timeline: str, block: Block, kept: Future[Position]) -> None:
        error = kept.exception()
        if error is None and self.on_kept is not None:
            self.on_kept(timeline, block, kept.result())
        if isinstance(error, LostLease) and self.on_lost is not None:
            self.on_lost(error)
        if error is not None:
            self.health.refused += 1
            self.health.last_refused = f"{type(error).__name__}: {error}"

    def retain(self, timeline: str, keep: float) -> None:
        """Keeps rows of a timeline for so many seconds only, where the history is one on disk; waits until that is so."""
        if isinstance(self.history, Retaining):
            self.history.retain(timeline, keep).result(KEEPING)

    def get_fields(self, start: float, end: float | None) -> Any:
        """What the node offers in [start, end), as a Catalogue or as contract A6's [fields, timelines].

        Times are UNIX seconds; an end of None is open. This default answers all that is declared.
        """
        fields = self.fields
        used = dict.fromkeys(spec.timeline for spec in fields.values())
        return Catalogue(fields, {name: self._measured(name) for name in used})

    def get_data(
        self,
        field: list[str],
        start: float,
        end: float | None,
        min_stride: float | None = None,
        max_points: int | None = None,
        method: Method = "minmax",
    ) -> Any:
        """Data of these fields in [start, end), in contract A7's form; False if that is more than one answer may hold.

        Times are UNIX seconds; an end of None is open. This default reads what was appended or sampled. An override
        may leave out the last two parameters: its answer is then downsampled for it.
        """
        return self.answer(DataRequest(tuple(field), Span(start, inf if end is None else end), min_stride, max_points, method))

    def answer(self, request: DataRequest) -> dict[str, Any] | bool:
        """What was appended or sampled, in lists; False if that is more than one answer may hold."""
        known = self._known(request)
        readings: dict[str, Reading] = {}
        for timeline, names in by_timeline(request.fields, known).items():
            # Before the rows: what comes in between is not final for whoever did not get it.
            final = self.final(timeline, request.span.end)
            reading = resolution.read(self.history, timeline, names, request)
            if reading is None:
                return False
            readings[timeline] = replace(reading, finalized_until=final)
        return answer(request, known, readings)

    def rows(self, request: DataRequest) -> Iterator[Rows]:
        """What was appended or sampled, as blocks of each timeline that are read when they are asked for.

        TooMuch for more than one call may bring.
        """
        known = self._known(request)
        for timeline, names in by_timeline(request.fields, known).items():
            final = self.final(timeline, request.span.end)
            fields = {name: known.fields[name] for name in names}
            if request.since is None and not request.reduces:
                start, end = request.span.micros()
                tail = self.history.tail(timeline, names, start, end)
                # What comes while the rows are read is behind these, and the position says so.
                last = int(tail.block.t[-1]) + 1 if len(tail.block) else start
                blocks = resolution.batches(self.history, timeline, names, start, last)
                yield Rows(timeline, fields, blocks, Reading(tail.block, final, position=tail.position))
                continue
            reading = resolution.read(self.history, timeline, names, request)
            if reading is None:
                raise TooMuch(f"{timeline} has more in that time than can be made few. Ask for a shorter time.")
            block, before = reduced(request, names, reading)
            yield Rows(timeline, fields, iter([block]), replace(reading, block=block, rows=before, finalized_until=final))

    def final(self, timeline: str, end: float) -> float | None:
        """Before when rows of a timeline will not change, in seconds; None where that covers all up to `end`."""
        return finalized_until(self.history.newest(timeline), self.lateness(timeline), end)

    def lateness(self, timeline: str) -> float:
        """How long after the newest row of a timeline an older one may still come, in seconds."""
        return self._timeline(timeline).lateness

    def _known(self, request: DataRequest) -> Catalogue:
        fields = self.fields
        return Catalogue({name: fields[name] for name in request.fields if name in fields})

    def _timeline(self, name: str) -> Timeline:
        return self.timelines.get(name) or Timeline(self.interval if name == DEFAULT_TIMELINE else None)

    def _measured(self, name: str) -> Timeline:
        """The timeline with the interval that it was declared with, or else the one that its rows have."""
        timeline = self._timeline(name)
        if timeline.interval is not None or not self.measures:
            return timeline
        return Timeline(self.history.interval(name), timeline.lateness)

    def _check_declared(self, timeline: str, block: Block) -> None:
        for name, column in block.columns.items():
            spec = self.fields.get(name)
            if spec is None or spec.timeline != timeline:
                where = "is not declared" if spec is None else f"is declared on the timeline {spec.timeline!r}"
                raise InvalidArgument(f"{name!r} {where}; declare it as Field(timeline={timeline!r}) first")
            if column.type != spec.type and not column.is_null:
                raise InvalidArgument(f"{name!r} is declared as {spec.type}, but its values are {column.type}")

    def take_sample(self) -> None:
        """Calls `sample` once and keeps its row; an error is counted, kept in `health` and raised."""
        t = self.health.sampling_since = now()
        try:
            try:
                row = self.sample()
            except SystemExit as error:
                # It would end the thread, and with it all sampling, without a word.
                raise NodeFailed(f"sample() asked to exit ({error.code})") from error
            if row is None:
                return
            if not isinstance(row, Mapping):
                raise InvalidArgument(f"sample() returns a dict of fields or None, not {type(row).__name__}")
            for timeline, values in self._split(row).items():
                self._keep_sample(timeline, t, values)
        except Exception as error:
            self.health.errors += 1
            self.health.last_error = f"{type(error).__name__}: {error}"
            raise
        finally:
            self.health.sampling_since = None
        self.health.samples += 1

    def _keep_sample(self, timeline: str, t: float, values: dict[str, Any]) -> None:
        """Keeps a row and waits until it is kept. A clock that jumped back makes it late, and it is kept all the same."""
        try:
            self.append(timeline, t, values).result(KEEPING)
        except LateRow:
            self.append(timeline, t, values, correct=True).result(KEEPING)

    def _split(self, row: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        by_timeline: dict[str, dict[str, Any]] = {}
        for name, value in row.items():
            spec = self.fields.get(name)
            by_timeline.setdefault(spec.timeline if spec else DEFAULT_TIMELINE, {})[name] = value
        return by_timeline


def _in_reactor() -> bool:
    """Whether this is the reactor's thread, which must not be blocked."""
    threadable = sys.modules.get("twisted.python.threadable")
    return threadable is not None and bool(threadable.isInIOThread())
