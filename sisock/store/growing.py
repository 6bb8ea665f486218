"""Keeps the pyramid's upper levels true to the chunks below."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sisock.store.database import Tx
from sisock.store.pyramid import TOP, Items, as_floats, items_dtype, join, row_of, total
from sisock.store.shelf import Shelf


def grow(tx: Tx, shelf: Shelf, field: int, kind: str, ords: Iterable[int]) -> None:
    """Brings the levels above the cells up to date for these chunks of a field, be they new, changed or gone."""
    touched = sorted(set(ords))
    below: dict[int, Items] = dict(shelf.items(tx, field, 0, touched))
    for level in range(1, TOP + 1):
        by_row: dict[int, list[int]] = {}
        for child in touched:
            # Above the chunks a child's number is a row's, of which a row of the next level takes in 32.
            by_row.setdefault(row_of(child, 1) if level == 1 else child >> 5, []).append(child)
        rows = dict(shelf.items(tx, field, level, list(by_row)))
        above: dict[int, Items] = {}
        for row, children in by_row.items():
            old = rows.get(row, np.zeros(0, items_dtype(kind)))
            gone = set(children)
            kept = old[[child not in gone for child in old["child"].tolist()]]
            new = [total(below[child], child) for child in children if child in below and len(below[child])]
            items = join([kept, *new], kind)
            if items.dtype != items_dtype(kind):
                items = as_floats(items)
            above[row] = items[np.argsort(items["start"], kind="stable")]
            shelf.put_items(tx, field, level, row, above[row])
        touched, below = list(by_row), above
