"""Mending: what is done to chunks that are there. Folding patches in, deleting, retention, joining small chunks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sisock.blocks import Block
from sisock.store.database import Tx
from sisock.store.growing import grow
from sisock.store.keeping import SEAL_ROWS, Waiting, next_ord, portions, put_chunks, save
from sisock.store.layers import outside, overlay
from sisock.store.lines import ORD_STEP, Line, Meta, Stored, metas
from sisock.store.shelf import Shelf
from sisock.times import EARLIEST, LATEST

# Patches are folded into their chunks when there are so many of them, or so many rows in them.
MANY_PATCHES = 512
MANY_PATCH_ROWS = 2 * SEAL_ROWS


def due(waiting: Waiting) -> bool:
    """Whether there are so many patches that reads would suffer."""
    return waiting.patches > MANY_PATCHES or waiting.patch_rows > MANY_PATCH_ROWS


def fold(tx: Tx, shelf: Shelf, line: Line, waiting: Waiting) -> None:
    """Lays all patches into the chunks they touch."""
    patches = shelf.blocks(tx, line, patch=True)
    if not patches:
        return
    low, high = min(patch.seq_low for patch in patches), max(patch.seq for patch in patches)
    t = np.unique(np.concatenate([patch.block.t for patch in patches]))
    chunks = _around(tx, line, int(t[0]), int(t[-1]) + 1)
    if not chunks:
        rows = overlay([patch.block for patch in patches], line.kinds)
        put_chunks(tx, shelf, line, rows, low, high, next_ord(tx, line))
    else:
        # A row between two chunks is the earlier one's, a row before all of them the first one's.
        edges = [EARLIEST, *(chunk.first for chunk in chunks[1:]), LATEST]
        touched = np.unique(np.searchsorted(edges, t, side="right") - 1).tolist()
        for at in touched:
            parts = [patch.block.between(edges[at], edges[at + 1]) for patch in patches]
            chunk = chunks[at]
            base = shelf.read_chunks(tx, line, line.kinds, [chunk])
            rows = overlay([base, *parts], line.kinds)
            _replace(tx, shelf, line, [chunk], rows, min(low, chunk.seq_low), max(high, chunk.seq), chunk.coarse)
    shelf.drop_blocks(tx, line, True)
    waiting.patches = waiting.patch_rows = waiting.small_patches = 0


def _around(tx: Tx, line: Line, start: int, end: int) -> list[Meta]:
    """The chunks that rows in [start, end) belong to: also the last before them, or, if there is none, the first behind."""
    row = tx.one("SELECT max(first) FROM chunks WHERE timeline = ? AND first <= ?", line.id, start)
    begin = None if row is None else row[0]
    if begin is None:
        row = tx.one("SELECT min(first) FROM chunks WHERE timeline = ?", line.id)
        if row is None or row[0] is None:
            return []
        begin = row[0]
        end = max(end, begin + 1)
    return metas(tx, line, begin, end)


def _replace(tx: Tx, shelf: Shelf, line: Line, chunks: Sequence[Meta], rows: Block, low: int, high: int, coarse: int) -> None:
    """Puts rows in the place of chunks that follow each other."""
    gone = [chunk.ord for chunk in chunks]
    shelf.drop_chunks(tx, line, gone)
    ords: list[int] = []
    if len(rows):
        row = tx.one("SELECT min(ord) FROM chunks WHERE timeline = ? AND ord > ?", line.id, gone[-1])
        behind = (gone[0] // ORD_STEP + 1) * ORD_STEP if row is None or row[0] is None else int(row[0])
        room = behind - gone[0]
        # One chunk keeps its number; of several each gets an equal share of the numbers that are free.
        count = min(room, portions(len(rows)))
        ords = put_chunks(tx, shelf, line, rows, low, high, gone[0], room // count, coarse, count)
    for name, field in line.ids.items():
        grow(tx, shelf, field, line.kinds[name], [*gone, *ords])


def delete(tx: Tx, shelf: Shelf, line: Line, waiting: Waiting, start: int, end: int) -> None:
    """Deletes the rows in [start, end); readers hear of it as a revision."""
    fold(tx, shelf, line, waiting)
    for chunk in metas(tx, line, start, end):
        if start <= chunk.first and chunk.last < end:
            _replace(tx, shelf, line, [chunk], Block(np.empty(0, np.int64)), 0, 0, 0)
            continue
        rows = outside(shelf.read_chunks(tx, line, line.kinds, [chunk]), start, end)
        if len(rows) < chunk.rows:
            _replace(tx, shelf, line, [chunk], rows, chunk.seq_low, chunk.seq, chunk.coarse)
    for stored in shelf.blocks(tx, line, patch=False, start=start, end=end):
        rest = outside(stored.block, start, end)
        shelf.drop_blocks(tx, line, False, [stored.seq])
        waiting.rows -= len(stored.block) - len(rest)
        if len(rest):
            shelf.put_block(tx, line, Stored(False, stored.seq_low, stored.seq, rest))
    line.seq += 1
    tx.run("INSERT INTO revisions (timeline, seq, first, last) VALUES (?, ?, ?, ?)", line.id, line.seq, start, end)
    line.newest = last_time(tx, line)
    save(tx, line)


def last_time(tx: Tx, line: Line) -> int | None:
    """The newest row's time, from the tables."""
    row = tx.one(
        "SELECT max(last) FROM (SELECT max(last) AS last FROM chunks WHERE timeline = ? "
        "UNION ALL SELECT max(last) FROM blocks WHERE timeline = ?) AS ends",
        *(line.id, line.id),
    )
    return None if row is None or row[0] is None else int(row[0])


def retain(tx: Tx, shelf: Shelf, line: Line, waiting: Waiting, now: int) -> int:
    """Applies the timeline's retention; how many chunks it touched.

    Ages count from the newest row, or from now where a clock once ran ahead. Whole chunks go.
    """
    if line.newest is None or (line.keep is None and line.coarse_after is None):
        return 0
    present = min(line.newest, now)
    touched = 0
    if line.keep is not None:
        touched += _drop_before(tx, shelf, line, waiting, present - line.keep)
    if line.coarse_after is not None and line.coarse_step:
        touched += _coarsen_before(tx, shelf, line, waiting, present - line.coarse_after, line.coarse_step)
    return touched


def _drop_before(tx: Tx, shelf: Shelf, line: Line, waiting: Waiting, end: int) -> int:
    old = [chunk for chunk in metas(tx, line, EARLIEST, end) if chunk.last < end]
    if not old:
        return 0
    if waiting.patches:
        fold(tx, shelf, line, waiting)
        old = [chunk for chunk in metas(tx, line, EARLIEST, end) if chunk.last < end]
    ords = [chunk.ord for chunk in old]
    shelf.drop_chunks(tx, line, ords)
    for name, field in line.ids.items():
        grow(tx, shelf, field, line.kinds[name], ords)
    line.newest = last_time(tx, line)
    save(tx, line)
    return len(old)


def _coarsen_before(tx: Tx, shelf: Shelf, line: Line, waiting: Waiting, end: int, step: int) -> int:
    fine = [chunk for chunk in metas(tx, line, EARLIEST, end) if chunk.last < end and chunk.coarse < step]
    if not fine:
        return 0
    if waiting.patches:
        fold(tx, shelf, line, waiting)
        fine = [chunk for chunk in metas(tx, line, EARLIEST, end) if chunk.last < end and chunk.coarse < step]
    for chunk in fine:
        rows = coarse(shelf.read_chunks(tx, line, line.kinds, [chunk]), step)
        _replace(tx, shelf, line, [chunk], rows, chunk.seq_low, chunk.seq, step)
    join_small(tx, shelf, line, step)
    return len(fine)


def coarse(block: Block, step: int) -> Block:
    """The rows that hold the least and the greatest value of each step of time, and the last one of each step."""
    edges = np.flatnonzero(np.diff(block.t // step, prepend=block.t[0] // step - 1))
    ends = np.append(edges[1:], len(block))
    chosen = np.zeros(len(block), np.bool_)
    chosen[ends - 1] = True
    for column in block.columns.values():
        if column.values.dtype.kind == "O":
            continue
        numbers = column.numbers()
        there = ~np.isnan(numbers)
        for sign in (1.0, -1.0):
            ranked = np.where(there, numbers * sign, np.inf)
            # The first row that equals its step's least.
            least = np.repeat(np.minimum.reduceat(ranked, edges), ends - edges)
            hits = np.flatnonzero((ranked == least) & there)
            _, first = np.unique(np.searchsorted(edges, hits, side="right"), return_index=True)
            chosen[hits[first]] = True
    return block.take(chosen)


def join_small(tx: Tx, shelf: Shelf, line: Line, coarseness: int | None = None) -> int:
    """Joins neighbouring chunks that are small; how many it touched."""
    touched, run = 0, list[Meta]()
    for chunk in [*metas(tx, line, EARLIEST, LATEST), None]:
        fits = (
            chunk is not None
            and chunk.rows < SEAL_ROWS // 2
            and (coarseness is None or chunk.coarse == coarseness)
            and (not run or chunk.coarse == run[0].coarse)
            and sum(one.rows for one in run) + chunk.rows < 2 * SEAL_ROWS
        )
        if fits and chunk is not None:
            run.append(chunk)
            continue
        if len(run) > 1:
            rows = shelf.read_chunks(tx, line, line.kinds, run)
            low, high = min(one.seq_low for one in run), max(one.seq for one in run)
            _replace(tx, shelf, line, run, rows, low, high, run[0].coarse)
            touched += len(run)
        small = chunk is not None and chunk.rows < SEAL_ROWS // 2 and (coarseness is None or chunk.coarse == coarseness)
        run = [chunk] if chunk is not None and small else []
    return touched
