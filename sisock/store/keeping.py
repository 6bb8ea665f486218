"""Keeping: what an append does to the tables, in one transaction.

Rows after all that is sealed go to the tail; rows before go to patches, which lie over the chunks. When the tail has
enough rows they are sealed into chunks, in the transaction of the append that brought the last of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from sisock.blocks import Block
from sisock.errors import InvalidArgument, LateRow
from sisock.positions import Position
from sisock.store.cells import CELL
from sisock.store.database import Tx
from sisock.store.growing import grow
from sisock.store.layers import EMPTY, as_kind, before, overlay, since
from sisock.store.lines import FIRST_ORD, ORD_STEP, Line, Meta, Stored
from sisock.store.packing import kind_of
from sisock.store.shelf import Shelf
from sisock.times import EARLIEST, LATEST, MICROS, to_seconds

# A chunk's rows, more or less: the tail is sealed when it has so many.
SEAL_ROWS = 8192
# A tail that its lateness keeps from being sealed is sealed all the same when it is this many times as long.
PATIENCE = 8
# Blocks with fewer rows than this are small; so many of them are joined, so that a read opens few.
SMALL_ROWS = 64
MANY_SMALL = 64


@dataclass
class Waiting:
    """What of a timeline is not sealed: counts that say when to join, seal and fold."""

    rows: int = 0
    small: int = 0
    seal_at: int = SEAL_ROWS
    patches: int = 0
    patch_rows: int = 0
    small_patches: int = 0
    patch_fields: frozenset[str] = frozenset()
    # When the oldest block of the tail ends, or earlier.
    ends: int = LATEST


def counted(tx: Tx, line: Line) -> Waiting:
    """The counts of a timeline as the tables say."""
    waiting = Waiting()
    for patch, blocks, rows in tx.rows(
        "SELECT patch, count(*), sum(rows) FROM blocks WHERE timeline = ? GROUP BY patch", line.id
    ):
        if patch:
            waiting.patches, waiting.patch_rows = int(blocks), int(rows)
        else:
            waiting.rows, waiting.small = int(rows), min(int(blocks), MANY_SMALL)
    waiting.ends = tail_ends(tx, line)
    return waiting


def tail_ends(tx: Tx, line: Line) -> int:
    """When the oldest block of the tail ends; LATEST without any."""
    row = tx.one("SELECT min(last) FROM blocks WHERE timeline = ? AND patch = 0", line.id)
    return LATEST if row is None or row[0] is None else int(row[0])


def checked(line: Line, block: Block, lateness: float, correct: bool) -> dict[str, str]:
    """The kinds that the block's fields will have; InvalidArgument or LateRow where it cannot be kept."""
    kinds = {}
    for name, column in block.columns.items():
        if len(column) != len(block):
            raise InvalidArgument(f"{name} has {len(column)} values for {len(block)} times")
        known = line.kinds.get(name, "n")
        new = "n" if column.valid is not None and not column.valid.any() else kind_of(column)
        if known == "n" or new in ("n", known):
            kinds[name] = new if known == "n" else known
        elif {known, new} == {"i", "f"}:
            kinds[name] = "f"
        else:
            raise InvalidArgument(f"{name} mixes numbers, booleans or strings; a field has one type")
    if len(block) and line.newest is not None and not correct and block.t[0] <= line.newest:
        final = line.newest - round(lateness * MICROS)
        if block.t[0] < final:
            raise LateRow(
                f"{line.name}: a row at {to_seconds(int(block.t[0]))} came after rows up to {to_seconds(final)} "
                "were final. Append it with correct=True, or give the timeline a lateness."
            )
    return kinds


def keep(tx: Tx, shelf: Shelf, line: Line, waiting: Waiting, block: Block, kinds: dict[str, str], lateness: float) -> Position:
    """Keeps a checked block; the line and the counts are changed with the tables."""
    _declare(tx, line, kinds)
    line.seq += 1
    if len(block):
        block = Block(block.t, {name: as_kind(column, line.kinds[name]) for name, column in block.columns.items()})
        line.newest = int(block.t[-1]) if line.newest is None else max(line.newest, int(block.t[-1]))
        late, fresh = _parted(block, line.sealed)
        if len(late):
            _put_patch(tx, shelf, line, waiting, late)
        if len(fresh):
            waiting.rows += len(fresh)
            waiting.ends = min(waiting.ends, int(fresh.t[-1]))
            stored = Stored(False, line.seq, line.seq, fresh)
            if waiting.rows < waiting.seal_at:
                _put_tail(tx, shelf, line, waiting, stored)
            else:
                seal(tx, shelf, line, waiting, stored, _final(line, waiting, lateness))
    save(tx, line)
    return Position(line.epoch, line.seq)


def save(tx: Tx, line: Line) -> None:
    """Writes how far the timeline came."""
    tx.run(
        "UPDATE timelines SET seq = ?, newest = ?, sealed = ?, dropped = ? WHERE id = ?",
        *(line.seq, line.newest, line.sealed, line.dropped, line.id),
    )


def _declare(tx: Tx, line: Line, kinds: dict[str, str]) -> None:
    for name, kind in kinds.items():
        if name not in line.ids:
            (number,) = tx.known("INSERT INTO fields (timeline, name, kind) VALUES (?, ?, ?) RETURNING id", line.id, name, kind)
            line.ids[name] = int(number)
        elif line.kinds[name] != kind:
            tx.run("UPDATE fields SET kind = ? WHERE id = ?", kind, line.ids[name])
        line.kinds[name] = kind


def _parted(block: Block, sealed: int | None) -> tuple[Block, Block]:
    """The rows that lie over chunks, and those behind them."""
    if sealed is None or block.t[0] > sealed:
        return EMPTY, block
    return before(block, sealed + 1), since(block, sealed + 1)


def _final(line: Line, waiting: Waiting, lateness: float) -> int:
    """Up to where rows may be sealed: where no late ones are expected, unless that would let the tail grow for ever."""
    newest = LATEST if line.newest is None else line.newest
    return newest if waiting.rows >= PATIENCE * SEAL_ROWS else newest - round(lateness * MICROS)


def _put_tail(tx: Tx, shelf: Shelf, line: Line, waiting: Waiting, stored: Stored) -> None:
    waiting.small = waiting.small + 1 if len(stored.block) < SMALL_ROWS else 0
    if waiting.small < MANY_SMALL:
        shelf.put_block(tx, line, stored)
        return
    waiting.small = 0
    tail = shelf.blocks(tx, line, patch=False)
    small = _last_small(tail)
    older = max((int(one.block.t[-1]) for one in tail[: len(tail) - len(small)]), default=EARLIEST)
    if min(int(one.block.t[0]) for one in [*small, stored]) <= older:
        # What a block does not name stays as an older one said, so only blocks of the same fields can be joined.
        small = _last_small(tail, frozenset(stored.block.columns))
    shelf.drop_blocks(tx, line, False, [one.seq for one in small])
    _put_joined(tx, shelf, line, [*small, stored])


def _put_patch(tx: Tx, shelf: Shelf, line: Line, waiting: Waiting, block: Block) -> None:
    stored = Stored(True, line.seq, line.seq, block)
    waiting.patches += 1
    waiting.patch_rows += len(block)
    # What a patch does not name stays, so only patches of the same fields can be joined.
    fields = frozenset(block.columns)
    waiting.small_patches = waiting.small_patches + 1 if fields == waiting.patch_fields and len(block) < SMALL_ROWS else 0
    waiting.patch_fields = fields
    if waiting.small_patches < MANY_SMALL:
        shelf.put_block(tx, line, stored)
        return
    waiting.small_patches = 0
    small = _last_small(shelf.blocks(tx, line, patch=True), fields)
    shelf.drop_blocks(tx, line, True, [one.seq for one in small])
    _put_joined(tx, shelf, line, [*small, stored])
    waiting.patches -= len(small)


def _last_small(blocks: list[Stored], fields: frozenset[str] | None = None) -> list[Stored]:
    """The small blocks behind the last that is not, or that has other fields than these."""
    at = len(blocks)
    while at and len(blocks[at - 1].block) < SMALL_ROWS and fields in (None, frozenset(blocks[at - 1].block.columns)):
        at -= 1
    return blocks[at:]


def _put_joined(tx: Tx, shelf: Shelf, line: Line, parts: list[Stored]) -> None:
    names = dict.fromkeys(name for part in parts for name in part.block.columns)
    rows = overlay([part.block for part in parts], line.only(names))
    shelf.put_block(tx, line, Stored(parts[-1].patch, parts[0].seq_low, parts[-1].seq, rows))


def seal(tx: Tx, shelf: Shelf, line: Line, waiting: Waiting, extra: Stored | None, final: int) -> None:
    """Seals the tail, and a block that is not in it yet, up to `final`; what is behind stays the tail."""
    tail = shelf.blocks(tx, line, patch=False)
    parts = [*tail, extra] if extra is not None else tail
    if not parts:
        return
    rows = overlay([part.block for part in parts], line.kinds)
    done, rest = before(rows, final + 1), since(rows, final + 1)
    if len(done) < SEAL_ROWS // 2 and len(rest):
        # Too little is final yet: it waits.
        waiting.seal_at = waiting.rows + SEAL_ROWS // 2
        if extra is not None:
            _put_tail(tx, shelf, line, waiting, extra)
        return
    if tail:
        shelf.drop_blocks(tx, line, False)
    low, high = min(part.seq_low for part in parts), max(part.seq for part in parts)
    put_chunks(tx, shelf, line, done, low, high, next_ord(tx, line))
    line.sealed = int(done.t[-1]) if line.sealed is None else max(line.sealed, int(done.t[-1]))
    if len(rest):
        shelf.put_block(tx, line, Stored(False, low, high, rest))
    waiting.rows, waiting.small, waiting.seal_at = len(rest), 0, len(rest) + SEAL_ROWS
    waiting.ends = int(rest.t[-1]) if len(rest) else LATEST


def next_ord(tx: Tx, line: Line) -> int:
    """The number of a chunk behind all others."""
    row = tx.one("SELECT max(ord) FROM chunks WHERE timeline = ?", line.id)
    return FIRST_ORD if row is None or row[0] is None else (int(row[0]) // ORD_STEP + 1) * ORD_STEP


def put_chunks(
    tx: Tx,
    shelf: Shelf,
    line: Line,
    rows: Block,
    low: int,
    high: int,
    ordinal: int,
    step: int = ORD_STEP,
    coarse: int = 0,
    most: int = ORD_STEP,
) -> list[int]:
    """Seals rows into chunks that are numbered from `ordinal` on, each `step` after the other; their numbers."""
    ords = []
    for part in _portions(rows, most):
        meta = Meta(ordinal, int(part.t[0]), int(part.t[-1]), len(part), low, high, coarse)
        shelf.put_chunk(tx, line, meta, part)
        ords.append(ordinal)
        ordinal += step
    for name, column in rows.columns.items():
        if column.valid is None or column.valid.any():
            grow(tx, shelf, line, name, ords)
    return ords


def portions(rows: int) -> int:
    """Into how many chunks so many rows are sealed."""
    return max(1, rows // SEAL_ROWS)


def _portions(rows: Block, most: int) -> list[Block]:
    count = min(most, portions(len(rows)))
    # Whole cells, so that all but the last of a chunk's are full.
    whole = min(CELL, SEAL_ROWS)
    edges = sorted({len(rows) * part // count // whole * whole for part in range(count)})
    return [rows.take(slice(low, high)) for low, high in zip(edges, [*edges[1:], len(rows)], strict=True)]
