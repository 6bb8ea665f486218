"""Overviews: the least and the greatest value of each pixel, at the cost of pixels and not of rows.

The pyramid is descended from its top. What lies within one pixel counts as a whole; what a pixel's edge cuts is
resolved one level down, but only where it could hold an extreme that is not known yet. What is not sealed, and chunks
that patches lie over, are read as rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from sisock.blocks import Block, Bools, Column
from sisock.downsample import thin
from sisock.positions import Position
from sisock.store.database import Tx
from sisock.store.descent import Extreme, Level, Source, Stretches, descend, loose_rows
from sisock.store.layers import EMPTY, as_kind, overlay
from sisock.store.lines import Line, metas
from sisock.store.reading import last_before, read, span
from sisock.store.shelf import Shelf
from sisock.times import Micros

# With so few chunks in the range its rows are read as they are.
FEW_CHUNKS = 2


@dataclass(frozen=True, slots=True)
class Overview:
    """Rows of each field that keep its shape, and the position that they reach."""

    fields: Mapping[str, Block]
    position: Position

    def block(self) -> Block:
        """All fields as one block: a field is null at a time that only another one needed."""
        parts = [part for part in self.fields.values() if len(part)]
        if len(parts) < 2:
            return parts[0] if parts else EMPTY
        kinds = {name: _letter(part.columns[name]) for name, part in self.fields.items()}
        return overlay(list(self.fields.values()), kinds)


def _letter(column: Column) -> str:
    kind = column.values.dtype.kind
    return "s" if kind == "O" else kind


class Extent(Stretches):
    """The least and the greatest number of each pixel."""

    def __init__(self, edges: Micros, kind: str) -> None:
        super().__init__(edges)
        dtype = np.dtype(np.float64 if kind in "fn" else np.int64)
        self._both = Extreme(edges, dtype, least=True), Extreme(edges, dtype, least=False)

    def add_rows(self, t: Micros, column: Column) -> None:
        for one in self._both:
            one.add_rows(t, column)

    def add_items(self, level: Level) -> Bools:
        least, most = self._both
        return least.add_items(level) | most.add_items(level)

    def block(self, name: str, kind: str) -> Block:
        """The rows in which they stand."""
        t = np.concatenate([one.t[one.some] for one in self._both])
        values = np.concatenate([one.values[one.some] for one in self._both])
        t, first = np.unique(t, return_index=True)
        return Block(t, {name: Column(values[first] != 0 if kind == "b" else values[first])})


def overview(
    tx: Tx, shelf: Shelf, line: Line, fields: Iterable[str], start: int, end: int, max_points: int
) -> dict[str, Block]:
    """Each field in at most `max_points` rows in [start, end), with every pixel's extremes at their true times."""
    kinds = line.only(fields)
    there = span(tx, line)
    if there is None or start >= end or not kinds:
        return {name: Block(EMPTY.t, {name: as_kind(Column.null(0), kind)}) for name, kind in kinds.items()}
    low, high = max(start, there[0]), min(end - 1, there[1])
    edges = np.unique(np.linspace(low, high + 1, max(1, max_points // 2) + 1).astype(np.int64))
    edges[0], edges[-1] = low, high + 1
    if len(metas(tx, line, low, high + 1, FEW_CHUNKS + 2)) <= FEW_CHUNKS:
        block = read(tx, shelf, line, kinds, low, high + 1)
        return {name: _of_rows(_there(block.t, block.columns[name], name), name, edges, max_points) for name in kinds}
    dirty, loose = loose_rows(tx, shelf, line, kinds, low, high + 1)
    shown = {}
    for name, kind in kinds.items():
        if kind == "s":
            shown[name] = _texts(tx, shelf, line, name, edges)
            continue
        shown[name] = descend(Source(tx, shelf, line, name, dirty, loose), Extent(edges, kind)).block(name, kind)
    return shown


def _of_rows(block: Block, name: str, edges: Micros, max_points: int) -> Block:
    column = block.columns[name]
    if len(block) <= max_points or column.values.dtype.kind == "O":
        return thin(block, max_points)
    kind = _letter(column)
    extent = Extent(edges, kind)
    extent.add_rows(block.t, column)
    return extent.block(name, kind)


def _there(t: Micros, column: Column, name: str) -> Block:
    """The rows in which a field has a value."""
    block = Block(t, {name: column})
    return block if column.valid is None else block.take(column.valid)


def _texts(tx: Tx, shelf: Shelf, line: Line, name: str, edges: Micros) -> Block:
    """What stood at each pixel's end."""
    block, index = last_before(tx, shelf, line, [name], edges[1:] - 1)
    used = np.unique(index[index >= 0])
    block = block.take(used)
    return _there(block.t, block.columns[name], name).between(int(edges[0]), int(edges[-1]))
