"""Rows as they stand in a table become blocks of timelines: in order of time, each time once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sisock.blocks import Block, Column
from sisock.fields import DEFAULT_TIMELINE, FieldType
from sisock.nodes.table.clock import Clock
from sisock.nodes.table.layout import Layout


@dataclass(slots=True)
class Sorted:
    """What became of some rows: blocks, how many were in disorder or repeated a time, and those without a time."""

    blocks: list[tuple[str | None, Block]] = field(default_factory=list)
    untimed: list[int] = field(default_factory=list)
    unnamed: list[int] = field(default_factory=list)
    repeated: int = 0
    unsorted: bool = False


def type_of(kind: Any) -> FieldType | None:
    """The type of a field that an Arrow type becomes; None where it holds nothing, or what no field takes."""
    import pyarrow as pa

    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_boolean(kind):
        return "bool"
    if pa.types.is_dictionary(kind):
        return type_of(kind.value_type)
    texts = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return "string" if texts or pa.types.is_temporal(kind) else None


def column_of(array: Any, kind: FieldType) -> Column:
    """An Arrow array as a column of a field of this type; a value of another type is null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if kind == "string":
        texts = array if pa.types.is_string(array.type) else array.cast(pa.string())
        valid = None if not texts.null_count else np.asarray(texts.is_valid())
        return Column(np.array(texts.to_pylist(), object), valid)
    if pa.types.is_string(array.type) or pa.types.is_null(array.type):
        return Column.null(len(array), np.bool_ if kind == "bool" else np.float64)
    if kind == "bool":
        array = array.cast(pa.bool_())
    elif pa.types.is_boolean(array.type):
        array = array.cast(pa.int64())
    valid = None if not array.null_count else np.asarray(array.is_valid())
    blank = pa.scalar(False if kind == "bool" else 0, array.type)
    filled = pc.fill_null(array, blank) if array.null_count else array
    return Column(np.asarray(filled), valid)


def in_order(arrays: dict[str, Any], layout: Layout, clock: Clock) -> Sorted:
    """The rows of a piece as blocks, a series each; of rows of a series with the same time the last counts."""
    found = Sorted()
    t, timed = clock.micros(arrays[layout.time])
    found.untimed = np.flatnonzero(~timed).tolist()
    columns = {
        spec.column: column_of(arrays[spec.column], spec.type)
        for spec in layout.specs
        if spec.type is not None and spec.column in arrays
    }
    for name, place in _series(arrays, layout, timed, found):
        rows, times = place, t[place]
        steps = np.diff(times)
        as_they_are = name is None and len(rows) == len(t)
        if len(steps) and not (steps > 0).all():
            as_they_are = False
            found.unsorted |= bool((steps < 0).any())
            order = np.argsort(times, kind="stable")
            ordered = times[order]
            keep = np.append(ordered[1:] != ordered[:-1], True)
            found.repeated += int(len(keep) - keep.sum())
            rows, times = rows[order[keep]], ordered[keep]
        values = {
            layout.field_name(spec, name): columns[spec.column] if as_they_are else columns[spec.column].take(rows)
            for spec in layout.specs
            if spec.column in columns
        }
        if len(rows):
            found.blocks.append((name, Block(np.ascontiguousarray(times), values)))
    return found


def _series(arrays: dict[str, Any], layout: Layout, timed: Any, found: Sorted) -> Iterator[tuple[str | None, Any]]:
    """Each series and its rows, in their order."""
    import pyarrow as pa

    if layout.series is None:
        yield None, np.flatnonzero(timed)
        return
    names = arrays[layout.series].cast(pa.string()).dictionary_encode()
    codes = np.asarray(names.indices.fill_null(-1))
    listed = names.dictionary.to_pylist()
    bad = {code for code, name in enumerate(listed) if not _is_name(name)}
    if bad:
        codes = np.where(np.isin(codes, list(bad)), -1, codes)
    found.unnamed = np.flatnonzero(timed & (codes < 0)).tolist()
    rows = np.flatnonzero(timed & (codes >= 0))
    order = rows[np.argsort(codes[rows], kind="stable")]
    edges = np.flatnonzero(np.diff(codes[order])) + 1
    for part in np.split(order, edges):
        if len(part):
            yield listed[codes[part[0]]], part


def _is_name(name: str | None) -> bool:
    # A field's name holds it and the column's.
    return bool(name) and len(str(name)) <= 120 and str(name).isprintable()


def timeline_of(series: str | None) -> str:
    """The timeline of a series."""
    return DEFAULT_TIMELINE if series is None else series
