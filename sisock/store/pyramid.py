"""The pyramid: what stands in each cell, each chunk and each group of chunks, so that a plot need not read the rows.

An item sums up rows of one field that follow each other: from the first time to the last, how many numbers, nulls and
NaN, the least and the greatest number with their times, the first, the last, the sum. A row of level 0 holds the items
of a chunk's cells; a row of level 1 those of 32 chunks; and so on up to `TOP`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

from sisock.blocks import Column
from sisock.errors import StoreDamaged
from sisock.store.cells import CELL
from sisock.times import Micros

Items = npt.NDArray[Any]

TOP = 3
# Chunks are numbered this far apart, so that one which grew too large can be parted in place.
STEP_BITS = 20
FAN_BITS = 5


def _item(value: str) -> np.dtype[Any]:
    return np.dtype(
        [
            ("child", "<i8"),  # the chunk or row of the level below; at level 0 the cell's number
            ("start", "<i8"),
            ("end", "<i8"),  # of the last row: it is inside
            ("rows", "<i4"),
            ("nulls", "<i4"),
            ("nans", "<i4"),
            ("min", value),
            ("min_t", "<i8"),
            ("max", value),
            ("max_t", "<i8"),
            ("first", value),
            ("last", value),
            ("sum", "<f8"),
        ]
    )


FLOATS, INTEGERS = _item("<f8"), _item("<i8")


def items_dtype(kind: str) -> np.dtype[Any]:
    """Items of floats keep floats, all others integers."""
    return FLOATS if kind in "fn" else INTEGERS


def row_of(order: int, level: int) -> int:
    """The row of a level that holds a chunk's item."""
    return order if level == 0 else order >> (STEP_BITS + FAN_BITS * level)


def numbers(items: Items) -> npt.NDArray[np.int64]:
    """How many numbers each item has: neither null nor NaN."""
    count: npt.NDArray[np.int64] = items["rows"].astype(np.int64) - items["nulls"] - items["nans"]
    return count


def cells_of(t: Micros, column: Column) -> Items:
    """The items of a column's cells; strings have no extremes."""
    rows = len(t)
    starts = np.arange(0, rows, CELL)
    ends = np.minimum(starts + CELL, rows)
    kind = column.values.dtype.kind
    items = np.zeros(len(starts), FLOATS if kind == "f" else INTEGERS)
    items["child"] = np.arange(len(starts))
    items["start"], items["end"], items["rows"] = t[starts], t[ends - 1], ends - starts
    there = column.mask()
    items["nulls"] = items["rows"] - np.add.reduceat(there, starts, dtype=np.int32)
    if kind == "O":
        # What is not null counts as NaN: it is there, but nothing can be drawn of it.
        items["nans"] = items["rows"] - items["nulls"]
        return items
    values = column.values if kind == "f" else column.values.astype(np.int64)
    ok = there
    if kind == "f":
        nan = np.isnan(values) & there
        items["nans"] = np.add.reduceat(nan, starts, dtype=np.int32)
        ok = there & ~nan
    _extremes(items, t, values, ok, starts)
    return items


def _extremes(items: Items, t: Micros, values: npt.NDArray[Any], ok: npt.NDArray[np.bool_], starts: npt.NDArray[Any]) -> None:
    lacking = len(starts) * CELL - len(values)
    if lacking:
        values = np.concatenate([values, np.zeros(lacking, values.dtype)])
        ok = np.concatenate([ok, np.zeros(lacking, np.bool_)])
    matrix, good = values.reshape(-1, CELL), ok.reshape(-1, CELL)
    all_good = bool(good.all())
    most: Any = np.inf if values.dtype.kind == "f" else np.iinfo(np.int64).max
    least: Any = -np.inf if values.dtype.kind == "f" else np.iinfo(np.int64).min
    low = matrix if all_good else np.where(good, matrix, most)
    high = matrix if all_good else np.where(good, matrix, least)
    row = np.arange(len(matrix))
    # Where only infinities are there, the blank that stands for what is missing must not win over them.
    at_min, at_max = low.argmin(axis=1), high.argmax(axis=1)
    at_first = good.argmax(axis=1)
    at_last = CELL - 1 - good[:, ::-1].argmax(axis=1)
    if not all_good:
        at_min = np.where(good[row, at_min], at_min, at_first)
        at_max = np.where(good[row, at_max], at_max, at_first)
    some = good.any(axis=1)
    for name, at in (("min", at_min), ("max", at_max), ("first", at_first), ("last", at_last)):
        items[name] = np.where(some, matrix[row, at], 0)
    last = len(t) - 1
    items["min_t"], items["max_t"] = t[np.minimum(starts + at_min, last)], t[np.minimum(starts + at_max, last)]
    with np.errstate(invalid="ignore", over="ignore"):
        items["sum"] = np.where(good, matrix, 0).sum(axis=1, dtype=np.float64)


def total(items: Items, child: int) -> Items:
    """One item, an array of one, that sums up several."""
    one = np.zeros(1, items.dtype)
    one["child"], one["start"], one["end"] = child, items["start"][0], items["end"][-1]
    for name in ("rows", "nulls", "nans"):
        one[name] = items[name].sum()
    some = items[numbers(items) > 0]
    if len(some):
        low, high = some[some["min"].argmin()], some[some["max"].argmax()]
        one["min"], one["min_t"], one["max"], one["max_t"] = low["min"], low["min_t"], high["max"], high["max_t"]
        one["first"], one["last"] = some["first"][0], some["last"][-1]
        with np.errstate(invalid="ignore", over="ignore"):
            one["sum"] = some["sum"].sum()
    return one


def as_floats(items: Items) -> Items:
    """Items of integers as items of floats, for a field whose integers became floats."""
    return items if items.dtype == FLOATS else items.astype(FLOATS)


def join(parts: Sequence[Items], kind: str) -> Items:
    """Items of several rows as one array, as the field's kind needs them."""
    dtype = items_dtype(kind)
    if not parts:
        return np.zeros(0, dtype)
    # As bytes: NumPy compares all names of structures before it joins them.
    same: list[Any] = [part if part.dtype == dtype else as_floats(part) for part in parts]
    return np.frombuffer(b"".join(same), dtype)


_COMPRESSOR_LEVEL = 1


def pack_items(items: Items) -> bytes:
    """Items as bytes: plane by plane, compressed, checksummed."""
    kind = b"f" if items.dtype == FLOATS else b"i"
    planes = np.ascontiguousarray(items.view(np.uint8).reshape(len(items), items.dtype.itemsize).T)
    return kind + zstandard.ZstdCompressor(level=_COMPRESSOR_LEVEL, write_checksum=True).compress(planes.data)


def unpack_items(data: bytes) -> Items:
    """The items of these bytes; StoreDamaged where they are not what was written."""
    return unpack_rows([data])[0]


def unpack_rows(rows: Sequence[bytes]) -> list[Items]:
    """The items of several rows; rows of one length are turned together."""
    inflate = zstandard.ZstdDecompressor().decompress
    try:
        planes = [inflate(memoryview(data)[1:]) for data in rows]
    except zstandard.ZstdError as error:
        what = "a row of the pyramid is not what was written; compact the timeline to make it anew"
        raise StoreDamaged(f"{what} ({error})") from error
    alike: dict[tuple[bytes, int], list[int]] = {}
    for at, (data, plane) in enumerate(zip(rows, planes, strict=True)):
        alike.setdefault((data[:1], len(plane)), []).append(at)
    found: list[Items] = [np.zeros(0, FLOATS)] * len(rows)
    for (kind, length), places in alike.items():
        dtype = FLOATS if kind == b"f" else INTEGERS
        count = length // dtype.itemsize
        octets = np.frombuffer(b"".join([planes[at] for at in places]), np.uint8)
        turned = np.ascontiguousarray(octets.reshape(len(places), dtype.itemsize, count).transpose(0, 2, 1))
        items = turned.reshape(-1).view(dtype).reshape(len(places), count)
        for at, one in zip(places, items, strict=True):
            found[at] = one
    return found
