"""The shelf on PostgreSQL: everything as arrays, which anyone's SQL can unnest."""

# ruff: noqa: S608  the names in these statements are our own, and so are the numbers
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from sisock.blocks import Block, Column
from sisock.store.cells import decode_times, open_cells
from sisock.store.database import Tx
from sisock.store.lines import Line, Meta, Stored
from sisock.store.packing import kind_of
from sisock.store.pgcopy import COLUMNS, array, copy_in, copy_out, integer, integer2, integer4, number, parse
from sisock.store.pyramid import cells_of
from sisock.store.sealed import encode_times
from sisock.store.shelf import EncodedTimes, Piece, Shelf, scatter
from sisock.times import EARLIEST, LATEST, Micros

_VALUES = ("kind", "numbers", "integers", "flags", "texts", "there")


def _values(column: Column) -> list[bytes | None]:
    kind = kind_of(column)
    if column.valid is not None and column.valid.all():
        column = Column(column.values)
    arrays = [array(kind, column) if one == kind else None for one in COLUMNS]
    return [kind.encode(), *arrays, None if column.valid is None else np.packbits(column.valid).tobytes()]


_PLACES = {letter: place for place, letter in enumerate(COLUMNS)}


def _column(kind: memoryview | None, arrays: Sequence[memoryview | None], there: memoryview | None) -> Column:
    letter = str(kind or b"f", "utf-8")
    data = arrays[_PLACES[letter]]
    return parse(letter, data if data is not None else memoryview(b""), there)


class PostgresShelf(Shelf):
    """Tables of a PostgreSQL database."""

    def put_block(self, tx: Tx, line: Line, stored: Stored) -> None:
        """Keeps a block that is not sealed."""
        block, key = stored.block, (integer(line.id), integer2(stored.patch), integer(stored.seq))
        copy_in(
            tx,
            "blocks",
            ("timeline", "patch", "seq", "seq_low", "first", "last", "rows", "times"),
            [
                (
                    *key,
                    *(integer(one) for one in (stored.seq_low, int(block.t[0]), int(block.t[-1]))),
                    integer4(len(block)),
                    array("i", Column(block.t)),
                )
            ],
        )
        rows = [(*key, integer(line.ids[name]), *_values(column)) for name, column in block.columns.items()]
        copy_in(tx, "block_values", ("timeline", "patch", "seq", "field", *_VALUES), rows)

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
        """Blocks that are not sealed, in the order they came."""
        where = "b.timeline = ? AND b.patch BETWEEN ? AND ? AND b.seq > ? AND b.seq <= ? AND b.last >= ? AND b.first < ?"
        which = (0, 1) if patch is None else (int(patch), int(patch))
        asked = (line.id, *which, after, upto, start, end)
        heads = copy_out(
            tx, f"SELECT b.seq, b.patch, b.seq_low, b.times FROM blocks b WHERE {where} ORDER BY b.seq, b.patch", *asked
        )
        found: dict[tuple[int, int], tuple[int, Micros, dict[str, Column]]] = {}
        for seq, kind, low, times in heads:
            found[number(seq), number(kind)] = number(low), parse("i", times or memoryview(b""), None).values, {}
        if not found:
            return []
        names = line.names
        values = copy_out(
            tx,
            f"SELECT v.seq, v.patch, v.field, {', '.join('v.' + one for one in _VALUES)} "
            f"FROM block_values v JOIN blocks b USING (timeline, patch, seq) WHERE {where} ORDER BY v.field",
            *asked,
        )
        for seq, kind, field, letter, *arrays, there in values:
            name = names.get(number(field))
            if name is not None:
                found[number(seq), number(kind)][2][name] = _column(letter, arrays, there)
        return [Stored(bool(kind), low, seq, Block(t, columns)) for (seq, kind), (low, t, columns) in found.items()]

    def drop_blocks(self, tx: Tx, line: Line, patch: bool, seqs: Sequence[int] | None = None) -> None:
        """Forgets these blocks."""
        for table in ("blocks", "block_values"):
            if seqs is None:
                tx.run(f"DELETE FROM {table} WHERE timeline = ? AND patch = ?", line.id, int(patch))
            else:
                tx.run(
                    f"DELETE FROM {table} WHERE timeline = ? AND patch = ? AND seq = ANY(?)", line.id, int(patch), list(seqs)
                )

    def put_chunk(self, tx: Tx, line: Line, meta: Meta, block: Block) -> None:
        """Keeps a sealed chunk."""
        copy_in(
            tx,
            "chunks",
            ("timeline", "ord", "first", "last", "rows", "seq_low", "seq", "coarse", "times", "cells"),
            [
                (
                    *(integer(one) for one in (line.id, meta.ord, meta.first, meta.last)),
                    integer4(meta.rows),
                    *(integer(one) for one in (meta.seq_low, meta.seq, meta.coarse)),
                    array("i", Column(block.t)),
                    encode_times(block.t),
                )
            ],
        )
        there = {name: column for name, column in block.columns.items() if column.valid is None or column.valid.any()}
        rows = [(integer(line.ids[name]), integer(meta.ord), *_values(column)) for name, column in there.items()]
        copy_in(tx, "chunk_values", ("field", "ord", *_VALUES), rows)
        for name, column in there.items():
            self.put_items(tx, line.ids[name], 0, meta.ord, cells_of(block.t, column))

    def times(self, tx: Tx, line: Line, chunks: Sequence[Meta]) -> Micros:
        """Times of these chunks."""
        found = copy_out(
            tx, "SELECT cells FROM chunks WHERE timeline = ? AND ord = ANY(?) ORDER BY ord", line.id, _ords(chunks)
        )
        return decode_times([cells or b"" for (cells,) in found])

    def pieces(self, tx: Tx, line: Line, name: str, chunks: Sequence[Meta]) -> list[Piece]:
        """What these chunks have of a field."""
        query = f"SELECT ord, {', '.join(_VALUES)} FROM chunk_values WHERE field = ? AND ord = ANY(?) ORDER BY ord"
        found = copy_out(tx, query, line.ids[name], _ords(chunks))
        return [(number(ordinal), _column(kind, arrays, there)) for ordinal, kind, *arrays, there in found]

    def open_times(self, tx: Tx, line: Line, ords: Sequence[int]) -> EncodedTimes:
        """The times of these chunks."""
        query = "SELECT ord, cells FROM chunks WHERE timeline = ? AND ord = ANY(?)"
        found = {number(ordinal): cells or b"" for ordinal, cells in copy_out(tx, query, line.id, list(ords))}
        return EncodedTimes(dict(zip(found, open_cells(list(found.values())), strict=True)))

    def cut_columns(
        self, tx: Tx, line: Line, names: Iterable[str], ordinal: int, low: int, high: int
    ) -> Iterable[tuple[str, Column]]:
        """Values of these fields in the cells [low, high) of a chunk."""
        fields = {line.ids[name]: name for name in names}
        slices = ", ".join(f"{one}[{low * 256 + 1} : {high * 256}]" for one in _VALUES[1:-1])
        there = f"substring(there FROM {low * 32 + 1} FOR {(high - low) * 32})"
        query = f"SELECT field, kind, {slices}, {there} FROM chunk_values WHERE ord = ? AND field = ANY(?)"
        for field, kind, *arrays, mask in copy_out(tx, query, ordinal, list(fields)):
            yield fields[number(field)], _column(kind, arrays, mask)

    def cell_values(self, tx: Tx, line: Line, name: str, wanted: Mapping[int, Sequence[int]]) -> Column:
        """Values of a field in these cells."""
        slices = ", ".join(f"v.{one}[w.cell * 256 + 1 : w.cell * 256 + 256]" for one in _VALUES[1:-1])
        found = copy_out(
            tx,
            f"SELECT w.at, v.kind, {slices}, substring(v.there FROM (w.cell * 32 + 1)::int FOR 32) "
            "FROM chunk_values v JOIN unnest(?::bigint[], ?::bigint[]) WITH ORDINALITY AS w(ord, cell, at) "
            "ON v.ord = w.ord WHERE v.field = ?",
            *(*_listed(wanted), line.ids[name]),
        )
        parts = [(number(at) - 1, _column(kind, arrays, there)) for at, kind, *arrays, there in found]
        return scatter(line.kinds[name], sum(map(len, wanted.values())), parts)


def _ords(chunks: Sequence[Meta]) -> list[int]:
    return [chunk.ord for chunk in chunks]


def _listed(wanted: Mapping[int, Sequence[int]]) -> tuple[list[int], list[int]]:
    ords = [ordinal for ordinal, cells in wanted.items() for _ in cells]
    return ords, [int(cell) for cells in wanted.values() for cell in cells]
