"""The descent: what stands between edges of time, from the pyramid; what an edge cuts is opened, down to single cells.

Items that lie between two edges count as a whole. Chunks that patches lie over, and what is not sealed, are read as rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from sisock.blocks import Block, Bools, Column, concat
from sisock.store.cells import Index
from sisock.store.database import Tx
from sisock.store.layers import EMPTY, overlay
from sisock.store.lines import Line, Meta, metas
from sisock.store.pyramid import TOP, Items, row_of
from sisock.store.shelf import Shelf, Wanted
from sisock.times import Micros

Numbers = npt.NDArray[Any]

# So few items of a level are all opened: to weigh them would take longer.
FEW_ITEMS = 64


@dataclass(frozen=True, slots=True)
class Source:
    """A field that is read: in which transaction, which chunks patches lie over, and the rows that are in no other chunk."""

    tx: Tx
    shelf: Shelf
    line: Line
    name: str
    dirty: set[int]
    loose: Block

    @property
    def kind(self) -> str:
        """The kind of its values."""
        return self.line.kinds[self.name]


class Level:
    """Items in the order of time: where those of each stretch begin, which an edge cuts, and which must be opened anyway."""

    def __init__(self, items: Items, edges: Micros, soiled: Bools) -> None:
        self.items, self.soiled = items, soiled
        self._edges, self._ends = edges, np.ascontiguousarray(items["end"])
        self.bounds: Index = np.searchsorted(np.ascontiguousarray(items["start"]), edges)
        # An edge cuts the last item that begins before it, if that does not end before it, too.
        before = np.maximum(self.bounds - 1, 0)
        self.cut = np.zeros(len(items), np.bool_)
        self.cut[before[(self.bounds > 0) & (self._ends[before] >= edges)]] = True
        self.has_numbers: Bools = (items["rows"] > items["nulls"] + items["nans"]) & ~soiled

    def reach(self, places: Index) -> tuple[Index, Index]:
        """The first and the last place, as `Stretches` counts them, that each of these items lies in."""
        first: Index = np.searchsorted(self.bounds, places, side="right")
        return first, np.searchsorted(self._edges, self._ends[places], side="right")


class Stretches(ABC):
    """What is known of the stretches between edges so far. What is taken in is in the order of time.

    Places are counted from what lies before the first edge, which is 0, to what lies behind the last.
    """

    def __init__(self, edges: Micros, wanted: Bools | None = None) -> None:
        self.edges = edges
        inner = np.ones(len(edges) - 1, np.bool_) if wanted is None else wanted
        self.wanted: Bools = np.concatenate([[False], inner, [False]])

    @abstractmethod
    def add_rows(self, t: Micros, column: Column) -> None:
        """Takes in rows."""

    @abstractmethod
    def add_items(self, level: Level) -> Bools:
        """Takes in what is known of the items; which of them must be opened."""


class Extreme(Stretches):
    """The least, or the greatest, number of each stretch with its time; NaN and nulls do not count."""

    def __init__(self, edges: Micros, dtype: np.dtype[Any], *, least: bool, wanted: Bools | None = None) -> None:
        super().__init__(edges, wanted)
        self._name = "min" if least else "max"
        self._pick: np.ufunc = np.minimum if least else np.maximum
        self._unpick: np.ufunc = np.maximum if least else np.minimum
        low, high = (-np.inf, np.inf) if dtype.kind == "f" else (np.iinfo(np.int64).min, np.iinfo(np.int64).max)
        # Where nothing is wanted nothing is better than what is known, so that nothing is opened for it.
        self._best = np.where(self.wanted, high if least else low, low if least else high).astype(dtype)
        self._t = np.zeros(len(self.wanted), np.int64)
        self._some = ~self.wanted

    @property
    def some(self) -> Bools:
        """The stretches that have one."""
        return (self._some & self.wanted)[1:-1]

    @property
    def values(self) -> Numbers:
        """The extremes, where there are any."""
        return self._best[1:-1]

    @property
    def t(self) -> Micros:
        """When the first of these was."""
        return self._t[1:-1]

    def add_rows(self, t: Micros, column: Column) -> None:
        there, values = column.mask(), column.values.astype(self._best.dtype, copy=False)
        if values.dtype.kind == "f":
            there = there & ~np.isnan(values)
        if not there.all():
            t, values = t[there], values[there]
        self._add(values, t, np.searchsorted(t, self.edges))

    def add_items(self, level: Level) -> Bools:
        items, at = level.items, self._name
        whole = level.has_numbers & ~level.cut
        bounds = np.concatenate([[0], np.cumsum(whole)])[level.bounds]
        self._add(items[at][whole], items[f"{at}_t"][whole], bounds)
        # Of an item that is cut the extreme is true where it stands.
        places = np.flatnonzero(level.cut & level.has_numbers)
        values, t = items[at][places], items[f"{at}_t"][places]
        self._add(values, t, np.searchsorted(t, self.edges))
        # It is opened for what else it holds if that could be better than what is known of another stretch.
        first, last = level.reach(places)
        pairs = np.stack([first, last + 1], axis=1).reshape(-1)
        worst = self._unpick.reduceat(np.append(self._best, self._best[-1]), pairs)[::2]
        unknown = np.logical_or.reduceat(np.append(~self._some, False), pairs)[::2]
        opened = level.soiled.copy()
        opened[places[unknown | (self._pick(values, worst) != worst)]] = True
        return opened

    def _add(self, values: Numbers, t: Micros, bounds: Index) -> None:
        """Takes in values, those of each stretch between two bounds."""
        filled = np.flatnonzero(bounds[1:] > bounds[:-1])
        if not len(filled):
            return
        begin, end, starts = int(bounds[filled[0]]), int(bounds[-1]), bounds[filled] - bounds[filled[0]]
        values, t = values[begin:end], t[begin:end]
        found = self._pick.reduceat(values, starts)
        hits = np.flatnonzero(values == np.repeat(found, np.diff(starts, append=len(values))))
        times = t[hits[np.searchsorted(hits, starts)]]
        places = filled + 1
        better = self.wanted[places] & (~self._some[places] | (self._pick(found, self._best[places]) != self._best[places]))
        chosen = places[better]
        self._best[chosen], self._t[chosen], self._some[chosen] = found[better], times[better], True


S = TypeVar("S", bound=Stretches)


def descend(source: Source, stretches: S) -> S:
    """Takes in all that there is of a field between the edges."""
    tx, shelf, line = source.tx, source.shelf, source.line
    stretches.add_rows(source.loose.t, source.loose.columns[source.name])
    low, high = int(stretches.edges[0]), int(stretches.edges[-1]) - 1
    below: list[int] | None = None
    for level in range(TOP, -1, -1):
        ords, items = shelf.level_items(tx, line, source.name, level, below)
        # In the order of time, so that what lies in the range is a part that need not be copied.
        inside = slice(*np.array([items["end"].searchsorted(low), items["start"].searchsorted(high, side="right")]).tolist())
        items, ords = items[inside], ords[inside]
        keep = items["rows"] > items["nulls"]
        soiled = np.zeros(len(items), np.bool_)
        if source.dirty and level:
            soiled = np.isin(items["child"], list({one if level == 1 else row_of(one, level - 1) for one in source.dirty}))
            # A level above the chunks a soiled item is opened, whatever it says; the chunk itself is left out.
            keep = keep & ~soiled if level == 1 else keep | soiled
        if not keep.all():
            items, ords, soiled = items[keep], ords[keep], soiled[keep]
        if len(items) > FEW_ITEMS or not level:
            opened = stretches.add_items(Level(items, stretches.edges, soiled))
            items, ords = items[opened], ords[opened]
        if not len(items):
            break
        below = items["child"].tolist()
        if not level:
            # What fills a chunk's last cell is no row.
            wanted = Wanted(ords, items["child"])
            stretches.add_rows(*shelf.rows_of(tx, line, source.name, wanted, items["rows"]))
    return stretches


def loose_rows(tx: Tx, shelf: Shelf, line: Line, kinds: dict[str, str], low: int, end: int) -> tuple[set[int], Block]:
    """The chunks that patches lie over, and the rows that are not in any other chunk."""
    blocks = shelf.blocks(tx, line, start=low, end=end)
    patched = [stored.block.t for stored in blocks if stored.patch]
    chunks: list[Meta] = []
    if patched:
        t = np.unique(np.concatenate(patched))
        around = metas(tx, line, int(t[0]), int(t[-1]) + 1)
        if around:
            ends = np.array([chunk.last for chunk in around])
            starts = np.array([chunk.first for chunk in around])
            at = np.minimum(np.searchsorted(ends, t), len(around) - 1)
            chunks = [around[one] for one in np.unique(at[starts[at] <= t])]
    base = [shelf.read_chunks(tx, line, kinds, [chunk]) for chunk in chunks]
    rows = overlay([concat(base) if base else EMPTY, *(stored.block for stored in blocks)], kinds)
    return {chunk.ord for chunk in chunks}, rows.between(low, end)
