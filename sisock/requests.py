"""Requests and answers: what a caller may ask of a node, checked, and the answer's form on the wire (contract A7)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np

from sisock.blocks import Block
from sisock.downsample import METHODS, Method, stride, thin
from sisock.errors import InvalidArgument, TooMuch, shown
from sisock.fields import Catalogue, Field
from sisock.positions import Position
from sisock.times import LATEST, MICROS, now, resolve, to_micros, to_seconds
from sisock.windows import MAX_WINDOWS, WINDOW_METHODS, WindowMethod, Windows, windowed

# Lists cost the router's one thread 0.2 to 4 seconds a million values: beyond this an answer is False.
MAX_VALUES = 250_000
# The router's messages hold 16 MB; text of an answer takes at most so many characters of it.
MAX_TEXT = 4_000_000
# Bytes of Arrow that one answer holds, and that one call may bring to a caller who takes them as they come.
MAX_ARROW = 8 << 20
MAX_CALL = 16 << 20
# Bytes of one batch of it: long enough to be worth a message, short enough to be read while the next one is made.
BATCH_BYTES = 512 << 10

Encoding = Literal["lists", "arrow"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range of time [start, end), in UNIX seconds; `end` is infinite where it is open."""

    start: float
    end: float

    @classmethod
    def of(cls, start: Any, end: Any) -> Span:
        """The range that a caller asked for, in the wire's convention; a null end is unbounded."""
        present = now()
        return cls(
            resolve(_number("start", start), present),
            math.inf if end is None else resolve(_number("end", end), present),
        )

    def micros(self) -> tuple[int, int]:
        """The range in whole microseconds."""
        return to_micros(self.start), to_micros(self.end)


@dataclass(frozen=True, slots=True)
class DataRequest:
    """A checked call of get_data."""

    fields: tuple[str, ...]
    span: Span
    min_stride: float | None = None
    max_points: int | None = None
    method: Method | WindowMethod = "minmax"
    encoding: Encoding = "lists"
    since: Mapping[str, Position] | None = None
    step: float | None = None
    width: float | None = None

    @property
    def reduces(self) -> bool:
        """Whether fewer rows are asked for than there are."""
        return self.max_points is not None or bool(self.min_stride) or self.step is not None

    @property
    def is_overview(self) -> bool:
        """Whether a history's overviews answer it, so that it takes milliseconds, however many rows there are."""
        if self.since is not None or self.min_stride:
            return False
        return self.step is not None or (self.max_points is not None and self.method in ("minmax", "lttb"))

    def windows(self, newest: int) -> Windows:
        """The windows that are asked for, up to the newest row where the range has no end; TooMuch for too many."""
        start, end = self.span.micros()
        step = to_micros(self.step or 0.0)
        width = step if self.width is None else to_micros(self.width)
        windows = Windows(start, min(end, newest + 1) if math.isinf(self.span.end) else end, step, width)
        if len(windows) > MAX_WINDOWS:
            raise TooMuch(f"{len(windows)} windows are more than the {MAX_WINDOWS} of one answer. Ask for a longer step.")
        return windows

    @property
    def is_old(self) -> bool:
        """Whether it says nothing that contract A does not know; its answer then holds nothing else, either."""
        later = (self.max_points, self.since, self.step)
        return all(one is None for one in later) and self.encoding == "lists" and not math.isinf(self.span.end)

    @classmethod
    def of(
        cls,
        field: Any,
        start: Any,
        end: Any,
        min_stride: Any = None,
        max_points: Any = None,
        method: Any = None,
        encoding: Any = None,
        since: Any = None,
        step: Any = None,
        width: Any = None,
    ) -> DataRequest:
        """The request as it came from the wire; InvalidArgument names the argument that does not fit."""
        if field is None:
            names: list[Any] = []
        elif isinstance(field, (list, tuple)):
            names = list(field)
        else:
            raise InvalidArgument(f"field is a list of names or null, not {shown(field)}")
        for name in names:
            if not _is_text(name):
                raise InvalidArgument(f"field holds {shown(name)}; names are text")
        if min_stride is not None:
            min_stride = _number("min_stride", min_stride)
            if min_stride < 0:
                raise InvalidArgument("min_stride is a number of seconds, 0 or more")
        if max_points is not None:
            if isinstance(max_points, bool) or not isinstance(max_points, (int, float)) or max_points != max_points // 1:
                raise InvalidArgument(f"max_points is a whole number, not {shown(max_points)}")
            if max_points < 1:
                raise InvalidArgument("max_points is 1 or more")
            max_points = int(min(max_points, 2**53))
        step, width = _window("step", step), _window("width", width)
        known: tuple[str, ...] = METHODS if step is None else WINDOW_METHODS
        if method is not None and method not in known:
            raise InvalidArgument(f"method is one of {', '.join(known)}{' with a step' if step else ''}, not {shown(method)}")
        if width is not None and step is None:
            raise InvalidArgument("width says how long windows are; step says how far apart, and must be there, too")
        if step is not None and (max_points is not None or min_stride or since is not None):
            raise InvalidArgument("step makes one value of each window; it takes neither max_points nor min_stride nor since")
        if encoding is not None and encoding not in ENCODINGS:
            raise InvalidArgument(f"encoding is one of {', '.join(ENCODINGS)}, not {shown(encoding)}")
        if since is not None and not isinstance(since, Mapping):
            raise InvalidArgument(f"since is a dict of timelines and their positions, not {shown(since)}")
        positions = None if since is None else {str(name): Position.from_wire(one) for name, one in since.items()}
        if positions is not None and (max_points is not None or min_stride):
            raise InvalidArgument("since answers all that came after a position; it takes neither max_points nor min_stride")
        return cls(
            tuple(dict.fromkeys(names)),
            Span.of(start, end),
            min_stride,
            max_points,
            method or ("minmax" if step is None else "mean"),
            cast(Encoding, encoding or "lists"),
            positions,
            step,
            width,
        )


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidArgument(f"{name} is a number, not {shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InvalidArgument(f"{name} is a finite number, not {shown(value)}")
    return number


def _window(name: str, value: Any) -> float | None:
    """A length of time of at least a millisecond."""
    if value is None:
        return None
    seconds = _number(name, value)
    if not 0.001 <= seconds < LATEST / MICROS:
        raise InvalidArgument(f"{name} is a number of seconds, 0.001 or more, not {shown(value)}")
    return seconds


def _is_text(value: Any) -> bool:
    """Whether it is text that the wire can carry: a JSON escape may hold half of a surrogate pair."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Reading:
    """Rows of one timeline as a node answers them, and until when they are final (seconds; None: all of them are).

    `rows` says that they are at the resolution of the request already, how many they were before, `last` the time of the
    last of these, which may have no value of the fields that were asked for, and `first` about where
    these began (microseconds). `position` is the one that they reach. After a `since`, `revises` are the ranges
    [start, end), in microseconds, in which the rows replace all that was there.
    """

    block: Block
    finalized_until: float | None = None
    rows: int | None = None
    first: int | None = None
    last: int | None = None
    position: Position | None = None
    revises: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one timeline as blocks that are read when they are asked for, and what is known of them all.

    Of `about` the block may be the last row alone.
    """

    timeline: str
    fields: Mapping[str, Field]
    blocks: Iterator[Block]
    about: Reading


def _strided(block: Block, request: DataRequest) -> Block:
    """The rows that min_stride leaves."""
    return block.take(stride(block.t, to_micros(request.min_stride))) if request.min_stride else block


def _thinned(block: Block, request: DataRequest) -> Block:
    """The rows that max_points leaves."""
    return block if request.max_points is None else thin(block, request.max_points, cast(Method, request.method))


def reduced(request: DataRequest, names: Iterable[str], reading: Reading) -> tuple[Block, int]:
    """The rows of a reading that the answer shows of these fields, and how many they were before."""
    whole = with_values(reading.block, names)
    if reading.rows is not None or not len(whole):
        return whole, reading.rows or 0
    if request.step is not None:
        shown_rows = windowed(whole, request.windows(int(whole.t[-1])), cast(WindowMethod, request.method))
        return with_values(shown_rows, shown_rows.columns), len(whole)
    strided = _strided(whole, request)
    return _thinned(strided, request), len(strided)


def answer(request: DataRequest, catalogue: Catalogue, readings: Mapping[str, Reading]) -> dict[str, Any] | bool:
    """The wire's answer of these readings in lists, {"data", "timeline", ...}; False where it would hold too many values.

    Each field that was asked for stands in "data", with [] where it is unknown or has no rows; a timeline stands in
    "timeline" when one of its fields has rows.
    """
    data: dict[str, list[Any]] = {name: [] for name in request.fields}
    timelines: dict[str, dict[str, Any]] = {}
    downsampled: dict[str, dict[str, Any]] = {}
    held = text = 0
    for timeline, names in by_timeline(request.fields, catalogue).items():
        reading = readings.get(timeline)
        if reading is None:
            continue
        shown_rows, before = reduced(request, names, reading)
        if not len(shown_rows):
            if reading.last is not None:
                downsampled[timeline] = what_was_done(request, reading, before, 0)
            continue
        held += len(shown_rows) * (len(shown_rows.columns) + 1)
        listed = {name: column.to_list() for name, column in shown_rows.columns.items()}
        text += sum(map(text_size, listed.values()))
        if held > MAX_VALUES or text > MAX_TEXT:
            return False
        timelines[timeline] = {"t": (shown_rows.t / MICROS).tolist(), "finalized_until": reading.finalized_until}
        data.update(listed)
        if len(shown_rows) < before:
            downsampled[timeline] = what_was_done(request, reading, before, len(shown_rows))
    reply: dict[str, Any] = {"data": data, "timeline": timelines}
    if downsampled:
        reply["downsampled"] = downsampled
    return reply | reached(request, readings)


def what_was_done(request: DataRequest, reading: Reading, before: int, after: int) -> dict[str, Any]:
    """What an answer says of rows that were made fewer; "first" is about where they began, "last" the time of the last one."""
    done: dict[str, Any] = {"method": request.method, "from": before, "to": after}
    ends = {"first": reading.first, "last": reading.last}
    return done | {name: to_seconds(t) for name, t in ends.items() if t is not None}


def reached(request: DataRequest, readings: Mapping[str, Reading]) -> dict[str, Any]:
    """What an answer says of positions: those that it reaches, and after a `since` the ranges that it revises."""
    if request.is_old:
        return {}
    positions = {name: one.position.to_wire() for name, one in readings.items() if one.position is not None}
    told: dict[str, Any] = {"position": positions} if positions else {}
    if request.since is not None:
        told["revises"] = {
            name: [[to_seconds(start), to_seconds(end)] for start, end in one.revises] for name, one in readings.items()
        }
    return told


def text_size(values: list[Any]) -> int:
    """Characters of a column of text; 0 for other columns."""
    return sum(len(value) for value in values if isinstance(value, str))


def with_values(block: Block, names: Iterable[str]) -> Block:
    """The columns that have any value, and the rows in which one of these has."""
    masks = {name: block.columns[name].valid for name in names if name in block.columns}
    return rows_with_values(
        Block(block.t, {name: block.columns[name] for name, mask in masks.items() if mask is None or mask.any()})
    )


def rows_with_values(block: Block) -> Block:
    """The rows in which any column has a value."""
    if not block.columns:
        return block.take(slice(0, 0))
    partial = [column.valid for column in block.columns.values() if column.valid is not None]
    if len(partial) < len(block.columns):
        return block
    there = np.logical_or.reduce(partial)
    return block if there.all() else block.take(there)


def by_timeline(fields: Iterable[str], catalogue: Catalogue) -> dict[str, list[str]]:
    """The fields that are there, by their timelines."""
    grouped: dict[str, list[str]] = {}
    for name in fields:
        if name in catalogue.fields:
            grouped.setdefault(catalogue.fields[name].timeline, []).append(name)
    return grouped


def finalized_until(newest: int | None, lateness: float, end: float) -> float | None:
    """`newest - lateness` in seconds, or None where that covers all that was asked for up to `end`."""
    if newest is None:
        return None
    final = to_seconds(newest) - lateness
    return None if end <= final else final
