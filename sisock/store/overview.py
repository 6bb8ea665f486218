"""Overviews: the least and the greatest value of each pixel, at the cost of pixels and not of rows.

The pyramid is descended from its top. What lies within one pixel counts as a whole; what a pixel's edge cuts is
resolved one level down, but only where it could hold an extreme that is not known yet. What is not sealed, and chunks
that patches lie over, are read as rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sisock.blocks import Block, Bools, Column, concat
from sisock.downsample import thin
from sisock.positions import Position
from sisock.store.cells import Index
from sisock.store.database import Tx
from sisock.store.layers import EMPTY, as_kind, overlay
from sisock.store.lines import Line, Meta, metas
from sisock.store.pyramid import TOP, Items, join, numbers, row_of
from sisock.store.reading import last_before, read, span
from sisock.store.shelf import Shelf
from sisock.times import Micros

# With so few chunks in the range its rows are read as they are.
FEW_CHUNKS = 2

Numbers = npt.NDArray[Any]


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


class Extremes:
    """The least, or the greatest, value of each pixel so far, with its time."""

    def __init__(self, edges: Micros, dtype: np.dtype[Any], pick: np.ufunc) -> None:
        self.edges, self.pick = edges, pick
        least = pick is np.minimum
        blank: Any = (
            (np.inf if least else -np.inf) if dtype.kind == "f" else getattr(np.iinfo(np.int64), "max" if least else "min")
        )
        # One more than there are pixels, so that a range of them can end behind the last.
        self.best = np.full(len(edges), blank, dtype)
        self.t = np.zeros(len(edges), np.int64)
        self.some = np.zeros(len(edges), np.bool_)

    def add(self, values: Numbers, t: Micros) -> None:
        """Takes in values at their times; those outside of all pixels do not count."""
        pixel = np.searchsorted(self.edges, t, side="right") - 1
        inside = (pixel >= 0) & (pixel < len(self.edges) - 1)
        if not inside.all():
            values, t, pixel = values[inside], t[inside], pixel[inside]
        if not len(t):
            return
        if (pixel[1:] < pixel[:-1]).any():
            order = np.argsort(pixel, kind="stable")
            values, t, pixel = values[order], t[order], pixel[order]
        starts = np.flatnonzero(np.diff(pixel, prepend=-1))
        touched = pixel[starts]
        found = self.pick.reduceat(values, starts)
        hits = np.flatnonzero(values == np.repeat(found, np.diff(np.append(starts, len(values)))))
        _, first = np.unique(pixel[hits], return_index=True)
        better = ~self.some[touched] | (self.pick(found, self.best[touched]) != self.best[touched])
        chosen = touched[better]
        self.best[chosen], self.t[chosen] = found[better], t[hits[first]][better]
        self.some[touched] = True

    def beaten(self, values: Numbers, low: Index, high: Index) -> Bools:
        """Whether each value beats the best of any of the pixels from `low` to `high`."""
        other = np.maximum if self.pick is np.minimum else np.minimum
        pairs = np.stack([low, high + 1], axis=1).reshape(-1)
        worst = other.reduceat(self.best, pairs)[::2]
        unknown = np.logical_or.reduceat(~self.some, pairs)[::2]
        beaten: Bools = unknown | (self.pick(values, worst) != worst)
        return beaten


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
        least, most = blank_extremes(edges, kind)
        add_rows(least, most, loose.t, loose.columns[name])
        descend(tx, shelf, line, name, least, most, dirty)
        shown[name] = _drawn(least, most, name, kind)
    return shown


def _of_rows(block: Block, name: str, edges: Micros, max_points: int) -> Block:
    column = block.columns[name]
    if len(block) <= max_points or column.values.dtype.kind == "O":
        return thin(block, max_points)
    kind = _letter(column)
    least, most = blank_extremes(edges, kind)
    add_rows(least, most, block.t, column)
    return _drawn(least, most, name, kind)


def blank_extremes(edges: Micros, kind: str) -> tuple[Extremes, Extremes]:
    """The least and the greatest value of each pixel of a field of this kind, before anything is known."""
    dtype = np.dtype(np.float64 if kind in "fn" else np.int64)
    return Extremes(edges, dtype, np.minimum), Extremes(edges, dtype, np.maximum)


def _drawn(least: Extremes, most: Extremes, name: str, kind: str) -> Block:
    t = np.concatenate([least.t[least.some], most.t[most.some]])
    values = np.concatenate([least.best[least.some], most.best[most.some]])
    t, first = np.unique(t, return_index=True)
    return Block(t, {name: Column(values[first] != 0 if kind == "b" else values[first])})


def _there(t: Micros, column: Column, name: str) -> Block:
    """The rows in which a field has a value."""
    block = Block(t, {name: column})
    return block if column.valid is None else block.take(column.valid)


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


def add_rows(least: Extremes, most: Extremes, t: Micros, column: Column) -> None:
    """Takes in rows; NaN does not count."""
    there = column.mask()
    values: Numbers = column.values
    if values.dtype.kind == "f":
        there = there & ~np.isnan(values)
    elif values.dtype.kind == "b":
        values = values.astype(np.int64)
    if not there.all():
        t, values = t[there], values[there]
    least.add(values, t)
    most.add(values, t)


def descend(tx: Tx, shelf: Shelf, line: Line, name: str, least: Extremes, most: Extremes, dirty: set[int]) -> None:
    """Takes in what stands in the pyramid; the chunks of `dirty` are left out."""
    field, kind = line.ids[name], line.kinds[name]
    low, high = int(least.edges[0]), int(least.edges[-1]) - 1
    rows = shelf.items(tx, field, TOP)
    for level in range(TOP, -1, -1):
        items = join([part for _, part in rows], kind)
        ords = np.repeat([ordinal for ordinal, _ in rows], [len(part) for _, part in rows])
        keep = (items["end"] >= low) & (items["start"] <= high) & (numbers(items) > 0)
        soiled = np.zeros(len(items), np.bool_)
        if dirty and level:
            soiled = np.isin(items["child"], list({one if level == 1 else row_of(one, level - 1) for one in dirty}))
            # A level above the chunks a soiled item is opened, whatever it says; the chunk itself is left out.
            keep = keep & ~soiled if level == 1 else keep | soiled
        if not keep.all():
            items, ords, soiled = items[keep], ords[keep], soiled[keep]
        wanted = _weigh(items, soiled, least, most)
        items, ords = items[wanted], ords[wanted]
        if not len(items):
            return
        if level:
            below = items["child"].tolist()
            rows = shelf.cell_items(tx, line, field, below) if level == 1 else shelf.items(tx, field, level - 1, below)
        else:
            _add_cells(tx, shelf, line, name, items, ords, least, most)


def _weigh(items: Items, soiled: Bools, least: Extremes, most: Extremes) -> Bools:
    """Counts what is known of the items; which of them must be opened."""
    edges = least.edges
    first = np.searchsorted(edges, items["start"], side="right") - 1
    last = np.searchsorted(edges, items["end"], side="right") - 1
    pixels = len(edges) - 1
    clean = ~soiled
    # An item's extremes are true wherever it is cut.
    least.add(items["min"][clean], items["min_t"][clean])
    most.add(items["max"][clean], items["max_t"][clean])
    cut: Bools = (first != last) | (first < 0) | (last >= pixels)
    opened = soiled.copy()
    at = np.flatnonzero(cut & clean)
    if len(at):
        low, high = np.clip(first[at], 0, pixels - 1), np.clip(last[at], 0, pixels - 1)
        opened[at] = least.beaten(items["min"][at], low, high) | most.beaten(items["max"][at], low, high)
    return opened


def _add_cells(
    tx: Tx, shelf: Shelf, line: Line, name: str, items: Items, ords: Numbers, least: Extremes, most: Extremes
) -> None:
    add_rows(least, most, *cell_rows(tx, shelf, line, name, items, ords))


def cell_rows(tx: Tx, shelf: Shelf, line: Line, name: str, items: Items, ords: Numbers) -> tuple[Micros, Column]:
    """The rows of single cells of a field, by their items and the chunks that they are of."""
    wanted: dict[int, list[int]] = {}
    for ordinal, cell in zip(ords.tolist(), items["child"].tolist(), strict=True):
        wanted.setdefault(ordinal, []).append(cell)
    # What fills a chunk's last cell is no row.
    return shelf.rows_of(tx, line, name, wanted, items["rows"].tolist())


def _texts(tx: Tx, shelf: Shelf, line: Line, name: str, edges: Micros) -> Block:
    """What stood at each pixel's end."""
    block, index = last_before(tx, shelf, line, [name], edges[1:] - 1)
    used = np.unique(index[index >= 0])
    block = block.take(used)
    return _there(block.t, block.columns[name], name).between(int(edges[0]), int(edges[-1]))
