"""Mending: what is done to chunks that are there. Folding patches in, deleting, retention, joining small chunks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sisock.blocks import Block
from sisock.store.database import Tx
from sisock.store.growing import grow
from sisock.store.keeping import SEAL_ROWS, Waiting, next_ord, portions, put_chunks, save, tail_ends
from sisock.store.layers import outside, overlay
from sisock.store.lines import ORD_STEP, Line, Meta, Stored, metas
from sisock.store.shelf import Shelf
from sisock.times import EARLIEST, LATEST

# Patches are folded into their chunks when there are so many of them, or so many rows in them.
MANY_PATCHES = 512
MANY_PATCH_ROWS = 2 * SEAL_ROWS
# So many deletions are known to those who follow.
MANY_REVISIONS = 10_000
# A transaction mends so many columns of chunks, about a second's work: other nodes of the same file wait meanwhile.
PORTION = 256


def portion(line: Line) -> int:
    """How many chunks of a timeline a transaction mends."""
    return max(1, PORTION // max(1, len(line.ids)))


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
    for name in line.ids:
        grow(tx, shelf, line, name, [*gone, *ords])


def delete(tx: Tx, shelf: Shelf, line: Line, waiting: Waiting, start: int, end: int) -> int:
    """Deletes the rows in [start, end), or of a first portion of it; up to where. Readers hear of it as a revision."""
    fold(tx, shelf, line, waiting)
    # Of the first so many chunks the one that begins before `start` may end before it, too.
    chunks = metas(tx, line, start, end, portion(line) + 2)
    if len(chunks) > portion(line):
        end, chunks = chunks[portion(line)].first, chunks[: portion(line)]
    for chunk in chunks:
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
    waiting.ends = tail_ends(tx, line)
    line.seq += 1
    tx.run("INSERT INTO revisions (timeline, seq, first, last) VALUES (?, ?, ?, ?)", line.id, line.seq, start, end)
    _cut_revisions(tx, line)
    line.newest = last_time(tx, line)
    save(tx, line)
    return end


def _cut_revisions(tx: Tx, line: Line) -> None:
    """Of very many deletions the oldest go; who has not heard of them reads anew."""
    query = "SELECT seq FROM revisions WHERE timeline = ? ORDER BY seq DESC LIMIT 1 OFFSET ?"
    row = tx.one(query, line.id, MANY_REVISIONS)
    if row is not None:
        tx.run("DELETE FROM revisions WHERE timeline = ? AND seq <= ?", line.id, row[0])
        line.dropped = max(line.dropped or 0, int(row[0]))


def last_time(tx: Tx, line: Line) -> int | None:
    """The newest row's time, from the tables."""
    row = tx.one(
        "SELECT max(last) FROM (SELECT max(last) AS last FROM chunks WHERE timeline = ? "
        "UNION ALL SELECT max(last) FROM blocks WHERE timeline = ?) AS ends",
        *(line.id, line.id),
    )
    return None if row is None or row[0] is None else int(row[0])


def old(line: Line, waiting: Waiting, now: int) -> bool:
    """Whether blocks of the tail are older than rows are kept, though they are too few to be sealed."""
    return line.keep is not None and line.newest is not None and waiting.ends < min(line.newest, now) - line.keep


def retain(tx: Tx, shelf: Shelf, line: Line, waiting: Waiting, now: int) -> tuple[int, bool]:
    """Applies the timeline's retention to a portion of it: how many chunks and blocks that touched, and whether there are more.

    Ages count from the newest row, or from now where a clock once ran ahead. Whole chunks go, and whole blocks of the tail.
    """
    if line.newest is None:
        return 0, False
    present = min(line.newest, now)
    touched, more = 0, False
    if line.keep is not None:
        touched, more = _drop_before(tx, shelf, line, waiting, present - line.keep)
    if line.coarse_after is not None and line.coarse_step and not more:
        thinned, more = _coarsen_before(tx, shelf, line, waiting, present - line.coarse_after, line.coarse_step)
        touched += thinned
    return touched, more


def _drop_before(tx: Tx, shelf: Shelf, line: Line, waiting: Waiting, end: int) -> tuple[int, bool]:
    chunks = _whole_before(tx, line, end)
    more, chunks = len(chunks) > portion(line), chunks[: portion(line)]
    tail = tx.rows("SELECT seq, rows FROM blocks WHERE timeline = ? AND patch = 0 AND last < ?", line.id, end)
    waiting.ends = tail_ends(tx, line)
    if not chunks and not tail:
        return 0, False
    # Before they are folded in: a chunk then has the seq of all the patches.
    dropped = [line.dropped or 0, *(chunk.seq for chunk in chunks), *(int(seq) for seq, _ in tail)]
    if chunks:
        if waiting.patches:
            row = tx.known("SELECT max(seq) FROM blocks WHERE timeline = ? AND patch = 1 AND first < ?", line.id, end)
            dropped.append(int(row[0] or 0))
            fold(tx, shelf, line, waiting)
            chunks = _whole_before(tx, line, end)[: portion(line)]
        ords = [chunk.ord for chunk in chunks]
        shelf.drop_chunks(tx, line, ords)
        for name in line.ids:
            grow(tx, shelf, line, name, ords)
    if tail:
        shelf.drop_blocks(tx, line, False, [int(seq) for seq, _ in tail])
        gone = sum(int(rows) for _, rows in tail)
        waiting.rows -= gone
        waiting.seal_at = max(SEAL_ROWS, waiting.seal_at - gone)
        waiting.ends = tail_ends(tx, line)
    line.dropped = max(dropped)
    line.newest = last_time(tx, line)
    save(tx, line)
    return len(chunks) + len(tail), more


def _whole_before(tx: Tx, line: Line, end: int) -> list[Meta]:
    """The chunks that end before a time: a portion of them, and one more where there are more."""
    return [chunk for chunk in metas(tx, line, EARLIEST, end, portion(line) + 1) if chunk.last < end]


def _coarsen_before(tx: Tx, shelf: Shelf, line: Line, waiting: Waiting, end: int, step: int) -> tuple[int, bool]:
    fine = _fine_before(tx, line, end, step)
    if fine and waiting.patches:
        fold(tx, shelf, line, waiting)
        fine = _fine_before(tx, line, end, step)
    some = fine[: portion(line)]
    for chunk in some:
        rows = coarse(shelf.read_chunks(tx, line, line.kinds, [chunk]), step)
        _replace(tx, shelf, line, [chunk], rows, chunk.seq_low, chunk.seq, step)
    if len(fine) > len(some):
        return len(some), True
    _, more = join_small(tx, shelf, line, step) if some else (0, False)
    return len(some), more


def _fine_before(tx: Tx, line: Line, end: int, step: int) -> list[Meta]:
    return [chunk for chunk in metas(tx, line, EARLIEST, end) if chunk.last < end and chunk.coarse < step]


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


def join_small(tx: Tx, shelf: Shelf, line: Line, coarseness: int | None = None) -> tuple[int, bool]:
    """Joins a portion of the neighbouring chunks that are small: how many it touched, and whether there may be more."""
    touched, run = 0, list[Meta]()
    for chunk in [*metas(tx, line, EARLIEST, LATEST), None]:
        small = chunk is not None and chunk.rows < SEAL_ROWS // 2 and (coarseness is None or chunk.coarse == coarseness)
        fits = (
            chunk is not None
            and small
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
        run = [chunk] if chunk is not None and small else []
        if touched >= portion(line):
            return touched, True
    return touched, False
