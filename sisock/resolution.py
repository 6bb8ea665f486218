"""What is read of a history for a request: all its rows, or no more than the answer will show of them.

Rows are counted before they are read, so that what no answer can hold costs nothing. Extremes come from the history's
own overviews, at the cost of pixels; other methods read rows, up to a bound.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sisock.blocks import Block, concat
from sisock.downsample import stride, thin
from sisock.history import History
from sisock.requests import MAX_VALUES, DataRequest, Reading
from sisock.times import to_micros

# So many rows are read at most to make few of them by mean, last or min_stride.
MAX_SCANNED = 5_000_000
PAGE = 1 << 18
# Of each point of an answer by LTTB so many extremes are looked at.
LTTB_CANDIDATES = 4


def read(history: History, timeline: str, fields: Sequence[str], request: DataRequest) -> Reading | None:
    """The rows of these fields at the resolution that was asked for; None if that is more than an answer may hold."""
    start, end = request.span.micros()
    rows = history.count(timeline, start, end)
    if request.min_stride is not None and request.min_stride > 0:
        return _strided(history, timeline, fields, request, rows)
    if request.max_points is None or rows <= request.max_points:
        if rows * 2 > MAX_VALUES:
            return None
        return Reading(history.read(timeline, fields, start, end)[0])
    if request.method == "minmax":
        return Reading(history.thinned(timeline, fields, start, end, request.max_points), rows=rows)
    if request.method == "lttb":
        candidates = history.thinned(timeline, fields, start, end, LTTB_CANDIDATES * request.max_points)
        return Reading(thin(candidates, request.max_points, "lttb"), rows=rows)
    if rows > MAX_SCANNED:
        return None
    block = concat(page for page, _ in history.pages(timeline, fields, start, end, PAGE))
    return Reading(thin(block, request.max_points, request.method), rows=len(block))


def _strided(history: History, timeline: str, fields: Sequence[str], request: DataRequest, rows: int) -> Reading | None:
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
    return Reading(concat(kept))
