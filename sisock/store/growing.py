"""Keeps the pyramid's upper levels true to the chunks below, and makes anew what of it cannot be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from sisock.errors import StoreDamaged
from sisock.store.database import Tx
from sisock.store.lines import Line, Meta
from sisock.store.pyramid import FAN_BITS, STEP_BITS, TOP, Items, cells_of, items_dtype, join, row_of, total
from sisock.store.shelf import Shelf


def grow(tx: Tx, shelf: Shelf, line: Line, name: str, ords: Iterable[int]) -> None:
    """Brings the levels above the cells up to date for these chunks of a field, be they new, changed or gone."""
    field, kind = line.ids[name], line.kinds[name]
    touched = sorted(set(ords))
    below: dict[int, Items] = dict(shelf.items(tx, field, 0, touched))
    for level in range(1, TOP + 1):
        by_row = parted(touched, level)
        rows = _rows(tx, shelf, line, name, level, list(by_row))
        above: dict[int, Items] = {}
        for row, children in by_row.items():
            old = rows.get(row, np.zeros(0, items_dtype(kind)))
            gone = set(children)
            kept = old[[child not in gone for child in old["child"].tolist()]]
            above[row] = summed({child: below[child] for child in children if child in below}, kind, kept)
            shelf.put_items(tx, field, level, row, above[row])
        touched, below = list(by_row), above


def parted(children: Iterable[int], level: int) -> dict[int, list[int]]:
    """Numbers of chunks, or of rows of the level below, by the row of this level that takes them in."""
    by_row: dict[int, list[int]] = {}
    for child in children:
        # Above the chunks a child's number is a row's, of which a row of the next level takes in 32.
        by_row.setdefault(row_of(child, 1) if level == 1 else child >> FAN_BITS, []).append(child)
    return by_row


def summed(below: Mapping[int, Items], kind: str, kept: Items | None = None) -> Items:
    """The items of a row, of what is below it, and of those that stay as they are."""
    new = [total(items, child) for child, items in below.items() if len(items)]
    items = join(new if kept is None else [kept, *new], kind)
    return items[np.argsort(items["start"], kind="stable")]


def readable(tx: Tx, shelf: Shelf, field: int, level: int, ords: Sequence[int]) -> tuple[dict[int, Items], list[int]]:
    """Rows of a level of the pyramid by their numbers, and the numbers of those that cannot be read."""
    try:
        return dict(shelf.items(tx, field, level, ords)), []
    except StoreDamaged:
        if len(ords) == 1:
            return {}, list(ords)
    # Few are damaged, so they are looked for by halves.
    half = len(ords) // 2
    (some, bad), (others, worse) = (readable(tx, shelf, field, level, part) for part in (ords[:half], ords[half:]))
    return some | others, bad + worse


def _rows(tx: Tx, shelf: Shelf, line: Line, name: str, level: int, ords: Sequence[int]) -> dict[int, Items]:
    """Rows of a level by their numbers; those that cannot be read are made anew of what is below them."""
    found, damaged = readable(tx, shelf, line.ids[name], level, ords)
    for row in damaged:
        if level == 0:
            found[row] = _of_chunk(tx, shelf, line, name, row)
            continue
        bits = STEP_BITS + FAN_BITS if level == 1 else FAN_BITS
        children = numbers(tx, line.ids[name], level - 1, row << bits, (row + 1) << bits)
        found[row] = summed(_rows(tx, shelf, line, name, level - 1, children), line.kinds[name])
    return found


def numbers(tx: Tx, field: int, level: int, start: int = 0, end: int = 1 << 62) -> list[int]:
    """The numbers of the rows of a level of the pyramid, from `start` up to `end`."""
    query = "SELECT ord FROM pyramid WHERE field = ? AND level = ? AND ord >= ? AND ord < ? ORDER BY ord"
    return [int(row) for (row,) in tx.rows(query, field, level, start, end)]


def _of_chunk(tx: Tx, shelf: Shelf, line: Line, name: str, ordinal: int) -> Items:
    row = tx.known(
        "SELECT ord, first, last, rows, seq_low, seq, coarse FROM chunks WHERE timeline = ? AND ord = ?", line.id, ordinal
    )
    block = shelf.read_chunks(tx, line, line.only([name]), [Meta(*row)])
    return cells_of(block.t, block.columns[name])


def grow_anew(tx: Tx, shelf: Shelf, line: Line, name: str) -> int:
    """Makes anew what a field's pyramid lacks, what of it cannot be read, and what does not sum up the level below.

    How many chunks it looked at. StoreDamaged where the values themselves cannot be read.
    """
    field, kind = line.ids[name], line.kinds[name]
    query = "SELECT c.ord, c.rows FROM chunks c JOIN chunk_values v ON v.ord = c.ord WHERE c.timeline = ? AND v.field = ?"
    rows = {int(ordinal): int(count) for ordinal, count in tx.rows(query, line.id, field)}
    expected: dict[int, Items] = {}
    for level in range(TOP + 1):
        there = numbers(tx, field, level)
        found, _ = readable(tx, shelf, field, level, there)
        if level == 0:
            good = {row: items for row, items in found.items() if int(items["rows"].sum()) == rows.get(row)}
            expected = {row: good[row] if row in good else _of_chunk(tx, shelf, line, name, row) for row in rows}
        else:
            by_row = parted(expected, level)
            expected = {row: summed({one: expected[one] for one in below}, kind) for row, below in by_row.items()}
        for row in {*there, *expected}:
            right = expected.get(row, np.zeros(0, items_dtype(kind)))
            if row not in found or not agrees(found[row], right, kind):
                shelf.put_items(tx, field, level, row, right)
    return len(rows)


def agrees(found: Items, expected: Items, kind: str) -> bool:
    """Whether a row of the pyramid says what it should."""
    if len(found) != len(expected):
        return False
    # Integers that became floats since may have lost their last digits, and with them the first of several extremes.
    names = ["child", "start", "end", "rows", "nulls", "nans"]
    if len(found):
        found, expected = join([found], kind), join([expected], kind)
        names += ["min", "max"]
    return all(np.array_equal(found[one], expected[one], equal_nan=found[one].dtype.kind == "f") for one in names)
