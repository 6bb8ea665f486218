"""Gathering: rows that come block by block go into arrays that have room for all of them, so that none is held twice."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sisock.blocks import Block, Bools, Column, Values, common_dtype

# Room that is made at once is no more than this, whatever a node says of its rows.
MOST_AT_ONCE = 50_000_000
LEAST = 1024


class Growing:
    """A column that grows; where it is null, a number is NaN, a text None, and any other value blank."""

    def __init__(self, dtype: np.dtype[np.generic], rows: int, capacity: int) -> None:
        blank = Column.null(1, dtype).values[0]
        self._blank = None if dtype.kind == "O" else blank
        self._values: Values = np.empty(capacity, dtype)
        self._valid: Bools | None = None
        self._rows = 0
        self.add_nulls(rows)

    def column(self) -> Column:
        """What it holds, without a copy."""
        return Column(self._values[: self._rows], None if self._valid is None else self._valid[: self._rows])

    def cast(self, dtype: np.dtype[np.generic]) -> Growing:
        """A column with the same rows in another type, which holds them."""
        other = Growing(dtype, 0, len(self._values))
        other.add(self.column().cast(dtype))
        return other

    def reserve(self, capacity: int) -> None:
        """Makes room for so many rows in all."""
        if capacity > len(self._values):
            self._values = _longer(self._values, self._rows, capacity)
            if self._valid is not None:
                self._valid = _longer(self._valid, self._rows, capacity)

    def add_nulls(self, rows: int) -> None:
        """Adds rows that have no value."""
        if rows:
            self._mask()[self._rows : self._rows + rows] = False
            self._values[self._rows : self._rows + rows] = self._blank
            self._rows += rows

    def add(self, column: Column) -> None:
        """Adds the rows of a column of the same type."""
        part = slice(self._rows, self._rows + len(column))
        self._values[part] = column.values
        if column.valid is not None and not column.valid.all():
            self._values[part][~column.valid] = self._blank
            self._mask()[part] = column.valid
        elif self._valid is not None:
            self._valid[part] = True
        self._rows += len(column)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The type of its values."""
        return self._values.dtype

    def _mask(self) -> Bools:
        if self._valid is None:
            self._valid = np.empty(len(self._values), np.bool_)
            self._valid[: self._rows] = True
        return self._valid


class Gathered:
    """A timeline's rows as they come, in order: `add` each block, then take the `block` of all."""

    def __init__(self, about: int = 0) -> None:
        self._capacity = max(0, min(about, MOST_AT_ONCE))
        self._t = np.empty(self._capacity, np.int64)
        self._columns: dict[str, Growing] = {}
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def add(self, block: Block) -> None:
        """Adds rows behind the last; InvalidArgument where a field was a number before and is a text now, or the like."""
        if not len(block):
            return
        rows = self._rows + len(block)
        if rows > self._capacity:
            self._capacity = max(rows, self._capacity * 3 // 2, LEAST if self._rows else 0)
            self._t = _longer(self._t, self._rows, self._capacity)
            for grown in self._columns.values():
                grown.reserve(self._capacity)
        self._t[self._rows : rows] = block.t
        for name, given in block.columns.items():
            column = given
            if name not in self._columns:
                self._columns[name] = Growing(column.values.dtype, self._rows, self._capacity)
            mine = self._columns[name]
            if column.values.dtype != mine.dtype:
                dtype = common_dtype(name, [mine.column(), column])
                if dtype != mine.dtype:
                    mine = self._columns[name] = mine.cast(dtype)
                column = column.cast(dtype)
            mine.add(column)
        for name, grown in self._columns.items():
            if name not in block.columns:
                grown.add_nulls(len(block))
        self._rows = rows

    def block(self) -> Block:
        """All rows, without a copy."""
        return Block(self._t[: self._rows], {name: grown.column() for name, grown in self._columns.items()})


def copied(blocks: Iterable[Block]) -> Block:
    """The rows of blocks that follow each other, in arrays of their own, which may be written to."""
    parts = list(blocks)
    gathered = Gathered(sum(map(len, parts)))
    for part in parts:
        gathered.add(part)
    return gathered.block()


def _longer(values: Values, rows: int, capacity: int) -> Values:
    longer = np.empty(capacity, values.dtype)
    longer[:rows] = values[:rows]
    return longer
