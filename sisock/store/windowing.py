"""Windowing: one value of each window on a grid, from the pyramid; what a window's edge cuts is read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from sisock.blocks import Block, Bools, Column, concat, merge
from sisock.store.cells import Index
from sisock.store.database import Tx
from sisock.store.descent import Extreme, Level, Source, Stretches, descend, loose_rows
from sisock.store.layers import EMPTY
from sisock.store.lines import Line, metas
from sisock.store.reading import last_before, page_end, read, span
from sisock.store.shelf import Shelf
from sisock.times import Micros
from sisock.windows import Floats, Tiles, WindowMethod, Windows, means, windowed

# With so few chunks in the range its rows are read as they are.
FEW_CHUNKS = 2
# Rows that are read together where a field's nulls leave nothing else.
PAGE_ROWS = 1 << 18


def window(tx: Tx, shelf: Shelf, line: Line, fields: Iterable[str], windows: Windows, method: WindowMethod) -> Block:
    """The rows of the windows; all that lies before their end is there."""
    kinds = line.only(fields)
    there = span(tx, line)
    if there is None or not kinds or not len(windows) or there[1] < windows.start or there[0] >= windows.end:
        return EMPTY
    low, end = max(windows.start, there[0]), min(windows.end, there[1] + 1)
    if len(metas(tx, line, low, end, FEW_CHUNKS + 2)) <= FEW_CHUNKS:
        return windowed(read(tx, shelf, line, kinds, low, end), windows, method)
    if method == "last":
        return _last(tx, shelf, line, kinds, windows)
    dirty, loose = loose_rows(tx, shelf, line, kinds, low, end)
    tiles = Tiles(windows)
    columns = {}
    for name, kind in kinds.items():
        if kind != "s" or method == "count":
            columns[name] = _column(Source(tx, shelf, line, name, dirty, loose), tiles, method)
    return Block(windows.starts, columns)


def _column(source: Source, tiles: Tiles, method: WindowMethod) -> Column:
    if method not in ("min", "max"):
        sums = descend(source, _Sums(tiles))
        counts = tiles.gather(sums.counts, np.add)
        if method == "count":
            return Column(counts.astype(np.float64), counts > 0)
        total: Floats = tiles.gather(sums.totals(), np.add)
        return Column(means(total, counts) if method == "mean" else total, counts > 0)
    dtype = np.dtype(np.float64 if source.kind in "fn" else np.int64)
    extreme = descend(source, Extreme(tiles.edges, dtype, least=method == "min", wanted=tiles.wanted()))
    of_tiles = np.where(extreme.some, extreme.values.astype(np.float64), np.nan)
    values: Floats = tiles.gather(of_tiles, np.fmin if method == "min" else np.fmax)
    there = ~np.isnan(values)
    if not there.all() and source.kind in "fn":
        # Nothing but NaN is something, too.
        there = tiles.gather(descend(source, _Sums(tiles)).counts, np.add) > 0
    return Column(values, there)


class _Sums(Stretches):
    """Counts and sums of the tiles."""

    def __init__(self, tiles: Tiles) -> None:
        super().__init__(tiles.edges, tiles.wanted())
        self.counts = np.zeros(len(tiles), np.int64)
        self._nans = np.zeros(len(tiles), np.int64)
        self._sums = np.zeros(len(tiles))

    def totals(self) -> Floats:
        """The sums; NaN where one of the values is."""
        totals: Floats = np.where(self._nans > 0, np.nan, self._sums)
        return totals

    def add_rows(self, t: Micros, column: Column) -> None:
        if column.valid is not None:
            t, column = t[column.valid], column.take(column.valid)
        bounds = np.searchsorted(t, self.edges)
        self.counts += np.diff(bounds)
        if column.values.dtype.kind == "O":
            self._nans += np.diff(bounds)
            return
        values = column.values.astype(np.float64, copy=False)
        nans = np.isnan(values)
        if nans.any():
            self._nans += _sums(nans.astype(np.int64), bounds)
            values = np.where(nans, 0.0, values)
        self._sums += _sums(values, bounds)

    def add_items(self, level: Level) -> Bools:
        items, bounds = level.items, level.bounds
        whole = ~(level.cut | level.soiled)
        self.counts += _sums(np.where(whole, items["rows"] - items["nulls"], 0), bounds)
        self._nans += _sums(np.where(whole, items["nans"], 0), bounds)
        self._sums += _sums(np.where(whole, items["sum"], 0.0), bounds)
        # What is cut is opened, but for what lies where no window does.
        opened = ~whole
        places = np.flatnonzero(opened)
        first, last = level.reach(places)
        opened[places] = self.wanted[first] | (last > first)
        return opened


def _sums(values: npt.NDArray[Any], bounds: Index) -> Any:
    """The sums of the values between each two bounds."""
    sums = np.zeros(len(bounds) - 1, values.dtype)
    filled = bounds[1:] > bounds[:-1]
    if filled.any():
        with np.errstate(all="ignore"):
            sums[filled] = np.add.reduceat(values[: bounds[-1]], bounds[:-1][filled])
    return sums


def _last(tx: Tx, shelf: Shelf, line: Line, kinds: dict[str, str], windows: Windows) -> Block:
    ends, starts = windows.ends - 1, windows.starts
    block, index = last_before(tx, shelf, line, kinds, ends)
    if not len(block):
        return EMPTY
    t = block.t[np.maximum(index, 0)]
    held = (index >= 0) & (t >= starts)
    chosen = np.zeros(len(block), np.bool_)
    chosen[index[held]] = True
    open_windows = np.zeros(len(windows), np.bool_)
    for column in block.columns.values():
        if column.valid is not None:
            open_windows |= held & ~column.valid[np.maximum(index, 0)]
    found = block.take(chosen)
    if not open_windows.any():
        return found
    # A null in the last row says nothing of the rows before it.
    first, last = int(starts[open_windows][0]), int(ends[open_windows][-1]) + 1
    parts = []
    while first < last:
        after = page_end(tx, line, first, last, PAGE_ROWS)
        parts.append(read(tx, shelf, line, kinds, first, after))
        first = after
    some = windowed(concat(parts), windows, "last")
    if not len(some):
        return found
    return merge(found, some)
