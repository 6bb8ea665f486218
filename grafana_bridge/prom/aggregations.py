"""Aggregations: what becomes of series in groups of the same labels, at all steps at once. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sisock.grafana_bridge.prom.errors import CannotEvaluate
from sisock.grafana_bridge.prom.names import Labels, sorted_labels
from sisock.grafana_bridge.prom.operators import aggregated_labels
from sisock.grafana_bridge.prom.values import Bools, Floats, Vector, check_cells
from sisock.grafana_bridge.prom.windows import interpolated
from sisock.grafana_bridge.prom.wire import number

# Series that count_values may make of one group.
MAX_COUNTED = 10_000


@dataclass(frozen=True, slots=True)
class Grouping:
    """By which labels series are grouped, or, with `drop`, by all but these."""

    labels: tuple[str, ...] = ()
    drop: bool = False

    def groups(self, vector: Vector) -> dict[Labels, list[int]]:
        """The series of each group."""
        found: dict[Labels, list[int]] = {}
        for at, labels in enumerate(vector.labels):
            found.setdefault(aggregated_labels(labels, self.labels, drop=self.drop), []).append(at)
        return found


# Of the values of one group, (series, steps), and which are there: one value a step; what it is where none is there is open.
Reduction = Callable[[Floats, Bools], Floats]


def _sum(values: Floats, there: Bools) -> Floats:
    summed: Floats = np.where(there, values, 0.0).sum(axis=0)
    return summed


def _avg(values: Floats, there: Bools) -> Floats:
    # Divided before they are added, so that the largest numbers do not add up to infinity.
    counts = np.maximum(there.sum(axis=0), 1)
    means = _sum(values, there) / counts
    large = np.isinf(means)
    if large.any():
        means[large] = (np.where(there, values, 0.0)[:, large] / counts[large]).sum(axis=0)
    return np.asarray(means)


def _min(values: Floats, there: Bools) -> Floats:
    least: Floats = np.fmin.reduce(np.where(there, values, np.nan), axis=0)
    return least


def _max(values: Floats, there: Bools) -> Floats:
    most: Floats = np.fmax.reduce(np.where(there, values, np.nan), axis=0)
    return most


def _count(_: Floats, there: Bools) -> Floats:
    return np.asarray(there.sum(axis=0), np.float64)


def _group(values: Floats, _: Bools) -> Floats:
    return np.ones(values.shape[1])


def _stdvar(values: Floats, there: Bools) -> Floats:
    counts = np.maximum(there.sum(axis=0), 1)
    off = np.where(there, values - _sum(values, there) / counts, 0.0)
    spread: Floats = (off * off).sum(axis=0) / counts
    return spread


def _stddev(values: Floats, there: Bools) -> Floats:
    return np.asarray(np.sqrt(_stdvar(values, there)))


REDUCTIONS: dict[str, Reduction] = {
    "avg": _avg,
    "count": _count,
    "group": _group,
    "max": _max,
    "min": _min,
    "stddev": _stddev,
    "stdvar": _stdvar,
    "sum": _sum,
}


def aggregate(op: str, vector: Vector, grouping: Grouping) -> Vector:
    """One series a group."""
    reduce = REDUCTIONS[op]
    with np.errstate(all="ignore"):
        return _each_group(vector, grouping, lambda rows: reduce(vector.values[rows], vector.there[rows]))


def quantile(vector: Vector, grouping: Grouping, q: Floats) -> Vector:
    """The quantile `q` of each group, between two values by their distance."""

    def reduce(rows: Sequence[int]) -> Floats:
        values, there = vector.values[rows], vector.there[rows]
        # NaN comes before all others, and what is not there behind them.
        keys = np.where(there, np.where(np.isnan(values), -np.inf, values), np.inf)
        order = np.lexsort((np.where(there, ~np.isnan(values), 2), keys), axis=0)
        ordered = np.take_along_axis(values, order, axis=0)
        steps = values.shape[1]
        return interpolated(ordered.T.reshape(-1), np.arange(steps) * len(rows), there.sum(axis=0), q)

    return _each_group(vector, grouping, reduce)


def _each_group(vector: Vector, grouping: Grouping, reduce: Callable[[Sequence[int]], Floats]) -> Vector:
    groups = grouping.groups(vector)
    steps = vector.values.shape[1]
    values, there = np.zeros((len(groups), steps)), np.zeros((len(groups), steps), np.bool_)
    for at, rows in enumerate(groups.values()):
        values[at], there[at] = reduce(rows), vector.there[rows].any(axis=0)
    return Vector(list(groups), values, there)


def foremost(vector: Vector, grouping: Grouping, k: Floats, *, greatest: bool) -> Vector:
    """At each step the `k` greatest, or least, of each group's series, in that order where there is one step."""
    if np.isnan(k).any() or (np.abs(k) > 2**62).any():
        raise CannotEvaluate("topk and bottomk take a number of series")
    there = np.zeros_like(vector.there)
    order: list[int] = []
    for rows in grouping.groups(vector).values():
        values, valid = vector.values[rows], vector.there[rows]
        # NaN is taken last of all that is there.
        keys = np.where(np.isnan(values), np.inf, -values if greatest else values)
        ranks = np.lexsort((keys, np.where(valid, np.isnan(values), 2)), axis=0)
        place = np.empty_like(ranks)
        np.put_along_axis(place, ranks, np.broadcast_to(np.arange(len(rows))[:, None], ranks.shape), axis=0)
        there[rows] = valid & (place < np.trunc(k))
        order.extend(rows[at] for at in ranks[:, -1].tolist())
    kept = replace(vector, there=there, stamps=None)
    return replace(kept.only(order), ranked=True) if order else kept


def count_values(vector: Vector, grouping: Grouping, label: str) -> Vector:
    """How many series of each group have a value, under a label that says which."""
    rows_of: dict[Labels, Floats] = {}
    steps = vector.values.shape[1]
    for group, rows in grouping.groups(vector).items():
        base = {name: value for name, value in group if name != label}
        values, there = vector.values[rows], vector.there[rows]
        distinct = np.unique(values[there])
        check_cells(len(rows_of) + len(distinct), steps)
        if len(distinct) > MAX_COUNTED:
            raise CannotEvaluate(f"count_values would make {len(distinct)} series; up to {MAX_COUNTED} are made of a group")
        for value in distinct.tolist():
            same = np.isnan(values) if np.isnan(value) else values == value
            key = sorted_labels({**base, label: number(value)})
            rows_of[key] = rows_of.get(key, np.zeros(steps)) + (same & there).sum(axis=0)
    counts = np.array(list(rows_of.values())).reshape(-1, steps)
    return Vector(list(rows_of), counts, counts > 0)
