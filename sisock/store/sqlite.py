"""The shelf on SQLite: sealed columns as cells, blocks as bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sisock.blocks import Block, Column
from sisock.store.cells import (
    as_column,
    decode,
    decode_cells,
    decode_times,
    open_cells,
    open_strings,
)
from sisock.store.database import Tx
from sisock.store.lines import Line, Meta, Stored
from sisock.store.packing import kind_of, pack, unpack
from sisock.store.pyramid import cells_of
from sisock.store.sealed import encode, encode_times
from sisock.store.shelf import EncodedTimes, Piece, Shelf, scatter, select_by_ord, sparse
from sisock.times import EARLIEST, LATEST, Micros


class SqliteShelf(Shelf):
    """Tables of an SQLite file."""

    def put_block(self, tx: Tx, line: Line, stored: Stored) -> None:
        """Keeps a block that is not sealed."""
        block = stored.block
        tx.run(
            "INSERT INTO blocks (timeline, patch, seq, seq_low, first, last, rows, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            *(line.id, int(stored.patch), stored.seq, stored.seq_low, int(block.t[0]), int(block.t[-1]), len(block)),
            pack(block, line.ids),
        )

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
        which = (0, 1) if patch is None else (int(patch), int(patch))
        rows = tx.rows(
            "SELECT patch, seq_low, seq, data FROM blocks WHERE timeline = ? AND patch BETWEEN ? AND ? "
            "AND seq > ? AND seq <= ? AND last >= ? AND first < ? ORDER BY seq, patch",
            *(line.id, *which, after, upto, start, end),
        )
        names = line.names
        return [Stored(bool(kind), low, seq, unpack(data, names)) for kind, low, seq, data in rows]

    def drop_blocks(self, tx: Tx, line: Line, patch: bool, seqs: Sequence[int] | None = None) -> None:
        """Forgets these blocks."""
        if seqs is None:
            tx.run("DELETE FROM blocks WHERE timeline = ? AND patch = ?", line.id, int(patch))
        else:
            tx.many(
                "DELETE FROM blocks WHERE timeline = ? AND patch = ? AND seq = ?", [(line.id, int(patch), seq) for seq in seqs]
            )

    def put_chunk(self, tx: Tx, line: Line, meta: Meta, block: Block) -> None:
        """Keeps a sealed chunk."""
        tx.run(
            "INSERT INTO chunks (timeline, ord, first, last, rows, seq_low, seq, coarse, times) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *(line.id, meta.ord, meta.first, meta.last, meta.rows, meta.seq_low, meta.seq, meta.coarse, encode_times(block.t)),
        )
        there = {name: column for name, column in block.columns.items() if column.valid is None or column.valid.any()}
        tx.many(
            "INSERT INTO chunk_values (field, ord, kind, data) VALUES (?, ?, ?, ?)",
            [(line.ids[name], meta.ord, kind_of(column), encode(column)) for name, column in there.items()],
        )
        for name, column in there.items():
            self.put_items(tx, line.ids[name], 0, meta.ord, cells_of(block.t, column))

    def times(self, tx: Tx, line: Line, chunks: Sequence[Meta]) -> Micros:
        """Times of these chunks."""
        found = select_by_ord(tx, "SELECT ord, times FROM chunks WHERE timeline = ? AND ord", [c.ord for c in chunks], line.id)
        return decode_times([data for _, data in found])

    def pieces(self, tx: Tx, line: Line, name: str, chunks: Sequence[Meta]) -> list[Piece]:
        """What these chunks have of a field."""
        ords = [chunk.ord for chunk in chunks]
        found = select_by_ord(tx, "SELECT ord, kind, data FROM chunk_values WHERE field = ? AND ord", ords, line.ids[name])
        place = {ordinal: at for at, ordinal in enumerate(ords)}
        runs: list[list[tuple[int, str, bytes]]] = []
        for row in found:
            last = runs[-1][-1] if runs else None
            if last is not None and last[1] == row[1] and place[last[0]] + 1 == place[row[0]]:
                runs[-1].append((row[0], row[1], row[2]))
            else:
                runs.append([(row[0], row[1], row[2])])
        return [(run[0][0], decode([data for _, _, data in run], run[0][1])) for run in runs]

    def open_times(self, tx: Tx, line: Line, ords: Sequence[int]) -> EncodedTimes:
        """The times of these chunks."""
        found = sparse(tx, "SELECT ord, times FROM chunks WHERE timeline = ? AND ord", ords, line.id)
        return EncodedTimes(dict(zip([row[0] for row in found], open_cells([row[1] for row in found]), strict=True)))

    def cut_columns(
        self, tx: Tx, line: Line, names: Iterable[str], ordinal: int, low: int, high: int
    ) -> Iterable[tuple[str, Column]]:
        """Values of these fields in the cells [low, high) of a chunk."""
        fields = {line.ids[name]: name for name in names}
        query = f"SELECT field, kind, data FROM chunk_values WHERE ord = {int(ordinal)} AND field"  # noqa: S608  a number of ours
        found = sparse(tx, query, list(fields))
        numbers = [row for row in found if row[1] != "s"]
        # Together: the heads of columns cost five times as much one by one.
        cells = [(part, cell) for part in open_cells([row[2] for row in numbers]) for cell in range(low, high)]
        if cells:
            ints, mask = decode_cells(cells)
            for at, (field, kind, _) in enumerate(numbers):
                some = slice(at * (high - low), (at + 1) * (high - low))
                there = None if mask is None else mask[some].reshape(-1)
                yield fields[field], as_column(kind, ints[some].reshape(-1), there)
        for field, kind, data in found:
            if kind == "s":
                part, dictionary = open_strings(data)
                ints, mask = decode_cells([(part, cell) for cell in range(low, high)])
                yield fields[field], as_column("s", ints.reshape(-1), None if mask is None else mask.reshape(-1), dictionary)

    def cell_values(self, tx: Tx, line: Line, name: str, wanted: Mapping[int, Sequence[int]]) -> Column:
        """Values of a field in these cells."""
        kind = line.kinds[name]
        query = "SELECT ord, kind, data FROM chunk_values WHERE field = ? AND ord"
        found = {row[0]: row[1:] for row in sparse(tx, query, list(wanted), line.ids[name])}
        if kind != "s" and all(ordinal in found and found[ordinal][0] == kind for ordinal in wanted):
            opened = dict(zip(found, open_cells([data for _, data in found.values()]), strict=True))
            ints, mask = decode_cells([(opened[ordinal], cell) for ordinal, cells in wanted.items() for cell in cells])
            return as_column(kind, ints.reshape(-1), None if mask is None else mask.reshape(-1))
        parts, at = [], 0
        for ordinal, cells in wanted.items():
            if ordinal in found:
                stored, data = found[ordinal]
                part, dictionary = open_strings(data) if stored == "s" else (open_cells([data])[0], None)
                ints, mask = decode_cells([(part, cell) for cell in cells])
                parts.append((at, as_column(stored, ints.reshape(-1), None if mask is None else mask.reshape(-1), dictionary)))
            at += len(cells)
        return scatter(kind, at, parts)
