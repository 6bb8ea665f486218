"""What the store is held to: rows in a dict, the slow and plain way."""

import math

import numpy as np

from sisock.blocks import Block, Column


class Model:
    """Rows by their time, each a dict of the fields that are there."""

    def __init__(self):
        self.rows: dict[int, dict] = {}

    def append(self, block: Block) -> None:
        columns = {name: cells(column) for name, column in block.columns.items()}
        for at, t in enumerate(block.t.tolist()):
            row = self.rows.setdefault(t, {})
            for name, values in columns.items():
                row[name] = values[at]

    def delete(self, start: int, end: int) -> None:
        self.rows = {t: row for t, row in self.rows.items() if not start <= t < end}

    def read(self, fields, start, end):
        times = sorted(t for t in self.rows if start <= t < end)
        return times, {name: [self.rows[t].get(name) for t in times] for name in fields}

    def of_windows(self, field, windows):
        """Times and values in each window that has any."""
        for start, end in zip(windows.starts.tolist(), windows.ends.tolist(), strict=True):
            rows = [(t, row[field]) for t, row in sorted(self.rows.items()) if start <= t < end and row.get(field) is not None]
            if rows:
                yield start, rows

    def last_of_windows(self, field, windows):
        return {rows[-1][0] for _, rows in self.of_windows(field, windows)}

    def windowed(self, field, windows, method):
        """What each window has of a field, and how large the numbers are of which it is made."""
        found = {}
        for start, rows in self.of_windows(field, windows):
            values = [value for _, value in rows]
            if method == "count":
                found[start] = float(len(values)), 0.0
                continue
            numbers = [float(value) for value in values]
            real = [number for number in numbers if not math.isnan(number)]
            if method in ("min", "max"):
                found[start] = ((min if method == "min" else max)(real) if real else math.nan), 0.0
                continue
            with np.errstate(all="ignore"):
                total = float(np.sum(numbers))
            scale = sum(abs(number) for number in real if math.isfinite(number))
            found[start] = (total if method == "sum" else total / len(numbers)), scale
        return found

    @property
    def newest(self):
        return max(self.rows, default=None)


def cells(column: Column) -> list:
    """Values, None for null."""
    return [value if there else None for value, there in zip(column.values.tolist(), column.mask().tolist(), strict=True)]


def same(one, two) -> bool:
    """Whether two values are the same: NaN is NaN, and null is not."""
    if isinstance(one, float) and isinstance(two, float) and math.isnan(one):
        return math.isnan(two)
    return one == two and (one is None) == (two is None)


def same_rows(block: Block, expected) -> None:
    """Holds a block to what the model reads."""
    times, columns = expected
    assert block.t.tolist() == times
    for name, values in columns.items():
        if name in block.columns:
            got = cells(block.columns[name])
            wrong = [(t, a, b) for t, a, b in zip(times, got, values, strict=True) if not same(a, b)]
            assert not wrong, (name, wrong[:5])
        else:
            assert not any(value is not None for value in values), name


def pixel_edges(low: int, high: int, max_points: int):
    edges = np.unique(np.linspace(low, high + 1, max(1, max_points // 2) + 1).astype(np.int64))
    edges[0], edges[-1] = low, high + 1
    return edges


def holds_extremes(shown: Block, name: str, t, values, max_points: int, span) -> None:
    """Every pixel's extremes are there, each a true row."""
    t, values = np.asarray(t), np.asarray(values)
    there = ~np.isnan(values.astype(float))
    t, values = t[there], values[there]
    true = dict(zip(t.tolist(), values.tolist(), strict=True))
    numbers = shown.columns[name].mask() & ~np.isnan(shown.columns[name].values.astype(float))
    shown = shown.take(numbers)
    got = dict(zip(shown.t.tolist(), cells(shown.columns[name]), strict=True))
    assert all(same(true.get(at), value) for at, value in got.items())
    if not len(t):
        return
    edges = pixel_edges(*span, max_points)
    pixel = np.searchsorted(edges, t, side="right") - 1
    seen = np.searchsorted(edges, shown.t, side="right") - 1
    picked = shown.columns[name].values
    for one in np.unique(pixel):
        assert picked[seen == one].min() == values[pixel == one].min()
        assert picked[seen == one].max() == values[pixel == one].max()
