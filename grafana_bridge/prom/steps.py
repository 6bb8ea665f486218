"""Steps: what each part of a query makes of values, when what is read is there. A plan is put together of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from sisock.grafana_bridge.prom import aggregations, functions, operators
from sisock.grafana_bridge.prom.aggregations import Grouping
from sisock.grafana_bridge.prom.errors import BadQuery
from sisock.grafana_bridge.prom.leaves import Grid, Leaf, Thunk, times_of
from sisock.grafana_bridge.prom.operators import Matching
from sisock.grafana_bridge.prom.values import Floats, Scalar, Text, Value, Vector, check_cells
from sisock.grafana_bridge.prom.windows import FUNCTIONS, KEEP_NAME, Windows


def constant(value: Value) -> Value:
    """The value itself."""
    return value


def number(value: float, steps: int) -> Value:
    """A number that is the same at all steps."""
    return Scalar(np.broadcast_to(np.float64(value), steps))


def read(leaf: Leaf, _: int) -> Value:
    """What was read."""
    if leaf.value is None:
        raise AssertionError("a leaf was not read")
    return leaf.value


def repeated(leaf: Leaf, steps: int) -> Value:
    """What was read for one time, at all steps."""
    return _repeat(_vector(read(leaf, steps)), steps)


def _repeat(vector: Vector, steps: int) -> Vector:
    check_cells(len(vector.labels), steps)
    stamps = None if vector.stamps is None else np.repeat(vector.stamps, steps, axis=1)
    return replace(
        vector, values=np.repeat(vector.values, steps, axis=1), there=np.repeat(vector.there, steps, axis=1), stamps=stamps
    )


def over_steps(
    thunk: Thunk, inner: range, at: range, length: int, function: str, numbers: Sequence[Thunk], steps: int, fixed: bool
) -> Value:
    """A function of ranges over the steps of a subquery."""
    value, params = thunk(), [scalar(number()) for number in numbers]
    vector = functions.vector_of(value) if isinstance(value, Scalar) else _vector(value)
    if fixed:
        params = [param[:1] for param in params]
    check_cells(len(vector.labels), max(len(at), steps))
    times, ends = times_of(inner), times_of(at)
    values, there = np.zeros((len(vector.labels), len(at))), np.zeros((len(vector.labels), len(at)), np.bool_)
    for row in range(len(vector.labels)):
        known = vector.there[row]
        windows = Windows.of(times[known], vector.values[row][known], ends, length)
        values[row], there[row] = FUNCTIONS[function](windows, *params)
    found = Vector(vector.labels, values, there)
    found = found if function in KEEP_NAME else found.nameless()
    return _repeat(found, steps) if fixed else found


def negated(thunk: Thunk) -> Value:
    """A value with the other sign."""
    value = thunk()
    if isinstance(value, Scalar):
        return Scalar(-value.values)
    vector = _vector(value)
    return vector.with_values(-vector.values)


def operated(op: str, left: Thunk, right: Thunk, matching: Matching, as_bool: bool) -> Value:
    """What an operator makes of two values."""
    one, other = left(), right()
    match one, other:
        case Scalar(), Scalar():
            return operators.scalars(op, one, other)
        case Vector(), Scalar():
            return operators.with_scalar(op, one, other, scalar_first=False, as_bool=as_bool)
        case Scalar(), Vector():
            return operators.with_scalar(op, other, one, scalar_first=True, as_bool=as_bool)
        case Vector(), Vector():
            if op in operators.SETS:
                return operators.sets(op, one, other, matching)
            return operators.vectors(op, one, other, matching, as_bool=as_bool)
        case _:
            raise BadQuery(f"{op} stands between numbers and vectors")


def aggregate(op: str, inner: Thunk, grouping: Grouping) -> Value:
    """An aggregation."""
    return aggregations.aggregate(op, _vector(inner()), grouping)


def aggregate_by(op: str, param: Thunk, inner: Thunk, grouping: Grouping) -> Value:
    """An aggregation that takes something besides."""
    if op == "count_values":
        return aggregations.count_values(_vector(inner()), grouping, _text(param()))
    which = scalar(param())
    if op == "quantile":
        return aggregations.quantile(_vector(inner()), grouping, which)
    return aggregations.foremost(_vector(inner()), grouping, which, greatest=op == "topk")


def stamped(thunk: Thunk, grid: Grid) -> Value:
    """When the samples were taken, or else the steps' own times."""
    vector = _vector(thunk())
    stamps = np.broadcast_to(grid.times, vector.values.shape) if vector.stamps is None else vector.stamps
    return vector.with_values(functions.seconds(stamps))


def absent(thunk: Thunk, labels: dict[str, str]) -> Value:
    """1 where there is nothing."""
    return functions.absent(_vector(thunk()), labels)


def _vector(value: Value) -> Vector:
    if not isinstance(value, Vector):
        raise BadQuery("a vector is needed here: write vector(...) to make one of a number")
    return value


def scalar(value: Value) -> Floats:
    """The numbers of a value that is one."""
    if not isinstance(value, Scalar):
        raise BadQuery("a number is needed here: write scalar(...) to make one of a series")
    return value.values


def _text(value: Value) -> str:
    if not isinstance(value, Text):
        raise BadQuery("a text in quotation marks is needed here")
    return value.text


def _plain(name: str, _: Grid, args: Sequence[Thunk]) -> Value:
    return functions.plain(name, _vector(args[0]()))


def _rounded(_: str, grid: Grid, args: Sequence[Thunk]) -> Value:
    return functions.rounded(_vector(args[0]()), scalar(args[1]()) if len(args) > 1 else np.ones(len(grid)))


def _clamped(name: str, grid: Grid, args: Sequence[Thunk]) -> Value:
    vector, bounds = _vector(args[0]()), [scalar(arg()) for arg in args[1:]]
    infinite = np.full(len(grid), np.inf)
    low = -infinite if name == "clamp_max" else bounds[0]
    high = infinite if name == "clamp_min" else bounds[-1]
    return functions.clamped(vector, low, high)


def _calendar(name: str, grid: Grid, args: Sequence[Thunk]) -> Value:
    vector = _vector(args[0]()) if args else functions.vector_of(Scalar(functions.seconds(grid.times)))
    return functions.calendar(name, vector)


def _label_replace(_: str, __: Grid, args: Sequence[Thunk]) -> Value:
    target, replacement, source, pattern = (_text(arg()) for arg in args[1:])
    return functions.label_replace(_vector(args[0]()), target, replacement, source, pattern)


def _label_join(_: str, __: Grid, args: Sequence[Thunk]) -> Value:
    target, separator, *sources = (_text(arg()) for arg in args[1:])
    return functions.label_join(_vector(args[0]()), target, separator, sources)


# What is called by a name: of the name, the grid and the arguments.
CALLS: dict[str, Callable[[str, Grid, Sequence[Thunk]], Value]] = {
    **dict.fromkeys(functions.PLAIN, _plain),
    **dict.fromkeys(functions.CALENDAR, _calendar),
    **dict.fromkeys(("clamp", "clamp_max", "clamp_min"), _clamped),
    "label_join": _label_join,
    "label_replace": _label_replace,
    "pi": lambda _, grid, __: number(np.pi, len(grid)),
    "round": _rounded,
    "scalar": lambda _, __, args: functions.number_of(_vector(args[0]())),
    "sort": lambda _, __, args: functions.in_order(_vector(args[0]()), falling=False),
    "sort_desc": lambda _, __, args: functions.in_order(_vector(args[0]()), falling=True),
    "time": lambda _, grid, __: Scalar(functions.seconds(grid.times)),
    "vector": lambda _, __, args: functions.vector_of(Scalar(scalar(args[0]()))),
}
