"""Reading: rows, the first and last time, what changed since a position, the last row at or before given times."""

# ruff: noqa: S608  the names in these statements are our own, and so are the numbers
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from sisock.blocks import Block, concat
from sisock.errors import PositionLost, TooMuch
from sisock.history import Changes, joined_ranges
from sisock.positions import Position
from sisock.store.cells import CELL, Index
from sisock.store.database import Tx
from sisock.store.layers import overlay
from sisock.store.lines import Line, Meta, metas
from sisock.store.shelf import Shelf, Wanted
from sisock.times import EARLIEST, LATEST, Micros

# A patch of so few rows names each of them as a range of its own.
FEW_ROWS = 64
# The chunks of which the last rows before given times are looked up together.
_CHUNKS_AT_ONCE = 256


def read(tx: Tx, shelf: Shelf, line: Line, fields: Iterable[str], start: int, end: int) -> Block:
    """The rows in [start, end) with those of the fields that there are."""
    kinds = line.only(fields)
    chunks = metas(tx, line, start, end)
    base = (_cut(tx, shelf, line, kinds, chunks, start, end) or shelf.read_chunks(tx, line, kinds, chunks)).between(start, end)
    loose = shelf.blocks(tx, line, start=start, end=end)
    if not loose:
        return base
    return overlay([base, *(stored.block.between(start, end) for stored in loose)], kinds)


def _cut(
    tx: Tx, shelf: Shelf, line: Line, kinds: Mapping[str, str], chunks: Sequence[Meta], start: int, end: int
) -> Block | None:
    """The rows of a short range, cut out of the one or two chunks it lies in; None for any other."""
    if not 0 < len(chunks) < 3:
        return None
    parts = [shelf.read_cut(tx, line, kinds, chunk, start, end) for chunk in chunks]
    cut = [part for part in parts if part is not None]
    return concat(cut) if len(cut) == len(parts) and any(map(len, cut)) else None


def span(tx: Tx, line: Line) -> tuple[int, int] | None:
    """First and last time; None without rows."""
    # Chunks do not overlap, so the last to begin is the last to end.
    end = "SELECT first, last FROM chunks WHERE timeline = ? ORDER BY first"
    row = tx.one(
        f"SELECT min(first), max(last) FROM (SELECT * FROM ({end} LIMIT 1) AS head UNION ALL "
        f"SELECT * FROM ({end} DESC LIMIT 1) AS tail UNION ALL "
        "SELECT min(first) AS first, max(last) AS last FROM blocks WHERE timeline = ?) AS ends",
        *(line.id, line.id, line.id),
    )
    return None if row is None or row[0] is None else (int(row[0]), int(row[1]))


def count(tx: Tx, shelf: Shelf, line: Line, start: int, end: int) -> int:
    """About how many rows there are in [start, end): exact but for patches that wait to be folded in."""
    if start >= end:
        return 0
    (low, low_rows, before), (high, _, upto) = (_crossed(tx, shelf, line, edge) for edge in (start, end))
    sealed = _sealed_rows(tx, line, start, end) + upto - before + (low_rows if low != high else 0)
    return sealed + sum(len(stored.block.between(start, end)) for stored in shelf.blocks(tx, line, start=start, end=end))


def _crossed(tx: Tx, shelf: Shelf, line: Line, edge: int) -> tuple[int | None, int, int]:
    """The chunk that has rows before and behind this time: its number, how many rows it has, and how many of them before."""
    row = tx.one(
        "SELECT ord, rows, last FROM chunks WHERE timeline = ? AND first < ? ORDER BY first DESC LIMIT 1", line.id, edge
    )
    if row is None or row[2] < edge:
        return None, 0, 0
    ordinal, rows = int(row[0]), int(row[1])
    cell = int(np.searchsorted(shelf.starts_of(tx, line, [ordinal])[0], edge)) - 1
    t = shelf.times_of(tx, line, Wanted(np.array([ordinal]), np.array([cell])))[0]
    return ordinal, rows, cell * CELL + int(np.searchsorted(t[: rows - cell * CELL], edge))


def first_from(tx: Tx, line: Line, start: int) -> int:
    """A time at or a little before the first row at or after `start`: where the chunk or block that holds it begins."""
    row = tx.one(
        "SELECT min(first) FROM (SELECT first FROM (SELECT first FROM chunks WHERE timeline = ? AND last >= ? "
        "ORDER BY first LIMIT 1) AS chunk UNION ALL "
        "SELECT min(first) AS first FROM blocks WHERE timeline = ? AND last >= ?) AS ends",
        *(line.id, start, line.id, start),
    )
    return start if row is None or row[0] is None else max(start, int(row[0]))


def page_end(tx: Tx, line: Line, start: int, end: int, rows: int) -> int:
    """Where a page of about so many sealed rows, from `start` on, ends."""
    held = 0
    for first, count in tx.rows(
        "SELECT first, rows FROM chunks WHERE timeline = ? AND first < ? AND first >= "
        "COALESCE((SELECT max(first) FROM chunks WHERE timeline = ? AND first <= ?), ?) ORDER BY first LIMIT ?",
        *(line.id, end, line.id, start, start, 2 + rows // 256),
    ):
        if held >= rows and first > start:
            return int(first)
        held += count
    return end


def changes(
    tx: Tx, shelf: Shelf, line: Line, fields: Sequence[str], since: Position, between: tuple[int, int], max_rows: int
) -> Changes:
    """What came after `since` in a range; PositionLost for a position of another life of the history, or one ahead of it.

    So is one behind which rows came that retention has deleted by now: they are a gap for whoever did not read them.
    """
    position = Position(line.epoch, line.seq)
    if since.epoch != line.epoch or since.seq > line.seq:
        raise PositionLost(
            f"{line.name}: the position {since.seq} is not of this history, which stands at {line.seq}. Read anew."
        )
    if line.dropped is not None and since.seq < line.dropped:
        raise PositionLost(
            f"{line.name}: of what came after the position {since.seq} some is deleted already (retention). Read anew."
        )
    if since.seq == line.seq:
        return Changes(read(tx, shelf, line, fields, LATEST, LATEST), (), position)
    touched = [
        (int(first), int(last) + 1)
        for first, last in tx.rows("SELECT first, last FROM chunks WHERE timeline = ? AND seq > ?", line.id, since.seq)
    ]
    # All that was there at `since` ends here: what was touched up to here revises, what is behind is new.
    row = tx.one(
        "SELECT max(last) FROM (SELECT max(last) AS last FROM chunks WHERE timeline = ? AND seq_low <= ? "
        "UNION ALL SELECT max(last) FROM blocks WHERE timeline = ? AND seq_low <= ?) AS ends",
        *(line.id, since.seq, line.id, since.seq),
    )
    old_end = EARLIEST if row is None or row[0] is None else int(row[0]) + 1
    for stored in shelf.blocks(tx, line, after=since.seq):
        t = stored.block.t
        if len(t) <= FEW_ROWS and stored.seq_low > since.seq:
            touched.extend((one, one + 1) for one in t.tolist())
        else:
            touched.append((int(t[0]), int(t[-1]) + 1))
    revised = [
        (int(first), int(last))
        for first, last in tx.rows("SELECT first, last FROM revisions WHERE timeline = ? AND seq > ?", line.id, since.seq)
    ]
    revised += [(first, min(last, old_end)) for first, last in touched if first < old_end]
    low, high = between
    revises = joined_ranges((max(start, low), min(end, high)) for start, end in revised)
    touched = joined_ranges([*revises, *((max(start, low), min(end, high)) for start, end in touched)])
    # Sealed rows are counted before they are read: a follower who was away for long reads anew, in pages.
    blocks, held = [], sum(_sealed_rows(tx, line, start, end) for start, end in touched)
    for start, end in touched if held <= max_rows else ():
        blocks.append(read(tx, shelf, line, fields, start, end))
        held = max(held, sum(map(len, blocks)))
    if held > max_rows:
        raise TooMuch(f"{line.name}: more than {max_rows} rows came after the position. Read anew, in pages.")
    return Changes(concat(blocks), tuple(revises), position)


def _sealed_rows(tx: Tx, line: Line, start: int, end: int) -> int:
    """Rows of the chunks that lie in [start, end) as a whole."""
    row = tx.one(
        "SELECT COALESCE(sum(rows), 0) FROM chunks WHERE timeline = ? AND first >= ? AND last < ?", line.id, start, end
    )
    return 0 if row is None else int(row[0])


def last_before(tx: Tx, shelf: Shelf, line: Line, fields: Iterable[str], times: Micros) -> tuple[Block, Index]:
    """The last row at or before each of these times: the rows, and for each time which of them it is, -1 for none."""
    kinds = line.only(fields)
    if not len(times):
        return read(tx, shelf, line, fields, LATEST, LATEST), np.empty(0, np.intp)
    asked, back = np.unique(times, return_inverse=True)
    found, base = _last_sealed(tx, shelf, line, kinds, asked)
    loose = [stored.block for stored in shelf.blocks(tx, line, end=int(asked[-1]) + 1)]
    if loose:
        t = np.unique(np.concatenate([block.t for block in loose]))
        at = np.searchsorted(t, asked, side="right") - 1
        found = np.maximum(found, np.where(at >= 0, t[np.maximum(at, 0)], EARLIEST))
        base = base.take(np.isin(base.t, found))
    layers = [base, *(block.take(np.isin(block.t, found)) for block in loose)]
    rows = overlay(layers, kinds) if loose else base
    index = np.where(found > EARLIEST, np.searchsorted(rows.t, found), -1)
    return rows, index[back.reshape(-1)]


def _last_sealed(tx: Tx, shelf: Shelf, line: Line, kinds: dict[str, str], asked: Micros) -> tuple[Micros, Block]:
    """Times of the last sealed rows at or before the ascending times, EARLIEST for none, and those rows."""
    found = np.full(len(asked), EARLIEST, np.int64)
    heads = tx.rows(
        "SELECT first, ord, rows FROM chunks WHERE timeline = ? AND first <= ? AND first >= "
        "COALESCE((SELECT max(first) FROM chunks WHERE timeline = ? AND first <= ?), ?) ORDER BY first",
        *(line.id, int(asked[-1]), line.id, int(asked[0]), EARLIEST),
    )
    firsts, ords, rows = np.array(heads, np.int64).reshape(-1, 3).T
    chunk = np.searchsorted(firsts, asked, side="right") - 1
    touched = np.unique(chunk[chunk >= 0])
    blocks = []
    # Few chunks at a time: what is read of them is a hundred times as long as what is wanted.
    for at in range(0, len(touched), _CHUNKS_AT_ONCE):
        some = touched[at : at + _CHUNKS_AT_ONCE]
        here = slice(*np.searchsorted(chunk, (some[0], some[-1] + 1)).tolist())
        found[here], block = _last_in(tx, shelf, line, kinds, asked[here], ords[some], rows[some])
        blocks.append(block)
    return found, concat(blocks) if blocks else shelf.read_chunks(tx, line, kinds, [])


def _last_in(
    tx: Tx, shelf: Shelf, line: Line, kinds: dict[str, str], asked: Micros, ords: Micros, rows: Micros
) -> tuple[Micros, Block]:
    """Times of the last rows at or before each of the times, all of which lie in these chunks, and those rows."""
    starts = shelf.starts_of(tx, line, ords.tolist())
    counts = np.array([*map(len, starts)])
    cell_chunk = np.repeat(np.arange(len(ords)), counts)
    cell_number = np.arange(len(cell_chunk)) - np.repeat(np.cumsum(counts) - counts, counts)
    cells, which = np.unique(np.searchsorted(np.concatenate(starts), asked, side="right") - 1, return_inverse=True)
    wanted = Wanted(ords[cell_chunk[cells]], cell_number[cells])
    t = shelf.times_of(tx, line, wanted)
    filled = np.minimum(rows[cell_chunk[cells]] - cell_number[cells] * CELL, CELL)
    row = np.minimum((t[which] <= asked[:, None]).sum(axis=1), filled[which]) - 1
    found = t[which, row]
    places, first = np.unique(which * CELL + row, return_index=True)
    columns = {name: shelf.values_of(tx, line, name, wanted).take(places) for name in kinds}
    return found, Block(found[first], columns)
