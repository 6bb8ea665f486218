"""Windows: what the functions of ranges make of a series' samples, for all steps at once. Pure functions.

A window of the length `r` at the time `T` holds the samples in (T - r, T], as in Prometheus 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sisock.grafana_bridge.prom.errors import CannotEvaluate
from sisock.grafana_bridge.prom.values import Bools, Floats, Times
from sisock.times import MICROS

Index = npt.NDArray[np.intp]

# Samples of windows that are laid out one after the other at a time: what overlaps is there as often as it is wanted.
LAID_OUT = 1 << 20
MAX_LAID_OUT = 100_000_000
# How often each sample may be looked at, on the average, for windows that overlap.
MOST_AGAIN = 4


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Samples of one series, and the windows on them: of the window `i` the samples are [low[i], high[i])."""

    t: Times
    v: Floats
    at: Times
    length: int
    low: Index
    high: Index

    @classmethod
    def of(cls, t: Times, v: Floats, at: Times, length: int) -> Windows:
        """The windows of this length (microseconds) that end at these times."""
        low, high = np.searchsorted(t, at - length, side="right"), np.searchsorted(t, at, side="right")
        return cls(t, v, at, length, low, np.maximum(high, low))

    @property
    def counts(self) -> Index:
        """How many samples each has."""
        counts: Index = self.high - self.low
        return counts

    def some(self, wanted: Bools | slice) -> Windows:
        """These windows, on the same samples."""
        return Windows(self.t, self.v, self.at[wanted], self.length, self.low[wanted], self.high[wanted])

    def reduce(self, pick: np.ufunc, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """One number of each window's values; of an empty window it means nothing."""
        if not len(self.low):
            return np.empty(0, values.dtype)
        low, high = self.low, self.high
        with np.errstate(all="ignore"):
            if int(self.counts.sum()) > MOST_AGAIN * len(values):
                # What lies between two edges of windows is the same in all of them, and is reduced once.
                edges = np.unique(np.concatenate([low, high]))
                values = pick.reduceat(_padded(values), edges)
                low, high = np.searchsorted(edges, low), np.searchsorted(edges, high)
            reduced: npt.NDArray[Any] = pick.reduceat(_padded(values), np.stack([low, high], axis=1).reshape(-1))[::2]
        return reduced

    def laid_out(self) -> Iterator[tuple[slice, Index, Index]]:
        """Some windows at a time: which they are, the places of all their samples, and where each window's begin."""
        begin, ends = 0, np.cumsum(self.counts)
        if len(ends) and ends[-1] > MAX_LAID_OUT:
            raise CannotEvaluate(
                f"{ends[-1]} samples would be looked at, of overlapping windows again and again; {MAX_LAID_OUT} are too many. "
                "Ask with a longer step, or for a shorter range."
            )
        while begin < len(ends):
            before = ends[begin - 1] if begin else 0
            end = max(begin + 1, int(np.searchsorted(ends, before + LAID_OUT, side="right")))
            here = slice(begin, end)
            counts = self.counts[here]
            starts = np.cumsum(counts) - counts
            yield here, np.arange(int(counts.sum())) + np.repeat(self.low[here] - starts, counts), starts
            begin = end


def _padded(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """One more, so that a window can end behind the last."""
    return np.append(values, values.dtype.type(0))


# What a function of ranges answers: a value of each window and whether it has one. The numbers beside the range come as
# arrays, one a window.
Answer = tuple[Floats, Bools]
Function = Callable[..., Answer]


def _counted(windows: Windows) -> Bools:
    there: Bools = windows.counts > 0
    return there


def count(windows: Windows) -> Answer:
    """How many samples there are."""
    return windows.counts.astype(np.float64), _counted(windows)


def total(windows: Windows) -> Answer:
    """Their sum."""
    return windows.reduce(np.add, windows.v), _counted(windows)


def mean(windows: Windows) -> Answer:
    """Their mean."""
    there = _counted(windows)
    with np.errstate(all="ignore"):
        means: Floats = windows.reduce(np.add, windows.v) / windows.counts
        # The largest numbers can add up to infinity, though their mean is none.
        for at in np.flatnonzero(np.isinf(means) & there).tolist():
            means[at] = (windows.v[windows.low[at] : windows.high[at]] / windows.counts[at]).sum()
    return means, there


def least(windows: Windows) -> Answer:
    """The least of them; NaN only where nothing else is."""
    return windows.reduce(np.fmin, windows.v), _counted(windows)


def most(windows: Windows) -> Answer:
    """The greatest of them; NaN only where nothing else is."""
    return windows.reduce(np.fmax, windows.v), _counted(windows)


def last(windows: Windows) -> Answer:
    """The newest of them."""
    return _at(windows, windows.high - 1), _counted(windows)


def first(windows: Windows) -> Answer:
    """The oldest of them."""
    return _at(windows, windows.low), _counted(windows)


def _at(windows: Windows, index: Index) -> Floats:
    if not len(windows.v):
        return np.zeros(len(index))
    taken: Floats = windows.v[np.clip(index, 0, len(windows.v) - 1)]
    return taken


def present(windows: Windows) -> Answer:
    """1 where there is any."""
    return np.ones(len(windows.at)), _counted(windows)


def variance(windows: Windows) -> Answer:
    """Their variance, as of all there is."""
    there = _counted(windows)
    found = np.zeros(len(windows.at))
    with np.errstate(all="ignore"):
        for some, places, starts in windows.laid_out():
            counts = windows.counts[some]
            if not len(places):
                continue
            values = windows.v[places]
            full = counts > 0
            means = np.add.reduceat(values, starts[full]) / counts[full]
            off = (values - np.repeat(means, counts[full])) ** 2
            part = np.zeros(len(counts))
            part[full] = np.add.reduceat(off, starts[full]) / counts[full]
            found[some] = part
    return found, there


def deviation(windows: Windows) -> Answer:
    """Their standard deviation, as of all there is."""
    found, there = variance(windows)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sqrt(found)), there


def quantile(windows: Windows, q: Floats) -> Answer:
    """The quantile `q` of them, between two by their distance."""
    there = _counted(windows)
    found = np.zeros(len(windows.at))
    for some, places, starts in windows.laid_out():
        counts = windows.counts[some]
        values = windows.v[places]
        # NaN comes before all others.
        keys = np.where(np.isnan(values), -np.inf, values)
        ordered = values[np.lexsort((~np.isnan(values), keys, np.repeat(np.arange(len(counts)), counts)))]
        found[some] = interpolated(ordered, starts, counts, q[some])
    return found, there


def interpolated(ordered: Floats, starts: Index, counts: Index, q: Floats) -> Floats:
    """The quantile of each run of ordered values; infinite where `q` is outside of 0 to 1."""
    if not len(ordered):
        return np.full(len(counts), np.nan)
    with np.errstate(invalid="ignore"):
        rank = np.where(np.isnan(q), 0.0, np.clip(q, 0.0, 1.0)) * (counts - 1)
        low = np.maximum(0, np.floor(rank)).astype(np.intp)
        high = np.minimum(np.maximum(counts - 1, 0), low + 1)
        share = rank - np.floor(rank)
        top = len(ordered) - 1
        below, above = ordered[np.minimum(starts + low, top)], ordered[np.minimum(starts + high, top)]
        found = below * (1 - share) + above * share
    found = np.where(q < 0, -np.inf, np.where(q > 1, np.inf, found))
    return np.asarray(np.where(np.isnan(q), np.nan, found))


def _steps(windows: Windows, happens: Bools) -> Floats:
    """How many of the samples, but for each window's first, something happens at."""
    before = np.concatenate([[0], np.cumsum(happens)])
    counted: Index = before[windows.high] - before[np.minimum(windows.low + 1, windows.high)]
    return np.asarray(counted, np.float64)


def _differs(v: Floats, kind: Callable[[Floats, Floats], Any]) -> Bools:
    flags = np.zeros(len(v), np.bool_)
    if len(v):
        flags[1:] = kind(v[:-1], v[1:])
    return flags


def changes(windows: Windows) -> Answer:
    """How often the value changed."""
    return _steps(windows, _differs(windows.v, lambda a, b: (a != b) & ~(np.isnan(a) & np.isnan(b)))), _counted(windows)


def resets(windows: Windows) -> Answer:
    """How often a counter fell."""
    return _steps(windows, _differs(windows.v, lambda a, b: b < a)), _counted(windows)


def _extrapolated(windows: Windows, *, counter: bool, a_second: bool) -> Answer:
    """What the samples rose by, drawn out to the ends of the window as far as their spacing lets one think.

    Where the first or the last sample is further from the window's end than 1.1 of the mean spacing, half a spacing is added
    there instead; and a counter is not drawn out to before where it would have been zero.
    """
    there = windows.counts >= 2
    windows = windows.some(there)
    low, high = windows.low, windows.high - 1
    found = np.zeros(len(there))
    if not len(low):
        return found, there
    t, v = windows.t, windows.v
    with np.errstate(all="ignore"):
        rise = v[high] - v[low]
        if counter:
            fallen = np.zeros(len(v) + 1)
            fallen[1:-1] = np.where(v[1:] < v[:-1], v[:-1], 0.0)
            inside = Windows(t, fallen, windows.at, windows.length, low + 1, high + 1)
            rise = rise + np.where(high > low, inside.reduce(np.add, fallen), 0.0)
        sampled = (t[high] - t[low]) / MICROS
        spacing = sampled / (windows.counts - 1)
        to_start = (t[low] - (windows.at - windows.length)) / MICROS
        to_end = (windows.at - t[high]) / MICROS
        to_start = np.where(to_start >= spacing * 1.1, spacing / 2, to_start)
        to_end = np.where(to_end >= spacing * 1.1, spacing / 2, to_end)
        if counter:
            to_zero = np.where((rise > 0) & (v[low] >= 0), sampled * (v[low] / rise), to_start)
            to_start = np.minimum(to_start, np.where(np.isnan(to_zero), to_start, to_zero))
        factor = (sampled + to_start + to_end) / sampled
        found[there] = rise * factor / (windows.length / MICROS if a_second else 1.0)
    return found, there


def rate(windows: Windows) -> Answer:
    """What a counter rises by in a second."""
    return _extrapolated(windows, counter=True, a_second=True)


def increase(windows: Windows) -> Answer:
    """What a counter rises by."""
    return _extrapolated(windows, counter=True, a_second=False)


def delta(windows: Windows) -> Answer:
    """What a value rises by, or falls."""
    return _extrapolated(windows, counter=False, a_second=False)


def _of_last_two(windows: Windows, *, counter: bool) -> Answer:
    there = windows.counts >= 2
    two = windows.some(there)
    found = np.zeros(len(there))
    with np.errstate(all="ignore"):
        newest, before = two.v[two.high - 1], two.v[two.high - 2]
        if counter:
            rise = np.where(newest < before, newest, newest - before)
            found[there] = rise / ((two.t[two.high - 1] - two.t[two.high - 2]) / MICROS)
        else:
            found[there] = newest - before
    return found, there


def irate(windows: Windows) -> Answer:
    """What a counter rises by in a second, by the last two samples."""
    return _of_last_two(windows, counter=True)


def idelta(windows: Windows) -> Answer:
    """What a value rises by from the last but one to the last sample."""
    return _of_last_two(windows, counter=False)


def _line(windows: Windows) -> tuple[Floats, Floats, Bools]:
    """Slope (a second) and value at the window's end of the straight line through the samples."""
    there = windows.counts >= 2
    slope, level = np.zeros(len(there)), np.zeros(len(there))
    with np.errstate(all="ignore"):
        for some, places, starts in windows.laid_out():
            counts, full = windows.counts[some], there[some]
            if not full.any():
                continue
            # Rows of windows without samples would begin where the next ones do.
            held = counts > 0
            each, begins = counts[held], starts[held]
            x = (windows.t[places] - np.repeat(windows.at[some][held], each)) / MICROS
            y = windows.v[places]
            # Off the first value, so that a level far from zero costs no digits.
            base = y[begins]
            y = y - np.repeat(base, each)
            mean_x, mean_y = np.add.reduceat(x, begins) / each, np.add.reduceat(y, begins) / each
            off = x - np.repeat(mean_x, each)
            steep = np.add.reduceat(off * y, begins) / np.add.reduceat(off * off, begins)
            flat = (np.fmax.reduceat(y, begins) == 0) & (np.fmin.reduceat(y, begins) == 0)
            steep = np.where(flat, 0.0, steep)
            part_slope, part_level = np.zeros(len(counts)), np.zeros(len(counts))
            part_slope[held], part_level[held] = steep, base + mean_y - steep * mean_x
            slope[some], level[some] = part_slope, part_level
    return slope, level, there


def deriv(windows: Windows) -> Answer:
    """What a value rises by in a second, by the straight line through the samples."""
    slope, _, there = _line(windows)
    return slope, there


def predict_linear(windows: Windows, ahead: Floats) -> Answer:
    """The value so many seconds after the window's end, by the straight line through the samples."""
    slope, level, there = _line(windows)
    return level + slope * ahead, there


# Function of PromQL: what it is here, and the numbers that it takes beside the range: before it or behind.
FUNCTIONS: dict[str, Function] = {
    "avg_over_time": mean,
    "changes": changes,
    "count_over_time": count,
    "delta": delta,
    "deriv": deriv,
    "first_over_time": first,
    "idelta": idelta,
    "increase": increase,
    "irate": irate,
    "last_over_time": last,
    "max_over_time": most,
    "min_over_time": least,
    "predict_linear": predict_linear,
    "present_over_time": present,
    "quantile_over_time": quantile,
    "rate": rate,
    "resets": resets,
    "stddev_over_time": deviation,
    "stdvar_over_time": variance,
    "sum_over_time": total,
}
# Those whose answer still is the metric.
KEEP_NAME = frozenset({"last_over_time", "first_over_time"})
