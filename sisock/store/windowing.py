"""Windowing: one value of each window on a grid, from the pyramid; what a window's edge cuts is read.

The pyramid is descended from its top. An item that lies between two edges counts as a whole, one that an edge cuts is
opened, down to single cells. What is not sealed, and chunks that patches lie over, are read as rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from sisock.blocks import Block, Bools, Column, concat, merge
from sisock.store.database import Tx
from sisock.store.layers import EMPTY
from sisock.store.lines import Line, metas
from sisock.store.overview import cell_rows, loose_rows
from sisock.store.pyramid import TOP, Items, join, numbers, row_of
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
        sums = _descended(field, _Sums(tiles))
        counts = tiles.gather(sums.counts, np.add)
        if method == "count":
            return Column(counts.astype(np.float64), counts > 0)
        total: Floats = tiles.gather(sums.totals(), np.add)
        return Column(means(total, counts) if method == "mean" else total, counts > 0)
    extreme = _descended(field, _Extreme(tiles, method))
    values: Floats = tiles.gather(extreme.found(), extreme.pick)
    there = ~np.isnan(values)
    if not there.all() and field.kind in "fn":
        # Nothing but NaN is something, too.
        there = tiles.gather(_descended(field, _Sums(tiles)).counts, np.add) > 0
    return Column(values, there)


class _Tiled:
    """What is known of the tiles so far. What is taken in is in the order of time."""

    def __init__(self, tiles: Tiles) -> None:
        self.edges = tiles.edges
        # Beside the tiles what lies before the first and behind the last.
        self.wanted = np.concatenate([[False], tiles.wanted(), [False]])

    def add_rows(self, t: Micros, column: Column) -> None:
        """Takes in rows."""
        raise NotImplementedError

    def add_items(self, items: Items, soiled: Bools) -> npt.NDArray[np.intp]:
        """Takes in what is known of the items; which of them must be opened."""
        raise NotImplementedError

    def _cut(self, items: Items) -> tuple[npt.NDArray[np.intp], Bools]:
        """Where the items of each tile begin, and which items an edge cuts."""
        starts, ends = np.ascontiguousarray(items["start"]), np.ascontiguousarray(items["end"])
        bounds = np.searchsorted(starts, self.edges)
        # An edge cuts the last item that begins before it, if that does not end before it, too.
        before = np.maximum(bounds - 1, 0)
        cut = np.zeros(len(items), np.bool_)
        cut[before[(bounds > 0) & (ends[before] >= self.edges)]] = True
        return bounds, cut

    def _reach(self, items: Items, bounds: npt.NDArray[np.intp], places: Any) -> tuple[Any, Any]:
        """The first and the last tile that each of these items lies in, as places among `wanted`."""
        return np.searchsorted(bounds, places, side="right"), np.searchsorted(self.edges, items["end"][places], side="right")


class _Extreme(_Tiled):
    """The least, or the greatest, number of each tile; NaN and nulls do not count."""

    def __init__(self, tiles: Tiles, method: WindowMethod) -> None:
        super().__init__(tiles)
        self._name = method
        self.pick: np.ufunc = np.fmin if method == "min" else np.fmax
        self._blank = np.inf if method == "min" else -np.inf
        # Where no window lies nothing is better than what is known, so that nothing is opened for it.
        self._best = np.where(self.wanted, self._blank, -self._blank)
        self._some = ~self.wanted

    def found(self) -> Floats:
        """The extremes; NaN for none."""
        found: Floats = np.where(self._some, self._best, np.nan)[1:-1]
        return found

    def _take(self, found: Floats, some: Bools) -> None:
        inner = slice(1, -1)
        known = some & self.wanted[inner]
        self._best[inner] = np.where(known, self.pick(self._best[inner], found), self._best[inner])
        self._some[inner] |= known

    def add_rows(self, t: Micros, column: Column) -> None:
        values = column.values.astype(np.float64, copy=False)
        there = column.mask() & ~np.isnan(values)
        if not there.all():
            t, values = t[there], values[there]
        bounds = np.searchsorted(t, self.edges)
        self._take(_parts(values, bounds, self.pick, self._blank), bounds[1:] > bounds[:-1])

    def add_items(self, items: Items, soiled: Bools) -> npt.NDArray[np.intp]:
        bounds, cut = self._cut(items)
        has = (numbers(items) > 0) & ~soiled
        values = items[self._name].astype(np.float64)
        whole = has & ~cut
        self._take(
            _parts(np.where(whole, values, self._blank), bounds, self.pick, self._blank),
            _parts(whole.astype(np.int64), bounds) > 0,
        )
        # Of an item that is cut the extreme is true in the tile in which it stands.
        places = np.flatnonzero(cut & has)
        at = np.searchsorted(self.edges, items[f"{self._name}_t"][places], side="right")
        known = self.wanted[at]
        self.pick.at(self._best, at[known], values[places[known]])
        self._some[at[known]] = True
        # It is opened for what else it holds if that could be better than what is known of another tile.
        first, last = self._reach(items, bounds, places)
        worst_of = np.maximum if self.pick is np.fmin else np.minimum
        pairs = np.stack([first, last + 1], axis=1).reshape(-1)
        worst = worst_of.reduceat(np.append(self._best, self._best[-1]), pairs)[::2]
        unknown = np.logical_or.reduceat(np.append(~self._some, False), pairs)[::2]
        better = values[places] < worst if self.pick is np.fmin else values[places] > worst
        opened = soiled.copy()
        opened[places[better | unknown]] = True
        return np.flatnonzero(opened)


class _Sums(_Tiled):
    """Counts and sums of the tiles."""

    def __init__(self, tiles: Tiles) -> None:
        super().__init__(tiles)
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
            self._nans += _parts(nans.astype(np.int64), bounds)
            values = np.where(nans, 0.0, values)
        self._sums += _parts(values, bounds)

    def add_items(self, items: Items, soiled: Bools) -> npt.NDArray[np.intp]:
        bounds, cut = self._cut(items)
        whole = ~(cut | soiled)
        self.counts += _parts(np.where(whole, items["rows"] - items["nulls"], 0), bounds)
        self._nans += _parts(np.where(whole, items["nans"], 0), bounds)
        self._sums += _parts(np.where(whole, items["sum"], 0.0), bounds)
        # What is cut is opened, but for what lies where no window does.
        opened = np.flatnonzero(~whole)
        first, last = self._reach(items, bounds, opened)
        needed: npt.NDArray[np.intp] = opened[self.wanted[first] | (last > first)]
        return needed


def _parts(values: npt.NDArray[Any], bounds: npt.NDArray[np.intp], pick: np.ufunc = np.add, blank: float = 0) -> Any:
    """What comes of the values between each two bounds."""
    parts = np.full(len(bounds) - 1, blank, values.dtype)
    filled = bounds[1:] > bounds[:-1]
    if filled.any():
        with np.errstate(all="ignore"):
            parts[filled] = pick.reduceat(values[: bounds[-1]], bounds[:-1][filled])
    return parts


A = TypeVar("A", bound=_Tiled)


def _descended(field: _Read, tiled: A) -> A:
    tx, shelf, line = field.tx, field.shelf, field.line
    tiled.add_rows(field.loose.t, field.loose.columns[field.name])
    number, kind = line.ids[field.name], field.kind
    low, high = int(tiled.edges[0]), int(tiled.edges[-1]) - 1
    rows = shelf.items(tx, number, TOP)
    for level in range(TOP, -1, -1):
        items = join([part for _, part in rows], kind)
        ords = np.repeat([ordinal for ordinal, _ in rows], [len(part) for _, part in rows])
        # In the order of time, so that what lies in the range is a part that need not be copied.
        inside = slice(*np.array([items["end"].searchsorted(low), items["start"].searchsorted(high, side="right")]).tolist())
        items, ords = items[inside], ords[inside]
        keep = items["rows"] > items["nulls"]
        soiled = np.zeros(len(items), np.bool_)
        if field.dirty and level:
            soiled = np.isin(items["child"], list({one if level == 1 else row_of(one, level - 1) for one in field.dirty}))
            # A level above the chunks a soiled item is opened, whatever it says; the chunk itself is left out.
            keep = keep & ~soiled if level == 1 else keep | soiled
        if not keep.all():
            items, ords, soiled = items[keep], ords[keep], soiled[keep]
        opened = tiled.add_items(items, soiled) if len(items) else np.empty(0, np.intp)
        items, ords = items[opened], ords[opened]
        if not len(items):
            break
        if level:
            below = items["child"].tolist()
            rows = shelf.cell_items(tx, line, number, below) if level == 1 else shelf.items(tx, number, level - 1, below)
        else:
            tiled.add_rows(*cell_rows(tx, shelf, line, field.name, items, ords))
    return tiled


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
