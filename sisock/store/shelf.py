"""The shelf: how blocks, chunks and columns lie in an engine's tables.

What is here is the same for both engines; `SqliteShelf` and `PostgresShelf` say how the data themselves are kept.
"""

# ruff: noqa: S608  the names in these statements are our own, and so are the numbers
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sisock.blocks import Block, Bools, Column
from sisock.store.cells import CELL, Encoded, Ints, decode_cells
from sisock.store.database import Tx
from sisock.store.errors import StoreDamaged
from sisock.store.layers import DTYPES, as_kind
from sisock.store.lines import Line, Meta, Stored
from sisock.store.pyramid import Items, pack_items, unpack_rows
from sisock.times import EARLIEST, LATEST, Micros, iso, to_seconds

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
        return decode_cells([(self.parts[ordinal], cell, cell + 1) for ordinal, cells in wanted.items() for cell in cells])[0]


class Shelf(ABC):
    """Puts blocks, chunks and the pyramid's rows into tables, and takes them out."""

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

    def drop_chunks(self, tx: Tx, line: Line, ords: Sequence[int]) -> None:
        """Forgets these chunks, their columns and their cells' items."""
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
