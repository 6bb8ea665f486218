"""The shelf: how blocks, chunks and columns lie in an engine's tables.

What is here is the same for both engines; `SqliteShelf` and `PostgresShelf` say how the data themselves are kept.
"""

# ruff: noqa: S608  the names in these statements are our own, and so are the numbers
from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from sisock.blocks import Block, Bools, Column
from sisock.errors import StoreDamaged
from sisock.store.cells import CELL, Encoded, Ints, decode_cells
from sisock.store.database import Tx
from sisock.store.layers import DTYPES, as_kind
from sisock.store.lines import Line, Meta, Stored
from sisock.store.pyramid import Items, items_dtype, join, pack_items, unpack_rows
from sisock.times import EARLIEST, LATEST, Micros, iso, to_seconds

_NOTHING = np.zeros(0, np.uint8)

# Chunks whose cells' items are kept in memory: about 3 kB each.
MOST_REMEMBERED = 8192

# Cells that are kept in memory, at most 2.3 kB each: 37 MB.
MOST_CELLS = 16_384

# A part of a chunk is cut out of it where it is at most the how-manieth part of its cells.
SMALL_PART = 3

# What is kept in memory: of what, the chunk's number, the cell's.
Key = tuple[str, int, int]

# A piece of a field: the chunk it belongs to, and its values.
Piece = tuple[int, Column]


@dataclass(frozen=True, slots=True)
class EncodedTimes:
    """Times of some chunks, opened but not decoded."""

    parts: Mapping[int, Encoded]

    @property
    def starts(self) -> dict[int, Ints]:
        """First times of each chunk's cells."""
        return {ordinal: part.bases[:, 0] for ordinal, part in self.parts.items()}

    def cells(self, wanted: Mapping[int, Sequence[int]]) -> Ints:
        """Times of these cells, (cells, 256); what is behind a chunk's last row repeats or follows it."""
        return decode_cells([(self.parts[ordinal], cell) for ordinal, cells in wanted.items() for cell in cells])[0]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Cells, in the order of their chunks: of each the number of its chunk, and its own in it."""

    ords: Ints
    cells: npt.NDArray[Any]

    def keys(self, of: str) -> list[Key]:
        """By what they are remembered."""
        return list(zip(repeat(of), self.ords.tolist(), self.cells.tolist()))

    def by_chunk(self) -> dict[int, list[int]]:
        """The cells of each chunk."""
        return _by_chunk(self.keys(""))


def _by_chunk(keys: Iterable[Key]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for _, ordinal, cell in keys:
        found.setdefault(ordinal, []).append(cell)
    return found


def _octets(items: Items, dtype: np.dtype[Any]) -> npt.NDArray[np.uint8]:
    """A copy, since what is read together shares its memory."""
    return np.frombuffer(items.astype(dtype).tobytes(), np.uint8)


class Recent:
    """What was read lately of parts that never change under their key; of more than `most` the oldest go."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts: dict[Key, Any] = {}
        self._lock = threading.Lock()

    def find(self, keys: Sequence[Key], read: Callable[[Sequence[Key]], Iterable[Any]]) -> list[Any]:
        """These parts; those that are not known are read, in their order, all of them together."""
        found = [*map(self._parts.get, keys)]
        missing = [key for key, one in zip(keys, found, strict=True) if one is None]
        if not missing:
            return found
        new = [*read(missing)]
        self._keep(zip(missing, new, strict=True))
        rest = iter(new)
        return [next(rest) if one is None else one for one in found]

    def _keep(self, parts: Iterable[tuple[Key, Any]]) -> None:
        """Takes in what was read."""
        with self._lock:
            self._parts.update(parts)
            for key in [*islice(self._parts, max(0, len(self._parts) - self._most))]:
                del self._parts[key]


class Shelf(ABC):
    """Puts blocks, chunks and the pyramid's rows into tables, and takes them out."""

    def __init__(self) -> None:
        self.cells = Recent(MOST_CELLS)
        self.summaries = Recent(MOST_REMEMBERED)

    # Single cells, those that were read lately from memory: of a chunk's column an engine hands out the whole, and a plot
    # that is drawn again wants the same few cells of very many of them. No chunk that is there changes until its timeline is
    # mended, so the count of mendings is part of the key, and so is the epoch, since numbers are given again.

    def times_of(self, tx: Tx, line: Line, wanted: Wanted) -> Ints:
        """Times of these cells, (cells, 256); what is behind a chunk's last row repeats or follows it."""

        def read(missing: Sequence[Key]) -> Iterable[Any]:
            cells = _by_chunk(missing)
            return self.open_times(tx, line, list(cells)).cells(cells)

        return np.concatenate(self.cells.find(wanted.keys(f"t{line.life}"), read)).reshape(-1, CELL)

    def rows_of(self, tx: Tx, line: Line, name: str, wanted: Wanted, rows: npt.NDArray[Any]) -> tuple[Micros, Column]:
        """Times and values of a field in the first rows of these cells, so many of each."""
        t, column = self.times_of(tx, line, wanted).reshape(-1), self.values_of(tx, line, name, wanted)
        if (rows == CELL).all():
            return t, column
        there = (np.arange(CELL) < rows[:, None]).reshape(-1)
        return t[there], column.take(there)

    def starts_of(self, tx: Tx, line: Line, ords: Sequence[int]) -> list[Ints]:
        """First times of each of these chunks' cells."""

        def read(missing: Sequence[Key]) -> Iterable[Any]:
            some = [ordinal for _, ordinal, _ in missing]
            starts = self.open_times(tx, line, some).starts
            return [starts[ordinal] for ordinal in some]

        return self.cells.find(list(zip(repeat(f"s{line.life}"), ords, repeat(0))), read)

    def values_of(self, tx: Tx, line: Line, name: str, wanted: Wanted) -> Column:
        """Values of a field in these cells, 256 a cell; null where a chunk has none."""
        kind = line.kinds[name]
        if kind == "s":
            return self.cell_values(tx, line, name, wanted.by_chunk())

        def read(missing: Sequence[Key]) -> Iterable[Any]:
            column = self.cell_values(tx, line, name, _by_chunk(missing))
            values = column.values.reshape(-1, CELL)
            valid = [None] * len(values) if column.valid is None else column.valid.reshape(-1, CELL)
            return list(zip(values, valid, strict=True))

        # An integer's field may become one of floats.
        found = self.cells.find(wanted.keys(f"v{kind}{line.ids[name]}.{line.life}"), read)
        values = np.concatenate([one for one, _ in found])
        if all(valid is None for _, valid in found):
            return Column(values)
        blank = np.ones(CELL, np.bool_)
        return Column(values, np.concatenate([blank if valid is None else valid for _, valid in found]))

    def level_items(self, tx: Tx, line: Line, name: str, level: int, ords: Sequence[int] | None = None) -> tuple[Ints, Items]:
        """Items of these rows of a level of the pyramid, or of all: of each its row's number, and itself.

        Those of cells come from memory if they were read lately.
        """
        number, kind = line.ids[name], line.kinds[name]
        if level or ords is None:
            rows = self.items(tx, number, level, ords)
            return np.repeat([one for one, _ in rows], [len(part) for _, part in rows]), join([part for _, part in rows], kind)
        dtype = items_dtype(kind)

        def read(missing: Sequence[Key]) -> Iterable[Any]:
            new = dict(self.items(tx, number, 0, [ordinal for _, ordinal, _ in missing]))
            # As octets, which are joined ten times as fast as structures.
            return [_octets(new[ordinal], dtype) if ordinal in new else _NOTHING for _, ordinal, _ in missing]

        parts = self.summaries.find(list(zip(repeat(f"{kind}{number}.{line.life}"), ords, repeat(0))), read)
        return np.repeat(ords, [len(part) // dtype.itemsize for part in parts]), np.concatenate(parts).view(dtype)

    # Blocks

    @abstractmethod
    def put_block(self, tx: Tx, line: Line, stored: Stored) -> None:
        """Keeps a block that is not sealed."""

    @abstractmethod
    def blocks(
        self,
        tx: Tx,
        line: Line,
        *,
        patch: bool | None = None,
        after: int = -1,
        upto: int = LATEST,
        start: int = EARLIEST,
        end: int = LATEST,
    ) -> list[Stored]:
        """Blocks that are not sealed, touch [start, end) and came in a seq of (after, upto], in the order they came."""

    @abstractmethod
    def drop_blocks(self, tx: Tx, line: Line, patch: bool, seqs: Sequence[int] | None = None) -> None:
        """Forgets these blocks; all of them where none are named."""

    # Chunks

    @abstractmethod
    def put_chunk(self, tx: Tx, line: Line, meta: Meta, block: Block) -> None:
        """Keeps a sealed chunk; a column without any value is not kept."""

    @abstractmethod
    def times(self, tx: Tx, line: Line, chunks: Sequence[Meta]) -> Micros:
        """Times of these chunks, one after the other."""

    @abstractmethod
    def pieces(self, tx: Tx, line: Line, name: str, chunks: Sequence[Meta]) -> list[Piece]:
        """What these chunks have of a field, runs of chunks as one piece, each with the first one's number."""

    @abstractmethod
    def open_times(self, tx: Tx, line: Line, ords: Sequence[int]) -> EncodedTimes:
        """The times of these chunks, of which some cells will be read."""

    @abstractmethod
    def cell_values(self, tx: Tx, line: Line, name: str, wanted: Mapping[int, Sequence[int]]) -> Column:
        """Values of a field in these cells, 256 a cell; null where a chunk has none."""

    @abstractmethod
    def cut_columns(
        self, tx: Tx, line: Line, names: Iterable[str], ordinal: int, low: int, high: int
    ) -> Iterable[tuple[str, Column]]:
        """Values of these fields in the cells [low, high) of a chunk, with what fills the last; none where there are none."""

    def read_cut(self, tx: Tx, line: Line, kinds: Mapping[str, str], chunk: Meta, start: int, end: int) -> Block | None:
        """The rows of a chunk about [start, end), where that is a small part of it: only the cells with these are decoded.

        None where most of the chunk is wanted, which is read as a whole at less cost.
        """
        if start <= chunk.first and end > chunk.last:
            return None
        with _located(line, [chunk]):
            times = self.open_times(tx, line, [chunk.ord])
            starts = times.starts[chunk.ord]
            low = max(0, int(np.searchsorted(starts, start, side="right")) - 1)
            high = int(np.searchsorted(starts, end))
            if (high - low) * SMALL_PART > len(starts) or low >= high:
                return None
            rows = slice(0, min(chunk.rows, high * CELL) - low * CELL)
            t = times.cells({chunk.ord: range(low, high)}).reshape(-1)[rows]
            cut = dict(self.cut_columns(tx, line, kinds, chunk.ord, low, high))
            columns = {
                name: as_kind(cut[name].take(rows), kind) if name in cut else Column.null(len(t), DTYPES[kind])
                for name, kind in kinds.items()
            }
        return Block(t, columns)

    def drop_chunks(self, tx: Tx, line: Line, ords: Sequence[int]) -> None:
        """Forgets these chunks, their columns and their cells' items."""
        tx.run("UPDATE timelines SET mended = mended + 1 WHERE id = ?", line.id)
        for some in _portions(ords):
            tx.run(f"DELETE FROM chunks WHERE timeline = ? AND ord IN ({some})", line.id)
            for field in line.ids.values():
                tx.run(f"DELETE FROM chunk_values WHERE field = ? AND ord IN ({some})", field)
                tx.run(f"DELETE FROM pyramid WHERE field = ? AND level = 0 AND ord IN ({some})", field)

    def read_chunks(self, tx: Tx, line: Line, kinds: Mapping[str, str], chunks: Sequence[Meta]) -> Block:
        """The rows of these chunks, with these fields."""
        if not chunks:
            return Block(np.empty(0, np.int64), {name: Column(np.empty(0, DTYPES[kind])) for name, kind in kinds.items()})
        with _located(line, chunks):
            t = self.times(tx, line, chunks)
            if len(t) != sum(chunk.rows for chunk in chunks):
                raise StoreDamaged("the times of a chunk are missing")
        columns = {}
        for name, kind in kinds.items():
            with _located(line, chunks, name):
                columns[name] = self._column(tx, line, name, kind, chunks, len(t))
        return Block(t, columns)

    def _column(self, tx: Tx, line: Line, name: str, kind: str, chunks: Sequence[Meta], rows: int) -> Column:
        pieces = self.pieces(tx, line, name, chunks)
        if len(pieces) == 1 and len(pieces[0][1]) == rows:
            return as_kind(pieces[0][1], kind)
        starts = dict(
            zip((chunk.ord for chunk in chunks), np.cumsum([0, *(chunk.rows for chunk in chunks)]).tolist(), strict=False)
        )
        whole = Column.null(rows, DTYPES[kind])
        mask = whole.mask()
        for ordinal, column in pieces:
            at = slice(starts[ordinal], starts[ordinal] + len(column))
            piece = as_kind(column, kind)
            whole.values[at], mask[at] = piece.values, piece.mask()
        return Column(whole.values, None if mask.all() else mask)

    # The pyramid

    def put_items(self, tx: Tx, field: int, level: int, ordinal: int, items: Items) -> None:
        """Keeps a row of the pyramid, or forgets it where it has no items."""
        if not len(items):
            tx.run("DELETE FROM pyramid WHERE field = ? AND level = ? AND ord = ?", field, level, ordinal)
            return
        tx.run(
            "INSERT INTO pyramid (field, level, ord, items) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (field, level, ord) DO UPDATE SET items = excluded.items",
            *(field, level, ordinal, pack_items(items)),
        )

    def items(self, tx: Tx, field: int, level: int, ords: Sequence[int] | None = None) -> list[tuple[int, Items]]:
        """Rows of a level of the pyramid by their numbers; all of them where none are named."""
        query = "SELECT ord, items FROM pyramid WHERE field = ? AND level = ?"
        if ords is None:
            found = tx.rows(f"{query} ORDER BY ord", field, level)
        else:
            found = [
                row for some in _portions(ords) for row in tx.rows(f"{query} AND ord IN ({some}) ORDER BY ord", field, level)
            ]
        return list(zip([row[0] for row in found], unpack_rows([bytes(row[1]) for row in found]), strict=True))


@contextmanager
def _located(line: Line, chunks: Sequence[Meta], name: str | None = None) -> Iterator[None]:
    """Says of a damaged part which rows it held."""
    try:
        yield
    except StoreDamaged as error:
        what = f"{line.name!r}" if name is None else f"{name!r} of {line.name!r}"
        raise StoreDamaged(
            f"{what} cannot be read between {iso(to_seconds(chunks[0].first))} and {iso(to_seconds(chunks[-1].last))}: "
            f"{error}. `sisock store check` lists what is lost and saves the rest."
        ) from error


def _portions(ords: Iterable[int], size: int = 500) -> Iterator[str]:
    """Numbers as SQL lists."""
    listed = [int(one) for one in ords]
    for at in range(0, len(listed), size):
        yield ",".join(map(str, listed[at : at + size]))


def select_by_ord(tx: Tx, sql: str, ords: Sequence[int], *parameters: Any) -> list[tuple[Any, ...]]:
    """Rows of a query that ends in `ord`, for these numbers or, where they are many and dense, for the range of them."""
    if len(ords) > 8:
        wanted = set(ords)
        return [
            row for row in tx.rows(f"{sql} BETWEEN ? AND ? ORDER BY ord", *parameters, min(ords), max(ords)) if row[0] in wanted
        ]
    return [row for some in _portions(ords) for row in tx.rows(f"{sql} IN ({some}) ORDER BY ord", *parameters)]


def sparse(tx: Tx, sql: str, ords: Sequence[int], *parameters: Any) -> list[tuple[Any, ...]]:
    """Rows of a query that ends in `ord`, for numbers with many others between them."""
    return [row for some in _portions(ords) for row in tx.rows(f"{sql} IN ({some}) ORDER BY ord", *parameters)]


def scatter(kind: str, cells: int, parts: Iterable[tuple[int, Column]]) -> Column:
    """A column of cells, 256 rows each, of columns that begin at these cells; the rest is null."""
    values: npt.NDArray[Any] = Column.null(cells * CELL, DTYPES[kind]).values
    valid: Bools = np.zeros(cells * CELL, np.bool_)
    for at, column in parts:
        piece = as_kind(column, kind)
        begin = at * CELL
        values[begin : begin + len(piece)], valid[begin : begin + len(piece)] = piece.values, piece.mask()
    return Column(values, valid)
