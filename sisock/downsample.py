"""Downsampling: fewer rows that still show what the many did.

`minmax` and `lttb` pick rows, so every value stays at its true time; where several fields share the timeline the rows
of all of them are kept, up to `max_points` for each. `mean` and `last` make one row a bucket. Buckets divide the time
from the first row to the last evenly, so a gap stays as wide as it is.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from tsdownsample import MinMaxLTTBDownsampler

from sisock.blocks import Block, Bools, Column
from sisock.times import Micros

Method = Literal["minmax", "lttb", "mean", "last"]
METHODS: tuple[Method, ...] = get_args(Method)

Index = npt.NDArray[np.intp]


def thin(block: Block, max_points: int, method: Method = "minmax") -> Block:
    """The block in at most `max_points` rows a field; the block itself if it has no more."""
    if len(block) <= max_points:
        return block
    match method:
        case "mean":
            return _means(block, max_points)
        case "last":
            return block.take(_last_of_buckets(block.t, max_points))
        case _:
            picked = [_pick(block.t, column, max_points, method) for column in block.columns.values()]
            return block.take(_union(picked, len(block)))


def stride(t: Micros, least: int) -> Index:
    """Rows of which each is at least `least` microseconds after the one before: the first, and then the next that may."""
    if least <= 0 or len(t) < 2 or int(np.diff(t).min()) >= least:
        return np.arange(len(t))
    picked = [0]
    last = len(t)
    while True:
        following = int(np.searchsorted(t, t[picked[-1]] + least))
        if following >= last:
            return np.array(picked, np.intp)
        picked.append(following)


def _union(picked: list[Index], rows: int) -> Bools:
    chosen = np.zeros(rows, np.bool_)
    for index in picked:
        chosen[index] = True
    return chosen


def _pick(t: Micros, column: Column, max_points: int, method: Method) -> Index:
    """Rows of one column that keep its shape."""
    if column.values.dtype.kind == "O":
        # Text has no extremes: what was said last in each bucket.
        there = np.flatnonzero(column.mask())
        return there[_last_of_buckets(t[there], max_points)] if len(there) > max_points else there
    numbers = column.numbers()
    # An infinity is nothing that a plot can show; as the extreme of its bucket it would hide the finite one.
    there = np.flatnonzero(np.isfinite(numbers))
    if len(there) <= max_points:
        return there
    # Counted from the first row: floats, in which the library divides, do not hold every microsecond of a far time.
    x, y = t[there] - t[there[0]], numbers[there]
    if method == "lttb" and max_points >= 4:
        index: Index = MinMaxLTTBDownsampler().downsample(x, y, n_out=max_points).astype(np.intp)
        return there[index]
    return there[_extremes(x, y, max(1, max_points // 2))[:max_points]]


def _extremes(x: Micros, y: npt.NDArray[np.float64], buckets: int) -> Index:
    """Rows of the first minimum and the first maximum of each bucket.

    The library's MinMaxDownsampler is not asked: it loses rows of the last bucket, the newest among them.
    """
    starts = _starts(x, buckets)
    rows = np.diff(np.append(starts, len(x)))
    picked = []
    for extreme in (np.minimum, np.maximum):
        at = np.flatnonzero(y == np.repeat(extreme.reduceat(y, starts), rows))
        # Each bucket has one, so the first at or after its start is its own.
        picked.append(at[np.searchsorted(at, starts)])
    return np.unique(np.concatenate(picked))


def _starts(t: Micros, buckets: int) -> Index:
    """First row of each bucket that has any."""
    since = t - t[0]
    edges = np.linspace(0.0, float(since[-1]), buckets + 1)[:-1]
    starts = np.unique(np.searchsorted(since, np.ceil(edges).astype(np.int64)))
    return starts[starts < len(t)]


def _last_of_buckets(t: Micros, buckets: int) -> Index:
    return np.append(_starts(t, buckets)[1:], len(t)) - 1


def _means(block: Block, buckets: int) -> Block:
    """One row a bucket, at its first time: means of numbers and booleans, the last of texts.

    Nulls, NaN and infinities do not count.
    """
    starts = _starts(block.t, buckets)
    columns: dict[str, Column] = {}
    for name, column in block.columns.items():
        if column.values.dtype.kind == "O":
            said = np.maximum.reduceat(np.where(column.mask(), np.arange(len(block)), -1), starts)
            columns[name] = Column(column.values[said], said >= 0)
            continue
        numbers = column.numbers()
        there = np.isfinite(numbers)
        counts = np.add.reduceat(there, starts, dtype=np.int64)
        # Divided before they are added, so that the largest numbers do not add up to infinity.
        share = np.repeat(np.maximum(counts, 1), np.diff(np.append(starts, len(block))))
        means = np.add.reduceat(np.where(there, numbers, 0.0) / share, starts)
        columns[name] = Column(means, counts > 0)
    return Block(block.t[starts], columns)
