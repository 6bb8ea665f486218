"""Plans: a query as what must be read, its leaves, and what is made of that when it is there.

A query is taken apart before anything is read, so that what is not understood is told at once, and all that it reads is
asked for together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import promql_parser as parser

from sisock.grafana_bridge.prom import aggregations, functions, operators
from sisock.grafana_bridge.prom.aggregations import Grouping
from sisock.grafana_bridge.prom.errors import BadQuery
from sisock.grafana_bridge.prom.matching import Selector, check_pattern, selector_of
from sisock.grafana_bridge.prom.names import Labels
from sisock.grafana_bridge.prom.operators import Matching
from sisock.grafana_bridge.prom.values import Floats, Scalar, Text, Times, Value, Vector, check_cells
from sisock.grafana_bridge.prom.windows import FUNCTIONS, KEEP_NAME, Windows
from sisock.times import MICROS

# The parser takes each nesting from the stack, and so do we; no dashboard writes as much.
MAX_TOKENS = 1000
MAX_QUERY = 100_000
# Steps of a subquery.
MAX_INNER = 100_000
# What a subquery without a step takes: Prometheus' own default.
DEFAULT_STEP = 60 * MICROS

# A text without an end is one, too: it would be looked for again from each sign in it that could begin another.
_TEXTS = re.compile(r'"(?:\\.|[^"\\])*"?|\'(?:\\.|[^\'\\])*\'?|`[^`]*`?|#[^\n]*')
_TOKENS = re.compile(r"[\w.:]+|[^\s\w]")

Thunk = Callable[[], Value]


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The times at which an expression is evaluated, in microseconds, and the ends of the whole query."""

    times: Times
    start: int
    end: int

    @classmethod
    def of(cls, start: int, end: int, step: int) -> Grid:
        """From `start` to `end` in steps; both ends count."""
        return cls(np.arange(start, end + 1, step, dtype=np.int64), start, end)

    def __len__(self) -> int:
        return len(self.times)


@dataclass(slots=True, eq=False)
class Leaf:
    """What a selector reads: at each of these times what `function` makes of the samples in the window before it.

    Without a length a sample stands as long as its timeline lets it. `params` are the numbers that the function takes
    besides, one a time. What was read is put into `value`, or for a range by itself into `ranges`.
    """

    selector: Selector
    at: Times
    length: int | None = None
    function: str = "last_over_time"
    params: tuple[Floats, ...] = ()
    stamps: bool = False
    value: Vector | None = None
    ranges: list[tuple[Labels, Times, Floats]] | None = None

    @property
    def step(self) -> int:
        """How far apart the times are; 1 where there is one only."""
        return int(self.at[1] - self.at[0]) if len(self.at) > 1 else 1


def parse(text: str) -> Any:
    """The syntax tree of a query; BadQuery says what is wrong with it."""
    if len(text) > MAX_QUERY or len(_TOKENS.findall(_TEXTS.sub("''", text))) > MAX_TOKENS:
        raise BadQuery(f"the query is longer than the {MAX_TOKENS} words and signs that are taken. Make two of it.")
    if not text.strip():
        raise BadQuery("the query is empty. Name a metric, such as air_temperature.")
    try:
        return parser.parse(text)
    except ValueError as error:
        raise BadQuery(f"the query is no PromQL: {error}") from None


class Plan:
    """A query, ready to be read for and to be evaluated. `leaves` are what it reads."""

    def __init__(self, text: str, grid: Grid) -> None:
        self.leaves: list[Leaf] = []
        self._query = grid
        expression = parse(text)
        # A range by itself is what an instant query alone may ask for.
        self.range_leaf: Leaf | None = None
        try:
            if isinstance(expression, parser.MatrixSelector) and len(grid) == 1:
                self.range_leaf = self._ranged(expression, grid, "samples", ())[0]
                return
            self._top = self._build(expression, grid)
        except RecursionError:
            raise BadQuery("the query is nested too deeply. Make two of it.") from None

    @property
    def is_read(self) -> bool:
        """Whether nothing is to be made of what is read: its only leaf is its value."""
        return isinstance(self._top, partial) and self._top.func is _read

    def evaluate(self) -> Value:
        """The query's value, when its leaves are filled."""
        # Infinities and what is no number are values like others.
        with np.errstate(all="ignore"):
            value = self._top()
        if isinstance(value, Vector):
            value = replace(value, stamps=None)
        return value

    def _build(self, expression: Any, grid: Grid) -> Thunk:
        match expression:
            case parser.NumberLiteral():
                return partial(_constant, Scalar(np.full(len(grid), expression.val)))
            case parser.StringLiteral():
                return partial(_constant, Text(expression.val))
            case parser.ParenExpr():
                return self._build(expression.expr, grid)
            case parser.VectorSelector():
                return self._selected(expression, grid)
            case parser.UnaryExpr():
                return partial(_negated, self._build(expression.expr, grid))
            case parser.BinaryExpr():
                return self._binary(expression, grid)
            case parser.AggregateExpr():
                return self._aggregated(expression, grid)
            case parser.Call():
                return self._call(expression, grid)
            case parser.MatrixSelector() | parser.SubqueryExpr():
                raise BadQuery(
                    "a range has no value at a step. Put it into a function, such as rate(...) or avg_over_time(...)."
                )
            case _:
                raise BadQuery(f"{type(expression).__name__} is not understood here")

    # Selectors

    def _times(self, expression: Any, grid: Grid) -> tuple[Times, bool]:
        """When a selector looks, by its offset and @, and whether that is the same at all steps."""
        offset = _micros(expression.offset)
        if expression.at is None:
            return grid.times - offset, False
        kind = expression.at.type
        if kind == parser.AtModifierType.Start:
            at = self._query.start
        elif kind == parser.AtModifierType.End:
            at = self._query.end
        else:
            at = round(expression.at.at.timestamp() * 1000) * 1000
        return np.array([at - offset], np.int64), True

    def _leaf(self, leaf: Leaf, steps: int, *, fixed: bool) -> tuple[Leaf, Thunk]:
        self.leaves.append(leaf)
        return leaf, partial(_repeated if fixed else _read, leaf, steps)

    def _selected(self, expression: Any, grid: Grid, *, stamps: bool = False) -> Thunk:
        at, fixed = self._times(expression, grid)
        return self._leaf(Leaf(selector_of(expression), at, stamps=stamps), len(grid), fixed=fixed)[1]

    def _ranged(self, expression: Any, grid: Grid, function: str, params: tuple[Floats, ...]) -> tuple[Leaf, Thunk]:
        at, fixed = self._times(expression.vector_selector, grid)
        if fixed:
            if any((param != param[0]).any() and not np.isnan(param).all() for param in params):
                raise BadQuery(f"beside a range with @, {function} takes a number that is the same at all steps")
            params = tuple(param[:1] for param in params)
        length = _micros(expression.range)
        return self._leaf(Leaf(selector_of(expression.vector_selector), at, length, function, params), len(grid), fixed=fixed)

    def _subquery(self, expression: Any, grid: Grid, function: str, params: tuple[Floats, ...]) -> Thunk:
        at, fixed = self._times(expression, grid)
        length = _micros(expression.range)
        step = DEFAULT_STEP if expression.step is None else _micros(expression.step)
        # Steps of a subquery are multiples of its step, whatever those of the query are.
        first = (int(at[0]) - length) // step * step + step
        if (int(at[-1]) - first) // step > MAX_INNER:
            raise BadQuery(f"a subquery has more than {MAX_INNER} steps. Give it a longer step, as in [1h:1m].")
        inner = replace(grid, times=np.arange(first, int(at[-1]) + 1, step, dtype=np.int64))
        return partial(
            _over_steps, self._build(expression.expr, inner), inner.times, at, length, function, params, len(grid), fixed
        )

    # Operators

    def _binary(self, expression: Any, grid: Grid) -> Thunk:
        op = str(expression.op)
        modifier = expression.modifier
        matching, as_bool = Matching(), False
        if modifier is not None:
            fill = modifier.fill_values
            if fill is not None and (fill.lhs is not None or fill.rhs is not None):
                raise BadQuery("fill is not understood here. Write `or vector(0)` for what has no partner.")
            as_bool = modifier.return_bool
            matching = _matching(modifier)
        left, right = self._build(expression.lhs, grid), self._build(expression.rhs, grid)
        if op not in operators.SETS and op not in operators.COMPARISONS and op not in operators.ARITHMETIC:
            raise BadQuery(f"the operator {op} is not understood here")
        return partial(_operated, op, left, right, matching, as_bool)

    def _aggregated(self, expression: Any, grid: Grid) -> Thunk:
        op = str(expression.op)
        modifier = expression.modifier
        grouping = Grouping()
        if modifier is not None:
            grouping = Grouping(tuple(modifier.labels), modifier.type == parser.AggModifierType.Without)
        inner = self._build(expression.expr, grid)
        if op in aggregations.REDUCTIONS:
            return partial(_aggregate, op, inner, grouping)
        if op not in ("topk", "bottomk", "quantile", "count_values"):
            raise BadQuery(f"the aggregation {op} is not understood here")
        if op == "count_values":
            functions.check_label(_unwrapped(expression.param).val)
        return partial(_aggregate_by, op, self._build(expression.param, grid), inner, grouping)

    # Functions

    def _call(self, expression: Any, grid: Grid) -> Thunk:
        name, args = expression.func.name, expression.args
        if name in FUNCTIONS or name == "absent_over_time":
            return self._of_range(name, args, grid)
        if name == "timestamp":
            inner = _unwrapped(args[0])
            if isinstance(inner, parser.VectorSelector):
                return partial(_stamped, self._selected(inner, grid, stamps=True), grid.times)
            return partial(_stamped, self._build(inner, grid), grid.times)
        if name == "absent":
            inner = _unwrapped(args[0])
            labels = selector_of(inner).equals if isinstance(inner, parser.VectorSelector) else {}
            return partial(_absent, self._build(inner, grid), labels)
        if name not in _CALLS:
            raise BadQuery(f"the function {name} is not understood here")
        texts = [arg.val for arg in map(_unwrapped, args) if isinstance(arg, parser.StringLiteral)]
        if name == "label_replace":
            functions.check_label(texts[0])
            check_pattern(texts[3])
        elif name == "label_join":
            for label in (texts[0], *texts[2:]):
                functions.check_label(label)
        built = [self._build(arg, grid) for arg in args]
        return partial(_CALLS[name], name, grid, built)

    def _of_range(self, name: str, args: Sequence[Any], grid: Grid) -> Thunk:
        params: list[Floats] = []
        ranged: Any = None
        for arg in map(_unwrapped, args):
            if isinstance(arg, (parser.MatrixSelector, parser.SubqueryExpr)):
                ranged = arg
            else:
                params.append(self._number(name, arg, grid))
        function = "present_over_time" if name == "absent_over_time" else name
        if isinstance(ranged, parser.SubqueryExpr):
            made = self._subquery(ranged, grid, function, tuple(params))
        else:
            made = self._ranged(ranged, grid, function, tuple(params))[1]
        if name != "absent_over_time":
            return made
        labels = selector_of(ranged.vector_selector).equals if isinstance(ranged, parser.MatrixSelector) else {}
        return partial(_absent, made, labels)

    def _number(self, name: str, expression: Any, grid: Grid) -> Floats:
        """A number that a function takes beside its range: it is needed before anything is read."""
        before = len(self.leaves)
        thunk = self._build(expression, grid)
        if len(self.leaves) > before:
            raise BadQuery(f"{name} takes a number beside its range, and no metric")
        value = thunk()
        if not isinstance(value, Scalar):
            raise BadQuery(f"{name} takes a number beside its range")
        return value.values


def _micros(delta: timedelta | None) -> int:
    return 0 if delta is None else delta // timedelta(microseconds=1)


def _unwrapped(expression: Any) -> Any:
    while isinstance(expression, parser.ParenExpr):
        expression = expression.expr
    return expression


def _matching(modifier: Any) -> Matching:
    card = modifier.card
    kinds = parser.VectorMatchCardinality
    many: Any = "left" if card == kinds.ManyToOne else "right" if card == kinds.OneToMany else "none"
    by = modifier.matching
    on = by is not None and by.type == parser.LabelModifierType.Include
    return Matching(tuple(by.labels) if by is not None else (), on, many, tuple(modifier.group_labels or ()))


# What is made of values when they are there


def _constant(value: Value) -> Value:
    return value


def _read(leaf: Leaf, _: int) -> Value:
    if leaf.value is None:
        raise AssertionError("a leaf was not read")
    return leaf.value


def _repeated(leaf: Leaf, steps: int) -> Value:
    return _repeat(_vector(_read(leaf, steps)), steps)


def _repeat(vector: Vector, steps: int) -> Vector:
    check_cells(len(vector.labels), steps)
    stamps = None if vector.stamps is None else np.repeat(vector.stamps, steps, axis=1)
    return replace(
        vector, values=np.repeat(vector.values, steps, axis=1), there=np.repeat(vector.there, steps, axis=1), stamps=stamps
    )


def _over_steps(
    thunk: Thunk, times: Times, at: Times, length: int, function: str, params: tuple[Floats, ...], steps: int, fixed: bool
) -> Value:
    value = thunk()
    inner = functions.vector_of(value) if isinstance(value, Scalar) else _vector(value)
    if fixed:
        params = tuple(param[:1] for param in params)
    check_cells(len(inner.labels), max(len(at), steps))
    values, there = np.zeros((len(inner.labels), len(at))), np.zeros((len(inner.labels), len(at)), np.bool_)
    for row in range(len(inner.labels)):
        known = inner.there[row]
        values[row], there[row] = FUNCTIONS[function](Windows.of(times[known], inner.values[row][known], at, length), *params)
    found = Vector(inner.labels, values, there)
    found = found if function in KEEP_NAME else found.nameless()
    return _repeat(found, steps) if fixed else found


def _negated(thunk: Thunk) -> Value:
    value = thunk()
    if isinstance(value, Scalar):
        return Scalar(-value.values)
    vector = _vector(value)
    return vector.with_values(-vector.values)


def _operated(op: str, left: Thunk, right: Thunk, matching: Matching, as_bool: bool) -> Value:
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


def _aggregate(op: str, inner: Thunk, grouping: Grouping) -> Value:
    return aggregations.aggregate(op, _vector(inner()), grouping)


def _aggregate_by(op: str, param: Thunk, inner: Thunk, grouping: Grouping) -> Value:
    if op == "count_values":
        return aggregations.count_values(_vector(inner()), grouping, _text(param()))
    number = _scalar(param())
    if op == "quantile":
        return aggregations.quantile(_vector(inner()), grouping, number)
    return aggregations.foremost(_vector(inner()), grouping, number, greatest=op == "topk")


def _stamped(thunk: Thunk, times: Times) -> Value:
    vector = _vector(thunk())
    stamps = np.broadcast_to(times, vector.values.shape) if vector.stamps is None else vector.stamps
    return vector.with_values(functions.seconds(stamps))


def _absent(thunk: Thunk, labels: dict[str, str]) -> Value:
    return functions.absent(_vector(thunk()), labels)


def _vector(value: Value) -> Vector:
    if not isinstance(value, Vector):
        raise BadQuery("a vector is needed here: write vector(...) to make one of a number")
    return value


def _scalar(value: Value) -> Floats:
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
    return functions.rounded(_vector(args[0]()), _scalar(args[1]()) if len(args) > 1 else np.ones(len(grid)))


def _clamped(name: str, grid: Grid, args: Sequence[Thunk]) -> Value:
    vector, bounds = _vector(args[0]()), [_scalar(arg()) for arg in args[1:]]
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


_CALLS: dict[str, Callable[[str, Grid, Sequence[Thunk]], Value]] = {
    **dict.fromkeys(functions.PLAIN, _plain),
    **dict.fromkeys(functions.CALENDAR, _calendar),
    **dict.fromkeys(("clamp", "clamp_max", "clamp_min"), _clamped),
    "label_join": _label_join,
    "label_replace": _label_replace,
    "pi": lambda _, grid, __: Scalar(np.full(len(grid), np.pi)),
    "round": _rounded,
    "scalar": lambda _, __, args: functions.number_of(_vector(args[0]())),
    "sort": lambda _, __, args: functions.in_order(_vector(args[0]()), falling=False),
    "sort_desc": lambda _, __, args: functions.in_order(_vector(args[0]()), falling=True),
    "time": lambda _, grid, __: Scalar(functions.seconds(grid.times)),
    "vector": lambda _, __, args: functions.vector_of(Scalar(_scalar(args[0]()))),
}
