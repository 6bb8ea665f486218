"""Functions: what becomes of numbers, of labels and of times. Pure functions on all steps at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sisock.grafana_bridge.prom.errors import BadQuery
from sisock.grafana_bridge.prom.matching import matching
from sisock.grafana_bridge.prom.names import Labels, sorted_labels
from sisock.grafana_bridge.prom.values import Floats, Scalar, Times, Vector
from sisock.times import MICROS

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_GROUP = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\})")
_NAMED_GROUPS = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|\((\?)?(?:P?<(\w+)>)?")

# What changes each number by itself.
PLAIN: dict[str, Callable[[Floats], Floats]] = {
    "abs": np.abs,
    "acos": np.arccos,
    "acosh": np.arccosh,
    "asin": np.arcsin,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "ceil": np.ceil,
    "cos": np.cos,
    "cosh": np.cosh,
    "deg": np.degrees,
    "exp": np.exp,
    "floor": np.floor,
    "ln": np.log,
    "log10": np.log10,
    "log2": np.log2,
    "rad": np.radians,
    "sgn": np.sign,
    "sin": np.sin,
    "sinh": np.sinh,
    "sqrt": np.sqrt,
    "tan": np.tan,
    "tanh": np.tanh,
}


def plain(name: str, vector: Vector) -> Vector:
    """One of the functions of single numbers."""
    with np.errstate(all="ignore"):
        return vector.with_values(PLAIN[name](vector.values))


def rounded(vector: Vector, nearest: Floats) -> Vector:
    """The nearest multiples of a number; what lies between two is rounded up."""
    with np.errstate(all="ignore"):
        inverse = 1.0 / nearest
        return vector.with_values(np.floor(vector.values * inverse + 0.5) / inverse)


def clamped(vector: Vector, low: Floats, high: Floats) -> Vector:
    """Values within bounds; nothing where these are the wrong way round."""
    there = vector.there & ~(low > high)
    bounded = np.where(np.isnan(low) | np.isnan(high), np.nan, np.maximum(low, np.minimum(high, vector.values)))
    return replace(vector, there=there).with_values(bounded)


def number_of(vector: Vector) -> Scalar:
    """The value of the one series there is, NaN where there are none or several."""
    alone = vector.there.sum(axis=0) == 1
    found = np.full(vector.values.shape[1], np.nan)
    if len(vector.labels):
        picked = vector.values[vector.there.argmax(axis=0), np.arange(len(found))]
        found = np.where(alone, picked, np.nan)
    return Scalar(found)


def vector_of(scalar: Scalar) -> Vector:
    """A series without labels."""
    return Vector([()], scalar.values[None, :], np.ones((1, len(scalar.values)), np.bool_))


def absent(vector: Vector, labels: Mapping[str, str]) -> Vector:
    """1, under these labels, where no series has a value."""
    missing = ~vector.anywhere
    return Vector([sorted_labels(labels)], np.ones((1, len(missing))), missing[None, :])


def in_order(vector: Vector, *, falling: bool) -> Vector:
    """The series in the order of their values at the last step; NaN comes last."""
    values, there = vector.values[:, -1], vector.there[:, -1]
    keys = np.where(np.isnan(values), np.inf, -values if falling else values)
    order = np.lexsort((keys, np.isnan(values), ~there))
    return replace(vector.only(order), ranked=True)


def label_replace(vector: Vector, target: str, replacement: str, source: str, pattern: str) -> Vector:
    """A label set from another one, where that fits an expression."""
    values = sorted({dict(labels).get(source, "") for labels in vector.labels})
    fits = dict(zip(values, matching(pattern, values), strict=True))
    changed = _replaced(pattern, replacement, [value for value in values if fits[value]])
    labels = []
    for one in vector.labels:
        told = dict(one)
        value = told.get(source, "")
        labels.append(sorted_labels(told | {target: changed[value]}) if fits[value] else one)
    return replace(vector, labels=labels, stamps=None).united()


def _replaced(pattern: str, replacement: str, values: Sequence[str]) -> dict[str, str]:
    """What each of these values, which fit the expression, becomes."""
    opened = [found for found in _NAMED_GROUPS.finditer(pattern) if found[0].startswith("(")]
    names: list[str | None] = [found[2] for found in opened if found[2] or not found[1]]

    def numbered(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name is None:
            return "$"
        group = int(name) if name.isdigit() else names.index(name) + 1 if name in names else -1
        # RE2 knows single digits; a group that there is not is empty.
        return f"\\{group}" if 0 <= group <= min(9, len(names)) else ""

    rewrite = _GROUP.sub(numbered, replacement.replace("\\", "\\\\"))
    became = pc.replace_substring_regex(
        pa.array(values, pa.string()), pattern=f"^(?s:{pattern})$", replacement=rewrite, max_replacements=1
    )
    return dict(zip(values, became.to_pylist(), strict=True))


def label_join(vector: Vector, target: str, separator: str, sources: Sequence[str]) -> Vector:
    """A label set from others, joined."""
    labels: list[Labels] = []
    for one in vector.labels:
        told = dict(one)
        labels.append(sorted_labels(told | {target: separator.join(told.get(source, "") for source in sources)}))
    return replace(vector, labels=labels, stamps=None).united()


def check_label(name: str) -> None:
    """Raises BadQuery for what is no name of a label."""
    if not _LABEL.fullmatch(name):
        raise BadQuery(f"{name!r:.80} is no name of a label")


def _days(values: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.datetime64]]:
    return _moments(values).astype("datetime64[D]")


def _moments(values: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.datetime64]]:
    # The calendar of NumPy holds every second that an int64 can; what is no number is the beginning of 1970.
    seconds = np.where(np.isfinite(values) & (np.abs(values) < 1e15), values, 0.0)
    return np.floor(seconds).astype(np.int64).astype("datetime64[s]")


def _since(values: Floats, unit: str, of: str) -> Floats:
    moments = _moments(values)
    passed: Floats = (
        moments.astype(f"datetime64[{unit}]") - moments.astype(f"datetime64[{of}]").astype(f"datetime64[{unit}]")
    ).astype(np.float64)
    return passed


def _days_in_month(values: Floats) -> Floats:
    months = _moments(values).astype("datetime64[M]")
    days: Floats = ((months + 1).astype("datetime64[D]") - months.astype("datetime64[D]")).astype(np.float64)
    return days


# What a time, in seconds, has in the calendar of UTC.
CALENDAR: dict[str, Callable[[Floats], Floats]] = {
    "day_of_month": lambda values: _since(values, "D", "M") + 1,
    "day_of_week": lambda values: ((_days(values).astype(np.int64) + 4) % 7).astype(np.float64),
    "day_of_year": lambda values: _since(values, "D", "Y") + 1,
    "days_in_month": _days_in_month,
    "hour": lambda values: _since(values, "h", "D"),
    "minute": lambda values: _since(values, "m", "h"),
    "month": lambda values: _since(values, "M", "Y") + 1,
    "year": lambda values: _moments(values).astype("datetime64[Y]").astype(np.int64).astype(np.float64) + 1970,
}


def calendar(name: str, vector: Vector) -> Vector:
    """What the values have in the calendar, taken as times."""
    return vector.with_values(CALENDAR[name](vector.values))


def seconds(times: Times) -> Floats:
    """Times in seconds."""
    found: Floats = times / MICROS
    return found
