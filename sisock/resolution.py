"""What is read of a history for a request: all its rows, or no more than the answer will show of them.

Rows are counted before they are read, so that what no answer can hold costs nothing. Extremes come from the history's
own overviews, at the cost of pixels; other methods read rows, up to a bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf
from typing import cast

import numpy as np

from sisock.blocks import Block, concat
from sisock.downsample import Method, stride, thin
from sisock.history import History
from sisock.positions import Position
from sisock.requests import MAX_ARROW, MAX_VALUES, DataRequest, Reading
from sisock.times import to_micros
from sisock.windows import WindowMethod

# So many rows are read at most to make few of them by mean, last or min_stride.
MAX_SCANNED = 5_000_000
# Rows that are read together to make few of them.
PAGE = 1 << 16
# Bytes that are read together to be sent: several batches, since a read has its price.
PAGE_BYTES = 2 << 20
# Of each point of an answer by LTTB so many extremes are looked at.
LTTB_CANDIDATES = 4
# Rows of a call's first batch, so that a reader has something soon.
FIRST_ROWS = 8192


def read(history: History, timeline: str, fields: Sequence[str], request: DataRequest) -> Reading | None:
    """The rows of these fields at the resolution that was asked for; None if that is more than an answer may hold."""
    start, end = request.span.micros()
    if request.since is not None and timeline in request.since:
        changes = history.changes(timeline, fields, request.since[timeline], start, end)
        return Reading(changes.block, position=changes.position, revises=changes.revises)
    if request.max_points == 1 and request.method == "last" and not request.min_stride:
        tail = history.tail(timeline, fields, start, end)
        last = int(tail.block.t[-1]) if len(tail.block) else None
        return Reading(tail.block, rows=tail.rows, first=tail.first, last=last, position=tail.position)
    # Taken before the rows are read, it is never ahead of them: what came meanwhile is told once more to who follows.
    position = history.position(timeline)
    if request.step is not None:
        newest = history.newest(timeline) if request.span.end == inf else None
        windows = request.windows(start if newest is None else newest)
        if len(windows) * (1 + len(fields)) > (MAX_VALUES if request.encoding == "lists" else MAX_ARROW // 8):
            return None
        block = history.windowed(timeline, fields, windows, cast(WindowMethod, request.method))
        return Reading(block, rows=len(block), position=position)
    rows = history.count(timeline, start, end)
    if request.min_stride is not None and request.min_stride > 0:
        return _strided(history, timeline, fields, request, rows, position)
    if request.max_points is None or rows <= request.max_points:
        if rows * 2 > (MAX_VALUES if request.encoding == "lists" else MAX_ARROW // 8):
            return None
        block, position = history.read(timeline, fields, start, end)
        return Reading(block, position=position)
    if request.method == "minmax":
        shown = history.thinned(timeline, fields, start, end, request.max_points)
        return Reading(shown, rows=rows, position=position)
    if request.method == "lttb":
        candidates = history.thinned(timeline, fields, start, end, LTTB_CANDIDATES * request.max_points)
        return Reading(thin(candidates, request.max_points, "lttb"), rows=rows, position=position)
    if rows > MAX_SCANNED:
        return None
    block = concat(page for page, _ in history.pages(timeline, fields, start, end, PAGE))
    return Reading(thin(block, request.max_points, cast(Method, request.method)), rows=len(block), position=position)


def _strided(
    history: History, timeline: str, fields: Sequence[str], request: DataRequest, rows: int, position: Position
) -> Reading | None:
    if rows > MAX_SCANNED:
        return None
    least = to_micros(request.min_stride or 0.0)
    kept: list[Block] = []
    last: int | None = None
    held = 0
    for page, _ in history.pages(timeline, fields, *request.span.micros(), PAGE):
        following = page if last is None else page.take(slice(int(np.searchsorted(page.t, last + least)), None))
        if not len(following):
            continue
        block = following.take(stride(following.t, least))
        last = int(block.t[-1])
        held += len(block)
        if held * 2 > MAX_VALUES and request.max_points is None:
            return None
        kept.append(block)
    # What is left is thinned by max_points with the answer.
    return Reading(concat(kept), position=position)


def batches(history: History, timeline: str, fields: Sequence[str], start: int, end: int) -> Iterator[Block]:
    """All rows in [start, end) in blocks of about PAGE_BYTES; the first is short, and read by itself."""
    # A null takes as much room as a number.
    row = 8 * (1 + len(fields))
    for rows, is_first in ((FIRST_ROWS, True), (max(FIRST_ROWS, PAGE_BYTES // row), False)):
        for page, _ in history.pages(timeline, fields, start, end, rows):
            if not len(page):
                continue
            start = int(page.t[-1]) + 1
            # Some histories have no short pages.
            yield from (page.take(slice(FIRST_ROWS)), page.take(slice(FIRST_ROWS, None))) if is_first else (page,)
            if is_first:
                break
