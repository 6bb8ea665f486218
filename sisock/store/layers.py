"""Layers: blocks laid over each other in the order they came, as late rows and corrections are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from sisock.blocks import Block, Bools, Column, concat
from sisock.times import EARLIEST, LATEST, Micros

Place = slice | npt.NDArray[np.intp] | Bools

EMPTY = Block(np.empty(0, np.int64))

# Fields' kinds as they are stored: floats, integers, booleans, strings, and n for a field that was only ever null.
DTYPES = {"f": np.dtype(np.float64), "i": np.dtype(np.int64), "b": np.dtype(np.bool_), "s": np.dtype(object)}
DTYPES["n"] = DTYPES["f"]
_BLANK = {"f": np.nan, "i": 0, "b": False, "s": None, "n": np.nan}


def as_kind(column: Column, kind: str) -> Column:
    """The column as its field's kind: integers as floats, and what holds only nulls as anything."""
    dtype = DTYPES[kind]
    if column.values.dtype == dtype:
        return column
    if column.valid is not None and not column.valid.any():
        return Column.null(len(column), dtype)
    return Column(column.values.astype(dtype), column.valid)


def overlay(layers: Sequence[Block], kinds: dict[str, str]) -> Block:
    """Rows of all layers by time; at a time that several have, the fields that a later one names are replaced.

    The columns are those of `kinds`, each of that kind; what no layer says is null.
    """
    layers = [layer for layer in layers if len(layer)]
    if not layers:
        return Block(EMPTY.t, {name: Column(np.empty(0, DTYPES[kind])) for name, kind in kinds.items()})
    if all(after.t[0] > early.t[-1] for early, after in pairwise(layers)):
        return _in_a_row(layers, kinds)
    t, places = _woven([layer.t for layer in layers])
    columns = {}
    for name, kind in kinds.items():
        values = np.full(len(t), _BLANK[kind], DTYPES[kind])
        valid = np.zeros(len(t), np.bool_)
        for layer, at in zip(layers, places, strict=True):
            if name in layer.columns:
                column = as_kind(layer.columns[name], kind)
                values[at], valid[at] = column.values, column.mask()
        columns[name] = Column(values, None if valid.all() else valid)
    return Block(t, columns)


def _woven(times: Sequence[Micros]) -> tuple[Micros, list[Place]]:
    """All times in order, and where each of the layers' are among them; cheap where one layer is far longer than the others."""
    longest = max(range(len(times)), key=lambda at: len(times[at]))
    base = times[longest]
    others = [one for at, one in enumerate(times) if at != longest]
    t = base
    base_place: Place = slice(None)
    if others:
        more = np.unique(np.concatenate(others))
        at = np.searchsorted(base, more)
        new = base[np.minimum(at, len(base) - 1)] != more
        if new.any():
            t = np.insert(base, at[new], more[new])
            kept = np.ones(len(t), np.bool_)
            kept[at[new] + np.arange(np.count_nonzero(new))] = False
            base_place = kept
    return t, [base_place if one is base else np.searchsorted(t, one) for one in times]


def _in_a_row(layers: Sequence[Block], kinds: dict[str, str]) -> Block:
    parts = [
        Block(
            layer.t,
            {
                name: as_kind(layer.columns[name], kind) if name in layer.columns else Column.null(len(layer), DTYPES[kind])
                for name, kind in kinds.items()
            },
        )
        for layer in layers
    ]
    return concat(parts)


def outside(block: Block, start: int, end: int) -> Block:
    """The rows before `start` and from `end` on."""
    low, high = np.searchsorted(block.t, (start, end))
    if low == high:
        return block
    return concat((block.take(slice(0, int(low))), block.take(slice(int(high), None))))


def before(block: Block, t: int) -> Block:
    """The rows before `t`."""
    return block.between(EARLIEST, t)


def since(block: Block, t: int) -> Block:
    """The rows from `t` on."""
    return block.between(t, LATEST)
