"""Windowing: one value of each window on a grid, from the pyramid; what a window's edge cuts is read.

The pyramid is descended from its top. An item that lies between two edges counts as a whole, one that an edge cuts is
opened, down to single cells. What is not sealed, and chunks that patches lie over, are read as rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sisock.blocks import Block, Bools, Column, concat, merge
from sisock.store.database import Tx
from sisock.store.layers import EMPTY
from sisock.store.lines import Line, metas
from sisock.store.overview import add_rows, blank_extremes, cell_rows, descend, loose_rows
from sisock.store.pyramid import TOP, Items, join, row_of
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
            columns[name] = _column(_Read(tx, shelf, line, name, dirty, loose), tiles, method)
    return Block(windows.starts, columns)


@dataclass(frozen=True, slots=True)
class _Read:
    """A field that is read: in which transaction, which chunks patches lie over, and the rows that are in no other chunk."""

    tx: Tx
    shelf: Shelf
    line: Line
    name: str
    dirty: set[int]
    loose: Block

    @property
    def kind(self) -> str:
        return self.line.kinds[self.name]


def _column(field: _Read, tiles: Tiles, method: WindowMethod) -> Column:
    if method not in ("min", "max"):
        sums = _sums(field, tiles)
        counts = tiles.gather(sums.counts, np.add)
        if method == "count":
            return Column(counts.astype(np.float64), counts > 0)
        total: Floats = tiles.gather(sums.totals(), np.add)
        return Column(means(total, counts) if method == "mean" else total, counts > 0)
    least, most = blank_extremes(tiles.edges, field.kind)
    wanted, other = (least, most) if method == "min" else (most, least)
    # The other one is known everywhere, and this one where no window lies, so that nothing is opened for these.
    other.some[:] = True
    other.best[:] = _beyond(other.best.dtype, least=method == "max")
    idle = np.append(~tiles.wanted(), False)
    wanted.some[idle] = True
    wanted.best[idle] = _beyond(other.best.dtype, least=method == "min")
    column = field.loose.columns[field.name]
    add_rows(least, most, field.loose.t, column)
    descend(field.tx, field.shelf, field.line, field.name, least, most, field.dirty)
    found = np.where(wanted.some[:-1], wanted.best[:-1].astype(np.float64), np.nan)
    values: Floats = tiles.gather(found, np.fmin if method == "min" else np.fmax)
    there = ~np.isnan(values)
    if not there.all() and field.kind in "fn":
        # Nothing but NaN is something, too.
        there = tiles.gather(_sums(field, tiles).counts, np.add) > 0
    return Column(values, there)


def _beyond(dtype: np.dtype[Any], *, least: bool) -> Any:
    """What nothing can be less than, or greater than."""
    if dtype.kind == "f":
        return -np.inf if least else np.inf
    return np.iinfo(dtype).min if least else np.iinfo(dtype).max


class _Sums:
    """Counts and sums of the tiles so far. What is taken in is in the order of time."""

    def __init__(self, tiles: Tiles) -> None:
        self.edges = tiles.edges
        # Beside the tiles what lies before the first and behind the last.
        self._wanted = np.concatenate([[False], tiles.wanted(), [False]])
        self.counts = np.zeros(len(tiles), np.int64)
        self._nans = np.zeros(len(tiles), np.int64)
        self._sums = np.zeros(len(tiles))

    def totals(self) -> Floats:
        """The sums; NaN where one of the values is."""
        totals: Floats = np.where(self._nans > 0, np.nan, self._sums)
        return totals

    def add_rows(self, t: Micros, column: Column) -> None:
        """Takes in rows."""
        if column.valid is not None:
            t, column = t[column.valid], column.take(column.valid)
        bounds = np.searchsorted(t, self.edges)
        self.counts += np.diff(bounds)
        if column.values.dtype.kind == "O":
            self._nans += np.diff(bounds)
            return
        values = column.values.astype(np.float64)
        nans = np.isnan(values)
        if nans.any():
            self._nans += _parts(nans.astype(np.int64), bounds)
            values = np.where(nans, 0.0, values)
        self._sums += _parts(values, bounds)

    def add_items(self, items: Items, soiled: Bools) -> npt.NDArray[np.intp]:
        """Takes in the items that lie in one tile; which of the others must be opened."""
        starts, ends = np.ascontiguousarray(items["start"]), np.ascontiguousarray(items["end"])
        bounds = np.searchsorted(starts, self.edges)
        # An edge cuts the last item that begins before it, if that does not end before it, too.
        before = np.maximum(bounds - 1, 0)
        whole = ~soiled
        whole[before[(bounds > 0) & (ends[before] >= self.edges)]] = False
        self.counts += _parts(np.where(whole, items["rows"] - items["nulls"], 0), bounds)
        self._nans += _parts(np.where(whole, items["nans"], 0), bounds)
        self._sums += _parts(np.where(whole, items["sum"], 0.0), bounds)
        # Where no window lies nothing is looked for: an item that is cut reaches out of its tile, another one does not.
        opened = np.flatnonzero(~whole)
        first = np.searchsorted(bounds, opened, side="right")
        needed = self._wanted[first] | (np.searchsorted(self.edges, ends[opened], side="right") > first)
        return opened[needed]


def _parts(values: npt.NDArray[Any], bounds: npt.NDArray[np.intp]) -> Any:
    """The sums of the values between each two bounds."""
    with np.errstate(all="ignore"):
        sums = np.add.reduceat(np.append(values[: bounds[-1]], values.dtype.type(0)), bounds[:-1])
    sums[bounds[1:] == bounds[:-1]] = 0
    return sums


def _sums(field: _Read, tiles: Tiles) -> _Sums:
    sums = _Sums(tiles)
    tx, shelf, line = field.tx, field.shelf, field.line
    sums.add_rows(field.loose.t, field.loose.columns[field.name])
    number, kind = line.ids[field.name], field.kind
    low, high = int(tiles.edges[0]), int(tiles.edges[-1]) - 1
    rows = shelf.items(tx, number, TOP)
    for level in range(TOP, -1, -1):
        items = join([part for _, part in rows], kind)
        ords = np.repeat([ordinal for ordinal, _ in rows], [len(part) for _, part in rows])
        keep = (items["end"] >= low) & (items["start"] <= high) & (items["rows"] > items["nulls"])
        soiled = np.zeros(len(items), np.bool_)
        if field.dirty and level:
            soiled = np.isin(items["child"], list({one if level == 1 else row_of(one, level - 1) for one in field.dirty}))
            # A level above the chunks a soiled item is opened, whatever it says; the chunk itself is left out.
            keep = keep & ~soiled if level == 1 else keep | soiled
        if not keep.all():
            items, ords, soiled = items[keep], ords[keep], soiled[keep]
        opened = sums.add_items(items, soiled) if len(items) else np.empty(0, np.intp)
        items, ords = items[opened], ords[opened]
        if not len(items):
            break
        if level:
            below = items["child"].tolist()
            rows = shelf.cell_items(tx, line, number, below) if level == 1 else shelf.items(tx, number, level - 1, below)
        else:
            sums.add_rows(*cell_rows(tx, shelf, line, field.name, items, ords))
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
