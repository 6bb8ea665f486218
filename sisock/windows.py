"""Windows: one value of each stretch of time on an exact grid, for whoever draws or counts by the minute or the hour.

A window is half-open; `step` is from the beginning of one to that of the next, and `width` is how long each is: as long as
the step unless said otherwise, so windows may overlap or leave gaps. None reaches behind the end of the range.

`min`, `max`, `sum`, `mean` and `count` answer a row a window that has values, at the window's beginning; `last` answers the
rows in which each field's newest values stand, at their true times. A null is no value. NaN is one: it makes a sum or a mean
NaN, but is a least or greatest value only where there is no number. Booleans count as 0 and 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from sisock.blocks import Block, Bools, Column, concat
from sisock.times import EARLIEST, LATEST, Micros

WindowMethod = Literal["min", "max", "sum", "mean", "count", "last"]
WINDOW_METHODS: tuple[WindowMethod, ...] = get_args(WindowMethod)

# Windows of one request.
MAX_WINDOWS = 100_000

_ALL = slice(None)

Index = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows [start + i * step, start + i * step + width) as far as `end`, in microseconds."""

    start: int
    end: int
    step: int
    width: int

    def __len__(self) -> int:
        return max(0, -(-(self.end - self.start) // self.step))

    @property
    def starts(self) -> Micros:
        """Where each begins."""
        return self.start + self.step * np.arange(len(self), dtype=np.int64)

    @property
    def ends(self) -> Micros:
        """Where each ends."""
        return np.minimum(self.starts + self.width, self.end)

    def edges(self) -> Micros:
        """All beginnings and ends, ascending: between two that follow each other the same windows go on."""
        return np.unique(np.concatenate([self.starts, self.ends]))


def windowed(block: Block, windows: Windows, method: WindowMethod, part: slice = _ALL) -> Block:
    """The rows of the windows, or of a part of them, of all rows that lie in these."""
    starts, ends = windows.starts[part], windows.ends[part]
    if method == "last":
        return block.take(_last_rows(block, starts, ends))
    low, high = np.searchsorted(block.t, starts), np.searchsorted(block.t, ends)
    columns = {
        name: _reduced(column, low, high, method)
        for name, column in block.columns.items()
        if column.values.dtype.kind != "O" or method == "count"
    }
    return Block(starts, columns)


def windowed_pages(pages: Iterable[Block], windows: Windows, method: WindowMethod) -> Block:
    """The rows of the windows, of pages that follow each other; of these no more is held than open windows need."""
    starts, ends = windows.starts, windows.ends
    found: list[Block] = []
    held, done = Block(np.empty(0, np.int64)), 0

    def close(upto: int) -> None:
        shown = windowed(held, windows, method, slice(done, upto))
        # What is the last row of several windows is shown once.
        after = int(found[-1].t[-1]) if method == "last" and found else EARLIEST
        found.extend(part for part in (shown.between(after + 1, LATEST),) if len(part))

    for page in pages:
        if not len(page):
            continue
        held = concat((held, page))
        closed = int(np.searchsorted(ends, int(page.t[-1]), side="right"))
        if closed > done:
            close(closed)
            done = closed
        held = held.between(int(starts[done]), LATEST) if done < len(starts) else held.take(slice(0, 0))
    if done < len(starts):
        close(len(starts))
    return concat(found)


def _last_rows(block: Block, starts: Micros, ends: Micros) -> Bools:
    chosen = np.zeros(len(block), np.bool_)
    for column in block.columns.values():
        there = np.flatnonzero(column.mask())
        t = block.t[there]
        at = np.searchsorted(t, ends) - 1
        inside = (at >= 0) & (t[np.maximum(at, 0)] >= starts) if len(t) else np.zeros(len(starts), np.bool_)
        chosen[there[at[inside]]] = True
    return chosen


def _reduced(column: Column, low: Index, high: Index, method: WindowMethod) -> Column:
    there = column.mask()
    before = np.concatenate([[0], np.cumsum(there)])
    counts = before[high] - before[low]
    if method == "count":
        return Column(counts.astype(np.float64), counts > 0)
    values = column.numbers()
    ends = np.stack([low, np.maximum(low, high)], axis=1).reshape(-1)
    if not len(ends):
        return Column(np.empty(0))
    if method in ("min", "max"):
        pick: np.ufunc = np.fmin if method == "min" else np.fmax
        # A null is NaN here, which only counts where nothing else is.
        return Column(pick.reduceat(np.append(values, np.nan), ends)[::2], counts > 0)
    with np.errstate(all="ignore"):
        sums = np.add.reduceat(np.append(np.where(there, values, 0.0), 0.0), ends)[::2]
    return Column(means(sums, counts) if method == "mean" else sums, counts > 0)


def means(sums: Floats, counts: npt.NDArray[Any]) -> Floats:
    """The means of windows that have these sums and so many values."""
    with np.errstate(all="ignore"):
        found: Floats = sums / counts
    return found


class Tiles:
    """What stands between each two edges; windows are put together of it."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows
        self.edges = windows.edges()
        self.low = np.searchsorted(self.edges, windows.starts)
        self.high = np.searchsorted(self.edges, windows.ends)

    def __len__(self) -> int:
        return len(self.edges) - 1

    def wanted(self) -> Bools:
        """The tiles that lie in any window."""
        covers = np.zeros(len(self) + 1, np.int64)
        np.add.at(covers, self.low, 1)
        np.add.at(covers, self.high, -1)
        wanted: Bools = np.cumsum(covers)[:-1] > 0
        return wanted

    def gather(self, values: npt.NDArray[Any], pick: np.ufunc) -> npt.NDArray[Any]:
        """One value a window of one a tile."""
        if (self.high - self.low == 1).all():
            return values[self.low]
        ends = np.stack([self.low, self.high], axis=1).reshape(-1)
        gathered: npt.NDArray[Any] = pick.reduceat(np.append(values, values[-1:]), ends)[::2]
        return gathered
